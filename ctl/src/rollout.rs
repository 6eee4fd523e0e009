//! `rollout`: how a Deployment's newest template is getting on, and back to an older one.

mod blame;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use skiff_client::{ListOptions, Patch};
use skiff_proto::skiffv1::ResourceInfo;

use crate::columns::{list, name, number, text};
use crate::follow::{Follow, News};
use crate::output;
use crate::session::Session;
use crate::table::Table;
use crate::target;

/// What `rollout` can do.
#[derive(Subcommand)]
pub enum Action {
    /// Wait until the rollout is complete.
    Status(Status),
    /// List the revisions.
    History(History),
    /// Go back to an earlier revision.
    Undo(Undo),
    /// Replace all Pods, as a rollout of an unchanged template.
    Restart(What),
    /// Stop rolling out changes.
    Pause(What),
    /// Go on rolling out.
    Resume(What),
}

/// Which Deployment.
#[derive(Args, Debug)]
pub struct What {
    /// `deployment/NAME` or `deployment NAME`.
    #[arg(required = true)]
    what: Vec<String>,
}

/// What `rollout status` takes.
#[derive(Args, Debug)]
pub struct Status {
    #[command(flatten)]
    what: What,
    /// Say how it stands and return.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    watch: bool,
    /// How long to wait: `90s`, `5m`, or seconds; 0: as long as it takes.
    #[arg(long, default_value = "0", value_parser = parse_duration)]
    timeout: Duration,
}

/// What `rollout history` takes.
#[derive(Args, Debug)]
pub struct History {
    #[command(flatten)]
    what: What,
    /// Show the template of this revision.
    #[arg(long)]
    revision: Option<i64>,
}

/// What `rollout undo` takes.
#[derive(Args, Debug)]
pub struct Undo {
    #[command(flatten)]
    what: What,
    /// Which revision; default: the one before.
    #[arg(long, default_value_t = 0)]
    to_revision: i64,
}

const REVISION: &str = "/metadata/annotations/deployment.kubernetes.io~1revision";
const CHANGE_CAUSE: &str = "/metadata/annotations/kubernetes.io~1change-cause";

/// Runs one of the actions.
pub async fn run(session: &Session, action: Action) -> Result<ExitCode> {
    match action {
        Action::Status(options) => status(session, options).await,
        Action::History(options) => history(session, options).await,
        Action::Undo(options) => undo(session, options).await,
        Action::Restart(what) => {
            let at = session.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
            let patch =
                json!({"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": at}}}}});
            change(session, &what, patch, "restarted").await
        }
        Action::Pause(what) => change(session, &what, json!({"spec": {"paused": true}}), "paused").await,
        Action::Resume(what) => change(session, &what, json!({"spec": {"paused": null}}), "resumed").await,
    }
}

async fn deployment(session: &Session, what: &What) -> Result<(ResourceInfo, String)> {
    let (resource, name) = target::parse_one(session, &what.what).await?;
    if resource.kind != "Deployment" {
        bail!("{} has no rollouts; Deployments have", target::called(&resource, &name));
    }
    Ok((resource, name))
}

async fn change(session: &Session, what: &What, patch: Value, done: &str) -> Result<ExitCode> {
    let (resource, name) = deployment(session, what).await?;
    session.api(&resource, false).patch(session.namespace(), &name, Patch::Merge(patch), None).await?;
    output::line(format!("{} {done}", target::called(&resource, &name)))?;
    Ok(ExitCode::SUCCESS)
}

async fn status(session: &Session, options: Status) -> Result<ExitCode> {
    let (resource, name) = deployment(session, &options.what).await?;
    let wait = follow(session, &resource, &name, options.watch);
    if options.timeout.is_zero() {
        return wait.await;
    }
    if let Ok(ended) = tokio::time::timeout(options.timeout, wait).await {
        return ended;
    }
    let why = match session.api(&resource, false).get(session.namespace(), &name).await {
        Ok(deployment) => blame::hindrance(session, &deployment).await,
        Err(_) => String::new(),
    };
    bail!("timed out after {} s waiting for deployment {name:?}{why}", options.timeout.as_secs())
}

