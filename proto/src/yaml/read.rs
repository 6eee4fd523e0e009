//! From the parser's events to trees, within limits.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};

use super::scalar;
use super::tree::{Document, Node, Tree};

/// What a text may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Its length.
    pub bytes: usize,
    /// How deep it is nested.
    pub depth: usize,
    /// How many values it has, those that aliases repeat counted each time.
    pub nodes: usize,
}

impl Default for Limits {
    /// 3 MiB, 100 levels, half a million values.
    fn default() -> Limits {
        Limits { bytes: 3 << 20, depth: 100, nodes: 500_000 }
    }
}

/// Why a text is not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum YamlError {
    /// It is no YAML.
    #[error("line {line}, column {column}: {problem}")]
    Syntax {
        /// Where, from 1.
        line: usize,
        /// Where, from 1.
        column: usize,
        /// What is wrong.
        problem: String,
    },
    /// It is longer than allowed.
    #[error("the text has {bytes} bytes, more than the {limit} ({} MiB) that are allowed", limit >> 20)]
    TooLong {
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        limit: usize,
    },
    /// It is nested deeper than allowed.
    #[error("line {line}: nested deeper than the {limit} levels that are allowed")]
    TooDeep {
        /// Where.
        line: usize,
        /// How deep it may be.
        limit: usize,
    },
    /// It has, or its aliases make, more values than allowed.
    #[error("line {line}: more than {limit} values (aliases count each time they are used)")]
    TooMany {
        /// Where.
        line: usize,
        /// How many there may be.
        limit: usize,
    },
}

/// Reads all documents of a text.
pub fn parse_documents(text: &str, limits: &Limits) -> Result<Vec<Document>, YamlError> {
    if text.len() > limits.bytes {
        return Err(YamlError::TooLong { bytes: text.len(), limit: limits.bytes });
    }
    let mut reader = Reader { limits: *limits, nodes: 0, open: vec![], anchors: BTreeMap::new(), documents: vec![] };
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|e| YamlError::Syntax {
            line: e.marker().line(),
            column: e.marker().col() + 1,
            problem: e.info().to_owned(),
        })?;
        reader.take(event, span)?;
    }
    Ok(reader.documents)
}

struct Reader {
    limits: Limits,
    nodes: usize,
    open: Vec<Open>,
    anchors: BTreeMap<usize, Anchored>,
    documents: Vec<Document>,
}

/// What an anchor names, and how many values that is.
struct Anchored {
    node: Node,
    nodes: usize,
}

/// A list or map that is being read.
struct Open {
    what: Collecting,
    anchor: usize,
    line: usize,
    column: usize,
    nodes_before: usize,
}

enum Collecting {
    List(Vec<Node>),
    Map { entries: Vec<(String, Node)>, key: Option<String> },
}

