//! ConfigMaps and Secrets, fetched when a container or volume is made from them.

use std::collections::{BTreeMap, BTreeSet};

use skiff_client::{Api, Error};
use skiff_proto::corev1::{ConfigMap, Secret};

use super::Pods;
use crate::environment::{SourceKind, SourceRef, Sources};

impl Pods {
    /// What they hold now; those that don't exist are told as such.
    pub(super) async fn sources(&self, namespace: &str, needed: BTreeSet<SourceRef>) -> Result<Sources, Error> {
        let mut sources = Sources::new();
        for (kind, name) in needed {
            let data = match kind {
                SourceKind::ConfigMap => {
                    Api::<ConfigMap>::new(&self.client).get_opt(namespace, &name).await?.map(config_map_data)
                }
                SourceKind::Secret => {
                    Api::<Secret>::new(&self.client).get_opt(namespace, &name).await?.map(|secret| secret.data)
                }
            };
            sources.insert((kind, name), data);
        }
        Ok(sources)
    }
}

fn config_map_data(map: ConfigMap) -> BTreeMap<String, Vec<u8>> {
    let text = map.data.into_iter().map(|(key, value)| (key, value.into_bytes()));
    text.chain(map.binary_data).collect()
}
