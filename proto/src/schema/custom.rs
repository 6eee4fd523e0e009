//! The Schema of a custom resource, made from what its CustomResourceDefinition says.
//!
//! A list or a map that is an item of a list or a value of a map is a field without a place of its own: its owners are
//! told apart as its own definition says, however deep it stands.

use super::{Field, ListType, Object, Presence, Schema, Shape, Type};
use crate::apiextensionsv1::JsonSchemaProps;

/// Deeper schemas are taken as they come from there.
const MAX_DEPTH: usize = 64;

impl Schema {
    /// The Schema of a kind. Its metadata is not in it: that is the same for all kinds.
    pub fn of_definition(kind: &str, schema: &JsonSchemaProps) -> Schema {
        let mut objects = Objects(Vec::new());
        let root = objects.add(kind, schema, 0);
        Schema { objects: super::Objects::Made(objects.0.into()), root }
    }
}

struct Objects(Vec<Object>);

impl Objects {
    /// Adds an object and all that is in it; its place.
    fn add(&mut self, name: &str, schema: &JsonSchemaProps, depth: usize) -> usize {
        let place = self.0.len();
        self.0.push(Object {
            name: name.to_owned().into(),
            description: schema.description.clone().into(),
            fields: Vec::new().into(),
            open: preserves(schema) || schema.x_embedded_resource,
            atomic: false,
        });
        let known = |name: &str| depth == 0 && ["apiVersion", "kind", "metadata"].contains(&name);
        let inside = schema.properties.iter().filter(|(name, _)| !known(name));
        let fields = inside.map(|(name, inner)| {
            let required = schema.required.contains(name);
            self.field(name, inner, required, depth + 1)
        });
        let fields: Vec<Field> = fields.collect();
        self.0[place].fields = fields.into();
        place
    }

    fn field(&mut self, name: &str, schema: &JsonSchemaProps, required: bool, depth: usize) -> Field {
        let (shape, of) = self.shape(name, schema, depth);
        let mut field = Field::new(name.to_owned(), shape, of);
        field.description = schema.description.clone().into();
        field.atomic = schema.x_map_type.as_deref() == Some("atomic");
        if required && !matches!(of, Type::Object(_)) {
            field.presence = Presence::Always;
        }
        if shape == Shape::List {
            field.list = match schema.x_list_type.as_deref() {
                Some("map") => ListType::Map,
                Some("set") => ListType::Set,
                _ => ListType::Atomic,
            };
            field.list_map_keys = schema.x_list_map_keys.iter().map(|key| key.clone().into()).collect();
        }
        if let Some(serde_json::Value::String(text)) = schema.default.as_ref().map(|d| d.value()) {
            field.default = text.into();
        }
        field
    }

    fn shape(&mut self, name: &str, schema: &JsonSchemaProps, depth: usize) -> (Shape, Type) {
        if depth > MAX_DEPTH {
            return (Shape::Single, Type::Any);
        }
        let item = schema.items.as_ref().and_then(|items| items.schema.as_deref());
        let value = schema.additional_properties.as_ref().and_then(|values| values.schema.as_deref());
        match (schema.r#type.as_str(), item, value) {
            ("array", Some(item), _) => (Shape::List, self.inner(name, item, depth)),
            ("object", _, Some(value)) if schema.properties.is_empty() => (Shape::Map, self.inner(name, value, depth)),
            _ => (Shape::Single, self.single(name, schema, depth)),
        }
    }

    /// The type of an item or a value. One that is a list or a map itself, or owned as a whole, keeps what is said of it.
    fn inner(&mut self, name: &str, schema: &JsonSchemaProps, depth: usize) -> Type {
        let field = self.field(name, schema, false, depth + 1);
        if field.shape == Shape::Single && !field.atomic {
            return field.of;
        }
        let place = self.0.len();
        self.0.push(Object {
            name: name.to_owned().into(),
            description: "".into(),
            fields: vec![field].into(),
            open: false,
            atomic: false,
        });
        Type::Nested(place)
    }

    fn single(&mut self, name: &str, schema: &JsonSchemaProps, depth: usize) -> Type {
        if schema.x_int_or_string {
            return Type::IntOrString;
        }
        match schema.r#type.as_str() {
            "boolean" => Type::Boolean,
            "integer" => Type::Integer,
            "number" => Type::Number,
            "string" => Type::String,
            "object" if !schema.properties.is_empty() || schema.x_embedded_resource => {
                Type::Object(self.add(name, schema, depth))
            }
            "object" if !preserves(schema) => Type::Object(self.add(name, schema, depth)),
            _ => Type::Any,
        }
    }
}

fn preserves(schema: &JsonSchemaProps) -> bool {
    schema.x_preserve_unknown_fields == Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_definition_says_what_there_is_to_know() {
        let definition = json!({"type": "object", "properties": {
            "metadata": {"type": "object"},
            "spec": {"type": "object", "description": "What is wanted.", "required": ["cron"], "properties": {
                "cron": {"type": "string"},
                "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"], "items": {
                    "type": "object", "properties": {"name": {"type": "string", "default": "http"}, "port": {"x-kubernetes-int-or-string": true}}}},
                "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
                "grid": {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}},
                "limits": {"type": "object", "additionalProperties": {"type": "integer"}},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                "whole": {"type": "object", "x-kubernetes-map-type": "atomic", "properties": {"a": {"type": "number"}}},
            }},
        }});
        let (definition, problems) =
            crate::json::decode_value::<JsonSchemaProps>(&definition, crate::json::Strictness::Warn).unwrap();
        assert_eq!(problems, []);
        let schema = Schema::of_definition("CronTab", &definition);
        assert_eq!(schema.root().name, "CronTab");
        assert!(schema.root().field("metadata").is_none());
        let of = |path: &[&str]| schema.field_at(path).map(|f| (f.shape, f.of, f.list)).unwrap();
        assert_eq!(schema.field_at(&["spec"]).unwrap().description, "What is wanted.");
        assert_eq!(schema.field_at(&["spec", "cron"]).unwrap().presence, Presence::Always);
        let ports = schema.field_at(&["spec", "ports"]).unwrap();
        assert_eq!(
            (ports.shape, ports.list, &*ports.list_map_keys),
            (Shape::List, ListType::Map, &["name".into()][..])
        );
        assert_eq!(schema.field_at(&["spec", "ports", "name"]).unwrap().default, "http");
        assert_eq!(of(&["spec", "ports", "port"]), (Shape::Single, Type::IntOrString, ListType::Atomic));
        assert_eq!(of(&["spec", "tags"]), (Shape::List, Type::String, ListType::Set));
        let row = schema.nested(schema.field_at(&["spec", "grid"]).unwrap()).unwrap();
        assert_eq!((row.shape, row.of, row.list), (Shape::List, Type::Integer, ListType::Atomic));
        assert_eq!(of(&["spec", "limits"]), (Shape::Map, Type::Integer, ListType::Atomic));
        assert_eq!(of(&["spec", "free"]), (Shape::Single, Type::Any, ListType::Atomic));
        assert!(schema.field_at(&["spec", "whole"]).unwrap().atomic);
    }
}
