//! `expose`: a Service for the Pods of a workload.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use serde_json::{Map, Value, json};

use crate::columns::{list, number, text};
use crate::create::{self, pairs};
use crate::report::Report;
use crate::selection::Selection;
use crate::session::Session;

/// What `expose` takes.
#[derive(Args, Debug)]
pub struct Options {
    /// `TYPE NAME` or `TYPE/NAME`: a Deployment, ReplicaSet, Pod or Service.
    what: Vec<String>,
    #[command(flatten)]
    files: crate::manifest::Files,
    /// The Service's name; default: the exposed object's.
    #[arg(long)]
    name: Option<String>,
    /// The Service's port; default: the ports of the containers.
    #[arg(long)]
    port: Option<u16>,
    /// The containers' port, by number or name; default: the same.
    #[arg(long)]
    target_port: Option<String>,
    /// TCP or UDP.
    #[arg(long)]
    protocol: Option<String>,
    /// Who reaches it.
    #[arg(long = "type", value_enum, default_value_t = ServiceType::ClusterIP)]
    kind: ServiceType,
    /// Which Pods, as `app=web`; default: those of the exposed object.
    #[arg(long)]
    selector: Option<String>,
    /// Labels for the Service.
    #[arg(short = 'l', long)]
    labels: Option<String>,
    /// The address; `None` for a headless Service.
    #[arg(long)]
    cluster_ip: Option<String>,
    #[command(flatten)]
    report: Report,
}

/// Who reaches a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ServiceType {
    /// Pods and nodes, by a virtual address.
    #[value(name = "ClusterIP")]
    ClusterIP,
    /// Everybody, by a port of every node.
    #[value(name = "NodePort")]
    NodePort,
    /// Everybody, by an address from outside of the cluster.
    #[value(name = "LoadBalancer")]
    LoadBalancer,
}

/// Makes the Service.
pub async fn run(session: &Session, options: Options) -> Result<ExitCode> {
    let selection = Selection { files: options.files.clone(), ..Selection::default() };
    let chosen = selection.find_one(session, &options.what).await?;
    let object = session.api(&chosen.resource, false).get(&chosen.namespace, &chosen.name).await?;
    let service = service(&chosen.resource.kind, &object, &options)?;
    let resource = session.resource("", "services").await?;
    create::make(session, &options.report, &resource, &chosen.namespace, service, "exposed").await?;
    Ok(ExitCode::SUCCESS)
}

/// The Service that exposes an object.
fn service(kind: &str, object: &Value, options: &Options) -> Result<Value> {
    let name = options.name.clone().unwrap_or_else(|| text(object, "/metadata/name"));
    let selector = match &options.selector {
        Some(text) => json!(pairs(text)?),
        None => selector(kind, object)?,
    };
    let labels = match &options.labels {
        Some(text) => json!(pairs(text)?),
        None => object["metadata"]["labels"].clone(),
    };
    let mut metadata = Map::from_iter([("name".to_owned(), json!(name))]);
    if labels.as_object().is_some_and(|l| !l.is_empty()) {
        metadata.insert("labels".to_owned(), labels);
    }
    let mut spec = Map::from_iter([
        ("selector".to_owned(), selector),
        ("ports".to_owned(), json!(ports(kind, object, options)?)),
        ("type".to_owned(), json!(format!("{:?}", options.kind))),
    ]);
    if let Some(address) = &options.cluster_ip {
        spec.insert("clusterIP".to_owned(), json!(address));
    }
    Ok(json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}))
}

fn selector(kind: &str, object: &Value) -> Result<Value> {
    let (found, expressions) = match kind {
        "Pod" => (&object["metadata"]["labels"], &Value::Null),
        "Service" => (&object["spec"]["selector"], &Value::Null),
        _ => (&object["spec"]["selector"]["matchLabels"], &object["spec"]["selector"]["matchExpressions"]),
    };
    if expressions.as_array().is_some_and(|e| !e.is_empty()) {
        bail!("a Service selects by equality only, and this selector has matchExpressions: give --selector");
    }
    match found.as_object() {
        Some(labels) if !labels.is_empty() => Ok(found.clone()),
        _ => bail!("couldn't find a selector: give one with --selector, as in --selector=app=web"),
    }
}

