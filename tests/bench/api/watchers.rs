//! Many watchers of one collection: how quickly all of them learn of everything, and what one more costs.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::{Buf, Bytes, BytesMut};
use skiff_proto::skiffv1 as pb;
use tokio::sync::Notify;

use super::beside_bar;
use super::creates::{Caller, Door, fill};
use super::server::Server;
use super::wire::{H2, framed};
use crate::cluster::Store;
use crate::{line, median};

const EVENTS: usize = 200;
/// Writes whose way to the last watcher is measured one by one.
const SINGLE: usize = 20;
/// Watches share so many connections.
const CONNECTIONS: usize = 8;

/// What all watchers together have seen.
#[derive(Default)]
struct Seen {
    events: Cell<usize>,
    wanted: Cell<usize>,
    reached: Notify,
}

impl Seen {
    fn add(&self, events: usize) {
        let before = self.events.get();
        self.events.set(before + events);
        if before < self.wanted.get() && before + events >= self.wanted.get() {
            self.reached.notify_one();
        }
    }

    /// Waits for so many more than there were when this was called.
    fn expect(&self, more: usize) {
        self.wanted.set(self.events.get() + more);
    }

    async fn all(&self) -> Result<()> {
        tokio::time::timeout(Duration::from_secs(60), async {
            while self.events.get() < self.wanted.get() {
                self.reached.notified().await;
            }
        })
        .await
        .map_err(|_| anyhow::anyhow!("{} of {} events came", self.events.get(), self.wanted.get()))
    }
}

/// Both doors, with 500 and 5,000 watchers.
pub async fn all() -> Result<()> {
    for (door, name) in [(Door::Rest2, "REST, JSON"), (Door::Grpc, "gRPC")] {
        for watchers in [500, 5_000] {
            let local = tokio::task::LocalSet::new();
            local.run_until(fan_out(door, name, watchers)).await?;
        }
    }
    Ok(())
}

async fn fan_out(door: Door, name: &str, watchers: usize) -> Result<()> {
    let server = Server::start(Store::Embedded).await?;
    let mut first = 0;
    // So that the watches begin at a revision that is surely there.
    fill(&server, 1, &mut first).await?;
    let idle = server.pss()?;
    let seen = Rc::new(Seen::default());
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(H2::open(&server).await?);
    }
    // Each begins with what is there: one event.
    seen.expect(watchers);
    for i in 0..watchers {
        let stream = open(&connections[i % CONNECTIONS], door).await?;
        tokio::task::spawn_local(follow(stream, door, seen.clone()));
    }
    seen.all().await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let each = (server.pss()? - idle) / watchers as f64;
    line(&format!("memory of a watcher, {watchers}, {name} (PSS)"), &format!("{each:.1} KiB"), "", "");

    seen.expect(watchers * EVENTS);
    let before = server.spent()?;
    let began = Instant::now();
    fill(&server, EVENTS, &mut first).await?;
    let written = began.elapsed();
    seen.all().await?;
    let took = began.elapsed();
    let deliveries = (watchers * EVENTS) as f64;
    let what = format!("deliveries/s, {watchers} watchers of {EVENTS} events, {name}");
    beside_bar(&what, deliveries / took.as_secs_f64(), "/s", 800_000.0);
    let cpu = server.spent()?.since(before).cpu.as_secs_f64() * 1e6 / deliveries;
    line("  server CPU a delivery", &format!("{cpu:.2} µs"), "", "");
    line("  last watcher, behind the last write's answer", &ms((took - written).as_secs_f64() * 1e3), "", "");

    let mut caller = Caller::open(&server, Door::Grpc, 1).await?.remove(0);
    let mut delays = Vec::new();
    for _ in 0..SINGLE {
        seen.expect(watchers);
        let began = Instant::now();
        caller.create(first).await?;
        first += 1;
        seen.all().await?;
        delays.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    beside_bar(&format!("one write until the last of {watchers} has it, {name}"), median(delays), " ms", 5.0);
    Ok(())
}

fn ms(value: f64) -> String {
    format!("{value:.2} ms")
}

async fn open(h2: &H2, door: Door) -> Result<h2::RecvStream> {
    if door != Door::Grpc {
        let request = http::Request::builder().method("GET").header("accept", "application/json");
        return h2.send(request, "/api/v1/namespaces/default/configmaps?watch=1", Bytes::new()).await;
    }
    let request = pb::WatchRequest {
        r#ref: Some(pb::ResourceRef {
            version: "v1".into(),
            resource: "configmaps".into(),
            namespace: "default".into(),
            ..Default::default()
        }),
        accept: "application/vnd.kubernetes.protobuf".into(),
        ..Default::default()
    };
    h2.grpc("Watch", framed(&request)).await
}

/// Counts a watch's events until the connection ends.
async fn follow(mut stream: h2::RecvStream, door: Door, seen: Rc<Seen>) {
    let mut frames = Frames::default();
    while let Some(Ok(piece)) = stream.data().await {
        let events = match door {
            Door::Grpc => frames.count(&piece),
            // In JSON a line's end is only ever an event's.
            _ => piece.iter().filter(|byte| **byte == b'\n').count(),
        };
        let _ = stream.flow_control().release_capacity(piece.len());
        seen.add(events);
    }
}

/// gRPC's messages, counted by the lengths they begin with.
#[derive(Default)]
struct Frames {
    head: BytesMut,
    skip: usize,
}

impl Frames {
    /// How many messages end in this piece.
    fn count(&mut self, mut piece: &[u8]) -> usize {
        let mut ended = 0;
        while !piece.is_empty() {
            if self.skip > 0 {
                let taken = self.skip.min(piece.len());
                piece.advance(taken);
                self.skip -= taken;
                ended += usize::from(self.skip == 0);
                continue;
            }
            let taken = (5 - self.head.len()).min(piece.len());
            self.head.extend_from_slice(&piece[..taken]);
            piece.advance(taken);
            if self.head.len() == 5 {
                self.skip = u32::from_be_bytes([self.head[1], self.head[2], self.head[3], self.head[4]]) as usize;
                self.head.clear();
            }
        }
        ended
    }
}
