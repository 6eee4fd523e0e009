//! YAML as kubectl prints it. A text is quoted wherever some reader could take it for something
//! else: `"yes"`, `"0644"`, `"1_000"` and `"2026-01-31"` come back as the texts that they were.

use serde_json::{Map, Value};

use super::scalar;
use super::tree::Tree;

/// A longer key has to be marked as one: readers look no further than 1024 characters for the colon.
const LONGEST_KEY: usize = 1000;

/// The value as one document, keys in their order.
pub fn write(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => write_map(&mut out, map, 0, false),
        Value::Array(items) if !items.is_empty() => write_list(&mut out, items, 0, false),
        value => {
            out.push_str(&inline(value));
            out.push('\n');
        }
    }
    out
}

fn write_map(out: &mut String, map: &Map<String, Value>, indent: usize, mut started: bool) {
    for (key, value) in map {
        // Behind "- " the first key stands on the item's own line.
        if !std::mem::take(&mut started) {
            spaces(out, indent);
        }
        let key = text(key);
        if key.chars().count() > LONGEST_KEY {
            out.push_str("? ");
            out.push_str(&key);
            out.push('\n');
            spaces(out, indent);
        } else {
            out.push_str(&key);
        }
        out.push(':');
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                out.push('\n');
                write_map(out, inner, indent + 2, false);
            }
            Value::Array(items) if !items.is_empty() => {
                out.push('\n');
                write_list(out, items, indent, false);
            }
            scalar => write_scalar(out, scalar, indent + 2),
        }
    }
}

fn write_list(out: &mut String, items: &[Value], indent: usize, mut started: bool) {
    for item in items {
        if !std::mem::take(&mut started) {
            spaces(out, indent);
        }
        out.push('-');
        match item {
            Value::Object(inner) if !inner.is_empty() => {
                out.push(' ');
                write_map(out, inner, indent + 2, true);
            }
            Value::Array(inner) if !inner.is_empty() => {
                out.push(' ');
                write_list(out, inner, indent + 2, true);
            }
            scalar => write_scalar(out, scalar, indent + 2),
        }
    }
}

fn spaces(out: &mut String, count: usize) {
    out.extend(std::iter::repeat_n(' ', count));
}

/// A scalar behind its key or dash, and the end of the line.
fn write_scalar(out: &mut String, value: &Value, indent: usize) {
    out.push(' ');
    match value {
        Value::String(lines) if fits_block(lines) => {
            out.push('|');
            match lines.len() - lines.trim_end_matches('\n').len() {
                0 => out.push('-'),
                1 => {}
                _ => out.push('+'),
            }
            out.push('\n');
            for line in lines.strip_suffix('\n').unwrap_or(lines).split('\n') {
                if !line.is_empty() {
                    spaces(out, indent);
                    out.push_str(line);
                }
                out.push('\n');
            }
        }
        value => {
            out.push_str(&inline(value));
            out.push('\n');
        }
    }
}

fn inline(value: &Value) -> String {
    match value {
        Value::String(s) => text(s),
        // Empty ones only; full ones take lines of their own.
        Value::Object(_) => "{}".to_owned(),
        Value::Array(_) => "[]".to_owned(),
        scalar => scalar.to_string(),
    }
}

/// Whether the text reads well as a block of lines, and comes back from one unchanged.
fn fits_block(lines: &str) -> bool {
    let starts_plainly = lines.starts_with(|c: char| !c.is_whitespace());
    lines.contains('\n') && starts_plainly && lines.chars().all(|c| c == '\n' || c == '\t' || is_printable(c))
}

