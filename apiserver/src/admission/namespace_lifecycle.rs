//! NamespaceLifecycle: nothing new in a namespace that is missing or going, and the namespaces without which nothing works
//! stay.

use super::{Facts, Plugin, Verb};
use crate::registry::{ApiError, ApiResult, Beside};
use crate::resources::Object;
use crate::store::Compare;
use skiff_proto::corev1::Namespace;

/// Namespaces that may not be deleted.
const IMMORTAL: &[&str] = &["default", "kube-system", "kube-public", "kube-node-lease"];

pub struct NamespaceLifecycle;

impl Plugin for NamespaceLifecycle {
    fn check(&self, facts: &Facts<'_>, new: Option<&dyn Object>, beside: &mut Beside) -> ApiResult<()> {
        if facts.is(Verb::Delete, "", "Namespace") && IMMORTAL.contains(&facts.name) {
            return Err(ApiError::forbidden(facts.resource, facts.name, "this namespace may not be deleted"));
        }
        match new {
            Some(new) if facts.verb == Verb::Create && facts.resource.namespaced => {
                beside.compare.push(is_open(facts, new)?);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// The namespace must be there and open, and stay as it is seen here until the write has happened.
pub(super) fn is_open(facts: &Facts<'_>, new: &dyn Object) -> ApiResult<Compare> {
    let name = &new.meta().namespace;
    let namespaces = facts.cluster.resource::<Namespace>()?;
    let entry = facts.cluster.entry::<Namespace>("", name)?.ok_or_else(|| ApiError::not_found(&namespaces, name))?;
    if entry.field("status.phase") == Some("Terminating") {
        let why = format!("unable to create new content in namespace {name} because it is being terminated");
        return Err(ApiError::forbidden(facts.resource, &new.meta().name, why).because(
            "NamespaceTerminating",
            &format!("namespace {name} is being terminated"),
            "metadata.namespace",
        ));
    }
    Ok(Compare { key: namespaces.key("", name), mod_revision: entry.mod_revision })
}
