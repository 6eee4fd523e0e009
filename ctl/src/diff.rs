//! `diff`: what `apply` would change, shown by `diff` itself or by what $KUBECTL_EXTERNAL_DIFF names.
//! Exit codes are diff's: 0 nothing would change, 1 something would, more is trouble.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::{Value, json};

use crate::apply;
use crate::manifest::{self, Files, Manifest};
use crate::output::{self, Format};
use crate::revisions;
use crate::session::Session;

/// What `diff` takes.
#[derive(Args, Debug)]
pub struct Options {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    ownership: apply::Ownership,
    /// Compare revisions of one object instead: `A..B`, or `A..` for A and now.
    #[arg(long, value_name = "A..B", conflicts_with = "files", requires = "what")]
    at: Option<String>,
    /// With --at: `TYPE/NAME` or `TYPE NAME`.
    #[arg(requires = "at")]
    what: Vec<String>,
}

/// Trouble, as opposed to a difference.
const TROUBLE: u8 = 2;

/// Compares what there is with what there would be; the server works out the latter.
pub async fn run(session: &Session, options: Options) -> Result<ExitCode> {
    let compared = match &options.at {
        Some(range) => revisions::show(session, range, &options.what).await.map(u8::from),
        None => compare(session, &options).await,
    };
    match compared {
        Ok(code) => Ok(ExitCode::from(code)),
        Err(error) => {
            eprintln!("{}", output::error_line(&error));
            Ok(ExitCode::from(TROUBLE))
        }
    }
}

async fn compare(session: &Session, options: &Options) -> Result<u8> {
    if options.files.files.is_empty() {
        bail!("say what to compare: -f FILE, -f FOLDER or -f - for standard input");
    }
    let folder = tempfile::Builder::new().prefix("skiffctl-diff-").tempdir().context("make a folder to compare in")?;
    let (live, merged) = (folder.path().join("LIVE"), folder.path().join("MERGED"));
    for side in [&live, &merged] {
        std::fs::create_dir(side).with_context(|| format!("make {}", side.display()))?;
    }
    for manifest in manifest::read(session, &options.files).await? {
        let applied =
            apply::one(session, &manifest, &options.ownership, true).await.with_context(|| manifest.place.clone())?;
        let (mut before, mut after) = (applied.before, applied.after);
        if manifest.resource.kind == "Secret" {
            mask(before.as_mut(), &mut after);
        }
        if let Some(before) = &mut before {
            write(&live, &manifest, before)?;
        }
        write(&merged, &manifest, &mut after)?;
    }
    show(session, &live, &merged).await
}

fn write(folder: &Path, manifest: &Manifest, object: &mut Value) -> Result<()> {
    strip(object);
    let r = &manifest.resource;
    let parts = [r.group.as_str(), &r.version, &r.kind, &manifest.namespace, &manifest.name];
    let name = parts.into_iter().filter(|p| !p.is_empty()).collect::<Vec<_>>().join(".");
    let path = folder.join(name.replace('/', "-"));
    std::fs::write(&path, output::document(object, Format::Yaml)?).with_context(|| format!("write {}", path.display()))
}

/// Takes out what every write changes and nobody writes.
fn strip(object: &mut Value) {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    metadata.shift_remove("managedFields");
    metadata.shift_remove("resourceVersion");
}

/// Secrets differ visibly without being shown.
fn mask(before: Option<&mut Value>, after: &mut Value) {
    let mut nothing = json!({});
    let before = before.unwrap_or(&mut nothing);
    for field in ["data", "stringData"] {
        let was = before.get(field).cloned().unwrap_or_default();
        let will = after.get(field).cloned().unwrap_or_default();
        for (side, other, differs) in [(&mut *before, &will, "*** (before)"), (&mut *after, &was, "*** (after)")] {
            for (key, value) in side.get_mut(field).and_then(Value::as_object_mut).into_iter().flatten() {
                let is_other = other.get(key).is_some_and(|o| o != value);
                *value = json!(if is_other { differs } else { "***" });
            }
        }
    }
}

/// Runs the program that shows differences; its exit code says whether there are any.
async fn show(session: &Session, live: &Path, merged: &Path) -> Result<u8> {
    let set = std::env::var("KUBECTL_EXTERNAL_DIFF").ok().filter(|p| !p.trim().is_empty());
    let line = set.unwrap_or_else(|| "diff -u -N".to_owned());
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or("diff"));
    command.args(words).arg(live).arg(merged);
    let ended = session.world().blocking(move || command.status()).await;
    let status = ended.with_context(|| format!("run {line:?}; $KUBECTL_EXTERNAL_DIFF names another program"))?;
    match status.code().and_then(|code| u8::try_from(code).ok()) {
        Some(code @ 0..=1) => Ok(code),
        _ => bail!("{line:?} failed ({status})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_apply_changes_is_no_difference() {
        let mut object = json!({"metadata": {"name": "x", "resourceVersion": "1", "managedFields": []}});
        strip(&mut object);
        assert_eq!(object, json!({"metadata": {"name": "x"}}));
    }

    #[test]
    fn secrets_differ_without_being_shown() {
        let mut before = json!({"data": {"same": "eA==", "other": "eQ==", "gone": "eg=="}});
        let mut after = json!({"data": {"same": "eA==", "other": "WQ==", "new": "Wg=="}});
        mask(Some(&mut before), &mut after);
        assert_eq!(before, json!({"data": {"same": "***", "other": "*** (before)", "gone": "***"}}));
        assert_eq!(after["data"], json!({"same": "***", "other": "*** (after)", "new": "***"}));
    }
}
