//! What `set` makes of an object's containers, as a strategic patch: containers and variables are
//! named, so that nothing else of them is touched.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use serde_json::{Map, Value, json};
use skiff_proto::Quantity;

use crate::columns::{list, text};

/// One change to the containers of a Pod or of a Pod template.
pub enum Change {
    /// The image of each container named; `*` is all.
    Images(BTreeMap<String, String>),
    /// Variables by name; none removes.
    Env { containers: String, variables: BTreeMap<String, Option<String>> },
    /// Limits and requests.
    Resources { containers: String, quantities: Quantities },
}

/// Limits and requests by resource; none removes.
#[derive(Debug, Default)]
pub struct Quantities {
    limits: BTreeMap<String, Option<String>>,
    requests: BTreeMap<String, Option<String>>,
}

impl Quantities {
    /// Reads `cpu=500m,memory=64Mi` twice.
    pub fn read(limits: &str, requests: &str) -> Result<Quantities> {
        if limits.is_empty() && requests.is_empty() {
            bail!("you must specify an update to requests or limits: --limits=cpu=1,memory=64Mi, --requests=...");
        }
        Ok(Quantities { limits: amounts("--limits", limits)?, requests: amounts("--requests", requests)? })
    }
}

fn amounts(flag: &str, text: &str) -> Result<BTreeMap<String, Option<String>>> {
    let mut found = BTreeMap::new();
    for part in text.split(',').filter(|p| !p.is_empty()) {
        let Some((name, amount)) = part.split_once('=').filter(|(n, _)| !n.is_empty()) else {
            bail!("{flag}={part}: expected RESOURCE=AMOUNT, as cpu=500m or memory=64Mi");
        };
        if let Err(error) = amount.parse::<Quantity>() {
            bail!("{flag}={part}: {error}");
        }
        let removes = amount.trim_matches('0').is_empty();
        found.insert(name.to_owned(), (!removes).then(|| amount.to_owned()));
    }
    Ok(found)
}

/// Reads `web=demo:2` for several containers.
pub fn images(pairs: &[String]) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for pair in pairs {
        match pair.split_once('=') {
            Some((container, image)) if !container.is_empty() && !image.is_empty() => {
                found.insert(container.to_owned(), image.to_owned());
            }
            _ => bail!("{pair:?}: expected CONTAINER=IMAGE"),
        }
    }
    if found.is_empty() {
        bail!("say which image, as CONTAINER=IMAGE, or *=IMAGE for all containers");
    }
    Ok(found)
}

/// Reads `A=1` and `B-`.
pub fn variables(pairs: &[String]) -> Result<BTreeMap<String, Option<String>>> {
    let mut found = BTreeMap::new();
    for pair in pairs {
        let (name, value) = match (pair.split_once('='), pair.strip_suffix('-')) {
            (Some((name, value)), _) => (name, Some(value.to_owned())),
            (None, Some(name)) => (name, None),
            (None, None) => bail!("{pair:?}: expected KEY=VALUE, or KEY- to remove"),
        };
        if name.is_empty() {
            bail!("{pair:?}: the variable's name is missing");
        }
        found.insert(name.to_owned(), value);
    }
    if found.is_empty() {
        bail!("say which variables: KEY=VALUE sets, KEY- removes, --list shows what there is");
    }
    Ok(found)
}

/// Whether a pattern means a container: its name, or the start of it before a `*`.
pub fn is_meant(pattern: &str, container: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => container.starts_with(start),
        None => pattern == container,
    }
}

impl Change {
    /// The patch for one object, whose Pods' spec is at `template`.
    pub fn patch(&self, object: &Value, template: &str) -> Result<Value> {
        let mut lists = Map::new();
        let mut met = vec![];
        for field in ["containers", "initContainers"] {
            let mut patches = vec![];
            for container in list(object, &format!("{template}/{field}")) {
                let name = text(container, "/name");
                if let Some(mut patch) = self.of_container(container, &name, field) {
                    patch.insert("name".to_owned(), json!(name));
                    patches.push(Value::Object(patch));
                }
                met.push(name);
            }
            if !patches.is_empty() {
                lists.insert(field.to_owned(), Value::Array(patches));
            }
        }
        self.check_names(&met)?;
        let inner = Value::Object(lists);
        let path: Vec<&str> = template.split('/').filter(|p| !p.is_empty()).collect();
        Ok(path.into_iter().rev().fold(inner, |inner, name| json!({ name: inner })))
    }

