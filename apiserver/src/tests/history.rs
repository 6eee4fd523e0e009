//! What was, asked of a whole server: by revision, by write, by right; and from files that somebody has damaged.

use super::{Server, at, options};
use crate::Options;
use crate::store::Store;
use crate::store::embedded::{Embedded, EmbeddedOptions};
use serde_json::{Value, json};
use skiff_proto::metav1;
use skiff_proto::skiffv1 as pb;
use skiff_proto::skiffv1::history_client::HistoryClient;
use skiff_world::Identity;
use skiff_world::sim::{Sim, Simulation};
use std::future::Future;
use std::path::{Path, PathBuf};

const DIR: &str = "/recorder";

fn recording() -> Options {
    Options { recorder_dir: Some(PathBuf::from(DIR)), ..options() }
}

fn with_recorder<F>(test: impl FnOnce(Sim, Server) -> F + Send + 'static)
where
    F: Future<Output = ()> + Send + 'static,
{
    Simulation::new(1).run(move |sim: Sim| async move {
        let server = Server::start(&sim, recording()).await;
        test(sim, server).await;
    });
}

type Changes = Result<pb::ChangesReply, (String, String)>;

fn refused(status: tonic::Status) -> (String, String) {
    use prost::Message;
    let status = metav1::Status::decode(status.details()).unwrap_or_default();
    (status.reason, status.message)
}

async fn changes(server: &Server, who: &Identity, path: &str, up_to: u64, limit: u32) -> Changes {
    let mut api = HistoryClient::new(server.channel(Some(who.clone())));
    let request = pb::ChangesRequest { r#ref: Some(at(path)), up_to, limit, ..Default::default() };
    api.changes(request).await.map(|reply| reply.into_inner()).map_err(refused)
}

async fn writes(server: &Server, who: &Identity, writes: &[pb::ObjectRef]) -> pb::ChangesReply {
    let mut api = HistoryClient::new(server.channel(Some(who.clone())));
    api.writes(pb::WritesRequest { writes: writes.to_vec() }).await.expect("an answer").into_inner()
}

fn admin() -> Identity {
    Identity::new("kubernetes-admin", &["system:masters"])
}

fn revision(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok()).expect("a revision")
}

fn data(change: &pb::Recorded) -> String {
    let object: Value = serde_json::from_slice(&change.json).expect("JSON");
    assert_eq!(revision(&object), change.object.as_ref().expect("a name").revision);
    object["data"]["k"].as_str().expect("data").to_owned()
}

fn map(name: &str, value: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "default"}, "data": {"k": value}})
}

#[test]
fn an_object_is_read_as_it_was_at_every_revision_that_is_held() {
    with_recorder(|_, server| async move {
        let client = server.admin();
        let one = revision(&client.create("v1:configmaps:default", map("m", "one")).await.unwrap());
        let other = revision(&client.create("v1:configmaps:default", map("n", "x")).await.unwrap());
        let two = revision(&client.merge("v1:configmaps:default/m", json!({"data": {"k": "two"}})).await.unwrap());
        client.delete("v1:configmaps:default/m").await.unwrap();
        let all = changes(&server, &admin(), "v1:configmaps:default/m", 0, 0).await.unwrap();
        let told: Vec<(String, bool, String)> =
            all.changes.iter().map(|c| (data(c), c.deleted, c.cause.clone().expect("a cause").verb)).collect();
        let told: Vec<_> = told.iter().map(|(data, deleted, verb)| (data.as_str(), *deleted, verb.as_str())).collect();
        assert_eq!(told, [("one", false, "create"), ("two", false, "patch"), ("two", true, "delete")]);
        assert!(all.changes.iter().all(|c| c.at > 0) && all.notices.is_empty(), "{:?}", all.notices);
        for (up_to, expected) in [(one, "one"), (other, "one"), (two, "two")] {
            let then = changes(&server, &admin(), "v1:configmaps:default/m", up_to, 1).await.unwrap();
            assert_eq!(then.changes.iter().map(data).collect::<Vec<_>>(), [expected], "at {up_to}");
        }
        let never = changes(&server, &admin(), "v1:configmaps:default/never", 0, 0).await.unwrap_err();
        assert_eq!(never.0, "NotFound");
        let before = changes(&server, &admin(), "v1:configmaps:default/n", one, 1).await.unwrap_err();
        assert_eq!(before.0, "NotFound", "it was made later: {}", before.1);
        let future = changes(&server, &admin(), "v1:configmaps:default/n", two + 1_000, 1).await.unwrap_err();
        assert!(future.1.contains("Too large resource version"), "{future:?}");
    });
}

#[test]
fn what_is_not_held_any_more_is_refused_with_the_oldest_that_is() {
    with_recorder(|sim, server| async move {
        let client = server.admin();
        let one = revision(&client.create("v1:configmaps:default", map("m", "one")).await.unwrap());
        let two = revision(&client.merge("v1:configmaps:default/m", json!({"data": {"k": "two"}})).await.unwrap());
        // The record begins anew: what was before is only in the store, and only as it is now.
        let (machine, world) = (server.machine.clone(), server.world.clone());
        server.handle.stop().await;
        world.stop().await;
        for file in machine.disk().list(DIR).unwrap() {
            machine.disk().remove(Path::new(DIR).join(file.name)).unwrap();
        }
        let world = machine.world("compaction", None);
        let store = Embedded::open(&world, EmbeddedOptions::new("/store")).await.unwrap();
        store.compact(two).await.unwrap();
        store.close().await;
        world.stop().await;
        let server = Server::start(&sim, recording()).await;
        let later = revision(&server.admin().create("v1:configmaps:default", map("n", "x")).await.unwrap());
        let (reason, words) = changes(&server, &admin(), "v1:configmaps:default/m", one, 1).await.unwrap_err();
        assert_eq!(reason, "Expired");
        assert!(words.contains(&format!("at revision {one} is not held any more")), "{words}");
        assert!(words.contains("the oldest revision that this API server holds is "), "{words}");
        let now = changes(&server, &admin(), "v1:configmaps:default/m", later, 1).await.unwrap();
        assert_eq!((data(&now.changes[0]), now.changes[0].object.clone().unwrap().revision), ("two".into(), two));
        assert_eq!(now.changes[0].cause.clone().expect("the store keeps it").verb, "patch");
    });
}

