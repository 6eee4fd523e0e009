//! `config`: the contexts of the kubeconfig file. The file is edited as a tree, so that what others
//! keep in it stays; it is replaced at once and keeps its permissions.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use skiff_proto::yaml;

use crate::Global;
use crate::columns::{list, text};
use crate::output::{self, Format};
use crate::session;
use crate::suggest;
use crate::table::Table;

/// What `config` can do.
#[derive(Subcommand, Debug)]
pub enum Action {
    /// List the contexts; the current one has a star.
    GetContexts(GetContexts),
    /// Print the current context.
    CurrentContext,
    /// Choose the context that is current.
    #[command(visible_alias = "use")]
    UseContext {
        /// Its name.
        name: String,
    },
    /// Change a context, or make one.
    SetContext(SetContext),
    /// Print the file; keys and certificates only with --raw.
    View(View),
}

/// What `config get-contexts` takes.
#[derive(Args, Debug)]
pub struct GetContexts {
    /// Only this one.
    name: Option<String>,
    /// `name`: names alone.
    #[arg(short, long, value_enum)]
    output: Option<Format>,
    /// No line of titles.
    #[arg(long)]
    no_headers: bool,
}

/// What `config set-context` takes.
#[derive(Args, Debug)]
pub struct SetContext {
    /// Which one.
    #[arg(required_unless_present = "current", conflicts_with = "current")]
    name: Option<String>,
    /// The current one.
    #[arg(long)]
    current: bool,
    /// Its cluster.
    #[arg(long)]
    cluster: Option<String>,
    /// Its user.
    #[arg(long)]
    user: Option<String>,
}

/// What `config view` takes.
#[derive(Args, Debug)]
pub struct View {
    /// With keys and certificates.
    #[arg(long)]
    raw: bool,
    /// Only what the current context needs.
    #[arg(long)]
    minify: bool,
    /// `yaml` or `json`.
    #[arg(short, long, value_enum)]
    output: Option<Format>,
}

/// Reads the file, does what is asked, and writes it if something changed.
pub fn run(global: &Global, action: Action) -> Result<ExitCode> {
    let path = session::kubeconfig(global)?;
    let mut file = read(&path)?;
    match action {
        Action::GetContexts(options) => {
            output::print(&contexts(&file, &options)?)?;
        }
        Action::CurrentContext => match text(&file, "/current-context") {
            none if none.is_empty() => bail!("current-context is not set in {}", path.display()),
            current => output::line(current)?,
        },
        Action::UseContext { name } => {
            named(&file, "contexts", &name)?;
            file["current-context"] = json!(name);
            write(&path, &file)?;
            output::line(format!("Switched to context {name:?}."))?;
        }
        Action::SetContext(options) => {
            let (name, made) = set_context(&mut file, &options, global.namespace.as_deref())?;
            write(&path, &file)?;
            output::line(format!("Context {name:?} {}.", if made { "created" } else { "modified" }))?;
        }
        Action::View(options) => {
            if options.minify {
                minify(&mut file, global.context.as_deref())?;
            }
            if !options.raw {
                redact(&mut file);
            }
            let format = options.output.filter(|f| *f == Format::Json).unwrap_or(Format::Yaml);
            output::print(&output::document(&file, format)?)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn read(path: &Path) -> Result<Value> {
    let place = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("read the kubeconfig {place}"))?;
    let documents = yaml::parse_documents(&text, &yaml::Limits::default()).with_context(|| format!("{place}"))?;
    match documents.first().map(yaml::Document::to_json) {
        Some(file) if file.is_object() => Ok(file),
        _ => bail!("{place}: this is not a kubeconfig"),
    }
}

/// Replaces the file at once; it holds keys, so its permissions stay as they are.
fn write(path: &Path, file: &Value) -> Result<()> {
    let place = path.display();
    // A link stays a link.
    let path = std::fs::canonicalize(path).with_context(|| format!("find {place}"))?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut new = tempfile::NamedTempFile::new_in(folder).with_context(|| format!("write beside {place}"))?;
    new.write_all(yaml::write(file).as_bytes()).with_context(|| format!("write {place}"))?;
    let permissions = std::fs::metadata(&path).with_context(|| format!("read {place}"))?.permissions();
    new.as_file().set_permissions(permissions).with_context(|| format!("write {place}"))?;
    new.as_file().sync_all().with_context(|| format!("write {place}"))?;
    new.persist(&path).with_context(|| format!("replace {place}"))?;
    Ok(())
}

/// The entry of a name in `contexts`, `clusters` or `users`.
fn named<'f>(file: &'f Value, of: &str, name: &str) -> Result<&'f Value> {
    let all = list(file, &format!("/{of}"));
    if let Some(found) = all.iter().find(|e| text(e, "/name") == name) {
        return Ok(found);
    }
    let names: Vec<String> = all.iter().map(|e| text(e, "/name")).collect();
    let meant = suggest::nearest(name, names.iter().map(String::as_str));
    let meant = meant.map(|m| format!(" (did you mean {m:?}?)")).unwrap_or_default();
    let what = of.trim_end_matches('s');
    bail!(
        "there is no {what} {name:?}{meant}; there are: {}",
        if names.is_empty() { "none".into() } else { names.join(", ") }
    )
}

