//! `taint`: what keeps Pods off a node that do not tolerate it.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use serde_json::{Map, Value, json};
use skiff_client::Patch;

use crate::amend;
use crate::columns::{list, text};
use crate::report::Report;
use crate::selection::Selection;
use crate::session::Session;
use crate::suggest;

/// What `taint` takes.
#[derive(Args, Debug)]
pub struct Options {
    /// `nodes NAME...`, then `KEY=VALUE:EFFECT` or `KEY:EFFECT` to set, `KEY:EFFECT-` or `KEY-` to remove.
    #[arg(required = true)]
    words: Vec<String>,
    #[command(flatten)]
    selection: Selection,
    /// Replace taints of the same key and effect.
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    report: Report,
}

const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// One change to a node's taints.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    Set {
        key: String,
        value: String,
        effect: String,
    },
    /// Of one effect, or of all.
    Remove {
        key: String,
        effect: Option<String>,
    },
}

/// Changes the taints of every node that is meant.
pub async fn run(session: &Session, options: Options) -> Result<ExitCode> {
    let is_change = |w: &String| w.contains(['=', ':']) || w.ends_with('-');
    let at = options.words.iter().position(is_change).unwrap_or(options.words.len());
    let (nodes, changes) = options.words.split_at(at);
    let changes: Vec<Change> = changes.iter().map(|c| parse(c)).collect::<Result<_>>()?;
    if changes.is_empty() {
        bail!("at least one taint update is required: KEY=VALUE:EFFECT sets, KEY:EFFECT- and KEY- remove");
    }
    for node in options.selection.find(session, nodes).await? {
        if node.resource.kind != "Node" {
            bail!("{} cannot be tainted; nodes can", node.called());
        }
        let patch = |object: &Value| {
            let taints = changed(&node.name, list(object, "/spec/taints"), &changes, options.overwrite)?;
            Ok(Patch::Merge(json!({"spec": {"taints": taints}})))
        };
        let amended = amend::amend(session, &options.report, &node, patch).await?;
        options.report.say(&node.resource, &amended.after, done(&changes))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn done(changes: &[Change]) -> &'static str {
    let sets = changes.iter().filter(|c| matches!(c, Change::Set { .. })).count();
    match sets {
        0 => "untainted",
        n if n == changes.len() => "tainted",
        _ => "modified",
    }
}

fn parse(word: &str) -> Result<Change> {
    let removes = word.strip_suffix('-');
    let (pair, effect) = match removes.unwrap_or(word).split_once(':') {
        Some((pair, effect)) => (pair, Some(effect)),
        None => (removes.unwrap_or(word), None),
    };
    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
    if key.is_empty() {
        bail!("{word:?}: the taint's key is missing");
    }
    if let Some(effect) = effect
        && !EFFECTS.contains(&effect)
    {
        let meant = suggest::nearest(effect, EFFECTS).map(|e| format!("; did you mean {e:?}?")).unwrap_or_default();
        bail!("{word:?}: {effect:?} is no effect; there are {}{meant}", EFFECTS.join(", "));
    }
    let key = key.to_owned();
    match (removes, effect) {
        (Some(_), effect) => Ok(Change::Remove { key, effect: effect.map(str::to_owned) }),
        (None, Some(effect)) => Ok(Change::Set { key, value: value.to_owned(), effect: effect.to_owned() }),
        (None, None) => bail!("{word:?}: the effect is missing, as in {word}:NoSchedule"),
    }
}

/// A node's taints after the changes.
fn changed(node: &str, taints: &[Value], changes: &[Change], overwrite: bool) -> Result<Vec<Value>> {
    let mut taints = taints.to_vec();
    for change in changes {
        match change {
            Change::Remove { key, effect } => {
                let is_meant =
                    |t: &Value| text(t, "/key") == *key && effect.as_ref().is_none_or(|e| text(t, "/effect") == *e);
                if !taints.iter().any(is_meant) {
                    let what = effect.as_ref().map_or(key.clone(), |e| format!("{key}:{e}"));
                    bail!("taint {what:?} not found on node {node}");
                }
                taints.retain(|t| !is_meant(t));
            }
            Change::Set { key, value, effect } => {
                let same = |t: &Value| text(t, "/key") == *key && text(t, "/effect") == *effect;
                if taints.iter().any(|t| same(t) && text(t, "/value") != *value) && !overwrite {
                    bail!("node {node} already has {key} taint(s) with same effect(s) and --overwrite is false");
                }
                if taints.iter().any(|t| same(t) && text(t, "/value") == *value) {
                    continue;
                }
                taints.retain(|t| !same(t));
                let mut taint = Map::from_iter([("key".to_owned(), json!(key)), ("effect".to_owned(), json!(effect))]);
                if !value.is_empty() {
                    taint.insert("value".to_owned(), json!(value));
                }
                taints.push(Value::Object(taint));
            }
        }
    }
    Ok(taints)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taints_come_and_go_by_key_and_effect() {
        let gpu = json!({"key": "gpu", "effect": "NoSchedule", "value": "a"});
        let old = json!({"key": "old", "effect": "NoExecute"});
        let taints = [gpu.clone(), old.clone()];
        let after = |words: &str, overwrite: bool| {
            let changes: Vec<Change> = words.split(' ').map(|w| parse(w).unwrap()).collect();
            changed("n1", &taints, &changes, overwrite)
        };
        assert_eq!(after("gpu=a:NoSchedule", false).unwrap(), taints);
        assert!(after("gpu=b:NoSchedule", false).unwrap_err().to_string().contains("--overwrite is false"));
        let replaced = json!({"key": "gpu", "effect": "NoSchedule", "value": "b"});
        assert_eq!(after("gpu=b:NoSchedule", true).unwrap(), [old.clone(), replaced]);
        assert_eq!(after("gpu-", false).unwrap(), std::slice::from_ref(&old));
        assert_eq!(
            after("old:NoExecute- new:NoExecute", false).unwrap(),
            [gpu, json!({"key": "new", "effect": "NoExecute"})]
        );
        assert!(after("gpu:NoExecute-", false).unwrap_err().to_string().contains("not found on node n1"));
    }

    #[test]
    fn wrong_taints_are_refused_in_words() {
        for (word, expected) in [
            ("a=b", "effect is missing"),
            ("a=b:NoSchedul", "did you mean \"NoSchedule\""),
            (":NoSchedule", "key is missing"),
            ("=b:NoSchedule-", "key is missing"),
        ] {
            let error = parse(word).unwrap_err().to_string();
            assert!(error.contains(expected), "{word}: {error}");
        }
        let changes = |words: &str| words.split(' ').map(|w| parse(w).unwrap()).collect::<Vec<_>>();
        assert_eq!(done(&changes("a:NoExecute")), "tainted");
        assert_eq!(done(&changes("a-")), "untainted");
        assert_eq!(done(&changes("a- b:NoExecute")), "modified");
    }
}