#[test]
fn reading_what_was_is_a_right_like_reading_the_object() {
    with_recorder(|_, server| async move {
        let client = server.admin();
        let secret = json!({"metadata": {"name": "s", "namespace": "default"}, "stringData": {"k": "hush"}});
        let secret = client.create("v1:secrets:default", secret).await.unwrap();
        let scheduler = Identity::new("system:kube-scheduler", &[]);
        let (reason, words) = changes(&server, &scheduler, "v1:secrets:default/s", 0, 0).await.unwrap_err();
        assert!(reason == "Forbidden" && words.contains("cannot get resource \"secrets\""), "{reason}: {words}");
        let write = |resource: &str, name: &str| pb::ObjectRef {
            resource: resource.into(),
            namespace: "default".into(),
            name: name.into(),
            uid: secret["metadata"]["uid"].as_str().unwrap().into(),
            revision: revision(&secret),
            ..Default::default()
        };
        for asked in [write("secrets", "s"), write("pods", "s")] {
            let reply = writes(&server, &scheduler, &[asked]).await;
            assert!(reply.changes.is_empty(), "calling it something else opens no door");
            assert!(reply.notices[0].contains("secrets"), "{:?}", reply.notices);
        }
        assert_eq!(writes(&server, &admin(), &[write("secrets", "s")]).await.changes.len(), 1);
    });
}

#[test]
fn who_wrote_is_the_servers_word_and_only_the_program_is_the_clients() {
    with_recorder(|_, server| async move {
        use prost::Message;
        let cause = pb::Cause {
            actor: Some(pb::Actor { user: "somebody else".into(), node: "node-9".into(), ..Default::default() }),
            reason: "why not".into(),
            ..Default::default()
        };
        let mut request = tonic::Request::new(pb::CreateRequest {
            r#ref: Some(at("v1:configmaps:default")),
            object: map("m", "one").to_string().into_bytes().into(),
            content_type: "application/json".into(),
            accept: "application/json".into(),
            ..Default::default()
        });
        let value = tonic::metadata::MetadataValue::from_bytes(&cause.encode_to_vec());
        request.metadata_mut().insert_bin("skiff-cause-bin", value);
        server.admin().grpc.clone().create(request).await.unwrap();
        let told = changes(&server, &admin(), "v1:configmaps:default/m", 0, 0).await.unwrap();
        let cause = told.changes[0].cause.clone().expect("a cause");
        let actor = cause.actor.expect("an actor");
        assert_eq!((actor.user.as_str(), actor.node.as_str()), ("kubernetes-admin", ""));
        assert!(actor.component.starts_with("tonic/"), "{}", actor.component);
        assert_eq!(cause.reason, "why not");
    });
}

#[test]
fn damaged_files_are_passed_over_with_a_notice() {
    with_recorder(|sim, server| async move {
        let client = server.admin();
        client.create("v1:configmaps:default", map("m", "one")).await.unwrap();
        client.merge("v1:configmaps:default/m", json!({"data": {"k": "two"}})).await.unwrap();
        client.merge("v1:configmaps:default/m", json!({"data": {"k": "six"}})).await.unwrap();
        changes(&server, &admin(), "v1:configmaps:default/m", 0, 0).await.unwrap();
        let (machine, world) = (server.machine.clone(), server.world.clone());
        server.handle.stop().await;
        world.stop().await;
        let name = machine.disk().list(DIR).unwrap().remove(0).name;
        let path = Path::new(DIR).join(name);
        let mut file = machine.disk().read(&path).unwrap();
        // Somebody rewrites history, and somebody else writes half a file.
        let two = file.windows(3).rposition(|bytes| bytes == b"two").expect("it is recorded");
        file[two..two + 3].copy_from_slice(b"ten");
        machine.disk().write_atomic(&path, &file, 0o600).unwrap();
        let half = Path::new(DIR).join("00000000000000000001-0.log");
        machine.disk().write_atomic(&half, &file[..40], 0o600).unwrap();
        machine.disk().write_atomic(Path::new(DIR).join("00000000000000000001-1.log"), b"rubbish", 0o600).unwrap();
        let server = Server::start(&sim, recording()).await;
        let told = changes(&server, &admin(), "v1:configmaps:default/m", 0, 0).await.unwrap();
        let values: Vec<String> = told.changes.iter().map(data).collect();
        assert_eq!(values.last().map(String::as_str), Some("six"));
        assert!(!values.contains(&"ten".to_string()), "what was tampered with is never shown: {values:?}");
        let notices = told.notices.join("; ");
        for words in ["was changed and is passed over", "ends within a record", "is no recorder segment"] {
            assert!(notices.contains(words), "{words:?} is not in {notices}");
        }
    });
}
