//! Where in a document the reader is, at no cost until somebody asks.

use super::problem::{DecodeError, Problem, Strictness};
use std::cell::RefCell;
use std::fmt::{self, Write};

/// What one reading of a document has found.
pub struct Context {
    strictness: Strictness,
    problems: RefCell<Vec<Problem>>,
    failed_at: RefCell<Option<String>>,
}

/// More problems than anybody reads are not collected: a hostile document must not fill memory.
const MAX_PROBLEMS: usize = 100;

impl Context {
    pub(crate) fn new(strictness: Strictness) -> Context {
        Context { strictness, problems: RefCell::default(), failed_at: RefCell::default() }
    }

    /// The outcome: what was read and found, or why not.
    pub(crate) fn finish<T>(self, read: Result<T, (String, usize, usize)>) -> Result<(T, Vec<Problem>), DecodeError> {
        let problems = self.problems.into_inner();
        match read {
            Ok(_) if self.strictness == Strictness::Strict && !problems.is_empty() => {
                Err(DecodeError::strict(problems))
            }
            Ok(value) => Ok((value, problems)),
            Err((message, line, column)) => {
                Err(DecodeError::at(self.failed_at.into_inner().unwrap_or_default(), message, line, column))
            }
        }
    }
}

/// A place in a document: a list through the stack frames of the reader.
#[derive(Clone, Copy)]
pub struct Path<'a> {
    context: &'a Context,
    parent: Option<&'a Path<'a>>,
    segment: Segment<'a>,
}

#[derive(Clone, Copy)]
enum Segment<'a> {
    Root,
    Field(&'a str),
    Item(usize),
}

impl<'a> Path<'a> {
    pub(crate) fn root(context: &'a Context) -> Path<'a> {
        Path { context, parent: None, segment: Segment::Root }
    }

    /// A field of a message or a key of a map.
    pub(crate) fn field(&'a self, name: &'a str) -> Path<'a> {
        Path { context: self.context, parent: Some(self), segment: Segment::Field(name) }
    }

    pub(crate) fn item(&'a self, index: usize) -> Path<'a> {
        Path { context: self.context, parent: Some(self), segment: Segment::Item(index) }
    }

    /// Remembers this as the place of the failure, unless one deeper in was remembered before.
    pub(crate) fn fail(&self) {
        self.context.failed_at.borrow_mut().get_or_insert_with(|| self.to_string());
    }

    pub(crate) fn unknown(&self, name: &str, known: &[&'static str]) {
        self.report(|| Problem::unknown(self.field(name).to_string(), name, known));
    }

    pub(crate) fn duplicate(&self, name: &str) {
        self.report(|| Problem::Duplicate { path: self.field(name).to_string() });
    }

    fn report(&self, problem: impl FnOnce() -> Problem) {
        let mut problems = self.context.problems.borrow_mut();
        if self.context.strictness != Strictness::Ignore && problems.len() < MAX_PROBLEMS {
            problems.push(problem());
        }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.segment {
            Segment::Root => Ok(()),
            Segment::Item(index) => write!(f, "[{index}]"),
            Segment::Field(name) => push_field(f, name, self.parent.is_none_or(|p| matches!(p.segment, Segment::Root))),
        }
    }
}

/// `.name`, or `[a.b/c]` for keys that would read as more than one step.
pub(crate) fn push_field(out: &mut impl Write, name: &str, first: bool) -> fmt::Result {
    let plain = !name.is_empty() && !name.contains(['.', '/', '[', ']', ' ']);
    match (plain, first) {
        (true, true) => out.write_str(name),
        (true, false) => write!(out, ".{name}"),
        (false, _) => write!(out, "[{name}]"),
    }
}
