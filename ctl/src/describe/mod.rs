//! `describe`: an object as a person wants to read it, with what belongs to it and its events.

mod node;
mod pod;
mod quota;
pub mod rights;
mod service;
mod sheet;
mod workload;

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde_json::Value;
use skiff_client::ListOptions;

use crate::columns::{list, name, number, text};
use crate::session::Session;
use crate::table::Table;
use crate::{advice, events, output, target};
use sheet::Sheet;
use skiff_proto::columns::age;

/// What `describe` takes.
#[derive(Args, Debug)]
pub struct Options {
    /// `TYPE`, `TYPE NAME...` or `TYPE/NAME...`.
    #[arg(required = true)]
    what: Vec<String>,
    /// Only objects whose labels match.
    #[arg(short = 'l', long)]
    selector: Option<String>,
    /// In all namespaces.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
}

/// Prints one sheet after the other.
pub async fn run(session: &Session, options: Options) -> Result<ExitCode> {
    let mut first = true;
    let mut missing = false;
    for target in target::parse(session, &options.what).await? {
        let api = session.api(&target.resource, false);
        let namespaced = target.resource.namespaced && !options.all_namespaces;
        let namespace = if namespaced { session.namespace() } else { "" };
        let mut objects = vec![];
        if target.names.is_empty() {
            let labels = ListOptions::labels(options.selector.clone().unwrap_or_default());
            objects = api.list(namespace, &labels).await?.items;
        }
        for name in &target.names {
            match api.get(namespace, name).await {
                Ok(object) => objects.push(object),
                Err(e) if e.is_not_found() => {
                    eprintln!("{}", advice::line(session, e).await);
                    missing = true;
                }
                Err(e) => return Err(e.into()),
            }
        }
        for object in objects {
            if !first {
                output::print("\n\n")?;
            }
            first = false;
            output::print(&describe(session, &target.resource.kind, &object).await?)?;
        }
    }
    Ok(if missing { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn describe(session: &Session, kind: &str, object: &Value) -> Result<String> {
    let mut sheet = Sheet::default();
    match kind {
        "Pod" => pod::fill(&mut sheet, object, session.now()),
        "Node" => node::fill(&mut sheet, object, &pods_on(session, &name(object)).await?, session.now()),
        "Deployment" => workload::deployment(&mut sheet, object, &owned_sets(session, object).await?),
        "ReplicaSet" => workload::replica_set(&mut sheet, object),
        "Service" => service::fill(&mut sheet, object, &slices(session, object).await?),
        "Role" | "ClusterRole" => rights::role(&mut sheet, object),
        "RoleBinding" | "ClusterRoleBinding" => rights::binding(&mut sheet, object),
        "ResourceQuota" => quota::quota(&mut sheet, object),
        "LimitRange" => quota::range(&mut sheet, object),
        "Namespace" => {
            let (quotas, ranges) = (within(session, object, "resourcequotas"), within(session, object, "limitranges"));
            quota::namespace(&mut sheet, object, &quotas.await?, &ranges.await?);
        }
        _ => plain(&mut sheet, object),
    }
    let mut text = sheet.render();
    if !["Event", "ResourceQuota", "LimitRange", "Namespace"].contains(&kind) {
        text.push_str(&events_of(session, kind, object).await?);
    }
    Ok(text)
}

async fn pods_on(session: &Session, node: &str) -> Result<Vec<Value>> {
    let pods = session.resource("", "pods").await?;
    let fields = format!("spec.nodeName={node},status.phase!=Succeeded,status.phase!=Failed");
    Ok(session.api(&pods, false).list("", &ListOptions::fields(fields)).await?.items)
}

/// The objects of a resource in a namespace.
async fn within(session: &Session, namespace: &Value, plural: &str) -> Result<Vec<Value>> {
    let resource = session.resource("", plural).await?;
    Ok(session.api(&resource, false).list(&name(namespace), &ListOptions::default()).await?.items)
}

async fn owned_sets(session: &Session, deployment: &Value) -> Result<Vec<Value>> {
    let sets = session.resource("apps", "replicasets").await?;
    let labels = crate::columns::selector(deployment.pointer("/spec/selector"));
    let namespace = text(deployment, "/metadata/namespace");
    let mut items = session.api(&sets, false).list(&namespace, &ListOptions::labels(labels)).await?.items;
    items.retain(|s| list(s, "/metadata/ownerReferences").iter().any(|o| o["uid"] == deployment["metadata"]["uid"]));
    Ok(items)
}

async fn slices(session: &Session, service: &Value) -> Result<Vec<Value>> {
    let slices = session.resource("discovery.k8s.io", "endpointslices").await?;
    let labels = format!("kubernetes.io/service-name={}", name(service));
    let namespace = text(service, "/metadata/namespace");
    Ok(session.api(&slices, false).list(&namespace, &ListOptions::labels(labels)).await?.items)
}

async fn events_of(session: &Session, kind: &str, object: &Value) -> Result<String> {
    let fields = match kind {
        // Events of nodes carry the name as uid, or the uid: only the name is in both.
        "Node" => format!("involvedObject.kind=Node,involvedObject.name={}", name(object)),
        _ => format!("involvedObject.uid={}", text(object, "/metadata/uid")),
    };
    let namespace = text(object, "/metadata/namespace");
    let found = events::fetch(session, &namespace, fields).await?;
    if found.is_empty() {
        return Ok("Events:  <none>\n".to_owned());
    }
    let mut table = Table::new(["Type", "Reason", "Age", "From", "Message"]);
    for event in &found {
        let last =
            age::since(event.get("lastTimestamp").or(event.pointer("/metadata/creationTimestamp")), session.now());
        let age = match number(event, "/count") {
            0 | 1 => last,
            count => format!("{last} (x{count} over {})", age::since(event.get("firstTimestamp"), session.now())),
        };
        let from = match text(event, "/source/component") {
            component if component.is_empty() => text(event, "/reportingComponent"),
            component => component,
        };
        table.row([text(event, "/type"), text(event, "/reason"), age, from, text(event, "/message").trim().to_owned()]);
    }
    let lines: String = table.render(true).lines().map(|l| format!("  {l}\n")).collect();
    Ok(format!("Events:\n{lines}"))
}

/// Name, namespace, labels, annotations: what all objects have.
fn head(sheet: &mut Sheet, o: &Value) {
    sheet.put(0, "Name", name(o));
    if o.pointer("/metadata/namespace").is_some() {
        sheet.put(0, "Namespace", text(o, "/metadata/namespace"));
    }
}

fn labels_and_annotations(sheet: &mut Sheet, o: &Value) {
    sheet.put_all(0, "Labels", &pairs(o.pointer("/metadata/labels"), "="));
    let mut annotations = pairs(o.pointer("/metadata/annotations"), ": ");
    annotations.retain(|a| !a.starts_with("kubectl.kubernetes.io/last-applied-configuration"));
    sheet.put_all(0, "Annotations", &annotations);
}

fn pairs(map: Option<&Value>, between: &str) -> Vec<String> {
    map.and_then(Value::as_object)
        .map(|m| m.iter().map(|(k, v)| format!("{k}{between}{}", v.as_str().unwrap_or(&v.to_string()))).collect())
        .unwrap_or_default()
}

/// `ReplicaSet/web-1`: who controls the object.
fn controller(o: &Value) -> Option<String> {
    list(o, "/metadata/ownerReferences")
        .iter()
        .find(|r| r["controller"] == true)
        .map(|r| format!("{}/{}", text(r, "/kind"), text(r, "/name")))
}

fn conditions(sheet: &mut Sheet, o: &Value) {
    let found = list(o, "/status/conditions");
    if found.is_empty() {
        return;
    }
    let mut table = Table::new(["Type", "Status", "Reason", "Message"]);
    for c in found {
        table.row([text(c, "/type"), text(c, "/status"), text(c, "/reason"), text(c, "/message")]);
    }
    sheet.title(0, "Conditions");
    for line in table.render(true).lines() {
        sheet.text(1, line);
    }
}

/// Any other kind: its fields as YAML reads.
fn plain(sheet: &mut Sheet, o: &Value) {
    head(sheet, o);
    labels_and_annotations(sheet, o);
    for (key, value) in o.as_object().into_iter().flatten() {
        if ["apiVersion", "kind", "metadata"].contains(&key.as_str()) {
            continue;
        }
        let mut title = key.clone();
        title[..1].make_ascii_uppercase();
        // A Secret's values are nobody's business.
        if key == "data" && o["kind"] == "Secret" {
            sheet.title(0, &title);
            for (name, value) in value.as_object().into_iter().flatten() {
                sheet.put(1, name, format!("{} bytes (base64)", value.as_str().unwrap_or_default().len()));
            }
            continue;
        }
        match value {
            Value::Object(_) | Value::Array(_) => {
                sheet.title(0, &title);
                for line in skiff_proto::yaml::write(value).lines() {
                    sheet.text(1, line);
                }
            }
            Value::String(s) => sheet.put(0, &title, s.clone()),
            other => sheet.put(0, &title, other.to_string()),
        }
    }
}
