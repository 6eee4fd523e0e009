//! Which Pods of a node leave, which stay, and which stand in the way.

use clap::Args;
use serde_json::Value;

use crate::columns::{list, name, text};

/// What the user has agreed to.
#[derive(Args, Clone, Debug, Default)]
pub struct Permissions {
    /// DaemonSets' Pods may stay: they would come back at once.
    #[arg(long)]
    pub ignore_daemonsets: bool,
    /// Pods that nothing makes anew may be lost.
    #[arg(long)]
    pub force: bool,
    /// What is in emptyDir volumes may be lost.
    #[arg(long)]
    pub delete_emptydir_data: bool,
}

/// What becomes of a node's Pods.
#[derive(Debug, Default, PartialEq)]
pub struct Plan<'p> {
    /// They go.
    pub leaving: Vec<&'p Value>,
    /// What the user should know of those that go or stay.
    pub warnings: Vec<String>,
    /// Why nothing may go: kinds of Pods, with the flag that would allow it.
    pub refusals: Vec<String>,
}

/// What one Pod is to a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Is {
    Free,
    /// The kubelet's own, from a file on the node.
    Static,
    DaemonSets,
    Unmanaged,
    Holding,
}

impl<'p> Plan<'p> {
    /// Sorts Pods by what they are.
    pub fn of(pods: &'p [Value], allowed: &Permissions) -> Plan<'p> {
        let mut plan = Plan::default();
        let names = |is: Is| -> Vec<String> {
            let these = pods.iter().filter(|p| kinds(p).contains(&is));
            these.map(|p| format!("{}/{}", text(p, "/metadata/namespace"), name(p))).collect()
        };
        let mut judge = |is: Is, allowed: bool, refusal: &str, warning: &str| {
            let names = names(is).join(", ");
            match (names.is_empty(), allowed) {
                (true, _) => {}
                (false, true) => plan.warnings.push(format!("{warning}: {names}")),
                (false, false) => plan.refusals.push(format!("{refusal}: {names}")),
            }
        };
        judge(
            Is::DaemonSets,
            allowed.ignore_daemonsets,
            "DaemonSet-managed Pods (use --ignore-daemonsets to ignore)",
            "ignoring DaemonSet-managed Pods",
        );
        judge(
            Is::Unmanaged,
            allowed.force,
            "Pods that declare no controller, and that nothing would make anew (use --force to override)",
            "deleting Pods that declare no controller",
        );
        judge(
            Is::Holding,
            allowed.delete_emptydir_data,
            "Pods with local storage (use --delete-emptydir-data to override)",
            "deleting Pods with local storage",
        );
        let stays = |pod: &&Value| kinds(pod).iter().any(|k| [Is::Static, Is::DaemonSets].contains(k));
        plan.leaving = pods.iter().filter(|p| !stays(p)).collect();
        plan
    }
}

/// All that a Pod is; nothing stands in the way of one that is only free.
fn kinds(pod: &Value) -> Vec<Is> {
    if !pod["metadata"]["annotations"]["kubernetes.io/config.mirror"].is_null() {
        return vec![Is::Static];
    }
    let owner = list(pod, "/metadata/ownerReferences").iter().find(|o| o["controller"] == true);
    let ended = ["Succeeded", "Failed"].contains(&text(pod, "/status/phase").as_str());
    let leaving = !pod["metadata"]["deletionTimestamp"].is_null();
    if owner.is_some_and(|o| o["kind"] == "DaemonSet") {
        return if ended { vec![Is::Free] } else { vec![Is::DaemonSets] };
    }
    // What has ended, or is on its way, has nothing to lose.
    if ended || leaving {
        return vec![Is::Free];
    }
    let mut is = vec![];
    if owner.is_none() {
        is.push(Is::Unmanaged);
    }
    if list(pod, "/spec/volumes").iter().any(|v| !v["emptyDir"].is_null()) {
        is.push(Is::Holding);
    }
    is
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(name: &str, owner: &str, more: Value) -> Value {
        let owners = if owner.is_empty() { json!([]) } else { json!([{"kind": owner, "controller": true}]) };
        let mut pod =
            json!({"metadata": {"name": name, "namespace": "d", "ownerReferences": owners}, "spec": {}, "status": {}});
        skiff_proto::merge::merge_patch(&mut pod, &more);
        pod
    }

    #[test]
    fn a_pod_goes_stays_or_stands_in_the_way() {
        let empty_dir = json!({"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}});
        let ended = json!({"status": {"phase": "Succeeded"}});
        let mirror = json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}}});
        let none = Permissions::default();
        let force = Permissions { force: true, ..none.clone() };
        let daemons = Permissions { ignore_daemonsets: true, ..none.clone() };
        let data = Permissions { delete_emptydir_data: true, ..none.clone() };
        // (the Pod, what is allowed, goes, a refusal with)
        for (pod, allowed, goes, refusal) in [
            (pod("a", "ReplicaSet", json!({})), &none, true, None),
            (pod("a", "", json!({})), &none, true, Some("--force")),
            (pod("a", "", json!({})), &force, true, None),
            (pod("a", "", ended.clone()), &none, true, None),
            (pod("a", "DaemonSet", json!({})), &none, false, Some("--ignore-daemonsets")),
            (pod("a", "DaemonSet", json!({})), &daemons, false, None),
            (pod("a", "DaemonSet", ended), &none, true, None),
            (pod("a", "ReplicaSet", empty_dir.clone()), &none, true, Some("--delete-emptydir-data")),
            (pod("a", "ReplicaSet", empty_dir), &data, true, None),
            (pod("a", "", mirror), &none, false, None),
        ] {
            let pods = [pod];
            let plan = Plan::of(&pods, allowed);
            let what = format!("{} with {allowed:?}: {plan:?}", pods[0]);
            assert_eq!(plan.leaving.len() == 1, goes, "{what}");
            assert_eq!(plan.refusals.len(), refusal.iter().len(), "{what}");
            if let Some(flag) = refusal {
                assert!(plan.refusals[0].contains(flag) && plan.refusals[0].contains("d/a"), "{what}");
            }
        }
    }

    #[test]
    fn all_that_stands_in_the_way_is_said_at_once() {
        let holding = pod("b", "", json!({"spec": {"volumes": [{"emptyDir": {}}]}}));
        let pods = [pod("a", "DaemonSet", json!({})), holding, pod("c", "", json!({}))];
        let plan = Plan::of(&pods, &Permissions::default());
        assert_eq!(plan.refusals.len(), 3);
        assert!(plan.refusals[1].ends_with(": d/b, d/c"), "{:?}", plan.refusals);
    }
}
