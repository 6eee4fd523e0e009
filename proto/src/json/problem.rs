//! What can be wrong with a document, in words.

use std::fmt;

/// What to do about unknown and duplicate fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Strictness {
    /// Don't look.
    Ignore,
    /// Tell them beside the result.
    #[default]
    Warn,
    /// Refuse the document.
    Strict,
}

/// A field that would be dropped silently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// No such field.
    Unknown {
        /// Its full path.
        path: String,
        /// The field that was perhaps meant.
        suggestion: Option<String>,
    },
    /// The field stands there more than once; the last one counts.
    Duplicate {
        /// Its full path.
        path: String,
    },
}

impl Problem {
    /// An unknown field, with the most similar known one.
    pub fn unknown<'k>(path: String, name: &str, known: impl IntoIterator<Item = &'k &'k str>) -> Problem {
        let nearest = known.into_iter().map(|k| (distance(name, k), *k)).min();
        let suggestion = nearest.filter(|(d, k)| *d <= 2 && *d < k.len()).map(|(_, k)| k.to_owned());
        Problem::Unknown { path, suggestion }
    }

    /// The field's full path.
    pub fn path(&self) -> &str {
        match self {
            Problem::Unknown { path, .. } | Problem::Duplicate { path } => path,
        }
    }

    /// The problem with the name that was perhaps meant, where there is one.
    pub fn advice(&self) -> String {
        match self {
            Problem::Unknown { suggestion: Some(name), .. } => format!("{self} (did you mean {name:?}?)"),
            _ => self.to_string(),
        }
    }
}

/// As Kubernetes words it.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Unknown { path, .. } => write!(f, "unknown field \"{path}\""),
            Problem::Duplicate { path } => write!(f, "duplicate field \"{path}\""),
        }
    }
}

/// Why a document cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// The field, "" for the document as a whole.
    pub path: String,
    /// What is wrong with it and what was expected.
    pub message: String,
    /// Where in the text, from 1; 0 when it was not text.
    pub line: usize,
    /// Where in the line, from 1; 0 when it was not text.
    pub column: usize,
    /// The unknown and duplicate fields, when these are why.
    pub problems: Vec<Problem>,
}

impl DecodeError {
    pub(crate) fn at(path: String, message: String, line: usize, column: usize) -> DecodeError {
        // serde_json appends the position, which stands in fields of its own here.
        let position = format!(" at line {line} column {column}");
        let message = message.strip_suffix(&position).unwrap_or(&message).to_owned();
        DecodeError { path, message, line, column, problems: Vec::new() }
    }

    pub(crate) fn strict(problems: Vec<Problem>) -> DecodeError {
        let told: Vec<String> = problems.iter().map(Problem::to_string).collect();
        let message = format!("strict decoding error: {}", told.join(", "));
        DecodeError { path: String::new(), message, line: 0, column: 0, problems }
    }

    pub(crate) fn too_large(bytes: usize, limit: usize) -> DecodeError {
        let message = format!("the document has {bytes} bytes, more than the {limit} that are allowed");
        DecodeError { path: String::new(), message, line: 0, column: 0, problems: Vec::new() }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        if self.line > 0 {
            write!(f, " (line {}, column {})", self.line, self.column)?;
        }
        Ok(())
    }
}

impl std::error::Error for DecodeError {}

/// How many letters must change to make `a` of `b`, upper and lower case being the same; names
/// of very different length are simply far apart.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<u8>, Vec<u8>) = (a.to_ascii_lowercase().into(), b.to_ascii_lowercase().into());
    if a.len().abs_diff(b.len()) > 2 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let changed = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
