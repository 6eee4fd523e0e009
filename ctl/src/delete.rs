//! `delete`: asks for deletion, and waits until the objects are gone.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, anyhow};
use clap::Args;
use skiff_client::DeleteOptions;
use skiff_proto::skiffv1::ResourceInfo;

use crate::advice;
use crate::columns::text;
use crate::follow::{Follow, News};
use crate::output::{self, Format};
use crate::report::{Dry, DryRun};
use crate::rollout::parse_duration;
use crate::selection::{Chosen, Selection};
use crate::session::Session;

/// What `delete` takes.
#[derive(Args, Debug)]
pub struct Options {
    /// `TYPE NAME...`, `TYPE/NAME...`, or `TYPE` with -l or --all.
    what: Vec<String>,
    #[command(flatten)]
    selection: Selection,
    /// Seconds a Pod gets to stop by itself; default: what its spec says.
    #[arg(long)]
    grace_period: Option<i64>,
    /// Delete at once, without waiting for the node to confirm.
    #[arg(long)]
    force: bool,
    /// Delete at once: a grace period of 1 second.
    #[arg(long, conflicts_with_all = ["force", "grace_period"])]
    now: bool,
    /// What becomes of the objects that these own.
    #[arg(long, value_enum, default_value_t = Cascade::Background)]
    cascade: Cascade,
    /// Return without waiting until the objects are gone.
    #[arg(
        long,
        default_value_t = true,
        action = clap::ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    wait: bool,
    /// How long to wait: `90s`, `5m`, or seconds; 0: as long as it takes.
    #[arg(long, default_value = "0", value_parser = parse_duration)]
    timeout: Duration,
    /// Nothing found is no error.
    #[arg(long)]
    ignore_not_found: bool,
    #[command(flatten)]
    dry: Dry,
    /// `name`: print only `type/name`.
    #[arg(short, long, value_enum)]
    output: Option<Format>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Cascade {
    Background,
    Foreground,
    Orphan,
}

/// Deletes what is named.
pub async fn run(session: &Session, options: Options) -> Result<ExitCode> {
    let mut doomed = options.selection.find(session, &options.what).await?;
    if !options.selection.files.files.is_empty() {
        // Backwards: what was made last goes first, a namespace after what is in it.
        doomed.reverse();
    }
    if doomed.is_empty() {
        output::line("No resources found")?;
        return Ok(ExitCode::SUCCESS);
    }
    if options.force && options.dry.run == DryRun::None {
        eprintln!(
            "Warning: Immediate deletion does not wait for confirmation that the running resource has been terminated."
        );
    }
    let mut failed = false;
    let mut leaving = vec![];
    for object in doomed {
        match delete(session, &object, &options).await {
            Ok(None) => {}
            Ok(Some(uid)) => leaving.push((object, uid)),
            Err(e) if e.is_not_found() && options.ignore_not_found => {}
            Err(e) => {
                failed = true;
                eprintln!("{}", advice::line(session, e).await);
            }
        }
    }
    if options.wait && options.dry.run == DryRun::None {
        let wait = async {
            for (object, uid) in &leaving {
                until_gone(session, &object.resource, &object.namespace, &object.name, uid).await?;
            }
            anyhow::Ok(())
        };
        if options.timeout.is_zero() {
            wait.await?;
        } else {
            let seconds = options.timeout.as_secs();
            let names = || leaving.iter().map(|(o, _)| o.called()).collect::<Vec<_>>().join(", ");
            tokio::time::timeout(options.timeout, wait)
                .await
                .map_err(|_| anyhow!("timed out after {seconds} s: not everything is gone of {}", names()))??;
        }
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Asks for one deletion. Returns the uid of an object that is not gone yet.
async fn delete(session: &Session, object: &Chosen, options: &Options) -> Result<Option<String>, skiff_client::Error> {
    let api = session.api(&object.resource, false);
    let deleted = if options.dry.run == DryRun::Client {
        api.get(&object.namespace, &object.name).await?;
        None
    } else {
        let how = DeleteOptions {
            grace_period_seconds: match (options.force, options.now) {
                (true, _) => Some(0),
                (_, true) => Some(1),
                _ => options.grace_period,
            },
            propagation_policy: format!("{:?}", options.cascade),
            dry_run: options.dry.run == DryRun::Server,
            ..DeleteOptions::default()
        };
        Some(api.delete(&object.namespace, &object.name, &how).await?)
    };
    let kind = match object.resource.group.as_str() {
        "" => object.resource.singular.clone(),
        group => format!("{}.{group}", object.resource.singular),
    };
    let how = if options.force { "force deleted" } else { "deleted" };
    // A closed pipe shows at the next line.
    let _ = match options.output {
        Some(Format::Name) => output::line(object.called()),
        _ => output::line(format!("{kind} \"{}\" {how}{}", object.name, options.dry.run.suffix())),
    };
    Ok(deleted.filter(|d| !d.gone).map(|d| text(&d.object, "/metadata/uid")))
}

/// Waits until an object is gone; another one of its name is not it. A server that is away meanwhile
/// is waited for.
pub async fn until_gone(
    session: &Session,
    resource: &ResourceInfo,
    namespace: &str,
    name: &str,
    uid: &str,
) -> Result<()> {
    let mut follow = Follow::one(session, resource, namespace, name).patiently();
    loop {
        let there = match follow.next().await? {
            News::All(objects) => objects.iter().any(|o| text(o, "/metadata/uid") == uid),
            News::Is(object) => text(&object, "/metadata/uid") == uid,
            News::Gone(object) => text(&object, "/metadata/uid") != uid,
        };
        if !there {
            return Ok(());
        }
    }
}
