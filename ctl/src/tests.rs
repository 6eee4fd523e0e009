//! Verbs as they are typed, on a real API server in a simulated world. What they print is tested beside
//! them; here it is what they do.

use std::future::Future;
use std::time::Duration;

use clap::Parser;
use serde_json::{Value, json};
use skiff_apiserver::{Handle, Options, StoreOptions};
use skiff_client::{Client, ClientConfig, ListOptions, Patch};
use skiff_world::sim::{Faults, Sim, Simulation};
use skiff_world::{Address, Identity, World};

use super::*;

const SERVER: &str = "apiserver";

/// Starts the server; its data is on the disk of its machine.
pub async fn start(sim: &Sim) -> (World, Handle) {
    let identity = Identity::new("system:apiserver", &["system:masters"]);
    let world = sim.machine("server").world(SERVER, Some(identity));
    let store = StoreOptions::Embedded(skiff_apiserver::EmbeddedOptions::new("/store"));
    let options = Options::new(vec![Address::Pipe(SERVER.into())], store);
    // On the heap: it would lie on a test's stack once for each caller.
    let handle = Box::pin(skiff_apiserver::run(world.clone(), options)).await.expect("the server starts");
    (world, handle)
}

/// An administrator's session.
pub fn session(sim: &Sim) -> Session {
    let identity = Identity::new("kubernetes-admin", &["system:masters"]);
    let world = sim.machine("user").world("skiffctl", Some(identity));
    let client = Client::new(&world, ClientConfig::pipe(SERVER, "test/0")).unwrap();
    Session::over(&client, "default")
}

/// Runs a story in several worlds: other delays, other orders.
pub fn simulate<F: Future<Output = ()>>(scenario: impl Fn(Sim) -> F + Copy) {
    for seed in 0..4 {
        Simulation::new(seed).faults(Faults::none()).run(scenario);
    }
}

/// The server goes and comes back a while later; then something happens.
pub async fn outage<T>(sim: &Sim, server: World, then: impl Future<Output = T>) -> ((World, Handle), T) {
    server.stop().await;
    sim.machine("user").world("patience", None).sleep(Duration::from_secs(7)).await;
    let server = start(sim).await;
    (server, then.await)
}

/// What is typed behind `skiffctl`; true is exit code 0.
async fn type_in(session: &Session, line: &str) -> anyhow::Result<bool> {
    let words = std::iter::once("skiffctl").chain(line.split_whitespace());
    match Cli::try_parse_from(words).unwrap_or_else(|e| panic!("{line}: {e}")).verb {
        // On the heap: the futures of all verbs together are much for a test's stack.
        Command::There(verb) => Ok(Box::pin(act(session, verb)).await? == ExitCode::SUCCESS),
        Command::Here(_) => panic!("{line}: it needs no cluster"),
    }
}

async fn done(session: &Session, line: &str) {
    assert!(type_in(session, line).await.unwrap_or_else(|e| panic!("{line}: {e:#}")), "{line}");
}

async fn refused(session: &Session, line: &str, why: &str) {
    match type_in(session, line).await {
        Ok(done) => panic!("{line}: it should be refused, and was {}", if done { "done" } else { "only reported" }),
        Err(error) => assert!(format!("{error:#}").contains(why), "{line}: {error:#}"),
    }
}

async fn get(session: &Session, kind: &str, name: &str) -> Option<Value> {
    let resource = target::find(&session.resources().await.unwrap(), kind).unwrap();
    let namespace = if resource.namespaced { "default" } else { "" };
    session.api(&resource, false).get_opt(namespace, name).await.unwrap()
}

async fn make(session: &Session, kind: &str, object: Value) {
    let resource = target::find(&session.resources().await.unwrap(), kind).unwrap();
    let namespace = if resource.namespaced { "default" } else { "" };
    session.api(&resource, false).create(namespace, &object).await.unwrap();
}

