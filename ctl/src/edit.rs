//! `edit`: an object in an editor. What was changed in it is what is changed in the cluster; who else
//! changed the same fields meanwhile is not overwritten, and no text that somebody typed is lost.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::Value;
use skiff_client::Patch;
use skiff_proto::{merge, schema, yaml};

use crate::manifest;
use crate::output::{self, Format};
use crate::report::Report;
use crate::selection::{Chosen, Selection};
use crate::session::Session;

/// What `edit` takes.
#[derive(Args, Debug)]
pub struct Options {
    /// `TYPE NAME` or `TYPE/NAME`.
    what: Vec<String>,
    #[command(flatten)]
    files: manifest::Files,
    /// The form in the editor: `yaml` or `json`.
    #[arg(short, long, value_enum)]
    output: Option<Format>,
}

const PREFACE: &str = "\
# Please edit the object below. Lines beginning with a '#' will be ignored, and an empty file will
# abort the edit. If an error occurs while saving, this file will be opened again with the failures.
#
";

/// So often others may change other fields while this is saved.
const TRIES: usize = 5;

/// What came of one attempt to save.
enum Saved {
    Done,
    /// Somebody changed these fields too.
    Clash(Vec<String>),
    /// The text or the object is wrong; the user may mend it.
    Refused(String),
}

/// Opens the editor until the object is saved or the user gives up.
pub async fn run(session: &Session, options: Options) -> Result<ExitCode> {
    let selection = Selection { files: options.files, ..Selection::default() };
    let chosen = selection.find_one(session, &options.what).await?;
    let api = session.api(&chosen.resource, false);
    let mut original = api.get(&chosen.namespace, &chosen.name).await?;
    if let Some(metadata) = original.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.shift_remove("managedFields");
    }
    let format = options.output.filter(|f| *f == Format::Json).unwrap_or(Format::Yaml);
    let first = output::document(&original, format)?;
    let file = keep(&chosen, &format!("{PREFACE}{first}"), format)?;
    let mut before = first;
    loop {
        launch(session, &file).await?;
        let text =
            without_comments(&std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?);
        if text.trim().is_empty() || text == before {
            let untouched = text.trim().is_empty() || before == output::document(&original, format)?;
            if untouched {
                discard(&file);
                eprintln!("Edit cancelled, no changes made.");
                return Ok(ExitCode::SUCCESS);
            }
            // The same mistake again: the user gives up.
            eprintln!("Edit cancelled, the changes were not valid; they are kept in {}", file.display());
            return Ok(ExitCode::FAILURE);
        }
        match save(session, &chosen, &original, &text).await? {
            Saved::Done => {
                discard(&file);
                return Ok(ExitCode::SUCCESS);
            }
            Saved::Clash(fields) => bail!(
                "{} was changed by somebody else meanwhile, in: {}. Nothing was saved; your text is kept in {}: \
                 edit the object as it is now and take over what you need",
                chosen.called(),
                fields.join(", "),
                file.display()
            ),
            Saved::Refused(why) => {
                eprintln!("error: {why}");
                let told: String = why.lines().map(|l| format!("# {l}\n")).collect();
                std::fs::write(&file, format!("{PREFACE}{told}#\n{text}"))
                    .with_context(|| format!("write {}", file.display()))?;
                before = text;
            }
        }
    }
}

/// Sends what was changed, if nobody else has changed the same.
async fn save(session: &Session, chosen: &Chosen, original: &Value, text: &str) -> Result<Saved> {
    let edited = match read(chosen, original, text) {
        Ok(edited) => edited,
        Err(error) => return Ok(Saved::Refused(format!("{error:#}"))),
    };
    let api = session.api(&chosen.resource, false);
    for _ in 0..TRIES {
        let current = api.get(&chosen.namespace, &chosen.name).await?;
        let clash = clashes(original, &edited, &current);
        if !clash.is_empty() {
            return Ok(Saved::Clash(clash));
        }
        let patch = patch(chosen, original, &edited, &current);
        match api.patch(&chosen.namespace, &chosen.name, patch, None).await {
            Ok(object) => {
                Report::default().say(&chosen.resource, &object, "edited")?;
                return Ok(Saved::Done);
            }
            Err(error) if error.is_conflict() => {}
            Err(error) if ["Invalid", "BadRequest"].contains(&error.reason()) => {
                return Ok(Saved::Refused(error.to_string()));
            }
            Err(error) => return Err(error.into()),
        }
    }
    bail!("{} keeps changing while being saved: try again", chosen.called())
}

/// Reads the text as the same object, changed.
fn read(chosen: &Chosen, original: &Value, text: &str) -> Result<Value> {
    let mut documents = yaml::parse_documents(text, &yaml::Limits::default())?;
    documents.retain(|d| !d.is_empty());
    let [document] = documents.as_slice() else { bail!("one object is expected, and here are {}", documents.len()) };
    let edited = document.to_json();
    for field in ["/apiVersion", "/kind", "/metadata/name", "/metadata/namespace", "/metadata/uid"] {
        if edited.pointer(field) != original.pointer(field) {
            bail!("{}: it says which object this is, and cannot be changed", &field[1..].replace('/', "."));
        }
    }
    let r = &chosen.resource;
    let problems = manifest::field_problems(document, &r.group, &r.version, &r.kind);
    if !problems.is_empty() {
        bail!("{}", problems.join("\n"));
    }
    Ok(edited)
}

