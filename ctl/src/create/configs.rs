//! `create configmap` and `create secret`: keys and values from the command line and from files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::report::Report;

/// What `create configmap` takes.
#[derive(Args, Debug)]
pub struct ConfigMap {
    /// Its name.
    name: String,
    #[command(flatten)]
    sources: Sources,
    #[command(flatten)]
    pub report: Report,
}

/// The types of Secrets that flags make.
#[derive(Subcommand, Debug)]
pub enum Secret {
    /// A Secret of any keys.
    Generic(Generic),
}

/// What `create secret generic` takes.
#[derive(Args, Debug)]
pub struct Generic {
    /// Its name.
    name: String,
    /// What kind of Secret, as `kubernetes.io/basic-auth`.
    #[arg(long = "type")]
    kind: Option<String>,
    #[command(flatten)]
    sources: Sources,
    #[command(flatten)]
    report: Report,
}

/// Where keys and values come from.
#[derive(Args, Debug)]
struct Sources {
    /// `KEY=VALUE`; may be given several times.
    #[arg(long)]
    from_literal: Vec<String>,
    /// `FILE`, `KEY=FILE`, or a folder whose files are the keys.
    #[arg(long)]
    from_file: Vec<String>,
    /// A file of `KEY=VALUE` lines.
    #[arg(long)]
    from_env_file: Vec<PathBuf>,
}

impl ConfigMap {
    /// What the flags make: text as text, everything else as binary data.
    pub fn object(&self) -> Result<Value> {
        let (mut data, mut binary) = (Map::new(), Map::new());
        for (key, bytes) in self.sources.read()? {
            match String::from_utf8(bytes) {
                Ok(text) => data.insert(key, json!(text)),
                Err(error) => binary.insert(key, json!(STANDARD.encode(error.as_bytes()))),
            };
        }
        let mut object = Map::new();
        object.insert("apiVersion".to_owned(), json!("v1"));
        object.insert("kind".to_owned(), json!("ConfigMap"));
        object.insert("metadata".to_owned(), json!({"name": self.name}));
        for (field, map) in [("data", data), ("binaryData", binary)] {
            if !map.is_empty() {
                object.insert(field.to_owned(), Value::Object(map));
            }
        }
        Ok(Value::Object(object))
    }
}

impl Secret {
    /// What the flags make.
    pub fn object(&self) -> Result<Value> {
        let Secret::Generic(secret) = self;
        let data = secret.sources.read()?.into_iter().map(|(key, bytes)| (key, json!(STANDARD.encode(bytes))));
        let data = Value::Object(data.collect());
        let kind = secret.kind.as_deref().unwrap_or("Opaque");
        let metadata = json!({"name": secret.name});
        Ok(json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": kind, "data": data}))
    }

    /// What is to be done with it.
    pub fn into_report(self) -> Report {
        let Secret::Generic(secret) = self;
        secret.report
    }
}

impl Sources {
    fn read(&self) -> Result<BTreeMap<String, Vec<u8>>> {
        let mut found = BTreeMap::new();
        for literal in &self.from_literal {
            let (key, value) = pair(literal).with_context(|| format!("--from-literal={literal}"))?;
            add(&mut found, key, value.into_bytes())?;
        }
        for source in &self.from_file {
            for (key, path) in files(source)? {
                let bytes = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
                add(&mut found, key, bytes)?;
            }
        }
        for path in &self.from_env_file {
            let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
            for (i, line) in text.lines().enumerate() {
                let line = line.trim_start();
                if line.is_empty() || line.starts_with('#') {
                    continue;
                }
                let (key, value) = pair(line).with_context(|| format!("{}, line {}", path.display(), i + 1))?;
                add(&mut found, key, value.into_bytes())?;
            }
        }
        Ok(found)
    }
}

fn pair(text: &str) -> Result<(String, String)> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => bail!("{text:?}: expected KEY=VALUE"),
    }
}

fn add(found: &mut BTreeMap<String, Vec<u8>>, key: String, bytes: Vec<u8>) -> Result<()> {
    if found.contains_key(&key) {
        bail!("the key {key:?} is given twice");
    }
    found.insert(key, bytes);
    Ok(())
}

/// The files that one `--from-file` means, each with its key.
fn files(source: &str) -> Result<Vec<(String, PathBuf)>> {
    if let Some((key, path)) = source.split_once('=') {
        if key.is_empty() || path.is_empty() {
            bail!("--from-file={source}: expected FILE, KEY=FILE or a folder");
        }
        if Path::new(path).is_dir() {
            bail!("--from-file={source}: a folder has a key for each file: leave {key:?} away");
        }
        return Ok(vec![(key.to_owned(), PathBuf::from(path))]);
    }
    let path = Path::new(source);
    if !path.is_dir() {
        return Ok(vec![(file_name(path)?, path.to_owned())]);
    }
    let entries = std::fs::read_dir(path).with_context(|| format!("read {source}"))?;
    let mut found = vec![];
    for entry in entries {
        let path = entry.with_context(|| format!("read {source}"))?.path();
        if path.is_file() {
            found.push((file_name(&path)?, path));
        }
    }
    found.sort();
    Ok(found)
}

fn file_name(path: &Path) -> Result<String> {
    match path.file_name().and_then(|n| n.to_str()) {
        Some(name) => Ok(name.to_owned()),
        None => bail!("{}: the file's name cannot be a key: give one, as KEY={}", path.display(), path.display()),
    }
}