#[test]
fn labels_change_and_many_hands_do_not_undo_each_other() {
    simulate(async |sim: Sim| {
        let _server = start(&sim).await;
        let session = session(&sim);
        done(&session, "create configmap c --from-literal=k=v").await;
        done(&session, "label cm c a=1").await;
        refused(&session, "label cm c a=2", "--overwrite is false").await;
        done(&session, "label cm c a=2 --overwrite").await;
        refused(&session, "label cm none a=1", "not found").await;
        let lines: Vec<String> = (0..4).map(|i| format!("annotate configmap/c hand-{i}=x")).collect();
        futures::future::join_all(lines.iter().map(|line| done(&session, line))).await;
        done(&session, "label cm --all a-").await;
        let object = get(&session, "cm", "c").await.unwrap();
        assert_eq!(object["metadata"].get("labels"), None);
        assert_eq!(object["metadata"]["annotations"].as_object().unwrap().len(), 4);
    });
}

#[test]
fn a_workload_is_made_shown_and_changed_by_words_alone() {
    simulate(async |sim: Sim| {
        let _server = start(&sim).await;
        let session = session(&sim);
        done(&session, "create deployment web --image=demo:1 --replicas=2 --port=80").await;
        done(&session, "expose deployment web --port=8080").await;
        done(&session, "set image deployment/web demo=demo:2").await;
        done(&session, "set env deployment/web A=1 B=2").await;
        done(&session, "set env deployment/web B-").await;
        done(&session, "set resources deployment/web --limits=memory=64Mi").await;
        done(&session, "scale deployment/web --replicas=3").await;
        refused(&session, "scale deployment/web --replicas=9 --current-replicas=2", "there are 3").await;
        done(&session, "patch deployment web -p {\"spec\":{\"paused\":true}}").await;
        let web = get(&session, "deployment", "web").await.unwrap();
        let container = &web["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["image"], "demo:2");
        assert_eq!(container["env"], json!([{"name": "A", "value": "1"}]));
        assert_eq!(container["resources"]["limits"], json!({"memory": "64Mi"}));
        assert_eq!((&web["spec"]["replicas"], &web["spec"]["paused"]), (&json!(3), &json!(true)));
        let service = get(&session, "service", "web").await.unwrap();
        assert_eq!(service["spec"]["selector"], json!({"app": "web"}));
        assert_eq!(service["spec"]["ports"][0]["port"], 8080);
    });
}

#[test]
fn a_dry_run_changes_nothing() {
    simulate(async |sim: Sim| {
        let _server = start(&sim).await;
        let session = session(&sim);
        done(&session, "create deployment web --image=demo:1").await;
        make(&session, "node", json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}})).await;
        let before = (get(&session, "deployment", "web").await, get(&session, "node", "n1").await);
        let mut other = before.0.clone().unwrap();
        other["spec"]["replicas"] = json!(7);
        other["metadata"].as_object_mut().unwrap().retain(|field, _| ["name", "labels"].contains(&field.as_str()));
        let file = tempfile::Builder::new().suffix(".json").tempfile().unwrap();
        std::fs::write(file.path(), other.to_string()).unwrap();
        let replace = format!("replace -f {}", file.path().display());
        for how in ["client", "server"] {
            for line in [
                "create namespace x",
                "run x --image=demo:1",
                "expose deployment web --port=80 --name=x",
                "label deployment web a=b",
                "annotate deployment web a=b",
                "patch deployment web -p {\"spec\":{\"replicas\":7}}",
                "scale deployment web --replicas=7",
                "set image deployment/web demo=demo:7",
                "taint node n1 a=b:NoSchedule",
                "cordon n1",
                "drain n1",
                "delete deployment web",
                &replace,
                &format!("{replace} --force"),
                &replace.replacen("replace", "apply", 1),
            ] {
                done(&session, &format!("{line} --dry-run={how}")).await;
            }
            let after = (get(&session, "deployment", "web").await, get(&session, "node", "n1").await);
            assert_eq!(before, after, "{how}");
            for kind in ["namespace", "pod", "service"] {
                assert_eq!(get(&session, kind, "x").await, None, "{kind}, {how}");
            }
        }
        refused(&session, "patch deployment web -p {\"spec\":{\"replicas\":-1}} --dry-run=server", "replicas").await;
        done(&session, &replace).await;
        assert_eq!(get(&session, "deployment", "web").await.unwrap()["spec"]["replicas"], 7, "and without, it does");
    });
}

