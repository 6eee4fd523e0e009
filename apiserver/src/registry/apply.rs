//! Server-side apply: the writer names the fields it means to own; what it no longer names goes, what others own is a
//! conflict, and an object that is not there is made.

use super::error::{ApiError, ApiResult};
use super::request::{Body, ObjectReply, Operation, Request};
use super::update::Changed;
use super::{Registry, meta, reply};
use crate::managers::{BEFORE_FIRST_APPLY, Conflict, How, Manager, Managers, Who, changes, owned_part};
use crate::resources::{FieldError, FieldErrorKind, Object, Resource, yaml_to_tree};
use serde_json::Value;
use skiff_proto::Time;
use skiff_proto::apply::{FieldSet, fields_of, merge};

/// Where client-side apply keeps what it applied last.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The managers that are people at a command line.
const KUBECTL: &str = "kubectl";
const SKIFFCTL: &str = "skiffctl";
/// The longest name of a manager.
const MANAGER_MAX: usize = 128;
/// An object that is deleted and made anew while it is applied is tried again so often.
const ROUNDS: usize = 8;

/// A document to be applied, and in whose name.
struct Applied {
    tree: Value,
    fields: FieldSet,
    who: Who,
    force: bool,
}

impl Registry {
    /// Applies a document to the object of the request's name, or makes the object of it.
    pub(super) async fn apply(&self, request: &Request, body: &Body) -> ApiResult<ObjectReply> {
        if !matches!(request.subresource.as_str(), "" | "status") {
            return Err(ApiError::method_not_allowed(&request.resource, "apply"));
        }
        let applied = Applied::read(request, body)?;
        let now = meta::now(&self.inner.world);
        for _ in 0..ROUNDS {
            let merged = |old: &dyn Object| applied.onto(request, body, old, now);
            let own = |new: &mut dyn Object, old: &dyn Object| applied.own(request, new, old, now);
            match self.modify_as(request, merged, own).await {
                Err(error) if error.code() == 404 && applied.may_create(request) => {
                    match self.create_applied(request, body, &applied, now).await {
                        Err(error) if error.reason() == "AlreadyExists" => {}
                        made => return made,
                    }
                }
                answer => return answer,
            }
        }
        Err(ApiError::modified(&request.resource, &request.name))
    }

    async fn create_applied(
        &self,
        request: &Request,
        body: &Body,
        applied: &Applied,
        now: Time,
    ) -> ApiResult<ObjectReply> {
        let resource = &request.resource;
        // To apply is to patch, but what is not there is made.
        let (namespace, name) = (&request.namespace, &request.name);
        self.inner.authorizer.authorize_stream(&request.identity, resource, "", "create", namespace, name)?;
        // A namespace that is not there is a 404 of its own.
        let (mut object, mut warnings) =
            reply::decode(resource, resource.strategy.decode_tree(applied.tree.clone()), body.field_validation)?;
        meta::address(resource, object.meta_mut(), &request.namespace, &request.name)?;
        if !object.meta().uid.is_empty() || !object.meta().resource_version.is_empty() {
            return Err(ApiError::conflict(
                resource,
                &request.name,
                "the object with this uid or resourceVersion does not exist",
            ));
        }
        let mut managers = Managers::default();
        managers.set(&applied.who, applied.fields.clone(), now);
        object.meta_mut().managed_fields = managers.write();
        let mut made = self.create_one(request, object, &mut warnings).await?;
        made.created = true;
        Ok(made)
    }

