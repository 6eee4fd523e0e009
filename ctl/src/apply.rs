//! `apply`: the server makes the objects what the files say and remembers which fields they named:
//! what a file names no longer goes, what it never named stays as others set it, and what others
//! have set since is a conflict.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::Value;
use skiff_client::Patch;

use crate::definitions;
use crate::manifest::{self, Document, Files, Manifest};
use crate::report::{DryRun, Report};
use crate::session::Session;

/// What `apply` takes.
#[derive(Args, Debug)]
pub struct Options {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    ownership: Ownership,
    #[command(flatten)]
    report: Report,
}

/// In whose name fields are set, and whether they are taken from others.
#[derive(Args, Clone, Debug)]
pub struct Ownership {
    /// The name under which the server remembers which fields the files named.
    #[arg(long, value_name = "NAME", default_value = MANAGER)]
    field_manager: String,
    /// Set fields that others have set to something else since, and own them from now on.
    #[arg(long)]
    force_conflicts: bool,
}

/// The server knows what else this name does, and does not count it as a conflict.
const MANAGER: &str = "skiffctl";

/// What was done when the objects of a new kind turn out to be wrong.
const ONLY_DEFINITIONS: &str = "only the definitions were applied";

/// Checks everything, then applies one object after the other. Kinds that the documents define come before everything
/// else: until the server has them, nobody can check their objects.
pub async fn run(session: &Session, options: Options) -> Result<ExitCode> {
    if options.files.files.is_empty() {
        bail!("say what to apply: -f FILE, -f FOLDER or -f - for standard input");
    }
    let (documents, problems) = manifest::documents(&options.files)?;
    let table = session.resources().await?;
    let defined = definitions::of(documents.iter().map(|d| &d.object));
    let is_early =
        |d: &&Document| !table.iter().any(|r| d.is_of(r)) && defined.iter().any(|new| d.is_of(&new.resource));
    let (early, now): (Vec<&Document>, Vec<&Document>) = documents.iter().partition(is_early);
    let now: Vec<Document> = now.into_iter().cloned().collect();
    let manifests = manifest::checked(session, &now, problems, "nothing was sent").await?;
    check(session, &manifests, &options.ownership, "nothing was applied").await?;
    if early.is_empty() {
        apply(session, &manifests, &options).await?;
        return Ok(ExitCode::SUCCESS);
    }
    if options.report.dry.run != DryRun::None {
        apply(session, &manifests, &options).await?;
        for document in early {
            let Some(new) = defined.iter().find(|new| document.is_of(&new.resource)) else { continue };
            let manifest = document.unchecked(session, &new.resource)?;
            options.report.say(&manifest.resource, &manifest.object, "created")?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let needed: Vec<_> = defined.into_iter().filter(|new| early.iter().any(|d| d.is_of(&new.resource))).collect();
    let is_needed = |m: &Manifest| definitions::is_one(&m.object) && needed.iter().any(|new| new.definition == m.name);
    let first: Vec<Manifest> = manifests.into_iter().filter(is_needed).collect();
    apply(session, &first, &options).await?;
    definitions::established(session, &needed).await?;
    let is_rest = |d: &&Document| {
        !first.iter().any(|m| definitions::is_one(&d.object) && d.object["metadata"]["name"] == *m.name)
    };
    let rest: Vec<Document> = documents.iter().filter(is_rest).cloned().collect();
    let manifests = manifest::checked(session, &rest, vec![], ONLY_DEFINITIONS).await?;
    check(session, &manifests, &options.ownership, ONLY_DEFINITIONS).await?;
    apply(session, &manifests, &options).await?;
    Ok(ExitCode::SUCCESS)
}

/// The server's own checks (values, limits, permissions) for all objects, before the first write.
async fn check(session: &Session, manifests: &[Manifest], ownership: &Ownership, so_far: &str) -> Result<()> {
    let mut refused = vec![];
    for manifest in manifests {
        if let Err(e) = one(session, manifest, ownership, true).await
            && !made_by_these(&e, manifest, manifests)
        {
            refused.push(format!("{}: {e:#}", manifest.place));
        }
    }
    if refused.is_empty() { Ok(()) } else { bail!("{so_far}:\n{}", refused.join("\n")) }
}

/// Applies one object after the other.
async fn apply(session: &Session, manifests: &[Manifest], options: &Options) -> Result<()> {
    let dry_run = options.report.dry.run != DryRun::None;
    for (i, manifest) in manifests.iter().enumerate() {
        let applied = match one(session, manifest, &options.ownership, dry_run).await {
            Err(e) if dry_run && made_by_these(&e, manifest, manifests) => {
                Applied { outcome: "created", before: None, after: manifest.object.clone() }
            }
            applied => applied.with_context(|| {
                format!("{} ({i} of {} objects were applied before it)", manifest.place, manifests.len())
            })?,
        };
        options.report.say(&manifest.resource, &applied.after, applied.outcome)?;
    }
    Ok(())
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

/// Applies one object.
pub async fn one(session: &Session, manifest: &Manifest, ownership: &Ownership, dry_run: bool) -> Result<Applied> {
    if manifest.name.is_empty() {
        bail!("apply needs metadata.name; generateName makes a new object each time: use create");
    }
    let api = session.api(&manifest.resource, dry_run);
    let before = api.get_opt(&manifest.namespace, &manifest.name).await?;
    let mut object = manifest.object.clone();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.shift_remove("managedFields");
    }
    let manager = ownership.field_manager.clone();
    let patch = Patch::Apply { object, manager, force: ownership.force_conflicts };
    let after = match api.patch(&manifest.namespace, &manifest.name, patch, None).await {
        Err(e) if is_field_conflict(&e) => return Err(e).with_context(|| TAKE_OR_LEAVE),
        applied => applied?,
    };
    let outcome = match &before {
        None => "created",
        Some(before) if revision(before) == revision(&after) => "unchanged",
        Some(_) => "configured",
    };
    Ok(Applied { outcome, before, after })
}

const TAKE_OR_LEAVE: &str = "others have set these fields: take them from the file to leave them as they are, \
     or use --force-conflicts to set them";

fn is_field_conflict(error: &skiff_client::Error) -> bool {
    let causes = error.status().and_then(|s| s.details.as_ref()).map(|d| d.causes.as_slice()).unwrap_or_default();
    causes.iter().any(|cause| cause.reason == "FieldManagerConflict")
}

fn revision(object: &Value) -> Option<&str> {
    object.pointer("/metadata/resourceVersion").and_then(Value::as_str)
}
