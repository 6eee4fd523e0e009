//! The evaluator's traps, a table each: what a rule allows, what it covers, who holds what after which changes.

use super::matching::{Asked, allows, allows_path, missing};
use super::{Binding, Index};
use proptest::prelude::*;
use skiff_proto::rbacv1::{PolicyRule, RoleRef, Subject};
use skiff_world::Identity;

fn words(list: &str) -> Vec<String> {
    list.split_whitespace().map(|word| if word == "''" { String::new() } else { word.to_owned() }).collect()
}

/// `verbs | groups | resources | names`, with `''` for the core group.
fn rule(text: &str) -> PolicyRule {
    let mut parts = text.split('|').map(words);
    let mut next = || parts.next().unwrap_or_default();
    let (verbs, api_groups, resources, resource_names) = (next(), next(), next(), next());
    PolicyRule { verbs, api_groups, resources, resource_names, non_resource_urls: next() }
}

/// `verb group:resource/sub name`.
fn asked(text: &str) -> Asked<'_> {
    let mut parts = text.split(' ');
    let (verb, what, name) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap_or_default());
    let (group, resource) = what.split_once(':').unwrap_or(("", what));
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    Asked { verb, group, resource, subresource, namespace: "", name }
}

#[test]
fn what_a_rule_allows() {
    for (text, question, expected) in [
        ("get|''|pods", "get pods a", true),
        ("get|''|pods", "list pods", false),
        ("*|''|pods", "deletecollection pods", true),
        ("get|apps|pods", "get pods a", false),
        ("get|*|deployments", "get apps:deployments a", true),
        // A resource is not its subresources, and a subresource is not its resource.
        ("get|''|pods", "get pods/log a", false),
        ("get|''|pods/log", "get pods/log a", true),
        ("get|''|pods/log", "get pods a", false),
        ("get|''|pods/log", "get nodes/log a", false),
        // A star alone is everything. It does not stand for the subresources of one resource.
        ("get|''|*", "get pods/log a", true),
        ("get|''|pods/*", "get pods/log a", false),
        ("get|''|pods/*", "get pods a", false),
        ("update|*|*/scale", "update apps:deployments/scale web", true),
        ("update|*|*/scale", "update apps:deployments/status web", false),
        ("update|*|*/scale", "update apps:deployments web", false),
        ("update|*|*/", "update apps:deployments web", false),
        // Names narrow; what is made has none yet, and whoever asks for all asks for more than one.
        ("get|''|secrets|a b", "get secrets a", true),
        ("get|''|secrets|a b", "get secrets c", false),
        ("*|''|secrets|a", "list secrets", false),
        ("*|''|secrets|a", "list secrets a", true),
        ("*|''|secrets|a", "create secrets", false),
        ("*|''|secrets|a", "deletecollection secrets", false),
        ("create|''|pods/eviction|a", "create pods/eviction a", true),
        // A star is no name, and no rule about paths is one about resources.
        ("get|''|secrets|*", "get secrets a", false),
        ("*||||/*", "get pods a", false),
        // Nothing is spelt nearly right.
        ("Get|''|pods", "get pods a", false),
        ("get||pods", "get pods a", false),
    ] {
        assert_eq!(allows(&rule(text), &asked(question)), expected, "{text}: {question}");
    }
    for (pattern, path, expected) in [
        ("/healthz", "/healthz", true),
        ("/healthz", "/healthz/ping", false),
        ("/healthz/*", "/healthz", false),
        ("/healthz/*", "/healthz/a/b", true),
        ("/metrics*", "/metrics/scheduler", true),
        ("*", "/anything", true),
        ("/a*b", "/axb", false),
    ] {
        let rule = PolicyRule { verbs: words("get"), non_resource_urls: words(pattern), ..Default::default() };
        assert_eq!(allows_path(&rule, "get", path), expected, "{pattern}: {path}");
        assert!(!allows_path(&rule, "post", path), "{pattern}: the verb counts");
    }
}