    fn of_container(&self, container: &Value, name: &str, field: &str) -> Option<Map<String, Value>> {
        match self {
            Change::Images(images) => {
                // `*` is the containers that run, as in kubectl, and not those that prepare.
                let image = images.get(name).or_else(|| images.get("*").filter(|_| field == "containers"))?;
                Some(Map::from_iter([("image".to_owned(), json!(image))]))
            }
            Change::Env { containers, variables } if field == "containers" && is_meant(containers, name) => {
                let there = |name: &str| list(container, "/env").iter().any(|v| text(v, "/name") == name);
                let mut patch = vec![];
                for (name, value) in variables {
                    match value {
                        // A value takes the place of a reference.
                        Some(value) => patch.push(json!({"name": name, "value": value, "valueFrom": null})),
                        None if there(name) => patch.push(json!({"name": name, "$patch": "delete"})),
                        None => {}
                    }
                }
                Some(Map::from_iter([("env".to_owned(), json!(patch))]))
            }
            Change::Resources { containers, quantities } if field == "containers" && is_meant(containers, name) => {
                let mut resources = Map::new();
                for (field, amounts) in [("limits", &quantities.limits), ("requests", &quantities.requests)] {
                    if !amounts.is_empty() {
                        resources.insert(field.to_owned(), json!(amounts));
                    }
                }
                Some(Map::from_iter([("resources".to_owned(), Value::Object(resources))]))
            }
            _ => None,
        }
    }

    /// A container that is named must be there.
    fn check_names(&self, met: &[String]) -> Result<()> {
        let there = met.join(", ");
        let missing = match self {
            Change::Images(images) => images.keys().find(|n| *n != "*" && !met.contains(n)),
            Change::Env { containers, .. } | Change::Resources { containers, .. } => {
                (!met.iter().any(|name| is_meant(containers, name))).then_some(containers)
            }
        };
        match missing {
            Some(name) => bail!("unable to find container named {name:?}; there are: {there}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn deployment() -> Value {
        json!({"spec": {"template": {"spec": {
            "initContainers": [{"name": "prepare", "image": "p:1"}],
            "containers": [
                {"name": "web", "image": "w:1", "env": [{"name": "OLD", "value": "x"}]},
                {"name": "side", "image": "s:1"},
            ],
        }}}})
    }

    fn patched(change: &Change) -> Value {
        let patch = change.patch(&deployment(), "/spec/template/spec").unwrap();
        let schema = skiff_proto::schema::for_kind("apps", "v1", "Deployment").unwrap();
        let mut object = deployment();
        skiff_proto::merge::strategic(&mut object, &patch, &schema).unwrap();
        object["spec"]["template"]["spec"].clone()
    }

    #[test]
    fn images_change_by_container() {
        let spec = patched(&Change::Images(images(&words("web=w:2 prepare=p:2")).unwrap()));
        assert_eq!((&spec["containers"][0]["image"], &spec["containers"][1]["image"]), (&json!("w:2"), &json!("s:1")));
        assert_eq!(spec["initContainers"][0]["image"], "p:2");
        let all = patched(&Change::Images(images(&words("*=x:1")).unwrap()));
        assert_eq!(
            (&all["containers"][1]["image"], &all["initContainers"][0]["image"]),
            (&json!("x:1"), &json!("p:1"))
        );
        let unknown = Change::Images(images(&words("wep=x")).unwrap());
        let error = unknown.patch(&deployment(), "/spec/template/spec").unwrap_err().to_string();
        assert_eq!(error, "unable to find container named \"wep\"; there are: web, side, prepare");
        assert!(images(&[]).is_err() && images(&words("web=")).is_err());
    }

    #[test]
    fn variables_come_and_go() {
        let change = |text: &str, containers: &str| {
            patched(&Change::Env { containers: containers.into(), variables: variables(&words(text)).unwrap() })
        };
        let spec = change("NEW=1 OLD- NONE-", "we*");
        assert_eq!(spec["containers"][0]["env"], json!([{"name": "NEW", "value": "1"}]));
        assert_eq!(spec["containers"][1].get("env"), None);
        assert_eq!(change("A=b", "*")["containers"][1]["env"], json!([{"name": "A", "value": "b"}]));
        assert!(variables(&words("=x")).is_err() && variables(&words("x")).is_err());
    }

    #[test]
    fn amounts_are_checked_and_zero_removes() {
        let quantities = Quantities::read("cpu=500m,memory=0", "memory=32Mi").unwrap();
        let spec = patched(&Change::Resources { containers: "web".into(), quantities });
        assert_eq!(
            spec["containers"][0]["resources"],
            json!({"limits": {"cpu": "500m"}, "requests": {"memory": "32Mi"}})
        );
        assert!(Quantities::read("cpu=much", "").is_err());
        assert!(Quantities::read("", "").is_err());
    }
}
