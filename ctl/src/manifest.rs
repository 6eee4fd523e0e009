//! What files say: YAML or JSON documents from files, folders and standard input, checked against
//! the Schema before anything is sent, so that a mistake in the last document leaves nothing
//! half applied.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use skiff_proto::json::Problem;
use skiff_proto::skiffv1::ResourceInfo;
use skiff_proto::yaml;

use crate::session::Session;
use crate::suggest;

/// One object of a file.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// Where it stands, for messages: `web.yaml, document 2 (Deployment web)`.
    pub place: String,
    /// Its resource.
    pub resource: ResourceInfo,
    /// The namespace it goes to; empty for cluster-scoped ones.
    pub namespace: String,
    /// Its name; empty where only `generateName` is given.
    pub name: String,
    /// The object.
    pub object: Value,
}

/// Where files come from, as verbs with `-f` take it.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Files {
    /// Files, folders, or `-` for standard input.
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Look into the folders of folders too.
    #[arg(short = 'R', long, requires = "files")]
    pub recursive: bool,
}

/// A single file larger than this is refused unread.
const MOST_BYTES: u64 = 8 << 20;

/// One document, not held against anything yet.
#[derive(Clone, Debug)]
pub struct Document {
    place: String,
    document: yaml::Document,
    /// What it says.
    pub object: Value,
}

/// Reads everything that `files` names. All documents are read and checked; the error lists every
/// problem of every document.
pub async fn read(session: &Session, files: &Files) -> Result<Vec<Manifest>> {
    let (documents, problems) = documents(files)?;
    checked(session, &documents, problems, "nothing was sent").await
}

/// All documents, and what is wrong with those that are none.
pub fn documents(files: &Files) -> Result<(Vec<Document>, Vec<String>)> {
    let (mut found, mut problems) = (vec![], vec![]);
    for (place, text) in texts(files)? {
        let documents = match yaml::parse_documents(&text, &yaml::Limits::default()) {
            Ok(documents) => documents,
            Err(e) => {
                problems.push(format!("{place}: {e}"));
                continue;
            }
        };
        for (i, document) in documents.iter().enumerate() {
            // Behind a last `---` there is one that is empty.
            for document in flatten(document).into_iter().filter(|item| !item.is_empty()) {
                let object = document.to_json();
                found.push(Document { place: placed(&place, i, documents.len(), &object), document, object });
            }
        }
    }
    if problems.is_empty() && found.is_empty() {
        bail!("no objects in {}", files.files.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", "));
    }
    Ok((found, problems))
}

/// Holds documents against what the server has. The error says what was done so far, and lists the problems of them all
/// and those found before.
pub async fn checked(
    session: &Session,
    documents: &[Document],
    mut problems: Vec<String>,
    so_far: &str,
) -> Result<Vec<Manifest>> {
    let mut manifests = vec![];
    for document in documents {
        match check(session, document).await {
            Ok(manifest) => manifests.push(manifest),
            Err(found) => problems.extend(found),
        }
    }
    if !problems.is_empty() {
        bail!("{so_far}:\n{}", problems.join("\n"));
    }
    Ok(manifests)
}

/// The texts behind `-f`, each with its name.
fn texts(files: &Files) -> Result<Vec<(String, String)>> {
    let mut texts = vec![];
    for file in &files.files {
        if file.as_os_str() == "-" {
            texts.push(("standard input".to_owned(), read_limited(std::io::stdin().lock(), "standard input")?));
            continue;
        }
        let meta = std::fs::metadata(file).with_context(|| format!("read {}", file.display()))?;
        if !meta.is_dir() {
            texts.push(read_file(file)?);
            continue;
        }
        let found = in_folder(file, files.recursive)?;
        anyhow::ensure!(!found.is_empty(), "{}: no .yaml, .yml or .json file in this folder", file.display());
        for path in found {
            texts.push(read_file(&path)?);
        }
    }
    Ok(texts)
}

fn read_file(path: &Path) -> Result<(String, String)> {
    let name = path.display().to_string();
    let file = std::fs::File::open(path).with_context(|| format!("read {name}"))?;
    let text = read_limited(file, &name)?;
    Ok((name, text))
}

fn read_limited(from: impl std::io::Read, name: &str) -> Result<String> {
    use std::io::Read;
    let mut bytes = vec![];
    from.take(MOST_BYTES + 1).read_to_end(&mut bytes).with_context(|| format!("read {name}"))?;
    anyhow::ensure!(bytes.len() as u64 <= MOST_BYTES, "{name}: more than {} MiB; split it", MOST_BYTES >> 20);
    String::from_utf8(bytes).with_context(|| format!("{name}: not UTF-8 text"))
}

