//! `lag`: how far each component's view is behind the store, and how much work waits in its queues.
//!
//! Revisions are of the whole store, so an informer of a quiet resource may stand at an old one and miss nothing: only
//! a revision that changed its resource counts. Of an informer with a selector nobody knows whether that revision was for
//! it: it is shown with what it may be behind at most, and not counted.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};
use skiff_client::{ListOptions, tunnel};
use skiff_proto::skiffv1::ProgressReply;

use crate::columns::name;
use crate::inspect;
use crate::output::{self, Format};
use crate::session::Session;
use crate::table::Table;

/// What `lag` takes.
#[derive(Args, Debug)]
pub struct Options {
    /// A line for each informer and queue.
    #[arg(short, long, value_enum)]
    output: Option<Format>,
}

/// One component's answer.
struct Component {
    name: &'static str,
    node: String,
    state: Result<State>,
}

/// One view of a resource.
#[derive(Debug, PartialEq)]
struct Informer {
    resource: String,
    /// The revision that it stands at.
    revision: u64,
    /// Whether it hears of every write to the resource.
    whole: bool,
}

#[derive(Debug, Default, PartialEq)]
struct State {
    informers: Vec<Informer>,
    /// Queue, and how many keys are ready in it.
    queues: Vec<(String, u64)>,
}

