//! `replace`: the object is what the file says, and nothing else.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::Value;
use skiff_client::DeleteOptions;

use crate::columns::text;
use crate::delete;
use crate::manifest::{self, Files, Manifest};
use crate::report::Report;
use crate::session::Session;

/// What `replace` takes.
#[derive(Args, Debug)]
pub struct Options {
    #[command(flatten)]
    files: Files,
    /// Delete the object and make it anew: for fields that cannot be changed.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    report: Report,
}

/// A file that names no revision replaces whatever there is; so often that may change meanwhile.
const TRIES: usize = 5;

/// Replaces what the files name.
pub async fn run(session: &Session, options: Options) -> Result<ExitCode> {
    if options.files.files.is_empty() {
        bail!("say what to replace: -f FILE, -f FOLDER or -f - for standard input");
    }
    for manifest in manifest::read(session, &options.files).await? {
        let object = replace(session, &manifest, &options).await.with_context(|| manifest.place.clone())?;
        options.report.say(&manifest.resource, &object, "replaced")?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn replace(session: &Session, manifest: &Manifest, options: &Options) -> Result<Value> {
    if manifest.name.is_empty() {
        bail!("replace needs metadata.name");
    }
    let api = options.report.api(session, &manifest.resource);
    if options.report.is_client() {
        api.get(&manifest.namespace, &manifest.name).await?;
        return Ok(manifest.object.clone());
    }
    if options.force {
        return make_anew(session, manifest, options).await;
    }
    let named = !text(&manifest.object, "/metadata/resourceVersion").is_empty();
    let mut object = manifest.object.clone();
    for _ in 0..TRIES {
        if !named {
            let current = api.get(&manifest.namespace, &manifest.name).await?;
            object["metadata"]["resourceVersion"] = current["metadata"]["resourceVersion"].clone();
        }
        match api.update(&manifest.namespace, &manifest.name, &object).await {
            Err(error) if error.is_conflict() && !named => {}
            result => return Ok(result?),
        }
    }
    bail!("it keeps changing while being replaced: try again")
}

async fn make_anew(session: &Session, manifest: &Manifest, options: &Options) -> Result<Value> {
    let api = options.report.api(session, &manifest.resource);
    let how = DeleteOptions {
        propagation_policy: "Background".to_owned(),
        dry_run: options.report.dry.run != crate::report::DryRun::None,
        ..DeleteOptions::default()
    };
    let mut object = manifest.object.clone();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        // They are of the object that goes.
        metadata.shift_remove("resourceVersion");
        metadata.shift_remove("uid");
    }
    match api.delete(&manifest.namespace, &manifest.name, &how).await {
        Ok(_) if how.dry_run => return Ok(object),
        Ok(deleted) if deleted.gone => {}
        Ok(deleted) => {
            let uid = text(&deleted.object, "/metadata/uid");
            delete::until_gone(session, &manifest.resource, &manifest.namespace, &manifest.name, &uid).await?;
        }
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error.into()),
    }
    Ok(api.create(&manifest.namespace, &object).await?)
}