    /// Notes who changed what, once an object has been applied. An object that never was carries no managers.
    pub(super) fn track(&self, request: &Request, new: &mut dyn Object, old: &dyn Object) -> ApiResult<()> {
        let sent = &new.meta().managed_fields;
        if sent.is_empty() {
            return Ok(());
        }
        // A list with one empty entry is how a writer clears them.
        if sent.len() == 1 && sent[0] == Default::default() {
            new.meta_mut().managed_fields.clear();
            return Ok(());
        }
        let resource = &request.resource;
        let read = Managers::read(new.meta()).or_else(|_| Managers::read(old.meta()));
        let mut managers = read.map_err(|e| ApiError::internal(format!("metadata.managedFields: {e}")))?;
        let changes = changes(&old.to_json(), &new.to_json(), resource.schema());
        managers.updated(&writer(request, How::Update, manager_of(request)), &changes, meta::now(&self.inner.world));
        new.meta_mut().managed_fields = managers.write();
        Ok(())
    }
}

/// The name under which a write's fields are recorded.
fn manager_of(request: &Request) -> &str {
    let named = match &request.operation {
        Operation::Create(body) | Operation::Update(body) | Operation::Patch { body, .. } => &body.field_manager,
        _ => "",
    };
    if named.is_empty() { &request.identity.user } else { named }
}

fn writer(request: &Request, how: How, name: &str) -> Who {
    Who {
        name: name.to_owned(),
        how,
        api_version: request.resource.api_version(),
        subresource: request.subresource.clone(),
    }
}

impl Applied {
    fn read(request: &Request, body: &Body) -> ApiResult<Applied> {
        let resource = &request.resource;
        if body.field_manager.is_empty() || body.field_manager.len() > MANAGER_MAX {
            let error = FieldError {
                path: "fieldManager".into(),
                kind: FieldErrorKind::Required,
                value: String::new(),
                detail: format!("is required for apply, and at most {MANAGER_MAX} bytes long"),
            };
            return Err(ApiError::invalid(resource, &request.name, &[error]));
        }
        let refuse = |why: String| ApiError::bad_request(format!("the document cannot be applied: {why}"));
        let tree = yaml_to_tree(&body.bytes).map_err(|e| refuse(e.to_string()))?;
        let says = |name: &str| tree.get(name).and_then(Value::as_str).unwrap_or_default();
        if says("kind") != resource.kind || says("apiVersion") != resource.api_version() {
            let (kind, version) = (says("kind"), says("apiVersion"));
            return Err(refuse(format!(
                "it is a {kind:?} of apiVersion {version:?}, and {:?} of {:?} was addressed",
                resource.kind,
                resource.api_version()
            )));
        }
        if tree.pointer("/metadata/managedFields").is_some_and(|m| !m.is_null()) {
            return Err(ApiError::bad_request("metadata.managedFields must be nil"));
        }
        let named = fields_of(&tree, resource.schema()).map_err(|e| refuse(e.to_string()))?;
        let fields = owned_part(&named, &request.subresource);
        let who = writer(request, How::Apply, &body.field_manager);
        Ok(Applied { tree, fields, who, force: body.force })
    }

    fn may_create(&self, request: &Request) -> bool {
        request.subresource.is_empty()
    }

