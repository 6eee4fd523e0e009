//! Kinds that documents define: what is known of them before the server has them, and when it has.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use skiff_proto::skiffv1::ResourceInfo;

use crate::columns::{list, text};
use crate::follow::{Follow, News};
use crate::session::Session;

const GROUP: &str = "apiextensions.k8s.io";
const DEFINITIONS: &str = "customresourcedefinitions";
/// Whoever has just written a definition waits no longer than this for its kind.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at discovery, which cannot be watched.
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// A kind that a document defines.
#[derive(Clone, Debug)]
pub struct Defined {
    /// The name of its definition.
    pub definition: String,
    /// What the server's table will say of it.
    pub resource: ResourceInfo,
}

/// Whether an object is a CustomResourceDefinition.
pub fn is_one(object: &Value) -> bool {
    let is_of_group = text(object, "/apiVersion").starts_with("apiextensions.k8s.io/");
    is_of_group && object["kind"] == "CustomResourceDefinition"
}

/// The kinds that objects define, in each version that will be served.
pub fn of<'o>(objects: impl Iterator<Item = &'o Value>) -> Vec<Defined> {
    let of_one = |object: &Value| -> Vec<Defined> {
        let versions = list(object, "/spec/versions").iter().filter(|version| version["served"] == true);
        let row = |version: &Value| Defined {
            definition: text(object, "/metadata/name"),
            resource: ResourceInfo {
                group: text(object, "/spec/group"),
                version: text(version, "/name"),
                resource: text(object, "/spec/names/plural"),
                kind: text(object, "/spec/names/kind"),
                singular: text(object, "/spec/names/singular"),
                namespaced: object["spec"]["scope"] == "Namespaced",
                custom: true,
                ..Default::default()
            },
        };
        versions.map(row).collect()
    };
    objects.filter(|object| is_one(object)).flat_map(of_one).collect()
}

/// Waits until the server has kinds whose definitions were written.
pub async fn established(session: &Session, kinds: &[Defined]) -> Result<()> {
    let there = async {
        let definitions = session.resource(GROUP, DEFINITIONS).await?;
        for kind in kinds {
            accepted(session, &definitions, &kind.definition).await?;
        }
        // The condition tells of the definition; what it has served for long may still be there without a new version.
        loop {
            session.forget_resources().await;
            let table = session.resources().await?;
            let is_there = |kind: &Defined| {
                let of = |r: &ResourceInfo| (r.group.clone(), r.version.clone(), r.kind.clone());
                table.iter().any(|r| of(r) == of(&kind.resource))
            };
            if kinds.iter().all(is_there) {
                return Ok::<(), anyhow::Error>(());
            }
            session.world().sleep(BETWEEN_LOOKS).await;
        }
    };
    let names = || kinds.iter().map(|kind| kind.definition.as_str()).collect::<Vec<_>>().join(", ");
    let waited = tokio::time::timeout(PATIENCE, there).await;
    waited.with_context(|| format!("{} was applied, and its kind is not served after {PATIENCE:?}", names()))?
}

/// Follows a definition until it is established; one whose names are taken never will be.
async fn accepted(session: &Session, definitions: &ResourceInfo, name: &str) -> Result<()> {
    let mut follow = Follow::one(session, definitions, "", name);
    loop {
        let now = match follow.next().await? {
            News::All(mut objects) => objects.pop(),
            News::Is(object) => Some(object),
            News::Gone(_) => None,
        };
        let Some(now) = now else { bail!("{DEFINITIONS} \"{name}\" was deleted while it was waited for") };
        let condition = |kind: &str| list(&now, "/status/conditions").iter().find(|c| text(c, "/type") == kind);
        if condition("Established").is_some_and(|c| text(c, "/status") == "True") {
            return Ok(());
        }
        if let Some(refused) = condition("NamesAccepted").filter(|c| text(c, "/status") == "False") {
            bail!("{DEFINITIONS} \"{name}\" was applied, and its kind is not served: {}", text(refused, "/message"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_definition_tells_its_kinds() {
        let definition = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "tabs.example.com"},
            "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "tabs", "kind": "Tab"},
                "versions": [{"name": "v1", "served": true}, {"name": "v0", "served": false}]},
        });
        let others = json!({"apiVersion": "v1", "kind": "ConfigMap"});
        let found = of([&definition, &others].into_iter());
        assert_eq!(found.len(), 1);
        let Defined { definition, resource } = &found[0];
        assert_eq!((definition.as_str(), resource.namespaced), ("tabs.example.com", true));
        assert_eq!((resource.version.as_str(), resource.kind.as_str()), ("v1", "Tab"));
    }
}
