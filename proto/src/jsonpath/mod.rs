//! JSONPath as kubectl has it: text with expressions in braces, as
//! `{.items[*].metadata.name}`, `{range .items[*]}{.metadata.name}{"\n"}{end}`, and filters as
//! `[?(@.type=="Ready")]`.

mod parse;

use serde_json::Value;

use parse::{Filter, Part, Step};

/// A template, ready to be filled in.
#[derive(Clone, Debug)]
pub struct JsonPath {
    parts: Vec<Part>,
}

impl JsonPath {
    /// Reads a template; a path alone needs no braces.
    pub fn parse(text: &str) -> Result<JsonPath, String> {
        let braced = if text.contains(['{', '}']) {
            text.to_owned()
        } else {
            format!("{{.{}}}", text.trim_start_matches(['.', '$']))
        };
        Ok(JsonPath { parts: parse::template(&braced)? })
    }

    /// The text that it makes of an object.
    pub fn render(&self, object: &Value) -> String {
        let mut out = String::new();
        render(&self.parts, object, object, &mut out);
        out
    }

    /// The first value that its first path finds.
    pub fn first<'v>(&self, object: &'v Value) -> Option<&'v Value> {
        let steps = self.parts.iter().find_map(|p| if let Part::Path(steps) = p { Some(steps) } else { None })?;
        find(steps, object, object).into_iter().next()
    }

    /// The values that its paths find, each as text.
    pub fn texts(&self, object: &Value) -> Vec<String> {
        let paths = self.parts.iter().filter_map(|p| if let Part::Path(steps) = p { Some(steps) } else { None });
        paths.flat_map(|steps| find(steps, object, object)).map(plain).collect()
    }
}

fn render(parts: &[Part], root: &Value, current: &Value, out: &mut String) {
    for part in parts {
        match part {
            Part::Text(text) => out.push_str(text),
            Part::Path(steps) => {
                let found: Vec<String> = find(steps, root, current).into_iter().map(plain).collect();
                out.push_str(&found.join(" "));
            }
            Part::Range { over, body } => {
                for item in find(over, root, current) {
                    render(body, root, item, out);
                }
            }
        }
    }
}

/// Text as it is, everything else as JSON.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// The values at the end of a path.
fn find<'v>(steps: &[Step], root: &'v Value, current: &'v Value) -> Vec<&'v Value> {
    let mut found = vec![current];
    for step in steps {
        found = match step {
            Step::Root => vec![root],
            Step::Field(name) => found.into_iter().filter_map(|v| v.get(name)).collect(),
            Step::Everywhere(name) => found.into_iter().flat_map(|v| everywhere(v, name)).collect(),
            Step::All => found.into_iter().flat_map(children).collect(),
            Step::Slice(from, to) => found.into_iter().flat_map(|v| slice(v, *from, *to)).collect(),
            Step::Indices(indices) => {
                found.into_iter().flat_map(|v| indices.iter().filter_map(|i| at(v, *i))).collect()
            }
            Step::Filter(filter) => found.into_iter().flat_map(children).filter(|v| passes(filter, root, v)).collect(),
        };
    }
    found
}

fn children(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(map) => map.values().collect(),
        _ => vec![],
    }
}

fn everywhere<'v>(value: &'v Value, name: &str) -> Vec<&'v Value> {
    let here = value.get(name).into_iter();
    here.chain(children(value).into_iter().flat_map(|child| everywhere(child, name))).collect()
}

/// Negative positions count from the end.
fn place(length: usize, index: i64) -> usize {
    let length = i64::try_from(length).unwrap_or(i64::MAX);
    let from_start = if index < 0 { length.saturating_add(index) } else { index };
    usize::try_from(from_start.clamp(0, length)).unwrap_or(0)
}

fn at(value: &Value, index: i64) -> Option<&Value> {
    let items = value.as_array()?;
    if index < 0 && index.unsigned_abs() > items.len() as u64 {
        return None;
    }
    items.get(place(items.len(), index))
}

fn slice(value: &Value, from: Option<i64>, to: Option<i64>) -> &[Value] {
    let items = value.as_array().map_or(&[][..], Vec::as_slice);
    let (from, to) = (from.map_or(0, |i| place(items.len(), i)), to.map_or(items.len(), |i| place(items.len(), i)));
    items.get(from..to).unwrap_or(&[])
}

fn passes(filter: &Filter, root: &Value, item: &Value) -> bool {
    let left = find(&filter.path, root, item);
    let Some((operator, right)) = &filter.compare else { return !left.is_empty() };
    left.iter().any(|value| {
        let order = match (value.as_f64(), right.as_f64()) {
            (Some(a), Some(b)) => a.partial_cmp(&b),
            _ => Some(plain(value).cmp(&plain(right))),
        };
        order.is_some_and(|order| operator.holds(order))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pods() -> Value {
        json!({"items": [
            {"metadata": {"name": "a", "labels": {"app.kubernetes.io/name": "x"}}, "n": 1, "status": {"ready": true}},
            {"metadata": {"name": "b"}, "n": 22, "status": {"ready": false}},
            {"metadata": {"name": "c"}, "n": 3},
        ]})
    }

    #[test]
    fn templates_make_what_kubectl_makes_of_them() {
        for (template, expected) in [
            ("{.items[*].metadata.name}", "a b c"),
            ("{.items[0].metadata.name}", "a"),
            ("{.items[-1].metadata.name}", "c"),
            ("{.items[0,2].metadata.name}", "a c"),
            ("{.items[1:].metadata.name}", "b c"),
            ("{.items[:-1].metadata.name}", "a b"),
            ("{.items[9].metadata.name}", ""),
            ("{.items[-9].metadata.name}", ""),
            ("{.items[0].metadata.labels.app\\.kubernetes\\.io/name}", "x"),
            ("{.items[0].metadata.labels['app.kubernetes.io/name']}", "x"),
            ("{range .items[*]}{.metadata.name}={.n}{\"\\n\"}{end}", "a=1\nb=22\nc=3\n"),
            ("{.items[?(@.metadata.name==\"b\")].n}", "22"),
            ("{.items[?(@.n>2)].metadata.name}", "b c"),
            ("{.items[?(@.n <= 3)].metadata.name}", "a c"),
            ("{.items[?(@.metadata.name!='b')].n}", "1 3"),
            ("{.items[?(@.status)].n}", "1 22"),
            ("{.items[?(@.status.ready==true)].n}", "1"),
            ("{..name}", "a b c"),
            ("{$.items[1].n}", "22"),
            ("n: {.items[1].n}!", "n: 22!"),
            ("{'lit'}{\"\\t\"}x", "lit\tx"),
            ("{.items[0].metadata}", r#"{"name":"a","labels":{"app.kubernetes.io/name":"x"}}"#),
            (".items[0].n", "1"),
            ("items[0].n", "1"),
            ("{.items[*].metadata['name']}", "a b c"),
        ] {
            let path = JsonPath::parse(template).unwrap_or_else(|e| panic!("{template}: {e}"));
            assert_eq!(path.render(&pods()), expected, "{template}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused_in_words() {
        for template in
            ["{.a", "{.a}}", "{range .a}x", "{end}", "{.a[}", "{.a[?(@.b==)]}", "{.a[x]}", "{\"a}", "{.a b}"]
        {
            assert!(JsonPath::parse(template).is_err(), "{template}");
        }
    }
}
