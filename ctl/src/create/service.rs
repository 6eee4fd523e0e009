//! `create service`: a Service whose Pods are those labelled app=NAME.

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::report::Report;

/// Who reaches the Service.
#[derive(Subcommand, Debug)]
pub enum Service {
    /// Reached by a virtual address within the cluster.
    Clusterip(ClusterIp),
    /// Reached by a port of every node.
    Nodeport(NodePort),
}

/// What `create service clusterip` takes.
#[derive(Args, Debug)]
pub struct ClusterIp {
    #[command(flatten)]
    ports: Ports,
    /// The address; `None` for a headless Service.
    #[arg(long)]
    clusterip: Option<String>,
    #[command(flatten)]
    report: Report,
}

/// What `create service nodeport` takes.
#[derive(Args, Debug)]
pub struct NodePort {
    #[command(flatten)]
    ports: Ports,
    /// The nodes' port; default: any that is free.
    #[arg(long)]
    node_port: Option<u16>,
    #[command(flatten)]
    report: Report,
}

#[derive(Args, Debug)]
struct Ports {
    /// Its name.
    name: String,
    /// `PORT` or `PORT:TARGET`; may be given several times.
    #[arg(long, value_delimiter = ',')]
    tcp: Vec<String>,
}

impl Service {
    /// What the flags make.
    pub fn object(&self) -> Result<Value> {
        let (kind, ports) = match self {
            Service::Clusterip(s) => ("ClusterIP", &s.ports),
            Service::Nodeport(s) => ("NodePort", &s.ports),
        };
        let headless = matches!(self, Service::Clusterip(s) if s.clusterip.as_deref() == Some("None"));
        if ports.tcp.is_empty() && !headless {
            bail!("at least one port is needed: --tcp=PORT or --tcp=PORT:TARGET");
        }
        let mut made: Vec<Value> = ports.tcp.iter().map(|p| port(p)).collect::<Result<_>>()?;
        let mut spec = Map::from_iter([("type".to_owned(), json!(kind))]);
        match self {
            Service::Clusterip(ClusterIp { clusterip: Some(address), .. }) => {
                spec.insert("clusterIP".to_owned(), json!(address));
            }
            Service::Nodeport(NodePort { node_port: Some(node_port), .. }) => match made.as_mut_slice() {
                [one] => one["nodePort"] = json!(node_port),
                _ => bail!("--node-port is for one port, and --tcp names {}", made.len()),
            },
            _ => {}
        }
        let labels = json!({"app": ports.name});
        spec.insert("selector".to_owned(), labels.clone());
        spec.insert("ports".to_owned(), json!(made));
        Ok(json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": ports.name, "labels": labels},
            "spec": spec,
        }))
    }

    /// What is to be done with it.
    pub fn into_report(self) -> Report {
        match self {
            Service::Clusterip(s) => s.report,
            Service::Nodeport(s) => s.report,
        }
    }
}

/// Reads `80`, `80:8080` or `80:http`.
fn port(text: &str) -> Result<Value> {
    let (port, target) = text.split_once(':').unwrap_or((text, text));
    let Ok(number) = port.parse::<u16>() else {
        bail!("--tcp={text}: {port:?} is not a port: it must be between 1 and 65535");
    };
    let target_port = target.parse::<u16>().map_or_else(|_| json!(target), |n| json!(n));
    let name = text.replace(':', "-");
    Ok(json!({"name": name, "port": number, "protocol": "TCP", "targetPort": target_port}))
}
