//! Reading JSONPath templates.

use std::cmp::Ordering;

use serde_json::{Value, json};

/// A piece of a template.
#[derive(Clone, Debug)]
pub enum Part {
    Text(String),
    Path(Vec<Step>),
    Range { over: Vec<Step>, body: Vec<Part> },
}

/// A step of a path.
#[derive(Clone, Debug)]
pub enum Step {
    /// `$`
    Root,
    /// `.name`
    Field(String),
    /// `..name`
    Everywhere(String),
    /// `*`
    All,
    /// `[0,2]`
    Indices(Vec<i64>),
    /// `[1:3]`
    Slice(Option<i64>, Option<i64>),
    /// `[?(...)]`
    Filter(Filter),
}

/// Which items stay.
#[derive(Clone, Debug)]
pub struct Filter {
    /// The path from the item.
    pub path: Vec<Step>,
    /// What its end is compared with; nothing: it only has to be there.
    pub compare: Option<(Operator, Value)>,
}

/// How two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Operator {
    /// Whether it holds of values in this order.
    pub fn holds(self, order: Ordering) -> bool {
        match self {
            Operator::Equal => order.is_eq(),
            Operator::NotEqual => order.is_ne(),
            Operator::Less => order.is_lt(),
            Operator::LessOrEqual => order.is_le(),
            Operator::Greater => order.is_gt(),
            Operator::GreaterOrEqual => order.is_ge(),
        }
    }
}

/// Two-character operators first: `<=` begins with `<`.
const OPERATORS: &[(&str, Operator)] = &[
    ("==", Operator::Equal),
    ("!=", Operator::NotEqual),
    ("<=", Operator::LessOrEqual),
    (">=", Operator::GreaterOrEqual),
    ("<", Operator::Less),
    (">", Operator::Greater),
];

/// Reads a whole template.
pub fn template(text: &str) -> Result<Vec<Part>, String> {
    let mut open: Vec<(Vec<Step>, Vec<Part>)> = vec![];
    let mut parts = vec![];
    let mut rest = text;
    while !rest.is_empty() {
        let Some(at) = rest.find(['{', '}']) else {
            parts.push(Part::Text(rest.to_owned()));
            break;
        };
        if rest[at..].starts_with('}') {
            return Err(format!("{text:?}: a closing brace without an opening one"));
        }
        if at > 0 {
            parts.push(Part::Text(rest[..at].to_owned()));
        }
        let end = closing(&rest[at + 1..]).ok_or_else(|| format!("{text:?}: the closing brace is missing"))?;
        let inside = rest[at + 1..at + 1 + end].trim();
        rest = &rest[at + 2 + end..];
        if inside == "end" {
            let (over, before) = open.pop().ok_or_else(|| format!("{text:?}: {{end}} without {{range}}"))?;
            let body = std::mem::replace(&mut parts, before);
            parts.push(Part::Range { over, body });
        } else if let Some(over) = inside.strip_prefix("range ") {
            open.push((path(over.trim())?, std::mem::take(&mut parts)));
        } else if inside.starts_with(['"', '\'']) {
            let (text, after) = quoted(inside)?;
            if !after.is_empty() {
                return Err(format!("{inside:?}: nothing is expected behind the quotation mark"));
            }
            parts.push(Part::Text(text));
        } else {
            parts.push(Part::Path(path(inside)?));
        }
    }
    if !open.is_empty() {
        return Err(format!("{text:?}: {{range}} without {{end}}"));
    }
    Ok(parts)
}

/// Where the expression ends: at the first brace that is not within quotation marks.
fn closing(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            _ if escaped => escaped = false,
            (_, '\\') => escaped = true,
            (Some(q), c) if c == q => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None, '}') => return Some(at),
            _ => {}
        }
    }
    None
}

/// Reads a quoted text at the start; returns it and what follows.
fn quoted(text: &str) -> Result<(String, &str), String> {
    let mut chars = text.char_indices();
    let quote = chars.next().map(|(_, c)| c).unwrap_or('"');
    let mut out = String::new();
    let mut escaped = false;
    for (at, c) in chars {
        match c {
            'n' if escaped => out.push('\n'),
            't' if escaped => out.push('\t'),
            'r' if escaped => out.push('\r'),
            c if escaped => out.push(c),
            '\\' => {
                escaped = true;
                continue;
            }
            c if c == quote => return Ok((out, &text[at + c.len_utf8()..])),
            c => out.push(c),
        }
        escaped = false;
    }
    Err(format!("{text}: the closing quotation mark is missing"))
}

