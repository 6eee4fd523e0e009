//! `patch`: a change given as a document, in one of Kubernetes' three forms.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::Value;
use skiff_client::Patch;
use skiff_proto::{schema, yaml};

use crate::amend::{self, Amended};
use crate::report::Report;
use crate::selection::Selection;
use crate::session::Session;

/// What `patch` takes.
#[derive(Args, Debug)]
pub struct Options {
    /// `TYPE NAME` or `TYPE/NAME`.
    what: Vec<String>,
    #[command(flatten)]
    selection: Selection,
    /// The patch, as JSON or YAML.
    #[arg(short, long, conflicts_with = "patch_file", required_unless_present = "patch_file")]
    patch: Option<String>,
    /// A file with the patch.
    #[arg(long)]
    patch_file: Option<PathBuf>,
    /// The patch's form.
    #[arg(long = "type", value_enum, default_value_t = Form::Strategic)]
    form: Form,
    /// Change this subresource: `status`, `scale`.
    #[arg(long)]
    subresource: Option<String>,
    #[command(flatten)]
    report: Report,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// Lists are merged by their keys, as the Schema says.
    Strategic,
    /// What is named is replaced, null removes (RFC 7386).
    Merge,
    /// A list of operations (RFC 6902).
    Json,
}

/// Patches one object.
pub async fn run(session: &Session, options: Options) -> Result<ExitCode> {
    let (place, text) = match (&options.patch, &options.patch_file) {
        (_, Some(path)) => {
            let place = path.display().to_string();
            let text = std::fs::read_to_string(path).with_context(|| format!("read {place}"))?;
            (place, text)
        }
        (Some(text), None) => ("the patch".to_owned(), text.clone()),
        (None, None) => bail!("say what to change, with --patch or --patch-file"),
    };
    let patch = read(&text, options.form).with_context(|| place)?;
    let chosen = options.selection.find_one(session, &options.what).await?;
    let r = &chosen.resource;
    if options.form == Form::Strategic && schema::for_kind(&r.group, &r.version, &r.kind).is_none() {
        bail!(
            "{} is a custom resource: nothing says how a strategic patch would merge its lists; use --type=merge",
            r.kind
        );
    }
    let api = options.report.api(session, r);
    let before = api.get(&chosen.namespace, &chosen.name).await?;
    let after = if options.report.is_client() {
        amend::apply(r, &before, &patch)?
    } else {
        api.patch(&chosen.namespace, &chosen.name, patch, options.subresource.as_deref()).await?
    };
    let amended = Amended { before, after };
    let done = if amended.changed() { "patched" } else { "patched (no change)" };
    options.report.say(r, &amended.after, done)?;
    Ok(ExitCode::SUCCESS)
}

/// Reads a patch; JSON is YAML.
fn read(text: &str, form: Form) -> Result<Patch> {
    let mut documents = yaml::parse_documents(text, &yaml::Limits::default())?;
    documents.retain(|d| !d.is_empty());
    let [document] = documents.as_slice() else { bail!("one JSON or YAML document is expected") };
    let value: Value = document.to_json();
    match form {
        Form::Json if !value.is_array() => {
            bail!("a JSON patch is a list: '[{{\"op\": \"replace\", \"path\": \"/spec/replicas\", \"value\": 2}}]'")
        }
        Form::Strategic | Form::Merge if !value.is_object() => {
            bail!("a patch is an object: '{{\"spec\": {{\"replicas\": 2}}}}'; for a list of operations use --type=json")
        }
        Form::Json => Ok(Patch::Json(value)),
        Form::Merge => Ok(Patch::Merge(value)),
        Form::Strategic => Ok(Patch::Strategic(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn patches_are_json_or_yaml_of_the_right_shape() {
        let spec = json!({"spec": {"replicas": 2}});
        for text in ["{\"spec\":{\"replicas\":2}}", "spec:\n  replicas: 2\n", "---\nspec: {replicas: 2}\n---\n"] {
            assert_eq!(read(text, Form::Merge).unwrap(), Patch::Merge(spec.clone()), "{text}");
        }
        assert!(matches!(read("[]", Form::Json), Ok(Patch::Json(_))));
        for (text, form) in [("[]", Form::Merge), ("{}", Form::Json), ("", Form::Merge), ("{", Form::Merge)] {
            assert!(read(text, form).is_err(), "{text:?}");
        }
    }
}
