//! What the controllers keep of the ConfigMaps `kube-root-ca.crt`: whether they say what they should.

use skiff_client::{Client, Informer, ListOptions, ObjectKey, Project, Store, WorkQueue};
use skiff_proto::corev1::ConfigMap;
use skiff_world::World;

/// The ConfigMap's name.
pub const NAME: &str = "kube-root-ca.crt";
/// The certificate's key in it.
pub const KEY: &str = "ca.crt";

/// The values of one of these ConfigMaps.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Kept {
    /// The certificate.
    pub certificate: String,
    /// There is something beside it.
    pub others: bool,
}

/// Keeps the values.
pub struct Values;

impl Project<ConfigMap> for Values {
    type Out = Kept;

    fn project(map: &ConfigMap) -> Kept {
        Kept {
            certificate: map.data.get(KEY).cloned().unwrap_or_default(),
            others: map.data.keys().any(|key| key != KEY) || !map.binary_data.is_empty(),
        }
    }
}

/// Follows these ConfigMaps, and wakes the namespaces whose own changes or goes.
pub fn follow(world: &World, client: &Client, queue: &WorkQueue<ObjectKey>) -> Store<Kept> {
    let queue = queue.clone();
    Informer::<ConfigMap, Values>::of(client)
        .options(ListOptions::fields(format!("metadata.name={NAME}")))
        .run(world, move |change| queue.add(ObjectKey::new("", change.object.namespace.as_str()), change.trigger()))
}
