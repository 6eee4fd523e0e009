//! Patch: the object as a tree, the patch applied to it, and the result read and treated like an update. It is worked
//! out anew on the newest object as often as others are quicker, so a patch of the writer's own fields never conflicts.

use super::Registry;
use super::error::{ApiError, ApiResult};
use super::reply;
use super::request::{Body, ObjectReply, PatchKind, Request};
use super::update::Changed;
use crate::resources::Object;
use serde_json::Value;

/// The most operations of a JSON patch.
const OPERATIONS_MAX: usize = 10_000;
/// The most bytes that the copies of a JSON patch may make: a few of them, each of what the last one made, grow without
/// end.
const COPIED_MAX: usize = 3 << 20;

const STRATEGIC: &str = "application/strategic-merge-patch+json";
/// How custom resources can be patched: nothing says how their lists would be merged.
const OF_CUSTOM: &[&str] =
    &["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"];

impl Registry {
    /// Changes parts of an object, or of one of its subresources.
    pub(super) async fn patch(&self, request: &Request, kind: PatchKind, body: &Body) -> ApiResult<ObjectReply> {
        if kind == PatchKind::Apply {
            return self.apply(request, body).await;
        }
        if kind == PatchKind::Strategic && request.resource.is_custom() && request.subresource != "scale" {
            return Err(ApiError::unsupported_media_type(STRATEGIC, OF_CUSTOM));
        }
        let patch: Value = serde_json::from_slice(&body.bytes)
            .map_err(|error| ApiError::bad_request(format!("the patch is not JSON: {error}")))?;
        match request.subresource.as_str() {
            "" | "status" | "ephemeralcontainers" => {
                self.modify(request, |old| {
                    let patched = apply(request, kind, old.to_json(), &patch)?;
                    changed(request, body, old, patched)
                })
                .await
            }
            "scale" => self.patch_scale(request, kind, &patch).await,
            _ => Err(ApiError::method_not_allowed(&request.resource, "patch")),
        }
    }
}

/// Applies a patch to a tree.
pub fn apply(request: &Request, kind: PatchKind, mut tree: Value, patch: &Value) -> ApiResult<Value> {
    let refuse = |why: String| ApiError::bad_request(format!("the patch cannot be applied: {why}"));
    match kind {
        PatchKind::Json => {
            let size = patch.as_array().map_or(0, Vec::len);
            if size > OPERATIONS_MAX {
                return Err(ApiError::too_large("the JSON patch", size, OPERATIONS_MAX));
            }
            json(&mut tree, patch)?;
        }
        PatchKind::Merge => skiff_proto::merge::merge_patch(&mut tree, patch),
        PatchKind::Strategic => {
            skiff_proto::merge::strategic(&mut tree, patch, request.resource.schema())
                .map_err(|e| refuse(e.to_string()))?;
        }
        PatchKind::Apply => return Err(refuse("server-side apply is not a patch of a tree".into())),
    }
    Ok(tree)
}

/// Applies a JSON patch, which may not make more by copying than a body may hold.
pub fn json(tree: &mut Value, patch: &Value) -> ApiResult<()> {
    let refuse = |why: String| ApiError::bad_request(format!("the patch cannot be applied: {why}"));
    let operations: json_patch::Patch =
        serde_json::from_value(patch.clone()).map_err(|e| refuse(format!("it is not a JSON patch (RFC 6902): {e}")))?;
    let mut copied = 0;
    for (i, operation) in operations.0.into_iter().enumerate() {
        if let json_patch::PatchOperation::Copy(copy) = &operation {
            copied += copy.from.resolve(tree).map_or(0, |piece| piece.to_string().len());
            if copied > COPIED_MAX {
                return Err(refuse(format!("operation {i}: its copies make more than {COPIED_MAX} bytes")));
            }
        }
        if asks_for_absence(&operation, tree) {
            continue;
        }
        // Well-formed, but not true of this object: a failed `test` is how clients ask for what must hold.
        json_patch::patch(tree, &[operation]).map_err(|e| {
            let (path, kind) = (e.path.as_str(), &e.kind);
            ApiError::invalid_options(&format!("the patch cannot be applied: operation {i} at {path:?}: {kind}"))
        })?;
    }
    Ok(())
}

/// Whether it is a `test` for null of a field that is not there, which holds: Kubernetes reads RFC 6902 so, and clients rely
/// on it to add the first finalizer.
fn asks_for_absence(operation: &json_patch::PatchOperation, tree: &Value) -> bool {
    let json_patch::PatchOperation::Test(test) = operation else { return false };
    let path = test.path.as_str();
    let Some((parent, field)) = path.rsplit_once('/').filter(|_| test.value.is_null()) else { return false };
    let field = field.replace("~1", "/").replace("~0", "~");
    tree.pointer(parent).and_then(Value::as_object).is_some_and(|parent| !parent.contains_key(&field))
}

/// Reads a patched tree. A patch that does not speak of the revision holds for whatever revision there is.
fn changed(request: &Request, body: &Body, old: &dyn Object, patched: Value) -> ApiResult<Changed> {
    let resource = &request.resource;
    let decoded = resource.strategy.decode_tree(patched);
    let (object, warnings) = reply::decode(resource, decoded, body.field_validation)?;
    let meta = object.meta();
    if meta.name != old.meta().name || meta.namespace != old.meta().namespace {
        return Err(ApiError::bad_request("a patch may not change metadata.name or metadata.namespace"));
    }
    Ok((object, warnings))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn copies_of_copies_do_not_grow_without_end() {
        let mut tree = json!({"a": ["x".repeat(1000)]});
        let copies: Vec<Value> = (0..40).map(|_| json!({"op": "copy", "from": "/a", "path": "/a/-"})).collect();
        let refused = self::json(&mut tree, &Value::Array(copies)).expect_err("2^40 times as much");
        assert!(refused.message().contains("its copies make more"), "{}", refused.message());
        let mut tree = json!({"a": {"b": 1}});
        self::json(&mut tree, &json!([{"op": "copy", "from": "/a", "path": "/c"}])).expect("a copy");
        assert_eq!(tree, json!({"a": {"b": 1}, "c": {"b": 1}}));
        let refused = self::json(&mut tree, &json!([{"op": "remove", "path": "/x"}])).expect_err("not there");
        assert!(refused.message().contains("operation 0 at "), "{}", refused.message());
    }
}
