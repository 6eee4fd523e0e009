//! Discovery: which groups, versions and resources there are, in the aggregated form (v2, v2beta1) and the one before
//! it. All of it is made from the table; what is answered without being stored is listed here.

use super::media::{self, Encoding};
use super::respond::{self, Answer};
use super::{OK, events, nothing_here};
use crate::registry::ApiResult;
use crate::resources::{Resource, Table, newer_version};
use http::HeaderMap;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// One kind of answer: group, version, kind.
type Gvk<'a> = (&'a str, &'a str, &'a str);

/// A resource that is asked and not stored.
struct Review {
    group: &'static str,
    resource: &'static str,
    singular: &'static str,
    kind: &'static str,
}

impl Review {
    /// Whether it is asked in a namespace.
    fn is_local(&self) -> bool {
        self.kind == "LocalSubjectAccessReview"
    }
}

/// Answered by `reviews` and `token_review`.
const REVIEWS: &[Review] = &[
    Review { group: "authentication.k8s.io", resource: "tokenreviews", singular: "tokenreview", kind: "TokenReview" },
    Review {
        group: "authentication.k8s.io",
        resource: "selfsubjectreviews",
        singular: "selfsubjectreview",
        kind: "SelfSubjectReview",
    },
    Review {
        group: "authorization.k8s.io",
        resource: "selfsubjectaccessreviews",
        singular: "selfsubjectaccessreview",
        kind: "SelfSubjectAccessReview",
    },
    Review {
        group: "authorization.k8s.io",
        resource: "subjectaccessreviews",
        singular: "subjectaccessreview",
        kind: "SubjectAccessReview",
    },
    Review {
        group: "authorization.k8s.io",
        resource: "localsubjectaccessreviews",
        singular: "localsubjectaccessreview",
        kind: "LocalSubjectAccessReview",
    },
    Review {
        group: "authorization.k8s.io",
        resource: "selfsubjectrulesreviews",
        singular: "selfsubjectrulesreview",
        kind: "SelfSubjectRulesReview",
    },
];

/// Streams to Pods: subresources that the registry knows nothing of.
const STREAMS: &[(&str, &str, &[&str])] = &[
    ("attach", "PodAttachOptions", &["create", "get"]),
    ("exec", "PodExecOptions", &["create", "get"]),
    ("log", "Pod", &["get"]),
    ("portforward", "PodPortForwardOptions", &["create", "get"]),
];

/// What can be reached over HTTP, and its options' kind.
const PROXIES: &[(&str, &str)] =
    &[("nodes", "NodeProxyOptions"), ("pods", "PodProxyOptions"), ("services", "ServiceProxyOptions")];

/// A group's versions, each with its resources.
type Versions = BTreeMap<String, Vec<Arc<Resource>>>;

/// All groups by name; `""` is the core group. Groups of reviews have `v1` and nothing stored.
fn all(table: &Table) -> BTreeMap<String, Versions> {
    let mut groups: BTreeMap<String, Versions> = BTreeMap::new();
    for row in table.all().values() {
        groups.entry(row.group.clone()).or_default().entry(row.version.clone()).or_default().push(row.clone());
    }
    for review in REVIEWS {
        groups.entry(review.group.into()).or_default().entry("v1".into()).or_default();
    }
    if let Some(events) = events::row(table) {
        groups.entry(events.group.clone()).or_default().entry("v1".into()).or_default().push(events);
    }
    groups
}

fn ok(tree: &Value) -> Answer {
    respond::tree(OK, Encoding::Json, tree)
}

/// `/`: where to go on.
pub fn paths(table: &Table) -> Answer {
    let mut paths: Vec<String> = ["/api", "/apis", "/healthz", "/livez", "/metrics", "/readyz", "/version"]
        .into_iter()
        .chain(["/openapi/v2", "/openapi/v3"])
        .chain([super::oidc::CONFIGURATION, super::oidc::KEYS])
        .map(String::from)
        .collect();
    for (group, versions) in all(table) {
        let root = if group.is_empty() { "/api".to_string() } else { format!("/apis/{group}") };
        paths.extend((!group.is_empty()).then(|| root.clone()));
        paths.extend(versions.keys().map(|version| format!("{root}/{version}")));
    }
    paths.sort();
    ok(&json!({"paths": paths}))
}

/// `/api`.
pub fn core(table: &Table, headers: &HeaderMap) -> Answer {
    let groups = all(table);
    if let Some(version) = media::discovery(headers) {
        let core = groups.iter().filter(|(name, _)| name.is_empty());
        return aggregated(version, core);
    }
    ok(&json!({
        "kind": "APIVersions",
        "versions": groups.get("").map(|versions| versions.keys().collect::<Vec<_>>()).unwrap_or_default(),
        "serverAddressByClientCIDRs": [],
    }))
}

