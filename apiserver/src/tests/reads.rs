//! Listing and watching: selectors, pages at one revision, no gap between list and watch, no words left unsaid.

use super::*;
use pb::watch_event::Type;

const MAPS: &str = "v1:configmaps:default";

async fn fill(client: &Client, n: usize) {
    for i in 0..n {
        let map = json!({"metadata": {"name": format!("m{i:03}"), "labels": {"parity": if i % 2 == 0 { "even" } else { "odd" }}}});
        client.create(MAPS, map).await.expect("made");
    }
}

fn list(path: &str) -> pb::ListRequest {
    pb::ListRequest { r#ref: Some(at(path)), ..Default::default() }
}

fn watch(path: &str, from: &str) -> pb::WatchRequest {
    pb::WatchRequest {
        r#ref: Some(at(path)),
        resource_version: from.into(),
        allow_bookmarks: true,
        ..Default::default()
    }
}

async fn next(stream: &mut tonic::Streaming<pb::WatchEvent>) -> (Type, String) {
    let event = stream.message().await.expect("no error").expect("not over");
    let object: Value = serde_json::from_slice(&event.object).unwrap_or_default();
    (
        event.r#type(),
        if event.r#type() == Type::Error {
            object["reason"].as_str().unwrap_or_default().into()
        } else {
            name(&object)
        },
    )
}