fn contexts(file: &Value, options: &GetContexts) -> Result<String> {
    let mut found: Vec<&Value> = list(file, "/contexts").iter().collect();
    if let Some(name) = &options.name {
        found = vec![named(file, "contexts", name)?];
    }
    if options.output == Some(Format::Name) {
        return Ok(found.iter().map(|c| text(c, "/name") + "\n").collect());
    }
    let current = text(file, "/current-context");
    let mut table = Table::plain(["CURRENT", "NAME", "CLUSTER", "AUTHINFO", "NAMESPACE"]);
    for context in found {
        let name = text(context, "/name");
        let star = if name == current { "*" } else { "" };
        let of = |field: &str| text(context, &format!("/context/{field}"));
        table.row([star.to_owned(), name.clone(), of("cluster"), of("user"), of("namespace")]);
    }
    Ok(table.render(!options.no_headers))
}

/// Changes a context or makes it; returns its name and whether it is new.
fn set_context(file: &mut Value, options: &SetContext, namespace: Option<&str>) -> Result<(String, bool)> {
    let name = match &options.name {
        Some(name) => name.clone(),
        None => text(file, "/current-context"),
    };
    if name.is_empty() {
        bail!("no current context is set");
    }
    let changes =
        [("cluster", options.cluster.as_deref()), ("namespace", namespace), ("user", options.user.as_deref())];
    if file.get("contexts").is_none_or(Value::is_null) {
        file["contexts"] = json!([]);
    }
    let Some(all) = file["contexts"].as_array_mut() else { bail!("contexts: a list is expected here") };
    let at = all.iter().position(|c| text(c, "/name") == name);
    let made = at.is_none();
    if made {
        all.push(json!({"context": {}, "name": name}));
    }
    let at = at.unwrap_or(all.len() - 1);
    for (field, value) in changes {
        if let Some(value) = value {
            all[at]["context"][field] = json!(value);
        }
    }
    Ok((name, made))
}

/// Leaves the current context, and the cluster and user that it names.
fn minify(file: &mut Value, context: Option<&str>) -> Result<()> {
    let current = context.map_or_else(|| text(file, "/current-context"), str::to_owned);
    let context = named(file, "contexts", &current)?.clone();
    let cluster = named(file, "clusters", &text(&context, "/context/cluster"))?.clone();
    let user = named(file, "users", &text(&context, "/context/user"))?.clone();
    file["current-context"] = json!(current);
    file["contexts"] = json!([context]);
    file["clusters"] = json!([cluster]);
    file["users"] = json!([user]);
    Ok(())
}

/// Hides what lets somebody in.
fn redact(file: &mut Value) {
    const SECRETS: &[(&str, &str)] = &[
        ("certificate-authority-data", "DATA+OMITTED"),
        ("client-certificate-data", "DATA+OMITTED"),
        ("client-key-data", "DATA+OMITTED"),
        ("token", "REDACTED"),
        ("password", "REDACTED"),
    ];
    match file {
        Value::Object(map) => {
            for (key, value) in map.iter_mut() {
                match SECRETS.iter().find(|(name, _)| name == key) {
                    Some((_, shown)) => *value = json!(shown),
                    None => redact(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(redact),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Value {
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "a", "x-others": {"keep": "me"},
            "clusters": [{"name": "c", "cluster": {"server": "https://h:1", "certificate-authority-data": "QQ=="}}],
            "users": [{"name": "u", "user": {"client-key-data": "Sw==", "token": "t"}}],
            "contexts": [
                {"name": "a", "context": {"cluster": "c", "user": "u", "namespace": "n"}},
                {"name": "b", "context": {"cluster": "c", "user": "u"}},
            ],
        })
    }

    #[test]
    fn contexts_are_listed_and_found() {
        let options = GetContexts { name: None, output: None, no_headers: false };
        let expected = "\
CURRENT   NAME   CLUSTER   AUTHINFO   NAMESPACE
*         a      c         u          n
          b      c         u
";
        assert_eq!(contexts(&file(), &options).unwrap(), expected);
        let error = named(&file(), "contexts", "c").unwrap_err().to_string();
        assert!(error.contains("there are: a, b"), "{error}");
    }

    #[test]
    fn a_context_changes_and_the_rest_stays() {
        let mut changed = file();
        let current = SetContext { name: None, current: true, cluster: None, user: None };
        assert_eq!(set_context(&mut changed, &current, Some("other")).unwrap(), ("a".into(), false));
        let mut expected = file();
        expected["contexts"][0]["context"]["namespace"] = json!("other");
        assert_eq!(changed, expected);
        let new = SetContext { name: Some("z".into()), current: false, cluster: Some("c".into()), user: None };
        assert_eq!(set_context(&mut changed, &new, None).unwrap(), ("z".into(), true));
        assert_eq!(changed["contexts"][2], json!({"name": "z", "context": {"cluster": "c"}}));
    }

    #[test]
    fn nothing_that_lets_somebody_in_is_shown() {
        let mut shown = file();
        redact(&mut shown);
        let text = shown.to_string();
        assert!(!text.contains("QQ==") && !text.contains("Sw==") && !text.contains("\"t\""), "{text}");
        minify(&mut shown, Some("b")).unwrap();
        assert_eq!((shown["contexts"].as_array().unwrap().len(), &shown["current-context"]), (1, &json!("b")));
    }

    #[test]
    fn the_file_is_replaced_and_keeps_its_permissions() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        std::fs::write(&path, yaml::write(&file())).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let mut changed = read(&path).unwrap();
        changed["current-context"] = json!("b");
        write(&path, &changed).unwrap();
        assert_eq!(read(&path).unwrap(), changed);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
