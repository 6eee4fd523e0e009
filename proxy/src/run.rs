//! The proxy as a component: informers, the queue with its single key, and the reconciler.
//!
//! There is one key for a whole node, since one restore can carry any number of Services and each has its price.
//! Which Services changed meanwhile is kept beside the queue, so the work is still in proportion to the change.

use std::collections::BTreeMap;
use std::fmt;
use std::mem;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ipnet::Ipv4Net;
use skiff_client::{
    ActError, Change, Client, Controls, Informer, ListOptions, ObjectKey, Plan, Project, Reconciler, Store, Trigger,
    TriggerSet, WorkQueue, driver, tunnel,
};
use skiff_proto::corev1::Service;
use skiff_proto::discoveryv1::EndpointSlice;
use skiff_proto::skiffv1::Hello;
use skiff_world::World;

use crate::apply::RuleApplier;
use crate::metrics::{Metrics, Sizes};
use crate::rules::Facts;
use crate::services::{self, ServiceName, ServiceSpec, SliceSpec};
use crate::sync::{Action, Observed, Tables, plan};

/// Slices are found by `namespace/name` of their Service.
const BY_SERVICE: &str = "service";
/// Whatever fails is tried again after this long at most: while it fails, Services lead to where they led before.
const RETRY: Duration = Duration::from_secs(10);

/// How a node's proxy is set up.
#[derive(Clone)]
pub struct Options {
    /// The cluster's name: chains are named after it.
    pub cluster: String,
    /// This node's name.
    pub node_name: String,
    /// Where all Pods of the cluster are.
    pub cluster_cidr: Ipv4Net,
    /// Where this node's Pods are, if known.
    pub pod_cidr: Option<Ipv4Net>,
    /// On which of this node's addresses NodePorts answer; empty: on all but loopback.
    pub node_port_addresses: Vec<Ipv4Net>,
    /// How rules get into the tables.
    pub applier: Arc<dyn RuleApplier>,
    /// How often to look whether somebody tampered with the tables, at most.
    pub check_every: Duration,
    /// Where what it did is kept beyond its own life; none: in memory.
    pub effects_file: Option<PathBuf>,
    /// Where gates, queues and measurements are seen.
    pub controls: Controls,
}

impl Options {
    /// What a node needs to say; the rest as usual.
    pub fn new(cluster: &str, node_name: &str, cluster_cidr: Ipv4Net, applier: Arc<dyn RuleApplier>) -> Options {
        Options {
            cluster: cluster.to_owned(),
            node_name: node_name.to_owned(),
            cluster_cidr,
            pod_cidr: None,
            node_port_addresses: Vec::new(),
            applier,
            check_every: Duration::from_secs(30),
            effects_file: None,
            controls: Controls::new(),
        }
    }
}

/// The one key: this node's rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rules;

impl fmt::Display for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("rules")
    }
}

struct ServiceProjection;

impl Project<Service> for ServiceProjection {
    type Out = ServiceSpec;
    fn project(service: &Service) -> ServiceSpec {
        services::project_service(service)
    }
}

struct SliceProjection;

impl Project<EndpointSlice> for SliceProjection {
    type Out = SliceSpec;
    fn project(slice: &EndpointSlice) -> SliceSpec {
        services::project_slice(slice)
    }
}

/// Which Services have changed since they were last looked at, with the writes that changed them.
#[derive(Default)]
struct Dirty {
    changed: Mutex<Changed>,
    metrics: Metrics,
}

type Changed = BTreeMap<ServiceName, TriggerSet>;

impl Dirty {
    fn add(&self, name: ServiceName, trigger: Trigger) {
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        changed.entry(name).or_default().note(trigger);
    }

