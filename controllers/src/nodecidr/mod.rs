//! Pod addresses: every node gets its own part of the cluster's.

pub mod plan;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use ipnet::Ipv4Net;
use serde_json::json;
use skiff_client::driver::{Plan, Reconciler};
use skiff_client::{ActError, Api, Change, Client, EventRecorder, Patch, WorkQueue};
use skiff_proto::corev1::{Node, ObjectReference};

use crate::caches::Caches;
use crate::nodes::NodeView;
use plan::{Action, Observed};

/// The one key there is.
pub const ALL_NODES: &str = "all-nodes";

/// Gives every node its podCIDR.
pub struct Controller {
    caches: Caches,
    client: Client,
    events: EventRecorder,
    cluster: Ipv4Net,
    mask: u8,
    /// What was tried to be given, until the caches show it: a write whose answer got lost may have happened.
    promised: Mutex<BTreeMap<String, Ipv4Net>>,
}

impl Controller {
    /// Gives away `cluster` in parts of the size `mask`.
    pub fn new(caches: Caches, client: Client, events: EventRecorder, cluster: Ipv4Net, mask: u8) -> Controller {
        Controller { caches, client, events, cluster, mask, promised: Mutex::default() }
    }
}

impl Reconciler for Controller {
    type Key = String;
    type Observed = Observed;
    type Action = Action;
    const NAME: &'static str = "node-cidr";

    fn observe(&self, _: &String) -> Option<Observed> {
        let all = self.caches.nodes.snapshot();
        let nodes: Vec<_> = all.values().map(|held| (held.value.clone(), held.revision)).collect();
        let mut promised = self.promised.lock().unwrap_or_else(PoisonError::into_inner);
        promised.retain(|uid, _| nodes.iter().any(|(n, _)| &n.uid == uid && n.pod_cidr.is_empty()));
        Some(Observed { cluster: self.cluster, mask: self.mask, nodes, promised: promised.clone() })
    }

    fn plan(&self, observed: &Observed, _: jiff::Timestamp) -> Plan<Action> {
        plan::plan(observed)
    }

    async fn act(&self, _: &String, action: &Action) -> Result<(), ActError> {
        match action {
            Action::Assign { node, uid, revision, cidr } => {
                self.promised.lock().unwrap_or_else(PoisonError::into_inner).insert(uid.clone(), *cidr);
                let cidr = cidr.to_string();
                let patch = json!({
                    "metadata": { "uid": uid, "resourceVersion": revision.to_string() },
                    "spec": { "podCIDR": cidr, "podCIDRs": [cidr] },
                });
                Api::<Node>::new(&self.client).patch("", node, Patch::Merge(patch), None).await?;
            }
            Action::Exhausted { node, uid } => {
                let about = ObjectReference {
                    api_version: "v1".into(),
                    kind: "Node".into(),
                    name: node.clone(),
                    uid: uid.clone(),
                    ..ObjectReference::default()
                };
                let message = format!("Node {node} gets no pod addresses: all of {} is taken", self.cluster);
                self.events.record(&about, "Warning", "CIDRNotAvailable", &message);
            }
        }
        Ok(())
    }
}

/// A Node came, went, or has other addresses.
pub fn node_changed(queue: &WorkQueue<String>, change: &Change<NodeView>) {
    let part = |node: &Option<std::sync::Arc<NodeView>>| node.as_ref().map(|n| n.pod_cidr.clone());
    let is_without = change.new.as_ref().is_some_and(|n| n.pod_cidr.is_empty());
    if is_without || part(&change.old) != part(&change.new) {
        queue.add(ALL_NODES.into(), change.trigger());
    }
}
