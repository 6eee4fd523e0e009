//! `explain`: what the fields of a kind are and mean, from the Schema.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use skiff_proto::schema::{self, Field, Presence, Schema, Shape};

use crate::output;
use crate::session::Session;
use crate::suggest;
use crate::target;

/// What `explain` takes.
#[derive(Args, Debug)]
pub struct Options {
    /// `TYPE` or `TYPE.FIELD.FIELD...`: `pod.spec.containers`.
    what: String,
    /// The names of all fields within, too.
    #[arg(long)]
    recursive: bool,
    /// Which version of the group, as `apps/v1`.
    #[arg(long)]
    api_version: Option<String>,
}

/// Text is folded at this width.
const WIDTH: usize = 80;
/// A kind that holds itself is not followed for ever.
const MAX_DEPTH: usize = 32;

/// Prints the description.
pub async fn run(session: &Session, options: Options) -> Result<ExitCode> {
    let table = session.resources().await?;
    let mut words = options.what.split('.');
    let kind = words.next().unwrap_or_default();
    let path: Vec<&str> = words.filter(|w| !w.is_empty()).collect();
    let resource = match &options.api_version {
        None => target::find(&table, kind)?,
        Some(api_version) => {
            let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
            let of_version: Vec<_> = table.into_iter().filter(|r| r.group == group && r.version == version).collect();
            target::find(&of_version, kind)?
        }
    };
    let Some(schema) = session.schema(&resource).await? else {
        bail!("there is no Schema of {}", target::plural(&resource));
    };
    let mut text = String::new();
    if !resource.group.is_empty() {
        text += &format!("GROUP:      {}\n", resource.group);
    }
    text += &format!("KIND:       {}\nVERSION:    {}\n\n", resource.kind, resource.version);
    text += &explain(&schema, kind, &path, options.recursive)?;
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// What there is to say about the field at a path; of the kind itself if the path is empty.
fn explain(schema: &Schema, kind: &str, path: &[&str], recursive: bool) -> Result<String> {
    // What a definition says is all but the metadata, which is the same for all kinds.
    let of_all = schema.root().field("metadata").is_none().then(|| schema::with_metadata().root());
    let metadata = of_all.and_then(|root| root.field("metadata"));
    if metadata.is_some() && path.first() == Some(&"metadata") {
        return explain(schema::with_metadata(), kind, path, recursive);
    }
    let mut object = Some(schema.root());
    let mut field: Option<&Field> = None;
    for (depth, name) in path.iter().enumerate() {
        let at = std::iter::once(kind).chain(path[..depth].iter().copied()).collect::<Vec<_>>().join(".");
        let Some(within) = object else {
            bail!("{at} has no fields: it is <{}>", field.map(kind_of).unwrap_or_default())
        };
        let Some(found) = within.field(name) else {
            let of_all = metadata.filter(|_| depth == 0).map(|f| &*f.name);
            let meant = suggest::nearest(name, within.fields.iter().map(|f| &*f.name).chain(of_all));
            let meant = meant.map(|m| format!("; did you mean {m:?}?")).unwrap_or_default();
            bail!("field {name:?} does not exist in {at}{meant}");
        };
        object = schema.object_within(found);
        field = Some(found);
    }
    let mut text = String::new();
    if let Some(field) = field {
        text += &format!("FIELD: {} <{}>{}\n\n", field.name, type_of(schema, field), required(field));
    }
    let own = field.map(|f| f.description.as_ref()).filter(|d| !d.is_empty());
    let of_type = object.map(|o| o.description.as_ref()).unwrap_or_default();
    text += "DESCRIPTION:\n";
    let told = [own.unwrap_or_default(), of_type].into_iter().filter(|d| !d.is_empty()).collect::<Vec<_>>();
    text += &if told.is_empty() { "    <empty>\n".to_owned() } else { fold(&told.join(" "), 4) };
    let own = object.map(|o| o.fields.as_ref()).unwrap_or_default().iter().map(|field| (schema, field));
    let of_all = metadata.filter(|_| field.is_none()).map(|field| (schema::with_metadata(), field));
    let fields: Vec<(&Schema, &Field)> = of_all.into_iter().chain(own).collect();
    if !fields.is_empty() {
        text += "\nFIELDS:\n";
    }
    for (schema, field) in fields {
        if recursive {
            name(schema, field, 2, 0, &mut text);
            continue;
        }
        text += &format!("  {}\t<{}>{}\n", field.name, type_of(schema, field), required(field));
        let told = field.description.is_empty().then(|| "    <no description>\n".to_owned());
        text += &told.unwrap_or_else(|| fold(&field.description, 4));
        text.push('\n');
    }
    Ok(text)
}

/// The name of a field, and of all within it.
fn name(schema: &Schema, field: &Field, indent: usize, depth: usize, text: &mut String) {
    *text += &format!("{:indent$}{}\t<{}>{}\n", "", field.name, type_of(schema, field), required(field));
    let within = schema.object_within(field).filter(|_| depth < MAX_DEPTH);
    for inner in within.map(|o| o.fields.as_ref()).unwrap_or_default() {
        name(schema, inner, indent + 2, depth + 1, text);
    }
}

fn kind_of(field: &Field) -> String {
    match field.shape {
        Shape::Single => field.of.to_string(),
        Shape::List => format!("[]{}", field.of),
        Shape::Map => format!("map[string]{}", field.of),
    }
}

fn type_of(schema: &Schema, field: &Field) -> String {
    let name = match (schema.nested(field), schema.object_of(field)) {
        (Some(inner), _) => type_of(schema, inner),
        (None, Some(object)) => object.name.to_string(),
        (None, None) => field.of.to_string(),
    };
    match field.shape {
        Shape::Single => name,
        Shape::List => format!("[]{name}"),
        Shape::Map => format!("map[string]{name}"),
    }
}

/// Text that is written always must be given by somebody: it names things.
fn required(field: &Field) -> &'static str {
    let is_text = field.of == schema::Type::String && field.shape == Shape::Single;
    if field.presence == Presence::Always && is_text { " -required-" } else { "" }
}

