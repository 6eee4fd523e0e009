//! From the parser's events to trees, within limits.

use std::collections::{BTreeMap, BTreeSet};

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
    /// How many values it has, those that aliases repeat counted each time. The text in them may
    /// not become longer than `bytes` either.
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
    /// Its aliases repeat more text than allowed.
    #[error("line {line}: aliases repeat more than {limit} bytes of text")]
    Expands {
        /// Where.
        line: usize,
        /// How much it may be.
        limit: usize,
    },
}

/// Reads all documents of a text.
pub fn parse_documents(text: &str, limits: &Limits) -> Result<Vec<Document>, YamlError> {
    if text.len() > limits.bytes {
        return Err(YamlError::TooLong { bytes: text.len(), limit: limits.bytes });
    }
    let mut reader =
        Reader { limits: *limits, nodes: 0, repeated: 0, open: vec![], anchors: BTreeMap::new(), documents: vec![] };
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
    /// All values so far, in what is kept for aliases too.
    nodes: usize,
    /// The bytes of text that anchors and aliases have copied.
    repeated: usize,
    open: Vec<Open>,
    anchors: BTreeMap<usize, Anchored>,
    documents: Vec<Document>,
}

/// What an anchor names, and what a copy of it costs.
struct Anchored {
    node: Node,
    size: Size,
}

/// What a value consists of.
#[derive(Clone, Copy, Default)]
struct Size {
    nodes: usize,
    text: usize,
    /// How many lists and maps are inside one another, itself included.
    height: usize,
}

/// A list or map that is being read.
struct Open {
    what: Collecting,
    anchor: usize,
    line: usize,
    column: usize,
    size: Size,
}

enum Collecting {
    List(Vec<Node>),
    Map { entries: Vec<(String, Node)>, merged: Vec<(String, Node)>, key: Option<Key> },
}

enum Key {
    Name(String),
    /// An unquoted `<<`.
    Merge,
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
                if style == ScalarStyle::Plain && text == "<<" && self.awaits_key() {
                    self.set_key(Key::Merge);
                    return Ok(());
                }
                let tree = scalar_tree(&text, style, tag.as_deref());
                let size = Size { nodes: 1, text: text.len(), height: 0 };
                self.count(1, line)?;
                self.put(Node { tree, line, column }, anchor, size)
            }
            Event::Alias(anchor) => self.alias(anchor, line, column),
            Event::SequenceStart(anchor, _) => self.begin(Collecting::List(vec![]), anchor, line, column),
            Event::MappingStart(anchor, _) => {
                let what = Collecting::Map { entries: vec![], merged: vec![], key: None };
                self.begin(what, anchor, line, column)
            }
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

    /// Pays for a copy, before it is made.
    fn pay(&mut self, size: Size, line: usize) -> Result<(), YamlError> {
        self.count(size.nodes, line)?;
        self.repeated = self.repeated.saturating_add(size.text);
        if self.repeated > self.limits.bytes {
            return Err(YamlError::Expands { line, limit: self.limits.bytes });
        }
        Ok(())
    }

    fn alias(&mut self, anchor: usize, line: usize, column: usize) -> Result<(), YamlError> {
        let Some(size) = self.anchors.get(&anchor).map(|a| a.size) else {
            return Err(syntax(line, column, "an alias stands before the end of what it names"));
        };
        if self.open.len() + size.height > self.limits.depth {
            return Err(YamlError::TooDeep { line, limit: self.limits.depth });
        }
        self.pay(size, line)?;
        match self.anchors.get(&anchor).map(|a| a.node.clone()) {
            Some(node) => self.put(node, 0, size),
            None => Ok(()),
        }
    }

    fn begin(&mut self, what: Collecting, anchor: usize, line: usize, column: usize) -> Result<(), YamlError> {
        if self.open.len() >= self.limits.depth {
            return Err(YamlError::TooDeep { line, limit: self.limits.depth });
        }
        if self.awaits_key() {
            return Err(syntax(line, column, NO_KEY));
        }
        self.count(1, line)?;
        self.open.push(Open { what, anchor, line, column, size: Size { nodes: 1, text: 0, height: 1 } });
        Ok(())
    }

    fn end(&mut self) -> Result<(), YamlError> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        let tree = match open.what {
            Collecting::List(items) => Tree::List(items),
            Collecting::Map { entries, merged, .. } => Tree::Map(with_merged(entries, merged)),
        };
        self.put(Node { tree, line: open.line, column: open.column }, open.anchor, open.size)
    }

    fn awaits_key(&self) -> bool {
        matches!(self.open.last(), Some(Open { what: Collecting::Map { key: None, .. }, .. }))
    }

    fn set_key(&mut self, new: Key) {
        if let Some(Open { what: Collecting::Map { key, .. }, .. }) = self.open.last_mut() {
            *key = Some(new);
        }
    }

    /// A finished value goes where it belongs: into what is open, or it is a document.
    fn put(&mut self, node: Node, anchor: usize, size: Size) -> Result<(), YamlError> {
        if anchor != 0 {
            self.pay(size, node.line)?;
            self.anchors.insert(anchor, Anchored { node: node.clone(), size });
        }
        let Some(open) = self.open.last_mut() else {
            self.documents.push(Document { root: node });
            return Ok(());
        };
        open.size.nodes += size.nodes;
        open.size.text += size.text;
        open.size.height = open.size.height.max(size.height + 1);
        match &mut open.what {
            Collecting::List(items) => items.push(node),
            Collecting::Map { entries, merged, key } => match key.take() {
                Some(Key::Merge) => merged.extend(entries_of(node)?),
                Some(Key::Name(name)) => entries.push((name, node)),
                None => {
                    let name = key_text(node)?;
                    open.size.text += name.len();
                    *key = Some(Key::Name(name));
                }
            },
        }
        Ok(())
    }
}

/// What `<<: *defaults` or `<<: [*some, *more]` brings in.
fn entries_of(node: Node) -> Result<Vec<(String, Node)>, YamlError> {
    let (line, column) = (node.line, node.column);
    match node.tree {
        Tree::Map(map) => Ok(map),
        Tree::List(items) if items.iter().all(|i| matches!(i.tree, Tree::Map(_))) => {
            let maps: Result<Vec<_>, _> = items.into_iter().map(entries_of).collect();
            Ok(maps?.into_iter().flatten().collect())
        }
        _ => Err(syntax(line, column, "<< merges a map or a list of maps")),
    }
}

/// The map's own entries, and of those merged the ones that it does not have; the first one wins.
fn with_merged(mut entries: Vec<(String, Node)>, merged: Vec<(String, Node)>) -> Vec<(String, Node)> {
    if merged.is_empty() {
        return entries;
    }
    let mut names: BTreeSet<String> = entries.iter().map(|(name, _)| name.clone()).collect();
    for (name, value) in merged {
        if names.insert(name.clone()) {
            entries.push((name, value));
        }
    }
    entries
}

const NO_KEY: &str = "a key must be text, not a list or a map";

/// Keys are text in JSON, whatever they look like in YAML.
fn key_text(node: Node) -> Result<String, YamlError> {
    Ok(match node.tree {
        Tree::Text(text) => text,
        Tree::Null => "null".to_owned(),
        Tree::Bool(b) => b.to_string(),
        Tree::Int(n) => n.to_string(),
        Tree::UInt(n) => n.to_string(),
        Tree::Float(f) => f.to_string(),
        Tree::List(_) | Tree::Map(_) => return Err(syntax(node.line, node.column, NO_KEY)),
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
