//! A structural schema, ready for use: the tree by which objects of a custom resource are pruned, filled in and checked.

use super::rules::{self, Rule};
use crate::resources::Errors;
use regex::{Regex, RegexBuilder};
use serde_json::Value;
use skiff_proto::apiextensionsv1::{JsonSchemaProps, SchemaOrBool};
use std::collections::BTreeMap;

/// Deeper schemas are refused. Kubernetes' own wire format would take them, ours counts each level twice.
pub const MAX_DEPTH: usize = 40;
/// The most memory that one pattern may take.
const PATTERN_BYTES: usize = 1 << 20;

/// What a value may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
}

impl Kind {
    /// Reads a name.
    pub fn parse(name: &str) -> Option<Kind> {
        Some(match name {
            "object" => Kind::Object,
            "array" => Kind::Array,
            "string" => Kind::String,
            "integer" => Kind::Integer,
            "number" => Kind::Number,
            "boolean" => Kind::Boolean,
            _ => return None,
        })
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Object => "object",
            Kind::Array => "array",
            Kind::String => "string",
            Kind::Integer => "integer",
            Kind::Number => "number",
            Kind::Boolean => "boolean",
        }
    }
}

/// What is told apart in a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum List {
    /// Nothing.
    #[default]
    Atomic,
    /// Items, by what they are.
    Set,
    /// Items, by these fields.
    Map(Vec<String>),
}

/// Limits on a number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bound {
    /// The number.
    pub at: f64,
    /// It is outside itself.
    pub exclusive: bool,
}

/// One place of a schema.
#[derive(Debug, Default)]
pub struct Node {
    pub kind: Option<Kind>,
    pub nullable: bool,
    pub int_or_string: bool,
    pub preserves: bool,
    pub embedded: bool,
    pub default: Option<Value>,
    pub properties: BTreeMap<String, Node>,
    /// What values of other keys must be.
    pub values: Option<Box<Node>>,
    /// Other keys may have any value.
    pub any_values: bool,
    pub items: Option<Box<Node>>,
    pub list: List,
    pub required: Vec<String>,
    pub one_of_values: Vec<Value>,
    pub pattern: Option<Regex>,
    /// The pattern as it was written.
    pub pattern_text: String,
    pub format: String,
    pub maximum: Option<Bound>,
    pub minimum: Option<Bound>,
    pub multiple_of: Option<f64>,
    pub length: (Option<i64>, Option<i64>),
    pub count: (Option<i64>, Option<i64>),
    pub size: (Option<i64>, Option<i64>),
    pub all_of: Vec<Node>,
    pub any_of: Vec<Node>,
    pub one_of: Vec<Node>,
    pub not: Option<Box<Node>>,
    pub rules: Vec<Rule>,
    /// There is a rule here or below.
    pub has_rules: bool,
}

impl Node {
    /// Compiles a schema. What cannot be (a pattern, a rule) is told with its path, and left out.
    pub fn compile(schema: &JsonSchemaProps, path: &str, errors: &mut Errors) -> Node {
        compile(schema, path, 0, errors)
    }
}

