//! `/metrics/targets`: what there is to scrape, in the form that Prometheus' HTTP service discovery reads. It is made from
//! the Node objects, so a node whose kubelet is gone stays a target, and is seen to be down. Jobs have the names that
//! dashboards and rules for Kubernetes expect.

use super::{Monitoring, Page};
use crate::cache::ListOptions;
use crate::registry::{ApiError, ApiResult};
use http::StatusCode;
use serde_json::{Value, json};

impl Monitoring {
    /// All targets, at the address by which the client reached this server.
    pub(super) fn targets(&self, host: &str) -> ApiResult<Page> {
        if host.is_empty() {
            return Err(ApiError::bad_request("the request does not say which host it is for, and targets need one"));
        }
        let nodes = self.registry.resource("", "v1", "nodes")?;
        let page = self.registry.cache().list(nodes.cached(), &ListOptions::default()).map_err(ApiError::internal)?;
        let names: Vec<&str> = page.entries.iter().map(|entry| entry.key()).collect();
        Ok(Page(StatusCode::OK, "application/json", targets(host, &names).to_string()))
    }
}

fn targets(host: &str, nodes: &[&str]) -> Value {
    let target = |job: &str, path: String, node: &str, instance: &str| {
        let mut labels = json!({ "job": job, "instance": instance, "__metrics_path__": path });
        if !node.is_empty() {
            labels["node"] = node.into();
        }
        json!({ "targets": [host], "labels": labels })
    };
    let mut all = vec![target("kube-apiserver", "/metrics".into(), "", host)];
    for (job, component) in [("kube-controller-manager", "controllers"), ("kube-scheduler", "scheduler")] {
        all.push(target(job, format!("/metrics/{component}"), "", host));
    }
    for node in nodes {
        all.push(target("kubelet", format!("/api/v1/nodes/{node}/proxy/metrics"), node, node));
        all.push(target("kube-proxy", format!("/api/v1/nodes/{node}:10249/proxy/metrics"), node, node));
    }
    Value::Array(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_a_cluster_is_a_target_of_its_own() {
        let all = targets("10.89.0.1:6443", &["node-1"]);
        let lines: Vec<String> = (all.as_array().unwrap().iter())
            .map(|t| {
                let word = |name: &str| t["labels"][name].as_str().unwrap_or("-").to_owned();
                format!("{} {} {} {}", t["targets"][0], word("job"), word("node"), word("__metrics_path__"))
            })
            .collect();
        let expected = [
            r#""10.89.0.1:6443" kube-apiserver - /metrics"#,
            r#""10.89.0.1:6443" kube-controller-manager - /metrics/controllers"#,
            r#""10.89.0.1:6443" kube-scheduler - /metrics/scheduler"#,
            r#""10.89.0.1:6443" kubelet node-1 /api/v1/nodes/node-1/proxy/metrics"#,
            r#""10.89.0.1:6443" kube-proxy node-1 /api/v1/nodes/node-1:10249/proxy/metrics"#,
        ];
        assert_eq!(lines, expected);
    }
}