/// What was changed, as a patch of the object as it is now and of no later one.
fn patch(chosen: &Chosen, original: &Value, edited: &Value, current: &Value) -> Patch {
    let r = &chosen.resource;
    let guarded = |mut patch: Value| {
        patch["metadata"]["resourceVersion"] = current["metadata"]["resourceVersion"].clone();
        patch
    };
    match schema::for_kind(&r.group, &r.version, &r.kind) {
        Some(schema) => Patch::Strategic(guarded(merge::three_way(original, edited, original, &schema))),
        None => Patch::Merge(guarded(merge::three_way_json(original, edited, original))),
    }
}

/// The fields that the user changed and somebody else changed otherwise.
fn clashes(original: &Value, edited: &Value, current: &Value) -> Vec<String> {
    let mut found = vec![];
    collect(original, edited, current, String::new(), &mut found);
    found
}

fn collect(original: &Value, edited: &Value, current: &Value, path: String, found: &mut Vec<String>) {
    // The user left it, nobody else touched it, or all mean the same.
    if original == edited || original == current || edited == current || path == "metadata.resourceVersion" {
        return;
    }
    match (original, edited, current) {
        (Value::Object(_), Value::Object(e), Value::Object(_)) => {
            let keys =
                e.keys().chain(original.as_object().into_iter().flat_map(|o| o.keys()).filter(|k| !e.contains_key(*k)));
            for key in keys {
                let at = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                collect(&original[key], &edited[key], &current[key], at, found);
            }
        }
        (Value::Array(o), Value::Array(e), Value::Array(c)) if o.len() == e.len() && o.len() == c.len() => {
            for i in 0..o.len() {
                collect(&o[i], &e[i], &c[i], format!("{path}[{i}]"), found);
            }
        }
        _ => found.push(path),
    }
}

/// A file that outlives us if the user's text is not saved.
fn keep(chosen: &Chosen, text: &str, format: Format) -> Result<PathBuf> {
    let suffix = if format == Format::Json { ".json" } else { ".yaml" };
    let prefix = format!("skiffctl-edit-{}-{}-", chosen.resource.singular, chosen.name);
    let mut file = tempfile::Builder::new().prefix(&prefix).suffix(suffix).tempfile().context("make a file to edit")?;
    file.write_all(text.as_bytes()).context("write the file to edit")?;
    let (_, path) = file.keep().context("keep the file to edit")?;
    Ok(path)
}

fn discard(file: &Path) {
    // What cannot be deleted lies in the folder of temporary files.
    let _ = std::fs::remove_file(file);
}

fn without_comments(text: &str) -> String {
    text.lines().filter(|l| !l.starts_with('#')).map(|l| format!("{l}\n")).collect()
}

/// Runs the user's editor on a file, through the shell: `$EDITOR` may have arguments.
async fn launch(session: &Session, file: &Path) -> Result<()> {
    let set =
        ["KUBE_EDITOR", "VISUAL", "EDITOR"].into_iter().find_map(|v| std::env::var(v).ok().filter(|e| !e.is_empty()));
    let editor = set.unwrap_or_else(|| "vi".to_owned());
    let (run, path) = (editor.clone(), file.to_owned());
    // The editor owns the terminal; nothing else happens meanwhile.
    let ended = session
        .world()
        .blocking(move || {
            std::process::Command::new("sh").args(["-c", &format!("{run} \"$1\""), "editor"]).arg(path).status()
        })
        .await;
    let status = ended.with_context(|| format!("run the editor {editor:?}"))?;
    if !status.success() {
        bail!(
            "the editor {editor:?} failed ({status}); choose another with $EDITOR. The text is kept in {}",
            file.display()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use skiff_proto::skiffv1::ResourceInfo;

    #[test]
    fn only_what_both_changed_clashes() {
        let object = |image: &str, replicas: i64, ready: i64| json!({"spec": {"replicas": replicas, "containers": [{"image": image}]}, "status": {"ready": ready}});
        let original = object("a", 1, 0);
        for (edited, current, expected) in [
            (object("b", 1, 0), object("a", 1, 5), vec![]),
            (object("b", 1, 0), object("a", 3, 0), vec![]),
            (object("b", 2, 0), object("a", 3, 0), vec!["spec.replicas"]),
            (object("b", 3, 0), object("c", 3, 0), vec!["spec.containers[0].image"]),
            (object("b", 1, 0), object("b", 1, 0), vec![]),
            (json!({"spec": {}, "status": {"ready": 0}}), object("a", 2, 0), vec!["spec.replicas"]),
        ] {
            assert_eq!(clashes(&original, &edited, &current), expected, "{edited} against {current}");
        }
        let revision = |r: &str| json!({"metadata": {"resourceVersion": r}});
        assert!(clashes(&revision("1"), &revision("x"), &revision("2")).is_empty());
    }

    #[test]
    fn the_text_must_be_the_same_object() {
        let resource = ResourceInfo { version: "v1".into(), kind: "ConfigMap".into(), ..ResourceInfo::default() };
        let chosen = Chosen { resource, namespace: "default".into(), name: "c".into() };
        let original = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "1"}});
        let read = |text: &str| read(&chosen, &original, text).map_err(|e| e.to_string());
        let head = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: c\n";
        assert_eq!(read(&format!("{head}data: {{a: \"2\"}}\n")).unwrap()["data"]["a"], "2");
        assert!(read(&format!("{head}dat: {{}}\n")).unwrap_err().contains("did you mean \"data\""));
        assert!(read(&head.replace("name: c", "name: d")).unwrap_err().contains("metadata.name"));
        assert!(read(&format!("{head}---\n{head}")).unwrap_err().contains("here are 2"));
        assert_eq!(without_comments("# x\na: 1\n  # y\n"), "a: 1\n  # y\n");
    }
}
