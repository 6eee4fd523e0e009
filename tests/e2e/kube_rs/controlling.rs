//! A controller as kube-rs makes them: for each ConfigMap with a label a Secret that is kept as it should be, and a
//! finalizer that is run when the ConfigMap goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::finalizer::{Event, finalizer};
use kube::runtime::wait::{Condition, await_condition, conditions};
use kube::runtime::watcher;
use kube::{Client, Resource, ResourceExt};
use serde_json::json;

use super::{SPACE, map, maps, value, within};

struct Context {
    client: Client,
    cleaned: AtomicUsize,
}

type Trouble = kube::runtime::finalizer::Error<kube::Error>;

async fn reconcile(map: Arc<ConfigMap>, context: Arc<Context>) -> Result<Action, Trouble> {
    let secrets: Api<Secret> = Api::namespaced(context.client.clone(), SPACE);
    let cleaned = &context.cleaned;
    finalizer(&maps(&context.client), "skiff.test/secret", map, |event| async move {
        match event {
            Event::Apply(map) => {
                let owner = map.controller_owner_ref(&()).unwrap();
                let secret = json!({
                    "apiVersion": "v1", "kind": "Secret",
                    "metadata": {"name": map.name_any(), "ownerReferences": [owner]},
                    "stringData": {"of": value(&map)},
                });
                let with = PatchParams::apply("secret-controller").force();
                secrets.patch(&map.name_any(), &with, &Patch::Apply(secret)).await?;
                Ok(Action::await_change())
            }
            Event::Cleanup(_) => {
                cleaned.fetch_add(1, Ordering::SeqCst);
                Ok(Action::await_change())
            }
        }
    })
    .await
}

/// It makes, mends, follows changes, and cleans up; what it made goes with its owner.
pub async fn reconciles(client: &Client) {
    let context = Arc::new(Context { client: client.clone(), cleaned: AtomicUsize::new(0) });
    let secrets: Api<Secret> = Api::namespaced(client.clone(), SPACE);
    let chosen = watcher::Config::default().labels("controlled=yes").streaming_lists();
    let controller = Controller::new(maps(client), chosen)
        .owns(secrets.clone(), watcher::Config::default())
        .run(reconcile, |_, _, _| Action::requeue(Duration::from_millis(200)), context.clone())
        .for_each(|done| async move {
            if let Err(error) = done {
                eprintln!("the controller tries again: {error}");
            }
        });
    let controller = tokio::spawn(controller);
    let mut one = map("kept", "first");
    one.labels_mut().insert("controlled".into(), "yes".into());
    let api = maps(client);
    api.create(&PostParams::default(), &one).await.unwrap();
    holds(&secrets, "first").await;
    let first = secrets.get("kept").await.unwrap().uid().unwrap();
    secrets.delete("kept", &DeleteParams::default()).await.unwrap();
    let is_another = conditions::is_deleted(&first).and(conditions::is_created());
    within("a deleted Secret is made again", await_condition(secrets.clone(), "kept", is_another)).await.unwrap();
    let changed = Patch::Merge(json!({"data": {"value": "second"}}));
    let uid = api.patch("kept", &PatchParams::default(), &changed).await.unwrap().uid().unwrap();
    holds(&secrets, "second").await;
    let second = secrets.get("kept").await.unwrap().uid().unwrap();
    api.delete("kept", &DeleteParams::default()).await.unwrap();
    within("the owner is gone", await_condition(api, "kept", conditions::is_deleted(&uid))).await.unwrap();
    within("the Secret too", await_condition(secrets, "kept", conditions::is_deleted(&second))).await.unwrap();
    assert_eq!(context.cleaned.load(Ordering::SeqCst), 1, "the finalizer ran once");
    controller.abort();
}

async fn holds(secrets: &Api<Secret>, text: &str) {
    let holds = |secret: Option<&Secret>| {
        let data = secret.and_then(|secret| secret.data.as_ref());
        data.and_then(|data| data.get("of")).is_some_and(|of| of.0 == text.as_bytes())
    };
    within("the Secret holds it", await_condition(secrets.clone(), "kept", holds)).await.unwrap();
}