#[test]
fn a_node_is_drained_or_left_as_it_is() {
    simulate(async |sim: Sim| {
        let _server = start(&sim).await;
        let session = session(&sim);
        make(&session, "node", json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}})).await;
        let owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "u", "controller": true});
        let pod = |name: &str, node: &str, owners: Value| {
            json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "ownerReferences": owners},
                "spec": {"nodeName": node, "containers": [{"name": "c", "image": "demo:1"}]},
            })
        };
        make(&session, "pod", pod("managed", "n1", json!([owner]))).await;
        make(&session, "pod", pod("alone", "n1", json!([]))).await;
        make(&session, "pod", pod("elsewhere", "n2", json!([]))).await;
        assert!(!type_in(&session, "drain n1 --grace-period=0").await.unwrap(), "one Pod has no controller");
        assert!(get(&session, "pod", "managed").await.is_some(), "then none of them goes");
        assert_eq!(get(&session, "node", "n1").await.unwrap()["spec"]["unschedulable"], true);
        done(&session, "drain n1 --force --grace-period=0").await;
        assert!(get(&session, "pod", "managed").await.is_none() && get(&session, "pod", "alone").await.is_none());
        assert!(get(&session, "pod", "elsewhere").await.is_some());
        done(&session, "uncordon n1").await;
        done(&session, "taint nodes n1 a=b:NoExecute").await;
        done(&session, "taint nodes n1 a-").await;
        let node = get(&session, "node", "n1").await.unwrap();
        // The API server's own, of a node that is not ready yet, stays.
        let left: Vec<&str> = columns::list(&node, "/spec/taints").iter().filter_map(|t| t["key"].as_str()).collect();
        assert_eq!(left, ["node.kubernetes.io/not-ready"]);
        assert!(node["spec"].get("unschedulable").is_none(), "{node}");
        refused(&session, "drain n2", "not found").await;
    });
}

#[test]
fn what_is_waited_for_may_come_after_a_restart_of_the_server() {
    simulate(async |sim: Sim| {
        let (server, _handle) = start(&sim).await;
        let session = session(&sim);
        done(&session, "create deployment web --image=demo:1").await;
        assert!(!type_in(&session, "wait --for=condition=Available deployment/web --timeout=2s").await.unwrap());
        let resource = session.resource("apps", "deployments").await.unwrap();
        let api = session.api(&resource, false);
        let available = async {
            let status =
                json!({"status": {"observedGeneration": 1, "conditions": [{"type": "Available", "status": "True"}]}});
            api.patch("default", "web", Patch::Merge(status), Some("status")).await.unwrap();
        };
        let later = async {
            // The one who waits has looked once before the server goes.
            session.world().sleep(Duration::from_secs(3)).await;
            outage(&sim, server, available).await
        };
        let wait = done(&session, "wait --for=condition=Available deployment/web --timeout=60s");
        let _server = futures::future::join(wait, later).await;
        done(&session, "wait --for=jsonpath={.metadata.name}=web deployment --all").await;
        done(&session, "wait --for=delete deployment/none").await;
    });
}

