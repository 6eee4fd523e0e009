//! A controller for a kind of its own, made with kube-rs as for any Kubernetes: a Website is a Deployment and a Service.
//! `controller crd` prints the kind's definition; `controller` runs, as whoever the kubeconfig says, until it is told to end.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use kube::api::{Patch, PatchParams};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::events::{Event, EventType, Recorder};
use kube::runtime::watcher;
use kube::{Api, Client, CustomResource, CustomResourceExt, Resource, ResourceExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A page, and how often it runs.
#[derive(CustomResource, Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[kube(group = "skiff.example", version = "v1", kind = "Website", namespaced)]
#[kube(shortname = "web", status = "WebsiteStatus")]
#[kube(scale(spec_replicas_path = ".spec.replicas", status_replicas_path = ".status.ready"))]
#[kube(printcolumn(name = "Release", type_ = "string", json_path = ".spec.release"))]
#[kube(printcolumn(name = "Ready", type_ = "integer", json_path = ".status.ready"))]
struct WebsiteSpec {
    /// What the page shows.
    release: String,
    /// How many Pods answer.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 20))]
    replicas: i32,
}

/// What there is.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
struct WebsiteStatus {
    /// How many Pods answer now.
    ready: i32,
}

fn one() -> i32 {
    1
}

struct Context {
    client: Client,
    recorder: Recorder,
}

/// Makes the world as the Website says. Whatever is there already is left as it is.
async fn reconcile(site: Arc<Website>, context: Arc<Context>) -> Result<Action, kube::Error> {
    let (name, space, client) = (site.name_any(), site.namespace().unwrap_or_default(), context.client.clone());
    let apply = PatchParams::apply("website-controller").force();
    let (labels, owner) = (json!({"website": name}), site.controller_owner_ref(&()));
    let metadata = json!({"name": name, "labels": labels, "ownerReferences": [owner]});
    let container = json!({"name": "page", "image": "skiff/demo", "args": ["front", "--release", site.spec.release]});
    let template = json!({"metadata": {"labels": labels}, "spec": {"containers": [container]}});
    let deployment: Value = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata,
        "spec": {"replicas": site.spec.replicas, "selector": {"matchLabels": labels}, "template": template}});
    let service: Value = json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata,
        "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": 8080}]}});
    Api::<Service>::namespaced(client.clone(), &space).patch(&name, &apply, &Patch::Apply(service)).await?;
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), &space);
    let deployment = deployments.patch(&name, &apply, &Patch::Apply(deployment)).await?;
    let ready = deployment.status.and_then(|status| status.ready_replicas).unwrap_or(0);
    let status = WebsiteStatus { ready };
    if site.status.as_ref() != Some(&status) {
        let patch = Patch::Merge(json!({"status": status}));
        Api::<Website>::namespaced(client, &space).patch_status(&name, &PatchParams::default(), &patch).await?;
        let note = Some(format!("{ready} of {} answer", site.spec.replicas));
        let (reason, action) = ("Counted".into(), "Reconcile".into());
        let event = Event { type_: EventType::Normal, reason, note, action, secondary: None };
        context.recorder.publish(&event, &site.object_ref(&())).await?;
    }
    Ok(Action::await_change())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    if std::env::args().nth(1).as_deref() == Some("crd") {
        println!("{}", serde_json::to_string_pretty(&Website::crd())?);
        return Ok(());
    }
    let client = Client::try_default().await?;
    let (every, all) = (watcher::Config::default(), client.clone());
    let context = Context { client: all.clone(), recorder: Recorder::new(client, "website-controller".into()) };
    Controller::new(Api::<Website>::all(all.clone()), every.clone())
        .owns(Api::<Deployment>::all(all.clone()), every.clone())
        .owns(Api::<Service>::all(all), every)
        .shutdown_on_signal()
        .run(reconcile, |_, _, _| Action::requeue(Duration::from_secs(1)), Arc::new(context))
        .for_each(|done| async move { println!("{done:?}") })
        .await;
    Ok(())
}
