//! Whether everybody is done: each component is asked over its tunnel what is in its queues, as `skiffctl` would.

use std::time::Duration;

use skiff_client::Client;
use skiff_client::streams::{self, Channel, StreamEvent};
use skiff_client::tunnel::Close;
use skiff_proto::skiffv1::{HttpGet, StreamOpen, stream_open};
use skiff_world::World;

use super::cluster::Cluster;
use super::rest::DRAINED;

/// A key may be in hand at just this moment; it is not in hand all the time.
const LOOKS: usize = 20;

/// What does not drain, whenever one looks. The clients are of each server: a component hangs on one of them.
pub async fn undrained(world: &World, clients: &[Client], cluster: &Cluster) -> Vec<String> {
    let mut components = vec![("controllers", String::new()), ("scheduler", String::new())];
    for node in cluster.nodes() {
        components.push(("kubelet", node.name.clone()));
        components.push(("proxy", node.name.clone()));
    }
    let mut left = Vec::new();
    for (component, node) in components {
        let mut last = Vec::new();
        for _ in 0..LOOKS {
            last = match queues(clients, component, &node).await {
                Some(text) => busy(&text),
                None => vec!["does not answer".to_owned()],
            };
            if last.is_empty() {
                break;
            }
            world.sleep(Duration::from_millis(700)).await;
        }
        left.extend(last.into_iter().map(|line| format!("{DRAINED}: {component} {node}: {line}")));
    }
    left
}

async fn queues(clients: &[Client], component: &str, node: &str) -> Option<String> {
    for client in clients {
        let request = stream_open::Request::HttpGet(HttpGet { path: "/debug/queues".into() });
        let open = StreamOpen { component: component.into(), node: node.into(), request: Some(request) };
        let Ok(mut stream) = streams::open(client, open).await else { continue };
        let mut text = Vec::new();
        loop {
            match stream.recv().await {
                Some(StreamEvent::Data { channel: Channel::Stdout, bytes }) => text.extend_from_slice(&bytes),
                Some(StreamEvent::Closed(Close::Done)) => return String::from_utf8(text).ok(),
                Some(StreamEvent::Closed(_)) | None => break,
                Some(_) => {}
            }
        }
    }
    None
}

/// The entries that are work: keys that are ready or in hand, and those whose last try failed.
fn busy(text: &str) -> Vec<String> {
    let works = |line: &&str| {
        let entry = line.strip_prefix("  ");
        entry.is_some_and(|entry| !entry.starts_with("timer") || !entry.contains(", 0 failures,"))
    };
    text.lines().filter(works).map(|line| line.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use skiff_client::{Controls, Trigger};

    #[tokio::test]
    async fn what_is_ready_in_hand_or_failing_is_work_and_a_timer_is_not() {
        let (controls, world) = (Controls::new(), World::real("queues-test"));
        let queue = controls.queue::<String>(&world, "deployment");
        let shown = || busy(&controls.http_get("/debug/queues").expect("every component answers that"));
        queue.add_after("default/later".into(), Trigger::Start("test".into()), Duration::from_secs(60));
        assert_eq!(shown(), Vec::<String>::new());
        queue.add("default/web".into(), Trigger::Start("test".into()));
        assert!(shown()[0].starts_with("ready     default/web"), "{:?}", shown());
        let work = queue.next().await.expect("it is there");
        assert!(shown()[0].starts_with("in flight default/web"), "{:?}", shown());
        work.retry(Duration::from_secs(60), Duration::from_secs(60));
        assert!(shown()[0].starts_with("timer     default/web"), "{:?}", shown());
    }
}
