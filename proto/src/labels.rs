//! Label selectors: as people type them, as objects write them, and whether labels match.

use std::collections::BTreeMap;
use std::fmt;

use crate::metav1::LabelSelector;

/// The longest selector that is read.
const MAX_LENGTH: usize = 16 * 1024;

/// A set of requirements, all of which must hold. The empty one selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    requirements: Vec<Requirement>,
}

/// One requirement on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// What is required of it.
    pub operator: Operator,
}

/// What may be required of a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operator {
    /// It is there, with one of these values.
    In(Vec<String>),
    /// It is absent, or has none of these values.
    NotIn(Vec<String>),
    /// It is there.
    Exists,
    /// It is absent.
    DoesNotExist,
}

/// What is wrong with a selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadSelector(String);

impl Selector {
    /// Reads `app=web,tier in (a, b),!old,env!=test,ready`.
    pub fn parse(text: &str) -> Result<Selector, BadSelector> {
        if text.len() > MAX_LENGTH {
            return Err(BadSelector(format!("the selector is longer than {MAX_LENGTH} bytes")));
        }
        let mut requirements = vec![];
        for part in split(text)? {
            requirements.push(parse_requirement(&part)?);
        }
        Ok(Selector { requirements })
    }

    /// A selector for labels that are exactly so.
    pub fn from_map(labels: &BTreeMap<String, String>) -> Selector {
        let requirement = |(key, value): (&String, &String)| Requirement {
            key: key.clone(),
            operator: Operator::In(vec![value.clone()]),
        };
        Selector { requirements: labels.iter().map(requirement).collect() }
    }

    /// Whether it selects everything.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// The requirements.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// Whether these labels fulfil all requirements.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.matches_with(|key| labels.get(key).map(String::as_str))
    }

    /// The same for labels that are kept otherwise.
    pub fn matches_with<'a>(&self, get: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.requirements.iter().all(|r| {
            let value = get(&r.key);
            match &r.operator {
                Operator::In(values) => value.is_some_and(|v| values.iter().any(|w| w == v)),
                Operator::NotIn(values) => value.is_none_or(|v| !values.iter().any(|w| w == v)),
                Operator::Exists => value.is_some(),
                Operator::DoesNotExist => value.is_none(),
            }
        })
    }
}

/// As objects write it: `matchLabels` and `matchExpressions` together. An empty one selects everything.
impl TryFrom<&LabelSelector> for Selector {
    type Error = BadSelector;

    fn try_from(selector: &LabelSelector) -> Result<Selector, BadSelector> {
        let mut requirements = Selector::from_map(&selector.match_labels).requirements;
        for e in &selector.match_expressions {
            let key = e.key.clone();
            let some = |values: &[String]| match values {
                [] => Err(BadSelector(format!("{key}: the operator {} needs values", e.operator))),
                values => Ok(values.to_vec()),
            };
            let none = |operator: Operator| match e.values.as_slice() {
                [] => Ok(operator),
                _ => Err(BadSelector(format!("{key}: the operator {} takes no values", e.operator))),
            };
            let operator = match e.operator.as_str() {
                "In" => Operator::In(some(&e.values)?),
                "NotIn" => Operator::NotIn(some(&e.values)?),
                "Exists" => none(Operator::Exists)?,
                "DoesNotExist" => none(Operator::DoesNotExist)?,
                other => {
                    return Err(BadSelector(format!(
                        "{key}: {other:?} is not a valid operator: must be In, NotIn, Exists or DoesNotExist"
                    )));
                }
            };
            requirements.push(Requirement { key, operator });
        }
        Ok(Selector { requirements })
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, r) in self.requirements.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            match &r.operator {
                Operator::In(values) if values.len() == 1 => write!(f, "{}={}", r.key, values[0])?,
                Operator::NotIn(values) if values.len() == 1 => write!(f, "{}!={}", r.key, values[0])?,
                Operator::In(values) => write!(f, "{} in ({})", r.key, values.join(","))?,
                Operator::NotIn(values) => write!(f, "{} notin ({})", r.key, values.join(","))?,
                Operator::Exists => f.write_str(&r.key)?,
                Operator::DoesNotExist => write!(f, "!{}", r.key)?,
            }
        }
        Ok(())
    }
}