#[test]
fn rollouts_that_have_failed_end_with_the_pods_reason() {
    simulate(async |sim: Sim| {
        let _server = start(&sim).await;
        let session = session(&sim);
        done(&session, "create deployment web --image=no/such:1").await;
        let web = get(&session, "deployment", "web").await.unwrap();
        let controls = |kind: &str, object: &Value| {
            json!([{"apiVersion": "apps/v1", "kind": kind, "name": object["metadata"]["name"],
                "uid": object["metadata"]["uid"], "controller": true}])
        };
        let labels = json!({"app": "web", "pod-template-hash": "h"});
        let spec = json!({"containers": [{"name": "c", "image": "no/such:1"}]});
        make(
            &session,
            "replicaset",
            json!({
                "apiVersion": "apps/v1", "kind": "ReplicaSet",
                "metadata": {"name": "web-h", "labels": labels, "ownerReferences": controls("Deployment", &web),
                    "annotations": {"deployment.kubernetes.io/revision": "1"}},
                "spec": {"replicas": 1, "selector": {"matchLabels": labels},
                    "template": {"metadata": {"labels": labels}, "spec": spec}},
            }),
        )
        .await;
        let set = get(&session, "replicaset", "web-h").await.unwrap();
        make(
            &session,
            "pod",
            json!({
                "apiVersion": "v1", "kind": "Pod", "spec": spec,
                "metadata": {"name": "web-h-x", "labels": labels, "ownerReferences": controls("ReplicaSet", &set)},
            }),
        )
        .await;
        let status = |status: Value| Patch::Merge(json!({ "status": status }));
        let api = |group: &'static str, plural: &'static str| {
            let session = &session;
            async move { session.api(&session.resource(group, plural).await.unwrap(), false) }
        };
        let waiting = json!({"reason": "ErrImagePull", "message": "no/such:1: not found"});
        let of_pod = json!({"phase": "Pending", "containerStatuses": [{"name": "c", "image": "", "imageID": "", "state": {"waiting": waiting}}]});
        api("", "pods").await.patch("default", "web-h-x", status(of_pod), Some("status")).await.unwrap();
        let waits = "timed out after 5 s waiting for deployment \"web\": pod/web-h-x: ErrImagePull";
        refused(&session, "rollout status deployment/web --timeout=5s", waits).await;
        let late = json!({"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"});
        let of_web = json!({"observedGeneration": 1, "conditions": [late]});
        api("apps", "deployments").await.patch("default", "web", status(of_web), Some("status")).await.unwrap();
        refused(&session, "rollout status deployment/web", "pod/web-h-x: ErrImagePull: no/such:1: not found").await;
    });
}

#[test]
fn what_is_named_almost_right_is_suggested() {
    simulate(async |sim: Sim| {
        let _server = start(&sim).await;
        let session = session(&sim);
        done(&session, "create deployment guestbook --image=demo:1").await;
        for (line, expected) in [
            ("scale deployment guestbok --replicas=2", "did you mean \"guestbook\"?"),
            ("get deploymnet", "did you mean \"deployment\"?"),
            ("explain pod.spec.contaners", "did you mean \"containers\"?"),
        ] {
            let error = type_in(&session, line).await.unwrap_err();
            let told = output::error_line(&advice::with_advice(&session, error).await);
            assert!(told.contains(expected), "{line}: {told}");
        }
        let all = session.resource("apps", "deployments").await.unwrap();
        assert_eq!(session.api(&all, false).list("default", &ListOptions::default()).await.unwrap().items.len(), 1);
    });
}

#[test]
fn applying_leaves_what_others_set_and_says_what_they_contest() {
    simulate(async |sim: Sim| {
        let _server = start(&sim).await;
        let session = session(&sim);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("map.yaml");
        let write = |data: Value| {
            let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": data});
            std::fs::write(&file, object.to_string()).unwrap();
        };
        let line = format!("apply -f {}", file.display());
        let data = async || get(&session, "cm", "m").await.unwrap()["data"].clone();
        write(json!({"a": "1", "b": "1"}));
        done(&session, &line).await;
        done(&session, "patch cm m -p {\"data\":{\"a\":\"2\",\"c\":\"2\"}}").await;
        write(json!({"a": "3"}));
        done(&session, &line).await;
        assert_eq!(data().await, json!({"a": "3", "c": "2"}), "what one's own other verbs set is no conflict");
        done(&session, &format!("{line} --field-manager=cd --force-conflicts")).await;
        write(json!({"a": "4"}));
        refused(&session, &line, "--force-conflicts").await;
        refused(&session, &line, "conflict with \"cd\": .data.a").await;
        assert_eq!(data().await, json!({"a": "3", "c": "2"}));
        done(&session, &format!("{line} --force-conflicts")).await;
        assert_eq!(data().await, json!({"a": "4", "c": "2"}));
    });
}

