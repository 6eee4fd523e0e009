//! Lists of 5,000 objects of 1 KB, whole, as kubectl and informers ask for them.

use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;

use super::beside_bar;
use super::creates::fill;
use super::server::Server;
use super::wire::H2;
use crate::cluster::Store;
use crate::line;

const OBJECTS: usize = 5_000;
const ROUND: Duration = Duration::from_secs(3);

/// In JSON and in protobuf, two at a time.
pub async fn all() -> Result<()> {
    let server = Server::start(Store::Embedded).await?;
    fill(&server, OBJECTS, &mut 0).await?;
    for (name, media) in [("JSON", "application/json"), ("protobuf", "application/vnd.kubernetes.protobuf")] {
        let began = Instant::now();
        let before = server.spent()?;
        let connections = [H2::open(&server).await?, H2::open(&server).await?];
        let listing = connections.iter().map(|h2| async move {
            let (mut lists, mut size) = (0_u32, 0);
            while began.elapsed() < ROUND {
                let path = "/api/v1/namespaces/default/configmaps";
                size = h2.call("GET", path, media, Bytes::new()).await?;
                anyhow::ensure!(size > OBJECTS * 900, "the list has only {size} bytes");
                lists += 1;
            }
            Ok((lists, size))
        });
        let done = futures::future::try_join_all(listing).await?;
        let lists: f64 = done.iter().map(|(lists, _)| f64::from(*lists)).sum();
        let rate = lists / began.elapsed().as_secs_f64();
        beside_bar(&format!("lists/s of {OBJECTS} objects of 1 KB, {name}"), rate, "/s", 250.0);
        let each = server.spent()?.since(before).cpu.as_secs_f64() * 1e3 / lists;
        let size = done[0].1 as f64 / 1e6;
        line("  server CPU a list; size", &format!("{each:.2} ms"), &format!("{size:.1} MB"), "");
    }
    Ok(())
}