/// Splits at the commas outside of parentheses.
fn split(text: &str) -> Result<Vec<String>, BadSelector> {
    let mut parts = vec![String::new()];
    let mut inside = false;
    for c in text.chars() {
        match (c, inside) {
            ('(', false) => inside = true,
            (')', true) => inside = false,
            ('(', true) | (')', false) => {
                return Err(BadSelector(format!("{text:?}: the parentheses do not match")));
            }
            (',', false) => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(last) = parts.last_mut() {
            last.push(c);
        }
    }
    if inside {
        return Err(BadSelector(format!("{text:?}: the parentheses do not match")));
    }
    if text.trim().is_empty() {
        return Ok(vec![]);
    }
    Ok(parts)
}

fn parse_requirement(part: &str) -> Result<Requirement, BadSelector> {
    let part = part.trim();
    let wrong = || {
        BadSelector(format!(
            "{part:?}: expected `key=value`, `key!=value`, `key in (a,b)`, `key notin (a,b)`, `key` or `!key`"
        ))
    };
    let (key, operator) = if let Some(key) = part.strip_prefix('!') {
        (key.trim(), Operator::DoesNotExist)
    } else if let Some((head, values)) = part.split_once('(') {
        let values = values.strip_suffix(')').ok_or_else(wrong)?;
        let values: Vec<String> = values.split(',').map(|v| v.trim().to_owned()).collect();
        match head.split_whitespace().collect::<Vec<_>>().as_slice() {
            [key, "in"] => (*key, Operator::In(values)),
            [key, "notin"] => (*key, Operator::NotIn(values)),
            _ => return Err(wrong()),
        }
    } else if let Some((key, value)) = part.split_once("!=") {
        (key.trim(), Operator::NotIn(vec![value.trim().to_owned()]))
    } else if let Some((key, value)) = part.split_once('=') {
        let value = value.strip_prefix('=').unwrap_or(value);
        (key.trim(), Operator::In(vec![value.trim().to_owned()]))
    } else {
        (part, Operator::Exists)
    };
    let is_key = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    if key.is_empty() || !key.chars().all(is_key) {
        return Err(wrong());
    }
    let is_value = |v: &str| v.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    if let Operator::In(values) | Operator::NotIn(values) = &operator
        && !values.iter().all(|v| is_value(v))
    {
        return Err(BadSelector(format!("{part:?}: a label's value consists of letters, digits, '-', '_' and '.'")));
    }
    Ok(Requirement { key: key.to_owned(), operator })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metav1::LabelSelectorRequirement;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
    }

    #[test]
    fn selectors_match_as_kubectl_means_them() {
        let web = labels(&[("app", "web"), ("tier", "front"), ("ready", "")]);
        for (text, expected) in [
            ("", true),
            ("app=web", true),
            ("app==web", true),
            ("app = web , tier=front", true),
            ("app=db", false),
            ("app!=db", true),
            ("app!=web", false),
            ("none!=x", true),
            ("tier in (front, back)", true),
            ("tier in (back)", false),
            ("tier notin (back)", true),
            ("none notin (x)", true),
            ("ready", true),
            ("ready=", true),
            ("none", false),
            ("!none", true),
            ("!app", false),
            ("app in (web,db),tier notin (x),!none", true),
        ] {
            let selector = Selector::parse(text).unwrap();
            assert_eq!(selector.matches(&web), expected, "{text:?}");
            assert_eq!(Selector::parse(&selector.to_string()).unwrap(), selector, "{text:?}");
        }
    }

    #[test]
    fn wrong_selectors_are_refused() {
        for text in ["=x", "a in b", "a in (b", "a)b", "a b", "a=b c", ",", "a,,b", "!"] {
            assert!(Selector::parse(text).is_err(), "{text:?}");
        }
        assert!(Selector::parse(&"a,".repeat(20_000)).is_err());
    }

    #[test]
    fn objects_selectors_are_read() {
        let mut selector = LabelSelector { match_labels: labels(&[("app", "web")]), ..LabelSelector::default() };
        let mut expression = |operator: &str, values: &[&str]| {
            selector.match_expressions = vec![LabelSelectorRequirement {
                key: "tier".into(),
                operator: operator.into(),
                values: values.iter().map(|v| v.to_string()).collect(),
            }];
            Selector::try_from(&selector)
        };
        assert_eq!(expression("In", &["a", "b"]).unwrap().to_string(), "app=web,tier in (a,b)");
        assert_eq!(expression("DoesNotExist", &[]).unwrap().to_string(), "app=web,!tier");
        assert!(expression("In", &[]).is_err());
        assert!(expression("Exists", &["x"]).is_err());
        assert!(expression("Near", &[]).is_err());
    }
}