#[test]
fn a_kind_and_its_objects_are_applied_together() {
    simulate(async |sim: Sim| {
        let _server = start(&sim).await;
        let session = session(&sim);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("all.yaml");
        let line = format!("apply -f {}", file.display());
        let definition = include_str!("../../examples/crontab/definition.yaml");
        let write = |image: &str| {
            let tab = json!({"apiVersion": "stable.example.com/v1", "kind": "CronTab", "metadata": {"name": "t"},
                "spec": {"cronSpec": "* * * * *", "image": image}});
            // In whatever order they stand.
            std::fs::write(&file, format!("{tab}\n---\n{definition}")).unwrap();
        };
        write("demo");
        for dry in ["client", "server"] {
            done(&session, &format!("{line} --dry-run={dry}")).await;
        }
        let there = get(&session, "customresourcedefinitions", "crontabs.stable.example.com").await;
        assert_eq!(there, None, "a dry run writes nothing");
        write("");
        refused(&session, &line, "only the definitions were applied").await;
        refused(&session, &line, "spec.image").await;
        assert_eq!(get(&session, "crontab", "t").await, None);
        done(&session, "delete customresourcedefinition crontabs.stable.example.com").await;
        session.forget_resources().await;
        write("demo");
        done(&session, &line).await;
        assert_eq!(get(&session, "crontab", "t").await.unwrap()["spec"]["replicas"], 1);
        done(&session, &line).await;
        done(&session, "explain crontab.metadata.labels").await;
    });
}

#[test]
fn names_that_are_taken_are_not_waited_for() {
    simulate(async |sim: Sim| {
        let _server = start(&sim).await;
        let session = session(&sim);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("all.yaml");
        let definition = include_str!("../../examples/crontab/definition.yaml");
        std::fs::write(&file, definition).unwrap();
        done(&session, &format!("apply -f {}", file.display())).await;
        let rival = definition.replace("plural: crontabs", "plural: tabs").replace("name: crontabs.", "name: tabs.");
        let rival = rival.replace("- name: v1", "- name: v9");
        let tab = json!({"apiVersion": "stable.example.com/v9", "kind": "CronTab", "metadata": {"name": "t"}});
        std::fs::write(&file, format!("{rival}\n---\n{tab}")).unwrap();
        refused(&session, &format!("apply -f {}", file.display()), "its kind is not served").await;
    });
}

#[test]
fn rights_are_given_asked_for_and_used_as_somebody_else() {
    simulate(async |sim: Sim| {
        let _server = start(&sim).await;
        let admin = session(&sim);
        let world = sim.machine("user").world("skiffctl", Some(Identity::new("kubernetes-admin", &["system:masters"])));
        let ann = skiff_client::Impersonate { user: "ann".into(), groups: vec!["dev".into()], uid: String::new() };
        let config = ClientConfig { impersonate: Some(ann), ..ClientConfig::pipe(SERVER, "test/0") };
        let ann = Session::over(&Client::new(&world, config).unwrap(), "default");
        let may = async |session: &Session, line: &str| {
            type_in(session, line).await.unwrap_or_else(|e| panic!("{line}: {e:#}"))
        };

        assert!(may(&admin, "auth can-i delete nodes").await);
        assert!(!may(&ann, "auth can-i list pods").await);
        refused(&ann, "get pods", "User \"ann\" cannot list resource \"pods\"").await;
        done(&admin, "create role looker --verb=get,list --resource=pods,deploy/scale").await;
        let role = get(&admin, "role", "looker").await.expect("there");
        assert_eq!(role["rules"][1]["resources"], json!(["deployments/scale"]));
        done(&admin, "create rolebinding look --role=looker --group=dev").await;
        assert!(may(&ann, "auth can-i list pods").await);
        assert!(may(&ann, "auth can-i get deploy/web --subresource scale").await);
        assert!(!may(&ann, "auth can-i list pods -A").await);
        assert!(!may(&ann, "auth can-i get /metrics -q").await);
        for line in ["get pods", "auth can-i --list", "auth whoami", "auth whoami -o yaml"] {
            done(&ann, line).await;
        }
        refused(&ann, "create role more --verb=get --resource=secrets", "cannot create resource \"roles\"").await;
        done(&admin, "describe role looker").await;
        done(&admin, "describe rolebinding look").await;
    });
}