#[test]
fn what_is_missing_is_what_no_rule_held_gives() {
    for (held, wanted, lacking) in [
        (&["get list|''|pods"][..], "get|''|pods", &[][..]),
        (&["get|''|pods", "list|''|pods"], "get list|''|pods", &[]),
        (&["get|''|pods"], "get list|''|pods", &["list|''|pods"]),
        (&["get|''|pods", "get|''|secrets|a"], "get|''|pods secrets|a", &[]),
        // One name is not all names, and all names are each of them.
        (&["get|''|secrets|a"], "get|''|secrets", &["get|''|secrets"]),
        (&["get|''|secrets"], "get|''|secrets|a b", &[]),
        (&["get|''|secrets|a"], "get|''|secrets|a b", &["get|''|secrets|b"]),
        // Everything is more than each thing that there is.
        (&["get|''|pods"], "*|''|pods", &["*|''|pods"]),
        (&["*|''|*"], "*|''|pods pods/log", &[]),
        (&["*|apps|*"], "*|*|*", &["*|*|*"]),
        (&["*|''|pods"], "get|''|pods/log", &["get|''|pods/log"]),
        (&["get|*|*/scale"], "get|apps|deployments/scale", &[]),
        (&["get|''|*"], "get|''|*/log", &[]),
        (&["get||||/healthz/*"], "get||||/healthz/a", &[]),
        (&["get||||/healthz/*"], "get||||/*", &["get||||/*"]),
        (&["get|''|*"], "get||||/healthz", &["get||||/healthz"]),
        (&[], "get|''|pods", &["get|''|pods"]),
    ] {
        let held: Vec<PolicyRule> = held.iter().map(|text| rule(text)).collect();
        let lacking: Vec<PolicyRule> = lacking.iter().map(|text| rule(text)).collect();
        assert_eq!(missing(&held, &rule(wanted)), lacking, "{held:?} and {wanted}");
    }
}

#[test]
fn a_rule_that_says_too_much_to_be_compared_is_missing_as_a_whole() {
    let many = |n: usize| (0..n).map(|i| format!("x{i}")).collect::<Vec<_>>();
    let wanted = PolicyRule {
        verbs: many(100),
        api_groups: many(100),
        resources: many(100),
        resource_names: many(100),
        ..Default::default()
    };
    assert_eq!(missing(&[rule("get|''|pods")], &wanted), vec![wanted.clone()]);
    assert_eq!(missing(&[rule("*|*|*")], &wanted), []);
}

fn subject(kind: &str, name: &str) -> Subject {
    let (namespace, name) = name.split_once('/').unwrap_or(("", name));
    Subject { kind: kind.into(), name: name.into(), namespace: namespace.into(), ..Default::default() }
}

fn binding(namespace: &str, name: &str, role: &str, subjects: &[(&str, &str)]) -> Binding {
    let (kind, role) = role.split_once('/').unwrap();
    Binding {
        namespace: namespace.into(),
        name: name.into(),
        role: RoleRef { kind: kind.into(), name: role.into(), ..Default::default() },
        subjects: subjects.iter().map(|(kind, name)| subject(kind, name)).collect(),
    }
}

fn may(index: &Index, user: &str, groups: &[&str], namespace: &str, question: &str) -> Option<String> {
    let asked = Asked { namespace, ..asked(question) };
    index.allows(&Identity::new(user, groups), &asked).map(|bound| bound.to_string())
}