fn in_folder(folder: &Path, recursive: bool) -> Result<Vec<PathBuf>> {
    let mut found = vec![];
    let entries = std::fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    for entry in entries {
        let path = entry.with_context(|| format!("read {}", folder.display()))?.path();
        if path.is_dir() {
            if recursive {
                found.extend(in_folder(&path, true)?);
            }
        } else if path.extension().is_some_and(|e| ["yaml", "yml", "json"].iter().any(|x| e == *x)) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// A List is its items.
fn flatten(document: &yaml::Document) -> Vec<yaml::Document> {
    let kind = document.root.get("kind").map(|k| &k.tree);
    let is_list = matches!(kind, Some(yaml::Tree::Text(kind)) if kind.ends_with("List"));
    match document.root.get("items").map(|i| &i.tree) {
        Some(yaml::Tree::List(items)) if is_list => {
            items.iter().map(|item| yaml::Document { root: item.clone() }).collect()
        }
        _ => vec![document.clone()],
    }
}

fn placed(file: &str, index: usize, of: usize, object: &Value) -> String {
    let kind = object["kind"].as_str().unwrap_or("?");
    let name = object["metadata"]["name"].as_str().unwrap_or("?");
    if of == 1 { format!("{file} ({kind} {name})") } else { format!("{file}, document {} ({kind} {name})", index + 1) }
}

/// Checks one document: it names a kind that the server has, and holds only fields of that kind,
/// of the right types. What the server alone can judge comes later.
async fn check(session: &Session, document: &Document) -> Result<Manifest, Vec<String>> {
    let Document { place, document, object } = document;
    let one = |problem: String| vec![format!("{place}: {problem}")];
    if !object.is_object() {
        return Err(one("an object with apiVersion and kind is expected here".to_owned()));
    }
    let field = |name: &str| object[name].as_str().unwrap_or_default().to_owned();
    let (api_version, kind) = (field("apiVersion"), field("kind"));
    for (value, name, example) in [(&api_version, "apiVersion", "apps/v1"), (&kind, "kind", "Deployment")] {
        if value.is_empty() {
            return Err(one(format!("{name}: Required value, for example `{name}: {example}`")));
        }
    }
    let table = session.resources().await.map_err(|e| one(format!("{e:#}")))?;
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    let Some(resource) = table.iter().find(|r| r.group == group && r.version == version && r.kind == kind).cloned()
    else {
        return Err(one(unknown_kind(&table, &api_version, &kind)));
    };
    let problems = field_problems(document, group, version, &kind);
    if !problems.is_empty() {
        return Err(problems.into_iter().map(|p| format!("{place}: {p}")).collect());
    }
    settled(session, place, resource, object.clone()).map_err(|e| one(e.to_string()))
}

/// An object of a resource in the namespace that is meant.
fn settled(session: &Session, place: &str, resource: ResourceInfo, mut object: Value) -> Result<Manifest> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    if name.is_empty() && object["metadata"]["generateName"].as_str().unwrap_or_default().is_empty() {
        bail!("metadata.name: Required value");
    }
    let namespace = session.settle_namespace(&resource, &mut object)?;
    Ok(Manifest { place: place.to_owned(), resource, namespace, name, object })
}

impl Document {
    /// Its object, of a resource that the server does not have yet and therefore cannot check.
    pub fn unchecked(&self, session: &Session, resource: &ResourceInfo) -> Result<Manifest> {
        settled(session, &self.place, resource.clone(), self.object.clone()).with_context(|| self.place.clone())
    }

    /// Whether it is an object of a resource.
    pub fn is_of(&self, resource: &ResourceInfo) -> bool {
        let api_version = self.object["apiVersion"].as_str().unwrap_or_default();
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        group == resource.group && version == resource.version && self.object["kind"] == *resource.kind
    }
}

fn unknown_kind(table: &[ResourceInfo], api_version: &str, kind: &str) -> String {
    let written = |r: &ResourceInfo| match r.group.as_str() {
        "" => r.version.clone(),
        group => format!("{group}/{}", r.version),
    };
    if let Some(same) = table.iter().find(|r| r.kind == kind) {
        return format!("kind {kind:?} is not in apiVersion {api_version:?}; it is in {:?}", written(same));
    }
    match suggest::nearest(kind, table.iter().map(|r| r.kind.as_str())) {
        Some(near) => format!("kind: {kind:?} is unknown to the server; did you mean {near:?}?"),
        None => format!("kind: {kind:?} (apiVersion {api_version:?}) is unknown to the server"),
    }
}

/// Unknown, duplicate and mistyped fields by their paths, with the name that was probably meant.
pub fn field_problems(document: &yaml::Document, group: &str, version: &str, kind: &str) -> Vec<String> {
    match document.check(group, version, kind) {
        None => vec![],
        Some(Ok(problems)) => problems.iter().map(Problem::advice).collect(),
        Some(Err(e)) => vec![e.to_string()],
    }
}
