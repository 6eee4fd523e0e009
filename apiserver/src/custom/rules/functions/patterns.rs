//! Of texts and regular expressions: `matches`, `find`, `findAll`. Patterns mean what they mean in Go, as in a schema.

use crate::custom::structural::pattern;
use cel::common::types::{CelBool, CelInt, CelList, CelString};
use cel::common::value::Val;
use cel::{DeclarationError, Env, ExecutionError};
use regex::Regex;

/// Adds them.
pub fn extension(env: &mut Env) -> Result<(), DeclarationError> {
    cel::add_overload!(env, fn matches: (CelString, CelString) -> Result<CelBool>)?;
    cel::add_member_overload!(env, fn matches: (CelString, CelString) -> Result<CelBool>)?;
    cel::add_member_overload!(env, fn find: (CelString, CelString) -> Result<CelString>)?;
    cel::add_member_overload!(env, fn find_all: (CelString, CelString) -> Result<CelList>)?;
    cel::add_member_overload!(env, fn find_some: (CelString, CelString, CelInt) -> Result<CelList>, name = "findAll")
}

fn read(function: &str, text: &CelString) -> Result<Regex, ExecutionError> {
    pattern(text.inner()).map_err(|why| ExecutionError::function_error(function, format!("illegal pattern: {why}")))
}

fn matches(text: &CelString, wanted: &CelString) -> Result<CelBool, ExecutionError> {
    Ok(CelBool::from(read("matches", wanted)?.is_match(text.inner())))
}

fn find(text: &CelString, wanted: &CelString) -> Result<CelString<'static>, ExecutionError> {
    let regex = read("find", wanted)?;
    Ok(CelString::from(regex.find(text.inner()).map_or("", |found| found.as_str()).to_owned()))
}

fn find_all(text: &CelString, wanted: &CelString) -> Result<CelList<'static>, ExecutionError> {
    found(text, wanted, usize::MAX)
}

/// No more than a limit; a negative one is none.
fn find_some(text: &CelString, wanted: &CelString, limit: &CelInt) -> Result<CelList<'static>, ExecutionError> {
    found(text, wanted, usize::try_from(*limit.inner()).unwrap_or(usize::MAX))
}

fn found(text: &CelString, wanted: &CelString, most: usize) -> Result<CelList<'static>, ExecutionError> {
    let regex = read("findAll", wanted)?;
    let texts = regex.find_iter(text.inner()).take(most).map(|found| {
        let text: Box<dyn Val> = Box::new(CelString::from(found.as_str().to_owned()));
        text
    });
    Ok(CelList::from(texts.collect::<Vec<_>>()))
}
