//! Following, on a real API server in a simulated world that stops and starts again.

use std::time::Duration;

use serde_json::json;
use skiff_world::sim::Sim;

use super::*;
use crate::columns::name;
use crate::delete;
use crate::tests::{outage, session, simulate, start};

async fn make(session: &Session, name: &str) -> Value {
    let resource = session.resource("", "configmaps").await.unwrap();
    let object =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "finalizers": ["test/hold"]}});
    session.api(&resource, false).create("default", &object).await.unwrap()
}

#[test]
fn nothing_is_missed_while_the_server_starts_again() {
    simulate(async |sim: Sim| {
        let (mut server, mut _handle) = start(&sim).await;
        let session = session(&sim);
        let maps = session.resource("", "configmaps").await.unwrap();
        let mut follow = Follow::new(&session, &maps, "default", ListOptions::default());
        make(&session, "before").await;
        let News::All(objects) = follow.next().await.unwrap() else { panic!("the list comes first") };
        assert!(objects.iter().any(|o| name(o) == "before"));
        for round in 0..3 {
            let called = format!("round-{round}");
            let happens = make(&session, &called);
            let (news, (started, _)) = futures::future::join(follow.next(), outage(&sim, server, happens)).await;
            (server, _handle) = started;
            match news.unwrap() {
                News::Is(object) => assert_eq!(name(&object), called),
                other => panic!("an object came, not {other:?}"),
            }
        }
    });
}

#[test]
fn a_deletion_is_waited_for_across_a_restart() {
    simulate(async |sim: Sim| {
        let (server, _handle) = start(&sim).await;
        let session = session(&sim);
        let maps = session.resource("", "configmaps").await.unwrap();
        let made = make(&session, "held").await;
        let api = session.api(&maps, false);
        api.delete("default", "held", &Default::default()).await.unwrap();
        let uid = made["metadata"]["uid"].as_str().unwrap();
        let released = async {
            let patch = skiff_client::Patch::Merge(json!({"metadata": {"finalizers": null}}));
            api.patch("default", "held", patch, None).await.unwrap();
        };
        let before = session.world().now();
        let gone = delete::until_gone(&session, &maps, "default", "held", uid);
        let (gone, _) = futures::future::join(gone, outage(&sim, server, released)).await;
        gone.unwrap();
        assert!(session.world().now() - before > Duration::from_secs(6), "it was not gone before");
    });
}

#[test]
fn who_cannot_reach_the_server_at_first_is_told_at_once() {
    simulate(async |sim: Sim| {
        let (server, _handle) = start(&sim).await;
        let session = session(&sim);
        let maps = session.resource("", "configmaps").await.unwrap();
        server.stop().await;
        let error = Follow::one(&session, &maps, "default", "x").next().await.unwrap_err();
        assert!(error.is_unreachable(), "{error}");
    });
}