/// Asks every component, and the API server first: what it says was true before any of the others is asked.
pub async fn run(session: &Session, options: Options) -> Result<ExitCode> {
    let progress = session.client().progress().await?;
    let nodes = session.resource("", "nodes").await?;
    let nodes = session.api(&nodes, false).list("", &ListOptions::default()).await?.items;
    let mut components = vec![];
    for name in ["controllers", "scheduler"] {
        components.push(Component { name, node: String::new(), state: ask(session, name, "").await });
    }
    for node in nodes.iter().map(name) {
        for name in ["kubelet", "proxy"] {
            components.push(Component { name, node: node.clone(), state: ask(session, name, &node).await });
        }
    }
    let text = match options.output {
        Some(format @ (Format::Json | Format::Yaml)) => output::document(&document(&progress, &components), format)?,
        Some(Format::Wide) => wide(&progress, &components),
        _ => table(&progress, &components),
    };
    output::print(&text)?;
    let all_answered = components.iter().all(|component| component.state.is_ok());
    Ok(if all_answered { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn ask(session: &Session, component: &str, node: &str) -> Result<State> {
    let informers = inspect::get(session, component, node, tunnel::INFORMERS).await?;
    let metrics = inspect::get(session, component, node, "/metrics").await?;
    Ok(State { informers: parse_informers(&informers), queues: parse_depths(&metrics) })
}

/// `GROUP/RESOURCE REVISION`, a line each, perhaps with ` selected`.
fn parse_informers(text: &str) -> Vec<Informer> {
    let line = |line: &str| {
        let mut words = line.split(' ');
        let resource = words.next()?.trim_start_matches('/').to_owned();
        Some(Informer { resource, revision: words.next()?.parse().ok()?, whole: words.next().is_none() })
    };
    text.lines().filter_map(line).collect()
}

/// `workqueue_depth{name="pods"} 3`, among other measurements.
fn parse_depths(metrics: &str) -> Vec<(String, u64)> {
    let line = |line: &str| {
        let (queue, depth) = line.strip_prefix("workqueue_depth{name=\"")?.split_once("\"} ")?;
        Some((queue.to_owned(), depth.trim().parse().ok()?))
    };
    metrics.lines().filter_map(line).collect()
}

/// The last change of each resource, named as informers name it.
fn changes(progress: &ProgressReply) -> BTreeMap<String, u64> {
    let named = progress.resources.iter().map(|row| {
        let name = if row.group.is_empty() { row.resource.clone() } else { format!("{}/{}", row.group, row.resource) };
        (name, row.revision)
    });
    named.collect()
}

/// By how many revisions an informer is behind what changed its resource.
fn behind(changes: &BTreeMap<String, u64>, informer: &Informer) -> u64 {
    changes.get(&informer.resource).map_or(0, |changed| changed.saturating_sub(informer.revision))
}

fn table(progress: &ProgressReply, components: &[Component]) -> String {
    let changes = changes(progress);
    let mut table = Table::new(["COMPONENT", "NODE", "INFORMERS", "BEHIND", "FARTHEST", "QUEUED", "LONGEST"]);
    let server = |table: &mut Table, name: &str, revision: u64| {
        let behind = progress.store.saturating_sub(revision).to_string();
        table.row([name, "-", "-", &behind, "-", "-", "-"]);
    };
    server(&mut table, "apiserver cache", progress.cache);
    if progress.recorder != 0 {
        // The recorder is told of every revision before the cache shows it.
        server(&mut table, "apiserver recorder", progress.recorder);
    }
    for component in components {
        let node = if component.node.is_empty() { "-" } else { &component.node };
        let state = match &component.state {
            Ok(state) => state,
            Err(error) => {
                table.row([component.name, node, &format!("no answer: {error:#}")]);
                continue;
            }
        };
        let whole = state.informers.iter().filter(|informer| informer.whole);
        let farthest = whole.map(|i| (behind(&changes, i), i.resource.as_str())).max_by_key(|(n, _)| *n);
        let (most, what) = farthest.filter(|(n, _)| *n > 0).unwrap_or((0, "-"));
        let longest = state.queues.iter().max_by_key(|(_, depth)| *depth).filter(|(_, depth)| *depth > 0);
        let queued: u64 = state.queues.iter().map(|(_, depth)| depth).sum();
        table.row([
            component.name,
            node,
            &state.informers.len().to_string(),
            &most.to_string(),
            what,
            &queued.to_string(),
            longest.map_or("-", |(queue, _)| queue),
        ]);
    }
    format!("The store is at revision {}.\n{}", progress.store, table.render(true))
}

fn wide(progress: &ProgressReply, components: &[Component]) -> String {
    let changes = changes(progress);
    let mut table = Table::new(["COMPONENT", "NODE", "WHAT", "REVISION", "BEHIND", "QUEUED"]);
    for component in components {
        let node = if component.node.is_empty() { "-" } else { &component.node };
        let Ok(state) = &component.state else { continue };
        for informer in &state.informers {
            let behind = match (behind(&changes, informer), informer.whole) {
                (behind @ 1.., false) => format!("{behind} at most"),
                (behind, _) => behind.to_string(),
            };
            table.row([component.name, node, &informer.resource, &informer.revision.to_string(), &behind, "-"]);
        }
        for (queue, depth) in &state.queues {
            table.row([component.name, node, &format!("queue {queue}"), "-", "-", &depth.to_string()]);
        }
    }
    format!("The store is at revision {}.\n{}", progress.store, table.render(true))
}

fn document(progress: &ProgressReply, components: &[Component]) -> Value {
    let changes = changes(progress);
    let component = |component: &Component| match &component.state {
        Ok(state) => {
            let informer = |i: &Informer| {
                let behind = behind(&changes, i);
                json!({ "resource": i.resource, "revision": i.revision, "behind": behind, "exact": i.whole })
            };
            let queue = |(name, depth): &(String, u64)| json!({ "queue": name, "depth": depth });
            json!({
                "component": component.name,
                "node": component.node,
                "informers": state.informers.iter().map(informer).collect::<Vec<_>>(),
                "queues": state.queues.iter().map(queue).collect::<Vec<_>>(),
            })
        }
        Err(error) => json!({ "component": component.name, "node": component.node, "error": format!("{error:#}") }),
    };
    json!({
        "store": progress.store,
        "cache": progress.cache,
        "recorder": progress.recorder,
        "components": components.iter().map(component).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use skiff_proto::skiffv1::ResourceProgress;

    #[test]
    fn only_what_changed_the_resource_counts() {
        let row = |group: &str, resource: &str, revision| ResourceProgress {
            group: group.into(),
            resource: resource.into(),
            revision,
        };
        let progress = ProgressReply {
            store: 120,
            cache: 119,
            recorder: 119,
            resources: vec![row("", "pods", 110), row("apps", "deployments", 90)],
        };
        let state = State {
            informers: parse_informers("/pods 104\n/pods 90 selected\napps/deployments 95\n"),
            queues: parse_depths("# TYPE x\nworkqueue_depth{name=\"pods\"} 3\nworkqueue_depth{name=\"b\"} 1\n"),
        };
        let components = [
            Component { name: "controllers", node: String::new(), state: Ok(state) },
            Component { name: "kubelet", node: "n1".into(), state: Err(anyhow::anyhow!("no tunnel")) },
        ];
        let expected = "\
The store is at revision 120.
COMPONENT            NODE   INFORMERS   BEHIND   FARTHEST   QUEUED   LONGEST
apiserver cache      -      -           1        -          -        -
apiserver recorder   -      -           1        -          -        -
controllers          -      3           6        pods       4        pods
kubelet              n1     no answer: no tunnel
";
        assert_eq!(table(&progress, &components), expected);
        let wide = wide(&progress, &components);
        assert!(wide.contains("apps/deployments   95         0            -"), "{wide}");
        assert!(wide.contains("pods               90         20 at most   -"), "{wide}");
    }
}
