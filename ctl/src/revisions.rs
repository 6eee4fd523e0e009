//! Two revisions of one object side by side: `diff --at A..B TYPE/NAME`.

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::changes;
use crate::output::{self, Format};
use crate::session::Session;
use crate::target;

/// Lines around a difference that are shown with it.
const AROUND: usize = 3;

/// Prints what is different, and says whether anything is. `at` is `A..B`, or `A..` for A and now.
pub async fn show(session: &Session, at: &str, what: &[String]) -> Result<bool> {
    let (from, to) = range(at)?;
    let (resource, name) = target::parse_one(session, what).await?;
    let mut before = changes::at(session, &resource, &name, from).await?;
    let mut after = changes::at(session, &resource, &name, to).await?;
    if resource.kind == "Secret" {
        mask(&mut before, &mut after);
    }
    let called = target::called(&resource, &name);
    let label = |revision| if revision == 0 { format!("{called} now") } else { format!("{called} at {revision}") };
    let before = (label(from), output::document(&before, Format::Yaml)?);
    let after = (label(to), output::document(&after, Format::Yaml)?);
    let text = unified(&before, &after);
    output::print(&text)?;
    Ok(!text.is_empty())
}

/// `12..15`; 0 stands for now.
fn range(text: &str) -> Result<(u64, u64)> {
    let Some((from, to)) = text.split_once("..") else {
        bail!("--at {text}: expected two revisions, as in --at 120..145 (`skiffctl history` lists them)");
    };
    let number = |word: &str| word.parse::<u64>().with_context(|| format!("--at {text}: {word:?} is not a revision"));
    Ok((number(from)?, if to.is_empty() { 0 } else { number(to)? }))
}

/// A Secret's values are compared and not shown.
fn mask(before: &mut Value, after: &mut Value) {
    for field in ["data", "stringData"] {
        let (was, is) = (before[field].clone(), after[field].clone());
        for (side, other, differs) in [(&mut *before, &is, "*** (before)"), (&mut *after, &was, "*** (after)")] {
            for (key, value) in side.get_mut(field).and_then(Value::as_object_mut).into_iter().flatten() {
                let same = other.get(key) == Some(value);
                *value = if same { "***" } else { differs }.into();
            }
        }
    }
}

/// One line of a comparison.
#[derive(Clone, Copy, PartialEq)]
enum Line<'a> {
    Same(&'a str),
    Gone(&'a str),
    New(&'a str),
}

/// The two texts as `diff -u` shows them; empty if they are the same.
fn unified((from, a): &(String, String), (to, b): &(String, String)) -> String {
    let lines = compare(&a.lines().collect::<Vec<_>>(), &b.lines().collect::<Vec<_>>());
    let differs: Vec<usize> = (0..lines.len()).filter(|at| !matches!(lines[*at], Line::Same(_))).collect();
    if differs.is_empty() {
        return String::new();
    }
    let mut text = format!("--- {from}\n+++ {to}\n");
    let near = |at: usize| differs.iter().any(|d| d.abs_diff(at) <= AROUND);
    let (mut old, mut new, mut hidden) = (1, 1, true);
    for (at, line) in lines.iter().enumerate() {
        if !near(at) {
            hidden = true;
        } else {
            if hidden {
                text.push_str(&format!("@@ -{old} +{new} @@\n"));
            }
            hidden = false;
            let (mark, words) = match line {
                Line::Same(words) => (' ', words),
                Line::Gone(words) => ('-', words),
                Line::New(words) => ('+', words),
            };
            text.push_str(&format!("{mark}{words}\n"));
        }
        old += usize::from(!matches!(line, Line::New(_)));
        new += usize::from(!matches!(line, Line::Gone(_)));
    }
    text
}

/// The longest common lines stay; what is not among them is gone or new.
fn compare<'a>(a: &[&'a str], b: &[&'a str]) -> Vec<Line<'a>> {
    let start = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let (a_rest, b_rest) = (&a[start..], &b[start..]);
    let end = a_rest.iter().rev().zip(b_rest.iter().rev()).take_while(|(x, y)| x == y).count();
    let (x, y) = (&a_rest[..a_rest.len() - end], &b_rest[..b_rest.len() - end]);
    // common[i][j]: how many lines x[i..] and y[j..] have in common, in order.
    let mut common = vec![vec![0u32; y.len() + 1]; x.len() + 1];
    for i in (0..x.len()).rev() {
        for j in (0..y.len()).rev() {
            common[i][j] = if x[i] == y[j] { common[i + 1][j + 1] + 1 } else { common[i + 1][j].max(common[i][j + 1]) };
        }
    }
    let mut lines: Vec<Line<'a>> = a[..start].iter().map(|line| Line::Same(line)).collect();
    let (mut i, mut j) = (0, 0);
    while i < x.len() || j < y.len() {
        if i < x.len() && j < y.len() && x[i] == y[j] {
            lines.push(Line::Same(x[i]));
            (i, j) = (i + 1, j + 1);
        } else if i < x.len() && (j == y.len() || common[i + 1][j] >= common[i][j + 1]) {
            lines.push(Line::Gone(x[i]));
            i += 1;
        } else {
            lines.push(Line::New(y[j]));
            j += 1;
        }
    }
    lines.extend(a_rest[a_rest.len() - end..].iter().map(|line| Line::Same(line)));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn side(label: &str, lines: &str) -> (String, String) {
        (label.into(), lines.replace(' ', "\n"))
    }

    #[test]
    fn two_revisions_differ_as_diff_shows_it() {
        let (a, b) = (side("web at 3", "a b c d e f g h i j"), side("web at 9", "a b c D e f g h i j k"));
        let expected = "--- web at 3\n+++ web at 9\n@@ -1 +1 @@\n a\n b\n c\n-d\n+D\n e\n f\n g\n h\n i\n j\n+k\n";
        assert_eq!(unified(&a, &b), expected);
        assert_eq!(unified(&a, &a), "");
        let far = side("x", "a b c d e f g h i X");
        assert!(unified(&a, &far).contains("@@ -7 +7 @@\n g\n h\n i\n-j\n+X\n"));
    }

    #[test]
    fn a_range_is_two_revisions() {
        assert_eq!(range("12..15").unwrap(), (12, 15));
        assert_eq!(range("12..").unwrap(), (12, 0));
        for wrong in ["12", "a..15", "..", "12..x"] {
            assert!(range(wrong).unwrap_err().to_string().contains("--at"), "{wrong}");
        }
    }

    #[test]
    fn secrets_are_compared_and_not_shown() {
        let mut a = json!({"data": {"k": "aHVzaA==", "same": "eA=="}});
        let mut b = json!({"data": {"k": "bG91ZA==", "same": "eA=="}});
        mask(&mut a, &mut b);
        assert_eq!(a["data"], json!({"k": "*** (before)", "same": "***"}));
        assert_eq!(b["data"], json!({"k": "*** (after)", "same": "***"}));
    }
}
