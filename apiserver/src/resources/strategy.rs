//! What is particular to a kind. `Strategy` is what the registry calls, on any object; `KindStrategy` is what a built-in
//! kind's file implements, on its own struct; `StrategyFor` joins the two.

use super::field_error::Errors;
use super::object::{Object, Typed};
use super::validation::NameRule;
use super::{JSON, PROTOBUF, YAML};
use crate::cache::{FieldKind, SelectableField, ToJson};
use crate::custom::{Definition, ScalePaths};
use crate::envelope::ContentType;
use skiff_proto::Kind;
use skiff_proto::apiextensionsv1::CustomResourceColumnDefinition;
use skiff_proto::columns::Columns;
use skiff_proto::json::{Problem, Strictness};
use skiff_proto::yaml::Document;
use std::marker::PhantomData;
use std::sync::Arc;

/// A decoded body, with what strict validation complains about (`unknown field "spec.x"`).
pub struct Decoded {
    /// The object.
    pub object: Box<dyn Object>,
    /// Unknown and duplicate fields, with their paths.
    pub complaints: Vec<String>,
}

/// A body that is no object of its kind.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The content type is not one of those that can be read.
    #[error("content type {0:?} cannot be read")]
    ContentType(String),
    /// The bytes do not decode.
    #[error("{0}")]
    Malformed(String),
}

/// Fields that can be selected beside `metadata.name` and `metadata.namespace`: the path, the same path in protobuf field
/// numbers, and what is there.
pub type SelectableFields = &'static [(&'static str, &'static [u32], FieldKind)];

/// What the registry asks of a kind, object by object.
pub trait Strategy: Send + Sync {
    /// How objects are stored.
    fn stored_as(&self) -> ContentType;
    /// Reads a body of a content type.
    fn decode(&self, bytes: &[u8], content_type: &str) -> Result<Decoded, DecodeError>;
    /// Reads an object as it is stored.
    fn decode_stored(&self, bytes: &[u8], content_type: ContentType) -> Result<Decoded, DecodeError> {
        self.decode(bytes, content_type.as_str())
    }
    /// Makes JSON of the stored form.
    fn json_of_stored(&self) -> ToJson;
    /// The JSON of a stored object in this version, where that is another than the one that is stored.
    fn shown(&self, _json: &bytes::Bytes) -> Option<Result<bytes::Bytes, String>> {
        None
    }
    /// Reads a JSON tree.
    fn decode_tree(&self, tree: serde_json::Value) -> Result<Decoded, DecodeError>;
    /// Fills in defaults.
    fn default(&self, object: &mut dyn Object);
    /// Clears what a creator may not set.
    fn prepare_for_create(&self, object: &mut dyn Object);
    /// Restores what an update of the main resource may not set; its status above all.
    fn prepare_for_update(&self, new: &mut dyn Object, old: &dyn Object);
    /// Makes `new` what a write of the status subresource means: the old object with the new status.
    fn prepare_for_status_update(&self, new: &mut dyn Object, old: &dyn Object);
    /// Everything wrong with an object, its metadata aside.
    fn validate(&self, object: &dyn Object) -> Errors;
    /// Everything wrong with a new object, beside what `validate` says of it.
    fn validate_create(&self, _object: &dyn Object) -> Errors {
        Errors::new()
    }
    /// Everything wrong with a change, beside what `validate` says of the new object.
    fn validate_update(&self, new: &dyn Object, old: &dyn Object) -> Errors;
    /// Everything wrong with a change of status.
    fn validate_status_update(&self, new: &dyn Object, old: &dyn Object) -> Errors;
    /// Whether the change is one of what is desired, and counts in `metadata.generation`.
    fn desired_changed(&self, new: &dyn Object, old: &dyn Object) -> bool;
    /// The selectable fields.
    fn selectable(&self) -> Vec<SelectableField>;
    /// What is set, known, and not honoured.
    fn warnings(&self, object: &dyn Object) -> Vec<String>;
    /// The rule for names.
    fn name_rule(&self) -> NameRule;
    /// How long an object may take its leave when it is deleted, asked for `requested` seconds. 0: goes at once.
    fn grace_period(&self, _object: &dyn Object, _requested: Option<i64>) -> i64 {
        0
    }
    /// Marks an object as being deleted, beyond its metadata.
    fn begin_deletion(&self, _object: &mut dyn Object) {}
    /// Whether something beside the metadata's finalizers still holds a deleted object.
    fn is_held(&self, _object: &dyn Object) -> bool {
        false
    }
    /// Whether an update without a resourceVersion is taken (and applied to the newest object).
    fn allows_unconditional_update(&self) -> bool {
        true
    }
    /// Whether generations are counted.
    fn counts_generations(&self) -> bool {
        true
    }
    /// What defines the kind, if it is a custom resource.
    fn definition(&self) -> Option<&Arc<Definition>> {
        None
    }
    /// The columns of a list, if they are the kind's own.
    fn columns(&self) -> Option<Columns> {
        None
    }
    /// The same as their definition has them.
    fn column_definitions(&self) -> &[CustomResourceColumnDefinition] {
        &[]
    }
    /// Where the numbers of a Scale stand, if not where everybody has them.
    fn scale_paths(&self) -> Option<&ScalePaths> {
        None
    }
}

