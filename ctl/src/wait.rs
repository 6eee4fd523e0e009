//! `wait`: until something is so of every object that is meant. What is asked for is read off the
//! objects as they change; nothing is asked again and again.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use serde_json::Value;

use crate::columns::{list, number, text};
use crate::follow::{Follow, News};
use crate::output;
use crate::rollout::parse_duration;
use crate::selection::{Chosen, Selection};
use crate::session::Session;
use crate::target;
use skiff_proto::jsonpath::JsonPath;

/// What `wait` takes.
#[derive(Args, Debug)]
pub struct Options {
    /// `TYPE NAME...`, `TYPE/NAME...`, or `TYPE` with -l or --all.
    what: Vec<String>,
    #[command(flatten)]
    selection: Selection,
    /// `condition=NAME[=VALUE]`, `delete`, `create` or `jsonpath='{.PATH}'[=VALUE]`.
    #[arg(long = "for", value_parser = parse_goal)]
    goal: Goal,
    /// How long: `90s`, `5m`, or seconds; 0: look once.
    #[arg(long, default_value = "30s", value_parser = parse_duration)]
    timeout: Duration,
}

/// What is waited for.
#[derive(Clone, Debug)]
enum Goal {
    Condition { name: String, value: String },
    Delete,
    Create,
    Path { path: JsonPath, value: Option<String> },
}

