//! Which objects a verb is for: named by words, by files, by labels, or all of a type.

use anyhow::{Result, bail};
use clap::Args;
use serde_json::Value;
use skiff_client::ListOptions;
use skiff_proto::skiffv1::ResourceInfo;

use crate::columns::{name, text};
use crate::manifest::{self, Files};
use crate::session::Session;
use crate::target;

/// What verbs for several objects take.
#[derive(Args, Clone, Debug, Default)]
pub struct Selection {
    #[command(flatten)]
    pub files: Files,
    /// Only objects whose labels match: `app=web,tier!=db`.
    #[arg(short = 'l', long, conflicts_with = "all")]
    pub selector: Option<String>,
    /// All objects of the type.
    #[arg(long)]
    pub all: bool,
    /// In all namespaces.
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
}

/// One object that is meant.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// Its resource.
    pub resource: ResourceInfo,
    /// Its namespace; empty for cluster-scoped ones.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Chosen {
    /// How messages call it: `deployment.apps/web`.
    pub fn called(&self) -> String {
        target::called(&self.resource, &self.name)
    }
}

impl Selection {
    /// The objects that `words` and the options mean. Those that words or files name need not exist.
    pub async fn find(&self, session: &Session, words: &[String]) -> Result<Vec<Chosen>> {
        if !self.files.files.is_empty() {
            if !words.is_empty() {
                bail!("name objects, or files with -f: not both");
            }
            let chosen = |m: manifest::Manifest| Chosen { resource: m.resource, namespace: m.namespace, name: m.name };
            return Ok(manifest::read(session, &self.files).await?.into_iter().map(chosen).collect());
        }
        let mut found = vec![];
        for target in target::parse(session, words).await? {
            let resource = target.resource;
            if !target.names.is_empty() {
                if self.all_namespaces || self.all || self.selector.is_some() {
                    bail!("name objects, or select them with -l, --all and -A: not both");
                }
                let namespace = if resource.namespaced { session.namespace() } else { "" };
                found.extend(target.names.into_iter().map(|name| Chosen {
                    resource: resource.clone(),
                    namespace: namespace.to_owned(),
                    name,
                }));
                continue;
            }
            if self.selector.is_none() && !self.all {
                bail!("say which {}: by name, by labels with -l, or --all", target::plural(&resource));
            }
            found.extend(self.listed(session, &resource).await?);
        }
        Ok(found)
    }

    /// Exactly one object, by words or by a file.
    pub async fn find_one(&self, session: &Session, words: &[String]) -> Result<Chosen> {
        let mut found = self.find(session, words).await?;
        match (found.len(), found.pop()) {
            (1, Some(one)) => Ok(one),
            _ => bail!("name exactly one object, as `type/name`, `type name` or with -f FILE"),
        }
    }

    async fn listed(&self, session: &Session, resource: &ResourceInfo) -> Result<Vec<Chosen>> {
        let namespace = if resource.namespaced && !self.all_namespaces { session.namespace() } else { "" };
        let options = ListOptions::labels(self.selector.clone().unwrap_or_default());
        let list = session.api(resource, false).list(namespace, &options).await?;
        let chosen = |object: &Value| Chosen {
            resource: resource.clone(),
            namespace: text(object, "/metadata/namespace"),
            name: name(object),
        };
        Ok(list.items.iter().map(chosen).collect())
    }
}
