//! The Deployment `web` and its Service, which most tests of workloads begin with.

use serde_json::{Value, json};

/// The two objects, and what a test wants of them beside the usual.
pub struct Web {
    spec: Value,
    pod: Value,
    container: Value,
    node_port: Option<u16>,
}

impl Web {
    /// So many Pods of the demo's front, behind a Service.
    pub fn new(replicas: u32) -> Web {
        let labels = json!({"app": "web"});
        let spec = json!({"replicas": replicas, "selector": {"matchLabels": labels}});
        let container = json!({"name": "web", "image": "skiff/demo", "args": ["front"]});
        Web { spec, pod: json!({}), container, node_port: None }
    }

    /// The Service answers on this port of every node.
    pub fn on_port(self, port: u16) -> Web {
        Web { node_port: Some(port), ..self }
    }

    /// Ready is asked for every second.
    pub fn probed(self) -> Web {
        self.container(json!({"readinessProbe": {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 1}}))
    }

    /// Further fields of the Deployment's spec.
    pub fn spec(mut self, fields: Value) -> Web {
        merge(&mut self.spec, fields);
        self
    }

    /// Further fields of the Pods' spec.
    pub fn pod(mut self, fields: Value) -> Web {
        merge(&mut self.pod, fields);
        self
    }

    /// Further fields of the container.
    pub fn container(mut self, fields: Value) -> Web {
        merge(&mut self.container, fields);
        self
    }

    /// As documents to apply.
    pub fn yaml(mut self) -> String {
        merge(&mut self.pod, json!({"containers": [self.container]}));
        let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": self.pod});
        merge(&mut self.spec, json!({"template": template}));
        let metadata = json!({"name": "web"});
        let port = json!({"port": 80, "targetPort": 8080, "nodePort": self.node_port});
        let service = json!({"type": "NodePort", "selector": {"app": "web"}, "ports": [port]});
        let deployment =
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": self.spec});
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": service});
        // JSON is YAML.
        format!("{deployment}\n---\n{service}\n")
    }
}

fn merge(onto: &mut Value, fields: Value) {
    if let (Value::Object(onto), Value::Object(fields)) = (onto, fields) {
        onto.extend(fields);
    }
}
