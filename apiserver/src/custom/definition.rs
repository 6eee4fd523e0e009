//! One version of a custom resource as its definition has it: what is compiled of it, once, when it is first needed.

use super::prune;
use super::structural::Node;
use crate::resources::Errors;
use bytes::Bytes;
use prost::Message;
use serde_json::{Map, Value};
use skiff_proto::apiextensionsv1::{CustomResourceDefinition, CustomResourceDefinitionVersion, JsonSchemaProps};
use skiff_proto::schema::Schema;
use std::sync::OnceLock;

/// One version.
pub struct Definition {
    /// The name of the CustomResourceDefinition.
    pub name: String,
    /// The version's name.
    pub version: String,
    /// The CustomResourceDefinition as it is stored; the store's own bytes, not a copy.
    stored: Bytes,
    compiled: OnceLock<Compiled>,
}

/// What is made of it.
pub struct Compiled {
    /// By which objects are pruned, filled in and checked.
    pub node: Node,
    /// By which they are merged.
    pub schema: Schema,
    /// Whether anything is ever filled in.
    pub has_defaults: bool,
}

impl Definition {
    /// A version of a stored definition.
    pub fn new(name: &str, version: &str, stored: Bytes) -> Definition {
        Definition { name: name.into(), version: version.into(), stored, compiled: OnceLock::new() }
    }

    fn read(&self) -> Option<(String, CustomResourceDefinitionVersion)> {
        let found = CustomResourceDefinition::decode(self.stored.as_ref()).ok()?;
        let kind = found.spec.names.kind.clone();
        found.spec.versions.into_iter().find(|v| v.name == self.version).map(|version| (kind, version))
    }

    /// Its schema as it was written.
    pub fn schema(&self) -> JsonSchemaProps {
        let version = self.read().map(|(_, version)| version);
        version
            .map(schema_of)
            .unwrap_or_else(|| JsonSchemaProps { x_preserve_unknown_fields: Some(true), ..Default::default() })
    }

    /// What is made of it.
    pub fn compiled(&self) -> &Compiled {
        self.compiled.get_or_init(|| {
            let (kind, version) = self.read().unwrap_or_default();
            let schema = schema_of(version);
            // What cannot be compiled was refused when the definition was written.
            let node = Node::compile(&schema, "", &mut Errors::new());
            let has_defaults = node.has_defaults();
            Compiled { node, schema: Schema::of_definition(&kind, &schema), has_defaults }
        })
    }

    /// Fills in an object.
    pub fn fill_in(&self, object: &mut Map<String, Value>) {
        prune::default(&self.compiled().node, object);
    }

    /// A stored object as this version shows it: without what the schema does not name any more, and with what it has
    /// begun to fill in since.
    pub fn shown(&self, stored: &[u8], api_version: &str) -> Result<Bytes, String> {
        let mut object: Map<String, Value> = serde_json::from_slice(stored).map_err(|e| e.to_string())?;
        object.insert("apiVersion".into(), api_version.into());
        prune::prune(&self.compiled().node, &mut object);
        self.fill_in(&mut object);
        serde_json::to_vec(&object).map(Bytes::from).map_err(|e| e.to_string())
    }
}

fn schema_of(version: CustomResourceDefinitionVersion) -> JsonSchemaProps {
    version.schema.and_then(|schema| schema.open_apiv3_schema).map(|schema| *schema).unwrap_or_default()
}
