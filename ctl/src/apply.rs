//! `apply`: a three-way merge between what was applied last (kept in an annotation, the same that
//! kubectl uses), what the file says, and what the cluster holds. Fields that the file never named
//! stay as others set them.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::{Value, json};
use skiff_client::Patch;
use skiff_proto::{merge, schema};

use crate::manifest::{self, Files, Manifest};
use crate::report::{DryRun, Report};
use crate::session::Session;

/// What `apply` takes.
#[derive(Args, Debug)]
pub struct Options {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    report: Report,
}

/// Holds what was applied last.
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// A patch whose object changed meanwhile is computed anew so many times.
const TRIES: usize = 5;

/// Checks everything, then applies one object after the other.
pub async fn run(session: &Session, options: Options) -> Result<ExitCode> {
    if options.files.files.is_empty() {
        bail!("say what to apply: -f FILE, -f FOLDER or -f - for standard input");
    }
    let manifests = manifest::read(session, &options.files).await?;
    // The server's own checks (values, limits, permissions) for all objects, before the first write.
    let mut refused = vec![];
    for manifest in &manifests {
        if let Err(e) = one(session, manifest, true).await
            && !made_by_these(&e, manifest, &manifests)
        {
            refused.push(format!("{}: {e:#}", manifest.place));
        }
    }
    if !refused.is_empty() {
        bail!("nothing was applied:\n{}", refused.join("\n"));
    }
    let dry_run = options.report.dry.run != DryRun::None;
    for (i, manifest) in manifests.iter().enumerate() {
        let applied = match one(session, manifest, dry_run).await {
            Err(e) if dry_run && made_by_these(&e, manifest, &manifests) => {
                Applied { outcome: "created", before: None, after: manifest.object.clone() }
            }
            applied => applied.with_context(|| {
                format!("{} ({i} of {} objects were applied before it)", manifest.place, manifests.len())
            })?,
        };
        options.report.say(&manifest.resource, &applied.after, applied.outcome)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What became of one object.
pub struct Applied {
    /// `created`, `configured` or `unchanged`.
    pub outcome: &'static str,
    /// The object before, if it was there.
    pub before: Option<Value>,
    /// The object now, or as it would be.
    pub after: Value,
}

/// A dry run cannot see a namespace that an earlier document is about to make.
fn made_by_these(error: &anyhow::Error, manifest: &Manifest, all: &[Manifest]) -> bool {
    let missing = error.downcast_ref::<skiff_client::Error>().is_some_and(skiff_client::Error::is_not_found);
    missing && all.iter().any(|m| m.resource.kind == "Namespace" && m.name == manifest.namespace)
}

/// Creates or patches one object.
pub async fn one(session: &Session, manifest: &Manifest, dry_run: bool) -> Result<Applied> {
    if manifest.name.is_empty() {
        bail!("apply needs metadata.name; generateName makes a new object each time: use create");
    }
    let modified = with_last_applied(&manifest.object)?;
    let api = session.api(&manifest.resource, dry_run);
    for _ in 0..TRIES {
        let current = match api.get(&manifest.namespace, &manifest.name).await {
            Ok(current) => current,
            Err(e) if e.is_not_found() => match api.create(&manifest.namespace, &modified).await {
                Err(e) if e.is_already_exists() => continue,
                created => return Ok(Applied { outcome: "created", before: None, after: created? }),
            },
            Err(e) => return Err(e.into()),
        };
        let unchanged = |now: &Value| Applied { outcome: "unchanged", before: Some(now.clone()), after: now.clone() };
        let Some(patch) = patch(manifest, &modified, &current)? else {
            return Ok(unchanged(&current));
        };
        match api.patch(&manifest.namespace, &manifest.name, patch, None).await {
            Err(e) if e.is_conflict() => {}
            // A patch that only spells differently what is there changes nothing.
            Ok(patched) if revision(&patched) == revision(&current) => return Ok(unchanged(&current)),
            patched => return Ok(Applied { outcome: "configured", before: Some(current), after: patched? }),
        }
    }
    bail!("it keeps changing while being applied: try again")
}

fn revision(object: &Value) -> Option<&str> {
    object.pointer("/metadata/resourceVersion").and_then(Value::as_str)
}

/// What has to change; `None` when nothing has.
fn patch(manifest: &Manifest, modified: &Value, current: &Value) -> Result<Option<Patch>> {
    let original = match current.pointer("/metadata/annotations").and_then(|a| a.get(LAST_APPLIED)) {
        Some(Value::String(text)) => serde_json::from_str(text)
            .with_context(|| format!("the annotation {LAST_APPLIED} of the object in the cluster is not JSON"))?,
        _ => json!({}),
    };
    let r = &manifest.resource;
    let patch = match schema::for_kind(&r.group, &r.version, &r.kind) {
        Some(schema) => {
            let patch = merge::three_way(&original, modified, current, &schema);
            (patch != json!({})).then_some(Patch::Strategic(patch))
        }
        None => {
            let patch = merge::three_way_json(&original, modified, current);
            (patch != json!({})).then_some(Patch::Merge(patch))
        }
    };
    Ok(patch)
}

/// The object with itself, as it is in the file, in the annotation.
fn with_last_applied(object: &Value) -> Result<Value> {
    let mut plain = object.clone();
    if let Some(annotations) = plain.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.remove(LAST_APPLIED);
    }
    let text = serde_json::to_string(&plain).context("write the object as JSON")? + "\n";
    let Some(metadata) = plain.get_mut("metadata").and_then(Value::as_object_mut) else {
        bail!("metadata: an object is expected here");
    };
    let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
    if annotations.is_null() {
        *annotations = json!({});
    }
    match annotations.as_object_mut() {
        Some(annotations) => annotations.insert(LAST_APPLIED.to_owned(), Value::String(text)),
        None => bail!("metadata.annotations: an object is expected here"),
    };
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_annotation_holds_the_file_and_not_itself() {
        let object = json!({"metadata": {"name": "x", "annotations": {LAST_APPLIED: "old", "a": "b"}}});
        let once = with_last_applied(&object).unwrap();
        let twice = with_last_applied(&once).unwrap();
        assert_eq!(once, twice);
        let held: Value =
            serde_json::from_str(once["metadata"]["annotations"][LAST_APPLIED].as_str().unwrap()).unwrap();
        assert_eq!(held, json!({"metadata": {"name": "x", "annotations": {"a": "b"}}}));
    }
}
