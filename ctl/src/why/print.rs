//! A chain as text: a line for what happened, one for the grounds. An edge that is inferred is drawn otherwise than one
//! that is recorded.

use jiff::Timestamp;
use serde_json::Value;
use skiff_client::chain::{Chain, Edge, Link};

use super::effects::{self, OnNode};
use crate::changes;

/// The whole answer.
pub fn text(chain: &Chain, nodes: &[OnNode]) -> String {
    let mut lines = Vec::new();
    let width = chain.links.iter().map(|link| changes::revision_of(&link.write).to_string().len()).max().unwrap_or(0);
    let mut before: Option<Timestamp> = None;
    for link in &chain.links {
        lines.extend(link_lines(link, width, before));
        before = changes::time(&link.write).or(before);
    }
    for node in nodes {
        lines.push(String::new());
        lines.push(format!("on {}:", node.name));
        for effect in &node.effects {
            lines.extend(effect_lines(effect, chain));
        }
    }
    if !chain.notices.is_empty() {
        lines.push(String::new());
        lines.extend(chain.notices.iter().map(|notice| format!("note: {notice}")));
    }
    lines.iter().map(|line| format!("{}\n", line.trim_end())).collect()
}

fn link_lines(link: &Link, width: usize, before: Option<Timestamp>) -> Vec<String> {
    let write = &link.write;
    let cause = write.cause.clone().unwrap_or_default();
    let mut lines = Vec::new();
    if let Some(edge) = link.edge {
        lines.push(format!("{:width$}  {}", "", arrow(edge)));
    }
    let when = match (changes::time(write), before) {
        (Some(time), Some(before)) => after(before, time),
        (Some(time), None) => format!("{time:.3}"),
        (None, _) => "at an unknown time".into(),
    };
    let (verb, called, who) = (changes::verb(write), changes::called(write), changes::who(&cause));
    lines.push(format!("{:>width$}  {who} {verb} {called}, {when}", changes::revision_of(write)));
    let mut grounds = Vec::new();
    if !cause.reconcile_id.is_empty() && !cause.reason.is_empty() {
        grounds.push(format!("because {}", cause.reason));
    }
    if let Some(before) = link.before.as_ref().filter(|_| !write.deleted) {
        grounds.push(changes::summary(Some(&changes::json(before)), write));
    }
    lines.extend(grounds.into_iter().map(|ground| format!("{:width$}    {ground}", "")));
    lines
}

fn arrow(edge: Edge) -> String {
    if edge.is_recorded() { format!("|  {}", edge.word()) } else { format!(":  {}, not recorded", edge.word()) }
}

/// `+8ms`, `+1.250s`, `+2m5s`; with a minus for what was before.
fn after(before: Timestamp, now: Timestamp) -> String {
    let ms = now.as_millisecond() - before.as_millisecond();
    let (sign, ms) = (if ms < 0 { '-' } else { '+' }, ms.abs());
    match ms {
        0..1_000 => format!("{sign}{ms}ms"),
        1_000..60_000 => format!("{sign}{}.{:03}s", ms / 1_000, ms % 1_000),
        _ => format!("{sign}{}", skiff_proto::columns::age::human(ms / 1_000)),
    }
}

fn effect_lines(effect: &Value, chain: &Chain) -> Vec<String> {
    let began = chain.links.first().and_then(|link| changes::time(&link.write));
    let when = match (effects::time(effect), began) {
        (Some(time), Some(began)) => format!("{time:.3}, {}", after(began, time)),
        (Some(time), None) => format!("{time:.3}"),
        (None, _) => String::new(),
    };
    let told = |pointer: &str| effect.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut lines = vec![format!("  {}  {when}", told("/what"))];
    let reason = told("/cause/reason");
    if !reason.is_empty() {
        lines.push(format!("    because {reason}"));
    }
    let woken: Vec<String> =
        effect["cause"]["triggers"].as_array().into_iter().flatten().filter_map(woken_by).collect();
    if !woken.is_empty() {
        lines.push(format!("    woken by {}", woken.join(", ")));
    }
    lines
}

