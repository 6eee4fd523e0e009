//! Field selectors: `status.phase=Running,spec.nodeName!=node-1`. Which fields a kind offers is the
//! API server's business.

/// A set of requirements, all of which must hold. The empty one selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    requirements: Vec<Requirement>,
}

/// One requirement on one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The field's path.
    pub field: String,
    /// Whether it must equal the value, or must not.
    pub equals: bool,
    /// The value.
    pub value: String,
}

/// What is wrong with a selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid field selector {0:?}: expected `field=value` or `field!=value`, separated by commas")]
pub struct BadSelector(String);

impl Selector {
    /// Reads a selector. A backslash before a comma, an equals sign or a backslash takes it as it is.
    pub fn parse(text: &str) -> Result<Selector, BadSelector> {
        let mut requirements = vec![];
        for part in split(text) {
            if part.is_empty() {
                continue;
            }
            let wrong = || BadSelector(text.to_owned());
            let at = part.find('=').filter(|at| *at > 0).ok_or_else(wrong)?;
            let (field, value) = (&part[..at], &part[at + 1..]);
            let (field, equals) = match field.strip_suffix('!') {
                Some(field) => (field, false),
                None => (field, true),
            };
            let value = if equals { value.strip_prefix('=').unwrap_or(value) } else { value };
            if field.is_empty() {
                return Err(wrong());
            }
            requirements.push(Requirement { field: field.trim().to_owned(), equals, value: unescape(value) });
        }
        Ok(Selector { requirements })
    }

    /// The requirements.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }
}

fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == ',' {
            parts.push(String::new());
            continue;
        }
        if let Some(last) = parts.last_mut() {
            last.push(c);
            if c == '\\' {
                last.extend(chars.next());
            }
        }
    }
    parts
}

fn unescape(value: &str) -> String {
    let mut out = String::new();
    let mut chars = value.trim().chars();
    while let Some(c) = chars.next() {
        if c == '\\' { out.extend(chars.next()) } else { out.push(c) }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_read() {
        let read = |text: &str| {
            Selector::parse(text).map(|s| {
                let told: Vec<String> = s
                    .requirements()
                    .iter()
                    .map(|r| format!("{} {} {}", r.field, if r.equals { "is" } else { "is not" }, r.value))
                    .collect();
                told.join("; ")
            })
        };
        assert_eq!(read("").unwrap(), "");
        assert_eq!(read("status.phase=Running").unwrap(), "status.phase is Running");
        assert_eq!(read("a==b,c!=d").unwrap(), "a is b; c is not d");
        assert_eq!(read("a=").unwrap(), "a is ");
        assert_eq!(read("a=x\\,y\\=z").unwrap(), "a is x,y=z");
        for text in ["a", "=b", "!=b"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
