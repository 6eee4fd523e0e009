//! Creates: how many in a second with 64 in flight, and how long one takes alone, through each door.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Result;
use prost::Message;
use skiff_proto::skiffv1 as pb;

use super::beside_bar;
use super::server::{Server, Spent};
use super::wire::{H1, H2, NAME, Template, framed};
use crate::cluster::Store;
use crate::{creates, line};

const IN_FLIGHT: usize = 64;
/// HTTP/2 and gRPC share so many connections.
const CONNECTIONS: usize = 4;
const ROUND: Duration = Duration::from_secs(4);
const ALONE: usize = 2_000;
const COLLECTION: &str = "/api/v1/namespaces/default/configmaps";

/// The doors: Kubernetes' REST by HTTP/2 and by HTTP/1.1, both in JSON, and gRPC in protobuf.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// REST by HTTP/2.
    Rest2,
    /// REST by HTTP/1.1.
    Rest1,
    /// gRPC.
    Grpc,
}

impl Door {
    const ALL: [Door; 3] = [Door::Rest2, Door::Rest1, Door::Grpc];

    fn name(self) -> &'static str {
        match self {
            Door::Rest2 => "REST, HTTP/2",
            Door::Rest1 => "REST, HTTP/1.1",
            Door::Grpc => "gRPC",
        }
    }
}

/// A connection through a door, and the request that it repeats.
pub enum Caller {
    /// REST by HTTP/2.
    Rest2(H2, Template),
    /// REST by HTTP/1.1.
    Rest1(Box<H1>, Template),
    /// gRPC.
    Grpc(H2, Template),
}

impl Caller {
    /// Opens `count` callers through a door; those of HTTP/2 share connections.
    pub async fn open(server: &Server, door: Door, count: usize) -> Result<Vec<Caller>> {
        let mut shared = Vec::new();
        for _ in 0..CONNECTIONS.min(count) {
            if door != Door::Rest1 {
                shared.push(H2::open(server).await?);
            }
        }
        let mut callers = Vec::new();
        for i in 0..count {
            callers.push(match door {
                Door::Rest2 => Caller::Rest2(shared[i % shared.len()].clone(), Template::new(&json())?),
                Door::Rest1 => Caller::Rest1(Box::new(H1::open(server).await?), Template::new(&http1(server))?),
                Door::Grpc => Caller::Grpc(shared[i % shared.len()].clone(), Template::new(&grpc())?),
            });
        }
        Ok(callers)
    }

    /// Creates the object with this number.
    pub async fn create(&mut self, number: usize) -> Result<usize> {
        match self {
            Caller::Rest2(h2, template) => {
                h2.call("POST", COLLECTION, "application/json", template.numbered(number)).await
            }
            Caller::Rest1(h1, template) => h1.call(&template.numbered(number)).await,
            Caller::Grpc(h2, template) => h2.grpc_call("Create", template.numbered(number)).await,
        }
    }
}

fn json() -> Vec<u8> {
    skiff_proto::json::encode(&creates::config_map(NAME.into()))
}

fn http1(server: &Server) -> Vec<u8> {
    let body = json();
    let head = format!(
        "POST {COLLECTION} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nAccept: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        server.address,
        body.len()
    );
    [head.as_bytes(), &body].concat()
}

fn grpc() -> Vec<u8> {
    let media = "application/vnd.kubernetes.protobuf";
    let request = pb::CreateRequest {
        r#ref: Some(pb::ResourceRef {
            version: "v1".into(),
            resource: "configmaps".into(),
            namespace: "default".into(),
            ..Default::default()
        }),
        object: creates::config_map(NAME.into()).encode_to_vec().into(),
        content_type: media.into(),
        accept: media.into(),
        ..Default::default()
    };
    framed(&request).to_vec()
}

/// All doors on one store.
pub async fn all(store: Store) -> Result<()> {
    let server = Server::start(store).await?;
    let mut first = 0;
    let on = if store == Store::Etcd { "etcd" } else { "embedded" };
    for door in Door::ALL {
        let (rate, spent, own) = at_once(&server, door, &mut first).await?;
        let what = format!("creates/s, 1 KB, {IN_FLIGHT} in flight, {}, {on}", door.name());
        match &server.etcd_url {
            None => beside_bar(&what, rate, "/s", 20_000.0),
            Some(url) => {
                let raw = creates::raw_puts(url).await?;
                line(&what, &format!("{rate:.0}/s"), &format!("etcd {raw:.0}/s"), &format!("{:.2}", rate / raw));
            }
        }
        let each = |spent: Spent| spent.cpu.as_secs_f64() * 1e6 / (rate * ROUND.as_secs_f64());
        let switches = spent.switches as f64 / (rate * ROUND.as_secs_f64());
        line(
            "  CPU a create: server, client; switches",
            &format!("{:.1} µs", each(spent)),
            &format!("{:.1} µs", each(own)),
            &format!("{switches:.2}"),
        );
    }
    for door in Door::ALL {
        let times = alone(&server, door, &mut first).await?;
        let what = format!("one create after the other, p50, {}, {on}", door.name());
        let (half, most) = (times[times.len() / 2], times[times.len() * 99 / 100]);
        match store {
            Store::Embedded => beside_bar(&what, half, " ms", 0.5),
            Store::Etcd => line(&what, &format!("{half:.2} ms"), "", ""),
        }
        line("  p99", &format!("{most:.2} ms"), "", "");
    }
    Ok(())
}

/// Creates for one round with all in flight: how many a second, and what server and client used for it.
async fn at_once(server: &Server, door: Door, first: &mut usize) -> Result<(f64, Spent, Spent)> {
    let callers = Caller::open(server, door, IN_FLIGHT).await?;
    let next = Rc::new(Cell::new(*first));
    let (before, own_before) = (server.spent()?, Spent::of(std::process::id())?);
    let began = Instant::now();
    let working = callers.into_iter().map(|mut caller| {
        let next = next.clone();
        async move {
            while began.elapsed() < ROUND {
                let number = next.replace(next.get() + 1);
                caller.create(number).await?;
            }
            anyhow::Ok(())
        }
    });
    futures::future::try_join_all(working).await?;
    let rate = (next.get() - *first) as f64 / began.elapsed().as_secs_f64();
    *first = next.get();
    Ok((rate, server.spent()?.since(before), Spent::of(std::process::id())?.since(own_before)))
}

/// Creates one after the other: how long each took, in milliseconds, sorted.
async fn alone(server: &Server, door: Door, first: &mut usize) -> Result<Vec<f64>> {
    let mut caller = Caller::open(server, door, 1).await?.remove(0);
    let mut times = Vec::with_capacity(ALONE);
    for _ in 0..ALONE {
        let began = Instant::now();
        caller.create(*first).await?;
        times.push(began.elapsed().as_secs_f64() * 1000.0);
        *first += 1;
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}

/// Makes `count` objects, quickly; the first number that is free is moved on.
pub async fn fill(server: &Server, count: usize, first: &mut usize) -> Result<()> {
    let callers = Caller::open(server, Door::Grpc, IN_FLIGHT).await?;
    let (next, end) = (Rc::new(Cell::new(*first)), *first + count);
    let working = callers.into_iter().map(|mut caller| {
        let next = next.clone();
        async move {
            while next.get() < end {
                let number = next.replace(next.get() + 1);
                caller.create(number).await?;
            }
            anyhow::Ok(())
        }
    });
    futures::future::try_join_all(working).await?;
    *first = end;
    Ok(())
}