#[test]
fn pages_show_one_revision_whatever_happens_between_them() {
    in_many_worlds(|server| async move {
        let admin = server.admin();
        fill(&admin, 10).await;
        let first = admin.page(pb::ListRequest { limit: 4, ..list(MAPS) }).await.expect("a page");
        assert_eq!((first.items.len(), first.remaining), (4, 6));
        admin.delete("v1:configmaps:default/m005").await.expect("deleted");
        admin.create(MAPS, json!({"metadata": {"name": "m0045"}})).await.expect("made");
        let rest =
            admin.page(pb::ListRequest { r#continue: first.r#continue.clone(), ..list(MAPS) }).await.expect("the rest");
        assert_eq!(rest.resource_version, first.resource_version);
        let names: Vec<String> = rest.items.iter().map(|i| name(&serde_json::from_slice(i).expect("JSON"))).collect();
        assert_eq!(names, ["m004", "m005", "m006", "m007", "m008", "m009"]);
        assert_eq!(rest.r#continue, "");
        let other = pb::ListRequest { r#continue: first.r#continue, label_selector: "a=b".into(), ..list(MAPS) };
        assert_eq!(admin.page(other).await.expect_err("another list").reason(), "BadRequest");
    });
}

#[test]
fn pages_are_bounded_in_bytes() {
    with_limits(Limits { page_bytes: 2000, ..Limits::default() }, |server| async move {
        let admin = server.admin();
        fill(&admin, 20).await;
        let (mut seen, mut token, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let page = admin.page(pb::ListRequest { r#continue: token, ..list(MAPS) }).await.expect("a page");
            assert!(page.items.iter().map(|item| item.len()).sum::<usize>() <= 2000);
            seen.extend(page.items.iter().map(|i| name(&serde_json::from_slice(i).expect("JSON"))));
            pages += 1;
            token = page.r#continue;
            if token.is_empty() {
                break;
            }
        }
        assert!(pages > 1);
        assert_eq!(seen, (0..20).map(|i| format!("m{i:03}")).collect::<Vec<_>>());
    });
}

#[test]
fn selectors_select_and_unknown_fields_are_refused() {
    with_server(|server| async move {
        let admin = server.admin();
        fill(&admin, 4).await;
        assert_eq!(admin.names(MAPS, "parity=odd", "").await.expect("listed"), ["m001", "m003"]);
        assert_eq!(admin.names(MAPS, "parity notin (odd)", "").await.expect("listed"), ["m000", "m002"]);
        assert_eq!(admin.names(MAPS, "", "metadata.name=m002").await.expect("listed"), ["m002"]);
        assert_eq!(admin.names(MAPS, "parity=even", "metadata.name!=m002").await.expect("listed"), ["m000"]);
        let refused = admin.names(MAPS, "", "data.x=y").await.expect_err("unknown");
        assert_eq!(refused.reason(), "BadRequest");
        assert!(refused.message().contains("field label not supported: data.x"), "{}", refused.message());
        admin.create("v1:pods:default", pod("a")).await.expect("made");
        assert_eq!(admin.names("v1:pods:", "", "spec.nodeName=,status.phase!=Failed").await.expect("listed"), ["a"]);
        assert_eq!(admin.names("v1:pods:", "(", "").await.expect_err("nonsense").reason(), "BadRequest");
    });
}

#[test]
fn list_then_watch_has_no_gap() {
    in_many_worlds(|server| async move {
        let admin = server.admin();
        fill(&admin, 3).await;
        let writer = server.admin();
        let watcher = server.admin();
        let writing = async move {
            for i in 3..60 {
                writer.create(MAPS, json!({"metadata": {"name": format!("m{i:03}")}})).await.expect("made");
            }
        };
        let watching = async move {
            let page = watcher.page(list(MAPS)).await.expect("listed");
            let mut seen: Vec<String> =
                page.items.iter().map(|i| name(&serde_json::from_slice(i).expect("JSON"))).collect();
            let mut stream = watcher.watch(watch(MAPS, &page.resource_version)).await.expect("a watch");
            while seen.len() < 60 {
                let (kind, name) = next(&mut stream).await;
                if kind != Type::Bookmark {
                    assert_eq!(kind, Type::Added);
                    seen.push(name);
                }
            }
            assert_eq!(seen, (0..60).map(|i| format!("m{i:03}")).collect::<Vec<_>>());
        };
        futures::join!(writing, watching);
    });
}

#[test]
fn events_are_the_writes_replies_and_selection_moves_them() {
    with_server(|server| async move {
        let admin = server.admin();
        let mut all = admin.watch(watch(MAPS, "0")).await.expect("a watch");
        let mut odd = admin
            .watch(pb::WatchRequest { label_selector: "parity=odd".into(), ..watch(MAPS, "0") })
            .await
            .expect("a watch");
        let made =
            admin.create(MAPS, json!({"metadata": {"name": "m", "labels": {"parity": "odd"}}})).await.expect("made");
        let event = all.message().await.expect("no error").expect("an event");
        assert_eq!(event.r#type(), Type::Added);
        assert_eq!(serde_json::from_slice::<Value>(&event.object).expect("JSON"), made);
        assert_eq!(event.resource_version, revision(&made).to_string());
        admin
            .merge("v1:configmaps:default/m", json!({"metadata": {"labels": {"parity": "even"}}}))
            .await
            .expect("patched");
        admin
            .merge("v1:configmaps:default/m", json!({"metadata": {"labels": {"parity": "odd"}}}))
            .await
            .expect("patched");
        admin.delete("v1:configmaps:default/m").await.expect("deleted");
        let (mut of_all, mut of_odd) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            of_all.push(next(&mut all).await.0);
        }
        for _ in 0..4 {
            of_odd.push(next(&mut odd).await.0);
        }
        assert_eq!(of_all, [Type::Modified, Type::Modified, Type::Deleted]);
        assert_eq!(of_odd, [Type::Added, Type::Deleted, Type::Added, Type::Deleted]);
    });
}

#[test]
fn initial_events_end_with_a_bookmark_and_quiet_watches_get_more() {
    with_server(|server| async move {
        let admin = server.admin();
        fill(&admin, 2).await;
        let mut stream =
            admin.watch(pb::WatchRequest { send_initial_events: true, ..watch(MAPS, "") }).await.expect("a watch");
        assert_eq!(next(&mut stream).await, (Type::Added, "m000".into()));
        assert_eq!(next(&mut stream).await, (Type::Added, "m001".into()));
        let end = stream.message().await.expect("no error").expect("an event");
        assert!(end.r#type() == Type::Bookmark && end.initial_events_end);
        let made = admin.create("v1:secrets:default", json!({"metadata": {"name": "s"}})).await.expect("made");
        let later = stream.message().await.expect("no error").expect("an event");
        assert!(later.r#type() == Type::Bookmark && !later.initial_events_end);
        assert!(later.resource_version.parse::<u64>().expect("a revision") >= revision(&made));
    });
}

#[test]
fn a_watch_ends_when_it_was_told_to() {
    with_server(|server| async move {
        let admin = server.admin();
        let mut stream =
            admin.watch(pb::WatchRequest { timeout_seconds: 5, ..watch(MAPS, "") }).await.expect("a watch");
        let before = server.world.now();
        assert!(stream.message().await.expect("no error").is_none());
        assert_eq!((server.world.now() - before).as_secs(), 5);
    });
}

#[test]
fn revisions_out_of_reach_are_refused_in_words() {
    with_server(|server| async move {
        let admin = server.admin();
        let refused =
            admin.page(pb::ListRequest { resource_version: "999999".into(), ..list(MAPS) }).await.expect_err("ahead");
        assert_eq!((refused.reason(), refused.status.code), ("Timeout", 504));
        assert!(refused.message().contains("Too large resource version: 999999"), "{}", refused.message());
        for (version, wanted) in [("", "Exact"), ("0", "Exact"), ("1", "Sometimes"), ("01", ""), ("x", "")] {
            let m = pb::ListRequest {
                resource_version: version.into(),
                resource_version_match: wanted.into(),
                ..list(MAPS)
            };
            assert_eq!(admin.page(m).await.expect_err("invalid").status.code, 422, "{version:?} {wanted:?}");
        }
        assert!(admin.watch(watch(MAPS, "x")).await.is_err());
    });
}

#[test]
fn metadata_alone_can_be_had_of_any_kind() {
    with_server(|server| async move {
        let admin = server.admin();
        let mut object = pod("a");
        object["metadata"]["labels"] = json!({"a": "b"});
        let made = admin.create("v1:pods:default", object).await.expect("made");
        for accept in [JSON, "application/vnd.kubernetes.protobuf"] {
            let m = pb::GetRequest { r#ref: Some(at("v1:pods:default/a")), accept: accept.into(), metadata_only: true };
            let reply = admin.grpc.clone().get(m).await.expect("read").into_inner();
            let partial: Value = if accept == JSON {
                serde_json::from_slice(&reply.object).expect("JSON")
            } else {
                skiff_proto::json::encode_value(
                    &metav1::PartialObjectMetadata::decode(&reply.object[..]).expect("protobuf"),
                )
            };
            assert_eq!(partial["metadata"], made["metadata"]);
            assert_eq!(partial["spec"], Value::Null);
        }
    });
}

#[test]
fn too_many_watchers_are_refused() {
    with_limits(Limits { watchers: 2, ..Limits::default() }, |server| async move {
        let admin = server.admin();
        let first = admin.watch(watch(MAPS, "")).await.expect("a watch");
        let _second = admin.watch(watch(MAPS, "")).await.expect("a watch");
        let refused = admin.watch(watch(MAPS, "")).await.expect_err("too many");
        assert_eq!((refused.reason(), refused.status.code), ("TooManyRequests", 429));
        drop(first);
        server.world.sleep(std::time::Duration::from_secs(1)).await;
        admin.watch(watch(MAPS, "")).await.expect("there is room again");
    });
}