/// The strategy of a kind with a Rust struct. The defaults suit a kind that is plain data.
pub trait KindStrategy: Send + Sync + 'static {
    /// The kind.
    type Kind: Kind;
    /// Selectable fields beside the metadata's.
    const SELECTABLE: SelectableFields = &[];
    /// Whether generations are counted.
    const GENERATIONS: bool = false;
    /// Whether an update without a resourceVersion is taken.
    const UNCONDITIONAL_UPDATE: bool = true;

    /// Fills in defaults.
    fn default(&self, _object: &mut Self::Kind) {}
    /// Clears what a creator may not set.
    fn prepare_for_create(&self, _object: &mut Self::Kind) {}
    /// Restores what an update may not set.
    fn prepare_for_update(&self, _new: &mut Self::Kind, _old: &Self::Kind) {}
    /// Moves the status of `from` into `onto`. Kinds without a status leave it.
    fn take_status(&self, _from: Self::Kind, _onto: &mut Self::Kind) {}
    /// Everything wrong with an object.
    fn validate(&self, object: &Self::Kind) -> Errors;
    /// Everything wrong with a new object.
    fn validate_create(&self, _object: &Self::Kind) -> Errors {
        Errors::new()
    }
    /// Everything wrong with a change.
    fn validate_update(&self, _new: &Self::Kind, _old: &Self::Kind) -> Errors {
        Errors::new()
    }
    /// Everything wrong with a change of status.
    fn validate_status_update(&self, _new: &Self::Kind, _old: &Self::Kind) -> Errors {
        Errors::new()
    }
    /// Whether what is desired changed.
    fn desired_changed(&self, _new: &Self::Kind, _old: &Self::Kind) -> bool {
        false
    }
    /// What is set, known, and not honoured.
    fn warnings(&self, _object: &Self::Kind) -> Vec<String> {
        Vec::new()
    }
    /// The rule for names.
    fn name_rule(&self) -> NameRule {
        super::validation::dns1123_subdomain
    }
    /// How long an object may take its leave, asked for `requested` seconds. 0: goes at once.
    fn grace_period(&self, _object: &Self::Kind, _requested: Option<i64>) -> i64 {
        0
    }
    /// Marks an object as being deleted, beyond its metadata.
    fn begin_deletion(&self, _object: &mut Self::Kind) {}
    /// Whether something beside the metadata's finalizers still holds a deleted object.
    fn is_held(&self, _object: &Self::Kind) -> bool {
        false
    }
}

/// A `KindStrategy` as a `Strategy`.
pub struct StrategyFor<S: KindStrategy>(pub S, PhantomData<S::Kind>);

impl<S: KindStrategy> StrategyFor<S> {
    /// Wraps a kind's strategy.
    pub fn new(strategy: S) -> Self {
        Self(strategy, PhantomData)
    }

    fn of(object: &dyn Object) -> &S::Kind {
        &object
            .as_any()
            .downcast_ref::<Typed<S::Kind>>()
            .expect("a resource's objects are decoded by its own strategy")
            .0
    }

    fn of_mut(object: &mut dyn Object) -> &mut S::Kind {
        &mut object
            .as_any_mut()
            .downcast_mut::<Typed<S::Kind>>()
            .expect("a resource's objects are decoded by its own strategy")
            .0
    }
}

impl<S: KindStrategy> Strategy for StrategyFor<S> {
    fn stored_as(&self) -> ContentType {
        ContentType::Protobuf
    }

    fn decode(&self, bytes: &[u8], content_type: &str) -> Result<Decoded, DecodeError> {
        match content_type {
            PROTOBUF => match skiff_proto::protobuf::decode::<S::Kind>(bytes) {
                Ok(kind) => Ok(Decoded { object: Box::new(Typed(kind)), complaints: Vec::new() }),
                Err(error) => Err(DecodeError::Malformed(format!("the protobuf body is malformed: {error}"))),
            },
            JSON => decode_json::<S::Kind>(bytes),
            YAML => read(yaml_document(bytes)?.decode::<S::Kind>(Strictness::Warn)),
            other => Err(DecodeError::ContentType(other.into())),
        }
    }

