//! What the caches know about one Service.

use std::collections::BTreeMap;

use skiff_client::ObjectKey;

use super::Controller;
use super::plan::{Observed, has_slices};
use crate::caches::{LABEL, SERVICE, label_values};

impl Controller {
    pub(super) fn look(&self, key: &ObjectKey) -> Observed {
        let service = self.caches.services.get(key);
        let mut pods = Vec::new();
        if let Some(service) = service.as_ref().filter(|s| has_slices(s)) {
            let selector = &service.spec.selector;
            let first = label_values(&key.namespace, selector).next().unwrap_or_default();
            pods = self.caches.pods.by_index(LABEL, &first);
            pods.retain(|p| selector.iter().all(|(k, v)| p.labels.get(k) == Some(v)));
        }
        let mut zones = BTreeMap::new();
        for pod in &pods {
            let node = self.caches.nodes.get(&ObjectKey::new("", pod.node.as_str()));
            if let Some(node) = node.filter(|n| !n.zone.is_empty()) {
                zones.insert(pod.node.clone(), node.zone.clone());
            }
        }
        Observed { service, pods, zones, slices: self.caches.slices.by_index(SERVICE, &key.to_string()) }
    }
}
