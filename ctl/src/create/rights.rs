//! `create role`, `clusterrole`, `rolebinding` and `clusterrolebinding`: what may be done, and who may do it.

use anyhow::{Result, bail};
use clap::Args;
use serde_json::{Map, Value, json};
use skiff_proto::skiffv1::ResourceInfo;

use super::pairs;
use crate::report::Report;
use crate::target;

const API: &str = "rbac.authorization.k8s.io/v1";
/// The API group of roles, and of users and groups as subjects.
pub const GROUP: &str = "rbac.authorization.k8s.io";

/// What `create role` takes.
#[derive(Args, Debug)]
pub struct Role {
    /// Its name.
    name: String,
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    pub report: Report,
}

/// What `create clusterrole` takes.
#[derive(Args, Debug)]
pub struct ClusterRole {
    /// Its name.
    name: String,
    #[command(flatten)]
    what: What,
    /// Paths that are no resource; several with commas between.
    #[arg(long = "non-resource-url", value_delimiter = ',')]
    urls: Vec<String>,
    /// Make it the sum of the ClusterRoles with these labels: `KEY=VALUE`, several with commas between.
    #[arg(long, conflicts_with_all = ["verbs", "resources", "names", "urls"])]
    aggregation_rule: Option<String>,
    #[command(flatten)]
    pub report: Report,
}

/// What may be done to what.
#[derive(Args, Debug)]
struct What {
    /// What may be done: `get`, `list`, ...; several with commas between.
    #[arg(long = "verb", id = "verbs", value_delimiter = ',')]
    verbs: Vec<String>,
    /// To which resources: `pods`, `deployments.apps`, `pods/log`; several with commas between.
    #[arg(long = "resource", id = "resources", value_delimiter = ',')]
    resources: Vec<String>,
    /// Only to objects of these names.
    #[arg(long = "resource-name", id = "names")]
    names: Vec<String>,
}

/// What `create rolebinding` takes.
#[derive(Args, Debug)]
pub struct RoleBinding {
    /// Its name.
    name: String,
    /// The ClusterRole whose rights are given, in this namespace.
    #[arg(long, required_unless_present = "role", conflicts_with = "role")]
    clusterrole: Option<String>,
    /// The Role whose rights are given.
    #[arg(long)]
    role: Option<String>,
    #[command(flatten)]
    who: Who,
    #[command(flatten)]
    pub report: Report,
}

/// What `create clusterrolebinding` takes.
#[derive(Args, Debug)]
pub struct ClusterRoleBinding {
    /// Its name.
    name: String,
    /// The ClusterRole whose rights are given, everywhere.
    #[arg(long)]
    clusterrole: String,
    #[command(flatten)]
    who: Who,
    #[command(flatten)]
    pub report: Report,
}

/// Who gets rights.
#[derive(Args, Debug)]
struct Who {
    /// Users; several with commas between, or given several times.
    #[arg(long = "user", value_delimiter = ',')]
    users: Vec<String>,
    /// Groups.
    #[arg(long = "group", value_delimiter = ',')]
    groups: Vec<String>,
    /// Service accounts, as `NAMESPACE:NAME`.
    #[arg(long = "serviceaccount", value_delimiter = ',')]
    accounts: Vec<String>,
}

impl Role {
    /// What the flags make, by the server's table of resources.
    pub fn object(&self, table: &[ResourceInfo]) -> Result<Value> {
        if self.what.resources.is_empty() {
            bail!("say to which resources: --resource=pods");
        }
        Ok(object("Role", &self.name, [("rules", json!(self.what.rules(table)?))]))
    }
}

impl ClusterRole {
    /// What the flags make, by the server's table of resources.
    pub fn object(&self, table: &[ResourceInfo]) -> Result<Value> {
        if let Some(labels) = &self.aggregation_rule {
            let selector = json!({"clusterRoleSelectors": [{"matchLabels": pairs(labels)?}]});
            return Ok(object("ClusterRole", &self.name, [("aggregationRule", selector), ("rules", json!([]))]));
        }
        if self.what.resources.is_empty() == self.urls.is_empty() {
            bail!("say what it is about, one of them: --resource=pods or --non-resource-url=/metrics");
        }
        let rules = match self.urls.is_empty() {
            true => self.what.rules(table)?,
            false => vec![json!({"verbs": self.what.verbs()?, "nonResourceURLs": self.urls})],
        };
        Ok(object("ClusterRole", &self.name, [("rules", json!(rules))]))
    }
}

