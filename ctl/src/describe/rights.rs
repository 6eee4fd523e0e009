//! The sheets of roles and bindings: what may be done, and by whom, as kubectl shows it.

use serde_json::Value;

use super::{Sheet, head, labels_and_annotations};
use crate::columns::{list, text};
use crate::table::Table;

/// A Role or ClusterRole.
pub fn role(sheet: &mut Sheet, o: &Value) {
    head(sheet, o);
    labels_and_annotations(sheet, o);
    sheet.title(0, "PolicyRule");
    for line in table(list(o, "/rules")).render(true).lines() {
        sheet.text(1, line);
    }
}

/// A RoleBinding or ClusterRoleBinding.
pub fn binding(sheet: &mut Sheet, o: &Value) {
    head(sheet, o);
    labels_and_annotations(sheet, o);
    sheet.title(0, "Role");
    sheet.put(1, "Kind", text(o, "/roleRef/kind"));
    sheet.put(1, "Name", text(o, "/roleRef/name"));
    sheet.title(0, "Subjects");
    let mut table = Table::plain(["Kind", "Name", "Namespace"]);
    for subject in list(o, "/subjects") {
        table.row([text(subject, "/kind"), text(subject, "/name"), text(subject, "/namespace")]);
    }
    for line in table.render(true).lines() {
        sheet.text(1, line);
    }
}

/// Rules, one line for each resource and path.
pub fn table(rules: &[Value]) -> Table {
    let mut table = Table::plain(["Resources", "Non-Resource URLs", "Resource Names", "Verbs"]);
    for rule in rules {
        let words = |field: &str| list(rule, field).iter().filter_map(Value::as_str).collect::<Vec<_>>();
        let (names, verbs) = (bracketed(&words("/resourceNames")), bracketed(&words("/verbs")));
        for group in words("/apiGroups") {
            for resource in words("/resources") {
                table.row([qualified(resource, group), "[]".into(), names.clone(), verbs.clone()]);
            }
        }
        for url in words("/nonResourceURLs") {
            table.row([String::new(), bracketed(&[url]), "[]".into(), verbs.clone()]);
        }
    }
    table
}

fn bracketed(words: &[&str]) -> String {
    format!("[{}]", words.join(" "))
}

/// `deployments.apps/scale`: the group belongs to the resource.
fn qualified(resource: &str, group: &str) -> String {
    match (group, resource.split_once('/')) {
        ("", _) => resource.to_owned(),
        (group, Some((resource, subresource))) => format!("{resource}.{group}/{subresource}"),
        (group, None) => format!("{resource}.{group}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_role_reads_as_kubectl_prints_it() {
        let object = json!({
            "kind": "ClusterRole",
            "metadata": {"name": "r"},
            "rules": [
                {"verbs": ["get", "list"], "apiGroups": ["apps"], "resources": ["deployments/scale", "replicasets"]},
                {"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["a", "b"]},
                {"verbs": ["get"], "nonResourceURLs": ["/metrics"]},
            ],
        });
        let mut sheet = Sheet::default();
        role(&mut sheet, &object);
        let expected = "\
Name:         r
Labels:       <none>
Annotations:  <none>
PolicyRule:
  Resources                Non-Resource URLs   Resource Names   Verbs
  deployments.apps/scale   []                  []               [get list]
  replicasets.apps         []                  []               [get list]
  secrets                  []                  [a b]            [get]
                           [/metrics]          []               [get]
";
        assert_eq!(sheet.render(), expected);
    }

    #[test]
    fn a_binding_says_who_gets_what() {
        let object = json!({
            "metadata": {"name": "b", "namespace": "default"},
            "roleRef": {"kind": "ClusterRole", "name": "view"},
            "subjects": [
                {"kind": "User", "name": "ann"},
                {"kind": "ServiceAccount", "name": "robot", "namespace": "ci"},
            ],
        });
        let mut sheet = Sheet::default();
        binding(&mut sheet, &object);
        let expected = "\
Name:         b
Namespace:    default
Labels:       <none>
Annotations:  <none>
Role:
  Kind:  ClusterRole
  Name:  view
Subjects:
  Kind             Name    Namespace
  User             ann
  ServiceAccount   robot   ci
";
        assert_eq!(sheet.render(), expected);
    }
}