    /// The object with the document in it, and without what the writer applied before and no longer does.
    fn onto(&self, request: &Request, body: &Body, old: &dyn Object, now: Time) -> ApiResult<Changed> {
        let resource = &request.resource;
        let (mut tree, mut managers) = (old.to_json(), managers_of(resource, old)?);
        let before = managers.fields_of(&self.who).cloned().unwrap_or_default();
        managers.set(&self.who, self.fields.clone(), now);
        let revision = self.tree.pointer("/metadata/resourceVersion").cloned();
        merge(&mut tree, &self.tree, resource.schema());
        managers.prune(&mut tree, &before, resource.schema());
        if let Some(metadata) = tree.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.shift_remove("managedFields");
            metadata.insert("resourceVersion".into(), revision.unwrap_or_default());
        }
        let decoded = resource.strategy.decode_tree(tree);
        let (mut object, mut warnings) = reply::decode(resource, decoded, super::FieldValidation::Ignore)?;
        // What is wrong with the document is told of the document, not of what others wrote.
        warnings.extend(
            reply::decode(resource, resource.strategy.decode_tree(self.tree.clone()), body.field_validation)?.1,
        );
        meta::address(resource, object.meta_mut(), &request.namespace, &request.name)?;
        Ok((object, warnings))
    }

    /// Settles who owns what, or refuses what belongs to others.
    fn own(&self, request: &Request, new: &mut dyn Object, old: &dyn Object, now: Time) -> ApiResult<()> {
        let resource = &request.resource;
        let mut managers = managers_of(resource, old)?;
        managers.set(&self.who, self.fields.clone(), now);
        let changes = changes(&old.to_json(), &new.to_json(), resource.schema());
        let conflicts = managers.conflicts(&self.who, &changes);
        let foreign: Vec<Conflict> = conflicts.into_iter().filter(|c| !self.is_its_own(resource, old, c)).collect();
        if !foreign.is_empty() && !self.force {
            return Err(refusal(resource, &foreign));
        }
        managers.applied(&self.who, &changes);
        new.meta_mut().managed_fields = managers.write();
        Ok(())
    }

    /// Whether what is contested was written by the same program in another way: by client-side apply (kubectl, and
    /// what it noted down about it), or by the other verbs of skiffctl. Whoever scales and then applies means it; and
    /// what stood there before anybody's fields were remembered may have been made by the same hands.
    fn is_its_own(&self, resource: &Resource, old: &dyn Object, conflict: &Conflict) -> bool {
        let other = &conflict.with.who;
        match self.who.name.as_str() {
            SKIFFCTL if other.how == How::Update => matches!(other.name.as_str(), SKIFFCTL | BEFORE_FIRST_APPLY),
            KUBECTL if other.how == How::Update => {
                last_applied(resource, old).is_some_and(|last| conflict.fields.difference(&last).is_empty())
            }
            _ => false,
        }
    }
}

/// What client-side apply noted down that it applied.
fn last_applied(resource: &Resource, object: &dyn Object) -> Option<FieldSet> {
    let text = object.meta().annotations.get(LAST_APPLIED)?;
    fields_of(&serde_json::from_str(text).ok()?, resource.schema()).ok()
}

/// The managers of an object; of one that was never applied, the one that stands for all before.
fn managers_of(resource: &Resource, object: &dyn Object) -> ApiResult<Managers> {
    let unreadable = |e: &dyn std::fmt::Display| ApiError::internal(format!("metadata.managedFields: {e}"));
    let mut managers = Managers::read(object.meta()).map_err(|e| unreadable(&e))?;
    if managers.0.is_empty() {
        let all = changes(&Value::Object(Default::default()), &object.to_json(), resource.schema()).added;
        let owner = |subresource: &str| Manager {
            who: Who {
                name: BEFORE_FIRST_APPLY.into(),
                how: How::Update,
                api_version: resource.api_version(),
                subresource: subresource.into(),
            },
            time: object.meta().creation_timestamp,
            fields: owned_part(&all, subresource),
        };
        managers.0.push(owner(""));
        managers.0.extend(resource.has("status").then(|| owner("status")));
        managers.0.retain(|m| !m.fields.is_empty());
    }
    Ok(managers)
}

/// Kubernetes' words for conflicts, so that its tools read them.
fn refusal(resource: &Resource, conflicts: &[Conflict]) -> ApiError {
    let mut causes = vec![];
    for conflict in conflicts {
        let Who { name, how, api_version, subresource } = &conflict.with.who;
        let mut with = format!("conflict with {name:?}");
        if !subresource.is_empty() {
            with.push_str(&format!(" with subresource {subresource:?}"));
        }
        if *how == How::Update {
            with.push_str(&format!(" using {api_version}"));
            if let Some(time) = conflict.with.time {
                with.push_str(&format!(" at {time}"));
            }
        }
        causes.extend(conflict.fields.paths().into_iter().map(|path| (with.clone(), path)));
    }
    ApiError::apply_conflict(resource, &causes)
}