/// Text in lines, indented.
fn fold(text: &str, indent: usize) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if indent + line.len() + 1 + word.len() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.iter().map(|line| format!("{:indent$}{line}\n", "")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use skiff_proto::json::{Strictness, decode_value};

    fn pod(path: &str, recursive: bool) -> Result<String> {
        let schema = schema::for_kind("", "v1", "Pod").unwrap();
        let path: Vec<&str> = path.split('.').filter(|p| !p.is_empty()).collect();
        explain(&schema, "pod", &path, recursive)
    }

    #[test]
    fn fields_are_explained_with_their_types() {
        let text = pod("spec.containers", false).unwrap();
        assert!(text.starts_with("FIELD: containers <[]Container>\n\nDESCRIPTION:\n    "), "{text}");
        assert!(text.contains("\n  image\t<string>") && text.contains("\n  env\t<[]EnvVar>"), "{text}");
        let text = pod("spec.nodeName", false).unwrap();
        assert!(text.starts_with("FIELD: nodeName <string>") && !text.contains("FIELDS:"), "{text}");
        let text = pod("", true).unwrap();
        assert!(text.contains("\n  spec\t<PodSpec>\n") && text.contains("\n    containers\t<[]Container>\n"), "{text}");
        assert!(text.lines().all(|l| l.len() < 120), "{text}");
    }

    #[test]
    fn a_custom_kind_has_the_metadata_of_all_kinds() {
        let definition = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
            "grid": {"type": "array", "items": {"type": "array", "items": {"type": "object", "properties": {
                "x": {"type": "integer"}}}}}}}}});
        let (definition, _) = decode_value(&definition, Strictness::Warn).unwrap();
        let schema = Schema::of_definition("Map", &definition);
        let told = |path: &str, recursive| {
            let path: Vec<&str> = path.split('.').filter(|p| !p.is_empty()).collect();
            explain(&schema, "map", &path, recursive)
        };
        let text = told("", false).unwrap();
        let at = |what: &str| text.find(what).unwrap_or_else(|| panic!("{what}: {text}"));
        assert!(at("\n  metadata\t<ObjectMeta>\n") < at("\n  spec\t<spec>\n"));
        let text = told("", true).unwrap();
        assert!(text.contains("\n    labels\t<map[string]string>") && text.contains("\n      x\t<integer>"), "{text}");
        assert!(told("metadata.labels", false).unwrap().starts_with("FIELD: labels <map[string]string>"));
        assert!(told("spec.grid", false).unwrap().starts_with("FIELD: grid <[][]grid>"));
        assert!(told("spec.grid.x", false).unwrap().starts_with("FIELD: x <integer>"));
        let error = told("metdata", false).unwrap_err().to_string();
        assert_eq!(error, "field \"metdata\" does not exist in map; did you mean \"metadata\"?");
        assert!(!told("spec", false).unwrap().contains("metadata"));
    }

    #[test]
    fn a_wrong_path_says_where_and_what_was_meant() {
        let error = pod("spec.contaners", false).unwrap_err().to_string();
        assert_eq!(error, "field \"contaners\" does not exist in pod.spec; did you mean \"containers\"?");
        let error = pod("spec.nodeName.x", false).unwrap_err().to_string();
        assert_eq!(error, "pod.spec.nodeName has no fields: it is <string>");
    }

    #[test]
    fn text_is_folded() {
        let folded = fold(&"word ".repeat(40), 4);
        assert!(
            folded.lines().all(|l| l.len() <= WIDTH && l.starts_with("    word")) && folded.lines().count() == 3,
            "{folded}"
        );
    }
}
