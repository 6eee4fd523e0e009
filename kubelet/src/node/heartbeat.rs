//! The heartbeat: the node's Lease, renewed every ten seconds, and its status. A Lease costs a fraction of a status
//! write, so the status is only written when it changes, and every five minutes.

use std::sync::Arc;
use std::time::Duration;

use skiff_client::{Api, Client, Error};
use skiff_proto::coordinationv1::{Lease, LeaseSpec};
use skiff_proto::corev1::Node;
use skiff_proto::metav1::{MicroTime, ObjectMeta, OwnerReference};
use skiff_world::mutants::{Mutant, is_awake};

use super::object::{self, Facts, Health};
use crate::network::NodeNetwork;
use crate::pods::Pods;

/// Where node Leases are.
pub const NAMESPACE: &str = "kube-node-lease";
const RENEW: Duration = Duration::from_secs(10);
const LEASE_SECONDS: i32 = 40;
const STATUS_EVERY: Duration = Duration::from_secs(300);
const RETRY: Duration = Duration::from_secs(2);
/// How often the engine is asked how it is, while the node is ready; otherwise after [`RETRY`], as Pods wait for it.
const CHECK: Duration = Duration::from_secs(10);

/// Renews the Lease for ever. Each renewal is an update of the version that was last seen.
pub async fn renew_lease(pods: Arc<Pods>, client: Client, node_name: String) {
    let api = Api::<Lease>::new(&client);
    let world = pods.shared.world.clone();
    let mut held: Option<Lease> = None;
    loop {
        let now = MicroTime::from(world.wall());
        let wait = match renew(&api, &node_name, held.take(), now, &client).await {
            Ok(lease) => {
                held = Some(lease);
                RENEW
            }
            Err(error) => {
                tracing::warn!(%error, "cannot renew the node's Lease");
                RETRY
            }
        };
        world.sleep(wait).await;
    }
}

async fn renew(
    api: &Api<Lease>,
    name: &str,
    held: Option<Lease>,
    now: MicroTime,
    client: &Client,
) -> Result<Lease, Error> {
    let held = match held {
        Some(held) => Some(held),
        None => api.get_opt(NAMESPACE, name).await?,
    };
    match held {
        Some(mut lease) => {
            lease.spec.renew_time = Some(now);
            api.update(&lease).await
        }
        None => api.create(&new_lease(name, now, client).await?).await,
    }
}

async fn new_lease(name: &str, now: MicroTime, client: &Client) -> Result<Lease, Error> {
    let node = Api::<Node>::new(client).get("", name).await?;
    let owner = OwnerReference {
        api_version: "v1".into(),
        kind: "Node".into(),
        name: name.to_string(),
        uid: node.metadata.uid,
        ..OwnerReference::default()
    };
    let metadata = ObjectMeta {
        name: name.to_string(),
        namespace: NAMESPACE.to_string(),
        owner_references: vec![owner],
        ..ObjectMeta::default()
    };
    let spec = LeaseSpec {
        holder_identity: Some(name.to_string()),
        lease_duration_seconds: Some(LEASE_SECONDS),
        renew_time: Some(now),
        ..LeaseSpec::default()
    };
    Ok(Lease { metadata, spec })
}

/// Keeps the Node object true for ever: registers it, and writes its status.
pub async fn keep_status(pods: Arc<Pods>, client: Client, mut facts: Facts) {
    let api = Api::<Node>::new(&client);
    let world = pods.shared.world.clone();
    let mut written_at = None;
    loop {
        let every = if is_awake(Mutant::ChattyNode) { CHECK } else { STATUS_EVERY };
        let due = written_at.is_none_or(|at| world.now().saturating_duration_since(at) >= every);
        let wait = match sync(&api, &pods, &mut facts, due).await {
            Ok(synced) => {
                if synced.wrote {
                    written_at = Some(world.now());
                }
                if synced.ready { CHECK } else { RETRY }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot keep the Node object up to date");
                RETRY
            }
        };
        // Woken early when the object changes: the Pod CIDR may have come.
        let _ = tokio::time::timeout(wait, pods.node_changed.notified()).await;
    }
}

struct Synced {
    /// The status was written.
    wrote: bool,
    ready: bool,
}

async fn sync(api: &Api<Node>, pods: &Pods, facts: &mut Facts, due: bool) -> Result<Synced, Error> {
    let node = object::register(api, facts).await?;
    let health = health(pods, &node, facts).await;
    let status = object::node_status(facts, &node.status, &health, pods.shared.world.wall());
    let write = due || object::differs(&node.status, &status);
    let node = if write { object::publish(api, &node, &status).await? } else { node };
    pods.set_node(Arc::new(node));
    Ok(Synced { wrote: write, ready: matches!(health, Health::Ready) })
}

/// Is the engine well, has the node its network?
async fn health(pods: &Pods, node: &Node, facts: &mut Facts) -> Health {
    match pods.shared.runtime.info().await {
        Ok(info) => facts.machine = object::with_runtime(&facts.machine, &info),
        Err(error) => {
            return Health::NotReady { reason: "ContainerRuntimeIsDown", message: error.to_string() };
        }
    }
    let Some(network) = network_of(node, facts) else {
        let message = "the node has no Pod CIDR yet; the node controller assigns it".to_string();
        return Health::NotReady { reason: "NetworkNotReady", message };
    };
    match pods.shared.network.start(&network).await {
        Ok(()) => Health::Ready,
        Err(error) => Health::NotReady { reason: "NetworkNotReady", message: error.to_string() },
    }
}

/// The node's network, once the cluster has given it one.
pub fn network_of(node: &Node, facts: &Facts) -> Option<NodeNetwork> {
    let pod_cidr = node.spec.pod_cidr.parse().ok()?;
    Some(NodeNetwork { pod_cidr, node_ip: facts.address })
}