impl Reader {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), YamlError> {
        let (line, column) = (span.start.line(), span.start.col() + 1);
        match event {
            Event::DocumentStart(_) => {
                self.anchors.clear();
                Ok(())
            }
            Event::DocumentEnd | Event::StreamStart | Event::StreamEnd | Event::Nothing => Ok(()),
            Event::Scalar(text, style, anchor, tag) => {
                self.count(1, line)?;
                let tree = scalar_tree(&text, style, tag.as_deref());
                self.put(Node { tree, line, column }, anchor, 1)
            }
            Event::Alias(anchor) => {
                let Some(anchored) = self.anchors.get(&anchor) else {
                    return Err(syntax(line, column, "an alias stands before the end of what it names"));
                };
                let (nodes, node) = (anchored.nodes, anchored.node.clone_after(|| self.nodes + anchored.nodes <= self.limits.nodes));
                self.count(nodes, line)?;
                match node {
                    Some(node) => self.put(node, 0, nodes),
                    None => Err(YamlError::TooMany { line, limit: self.limits.nodes }),
                }
            }
            Event::SequenceStart(anchor, _) => self.begin(Collecting::List(vec![]), anchor, line, column),
            Event::MappingStart(anchor, _) => self.begin(Collecting::Map { entries: vec![], key: None }, anchor, line, column),
            Event::SequenceEnd | Event::MappingEnd => self.end(),
        }
    }

    fn count(&mut self, nodes: usize, line: usize) -> Result<(), YamlError> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > self.limits.nodes {
            return Err(YamlError::TooMany { line, limit: self.limits.nodes });
        }
        Ok(())
    }

    fn begin(&mut self, what: Collecting, anchor: usize, line: usize, column: usize) -> Result<(), YamlError> {
        if self.open.len() >= self.limits.depth {
            return Err(YamlError::TooDeep { line, limit: self.limits.depth });
        }
        if let Some(Open { what: Collecting::Map { key: None, .. }, .. }) = self.open.last() {
            return Err(syntax(line, column, "a key must be text, not a list or a map"));
        }
        let nodes_before = self.nodes;
        self.count(1, line)?;
        self.open.push(Open { what, anchor, line, column, nodes_before });
        Ok(())
    }

    fn end(&mut self) -> Result<(), YamlError> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        let tree = match open.what {
            Collecting::List(items) => Tree::List(items),
            Collecting::Map { entries, .. } => Tree::Map(entries),
        };
        let nodes = self.nodes - open.nodes_before;
        self.put(Node { tree, line: open.line, column: open.column }, open.anchor, nodes)
    }

    /// A finished value goes where it belongs: into what is open, or it is a document.
    fn put(&mut self, node: Node, anchor: usize, nodes: usize) -> Result<(), YamlError> {
        if anchor != 0 {
            self.anchors.insert(anchor, Anchored { node: node.clone(), nodes });
        }
        match self.open.last_mut().map(|o| &mut o.what) {
            None => self.documents.push(Document { root: node }),
            Some(Collecting::List(items)) => items.push(node),
            Some(Collecting::Map { entries, key }) => match key.take() {
                Some(name) if name == "<<" => merge_key(entries, node),
                Some(name) => entries.push((name, node)),
                None => *key = Some(key_text(node)?),
            },
        }
        Ok(())
    }
}

impl Node {
    /// A copy, if there is room for it.
    fn clone_after(&self, fits: impl FnOnce() -> bool) -> Option<Node> {
        fits().then(|| self.clone())
    }
}

/// `<<: *defaults`: the entries of another map, where this one has none of its own.
fn merge_key(entries: &mut Vec<(String, Node)>, node: Node) {
    let maps = match node.tree {
        Tree::Map(map) => vec![map],
        Tree::List(items) => items.into_iter().filter_map(|i| if let Tree::Map(m) = i.tree { Some(m) } else { None }).collect(),
        _ => vec![],
    };
    for (name, value) in maps.into_iter().flatten() {
        if !entries.iter().any(|(own, _)| *own == name) {
            entries.push((name, value));
        }
    }
}

/// Keys are text in JSON, whatever they look like in YAML.
fn key_text(node: Node) -> Result<String, YamlError> {
    Ok(match node.tree {
        Tree::Text(text) => text,
        Tree::Null => "null".to_owned(),
        Tree::Bool(b) => b.to_string(),
        Tree::Int(n) => n.to_string(),
        Tree::UInt(n) => n.to_string(),
        Tree::Float(f) => f.to_string(),
        Tree::List(_) | Tree::Map(_) => return Err(syntax(node.line, node.column, "a key must be text, not a list or a map")),
    })
}

fn scalar_tree(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Tree {
    let tagged = tag.map(|t| t.suffix.as_str());
    match (style, tagged) {
        (_, Some("str" | "binary")) => Tree::Text(text.to_owned()),
        (ScalarStyle::Plain, _) | (_, Some("int" | "float" | "bool" | "null")) => scalar::plain(text),
        _ => Tree::Text(text.to_owned()),
    }
}

fn syntax(line: usize, column: usize, problem: &str) -> YamlError {
    YamlError::Syntax { line, column, problem: problem.to_owned() }
}
