//! `drain`: no new Pods on a node, and those that are there leave by eviction, so that what keeps them
//! available can object. Which of them may go is a plan; nothing is evicted if one of them may not.

mod plan;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use serde_json::{Value, json};
use skiff_client::{DeleteOptions, Error, ListOptions};
use skiff_proto::skiffv1::ResourceInfo;

use crate::columns::{name, text};
use crate::cordon::{self, Nodes};
use crate::delete;
use crate::output;
use crate::report::{Dry, DryRun, Report};
use crate::rollout::parse_duration;
use crate::selection::Chosen;
use crate::session::Session;

use plan::{Permissions, Plan};

/// What `drain` takes.
#[derive(Args, Debug)]
pub struct Options {
    #[command(flatten)]
    nodes: Nodes,
    #[command(flatten)]
    permissions: Permissions,
    /// Only Pods whose labels match.
    #[arg(long)]
    pod_selector: Option<String>,
    /// Seconds each Pod gets to stop by itself; -1: what its spec says.
    #[arg(long, default_value_t = -1, allow_negative_numbers = true)]
    grace_period: i64,
    /// Delete Pods instead of evicting them: disruption budgets are not asked.
    #[arg(long)]
    disable_eviction: bool,
    /// How long it may take: `90s`, `5m`, or seconds; 0: as long as it takes.
    #[arg(long, default_value = "0", value_parser = parse_duration)]
    timeout: Duration,
    #[command(flatten)]
    dry: Dry,
}

/// Before an eviction that was refused is asked for again.
const PAUSE: Duration = Duration::from_secs(5);

/// Drains one node after the other.
pub async fn run(session: &Session, options: Options) -> Result<ExitCode> {
    let nodes = options.nodes.find(session).await?;
    let report = Report::lines(options.dry);
    for node in &nodes {
        cordon::set(session, &report, node, true).await?;
    }
    let mut failed = false;
    for node in &nodes {
        let drained = drain(session, &options, node);
        let drained = if options.timeout.is_zero() {
            drained.await
        } else {
            let seconds = options.timeout.as_secs();
            match tokio::time::timeout(options.timeout, drained).await {
                Ok(drained) => drained,
                Err(_) => Err(anyhow::anyhow!("not all pods were gone within {seconds} s")),
            }
        };
        match drained {
            Ok(()) => output::line(format!("{} drained{}", node.called(), options.dry.run.suffix()))?,
            Err(error) => {
                failed = true;
                eprintln!("error: unable to drain node {:?}: {error:#}", node.name);
            }
        }
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn drain(session: &Session, options: &Options, node: &Chosen) -> Result<()> {
    let pods = session.resource("", "pods").await?;
    let list = ListOptions {
        labels: options.pod_selector.clone().unwrap_or_default(),
        fields: format!("spec.nodeName={}", node.name),
        ..ListOptions::default()
    };
    let found = session.api(&pods, false).list("", &list).await?.items;
    let plan = Plan::of(&found, &options.permissions);
    for warning in &plan.warnings {
        eprintln!("Warning: {warning}");
    }
    if !plan.refusals.is_empty() {
        bail!(
            "nothing was evicted; there are pending nodes to be drained:\n {}\n{}",
            node.name,
            plan.refusals.iter().map(|r| format!("cannot delete {r}")).collect::<Vec<_>>().join("\n")
        );
    }
    // All at once: how long it takes is how long the slowest takes.
    let leaving = plan.leaving.iter().map(|pod| leave(session, options, &pods, pod));
    let refused: Vec<String> = futures::future::join_all(leaving)
        .await
        .into_iter()
        .filter_map(|r| r.err().map(|e| format!("{e:#}")))
        .collect();
    if !refused.is_empty() {
        bail!("{}", refused.join("\n"));
    }
    Ok(())
}

/// One Pod goes: asked for, and waited for.
async fn leave(session: &Session, options: &Options, pods: &ResourceInfo, pod: &Value) -> Result<()> {
    let (namespace, name, uid) = (text(pod, "/metadata/namespace"), name(pod), text(pod, "/metadata/uid"));
    let (doing, done) = if options.disable_eviction { ("deleting", "deleted") } else { ("evicting", "evicted") };
    output::line(format!("{doing} pod {namespace}/{name}{}", options.dry.run.suffix()))?;
    if options.dry.run == DryRun::Client {
        return Ok(());
    }
    loop {
        match ask(session, options, pods, &namespace, &name, &uid).await {
            Ok(()) => break,
            Err(error) if error.is_not_found() => return Ok(()), // it has gone by itself
            Err(error) if error.is_conflict() => match session.api(pods, false).get_opt(&namespace, &name).await? {
                Some(now) if text(&now, "/metadata/uid") == uid => {} // it changed meanwhile: ask again
                _ => return Ok(()),                                   // another has its name
            },
            Err(error) if error.reason() == "TooManyRequests" => {
                let pause = error.retry_after().unwrap_or(PAUSE);
                let seconds = pause.as_secs();
                eprintln!("error when {doing} pods/{name:?} -n {namespace:?} (will retry after {seconds}s): {error}");
                session.world().sleep(pause).await;
            }
            // It may have been done, and asking again does no harm.
            Err(error) if error.is_unreachable() => {
                eprintln!("Warning: {doing} pod {namespace}/{name}: {error}; trying again");
                session.world().sleep(PAUSE).await;
            }
            Err(error) => bail!("error when {doing} pods/{name:?} -n {namespace:?}: {error}"),
        }
    }
    if options.dry.run == DryRun::None {
        delete::until_gone(session, pods, &namespace, &name, &uid).await?;
        output::line(format!("pod/{name} {done}"))?;
    }
    Ok(())
}

/// Asks for one Pod to go: this one, not a later one of its name.
async fn ask(
    session: &Session,
    options: &Options,
    pods: &ResourceInfo,
    namespace: &str,
    name: &str,
    uid: &str,
) -> Result<(), Error> {
    let api = session.api(pods, options.dry.run != DryRun::None);
    let grace = (options.grace_period >= 0).then_some(options.grace_period);
    if options.disable_eviction {
        let how = DeleteOptions {
            grace_period_seconds: grace,
            dry_run: options.dry.run != DryRun::None,
            ..DeleteOptions::of_uid(uid)
        };
        return api.delete(namespace, name, &how).await.map(drop);
    }
    let mut delete_options = json!({"preconditions": {"uid": uid}});
    if let Some(seconds) = grace {
        delete_options["gracePeriodSeconds"] = json!(seconds);
    }
    let eviction = json!({
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name, "namespace": namespace},
        "deleteOptions": delete_options,
    });
    api.create_sub(namespace, name, "eviction", &eviction).await.map(drop)
}
