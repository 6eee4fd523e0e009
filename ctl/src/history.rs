//! `history`: every write of an object that is held, with who made it and what it changed.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};
use skiff_client::cause;
use skiff_proto::skiffv1::Recorded;

use crate::changes;
use crate::output::{self, Format};
use crate::session::Session;
use crate::table::Table;
use crate::target;

/// What `history` takes.
#[derive(Args, Debug)]
pub struct Options {
    /// `TYPE/NAME` or `TYPE NAME`; the object may be gone.
    #[arg(required = true)]
    what: Vec<String>,
    /// How to print: `json` or `yaml` tells all there is.
    #[arg(short, long, value_enum)]
    output: Option<Format>,
    /// Only so many of the latest writes.
    #[arg(long, default_value_t = 100)]
    limit: u32,
}

/// Prints a line for each write, the latest last.
pub async fn run(session: &Session, options: Options) -> Result<ExitCode> {
    let (resource, name) = target::parse_one(session, &options.what).await?;
    // One more, to say what the first of those that are shown changed.
    let reply = changes::fetch(session, &resource, &name, 0, options.limit.saturating_add(1)).await?;
    for notice in &reply.notices {
        eprintln!("Warning: {notice}");
    }
    let limit = usize::try_from(options.limit).unwrap_or(usize::MAX);
    match options.output {
        Some(format @ (Format::Json | Format::Yaml)) => {
            let all: Vec<Value> = reply.changes.iter().rev().take(limit).rev().map(document).collect();
            output::print(&output::document(&json!({ "writes": all, "notices": reply.notices }), format)?)?;
        }
        _ => output::print(&table(&reply.changes, limit))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn document(write: &Recorded) -> Value {
    json!({
        "revision": changes::revision_of(write),
        "at": changes::time(write).map(|time| time.to_string()),
        "deleted": write.deleted,
        "cause": write.cause.as_ref().map(cause::to_json),
        "object": changes::json(write),
    })
}

fn table(writes: &[Recorded], limit: usize) -> String {
    let mut table = Table::new(["REVISION", "TIME", "BY", "CHANGE"]);
    let skip = writes.len().saturating_sub(limit);
    for (at, write) in writes.iter().enumerate().skip(skip) {
        let before = at.checked_sub(1).map(|before| &writes[before]);
        // A name may be used again: what came before was another object.
        let uid = |write: &Recorded| write.object.as_ref().map(|object| object.uid.clone());
        let before = before.filter(|before| uid(before) == uid(write)).map(changes::json);
        let cause = write.cause.clone().unwrap_or_default();
        let mut change = changes::summary(before.as_ref(), write);
        if !cause.reconcile_id.is_empty() && !cause.reason.is_empty() {
            change = format!("{change} ({})", cause.reason);
        }
        let time = changes::time(write).map_or("<unknown>".into(), |time| format!("{time:.3}"));
        table.row([changes::revision_of(write).to_string(), time, changes::who(&cause), change]);
    }
    table.render(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::changes::tests::write;
    use skiff_proto::skiffv1::{Actor, Cause};

    #[test]
    fn a_line_for_each_write() {
        let actor = |user: &str, component: &str| {
            Some(Actor { user: user.into(), component: component.into(), ..Actor::default() })
        };
        let set = |uid: &str, replicas: u32| json!({"kind": "ReplicaSet", "metadata": {"name": "web", "uid": uid}, "spec": {"replicas": replicas}});
        let made = Cause { verb: "create".into(), actor: actor("alice", "kubectl/v1.33"), ..Cause::default() };
        let scaled = Cause {
            verb: "patch".into(),
            actor: actor("system:kube-controller-manager", "skiff/0.1.0"),
            controller: "deployment".into(),
            reconcile_id: "r".into(),
            reason: "3 replicas are wanted".into(),
            replaced_revision: 7,
            ..Cause::default()
        };
        let mut gone = write(set("a", 3), 12, 3_000, Cause { actor: actor("alice", ""), ..Cause::default() });
        gone.deleted = true;
        let again = write(set("b", 1), 15, 0, Cause { verb: "create".into(), ..made.clone() });
        let writes = [write(set("a", 1), 7, 1_000, made), write(set("a", 3), 9, 2_500, scaled), gone, again];
        let expected = "\
REVISION   TIME                       BY                      CHANGE
7          1970-01-01T00:00:01.000Z   alice (kubectl/v1.33)   created
9          1970-01-01T00:00:02.500Z   deployment controller   spec.replicas 1 -> 3 (3 replicas are wanted)
12         1970-01-01T00:00:03.000Z   alice                   deleted
15         <unknown>                  alice (kubectl/v1.33)   created
";
        assert_eq!(table(&writes, 10), expected);
        assert_eq!(table(&writes, 1).lines().count(), 2);
    }
}
