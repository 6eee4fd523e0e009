//! Which objects a command line means: `pods`, `pod/x`, `deploy,svc`, `pod x y`, `all`.

use anyhow::{Result, bail};
use skiff_proto::skiffv1::ResourceInfo;

use crate::session::Session;
use crate::suggest;

/// Objects of one resource: those named, or all of it.
#[derive(Clone, Debug)]
pub struct Target {
    /// The row of the resource table.
    pub resource: ResourceInfo,
    /// The names; empty for all.
    pub names: Vec<String>,
}

/// Reads the words after a verb, in kubectl's three forms: `TYPE`, `TYPE NAME...`, `TYPE/NAME...`.
pub async fn parse(session: &Session, words: &[String]) -> Result<Vec<Target>> {
    let Some(first) = words.first() else {
        bail!("say which objects: a type (`pods`), a type and names (`pod web-1 web-2`), or `type/name`");
    };
    let table = session.resources().await?;
    if first.contains('/') {
        let mut targets: Vec<Target> = vec![];
        for word in words {
            let Some((kind, name)) = word.split_once('/').filter(|(k, n)| !k.is_empty() && !n.is_empty()) else {
                bail!("{word:?}: expected `type/name`, as in the first argument");
            };
            let resource = find(&table, kind)?;
            match targets.last_mut() {
                Some(last) if last.resource == resource => last.names.push(name.to_owned()),
                _ => targets.push(Target { resource, names: vec![name.to_owned()] }),
            }
        }
        return Ok(targets);
    }
    let names = words[1..].to_vec();
    if let Some(slash) = names.iter().find(|n| n.contains('/')) {
        bail!("{slash:?}: there is no `type/name` after a type; give `type name...` or only `type/name...`");
    }
    let mut targets = vec![];
    for kind in first.split(',').filter(|k| !k.is_empty()) {
        if kind == "all" {
            targets.extend(
                table
                    .iter()
                    .filter(|r| r.categories.iter().any(|c| c == "all"))
                    .map(|r| Target { resource: r.clone(), names: vec![] }),
            );
        } else {
            targets.push(Target { resource: find(&table, kind)?, names: names.clone() });
        }
    }
    if first.split(',').any(|k| k == "all") && !names.is_empty() {
        bail!("`all` takes no names");
    }
    Ok(targets)
}

/// Exactly one object.
pub async fn parse_one(session: &Session, words: &[String]) -> Result<(ResourceInfo, String)> {
    let mut targets = parse(session, words).await?;
    match (targets.len(), targets.pop()) {
        (1, Some(mut target)) if target.names.len() == 1 => {
            Ok((target.resource, target.names.pop().unwrap_or_default()))
        }
        _ => bail!("name exactly one object, as `type/name` or `type name`"),
    }
}

/// Finds a resource by plural, singular, kind, short name, or any of these with `.group`.
pub fn find(table: &[ResourceInfo], word: &str) -> Result<ResourceInfo> {
    let lower = word.to_lowercase();
    let (plain, group) = match lower.split_once('.') {
        Some((plain, group)) => (plain, Some(group)),
        None => (lower.as_str(), None),
    };
    let is_meant = |r: &&ResourceInfo| {
        let of_group = |g: &str| g == r.group || g == format!("{}.{}", r.version, r.group);
        names(r).any(|n| n == plain) && group.is_none_or(of_group)
    };
    let found: Vec<&ResourceInfo> = table.iter().filter(is_meant).collect();
    // Kubernetes' own kinds come before others of their name.
    let own = found.iter().find(|r| r.group.is_empty()).or(found.first());
    if let Some(own) = own {
        let strangers: Vec<String> = found.iter().filter(|r| r.group != own.group).map(|r| plural(r)).collect();
        if !own.group.is_empty() && !strangers.is_empty() {
            bail!("{word:?} is ambiguous; say which: {}, {}", plural(own), strangers.join(", "));
        }
        return Ok((*own).clone());
    }
    let all: Vec<String> = table.iter().flat_map(names).collect();
    match suggest::nearest(plain, all.iter().map(String::as_str)) {
        Some(near) => bail!("the server doesn't have a resource type {word:?}; did you mean {near:?}?"),
        None => bail!("the server doesn't have a resource type {word:?}"),
    }
}

fn names(resource: &ResourceInfo) -> impl Iterator<Item = String> + '_ {
    [resource.resource.clone(), resource.singular.clone(), resource.kind.to_lowercase()]
        .into_iter()
        .chain(resource.short_names.iter().cloned())
}

/// `pod/x`, `deployment.apps/x`: how messages call an object.
pub fn called(resource: &ResourceInfo, name: &str) -> String {
    if resource.group.is_empty() {
        format!("{}/{name}", resource.singular)
    } else {
        format!("{}.{}/{name}", resource.singular, resource.group)
    }
}

/// `pods`, `deployments.apps`: how messages call a resource.
pub fn plural(resource: &ResourceInfo) -> String {
    if resource.group.is_empty() {
        resource.resource.clone()
    } else {
        format!("{}.{}", resource.resource, resource.group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Vec<ResourceInfo> {
        let row = |group: &str, resource: &str, kind: &str, short: &str| ResourceInfo {
            group: group.into(),
            version: "v1".into(),
            resource: resource.into(),
            kind: kind.into(),
            singular: kind.to_lowercase(),
            short_names: vec![short.into()],
            ..ResourceInfo::default()
        };
        vec![row("", "pods", "Pod", "po"), row("apps", "deployments", "Deployment", "deploy")]
    }

    #[test]
    fn resources_are_found_by_every_name_they_have() {
        for word in ["pods", "pod", "po", "Pod"] {
            assert_eq!(find(&table(), word).unwrap().resource, "pods", "{word}");
        }
        for word in ["deployments", "deploy", "Deployment", "deployments.apps", "deploy.v1.apps"] {
            assert_eq!(find(&table(), word).unwrap().resource, "deployments", "{word}");
        }
        assert!(find(&table(), "pods.apps").is_err());
        let mut two = table();
        two.push(ResourceInfo { group: "other.dev".into(), ..two[1].clone() });
        let error = find(&two, "deploy").unwrap_err().to_string();
        assert_eq!(error, "\"deploy\" is ambiguous; say which: deployments.apps, deployments.other.dev");
        assert_eq!(find(&two, "deploy.other.dev").unwrap().group, "other.dev");
        two.push(ResourceInfo { group: "other.dev".into(), ..two[0].clone() });
        assert_eq!(find(&two, "pods").unwrap().group, "", "the core group comes first");
        let error = find(&table(), "dploy").unwrap_err().to_string();
        assert!(error.contains("did you mean \"deploy\""), "{error}");
    }
}
