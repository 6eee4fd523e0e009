//! A change that is worked out from what an object is now, and holds only for that: when somebody
//! else is quicker, it is worked out anew.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use skiff_client::Patch;
use skiff_proto::skiffv1::ResourceInfo;
use skiff_proto::{merge, schema};

use crate::report::Report;
use crate::selection::Chosen;
use crate::session::Session;

/// So often somebody else may be quicker.
const TRIES: usize = 5;

/// What became of an object.
#[derive(Debug)]
pub struct Amended {
    /// The object before.
    pub before: Value,
    /// The object now, or as it would be.
    pub after: Value,
}

impl Amended {
    /// Whether anything is different.
    pub fn changed(&self) -> bool {
        let without_revision = |object: &Value| {
            let mut object = object.clone();
            if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
                metadata.shift_remove("resourceVersion");
                metadata.shift_remove("managedFields");
            }
            object
        };
        without_revision(&self.before) != without_revision(&self.after)
    }
}

/// Patches an object by what `patch` makes of it; a merge patch or a strategic one.
pub async fn amend(
    session: &Session,
    report: &Report,
    chosen: &Chosen,
    patch: impl Fn(&Value) -> Result<Patch>,
) -> Result<Amended> {
    let api = report.api(session, &chosen.resource);
    for _ in 0..TRIES {
        let before = api.get(&chosen.namespace, &chosen.name).await?;
        let patch = patch(&before)?;
        if report.is_client() {
            let after = apply(&chosen.resource, &before, &patch)?;
            return Ok(Amended { before, after });
        }
        let guarded = guard(patch, &before["metadata"]["resourceVersion"]);
        match api.patch(&chosen.namespace, &chosen.name, guarded, None).await {
            Err(error) if error.is_conflict() => {}
            result => return Ok(Amended { before, after: result? }),
        }
    }
    bail!("{} keeps changing while this changes it: try again", chosen.called())
}

/// The patch, for this revision of the object only.
fn guard(patch: Patch, revision: &Value) -> Patch {
    let guarded = |mut body: Value| {
        if body.get("metadata").is_none_or(|m| !m.is_object()) {
            body["metadata"] = json!({});
        }
        body["metadata"]["resourceVersion"] = revision.clone();
        body
    };
    match patch {
        Patch::Merge(body) => Patch::Merge(guarded(body)),
        Patch::Strategic(body) => Patch::Strategic(guarded(body)),
        other => other,
    }
}

/// What a patch makes of an object, without asking the server.
pub fn apply(resource: &ResourceInfo, object: &Value, patch: &Patch) -> Result<Value> {
    let mut tree = object.clone();
    match patch {
        Patch::Merge(patch) => merge::merge_patch(&mut tree, patch),
        Patch::Strategic(patch) => {
            let Some(schema) = schema::for_kind(&resource.group, &resource.version, &resource.kind) else {
                bail!("a strategic patch needs the Schema of {}; use --type=merge", resource.kind);
            };
            merge::strategic(&mut tree, patch, &schema).context("the patch cannot be applied")?;
        }
        Patch::Json(patch) => {
            let operations: json_patch::Patch =
                serde_json::from_value(patch.clone()).context("the patch is not a list of JSON patch operations")?;
            json_patch::patch(&mut tree, &operations).context("the patch cannot be applied")?;
        }
        Patch::Apply { .. } => bail!("server-side apply cannot be tried without the server"),
    }
    Ok(tree)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guard_keeps_what_the_patch_says() {
        let patch = Patch::Merge(json!({"metadata": {"labels": {"a": "b"}}}));
        let expected = json!({"metadata": {"labels": {"a": "b"}, "resourceVersion": "7"}});
        assert_eq!(guard(patch, &json!("7")), Patch::Merge(expected));
        let spec = Patch::Strategic(json!({"spec": {}}));
        assert_eq!(
            guard(spec, &json!("7")),
            Patch::Strategic(json!({"spec": {}, "metadata": {"resourceVersion": "7"}}))
        );
    }

    #[test]
    fn a_revision_alone_is_no_change() {
        let object =
            |revision: &str, label: &str| json!({"metadata": {"resourceVersion": revision, "labels": {"a": label}}});
        assert!(!Amended { before: object("1", "x"), after: object("2", "x") }.changed());
        assert!(Amended { before: object("1", "x"), after: object("2", "y") }.changed());
    }
}