/// `/apis`.
pub fn groups(table: &Table, headers: &HeaderMap) -> Answer {
    let groups = all(table);
    let named = groups.iter().filter(|(name, _)| !name.is_empty());
    if let Some(version) = media::discovery(headers) {
        return aggregated(version, named);
    }
    let groups: Vec<Value> = named.map(|(name, versions)| group_tree(name, versions)).collect();
    ok(&json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
}

/// `/apis/GROUP`.
pub fn group(table: &Table, name: &str) -> ApiResult<Answer> {
    let groups = all(table);
    let versions =
        groups.get(name).filter(|_| !name.is_empty()).ok_or_else(|| nothing_here(&format!("/apis/{name}")))?;
    let mut tree = group_tree(name, versions);
    tree["kind"] = "APIGroup".into();
    tree["apiVersion"] = "v1".into();
    Ok(ok(&tree))
}

/// The versions of a group; the first is the one to use.
fn newest_first(versions: &Versions) -> Vec<&String> {
    let mut names: Vec<&String> = versions.keys().collect();
    names.sort_by(|a, b| newer_version(a, b));
    names
}

fn group_tree(name: &str, versions: &Versions) -> Value {
    let all: Vec<Value> = newest_first(versions)
        .into_iter()
        .map(|version| json!({"groupVersion": format!("{name}/{version}"), "version": version}))
        .collect();
    json!({"name": name, "versions": all, "preferredVersion": all.first()})
}

/// `/api/v1`, `/apis/GROUP/VERSION`.
pub fn resources(table: &Table, group: &str, version: &str) -> ApiResult<Answer> {
    let groups = all(table);
    let api_version = if group.is_empty() { version.to_string() } else { format!("{group}/{version}") };
    let rows =
        groups.get(group).and_then(|versions| versions.get(version)).ok_or_else(|| nothing_here(&api_version))?;
    let mut resources = vec![];
    for row in rows {
        resources.push(json!({
            "name": row.resource,
            "singularName": row.singular,
            "namespaced": row.namespaced,
            "kind": row.kind,
            "verbs": row.verbs(),
            "shortNames": row.short_names,
            "categories": row.categories,
        }));
        for (name, (group, version, kind), verbs) in subresources(row) {
            resources.push(json!({
                "name": format!("{}/{name}", row.resource),
                "singularName": "",
                "namespaced": row.namespaced,
                "group": group,
                "version": version,
                "kind": kind,
                "verbs": verbs,
            }));
        }
    }
    for review in REVIEWS.iter().filter(|review| review.group == group) {
        resources.push(json!({
            "name": review.resource,
            "singularName": review.singular,
            "namespaced": review.is_local(),
            "kind": review.kind,
            "verbs": ["create"],
        }));
    }
    Ok(ok(&json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api_version, "resources": resources})))
}

/// A resource's subresources: name, what they answer with, verbs.
fn subresources(row: &Resource) -> Vec<(&str, Gvk<'_>, &'static [&'static str])> {
    let own = (row.group.as_str(), row.version.as_str(), row.kind.as_str());
    let known = row.subresources.iter().map(|name| match name.as_str() {
        "scale" => ("scale", ("autoscaling", "v1", "Scale"), &["get", "patch", "update"][..]),
        "binding" => ("binding", ("", "v1", "Binding"), &["create"][..]),
        "eviction" => ("eviction", ("policy", "v1", "Eviction"), &["create"][..]),
        "token" => ("token", ("authentication.k8s.io", "v1", "TokenRequest"), &["create"][..]),
        "finalize" => ("finalize", own, &["update"][..]),
        other => (other, own, &["get", "patch", "update"][..]),
    });
    let streams = STREAMS.iter().filter(|_| row.group.is_empty() && row.resource == "pods");
    let streams = streams.map(|(name, kind, verbs)| (*name, ("", "v1", *kind), *verbs));
    let proxies = PROXIES.iter().filter(|(resource, _)| row.group.is_empty() && row.resource == *resource);
    let verbs = &["create", "delete", "get", "patch", "update"][..];
    let proxies = proxies.map(|(_, kind)| ("proxy", ("", "v1", *kind), verbs));
    let mut all: Vec<_> = known.chain(streams).chain(proxies).collect();
    all.sort_by_key(|(name, ..)| *name);
    all
}

/// An `APIGroupDiscoveryList`.
fn aggregated<'a>(form: &'static str, groups: impl Iterator<Item = (&'a String, &'a Versions)>) -> Answer {
    let items: Vec<Value> = groups
        .map(|(name, versions)| {
            let versions: Vec<Value> = newest_first(versions)
                .into_iter()
                .filter_map(|version| Some((version, versions.get(version)?)))
                .map(|(version, rows)| {
                    let mut resources: Vec<Value> = rows.iter().map(|row| aggregated_resource(row)).collect();
                    resources.extend(REVIEWS.iter().filter(|review| review.group == *name).map(aggregated_review));
                    json!({"version": version, "resources": resources, "freshness": "Current"})
                })
                .collect();
            json!({"metadata": {"name": name, "creationTimestamp": null}, "versions": versions})
        })
        .collect();
    let tree = json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{form}"),
        "metadata": {},
        "items": items,
    });
    // Clients tell the forms apart by these parameters.
    let content_type = format!("application/json;g=apidiscovery.k8s.io;v={form};as=APIGroupDiscoveryList");
    respond::document(OK, &content_type, tree.to_string())
}

fn aggregated_resource(row: &Resource) -> Value {
    let subresources: Vec<Value> = subresources(row)
        .into_iter()
        .map(|(name, gvk, verbs)| json!({"subresource": name, "responseKind": gvk_tree(gvk), "verbs": verbs}))
        .collect();
    let mut tree = json!({
        "resource": row.resource,
        "responseKind": gvk_tree((&row.group, &row.version, &row.kind)),
        "scope": if row.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": row.singular,
        "verbs": row.verbs(),
    });
    let lists = [
        ("shortNames", json!(row.short_names)),
        ("categories", json!(row.categories)),
        ("subresources", json!(subresources)),
    ];
    for (key, list) in lists {
        if list.as_array().is_some_and(|list| !list.is_empty()) {
            tree[key] = list;
        }
    }
    tree
}

fn aggregated_review(review: &Review) -> Value {
    json!({
        "resource": review.resource,
        "responseKind": gvk_tree((review.group, "v1", review.kind)),
        "scope": if review.is_local() { "Namespaced" } else { "Cluster" },
        "singularResource": review.singular,
        "verbs": ["create"],
    })
}

fn gvk_tree((group, version, kind): Gvk<'_>) -> Value {
    json!({"group": group, "version": version, "kind": kind})
}
