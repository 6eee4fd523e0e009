//! Rust's names for Kubernetes' names.

/// `clusterIP` -> `cluster_ip`, `podIPs` -> `pod_ips`, `fieldsV1` -> `fields_v1`.
pub fn snake(name: &str) -> String {
    let chars: Vec<char> = name.chars().collect();
    let mut out = String::new();
    for (i, &c) in chars.iter().enumerate() {
        let previous = i.checked_sub(1).map(|p| chars[p]);
        let starts_word =
            c.is_uppercase() && previous.is_some_and(|p| p != '_' && (!p.is_uppercase() || ends_acronym(&chars, i)));
        if starts_word {
            out.push('_');
        }
        out.extend(c.to_lowercase());
    }
    out
}

/// Whether the capital at `i`, after another capital, begins a new word (the `A` in `IPAddress`).
/// A plural acronym (`IPs`) does not.
fn ends_acronym(chars: &[char], i: usize) -> bool {
    let plural = chars.get(i + 1) == Some(&'s') && chars.get(i + 2).is_none_or(|c| c.is_uppercase());
    chars.get(i + 1).is_some_and(|c| c.is_lowercase()) && !plural
}

/// The field's name as it stands in Rust code.
pub fn rust_field(snake: &str) -> String {
    match snake {
        "type" | "continue" | "match" | "ref" | "use" | "enum" | "static" | "for" | "in" | "impl" | "move" => {
            format!("r#{snake}")
        }
        other => other.to_owned(),
    }
}

/// The path of a message's Rust type from the crate's root.
pub fn rust_type(full_name: &str) -> String {
    let mut parts: Vec<&str> = full_name.split('.').collect();
    let last = parts.pop().expect("a message has a name");
    format!("crate::generated::{}::{}", parts.join("::"), upper_camel(last))
}

/// A message's name as prost spells it: `HTTPGetAction` -> `HttpGetAction`.
pub fn upper_camel(name: &str) -> String {
    let capitalise = |word: &str| {
        let mut chars = word.chars();
        chars.next().map(|c| c.to_ascii_uppercase()).into_iter().chain(chars).collect::<String>()
    };
    snake(name).split('_').map(capitalise).collect()
}