fn is_printable(c: char) -> bool {
    !c.is_control() && !matches!(c, '\u{85}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

fn text(s: &str) -> String {
    if is_plain(s) { s.to_owned() } else { quoted(s) }
}

/// Whether every reader takes the bare text for this very text.
fn is_plain(s: &str) -> bool {
    let mut chars = s.chars();
    let starts = chars.next().is_some_and(|c| c.is_ascii_alphanumeric() || "/_".contains(c));
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+=,() ".contains(c);
    let syntax = s.ends_with([':', ' ']) || s.contains(": ");
    let digit_first = s.starts_with(|c: char| c.is_ascii_digit());
    // What YAML 1.1 readers take for a date or for a number to the base of sixty.
    let like_time = digit_first && (s.contains(':') || s.as_bytes().get(4) == Some(&b'-'));
    starts && chars.all(allowed) && !syntax && !like_time && matches!(scalar::plain(s), Tree::Text(_))
}

fn quoted(s: &str) -> String {
    let mut out = String::from("\"");
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if is_printable(c) => out.push(c),
            c => out.push_str(&format!("\\u{:04x}", u32::from(c))),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::{Limits, parse_documents};
    use proptest::prelude::*;
    use serde_json::json;

    fn read(text: &str) -> Value {
        let documents = parse_documents(text, &Limits::default()).unwrap_or_else(|e| panic!("{e} in\n{text}"));
        assert_eq!(documents.len(), 1, "{text}");
        documents[0].to_json()
    }

    #[test]
    fn looks_as_kubectl_prints_it() {
        let value = json!({
            "apiVersion": "apps/v1",
            "metadata": {"annotations": {"a.b/c": "x: y"}, "creationTimestamp": "2026-01-31T15:04:05Z", "labels": {}},
            "spec": {"containers": [{"image": "skiff/demo:1", "args": ["a", "--b"], "ports": [{"containerPort": 80}]}, {"name": "b"}], "paused": false},
            "data": {"script": "set -e\necho\n", "mode": "0644", "nested": "", "none": null},
        });
        let expected = "\
apiVersion: apps/v1
metadata:
  annotations:
    a.b/c: \"x: y\"
  creationTimestamp: \"2026-01-31T15:04:05Z\"
  labels: {}
spec:
  containers:
  - image: skiff/demo:1
    args:
    - a
    - \"--b\"
    ports:
    - containerPort: 80
  - name: b
  paused: false
data:
  script: |
    set -e
    echo
  mode: \"0644\"
  nested: \"\"
  none: null
";
        assert_eq!(write(&value), expected);
        assert_eq!(read(expected), value);
    }

    #[test]
    fn texts_that_look_like_something_else_are_quoted() {
        for text in [
            "",
            "y",
            "N",
            "yes",
            "off",
            "True",
            "null",
            "~",
            "0644",
            "08",
            "1_000",
            "0x1f",
            "0b1",
            "1e3",
            "1.5",
            ".inf",
            "-",
            "--",
            "12:30",
            "2026-01-31",
            "a: b",
            "a:",
            " a",
            "a ",
            "a #b",
            "#a",
            "*a",
            "&a",
            "!a",
            "@a",
            "%a",
            "`a",
            "[a",
            "{a",
            "- a",
            "? a",
            "|",
            ">",
            "<<",
            "=",
            "'a",
            "\"a",
            "---",
            "a\tb",
        ] {
            let value = json!({ text: text });
            assert_eq!(read(&write(&value)), value, "{}", write(&value));
        }
        for text in
            ["web", "10.0.0.1", "10.244.0.0/16", "a-b.c/d", "1Gi", "500m", "25%", "v1", "two words", "sha256:abc"]
        {
            assert_eq!(super::text(text), text);
        }
    }

    /// Found by fuzzing: readers refuse a plain key of more than 1024 characters.
    #[test]
    fn a_long_key_is_marked_as_one() {
        for (length, marked) in [(1000, false), (1001, true), (5000, true)] {
            let written = write(&json!({ "k".repeat(length): 1 }));
            assert_eq!(written.starts_with("? "), marked, "{length}");
            for key in ["k".repeat(length), "\u{e9}: ".repeat(length / 3)] {
                let inner = json!([{ key.as_str(): {} }, { key.as_str(): [[1]] }]);
                let value = json!({ "a": [{ key.as_str(): 1, "b": { key.as_str(): inner } }], key.as_str(): [1] });
                assert_eq!(read(&write(&value)), value, "{length}");
            }
        }
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let text = prop_oneof!["[a-zA-Z0-9 ._:/#-]{0,8}", "[ \n\ta-c|>-]{0,10}", "\\PC{0,6}", any::<String>()];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            text.clone().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(text.clone(), inner, 0..4)
                    .prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_read_back(value in any_value()) {
            let text = write(&value);
            prop_assert_eq!(read(&text), value, "{}", text);
        }
    }
}