/// Prints each new state of the rollout until it is complete or has failed.
async fn follow(session: &Session, resource: &ResourceInfo, name: &str, watch: bool) -> Result<ExitCode> {
    let mut follow = Follow::one(session, resource, session.namespace(), name);
    let mut last = String::new();
    loop {
        let current = match follow.next().await? {
            News::All(mut objects) => match objects.pop() {
                Some(object) => object,
                None if last.is_empty() => bail!("deployments.apps {name:?} not found"),
                None => bail!("deployments.apps {name:?} was deleted"),
            },
            News::Is(object) => object,
            News::Gone(_) => bail!("deployments.apps {name:?} was deleted"),
        };
        match progress(&current) {
            Progress::Complete => {
                output::line(format!("deployment {name:?} successfully rolled out"))?;
                return Ok(ExitCode::SUCCESS);
            }
            Progress::Failed => {
                let why = blame::hindrance(session, &current).await;
                bail!("deployment {name:?} exceeded its progress deadline{why}");
            }
            Progress::Waiting(why) if why != last => {
                output::line(&why)?;
                last = why;
            }
            Progress::Waiting(_) => {}
        }
        if !watch {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// Where a rollout stands.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    Complete,
    Failed,
    Waiting(String),
}

/// Reads it off the Deployment, in kubectl's words.
fn progress(d: &Value) -> Progress {
    let name = name(d);
    if number(d, "/metadata/generation") > number(d, "/status/observedGeneration") {
        return Progress::Waiting("Waiting for deployment spec update to be observed...".to_owned());
    }
    let failed = list(d, "/status/conditions")
        .iter()
        .any(|c| text(c, "/type") == "Progressing" && text(c, "/reason") == "ProgressDeadlineExceeded");
    if failed {
        return Progress::Failed;
    }
    let (wanted, all) = (number(d, "/spec/replicas"), number(d, "/status/replicas"));
    let (updated, available) = (number(d, "/status/updatedReplicas"), number(d, "/status/availableReplicas"));
    let waiting =
        |what: String| Progress::Waiting(format!("Waiting for deployment {name:?} rollout to finish: {what}..."));
    if updated < wanted {
        waiting(format!("{updated} out of {wanted} new replicas have been updated"))
    } else if all > updated {
        waiting(format!("{} old replicas are pending termination", all - updated))
    } else if available < updated {
        waiting(format!("{available} of {updated} updated replicas are available"))
    } else {
        Progress::Complete
    }
}

/// The ReplicaSets of a Deployment that have a revision, the oldest first.
async fn revisions(session: &Session, deployment: &Value) -> Result<Vec<Value>> {
    let resource = session.resource("apps", "replicasets").await?;
    let selector = crate::columns::selector(deployment.pointer("/spec/selector"));
    let options = ListOptions::labels(selector);
    let owned = |rs: &Value| {
        list(rs, "/metadata/ownerReferences")
            .iter()
            .any(|o| o["controller"] == true && o["uid"] == deployment["metadata"]["uid"])
    };
    let mut sets: Vec<Value> = session.api(&resource, false).list(session.namespace(), &options).await?.items;
    sets.retain(|rs| owned(rs) && revision(rs) > 0);
    sets.sort_by_key(revision);
    Ok(sets)
}

fn revision(object: &Value) -> i64 {
    text(object, REVISION).parse().unwrap_or(0)
}

async fn history(session: &Session, options: History) -> Result<ExitCode> {
    let (resource, name) = deployment(session, &options.what).await?;
    let object = session.api(&resource, false).get(session.namespace(), &name).await?;
    let sets = revisions(session, &object).await?;
    let called = target::called(&resource, &name);
    if let Some(wanted) = options.revision {
        let Some(set) = sets.iter().find(|s| revision(s) == wanted) else {
            bail!("unable to find revision {wanted} of {called}; there are {}", spell(&sets));
        };
        output::line(format!("{called} with revision #{wanted}"))?;
        output::print(&output::document(&template(set), output::Format::Yaml)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    output::line(format!("{called} "))?;
    let mut table = Table::new(["REVISION", "CHANGE-CAUSE"]);
    for set in &sets {
        table.row([revision(set).to_string(), text(set, CHANGE_CAUSE)]);
    }
    output::print(&table.render(true))?;
    Ok(ExitCode::SUCCESS)
}

fn spell(sets: &[Value]) -> String {
    sets.iter().map(|s| revision(s).to_string()).collect::<Vec<_>>().join(", ")
}

/// A ReplicaSet's template as the Deployment wrote it: without the hash.
fn template(set: &Value) -> Value {
    let mut template = set["spec"]["template"].clone();
    if let Some(labels) = template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.remove("pod-template-hash");
    }
    template
}

async fn undo(session: &Session, options: Undo) -> Result<ExitCode> {
    let (resource, name) = deployment(session, &options.what).await?;
    let api = session.api(&resource, false);
    let object = api.get(session.namespace(), &name).await?;
    let called = target::called(&resource, &name);
    if object.pointer("/spec/paused") == Some(&Value::Bool(true)) {
        bail!("{called} is paused; resume it first with `skiffctl rollout resume {called}`");
    }
    let sets = revisions(session, &object).await?;
    let current = revision(&object);
    let wanted = match options.to_revision {
        0 => sets.iter().rev().find(|s| revision(s) < current),
        n => sets.iter().find(|s| revision(s) == n),
    };
    let Some(set) = wanted else {
        match options.to_revision {
            0 => bail!("no rollout history found for {called}: there is no revision before {current}"),
            n => bail!("unable to find revision {n} of {called}; there are {}", spell(&sets)),
        }
    };
    let template = template(set);
    if template == object["spec"]["template"] {
        output::line(format!(
            "{called} skipped rollback (current template already matches revision {})",
            revision(set)
        ))?;
        return Ok(ExitCode::SUCCESS);
    }
    // The whole template at once, and only if nobody changed the Deployment since we looked.
    let patch = json!([
        {"op": "test", "path": "/metadata/resourceVersion", "value": object["metadata"]["resourceVersion"]},
        {"op": "replace", "path": "/spec/template", "value": template},
    ]);
    api.patch(session.namespace(), &name, Patch::Json(patch), None).await?;
    output::line(format!("{called} rolled back"))?;
    Ok(ExitCode::SUCCESS)
}

/// `90`, `90s`, `5m`, `1h30m`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?}: expected a time like 90s, 5m or 1h30m");
    let mut total = 0u64;
    let mut digits = String::new();
    for c in text.chars() {
        if c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        let unit = match c {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            _ => return Err(wrong()),
        };
        let value: u64 = digits.parse().map_err(|_| wrong())?;
        total = value.checked_mul(unit).and_then(|v| total.checked_add(v)).ok_or_else(wrong)?;
        digits.clear();
    }
    if !digits.is_empty() {
        total = digits.parse::<u64>().ok().and_then(|v| total.checked_add(v)).ok_or_else(wrong)?;
    } else if text.is_empty() {
        return Err(wrong());
    }
    Ok(Duration::from_secs(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read() {
        for (text, seconds) in [("0", 0), ("90", 90), ("90s", 90), ("5m", 300), ("1h30m", 5400)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "s", "5x", "99999999999999999999h"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn progress_is_told_as_kubectl_tells_it() {
        let d = |generation: i64, status: Value| json!({"metadata": {"name": "web", "generation": generation}, "spec": {"replicas": 3}, "status": status});
        let told = |d: Value| match progress(&d) {
            Progress::Complete => "complete".to_owned(),
            Progress::Failed => "failed".to_owned(),
            Progress::Waiting(why) => why,
        };
        assert!(told(d(2, json!({"observedGeneration": 1}))).contains("to be observed"));
        assert!(told(d(1, json!({"observedGeneration": 1, "updatedReplicas": 1}))).contains("1 out of 3 new replicas"));
        let old = json!({"observedGeneration": 1, "updatedReplicas": 3, "replicas": 5});
        assert!(told(d(1, old)).contains("2 old replicas are pending termination"));
        let soon = json!({"observedGeneration": 1, "updatedReplicas": 3, "replicas": 3, "availableReplicas": 2});
        assert!(told(d(1, soon)).contains("2 of 3 updated replicas are available"));
        let done = json!({"observedGeneration": 1, "updatedReplicas": 3, "replicas": 3, "availableReplicas": 3});
        assert_eq!(told(d(1, done)), "complete");
        let late = json!({"observedGeneration": 1, "conditions": [{"type": "Progressing", "reason": "ProgressDeadlineExceeded"}]});
        assert_eq!(told(d(1, late)), "failed");
    }
}