    fn json_of_stored(&self) -> ToJson {
        Arc::new(|bytes| {
            let kind = <S::Kind as prost::Message>::decode(bytes).map_err(|e| e.to_string())?;
            Ok(skiff_proto::json::encode(&kind).into())
        })
    }

    fn decode_tree(&self, tree: serde_json::Value) -> Result<Decoded, DecodeError> {
        read(skiff_proto::json::decode_value::<S::Kind>(&tree, Strictness::Warn))
    }

    fn default(&self, object: &mut dyn Object) {
        self.0.default(Self::of_mut(object));
    }

    fn prepare_for_create(&self, object: &mut dyn Object) {
        self.0.prepare_for_create(Self::of_mut(object));
    }

    fn prepare_for_update(&self, new: &mut dyn Object, old: &dyn Object) {
        self.0.prepare_for_update(Self::of_mut(new), Self::of(old));
    }

    fn prepare_for_status_update(&self, new: &mut dyn Object, old: &dyn Object) {
        let new = Self::of_mut(new);
        let mut onto = Self::of(old).clone();
        // The metadata was merged before: what of it a status write may change stands in `new`.
        *onto.metadata_mut() = new.metadata().clone();
        let from = std::mem::take(new);
        self.0.take_status(from, &mut onto);
        *new = onto;
    }

    fn validate(&self, object: &dyn Object) -> Errors {
        self.0.validate(Self::of(object))
    }

    fn validate_create(&self, object: &dyn Object) -> Errors {
        self.0.validate_create(Self::of(object))
    }

    fn validate_update(&self, new: &dyn Object, old: &dyn Object) -> Errors {
        self.0.validate_update(Self::of(new), Self::of(old))
    }

    fn validate_status_update(&self, new: &dyn Object, old: &dyn Object) -> Errors {
        self.0.validate_status_update(Self::of(new), Self::of(old))
    }

    fn desired_changed(&self, new: &dyn Object, old: &dyn Object) -> bool {
        self.0.desired_changed(Self::of(new), Self::of(old))
    }

    fn selectable(&self) -> Vec<SelectableField> {
        S::SELECTABLE.iter().map(|(path, numbers, kind)| SelectableField::new(path, numbers, *kind)).collect()
    }

    fn warnings(&self, object: &dyn Object) -> Vec<String> {
        self.0.warnings(Self::of(object))
    }

    fn name_rule(&self) -> NameRule {
        self.0.name_rule()
    }

    fn grace_period(&self, object: &dyn Object, requested: Option<i64>) -> i64 {
        self.0.grace_period(Self::of(object), requested)
    }

    fn begin_deletion(&self, object: &mut dyn Object) {
        self.0.begin_deletion(Self::of_mut(object));
    }

    fn is_held(&self, object: &dyn Object) -> bool {
        self.0.is_held(Self::of(object))
    }

    fn allows_unconditional_update(&self) -> bool {
        S::UNCONDITIONAL_UPDATE
    }

    fn counts_generations(&self) -> bool {
        S::GENERATIONS
    }
}

/// Reads one YAML document as a JSON tree; of duplicate keys the last one counts.
pub fn yaml_to_tree(bytes: &[u8]) -> Result<serde_json::Value, DecodeError> {
    yaml_document(bytes).map(|document| document.to_json())
}

/// Reads a body that is one YAML document.
pub fn yaml_document(bytes: &[u8]) -> Result<Document, DecodeError> {
    let malformed = |what: String| DecodeError::Malformed(what);
    let text = std::str::from_utf8(bytes).map_err(|e| malformed(format!("the body is not UTF-8: {e}")))?;
    let mut documents =
        skiff_proto::yaml::parse_documents(text, &Default::default()).map_err(|e| malformed(e.to_string()))?;
    match (documents.pop(), documents.is_empty()) {
        (Some(document), true) => Ok(document),
        (Some(_), false) => Err(malformed("the body holds more than one YAML document".into())),
        (None, _) => Err(malformed("the body holds no YAML document".into())),
    }
}

fn decode_json<K: Kind>(bytes: &[u8]) -> Result<Decoded, DecodeError> {
    read(skiff_proto::json::decode::<K>(bytes, Strictness::Warn))
}

fn read<K: Kind>(read: Result<(K, Vec<Problem>), skiff_proto::json::DecodeError>) -> Result<Decoded, DecodeError> {
    match read {
        Ok((kind, problems)) => Ok(Decoded {
            object: Box::new(Typed(kind)),
            complaints: problems.iter().map(ToString::to_string).collect(),
        }),
        Err(error) => Err(DecodeError::Malformed(error.to_string())),
    }
}