fn compile(s: &JsonSchemaProps, path: &str, depth: usize, errors: &mut Errors) -> Node {
    if depth > MAX_DEPTH {
        errors.forbidden(path, format!("a schema may not be deeper than {MAX_DEPTH} levels"));
        return Node { preserves: true, ..Node::default() };
    }
    let inner = |schema: &JsonSchemaProps, at: String, errors: &mut Errors| compile(schema, &at, depth + 1, errors);
    let mut node = Node {
        kind: Kind::parse(&s.r#type),
        nullable: s.nullable,
        int_or_string: s.x_int_or_string,
        preserves: s.x_preserve_unknown_fields == Some(true),
        embedded: s.x_embedded_resource,
        default: s.default.as_ref().map(|d| d.value()),
        list: list(s),
        required: s.required.clone(),
        one_of_values: s.r#enum.iter().map(|v| v.value()).collect(),
        format: s.format.clone(),
        maximum: s.maximum.map(|at| Bound { at, exclusive: s.exclusive_maximum }),
        minimum: s.minimum.map(|at| Bound { at, exclusive: s.exclusive_minimum }),
        multiple_of: s.multiple_of,
        length: (s.min_length, s.max_length),
        count: (s.min_items, s.max_items),
        size: (s.min_properties, s.max_properties),
        pattern_text: s.pattern.clone(),
        ..Node::default()
    };
    for (name, schema) in &s.properties {
        node.properties.insert(name.clone(), inner(schema, format!("{path}.properties[{name}]"), errors));
    }
    match s.additional_properties.as_deref() {
        Some(SchemaOrBool { schema: Some(schema), .. }) => {
            node.values = Some(Box::new(inner(schema, format!("{path}.additionalProperties"), errors)));
        }
        Some(SchemaOrBool { allows, .. }) => node.any_values = *allows,
        None => {}
    }
    if let Some(schema) = s.items.as_ref().and_then(|items| items.schema.as_ref()) {
        node.items = Some(Box::new(inner(schema, format!("{path}.items"), errors)));
    }
    let each = |list: &[JsonSchemaProps], name: &str, errors: &mut Errors| -> Vec<Node> {
        list.iter().enumerate().map(|(i, schema)| inner(schema, format!("{path}.{name}[{i}]"), errors)).collect()
    };
    node.all_of = each(&s.all_of, "allOf", errors);
    node.any_of = each(&s.any_of, "anyOf", errors);
    node.one_of = each(&s.one_of, "oneOf", errors);
    if let Some(schema) = &s.not {
        node.not = Some(Box::new(inner(schema, format!("{path}.not"), errors)));
    }
    if !s.pattern.is_empty() {
        match pattern(&s.pattern) {
            Ok(regex) => node.pattern = Some(regex),
            Err(why) => errors.invalid(
                format!("{path}.pattern"),
                &s.pattern,
                format!("must be a valid regular expression, but isn't: {why}"),
            ),
        }
    }
    node.rules = rules::compile(s, &node, path, depth == 0, errors);
    let below = node.properties.values().chain(node.values.as_deref()).chain(node.items.as_deref());
    node.has_rules = below.fold(!node.rules.is_empty(), |has, inner| has || inner.has_rules);
    node
}

fn list(schema: &JsonSchemaProps) -> List {
    match schema.x_list_type.as_deref() {
        Some("set") => List::Set,
        Some("map") => List::Map(schema.x_list_map_keys.clone()),
        _ => List::Atomic,
    }
}

/// A regular expression in Go's syntax. Both engines take time in proportion to the text, whatever the pattern.
pub fn pattern(text: &str) -> Result<Regex, String> {
    let built = RegexBuilder::new(&as_go_means(text)).size_limit(PATTERN_BYTES).nest_limit(64).build();
    built.map_err(|error| match error {
        regex::Error::CompiledTooBig(limit) => format!("it takes more than {limit} bytes when compiled"),
        other => other.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned(),
    })
}

/// Go's `\d`, `\w`, `\s` and `\b` mean ASCII, and a bracket in a class is only a bracket.
fn as_go_means(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut chars = pattern.chars().peekable();
    let (mut in_class, mut class_start) = (false, false);
    while let Some(c) = chars.next() {
        let first = std::mem::take(&mut class_start);
        match (c, in_class) {
            ('\\', _) => match chars.next() {
                Some('d') => out.push_str("[0-9]"),
                Some('D') => out.push_str("[^0-9]"),
                Some('w') => out.push_str("[0-9A-Za-z_]"),
                Some('W') => out.push_str("[^0-9A-Za-z_]"),
                Some('s') => out.push_str(r"[\t\n\f\r ]"),
                Some('S') => out.push_str(r"[^\t\n\f\r ]"),
                Some('b') if !in_class => out.push_str(r"(?-u:\b)"),
                Some('B') if !in_class => out.push_str(r"(?-u:\B)"),
                Some('/') => out.push('/'),
                Some(other) => out.extend(['\\', other]),
                None => out.push('\\'),
            },
            ('[', false) => {
                (in_class, class_start) = (true, true);
                out.push('[');
                if chars.next_if_eq(&'^').is_some() {
                    out.push('^');
                }
            }
            // At its start a closing bracket is a member.
            (']', true) if first => out.push_str(r"\]"),
            (']', true) => {
                in_class = false;
                out.push(']');
            }
            ('[', true) if chars.peek() == Some(&':') => {
                out.push('[');
                // [:alpha:], up to its end.
                for c in chars.by_ref() {
                    out.push(c);
                    if c == ']' {
                        break;
                    }
                }
            }
            ('[' | '&' | '~', true) => out.extend(['\\', c]),
            (c, _) => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_go_means() {
        for (text, yes, no) in [
            (r"^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){4}$", "* * * * */5", "* * * *"),
            (r"^\d$", "7", "٧"),
            (r"^[\w.-]+$", "a.b-c_1", "é"),
            (r"^[[]x[]]$", "[x]", "x"),
            (r"^[^\]]+$", "abc", "a]"),
            (r"^[a&&b]+$", "a&b", "c"),
            (r"^[[:alpha:]]+$", "abc", "a1"),
            (r"\bfoo\b", "a foo b", "afoob"),
            (r"a\/b", "a/b", "ab"),
            (r"^[]a]+$", "]a", "b"),
        ] {
            let regex = pattern(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert!(regex.is_match(yes) && !regex.is_match(no), "{text}");
        }
        for bad in ["(", "[z-a]", "a{2,1}", "(?=a)", r"\1", "(a{1000}){1000}"] {
            assert!(pattern(bad).is_err(), "{bad}");
        }
    }
}
