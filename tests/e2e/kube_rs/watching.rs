//! Watchers in all their forms through a kill -9 of the API server: they go on, and nothing is missed.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::{Arc, Mutex};

use futures::{StreamExt, future};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Client, ResourceExt};
use serde_json::json;
use tokio::task::JoinSet;

use super::{SPACE, a_moment, map, maps, value, within};
use crate::cluster::Cluster;

const COUNT: usize = 40;

/// What one watcher has told: the state that follows from its events, and all values of the one that is changed often.
#[derive(Default)]
struct Told {
    state: BTreeMap<String, String>,
    listing: BTreeMap<String, String>,
    counted: Vec<usize>,
    lists: usize,
}

impl Told {
    fn hear(&mut self, event: watcher::Event<ConfigMap>) {
        match event {
            watcher::Event::Init => {
                self.lists += 1;
                self.listing.clear();
            }
            watcher::Event::InitApply(map) => {
                self.note(&map);
                self.listing.insert(map.name_any(), value(&map));
            }
            watcher::Event::InitDone => self.state = std::mem::take(&mut self.listing),
            watcher::Event::Apply(map) => {
                self.note(&map);
                self.state.insert(map.name_any(), value(&map));
            }
            watcher::Event::Delete(map) => {
                self.state.remove(&map.name_any());
            }
        }
    }

    fn note(&mut self, map: &ConfigMap) {
        if map.name_any() == "count" {
            self.counted.push(value(map).parse().unwrap());
        }
    }
}

/// Watchers of both strategies, one of metadata, and a reflector's store, while a user writes and the server is killed.
pub async fn through_a_crash(client: &Client, cluster: &Cluster) {
    let api = maps(client);
    let chosen = watcher::Config::default().labels("watched=yes");
    let mut tasks = JoinSet::new();
    let told: Vec<Arc<Mutex<Told>>> = [chosen.clone(), chosen.clone().page_size(5), chosen.clone().streaming_lists()]
        .into_iter()
        .map(|config| {
            let told = Arc::new(Mutex::new(Told::default()));
            let events = watcher(api.clone(), config).default_backoff();
            let ear = told.clone();
            tasks.spawn(events.for_each(move |event| {
                if let Ok(event) = event {
                    ear.lock().unwrap().hear(event);
                }
                future::ready(())
            }));
            told
        })
        .collect();
    let (store, writer) = reflector::store();
    let known: Api<PartialObjectMeta<ConfigMap>> = Api::namespaced(client.clone(), SPACE);
    let reflected = reflector(writer, watcher(known, chosen.streaming_lists()).default_backoff());
    tasks.spawn(reflected.for_each(|_| future::ready(())));
    within("the store is filled for the first time", store.wait_until_ready()).await.unwrap();

    write(&api, 0..COUNT / 4).await;
    let pid = cluster.process("server");
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
    write(&api, COUNT / 4..COUNT).await;
    assert_ne!(cluster.process("server"), pid, "another process answers now");

    let wanted: BTreeMap<String, String> = api
        .list(&ListParams::default().labels("watched=yes"))
        .await
        .unwrap()
        .iter()
        .map(|map| (map.name_any(), value(map)))
        .collect();
    assert_eq!(wanted.len(), 1 + COUNT / 2, "half of them were deleted");
    for told in &told {
        within("a watcher has seen all", async {
            while told.lock().unwrap().state != wanted {
                a_moment().await;
            }
        })
        .await;
        let told = told.lock().unwrap();
        assert!(told.counted.is_sorted(), "time never goes back: {:?}", told.counted);
        if told.lists == 1 {
            // It went on where it was, so it saw each write.
            assert_eq!(told.counted, (0..COUNT).collect::<Vec<_>>());
        }
    }
    within("the store of metadata is complete", async {
        while store.len() != wanted.len() || store.find(|map| map.name_any() == format!("w-{}", COUNT - 1)).is_none() {
            a_moment().await;
        }
    })
    .await;
    tasks.shutdown().await;
    api.delete_collection(&DeleteParams::default(), &ListParams::default().labels("watched=yes")).await.unwrap();
}

/// Objects come, every other goes again, and one counts. A write is tried until the server has taken it.
async fn write(api: &Api<ConfigMap>, numbers: std::ops::Range<usize>) {
    for i in numbers {
        let name = format!("w-{i}");
        let mut one = map(&name, &i.to_string());
        one.labels_mut().insert("watched".into(), "yes".into());
        taken(&name, || async { api.create(&PostParams::default(), &one).await.map(|_| ()) }, 409).await;
        let count = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "count", "labels": {"watched": "yes"}}, "data": {"value": i.to_string()}});
        let count = Patch::Apply(count);
        taken("count", || async { api.patch("count", &PatchParams::apply("counter"), &count).await.map(|_| ()) }, 409)
            .await;
        if i % 2 == 0 {
            taken(&name, || async { api.delete(&name, &DeleteParams::default()).await.map(|_| ()) }, 404).await;
        }
    }
}

/// Tries until it is done; `done` is the code that says that it was done by a try whose reply was lost.
async fn taken<F: Future<Output = kube::Result<()>>>(what: &str, mut attempt: impl FnMut() -> F, done: u16) {
    within(what, async {
        loop {
            match attempt().await {
                Ok(()) => break,
                Err(kube::Error::Api(status)) if status.code == done => break,
                Err(kube::Error::Api(status)) if status.code < 500 => panic!("{what}: {status:?}"),
                Err(_) => a_moment().await,
            }
        }
    })
    .await;
}