#[test]
fn rights_follow_roles_bindings_and_subjects() {
    let mut index = Index::default();
    index.set_role("", "reader", Some(vec![rule("get list|''|pods")]));
    index.set_role("a", "reader", Some(vec![rule("get|''|secrets")]));
    index.set_binding(binding("a", "one", "ClusterRole/reader", &[("User", "ann"), ("ServiceAccount", "b/robot")]));
    index.set_binding(binding("a", "two", "Role/reader", &[("Group", "dev")]));
    index.set_binding(binding("b", "three", "Role/reader", &[("User", "ann")]));

    let why = may(&index, "ann", &[], "a", "get pods x").expect("bound in a");
    assert_eq!(why, r#"RBAC: allowed by RoleBinding "one/a" of ClusterRole "reader" to User "ann""#);
    let why =
        may(&index, "system:serviceaccount:b:robot", &[], "a", "get pods x").expect("an account of b, bound in a");
    assert_eq!(why, r#"RBAC: allowed by RoleBinding "one/a" of ClusterRole "reader" to ServiceAccount "robot/b""#);
    assert!(may(&index, "x", &["dev"], "a", "get secrets x").is_some());
    for (user, group, namespace, question) in [
        ("ann", "", "b", "get pods x"),
        ("ann", "", "", "list pods"),
        // A Role of the same name elsewhere is another one.
        ("ann", "", "b", "get secrets x"),
        // A user is no group, and no account.
        ("dev", "", "a", "get secrets x"),
        ("robot", "", "a", "get pods x"),
        ("system:serviceaccount:a:robot", "", "a", "get pods x"),
        ("x", "ann", "a", "get pods x"),
    ] {
        assert_eq!(may(&index, user, &[group], namespace, question), None, "{user} {group} {namespace} {question}");
    }
    let words = index.dangling(&Identity::new("ann", &[]), "b");
    assert_eq!(words, [r#"role.rbac.authorization.k8s.io "reader" not found"#]);

    // For all namespaces, and for what lives in none.
    index.set_binding(binding("", "all", "ClusterRole/reader", &[("User", "ann")]));
    let why = may(&index, "ann", &[], "", "list pods").expect("bound everywhere");
    assert_eq!(why, r#"RBAC: allowed by ClusterRoleBinding "all" of ClusterRole "reader" to User "ann""#);
    assert!(may(&index, "ann", &[], "b", "get pods x").is_some());

    // A role that changes, changes for all; one that is gone gives nothing, until it is back.
    index.set_role("", "reader", Some(vec![rule("get|''|nodes")]));
    assert_eq!(may(&index, "ann", &[], "b", "get pods x"), None);
    index.set_role("", "reader", None);
    assert_eq!(may(&index, "ann", &[], "", "get nodes x"), None);
    index.set_role("", "reader", Some(vec![rule("get|''|pods")]));
    assert!(may(&index, "ann", &[], "b", "get pods x").is_some());

    // A binding that names others no longer gives to those before.
    index.set_binding(binding("", "all", "ClusterRole/reader", &[("User", "bob")]));
    assert_eq!(may(&index, "ann", &[], "b", "get pods x"), None);
    assert!(may(&index, "bob", &[], "b", "get pods x").is_some());
    index.drop_binding("", "all");
    assert_eq!(may(&index, "bob", &[], "b", "get pods x"), None);
    assert!(may(&index, "ann", &[], "a", "get pods x").is_some(), "the other binding stays");
}

const NAMES: [&str; 3] = ["x", "y", "z"];

proptest! {
    /// Whatever happens in whatever order, the index says what one made anew from what is there says.
    #[test]
    fn an_index_that_was_changed_is_as_one_made_anew(
        changes in prop::collection::vec((0u8..4, 0usize..3, 0usize..3, 0usize..3, 0usize..3), 0..40)
    ) {
        let scopes = ["", "a", "b"];
        let mut index = Index::default();
        let mut roles = std::collections::BTreeMap::new();
        let mut bindings = std::collections::BTreeMap::new();
        for (what, scope, name, role, user) in changes {
            let (scope, name) = (scopes[scope], NAMES[name]);
            match what {
                0 => {
                    let rules = vec![rule(&format!("get|''|{}", NAMES[role]))];
                    index.set_role(scope, name, Some(rules.clone()));
                    roles.insert((scope, name), rules);
                }
                1 => {
                    index.set_role(scope, name, None);
                    roles.remove(&(scope, name));
                }
                2 => {
                    let kind = if scope.is_empty() || role == 0 { "ClusterRole" } else { "Role" };
                    let subjects = [("User", NAMES[user]), ("Group", NAMES[role])];
                    let made = binding(scope, name, &format!("{kind}/{}", NAMES[role]), &subjects);
                    index.set_binding(made.clone());
                    bindings.insert((scope, name), made);
                }
                _ => {
                    index.drop_binding(scope, name);
                    bindings.remove(&(scope, name));
                }
            }
        }
        let mut anew = Index::default();
        for ((scope, name), rules) in &roles {
            anew.set_role(scope, name, Some(rules.clone()));
        }
        bindings.values().for_each(|binding| anew.set_binding(binding.clone()));
        for user in NAMES {
            for group in NAMES {
                let identity = Identity::new(user, &[group]);
                for scope in scopes {
                    prop_assert_eq!(index.rules(&identity, scope), anew.rules(&identity, scope));
                    prop_assert_eq!(index.dangling(&identity, scope), anew.dangling(&identity, scope));
                }
            }
        }
    }
}
