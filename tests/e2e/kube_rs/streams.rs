//! What is streamed from a Pod: logs, commands, the container's own input and output, ports. And its eviction.

use futures::{AsyncBufReadExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::api::{Api, AttachParams, AttachedProcess, DeleteParams, EvictParams, ListParams, LogParams, PostParams};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Client, ResourceExt};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{SPACE, a_moment, pods, refused, within};

/// Starts a Pod that serves and one that copies what it is told.
pub async fn prepare(client: &Client) {
    for (name, more) in [("front", json!({"args": ["front"]})), ("copy", json!({"args": ["copy"], "stdin": true}))] {
        let mut container = json!({"name": "main", "image": "skiff/demo"});
        container.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let spec = json!({"containers": [container], "terminationGracePeriodSeconds": 1});
        let pod = json!({"metadata": {"name": name, "labels": {"app": name}}, "spec": spec});
        let pod: Pod = serde_json::from_value(pod).unwrap();
        pods(client).create(&PostParams::default(), &pod).await.unwrap();
    }
}

/// The log as text, and followed line by line.
pub async fn logs(client: &Client) {
    let pods = pods(client);
    for name in ["front", "copy"] {
        within("the Pod runs", await_condition(pods.clone(), name, conditions::is_pod_running())).await.unwrap();
    }
    let follow = LogParams { follow: true, ..Default::default() };
    let mut lines = pods.log_stream("front", &follow).await.unwrap().lines();
    let line = within("a line of the log", lines.try_next()).await.unwrap().unwrap();
    assert!(line.starts_with("serving on"), "{line}");
    // Now it is there: a program that runs may not have said anything yet.
    let stamped = LogParams { timestamps: true, tail_lines: Some(1), ..Default::default() };
    let text = pods.logs("front", &stamped).await.unwrap();
    assert!(text.contains("Z serving on 0.0.0.0:8080"), "{text}");
    refused(pods.logs("front", &LogParams { previous: true, ..Default::default() }).await, 400, "BadRequest");
}

/// How a process ended.
async fn ended(mut process: AttachedProcess) -> Option<Status> {
    let status = process.take_status().unwrap();
    let status = within("the process has ended", status).await;
    process.join().await.unwrap();
    status
}

/// Commands: what they read and write, and how they end.
pub async fn commands(client: &Client) {
    let pods = pods(client);
    let run = |words: &'static [&'static str], with: AttachParams| {
        let pods = pods.clone();
        async move { within("a command has begun", pods.exec("front", words.to_vec(), &with)).await }
    };
    let plain = AttachParams::default;
    let mut process = run(&["/demo", "env"], plain()).await.unwrap();
    let mut told = String::new();
    process.stdout().unwrap().read_to_string(&mut told).await.unwrap();
    assert!(told.contains("KUBERNETES_SERVICE_HOST=10."), "{told}");
    assert_eq!(ended(process).await.unwrap().status.as_deref(), Some("Success"));

    let failed = ended(run(&["/demo", "exit", "7"], plain()).await.unwrap()).await.unwrap();
    assert_eq!(failed.reason.as_deref(), Some("NonZeroExitCode"));
    assert_eq!(failed.details.unwrap().causes.unwrap()[0].message.as_deref(), Some("7"));

    // The input ends: the copy ends by itself, having said all of it.
    let mut process = run(&["/demo", "copy"], plain().stdin(true).stderr(false)).await.unwrap();
    let text = "a line\n".repeat(20_000);
    let mut input = process.stdin().unwrap();
    let mut output = process.stdout().unwrap();
    let sent = text.clone();
    let writing = tokio::spawn(async move {
        input.write_all(sent.as_bytes()).await.unwrap();
        input.shutdown().await.unwrap();
    });
    let mut copied = String::new();
    within("all is copied", output.read_to_string(&mut copied)).await.unwrap();
    writing.await.unwrap();
    assert_eq!(copied.len(), text.len());
    assert_eq!(ended(process).await.unwrap().status.as_deref(), Some("Success"));

    let mut process = run(&["/demo", "print", "2", "--stderr"], plain()).await.unwrap();
    let mut error = [0; 2];
    within("standard error by itself", process.stderr().unwrap().read_exact(&mut error)).await.unwrap();
    process.abort();
    let nowhere = pods.exec("none", ["ls"], &AttachParams::default()).await;
    assert!(nowhere.is_err_and(|e| e.to_string().contains("404")), "there is no such Pod");
}

/// Into the running program itself, and out of it.
pub async fn attached(client: &Client) {
    let with = AttachParams::default().stdin(true).stderr(false);
    let mut process = within("attached", pods(client).attach("copy", &with)).await.unwrap();
    process.stdin().unwrap().write_all(b"said to the program\n").await.unwrap();
    let mut heard = [0; 20];
    within("it answers", process.stdout().unwrap().read_exact(&mut heard)).await.unwrap();
    assert_eq!(&heard, b"said to the program\n");
    process.abort();
}

/// A port of the Pod: two requests on two forwards, and a port at which nobody listens.
pub async fn forwarded(client: &Client) {
    let pods = pods(client);
    for _ in 0..2 {
        let mut forward = within("forwarded", pods.portforward("front", &[8080])).await.unwrap();
        let mut stream = forward.take_stream(8080).unwrap();
        let request = b"GET /plain HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut answer = String::new();
        within("the Pod answers", stream.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        drop(stream);
        // Both ends close it, and the client calls it an error when it comes second.
        let _ = within("the forward has ended", forward.join()).await;
    }
    let mut forward = within("forwarded", pods.portforward("front", &[81])).await.unwrap();
    let error = forward.take_error(81).unwrap();
    let mut stream = forward.take_stream(81).unwrap();
    let _ = stream.write_all(b"anybody?").await;
    let error = within("the error of a port nobody listens at", error).await;
    assert!(error.as_ref().is_some_and(|e| e.contains("81")), "{error:?}");
}

/// Evicted, but not while a budget forbids it.
pub async fn evicted(client: &Client) {
    let budgets: Api<PodDisruptionBudget> = Api::namespaced(client.clone(), SPACE);
    let selector = json!({"matchLabels": {"app": "front"}});
    let budget = json!({"metadata": {"name": "front"}, "spec": {"minAvailable": 1, "selector": selector}});
    budgets.create(&PostParams::default(), &serde_json::from_value(budget).unwrap()).await.unwrap();
    let pods = pods(client);
    let dry = PostParams { dry_run: true, ..Default::default() };
    let dry = EvictParams { post_options: dry, ..Default::default() };
    let refusal = async {
        loop {
            match pods.evict("front", &dry).await {
                Err(kube::Error::Api(status)) if status.code == 429 && status.details.is_some() => break status,
                _ => a_moment().await,
            }
        }
    };
    let status = within("the budget is known", refusal).await;
    assert_eq!(status.reason, "TooManyRequests");
    assert_eq!(status.details.as_ref().unwrap().causes[0].reason, "DisruptionBudget");
    budgets.delete_collection(&DeleteParams::default(), &ListParams::default()).await.unwrap();
    let uid = pods.get("front").await.unwrap().uid().unwrap();
    assert!(pods.evict("front", &EvictParams::default()).await.unwrap().is_success());
    within("it is evicted", await_condition(pods, "front", conditions::is_deleted(&uid))).await.unwrap();
}