/// One port as asked for, or all that the containers declare.
fn ports(kind: &str, object: &Value, options: &Options) -> Result<Vec<Value>> {
    let protocol = options.protocol.as_ref().map(|p| p.to_uppercase());
    let target = |port: i64| match &options.target_port {
        Some(text) => text.parse::<u16>().map_or_else(|_| json!(text), |n| json!(n)),
        None => json!(port),
    };
    if let Some(port) = options.port {
        let protocol = protocol.unwrap_or_else(|| "TCP".to_owned());
        return Ok(vec![json!({"port": port, "protocol": protocol, "targetPort": target(port.into())})]);
    }
    let declared: Vec<(i64, String)> = if kind == "Service" {
        list(object, "/spec/ports").iter().map(|p| (number(p, "/port"), text(p, "/protocol"))).collect()
    } else {
        let spec = if kind == "Pod" { "/spec/containers" } else { "/spec/template/spec/containers" };
        let of = |c: &Value| -> Vec<(i64, String)> {
            list(c, "/ports").iter().map(|p| (number(p, "/containerPort"), text(p, "/protocol"))).collect()
        };
        list(object, spec).iter().flat_map(of).collect()
    };
    let mut ports: BTreeMap<(i64, String), Value> = BTreeMap::new();
    for (port, declared) in declared {
        let declared = if declared.is_empty() { "TCP".to_owned() } else { declared };
        let protocol = protocol.clone().unwrap_or(declared);
        let value = json!({"port": port, "protocol": protocol, "targetPort": target(port)});
        ports.insert((port, protocol), value);
    }
    let mut ports: Vec<Value> = ports.into_values().collect();
    if ports.is_empty() {
        bail!("couldn't find a port: the containers declare none, so give one with --port");
    }
    if ports.len() > 1 {
        for (i, port) in ports.iter_mut().enumerate() {
            port["name"] = json!(format!("port-{}", i + 1));
        }
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn options(line: &str) -> Options {
        Line::parse_from(std::iter::once("expose").chain(line.split_whitespace())).options
    }

    fn deployment() -> Value {
        json!({
            "metadata": {"name": "web", "labels": {"team": "a"}},
            "spec": {
                "selector": {"matchLabels": {"app": "web"}},
                "template": {"spec": {"containers": [{"ports": [{"containerPort": 80}, {"containerPort": 53, "protocol": "UDP"}]}]}},
            },
        })
    }

    #[test]
    fn a_service_takes_selector_labels_and_ports_from_what_it_exposes() {
        let made =
            service("Deployment", &deployment(), &options("deploy/web --port 8080 --target-port 80 --type NodePort"));
        let expected = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "web", "labels": {"team": "a"}},
            "spec": {
                "selector": {"app": "web"},
                "ports": [{"port": 8080, "protocol": "TCP", "targetPort": 80}],
                "type": "NodePort",
            },
        });
        assert_eq!(made.unwrap(), expected);
        let all = service("Deployment", &deployment(), &options("deploy/web --name other --target-port http")).unwrap();
        assert_eq!(all["metadata"]["name"], "other");
        let ports = json!([
            {"port": 53, "protocol": "UDP", "targetPort": "http", "name": "port-1"},
            {"port": 80, "protocol": "TCP", "targetPort": "http", "name": "port-2"},
        ]);
        assert_eq!(all["spec"]["ports"], ports);
    }

    #[test]
    fn what_cannot_be_found_is_asked_for() {
        let pod = json!({"metadata": {"name": "x"}, "spec": {"containers": [{}]}});
        let error = service("Pod", &pod, &options("pod/x --port 80")).unwrap_err().to_string();
        assert!(error.contains("--selector"), "{error}");
        let error = service("Pod", &pod, &options("pod/x --selector a=b")).unwrap_err().to_string();
        assert!(error.contains("--port"), "{error}");
    }
}
