//! `delete`: asks for deletion, and waits until the objects are gone.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use skiff_client::{DeleteOptions, ListOptions, WatchEvent};
use skiff_proto::skiffv1::ResourceInfo;

use crate::columns::{name, text};
use crate::manifest::{self, Files};
use crate::output;
use crate::session::Session;
use crate::target;

/// What `delete` takes.
#[derive(Args, Debug)]
pub struct Options {
    /// `TYPE NAME...`, `TYPE/NAME...`, or `TYPE` with -l or --all.
    what: Vec<String>,
    #[command(flatten)]
    files: Files,
    /// Only objects whose labels match.
    #[arg(short = 'l', long, conflicts_with = "all")]
    selector: Option<String>,
    /// All objects of the type.
    #[arg(long)]
    all: bool,
    /// Seconds a Pod gets to stop by itself; default: what its spec says.
    #[arg(long)]
    grace_period: Option<i64>,
    /// Delete at once, without waiting for the node to confirm.
    #[arg(long)]
    force: bool,
    /// What becomes of the objects that these own.
    #[arg(long, value_enum, default_value_t = Cascade::Background)]
    cascade: Cascade,
    /// Return without waiting until the objects are gone.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    wait: bool,
    /// How long to wait, in seconds; 0: as long as it takes.
    #[arg(long, default_value_t = 0)]
    timeout: u64,
    /// Nothing found is no error.
    #[arg(long)]
    ignore_not_found: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Cascade {
    Background,
    Foreground,
    Orphan,
}

/// One object to delete.
struct Doomed {
    resource: ResourceInfo,
    namespace: String,
    name: String,
}

/// Deletes what is named.
pub async fn run(session: &Session, options: Options) -> Result<ExitCode> {
    let doomed = find(session, &options).await?;
    if doomed.is_empty() {
        output::line("No resources found")?;
        return Ok(ExitCode::SUCCESS);
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
                eprintln!("Error from server: {e}");
            }
        }
    }
    if options.wait {
        let wait = wait_until_gone(session, &leaving);
        match options.timeout {
            0 => wait.await?,
            seconds => tokio::time::timeout(Duration::from_secs(seconds), wait)
                .await
                .with_context(|| format!("after {seconds} s not everything is gone"))??,
        }
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn find(session: &Session, options: &Options) -> Result<Vec<Doomed>> {
    if !options.files.files.is_empty() {
        if !options.what.is_empty() {
            bail!("name objects, or files with -f: not both");
        }
        let manifests = manifest::read(session, &options.files).await?;
        // Backwards: what was made last goes first, a namespace after what is in it.
        return Ok(manifests
            .into_iter()
            .rev()
            .map(|m| Doomed { resource: m.resource, namespace: m.namespace, name: m.name })
            .collect());
    }
    let mut doomed = vec![];
    for target in target::parse(session, &options.what).await? {
        let resource = target.resource;
        let namespace = if resource.namespaced { session.namespace() } else { "" };
        if !target.names.is_empty() {
            let named = |name| Doomed { resource: resource.clone(), namespace: namespace.to_owned(), name };
            doomed.extend(target.names.into_iter().map(named));
            continue;
        }
        if options.selector.is_none() && !options.all {
            bail!("say which {}: by name, by labels with -l, or --all", target::plural(&resource));
        }
        let list = ListOptions::labels(options.selector.clone().unwrap_or_default());
        for object in session.api(&resource, false).list(namespace, &list).await?.items {
            doomed.push(Doomed { resource: resource.clone(), namespace: namespace.to_owned(), name: name(&object) });
        }
    }
    Ok(doomed)
}

/// Asks for one deletion. Returns the uid of an object that is not gone yet.
async fn delete(session: &Session, object: &Doomed, options: &Options) -> Result<Option<String>, skiff_client::Error> {
    let how = DeleteOptions {
        grace_period_seconds: if options.force { Some(0) } else { options.grace_period },
        propagation_policy: format!("{:?}", options.cascade),
        ..DeleteOptions::default()
    };
    let deleted = session.api(&object.resource, false).delete(&object.namespace, &object.name, &how).await?;
    let called = match object.resource.group.as_str() {
        "" => object.resource.singular.clone(),
        group => format!("{}.{group}", object.resource.singular),
    };
    let how = if options.force { " force deleted" } else { " deleted" };
    // A closed pipe shows at the next line.
    let _ = output::line(format!("{called} \"{}\"{how}", object.name));
    Ok(if deleted.gone { None } else { Some(text(&deleted.object, "/metadata/uid")) })
}

async fn wait_until_gone(session: &Session, leaving: &[(Doomed, String)]) -> Result<()> {
    for (object, uid) in leaving {
        let api = session.api(&object.resource, false);
        let fields = ListOptions::fields(format!("metadata.name={}", object.name));
        'gone: loop {
            let list = api.list(&object.namespace, &fields).await?;
            if !list.items.iter().any(|o| text(o, "/metadata/uid") == *uid) {
                break;
            }
            // From the list on, so that no deletion falls between the two.
            let mut events = api.watch(&object.namespace, &fields, &list.resource_version).await?;
            while let Some(event) = events.next().await {
                match event {
                    Ok(WatchEvent::Deleted { object, .. }) if text(&object, "/metadata/uid") == *uid => break 'gone,
                    Ok(_) => {}
                    Err(_) => break, // the watch was cut off: list again
                }
            }
        }
    }
    Ok(())
}
