//! One rule and one question: does it allow? And one rule and others: do they give all that it gives? Pure, in
//! Kubernetes' terms.

use skiff_proto::rbacv1::PolicyRule;

/// What is asked about a resource.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// `get`, `list`, ...
    pub verb: &'a str,
    /// The API group.
    pub group: &'a str,
    /// The plural.
    pub resource: &'a str,
    /// The subresource, or empty.
    pub subresource: &'a str,
    /// The namespace, or empty.
    pub namespace: &'a str,
    /// The name, or empty.
    pub name: &'a str,
}

/// So many single rights are looked at when rules are compared; roles that say more in one rule are not compared.
const RIGHTS_MAX: usize = 20_000;

fn any(list: &[String], what: &str) -> bool {
    list.iter().any(|entry| entry == "*" || entry == what)
}

/// Whether an entry of `resources` speaks of a resource, or of a subresource of it. A star alone is everything,
/// subresources too; a plural alone is none of its subresources.
fn resource_matches(entry: &str, resource: &str, subresource: &str) -> bool {
    if entry == "*" {
        return true;
    }
    match entry.split_once('/') {
        None => subresource.is_empty() && entry == resource,
        Some((of, sub)) => !subresource.is_empty() && sub == subresource && (of == "*" || of == resource),
    }
}

/// Whether a rule allows what is asked. The namespace is for whoever found the rule to look at.
pub fn allows(rule: &PolicyRule, asked: &Asked<'_>) -> bool {
    any(&rule.verbs, asked.verb)
        && any(&rule.api_groups, asked.group)
        && rule.resources.iter().any(|entry| resource_matches(entry, asked.resource, asked.subresource))
        // Whoever asks about no object in particular asks about all of them.
        && (rule.resource_names.is_empty() || rule.resource_names.iter().any(|name| name == asked.name))
}

/// Whether a rule allows a verb on a path that is no resource.
pub fn allows_path(rule: &PolicyRule, verb: &str, path: &str) -> bool {
    any(&rule.verbs, verb) && rule.non_resource_urls.iter().any(|pattern| path_matches(pattern, path))
}

fn path_matches(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => path.starts_with(beginning),
        None => pattern == path,
    }
}

/// What of a rule is not held by whoever holds these: the single rights, gathered by resource. Empty: all is.
pub fn missing(held: &[PolicyRule], wanted: &PolicyRule) -> Vec<PolicyRule> {
    if held.iter().any(|rule| covers(rule, wanted)) {
        return Vec::new();
    }
    let either = |list: &[String]| list.len().max(1);
    let rights = [&wanted.verbs, &wanted.api_groups, &wanted.resources, &wanted.resource_names]
        .iter()
        .map(|list| either(list))
        .product::<usize>()
        + wanted.non_resource_urls.len() * wanted.verbs.len();
    if rights > RIGHTS_MAX {
        return vec![wanted.clone()];
    }
    // Verbs are gathered again: a rule per resource is what a person can read.
    let without_verbs = in_parts(wanted);
    let parts = without_verbs.into_iter().filter_map(|part| {
        let single = |verb: &String| PolicyRule { verbs: vec![verb.clone()], ..part.clone() };
        let verbs: Vec<String> =
            wanted.verbs.iter().filter(|verb| !held.iter().any(|rule| covers(rule, &single(verb)))).cloned().collect();
        (!verbs.is_empty()).then(|| PolicyRule { verbs, ..part.clone() })
    });
    parts.collect()
}

/// A rule in parts of one group, resource and name each, or of one path; without verbs.
fn in_parts(rule: &PolicyRule) -> Vec<PolicyRule> {
    let mut parts = Vec::new();
    for group in &rule.api_groups {
        for resource in &rule.resources {
            let part =
                PolicyRule { api_groups: vec![group.clone()], resources: vec![resource.clone()], ..Default::default() };
            if rule.resource_names.is_empty() {
                parts.push(part);
                continue;
            }
            parts.extend(
                rule.resource_names
                    .iter()
                    .map(|name| PolicyRule { resource_names: vec![name.clone()], ..part.clone() }),
            );
        }
    }
    parts.extend(
        rule.non_resource_urls
            .iter()
            .map(|url| PolicyRule { non_resource_urls: vec![url.clone()], ..Default::default() }),
    );
    parts
}

/// Whether one rule gives all that another gives.
fn covers(held: &PolicyRule, wanted: &PolicyRule) -> bool {
    let all = |held: &[String], wanted: &[String]| wanted.iter().all(|what| any(held, what));
    let resource = |wanted: &String| {
        held.resources.iter().any(|entry| {
            entry == "*"
                || entry == wanted
                || wanted.split_once('/').is_some_and(|(of, sub)| resource_matches(entry, of, sub))
        })
    };
    let names = held.resource_names.is_empty()
        || !wanted.resource_names.is_empty() && wanted.resource_names.iter().all(|n| held.resource_names.contains(n));
    let url = |wanted: &String| {
        held.non_resource_urls.iter().any(|entry| {
            entry == wanted
                || entry
                    .strip_suffix('*')
                    .is_some_and(|beginning| wanted.strip_suffix('*').unwrap_or(wanted).starts_with(beginning))
        })
    };
    all(&held.verbs, &wanted.verbs)
        && all(&held.api_groups, &wanted.api_groups)
        && wanted.resources.iter().all(resource)
        && (wanted.resources.is_empty() || names)
        && wanted.non_resource_urls.iter().all(url)
}