/// Waits for every object that is meant.
pub async fn run(session: &Session, options: Options) -> Result<ExitCode> {
    let chosen = options.selection.find(session, &options.what).await?;
    if chosen.is_empty() {
        if matches!(options.goal, Goal::Delete) {
            return Ok(ExitCode::SUCCESS);
        }
        bail!("no matching resources found");
    }
    // All at once: each has the whole time.
    let reached = futures::future::join_all(chosen.iter().map(|object| wait(session, object, &options))).await;
    let reached: Vec<bool> = reached.into_iter().collect::<Result<_>>()?;
    Ok(if reached.into_iter().all(|r| r) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Waits for one object and says what came of it.
async fn wait(session: &Session, object: &Chosen, options: &Options) -> Result<bool> {
    let reach = reach(session, object, options);
    let reached = if options.timeout.is_zero() {
        reach.await?
    } else {
        match tokio::time::timeout(options.timeout, reach).await {
            Ok(reached) => reached?,
            Err(_) => false,
        }
    };
    if reached {
        let how = if matches!(options.goal, Goal::Delete) { "deleted" } else { "condition met" };
        output::line(format!("{} {how}", object.called()))?;
    } else {
        let what = format!("{}/{}", target::plural(&object.resource), object.name);
        let instead = as_it_is(session, object, &options.goal).await;
        eprintln!("error: timed out waiting for the condition on {what}{instead}");
    }
    Ok(reached)
}

/// Follows one object until it is as wanted; false if it is not and was only to be looked at.
async fn reach(session: &Session, object: &Chosen, options: &Options) -> Result<bool> {
    let mut follow = Follow::one(session, &object.resource, &object.namespace, &object.name);
    // The one that was there at first: another of its name is not what was waited for.
    let mut first: Option<String> = None;
    loop {
        let now = match follow.next().await? {
            News::All(mut objects) => objects.pop(),
            News::Is(object) => Some(object),
            News::Gone(_) => None,
        };
        let Some(now) = now else {
            match options.goal {
                Goal::Delete => return Ok(true),
                Goal::Create if options.timeout.is_zero() => return Ok(false),
                Goal::Create => continue,
                _ => bail!("{} \"{}\" not found", target::plural(&object.resource), object.name),
            }
        };
        let uid = text(&now, "/metadata/uid");
        let same = *first.get_or_insert_with(|| uid.clone()) == uid;
        if options.goal.is_reached(&now, same) {
            return Ok(true);
        }
        if options.timeout.is_zero() {
            return Ok(false);
        }
    }
}

impl Goal {
    fn is_reached(&self, object: &Value, same: bool) -> bool {
        match self {
            Goal::Create => true,
            Goal::Delete => !same,
            Goal::Path { path, value } => {
                let found = path.texts(object);
                match value {
                    Some(value) => found.iter().any(|f| f == value),
                    None => !found.is_empty(),
                }
            }
            Goal::Condition { name, value } => list(object, "/status/conditions").iter().any(|c| {
                let seen = c.get("observedGeneration").and_then(Value::as_i64);
                // What is said of an older spec says nothing about this one.
                let current = seen.is_none_or(|s| s >= number(object, "/metadata/generation"));
                current && text(c, "/type").eq_ignore_ascii_case(name) && text(c, "/status").eq_ignore_ascii_case(value)
            }),
        }
    }
}

/// What there is in place of what was waited for, where that can be said.
async fn as_it_is(session: &Session, object: &Chosen, goal: &Goal) -> String {
    let Goal::Condition { name, .. } = goal else { return String::new() };
    let Ok(now) = session.api(&object.resource, false).get(&object.namespace, &object.name).await else {
        return String::new();
    };
    let conditions = list(&now, "/status/conditions");
    match conditions.iter().find(|c| text(c, "/type").eq_ignore_ascii_case(name)) {
        Some(c) => match (text(c, "/reason"), text(c, "/message")) {
            (reason, message) if reason.is_empty() && message.is_empty() => format!(": it is {}", text(c, "/status")),
            (reason, message) => format!(": it is {}: {reason} {message}", text(c, "/status")).trim_end().to_owned(),
        },
        None => {
            let there: Vec<String> = conditions.iter().map(|c| text(c, "/type")).collect();
            format!(
                ": it has no such condition; it has: {}",
                if there.is_empty() { "none".into() } else { there.join(", ") }
            )
        }
    }
}

fn parse_goal(goal: &str) -> Result<Goal, String> {
    let lower = goal.to_lowercase();
    if lower == "delete" || lower == "create" {
        return Ok(if lower == "delete" { Goal::Delete } else { Goal::Create });
    }
    if let Some(rest) = goal.strip_prefix("condition=") {
        let (name, value) = rest.split_once('=').unwrap_or((rest, "True"));
        if name.is_empty() {
            return Err("condition=NAME: the name is missing".to_owned());
        }
        return Ok(Goal::Condition { name: name.to_owned(), value: value.to_owned() });
    }
    if let Some(rest) = goal.strip_prefix("jsonpath=") {
        // The value begins behind the closing brace: a filter may hold an equals sign too.
        let (path, value) = match rest.rfind('}') {
            Some(at) => (&rest[..=at], rest[at + 1..].strip_prefix('=')),
            None => rest.split_once('=').map_or((rest, None), |(path, value)| (path, Some(value))),
        };
        let path = JsonPath::parse(path)?;
        return Ok(Goal::Path { path, value: value.map(str::to_owned) });
    }
    Err("expected condition=NAME, condition=NAME=VALUE, delete, create or jsonpath='{.PATH}'=VALUE".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod() -> Value {
        json!({
            "metadata": {"generation": 2},
            "status": {"phase": "Running", "conditions": [
                {"type": "Ready", "status": "True"},
                {"type": "Old", "status": "True", "observedGeneration": 1},
            ]},
        })
    }

    #[test]
    fn goals_are_reached_when_the_object_says_so() {
        for (goal, expected) in [
            ("condition=Ready", true),
            ("condition=ready=true", true),
            ("condition=Ready=False", false),
            ("condition=Old", false),
            ("condition=None", false),
            ("create", true),
            ("delete", false),
            ("jsonpath={.status.phase}=Running", true),
            ("jsonpath={.status.phase}=Pending", false),
            ("jsonpath={.status.phase}", true),
            ("jsonpath=.status.phase=Running", true),
            ("jsonpath={.status.none}", false),
            ("jsonpath={.status.conditions[?(@.type==\"Ready\")].status}=True", true),
        ] {
            assert_eq!(parse_goal(goal).unwrap().is_reached(&pod(), true), expected, "{goal}");
        }
        assert!(parse_goal("delete").unwrap().is_reached(&pod(), false), "another of the same name");
        for wrong in ["ready", "condition=", "jsonpath={.a", "condition"] {
            assert!(parse_goal(wrong).is_err(), "{wrong}");
        }
    }
}