/// Reads a path: `.a.b[0]`, `$.a`, `@.a`, `..a`.
fn path(text: &str) -> Result<Vec<Step>, String> {
    let mut steps = vec![];
    let mut rest = match text.strip_prefix('$') {
        Some(rest) => {
            steps.push(Step::Root);
            rest
        }
        None => text.strip_prefix('@').unwrap_or(text),
    };
    while !rest.is_empty() {
        let (step, after) = if let Some(inside) = rest.strip_prefix('[') {
            bracket(inside)?
        } else if let Some(named) = rest.strip_prefix("..") {
            let (name, after) = name(named)?;
            (Some(Step::Everywhere(name)), after)
        } else {
            dotted(rest.strip_prefix('.').unwrap_or(rest))?
        };
        steps.extend(step);
        rest = after;
    }
    Ok(steps)
}

/// What follows a dot; a dot alone is the object itself.
fn dotted(text: &str) -> Result<(Option<Step>, &str), String> {
    if text.is_empty() || text.starts_with('[') {
        return Ok((None, text));
    }
    if let Some(after) = text.strip_prefix('*') {
        return Ok((Some(Step::All), after));
    }
    let (name, after) = name(text)?;
    Ok((Some(Step::Field(name)), after))
}

/// A field's name; a dot within it has a backslash before it.
fn name(text: &str) -> Result<(String, &str), String> {
    let mut out = String::new();
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            c if escaped => {
                out.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '.' | '[' if !out.is_empty() => return Ok((out, &text[at..])),
            c if c.is_alphanumeric() || "-_/".contains(c) => out.push(c),
            c => return Err(format!("{text:?}: {c:?} is not expected in a path")),
        }
    }
    if out.is_empty() { Err(format!("{text:?}: a field's name is expected")) } else { Ok((out, "")) }
}

/// What is in brackets, of which the opening one has been read.
fn bracket(text: &str) -> Result<(Option<Step>, &str), String> {
    let missing = || format!("[{text}: the closing bracket is missing");
    if let Some(inside) = text.strip_prefix("?(") {
        let end = inside.find(")]").ok_or_else(missing)?;
        return Ok((Some(Step::Filter(filter(inside[..end].trim())?)), &inside[end + 2..]));
    }
    if text.starts_with(['"', '\'']) {
        let (name, after) = quoted(text)?;
        return Ok((Some(Step::Field(name)), after.strip_prefix(']').ok_or_else(missing)?));
    }
    let end = text.find(']').ok_or_else(missing)?;
    let (inside, after) = (text[..end].trim(), &text[end + 1..]);
    let number = |text: &str| text.trim().parse::<i64>().map_err(|_| format!("[{inside}]: a number is expected"));
    let bound = |text: &str| if text.trim().is_empty() { Ok(None) } else { number(text).map(Some) };
    let step = match inside.split_once(':') {
        _ if inside == "*" => Step::All,
        Some((from, to)) => Step::Slice(bound(from)?, bound(to)?),
        None => Step::Indices(inside.split(',').map(number).collect::<Result<_, _>>()?),
    };
    Ok((Some(step), after))
}

fn filter(text: &str) -> Result<Filter, String> {
    for (sign, operator) in OPERATORS {
        if let Some((left, right)) = text.split_once(sign) {
            let right = right.trim();
            let value = match right {
                "true" => json!(true),
                "false" => json!(false),
                r if r.starts_with(['"', '\'']) => json!(quoted(r)?.0),
                r => match r.parse::<f64>() {
                    Ok(number) => json!(number),
                    Err(_) => return Err(format!("{text:?}: text to compare with needs quotation marks")),
                },
            };
            return Ok(Filter { path: path(left.trim())?, compare: Some((*operator, value)) });
        }
    }
    Ok(Filter { path: path(text)?, compare: None })
}
