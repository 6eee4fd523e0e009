//! Watches over HTTP, event by event.

use super::*;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// A watch being read.
struct Events {
    body: Incoming,
    rest: Vec<u8>,
}

impl Events {
    async fn open(http: &Http, path: &str, headers: &[&str]) -> Events {
        let response = http.send("GET", path, headers, "").await;
        assert_eq!(response.status(), 200, "{path}");
        Events { body: response.into_body(), rest: Vec::new() }
    }

    /// The next event; `None` at the end.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(at) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=at).collect();
                return Some(serde_json::from_slice(&line).expect("an event"));
            }
            let frame = self.body.frame().await?.expect("no error");
            self.rest.extend_from_slice(frame.data_ref().expect("data"));
        }
    }

    async fn brief(&mut self) -> String {
        match self.next().await {
            Some(event) => format!("{} {}", event["type"].as_str().unwrap_or_default(), name(&event["object"])),
            None => "end".into(),
        }
    }
}

async fn make(http: &Http, name: &str, label: &str) -> Value {
    http.post(MAPS, &json!({"metadata": {"name": name, "labels": {"of": label}}})).await.json()
}

#[test]
fn events_come_after_the_lists_revision_and_equal_the_writes() {
    with_server(|server| async move {
        let http = server.http();
        make(&http, "old", "x").await;
        let list = http.get(MAPS).await.json();
        let at = list["metadata"]["resourceVersion"].as_str().expect("a revision");
        let mut events = Events::open(&http, &format!("{MAPS}?watch=true&resourceVersion={at}"), &[]).await;
        let made = make(&http, "new", "x").await;
        let event = events.next().await.expect("an event");
        assert_eq!((&event["type"], &event["object"]), (&json!("ADDED"), &made));
        http.ask("DELETE", &format!("{MAPS}/old"), &[], "").await;
        assert_eq!(events.brief().await, "DELETED old");
    });
}

#[test]
fn selectors_let_objects_enter_and_leave() {
    with_server(|server| async move {
        let http = server.http();
        make(&http, "a", "x").await;
        let mut events = Events::open(&http, &format!("{MAPS}?watch=1&labelSelector=of%3Dx"), &[]).await;
        assert_eq!(events.brief().await, "ADDED a");
        let merge = &["content-type: application/merge-patch+json"];
        for (label, seen) in [("y", "DELETED a"), ("x", "ADDED a")] {
            let patch = json!({"metadata": {"labels": {"of": label}}});
            http.ask("PATCH", &format!("{MAPS}/a"), merge, patch.to_string()).await;
            assert_eq!(events.brief().await, seen);
        }
        // One object by its name, in the old way and the new.
        for path in [
            "/api/v1/watch/namespaces/default/configmaps/a",
            &format!("{MAPS}?watch=1&fieldSelector=metadata.name%3Da"),
        ] {
            let mut events = Events::open(&http, path, &[]).await;
            make(&http, &format!("b{}", path.len()), "x").await;
            assert_eq!(events.brief().await, "ADDED a");
        }
    });
}

#[test]
fn initial_events_end_with_an_annotated_bookmark_and_time_ends_a_watch() {
    with_server(|server| async move {
        let http = server.http();
        make(&http, "a", "x").await;
        let options = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&resourceVersion=&timeoutSeconds=90&labelSelector=of";
        let mut events = Events::open(&http, &format!("{MAPS}?{options}"), &[]).await;
        assert_eq!(events.brief().await, "ADDED a");
        let end = events.next().await.expect("a bookmark");
        assert_eq!((&end["type"], &end["object"]["kind"]), (&json!("BOOKMARK"), &json!("ConfigMap")));
        assert_eq!(end["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
        let quiet = events.next().await.expect("a bookmark by the minute");
        assert_eq!(quiet["type"], "BOOKMARK");
        assert!(quiet["object"]["metadata"].get("annotations").is_none());
        assert_eq!(events.brief().await, "end");
    });
}

#[test]
fn a_revision_that_is_too_old_is_an_event() {
    Simulation::new(1).run(|sim: Sim| async move {
        let server = Server::start(&sim, options()).await;
        for i in 0..3 {
            make(&server.http(), &format!("a{i}"), "x").await;
        }
        server.handle.stop().await;
        // A server that has just started knows what is, and nothing of what was.
        let server = Server::start(&sim, options()).await;
        let mut events = Events::open(&server.http(), &format!("{MAPS}?watch=1&resourceVersion=1"), &[]).await;
        let event = events.next().await.expect("an event");
        assert_eq!(
            (&event["type"], &event["object"]["kind"], &event["object"]["code"], &event["object"]["reason"]),
            (&json!("ERROR"), &json!("Status"), &json!(410), &json!("Expired"))
        );
        assert_eq!(events.brief().await, "end");
    });
}

#[test]
fn a_watched_table_has_its_columns_once() {
    with_server(|server| async move {
        let http = server.http();
        let table = "accept: application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
        let mut events = Events::open(&http, &format!("{MAPS}?watch=1"), &[table]).await;
        make(&http, "a", "x").await;
        make(&http, "b", "x").await;
        for (name, columns) in [("a", 3), ("b", 0)] {
            let event = events.next().await.expect("an event");
            let table = &event["object"];
            assert_eq!((&table["kind"], &table["rows"][0]["cells"][0]), (&json!("Table"), &json!(name)));
            assert_eq!(table["columnDefinitions"].as_array().map(Vec::len), Some(columns));
            assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
        }
    });
}

#[test]
fn a_watch_without_an_end_of_its_own_ends_within_the_hour_and_says_each_minute_how_far_it_is() {
    with_server(|server| async move {
        let http = server.http();
        make(&http, "old", "x").await;
        // It asks for nothing that was, and names no revision: it begins now.
        let path =
            format!("{MAPS}?watch=1&sendInitialEvents=false&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=1");
        let mut events = Events::open(&http, &path, &[]).await;
        let began = server.world.now();
        for minute in 1..=3 {
            // A write in each minute, just before it is over.
            server.world.sleep(std::time::Duration::from_secs(55)).await;
            make(&http, &format!("new{minute}"), "x").await;
            assert_eq!(events.brief().await, format!("ADDED new{minute}"));
            assert_eq!(events.next().await.map(|event| event["type"].clone()), Some(json!("BOOKMARK")));
            assert_eq!((server.world.now() - began).as_secs(), 60 * minute);
        }
        while events.next().await.is_some() {}
        let minutes = (server.world.now() - began).as_secs() / 60;
        assert!((30..=60).contains(&minutes), "{minutes} minutes");
    });
}
