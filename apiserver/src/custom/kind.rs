//! The strategy of custom resources: objects are JSON, and their definition says what they may hold.

use super::check;
use super::definition::Definition;
use super::prune;
use super::rules;
use crate::cache::{FieldKind, SelectableField, ToJson};
use crate::envelope::ContentType;
use crate::resources::validation::{self, NameRule};
use crate::resources::{DecodeError, Decoded, Errors, JSON, JsonObject, Object, Strategy, YAML, yaml_to_tree};
use serde_json::{Map, Value};
use skiff_proto::apiextensionsv1::{
    CustomResourceColumnDefinition, CustomResourceDefinition, CustomResourceDefinitionVersion,
};
use skiff_proto::columns::{self, Columns};
use skiff_proto::json::Strictness;
use skiff_proto::metav1::ObjectMeta;
use std::sync::Arc;

/// Where the numbers of a Scale stand in an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScalePaths {
    /// As JSON pointers: the wanted number.
    pub wanted: String,
    /// The actual number.
    pub actual: String,
    /// A selector as text.
    pub selector: Option<String>,
}

/// One served version of a custom resource.
pub struct CustomKind {
    /// `example.com/v1`.
    api_version: String,
    /// In which version objects are stored: `example.com/v2`.
    stored: Arc<str>,
    kind: String,
    definition: Arc<Definition>,
    has_status: bool,
    scale: Option<ScalePaths>,
    columns: Vec<CustomResourceColumnDefinition>,
    selectable: Vec<String>,
    deprecation: Option<String>,
}

/// `.spec.replicas` as a JSON pointer.
pub fn pointer(path: &str) -> String {
    path.replace('.', "/")
}

impl CustomKind {
    /// A version of a definition whose names are accepted.
    pub fn new(
        of: &CustomResourceDefinition,
        version: &CustomResourceDefinitionVersion,
        definition: Arc<Definition>,
    ) -> CustomKind {
        let group = &of.spec.group;
        let stored = of.spec.versions.iter().find(|v| v.storage).map_or("", |v| &v.name);
        let subresources = version.subresources.clone().unwrap_or_default();
        let scale = subresources.scale.map(|scale| ScalePaths {
            wanted: pointer(&scale.spec_replicas_path),
            actual: pointer(&scale.status_replicas_path),
            selector: scale.label_selector_path.as_deref().filter(|path| !path.is_empty()).map(pointer),
        });
        let api_version = format!("{group}/{}", version.name);
        let kind = of.status.accepted_names.kind.clone();
        let told = version.deprecation_warning.clone();
        let deprecation =
            version.deprecated.then(|| told.unwrap_or_else(|| format!("{api_version} {kind} is deprecated")));
        CustomKind {
            stored: format!("{group}/{stored}").into(),
            kind,
            definition,
            has_status: subresources.status.is_some(),
            scale,
            columns: version.additional_printer_columns.clone(),
            selectable: version
                .selectable_fields
                .iter()
                .map(|f| f.json_path.trim_start_matches('.').to_owned())
                .collect(),
            deprecation,
            api_version,
        }
    }

    fn of(object: &dyn Object) -> &JsonObject {
        object.as_any().downcast_ref().expect("a resource's objects are decoded by its own strategy")
    }

    fn of_mut(object: &mut dyn Object) -> &mut JsonObject {
        object.as_any_mut().downcast_mut().expect("a resource's objects are decoded by its own strategy")
    }

    /// What counts in a generation: all but the metadata, and but the status where that is written apart.
    fn desired(&self, object: &JsonObject) -> Map<String, Value> {
        let mut rest = object.tree.clone();
        if self.has_status {
            rest.shift_remove("status");
        }
        rest
    }

    /// Everything wrong by the schema; where nothing is, by its rules. Of a change, with what changed.
    fn problems(&self, new: &dyn Object, old: Option<&dyn Object>) -> Errors {
        let node = &self.definition.compiled().node;
        let object = Self::of(new);
        let found = check::check(node, &object.tree, old.map(|old| &Self::of(old).tree));
        if !found.is_empty() || !node.has_rules {
            return found;
        }
        let whole = |object: &JsonObject| {
            let mut tree = object.tree.clone();
            tree.insert("metadata".into(), skiff_proto::json::encode_value(&object.meta));
            tree
        };
        rules::broken(node, &whole(object), old.map(|old| whole(Self::of(old))).as_ref())
    }

    fn read(&self, mut tree: Map<String, Value>) -> Result<Decoded, DecodeError> {
        let meta = tree.shift_remove("metadata").unwrap_or_else(|| Value::Object(Map::new()));
        let (meta, problems) = skiff_proto::json::decode_value::<ObjectMeta>(&meta, Strictness::Warn)
            .map_err(|e| DecodeError::Malformed(format!("metadata.{e}")))?;
        let mut complaints: Vec<String> =
            problems.iter().map(|p| p.to_string().replacen('"', "\"metadata.", 1)).collect();
        complaints.extend(prune::prune(&self.definition.compiled().node, &mut tree).iter().map(ToString::to_string));
        tree.insert("apiVersion".into(), self.api_version.clone().into());
        tree.insert("kind".into(), self.kind.clone().into());
        Ok(Decoded { object: Box::new(JsonObject { tree, meta, stored_as: self.stored.clone() }), complaints })
    }
}

