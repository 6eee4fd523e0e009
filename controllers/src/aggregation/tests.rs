//! Sums: what they are made of, and what wakes them.

use std::sync::Arc;

use skiff_client::{Change, WorkQueue};
use skiff_proto::metav1::LabelSelector;
use skiff_proto::rbacv1::{AggregationRule, ClusterRole, PolicyRule};
use skiff_proto::skiffv1::ObjectRef;
use skiff_world::sim::{Sim, Simulation};

use super::plan::{Action, Observed, plan, selects};

fn rule(resource: &str) -> PolicyRule {
    PolicyRule {
        verbs: vec!["get".into()],
        api_groups: vec![String::new()],
        resources: vec![resource.into()],
        ..PolicyRule::default()
    }
}

/// A role with labels `KEY=VALUE` and rules about resources.
fn role(name: &str, labels: &[&str], resources: &[&str]) -> ClusterRole {
    let mut role = ClusterRole { rules: resources.iter().map(|r| rule(r)).collect(), ..ClusterRole::default() };
    role.metadata.name = name.into();
    role.metadata.resource_version = "7".into();
    role.metadata.labels.extend(labels.iter().filter_map(|l| l.split_once('=')).map(|(k, v)| (k.into(), v.into())));
    role
}

fn sum(of: &[&str], resources: &[&str]) -> ClusterRole {
    let selector = |label: &&str| {
        let (key, value) = label.split_once('=').unwrap();
        LabelSelector { match_labels: [(key.to_owned(), value.to_owned())].into(), ..LabelSelector::default() }
    };
    let cluster_role_selectors = of.iter().map(selector).collect();
    let mut sum = role("sum", &[], resources);
    sum.aggregation_rule = Some(Box::new(AggregationRule { cluster_role_selectors }));
    sum
}

fn planned(sum: ClusterRole, parts: &[ClusterRole]) -> Option<Vec<String>> {
    let parts = parts.iter().cloned().map(Arc::new).collect();
    let step = plan(&Observed { sum: Arc::new(sum), parts }).steps.pop()?;
    let Action::WriteRules { rules, onto } = step.action;
    assert_eq!(onto, "7", "it is written onto what was read");
    Some(rules.into_iter().flat_map(|rule| rule.resources).collect())
}

#[test]
fn a_sum_has_the_rules_of_its_parts_once_and_no_others() {
    let parts = [role("a", &[], &["pods", "nodes"]), role("b", &[], &["pods", "secrets"])];
    let all = Some(["pods", "nodes", "secrets"].map(String::from).to_vec());
    assert_eq!(planned(sum(&["x=y"], &[]), &parts), all);
    assert_eq!(planned(sum(&["x=y"], &["widgets"]), &parts), all, "what it had of its own goes");
    assert_eq!(planned(sum(&["x=y"], &["pods", "nodes", "secrets"]), &parts), None, "it is so already");
    assert_eq!(planned(sum(&["x=y"], &["pods"]), &[]), Some(vec![]), "the last part is gone");
    assert_eq!(planned(role("plain", &[], &["pods"]), &parts), None, "a plain role is left alone");
}

#[test]
fn any_selector_takes_a_part_in() {
    let sum = sum(&["to-edit=true", "to-view=true"], &[]);
    for (labels, expected) in
        [(&["to-view=true"][..], true), (&["to-edit=true", "x=y"], true), (&["to-view=false"], false), (&[], false)]
    {
        assert_eq!(selects(&sum, &role("a", labels, &[]).metadata.labels), expected, "{labels:?}");
    }
    assert!(!selects(&role("plain", &[], &[]), &role("a", &["to-view=true"], &[]).metadata.labels));
}

fn change(old: Option<ClusterRole>, new: Option<ClusterRole>) -> Change<ClusterRole> {
    let name = old.as_ref().or(new.as_ref()).unwrap().metadata.name.clone();
    let object = ObjectRef { name, ..ObjectRef::default() };
    Change { object, old: old.map(Arc::new), new: new.map(Arc::new) }
}

#[test]
fn a_change_wakes_the_sums_that_it_concerns_before_or_now() {
    Simulation::new(1).run(|sim: Sim| async move {
        let world = sim.machine("m").world("controllers", None);
        let sums = super::Sums::default();
        let woken = |old: Option<ClusterRole>, new: Option<ClusterRole>| {
            let queue = WorkQueue::new(&world, "sums");
            super::role_changed(&queue, &sums, &change(old, new));
            queue.depth()
        };
        let part = |labels: &[&str]| Some(role("part", labels, &["pods"]));
        assert_eq!(woken(None, Some(sum(&["to-view=true"], &[]))), 1, "itself");
        assert_eq!(woken(None, part(&["to-view=true"])), 1);
        assert_eq!(woken(part(&["to-view=true"]), part(&[])), 1, "it leaves");
        assert_eq!(woken(part(&[]), part(&["to-edit=true"])), 0, "it is part of nothing");
        assert_eq!(woken(part(&["to-view=true"]), None), 1, "it is gone");
        assert_eq!(woken(Some(sum(&["to-view=true"], &[])), None), 0, "the sum is gone");
        assert_eq!(woken(None, part(&["to-view=true"])), 0, "and is woken no more");
    });
}
