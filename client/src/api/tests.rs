//! The verbs against a server: what comes back, what errors say, what travels with a write.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use skiff_proto::corev1::ConfigMap;
use skiff_proto::metav1::ObjectMeta;
use skiff_world::sim::{Faults, Sim, Simulation};

use super::*;
use crate::fake::Fake;
use crate::{Retry, cause};

fn map(name: &str, value: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta { namespace: "default".into(), name: name.into(), ..ObjectMeta::default() },
        data: [("v".to_string(), value.to_string())].into(),
        ..ConfigMap::default()
    }
}

async fn scene(sim: &Sim) -> (Fake, Client, Api<ConfigMap>) {
    let fake = Fake::new();
    fake.serve(&sim.machine("server").world("api", None)).await;
    let client = Fake::client(&sim.machine("node").world("component", None));
    let api = Api::new(&client);
    (fake, client, api)
}

fn simulate<F: Future<Output = ()>>(scenario: impl Fn(Sim) -> F + Copy) {
    for seed in 0..3 {
        Simulation::new(seed).faults(Faults::none()).run(scenario);
    }
}

#[test]
fn what_is_written_is_read_and_versions_are_compared() {
    simulate(async |sim: Sim| {
        let (_fake, _client, api) = scene(&sim).await;
        let made = api.create(&map("a", "1")).await.unwrap();
        assert!(!made.metadata.uid.is_empty());
        assert_eq!(api.get("default", "a").await.unwrap(), made);
        assert!(api.create(&map("a", "1")).await.unwrap_err().is_already_exists());

        let changed = api.update(&ConfigMap { data: map("a", "2").data, ..made.clone() }).await.unwrap();
        assert_eq!(changed.data["v"], "2");
        let stale = api.update(&made).await.unwrap_err();
        assert!(stale.is_conflict() && stale.retry() == Retry::Now, "{stale}");

        let patch = Patch::Merge(json!({"data": {"w": "3"}}));
        assert_eq!(api.patch("default", "a", patch, None).await.unwrap().data.len(), 2);
        let deletion = api.delete("default", "a", &DeleteOptions::default()).await.unwrap();
        assert!(deletion.gone && deletion.object.data["v"] == "2");
        assert_eq!(api.get_opt("default", "a").await.unwrap(), None);
        let gone = api.delete("default", "a", &DeleteOptions::default()).await.unwrap_err();
        assert!(gone.is_not_found() && gone.retry() == Retry::Never, "{gone}");
    });
}

#[test]
fn a_list_follows_its_pages_and_a_watch_goes_on_from_it() {
    simulate(async |sim: Sim| {
        let (fake, _client, api) = scene(&sim).await;
        for n in 0..8 {
            fake.put(&map(&format!("m{n}"), "1"));
        }
        let list = api.list("", &ListOptions::default()).await.unwrap();
        assert_eq!((list.items.len(), list.resource_version.as_str()), (8, "18"));
        let mut watch = api.watch("default", &ListOptions::default(), &list.resource_version).await.unwrap();
        fake.put(&map("m0", "2"));
        fake.put(&map("new", "1"));
        fake.remove("configmaps", "default", "m1");
        let mut heard = Vec::new();
        for _ in 0..3 {
            heard.push(match watch.next().await.unwrap().unwrap() {
                WatchEvent::Added { object, revision } => {
                    format!("+{}@{revision}", object.metadata.name)
                }
                WatchEvent::Modified { object, revision } => {
                    format!("~{}@{revision}", object.metadata.name)
                }
                WatchEvent::Deleted { object, revision } => {
                    format!("-{}@{revision}", object.metadata.name)
                }
                WatchEvent::Bookmark { revision, .. } => format!("at {revision}"),
            });
        }
        assert_eq!(heard, ["~m0@19", "+new@20", "-m1@21"]);
        fake.cut_watches();
        assert!(watch.next().await.is_none());
    });
}

#[test]
fn a_watch_of_what_is_compacted_says_expired() {
    simulate(async |sim: Sim| {
        let (fake, _client, api) = scene(&sim).await;
        fake.put(&map("a", "1"));
        fake.put(&map("a", "2"));
        fake.compact();
        let mut watch = api.watch("", &ListOptions::default(), "11").await.unwrap();
        assert!(watch.next().await.unwrap().unwrap_err().is_expired());
    });
}

#[test]
fn a_users_cause_travels_with_each_write_and_each_has_its_own_request() {
    simulate(async |sim: Sim| {
        let (fake, _client, api) = scene(&sim).await;
        let why = skiffv1::Cause { reason: "skiffctl apply -f web.yaml".into(), ..skiffv1::Cause::default() };
        cause::with(why, async {
            api.create(&map("a", "1")).await.unwrap();
            api.create(&map("b", "1")).await.unwrap();
        })
        .await;
        api.create(&map("c", "1")).await.unwrap();
        let reasons: Vec<_> = fake.log().into_iter().map(|write| write.cause.reason).collect();
        assert_eq!(reasons, ["skiffctl apply -f web.yaml", "skiffctl apply -f web.yaml", ""]);
        let mut requests: Vec<_> = fake.log().into_iter().map(|write| write.cause.request_id).collect();
        requests.sort();
        requests.dedup();
        assert_eq!(requests.len(), 3);
    });
}

#[test]
fn no_answer_in_time_is_a_timeout_whose_outcome_is_unknown() {
    simulate(async |sim: Sim| {
        let (_fake, client, api) = scene(&sim).await;
        api.create(&map("a", "1")).await.unwrap();
        sim.partition("server", "node");
        let hasty = Api::<ConfigMap>::new(&client.with_timeout(Duration::from_secs(2)));
        let error = hasty.create(&map("b", "1")).await.unwrap_err();
        assert!(matches!(error, Error::Timeout { .. }) && error.outcome_unknown(), "{error}");
        assert!(error.to_string().contains("create configmaps in default"), "{error}");
    });
}

#[test]
fn warnings_reach_their_handler() {
    simulate(async |sim: Sim| {
        let (fake, client, _api) = scene(&sim).await;
        let heard = Arc::new(Mutex::new(Vec::new()));
        let into = heard.clone();
        let client = client.with_warnings(Arc::new(move |warning| into.lock().unwrap().push(warning.to_string())));
        fake.warn("spec.hostPID: not honoured");
        Api::new(&client).create(&map("a", "1")).await.unwrap();
        assert_eq!(*heard.lock().unwrap(), ["spec.hostPID: not honoured"]);
    });
}