fn object(tree: Value) -> Result<Map<String, Value>, DecodeError> {
    match tree {
        Value::Object(map) => Ok(map),
        _ => Err(DecodeError::Malformed("the body is not a JSON object".into())),
    }
}

impl Strategy for CustomKind {
    fn stored_as(&self) -> ContentType {
        ContentType::Json
    }

    fn decode(&self, bytes: &[u8], content_type: &str) -> Result<Decoded, DecodeError> {
        match content_type {
            JSON => self.decode_tree(serde_json::from_slice(bytes).map_err(|e| DecodeError::Malformed(e.to_string()))?),
            YAML => self.decode_tree(yaml_to_tree(bytes)?),
            other => Err(DecodeError::ContentType(other.into())),
        }
    }

    fn decode_stored(&self, bytes: &[u8], _: ContentType) -> Result<Decoded, DecodeError> {
        let mut tree = object(serde_json::from_slice(bytes).map_err(|e| DecodeError::Malformed(e.to_string()))?)?;
        tree.shift_remove("apiVersion");
        let mut decoded = self.read(tree)?;
        self.default(decoded.object.as_mut());
        Ok(decoded)
    }

    fn json_of_stored(&self) -> ToJson {
        let (definition, api_version) = (self.definition.clone(), self.api_version.clone());
        Arc::new(move |bytes| match definition.compiled().has_defaults {
            true => definition.shown(bytes, &api_version),
            false => Ok(bytes::Bytes::copy_from_slice(bytes)),
        })
    }

    fn shown(&self, stored: &bytes::Bytes) -> Option<Result<bytes::Bytes, String>> {
        (*self.stored != self.api_version).then(|| self.definition.shown(stored, &self.api_version))
    }

    fn decode_tree(&self, tree: Value) -> Result<Decoded, DecodeError> {
        let tree = object(tree)?;
        for (field, wanted) in [("apiVersion", &self.api_version), ("kind", &self.kind)] {
            match tree.get(field) {
                None => {}
                Some(Value::String(found)) if found == wanted => {}
                Some(found) => {
                    return Err(DecodeError::Malformed(format!("{field} is {found} where {wanted:?} is expected")));
                }
            }
        }
        self.read(tree)
    }

    fn default(&self, object: &mut dyn Object) {
        self.definition.fill_in(&mut Self::of_mut(object).tree);
    }

    fn prepare_for_create(&self, object: &mut dyn Object) {
        if self.has_status {
            Self::of_mut(object).tree.shift_remove("status");
        }
    }

    fn prepare_for_update(&self, new: &mut dyn Object, old: &dyn Object) {
        if !self.has_status {
            return;
        }
        let new = Self::of_mut(new);
        new.tree.shift_remove("status");
        if let Some(status) = Self::of(old).tree.get("status") {
            new.tree.insert("status".into(), status.clone());
        }
    }

    fn prepare_for_status_update(&self, new: &mut dyn Object, old: &dyn Object) {
        let new = Self::of_mut(new);
        let status = new.tree.shift_remove("status");
        new.tree = self.desired(Self::of(old));
        if let Some(status) = status {
            new.tree.insert("status".into(), status);
        }
    }

    /// What holds depends on what was: see `validate_create` and `validate_update`.
    fn validate(&self, _object: &dyn Object) -> Errors {
        Errors::new()
    }

    fn validate_create(&self, object: &dyn Object) -> Errors {
        self.problems(object, None)
    }

    fn validate_update(&self, new: &dyn Object, old: &dyn Object) -> Errors {
        self.problems(new, Some(old))
    }

    fn validate_status_update(&self, new: &dyn Object, old: &dyn Object) -> Errors {
        self.problems(new, Some(old))
    }

    fn desired_changed(&self, new: &dyn Object, old: &dyn Object) -> bool {
        self.desired(Self::of(new)) != self.desired(Self::of(old))
    }

    fn selectable(&self) -> Vec<SelectableField> {
        self.selectable.iter().map(|path| SelectableField::new(path, &[], FieldKind::String)).collect()
    }

    fn warnings(&self, _object: &dyn Object) -> Vec<String> {
        self.deprecation.clone().into_iter().collect()
    }

    fn name_rule(&self) -> NameRule {
        validation::dns1123_subdomain
    }

    fn definition(&self) -> Option<&Arc<Definition>> {
        Some(&self.definition)
    }

    fn columns(&self) -> Option<Columns> {
        Some(columns::of_definition(&self.columns))
    }

    fn column_definitions(&self) -> &[CustomResourceColumnDefinition] {
        &self.columns
    }

    fn scale_paths(&self) -> Option<&ScalePaths> {
        self.scale.as_ref()
    }
}