    fn take(&self) -> Changed {
        mem::take(&mut self.changed.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct Proxy {
    node_name: String,
    services: Store<ServiceSpec>,
    slices: Store<SliceSpec>,
    dirty: Arc<Dirty>,
    tables: Tables,
    queue: WorkQueue<Rules>,
}

/// Runs a node's proxy until its world is stopped. Rules stay when it ends: connections go on without it.
pub async fn run(world: World, client: Client, options: Options) {
    if let Some(file) = &options.effects_file {
        options.controls.effects().keep_in(&world, file);
    }
    let hello = Hello { component: "proxy".into(), node: options.node_name.clone(), instance: world.uuid() };
    options.controls.expose(&world, &client);
    let inspect = Arc::new(tunnel::Inspect { controls: options.controls.clone() });
    let (tunnel_world, tunnel_client) = (world.clone(), client.clone());
    world.spawn("tunnel", async move { tunnel::serve(&tunnel_world, &tunnel_client, hello, inspect).await });
    let queue: WorkQueue<Rules> = options.controls.queue(&world, Proxy::NAME);
    let metrics = Metrics::new(&options.controls);
    let dirty = Arc::new(Dirty { metrics: metrics.clone(), ..Dirty::default() });
    let services = watch_services(&world, &client, &dirty, &queue);
    let slices = watch_slices(&world, &client, &dirty, &queue);
    // Rules made from half of what there is would cut off the other half.
    services.synced().await;
    slices.synced().await;
    let facts = Facts {
        cluster: options.cluster,
        node: options.node_name.clone(),
        cluster_cidr: options.cluster_cidr,
        pod_cidr: options.pod_cidr,
        node_port_addresses: options.node_port_addresses,
    };
    let tables =
        Tables::new(&world, options.applier, facts, options.check_every).with_effects(options.controls.effects());
    let tables = tables.with_metrics(metrics);
    queue.add(Rules, Trigger::Start("the proxy started".to_owned()));
    let gate = options.controls.gate(Proxy::NAME);
    let proxy = Arc::new(Proxy { node_name: options.node_name, services, slices, dirty, tables, queue: queue.clone() });
    let sized = Arc::downgrade(&proxy);
    let sizes = Sizes(move || Some(sized.upgrade()?.tables.sizes()));
    options.controls.register(|registry| registry.register_collector(Box::new(sizes)));
    driver::run(world, proxy, queue, gate, 1).await;
}

fn watch_services(world: &World, client: &Client, dirty: &Arc<Dirty>, queue: &WorkQueue<Rules>) -> Store<ServiceSpec> {
    let (dirty, queue) = (dirty.clone(), queue.clone());
    let handler = move |change| service_changed(&dirty, &queue, &change);
    Informer::<Service, ServiceProjection>::start(world, client, "", ListOptions::default(), handler)
}

fn watch_slices(world: &World, client: &Client, dirty: &Arc<Dirty>, queue: &WorkQueue<Rules>) -> Store<SliceSpec> {
    let (dirty, queue) = (dirty.clone(), queue.clone());
    let handler = move |change| slice_changed(&dirty, &queue, &change);
    Informer::<EndpointSlice, SliceProjection>::of(client).index(BY_SERVICE, service_of).run(world, handler)
}

/// The Service that a slice belongs to, as the index has it.
fn service_of(key: &ObjectKey, slice: &SliceSpec) -> Vec<String> {
    match slice.service.as_str() {
        "" => Vec::new(),
        name => vec![format!("{}/{name}", key.namespace)],
    }
}

fn service_changed(dirty: &Dirty, queue: &WorkQueue<Rules>, change: &Change<ServiceSpec>) {
    let key = change.key();
    if let Some(spec) = &change.new
        && change.old.as_ref().is_none_or(|old| old.refused != spec.refused)
    {
        for words in &spec.refused {
            tracing::warn!(service = %key, "not served: {words}");
        }
    }
    dirty.metrics.service_changed();
    dirty.add(ServiceName::new(key.namespace, key.name), change.trigger());
    queue.add(Rules, change.trigger());
}

/// A slice can move from one Service to another: both are affected.
fn slice_changed(dirty: &Dirty, queue: &WorkQueue<Rules>, change: &Change<SliceSpec>) {
    dirty.metrics.endpoints_changed();
    let namespace = change.object.namespace.as_str();
    for slice in [&change.old, &change.new].into_iter().flatten() {
        if !slice.service.is_empty() {
            dirty.add(ServiceName::new(namespace, slice.service.as_str()), change.trigger());
        }
    }
    queue.add(Rules, change.trigger());
}

impl Proxy {
    /// Brings the model up to date with the Services that changed.
    fn refresh(&self) {
        for (name, woken) in self.dirty.take() {
            let key = ObjectKey::new(name.namespace.as_str(), name.name.as_str());
            let view = self.services.get(&key).map(|spec| {
                let slices = self.slices.by_index(BY_SERVICE, &name.to_string());
                services::view(&name, &spec, slices.iter().map(|slice| &**slice), &self.node_name)
            });
            if self.tables.set(&name, view) {
                self.tables.because(name, woken);
            }
        }
    }
}

impl Reconciler for Proxy {
    type Key = Rules;
    type Observed = Observed;
    type Action = Action;
    const NAME: &'static str = "proxy";

    fn observe(&self, _: &Rules) -> Option<Observed> {
        self.refresh();
        Some(self.tables.observe())
    }

    fn plan(&self, observed: &Observed, _: jiff::Timestamp) -> Plan<Action> {
        plan(observed)
    }

    async fn act(&self, _: &Rules, action: &Action) -> Result<(), ActError> {
        let result = self.tables.act(action).await;
        if result.is_err() {
            self.queue.add_after(Rules, Trigger::Timer("the last attempt failed".to_owned()), RETRY);
        }
        result.map_err(ActError::failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::FakeApplier;
    use crate::packet::{From, Node, Packet};
    use crate::services::{Endpoint, Protocol, ServicePort, SlicePort};
    use skiff_client::effects::{Effect, Effects};
    use skiff_client::{Gate, Held, Resource};
    use skiff_proto::skiffv1::trigger::What;

    /// A proxy whose stores are filled by the test.
    struct Setup {
        proxy: Arc<Proxy>,
        applier: Arc<FakeApplier>,
        effects: Effects,
        world: World,
        revision: u64,
    }

    impl Setup {
        fn new() -> Setup {
            let world = World::real("test");
            let applier = Arc::new(FakeApplier::default());
            let effects = Effects::default();
            let facts = Facts {
                cluster: "skiff".into(),
                node: "n1".into(),
                cluster_cidr: "10.244.0.0/16".parse().expect("a network"),
                pod_cidr: None,
                node_port_addresses: Vec::new(),
            };
            let proxy = Proxy {
                node_name: "n1".into(),
                services: Store::detached(Resource::of::<Service>(), Vec::new()),
                slices: Store::detached(
                    Resource::of::<EndpointSlice>(),
                    vec![(BY_SERVICE.to_owned(), Arc::new(service_of))],
                ),
                dirty: Arc::default(),
                tables: Tables::new(&world, applier.clone(), facts, Duration::from_secs(30))
                    .with_effects(effects.clone()),
                queue: WorkQueue::new(&world, "proxy"),
            };
            Setup { proxy: Arc::new(proxy), applier, effects, world, revision: 0 }
        }

        fn held<O>(&mut self, value: O) -> Held<O> {
            self.revision += 1;
            Held { uid: "uid".into(), revision: self.revision, value: Arc::new(value) }
        }

        fn put_service(&mut self, last: u8) {
            let port = ServicePort { name: "http".into(), protocol: Protocol::Tcp, port: 80, node_port: None };
            let spec =
                ServiceSpec { cluster_ip: Some([10, 96, 0, last].into()), ports: vec![port], ..Default::default() };
            let held = self.held(spec);
            for change in self.proxy.services.put(ObjectKey::new("default", format!("s{last}")), held) {
                service_changed(&self.proxy.dirty, &self.proxy.queue, &change);
            }
        }

        fn put_slice(&mut self, name: &str, service: u8, pods: &[u8]) {
            let endpoints = pods.iter().map(|last| Endpoint {
                address: [10, 244, 0, *last].into(),
                ready: true,
                serving: true,
                terminating: false,
                node: "n1".into(),
            });
            let ports = vec![SlicePort { name: "http".into(), protocol: Protocol::Tcp, port: 8080 }];
            let slice = SliceSpec { service: format!("s{service}"), ports, endpoints: endpoints.collect() };
            let held = self.held(slice);
            for change in self.proxy.slices.put(ObjectKey::new("default", name), held) {
                slice_changed(&self.proxy.dirty, &self.proxy.queue, &change);
            }
        }

        /// Lets the driver work for a while, of time that passes at once.
        async fn work(&self, time: Duration) {
            let queue = self.proxy.queue.clone();
            let driver = driver::run(self.world.clone(), self.proxy.clone(), queue, Gate::new("proxy"), 1);
            tokio::select! {
                biased;
                () = driver => {}
                () = self.world.sleep(time) => {}
            }
        }

        /// What was told: the Service, what became of it, and the revisions that made it so.
        fn told(&self) -> Vec<String> {
            let line = |effect: Effect| {
                let woken = effect.cause.triggers.into_iter().filter_map(|trigger| match trigger.what? {
                    What::Object(object) => Some(object.revision),
                    _ => None,
                });
                let what = effect.what.split(':').next().unwrap_or_default().to_owned();
                format!("{} {what} {:?}", effect.object.name, woken.collect::<Vec<_>>())
            };
            self.effects.all().into_iter().map(line).collect()
        }

        /// Where a Service's packets go.
        fn reached(&self, last: u8) -> Vec<String> {
            let node = Node::new(&self.applier.tables(), &[]).expect("our own rules");
            let packet = Packet {
                from: From::Link,
                source: [10, 244, 7, 7].into(),
                destination: [10, 96, 0, last].into(),
                port: 80,
                protocol: Protocol::Tcp,
            };
            let mut ends: Vec<_> =
                node.walk(&packet).iter().map(|(_, end)| format!("{:?} {}", end.verdict, end.to)).collect();
            ends.sort();
            ends
        }
    }

    #[tokio::test(start_paused = true)]
    async fn rules_follow_services_and_slices() {
        let mut setup = Setup::new();
        setup.put_service(1);
        setup.work(Duration::from_secs(1)).await;
        assert_eq!(setup.reached(1), ["Rejected 10.96.0.1:80"]);
        setup.put_slice("a", 1, &[2]);
        setup.put_slice("b", 1, &[3]);
        setup.work(Duration::from_secs(1)).await;
        assert_eq!(setup.reached(1), ["Delivered 10.244.0.2:8080", "Delivered 10.244.0.3:8080"]);
        // A slice changes its Service.
        setup.put_service(2);
        setup.put_slice("b", 2, &[3]);
        setup.work(Duration::from_secs(1)).await;
        assert_eq!(setup.reached(1), ["Delivered 10.244.0.2:8080"]);
        assert_eq!(setup.reached(2), ["Delivered 10.244.0.3:8080"]);
        let change = setup.proxy.services.remove(&ObjectKey::new("default", "s1"), 100).expect("it was there");
        service_changed(&setup.proxy.dirty, &setup.proxy.queue, &change);
        setup.work(Duration::from_secs(1)).await;
        assert_eq!(setup.reached(1), ["Delivered 10.96.0.1:80"]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_reached_the_kernel_is_told_once_with_what_changed_it() {
        let mut setup = Setup::new();
        setup.put_service(1);
        setup.put_slice("a", 1, &[2]);
        setup.put_service(2);
        setup.work(Duration::from_secs(1)).await;
        assert_eq!(setup.told(), ["s1 chains replaced [1, 2]", "s2 no chain of its own [3]"]);
        // Nothing of it is new to the kernel.
        setup.put_slice("a", 1, &[2]);
        setup.work(Duration::from_secs(1)).await;
        assert_eq!(setup.told().len(), 2);
        setup.applier.fail_next(1);
        setup.put_slice("a", 1, &[2, 3]);
        setup.work(Duration::from_secs(60)).await;
        assert_eq!(setup.told()[2..], ["s1 chains replaced [5]"], "when it is there, not before");
    }

    #[tokio::test(start_paused = true)]
    async fn failures_and_tampering_are_put_right_unasked() {
        let mut setup = Setup::new();
        setup.put_service(1);
        setup.put_slice("a", 1, &[2]);
        setup.applier.fail_next(20);
        setup.work(Duration::from_secs(250)).await;
        assert_eq!(setup.reached(1), ["Delivered 10.244.0.2:8080"]);
        setup.applier.tamper(|tables| *tables = crate::apply::fake::Tables::default());
        setup.work(Duration::from_secs(31)).await;
        assert_eq!(setup.reached(1), ["Delivered 10.244.0.2:8080"]);
    }
}
