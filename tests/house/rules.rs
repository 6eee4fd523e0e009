//! The rules about Rust sources. Each takes a source and returns its complaints.

use crate::Source;
use crate::code::{without_prose, words};

/// No file is longer, in lines.
pub(crate) const LONGEST_FILE: usize = 600;

/// Words that say nothing about what a thing is.
const EMPTY_NAMES: &[&str] = &["util", "utils", "helper", "helpers", "common", "misc", "manager2", "stuff"];

/// Where `unsafe` may stand, and why.
const UNSAFE_PLACES: &[(&str, &str)] =
    &[("kubelet/pause/", "the pause program calls the C library with nothing between")];

/// Where clippy's disallowed lists may be lifted, and why.
const ALLOWANCES: &[(&str, &str)] = &[
    ("world/", "wraps the real clock, chance and tasks"),
    ("kubelet/src/runtime/docker_convert.rs", "Docker's API is made of hash maps; none is iterated"),
    ("cluster/src/hosts/namespace.rs", "a thread that changes its namespace must not be of a pool"),
    ("proxy/tests/kernel/", "threads that enter namespaces must not be of a pool"),
    ("proxy/examples/", "measures real time"),
    ("examples/", "programs that run in a cluster, not parts of it"),
    ("tests/bench/", "measures the real clock"),
    ("tests/e2e/", "watches a real cluster by a real clock"),
];

fn line_of(text: &str, byte: usize) -> usize {
    text[..byte].matches('\n').count() + 1
}

/// `select!` without `biased` polls in a random order: one seed would no longer be one run.
pub(crate) fn biased_selects(source: &Source) -> Vec<String> {
    let code = without_prose(&source.text);
    code.match_indices("select!")
        .filter(|(at, _)| {
            let after = code[at + "select!".len()..].trim_start();
            !after.trim_start_matches(['{', '(', '[']).trim_start().starts_with("biased;")
        })
        .map(|(at, _)| format!("{}:{}: select! does not begin with `biased;`", source.path, line_of(&code, at)))
        .collect()
}

/// Every file begins by saying what it is for.
pub(crate) fn opening(source: &Source) -> Vec<String> {
    if source.text.starts_with("//! ") {
        return Vec::new();
    }
    vec![format!("{}: does not open with `//!` and what it is for", source.path)]
}

/// Every field of a message says what it is, in a comment above it: that is what `explain` prints.
pub(crate) fn described(source: &Source) -> Vec<String> {
    let mut complaints = Vec::new();
    let (mut depth, mut above) = (0usize, "");
    for (number, line) in source.text.lines().enumerate() {
        let line = line.trim();
        if depth > 0 && is_field(line) && !above.starts_with("//") {
            complaints.push(format!("{}:{}: no word about {line}", source.path, number + 1));
        }
        if !line.starts_with("//") {
            depth = (depth + line.matches('{').count()).saturating_sub(line.matches('}').count());
        }
        above = line;
    }
    complaints
}

/// A type, a name, and its number.
fn is_field(line: &str) -> bool {
    let Some((left, right)) = line.split_once(" = ") else { return false };
    let words = left.rsplit_once("> ").map_or(left, |(_, name)| name).split(' ').count();
    let number = right.starts_with(|c: char| c.is_ascii_digit());
    number && !line.starts_with("//") && !line.starts_with("option ") && (words > 1 || left.contains("> "))
}

/// A file that is too long has more than one subject.
pub(crate) fn length(source: &Source) -> Vec<String> {
    let lines = source.text.lines().count();
    if lines <= LONGEST_FILE {
        return Vec::new();
    }
    vec![format!("{}: {lines} lines, more than {LONGEST_FILE}", source.path)]
}

fn is_empty_name(name: &str) -> bool {
    name.split(['_', '-', '.']).any(|word| EMPTY_NAMES.contains(&word))
}

/// Files and modules are named for what they are.
pub(crate) fn names(source: &Source) -> Vec<String> {
    let mut complaints = Vec::new();
    if source.path.split('/').any(is_empty_name) {
        complaints.push(format!("{}: a name that says nothing", source.path));
    }
    let code = without_prose(&source.text);
    let mut words = words(&code).peekable();
    while let Some(word) = words.next() {
        if word == "mod" && words.peek().is_some_and(|name| is_empty_name(name)) {
            let name = words.peek().copied().unwrap_or_default();
            complaints.push(format!("{}: module {name}: a name that says nothing", source.path));
        }
    }
    complaints
}

/// Nothing is unsafe outside the named places.
pub(crate) fn unsafe_code(source: &Source) -> Vec<String> {
    if UNSAFE_PLACES.iter().any(|(place, _)| source.path.starts_with(place)) {
        return Vec::new();
    }
    let code = without_prose(&source.text);
    let count = words(&code).filter(|word| *word == "unsafe").count();
    (0..count).map(|_| format!("{}: `unsafe`", source.path)).collect()
}

/// Who lifts the lists that determinism rests on is named here, with a reason.
pub(crate) fn allowances(source: &Source) -> Vec<String> {
    if ALLOWANCES.iter().any(|(place, _)| source.path.starts_with(place)) {
        return Vec::new();
    }
    let code = without_prose(&source.text);
    code.match_indices("clippy::disallowed_")
        .map(|(at, _)| {
            let line = line_of(&code, at);
            format!("{}:{line}: lifts a list that determinism rests on", source.path)
        })
        .collect()
}

/// A test that doesn't run proves nothing.
pub(crate) fn ignored_tests(source: &Source) -> Vec<String> {
    let code = without_prose(&source.text);
    code.match_indices("#[ignore")
        .map(|(at, _)| format!("{}:{}: an ignored test", source.path, line_of(&code, at)))
        .collect()
}
