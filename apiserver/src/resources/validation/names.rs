//! What a name may look like: DNS labels and subdomains, label keys and values, port and environment names.
//! Each check returns the problems in words; an empty list means the name is good.

/// Problems with a name, in words.
pub type Problems = Vec<String>;

/// The longest DNS label.
pub const LABEL_MAX: usize = 63;
/// The longest DNS subdomain.
pub const SUBDOMAIN_MAX: usize = 253;

fn lower_alnum(c: u8) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}

fn too_long(max: usize) -> String {
    format!("must be no more than {max} characters")
}

/// Starts and ends as `edge` allows, and holds only what `inner` allows.
fn framed(name: &str, edge: fn(u8) -> bool, inner: fn(u8) -> bool) -> bool {
    let b = name.as_bytes();
    match (b.first(), b.last()) {
        (Some(&first), Some(&last)) => edge(first) && edge(last) && b.iter().all(|&c| inner(c)),
        _ => false,
    }
}

fn is_label(name: &str) -> bool {
    framed(name, lower_alnum, |c| lower_alnum(c) || c == b'-')
}

/// An RFC 1123 label: `my-name`.
pub fn dns1123_label(name: &str) -> Problems {
    let mut problems = Problems::new();
    if name.len() > LABEL_MAX {
        problems.push(too_long(LABEL_MAX));
    }
    if !is_label(name) {
        problems.push(
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and \
             end with an alphanumeric character (e.g. 'my-name' or '123-abc')"
                .into(),
        );
    }
    problems
}

/// An RFC 1123 subdomain: labels joined by dots.
pub fn dns1123_subdomain(name: &str) -> Problems {
    let mut problems = Problems::new();
    if name.len() > SUBDOMAIN_MAX {
        problems.push(too_long(SUBDOMAIN_MAX));
    }
    if !name.split('.').all(is_label) {
        problems.push(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must \
             start and end with an alphanumeric character (e.g. 'example.com')"
                .into(),
        );
    }
    problems
}

/// An RFC 1035 label: as 1123, and beginning with a letter.
pub fn dns1035_label(name: &str) -> Problems {
    let mut problems = Problems::new();
    if name.len() > LABEL_MAX {
        problems.push(too_long(LABEL_MAX));
    }
    if !(is_label(name) && name.as_bytes()[0].is_ascii_lowercase()) {
        problems.push(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic \
             character, and end with an alphanumeric character (e.g. 'my-name' or 'abc-123')"
                .into(),
        );
    }
    problems
}

/// What any path segment must satisfy; for kinds whose names are free otherwise.
pub fn path_segment(name: &str) -> Problems {
    let mut problems = Problems::new();
    if name == "." || name == ".." {
        problems.push(format!("may not be '{name}'"));
    }
    for c in ['/', '%'] {
        if name.contains(c) {
            problems.push(format!("may not contain '{c}'"));
        }
    }
    problems
}

/// The part of a qualified name after its prefix.
fn name_part(name: &str) -> bool {
    framed(name, |c| c.is_ascii_alphanumeric(), |c| c.is_ascii_alphanumeric() || b"-_.".contains(&c))
}

/// A qualified name, as label and annotation keys are: `example.com/my-name`.
pub fn qualified_name(value: &str) -> Problems {
    let mut problems = Problems::new();
    let name = match value.split_once('/') {
        None => value,
        Some((prefix, name)) => {
            if prefix.is_empty() {
                problems.push("prefix part must be non-empty".into());
            } else {
                problems.extend(dns1123_subdomain(prefix).into_iter().map(|p| format!("prefix part {p}")));
            }
            name
        }
    };
    if name.is_empty() {
        problems.push("name part must be non-empty".into());
    } else if name.len() > LABEL_MAX {
        problems.push(format!("name part {}", too_long(LABEL_MAX)));
    }
    if !name_part(name) {
        problems.push(
            "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
             alphanumeric character (e.g. 'MyName', 'my.name' or '123-abc')"
                .into(),
        );
    }
    problems
}

/// A label's value; may be empty.
pub fn label_value(value: &str) -> Problems {
    let mut problems = Problems::new();
    if value.len() > LABEL_MAX {
        problems.push(too_long(LABEL_MAX));
    }
    if !value.is_empty() && !name_part(value) {
        problems.push(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must \
             start and end with an alphanumeric character (e.g. 'MyValue', 'my_value' or '12345')"
                .into(),
        );
    }
    problems
}

/// The name of a container's port.
pub fn port_name(name: &str) -> Problems {
    let mut problems = Problems::new();
    if name.len() > 15 {
        problems.push(too_long(15));
    }
    if !name.bytes().all(|c| lower_alnum(c) || c == b'-') {
        problems.push("must contain only lower case alphanumeric characters and '-'".into());
    }
    if !name.bytes().any(|c| c.is_ascii_lowercase()) {
        problems.push("must contain at least one letter (a-z)".into());
    }
    if name.contains("--") {
        problems.push("must not contain consecutive hyphens".into());
    }
    if name.starts_with('-') || name.ends_with('-') {
        problems.push("must not begin or end with a hyphen".into());
    }
    problems
}

/// The name of an environment variable: anything printable but `=`.
pub fn env_var_name(name: &str) -> Problems {
    if name.contains('=') || !name.bytes().all(|c| (0x20..0x7f).contains(&c)) {
        return vec![
            "a valid environment variable name must consist only of printable ASCII characters other than '='".into(),
        ];
    }
    Problems::new()
}

/// A key of a ConfigMap or Secret.
pub fn config_key(key: &str) -> Problems {
    let mut problems = Problems::new();
    if key.len() > SUBDOMAIN_MAX {
        problems.push(too_long(SUBDOMAIN_MAX));
    }
    if key.is_empty() || !key.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(&c)) {
        problems.push("a valid config key must consist of alphanumeric characters, '-', '_' or '.'".into());
    }
    if key == "." || key == ".." || key.starts_with("../") {
        problems.push(format!("must not be '{key}'"));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rule: fn(&str) -> Problems, good: &[&str], bad: &[&str]) {
        for name in good {
            assert_eq!(rule(name), Problems::new(), "{name:?} should be accepted");
        }
        for name in bad {
            assert_ne!(rule(name), Problems::new(), "{name:?} should be refused");
        }
    }

    #[test]
    fn labels_subdomains_and_services() {
        let long = "a".repeat(64);
        check(dns1123_label, &["a", "a-b", "0", "123-abc"], &["", "A", "a_b", "-a", "a-", "a.b", "ä", &long]);
        check(dns1123_subdomain, &["a.b", "a-1.b", &long], &["", ".", "a..b", "A.b", "a.-b", &"a".repeat(254)]);
        check(dns1035_label, &["web", "a1"], &["", "1a", "a.b", "Web"]);
    }

    #[test]
    fn qualified_names_and_label_values() {
        check(
            qualified_name,
            &["app", "example.com/Name_1.x", "a/b"],
            &["", "/a", "a/", "a/b/c", "-a", "Ex.com/a", &format!("a/{}", "b".repeat(64))],
        );
        check(label_value, &["", "A-b_c.1"], &["-a", "a b", "ü", &"a".repeat(64)]);
    }

    #[test]
    fn ports_variables_and_keys() {
        check(port_name, &["http", "a-1"], &["", "123", "HTTP", "a--b", "-a", "abcdefghijklmnop"]);
        check(env_var_name, &["PATH", "a.b-c", "1"], &["a=b", "a\nb"]);
        check(config_key, &["a.yaml", "_x"], &["", ".", "..", "a/b", "a b"]);
    }
}