impl RoleBinding {
    /// What the flags make.
    pub fn object(&self) -> Result<Value> {
        let role = match (&self.role, &self.clusterrole) {
            (Some(role), _) => reference("Role", role),
            (None, role) => reference("ClusterRole", role.as_deref().unwrap_or_default()),
        };
        Ok(object("RoleBinding", &self.name, [("roleRef", role), ("subjects", json!(self.who.subjects()?))]))
    }
}

impl ClusterRoleBinding {
    /// What the flags make.
    pub fn object(&self) -> Result<Value> {
        let role = reference("ClusterRole", &self.clusterrole);
        Ok(object("ClusterRoleBinding", &self.name, [("roleRef", role), ("subjects", json!(self.who.subjects()?))]))
    }
}

fn object<const N: usize>(kind: &str, name: &str, fields: [(&str, Value); N]) -> Value {
    let mut object = Map::new();
    object.insert("apiVersion".to_owned(), json!(API));
    object.insert("kind".to_owned(), json!(kind));
    object.insert("metadata".to_owned(), json!({"name": name}));
    object.extend(fields.map(|(field, value)| (field.to_owned(), value)));
    Value::Object(object)
}

fn reference(kind: &str, name: &str) -> Value {
    json!({"apiGroup": GROUP, "kind": kind, "name": name})
}

impl What {
    fn verbs(&self) -> Result<Vec<&str>> {
        let mut verbs: Vec<&str> = vec![];
        for verb in self.verbs.iter().map(String::as_str) {
            // A star makes all others needless.
            if verb == "*" {
                return Ok(vec!["*"]);
            }
            if !verb.is_empty() && !verbs.contains(&verb) {
                verbs.push(verb);
            }
        }
        match verbs.is_empty() {
            true => bail!("say what may be done: --verb=get,list,watch"),
            false => Ok(verbs),
        }
    }

    /// A rule for each API group that the resources are of.
    fn rules(&self, table: &[ResourceInfo]) -> Result<Vec<Value>> {
        let verbs = self.verbs()?;
        let mut by_group: Vec<(String, Vec<String>)> = vec![];
        for word in self.resources.iter().filter(|word| !word.is_empty()) {
            let (group, resource) = resolve(table, word)?;
            match by_group.iter_mut().find(|(known, _)| *known == group) {
                Some((_, resources)) if resources.contains(&resource) => {}
                Some((_, resources)) => resources.push(resource),
                None => by_group.push((group, vec![resource])),
            }
        }
        if by_group.len() > 1 && !self.names.is_empty() {
            bail!("names are of one kind of objects: make a role for each API group");
        }
        let rules = by_group.into_iter().map(|(group, resources)| {
            let mut rule = json!({"verbs": verbs, "apiGroups": [group], "resources": resources});
            if !self.names.is_empty() {
                rule["resourceNames"] = json!(self.names);
            }
            rule
        });
        Ok(rules.collect())
    }
}

/// `pods/log` to `("", "pods/log")`, `deploy` to `("apps", "deployments")`.
pub fn resolve(table: &[ResourceInfo], word: &str) -> Result<(String, String)> {
    let (resource, subresource) = word.split_once('/').unwrap_or((word, ""));
    if resource == "*" {
        return Ok(("*".to_owned(), word.to_owned()));
    }
    let found = target::find(table, resource)?;
    let plural = found.resource.clone();
    Ok((found.group, if subresource.is_empty() { plural } else { format!("{plural}/{subresource}") }))
}

impl Who {
    fn subjects(&self) -> Result<Vec<Value>> {
        let named = |kind: &'static str, names: &[String]| {
            names.iter().map(move |name| json!({"kind": kind, "apiGroup": GROUP, "name": name})).collect::<Vec<_>>()
        };
        let mut subjects = named("User", &self.users);
        subjects.extend(named("Group", &self.groups));
        for account in &self.accounts {
            match account.split_once(':') {
                Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => {
                    subjects.push(json!({"kind": "ServiceAccount", "name": name, "namespace": namespace}));
                }
                _ => bail!("--serviceaccount={account}: expected NAMESPACE:NAME"),
            }
        }
        Ok(subjects)
    }
}