fn woken_by(trigger: &Value) -> Option<String> {
    let object = trigger.get("object")?;
    let text = |field: &str| object[field].as_str().unwrap_or_default();
    Some(format!("{} {}/{} at {}", text("resource"), text("namespace"), text("name"), object["revision"]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::changes::tests::write;
    use serde_json::json;
    use skiff_proto::skiffv1::{Actor, Cause};

    fn object(kind: &str, name: &str, more: Value) -> Value {
        let mut object = json!({"kind": kind, "metadata": {"namespace": "default", "name": name, "uid": name}});
        object.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
        object
    }

    fn cause(user: &str, verb: &str, controller: &str, reason: &str) -> Cause {
        let actor = Actor { user: user.into(), component: "kubectl/v1.33".into(), ..Actor::default() };
        let reconcile = if controller.is_empty() { "" } else { "r" };
        Cause {
            actor: Some(actor),
            verb: verb.into(),
            controller: controller.into(),
            reason: reason.into(),
            reconcile_id: reconcile.into(),
            ..Cause::default()
        }
    }

    #[test]
    fn times_between_are_short() {
        let at = |ms: i64| Timestamp::from_millisecond(ms).unwrap();
        for (ms, expected) in [(0, "+0ms"), (8, "+8ms"), (1_250, "+1.250s"), (150_000, "+2m30s"), (-3_179, "-3.179s")] {
            assert_eq!(after(at(10_000), at(10_000 + ms)), expected);
        }
    }

    #[test]
    fn a_chain_reads_from_the_act_to_the_container() {
        let controllers = "system:kube-controller-manager";
        let link = |edge, write, before| Link { edge, write, before };
        let web = |replicas: u32| object("Deployment", "web", json!({"spec": {"replicas": replicas}}));
        let chain = Chain {
            links: vec![
                link(
                    None,
                    write(web(3), 98, 1_000, cause("alice", "patch", "", "")),
                    Some(write(web(1), 7, 0, Cause::default())),
                ),
                link(
                    Some(Edge::Woke),
                    write(
                        object("ReplicaSet", "web-1", json!({})),
                        101,
                        1_008,
                        cause(controllers, "patch", "deployment", "3 replicas are wanted"),
                    ),
                    None,
                ),
                link(
                    Some(Edge::Owner),
                    write(object("Pod", "web-1-a", json!({})), 102, 2_258, cause("bob", "create", "", "")),
                    None,
                ),
                link(
                    Some(Edge::Computed),
                    write(
                        object("Pod", "web-1-a", json!({})),
                        110,
                        122_258,
                        cause("system:node:n1", "patch status", "pods", "what runs differs"),
                    ),
                    None,
                ),
            ],
            notices: vec!["a file was changed".into()],
        };
        let effect = json!({
            "what": "container app started: 0123",
            "at": "1970-01-01T00:00:01.5Z",
            "cause": {"reason": "it does not run yet", "triggers": [
                {"effect": "an image was pulled"},
                {"object": {"resource": "pods", "namespace": "default", "name": "web-1-a", "revision": 102}},
            ]},
        });
        let nodes = [OnNode { name: "n1".into(), effects: vec![effect] }];
        let expected = "\
\x2098  alice (kubectl/v1.33) changed Deployment default/web, 1970-01-01T00:00:01.000Z
       spec.replicas 1 -> 3
     |  woke
101  deployment controller changed ReplicaSet default/web-1, +8ms
       because 3 replicas are wanted
     :  inferred: owner, not recorded
102  bob (kubectl/v1.33) created Pod default/web-1-a, +1.250s
     |  computed from
110  kubelet of n1 wrote the status of Pod default/web-1-a, +2m
       because what runs differs

on n1:
  container app started: 0123  1970-01-01T00:00:01.500Z, +500ms
    because it does not run yet
    woken by pods default/web-1-a at 102

note: a file was changed
";
        assert_eq!(text(&chain, &nodes), expected);
    }
}
