//! What is known of a kind's fields, as plain data: for built-in kinds made from the descriptors,
//! for others at run time. Merging, patches, strict reading and `explain` look here and nowhere else.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use serde_json::Value;

use crate::json::Problem;

mod custom;

/// The fields of one kind, and of everything inside it.
#[derive(Clone, Debug)]
pub struct Schema {
    objects: Objects,
    root: usize,
}

#[derive(Clone, Debug)]
enum Objects {
    BuiltIn,
    Made(Arc<[Object]>),
}

/// One kind of JSON object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its name: `Container`.
    pub name: Cow<'static, str>,
    /// What it is for.
    pub description: Cow<'static, str>,
    /// Its fields in the order in which they are written.
    pub fields: Cow<'static, [Field]>,
    /// Fields that are not listed are kept as they are.
    pub open: bool,
    /// Server-side apply replaces it as a whole, wherever it stands.
    pub atomic: bool,
}

/// One field of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name in JSON.
    pub name: Cow<'static, str>,
    /// What it means.
    pub description: Cow<'static, str>,
    /// One value, a list or a map of them.
    pub shape: Shape,
    /// What each value is.
    pub of: Type,
    /// When it is written.
    pub presence: Presence,
    /// How a patch merges it.
    pub merge: Merge,
    /// The field that identifies an item of a merged list of objects; empty for lists of scalars.
    pub merge_key: Cow<'static, str>,
    /// How server-side apply treats a list.
    pub list: ListType,
    /// The fields that identify an item of a list of type map.
    pub list_map_keys: Cow<'static, [Cow<'static, str>]>,
    /// Server-side apply replaces the object or map as a whole.
    pub atomic: bool,
    /// What is not in the patch is dropped from the object (a union of which one member is set).
    pub retain_keys: bool,
    /// May not change once the object exists.
    pub immutable: bool,
    /// What an absent value means, where it identifies an item of a list: `TCP`. Empty: nothing.
    pub default: Cow<'static, str>,
}

/// When a field is written, as Go's three ways to declare it have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// When it was set, be it to zero: a pointer.
    WhenSet,
    /// When it is neither zero nor empty.
    WhenNonZero,
    /// Always, so it counts as required.
    Always,
}

/// How server-side apply treats a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListType {
    /// One owner for all of it.
    Atomic,
    /// Items are owned one by one.
    Set,
    /// Items are owned by their keys, and their fields one by one.
    Map,
}

/// How many values a field has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One.
    Single,
    /// A list.
    List,
    /// A map with text keys.
    Map,
}

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// true or false
    Boolean,
    /// a whole number
    Integer,
    /// a number
    Number,
    /// text
    String,
    /// bytes in base64
    Bytes,
    /// an RFC 3339 time
    Time,
    /// an amount like `500m` or `64Mi`
    Quantity,
    /// a whole number, or text like `25%`
    IntOrString,
    /// anything
    Any,
    /// an object, by its place in the Schema
    Object(usize),
    /// a list or a map in a list or a map: what the only field of the object at this place says
    Nested(usize),
}

impl std::fmt::Display for Type {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Type::Boolean => "boolean",
            Type::Integer => "integer",
            Type::Number => "number",
            Type::String | Type::Time => "string",
            Type::Bytes => "string (base64)",
            Type::Quantity => "quantity",
            Type::IntOrString => "integer or string",
            Type::Any => "any value",
            Type::Object(_) => "object",
            Type::Nested(_) => "list or map",
        })
    }
}

/// How a strategic merge patch treats a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    /// Objects and maps are merged, everything else replaced.
    Default,
    /// A list is merged: by its merge key, or as a set of scalars.
    List,
    /// An object or a map is replaced as a whole.
    Replace,
}

static BUILT_IN: &[Object] = &include!(concat!(env!("OUT_DIR"), "/schema.rs"));

/// Which object of [`BUILT_IN`] is the root of which kind.
static KINDS: &[(&str, &str, &str, usize)] = &include!(concat!(env!("OUT_DIR"), "/schema_kinds.rs"));

/// The Schema of a built-in kind.
pub fn for_kind(group: &str, version: &str, kind: &str) -> Option<Schema> {
    let found = KINDS.iter().find(|(g, v, k, _)| (*g, *v, *k) == (group, version, kind))?;
    Some(Schema { objects: Objects::BuiltIn, root: found.3 })
}

/// The Schema of a kind that has the metadata of all objects: those that are made at run time do without it.
pub fn with_metadata() -> &'static Schema {
    static PLAIN: LazyLock<Schema> =
        LazyLock::new(|| for_kind("", "v1", "ConfigMap").expect("a kind that is built in"));
    &PLAIN
}

/// Deeper documents are not looked into.
const MAX_DEPTH: usize = 128;
/// More problems than anybody reads are not collected.
const MAX_PROBLEMS: usize = 100;

impl Schema {
    /// A Schema made at run time; fields refer to objects by their place in the list. `None` when
    /// one refers to a place that does not exist.
    pub fn new(objects: Vec<Object>, root: usize) -> Option<Schema> {
        let inside = |f: &Field| !matches!(f.of, Type::Object(i) | Type::Nested(i) if i >= objects.len());
        let nests = |f: &Field| !matches!(f.of, Type::Nested(i) if objects[i].fields.is_empty());
        let every = |is: &dyn Fn(&Field) -> bool| objects.iter().all(|o| o.fields.iter().all(is));
        let sound = root < objects.len() && every(&inside) && every(&nests);
        sound.then(|| Schema { objects: Objects::Made(objects.into()), root })
    }

    /// The kind's own object.
    pub fn root(&self) -> &Object {
        self.object(self.root)
    }

    /// One of the objects inside.
    pub fn object(&self, index: usize) -> &Object {
        match &self.objects {
            Objects::BuiltIn => &BUILT_IN[index],
            Objects::Made(objects) => &objects[index],
        }
    }

    /// The object that a field holds, or whose items or values it holds.
    pub fn object_of(&self, field: &Field) -> Option<&Object> {
        match field.of {
            Type::Object(index) => Some(self.object(index)),
            _ => None,
        }
    }

    /// What the items or values of a field are, where they are lists or maps themselves.
    pub fn nested(&self, field: &Field) -> Option<&Field> {
        match field.of {
            Type::Nested(index) => self.object(index).fields.first(),
            _ => None,
        }
    }

    /// The object that a field holds, through however many lists and maps.
    pub fn object_within(&self, field: &Field) -> Option<&Object> {
        match self.nested(field) {
            Some(inner) => self.object_within(inner),
            None => self.object_of(field),
        }
    }

    /// The field at a path of names: `["spec", "template"]`. Lists and maps are looked through.
    pub fn field_at<'s>(&'s self, path: &[&str]) -> Option<&'s Field> {
        let mut object = self.root();
        let (last, before) = path.split_last()?;
        for name in before {
            object = self.object_within(object.field(name)?)?;
        }
        object.field(last)
    }

    /// Removes the fields that the Schema does not know, and names each with its path.
    pub fn prune(&self, value: &mut Value) -> Vec<Problem> {
        let mut problems = vec![];
        self.prune_object(value, self.root(), "", 0, &mut problems);
        problems
    }

    fn prune_object(&self, value: &mut Value, object: &Object, path: &str, depth: usize, problems: &mut Vec<Problem>) {
        let Value::Object(map) = value else { return };
        if depth > MAX_DEPTH {
            return;
        }
        let at = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        let is_meta = |name: &str| depth == 0 && ["apiVersion", "kind", "metadata"].contains(&name);
        if !object.open {
            let names: Vec<&str> = object.fields.iter().map(|f| &*f.name).collect();
            map.retain(|name, _| {
                let known = is_meta(name) || names.contains(&name.as_str());
                if !known && problems.len() < MAX_PROBLEMS {
                    problems.push(Problem::unknown(at(name), name, &names));
                }
                known
            });
        }
        for (name, value) in map.iter_mut() {
            let Some(field) = object.field(name) else { continue };
            let Some(inner) = self.object_of(field) else { continue };
            match (field.shape, value) {
                (Shape::Single, value) => self.prune_object(value, inner, &at(name), depth + 1, problems),
                (Shape::List, Value::Array(items)) => {
                    for (i, item) in items.iter_mut().enumerate() {
                        self.prune_object(item, inner, &format!("{}[{i}]", at(name)), depth + 1, problems);
                    }
                }
                (Shape::Map, Value::Object(values)) => {
                    for (key, value) in values.iter_mut() {
                        self.prune_object(value, inner, &format!("{}[{key}]", at(name)), depth + 1, problems);
                    }
                }
                _ => {}
            }
        }
    }
}

impl Object {
    /// A field by its name in JSON.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|f| f.name == name)
    }
}

impl Field {
    /// A field of one value of a type, as Schemas made at run time begin.
    pub fn new(name: impl Into<Cow<'static, str>>, shape: Shape, of: Type) -> Field {
        Field {
            name: name.into(),
            description: Cow::Borrowed(""),
            shape,
            of,
            presence: Presence::WhenNonZero,
            merge: Merge::Default,
            merge_key: Cow::Borrowed(""),
            list: ListType::Atomic,
            list_map_keys: Cow::Borrowed(&[]),
            atomic: false,
            retain_keys: false,
            immutable: false,
            default: Cow::Borrowed(""),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn built_in_kinds_know_their_merge_keys() {
        let pod = for_kind("", "v1", "Pod").unwrap();
        let containers = pod.field_at(&["spec", "containers"]).unwrap();
        assert_eq!((containers.merge, &*containers.merge_key), (Merge::List, "name"));
        let ports = pod.field_at(&["spec", "containers", "ports"]).unwrap();
        assert_eq!((ports.merge, &*ports.merge_key), (Merge::List, "containerPort"));
        let volumes = pod.field_at(&["spec", "volumes"]).unwrap();
        assert!(volumes.retain_keys && volumes.merge == Merge::List);
        // What JSON inlines stands beside its parent's fields.
        assert!(pod.field_at(&["spec", "volumes", "emptyDir", "medium"]).is_some());
        let args = pod.field_at(&["spec", "containers", "args"]).unwrap();
        assert_eq!((args.shape, args.of, args.merge), (Shape::List, Type::String, Merge::Default));
        let limits = pod.field_at(&["spec", "containers", "resources", "limits"]).unwrap();
        assert_eq!((limits.shape, limits.of), (Shape::Map, Type::Quantity));
        let finalizers = pod.field_at(&["metadata", "finalizers"]).unwrap();
        assert_eq!((finalizers.merge, &*finalizers.merge_key), (Merge::List, ""));
        let presence = |path: &[&str]| pod.field_at(path).unwrap().presence;
        assert_eq!(presence(&["spec", "terminationGracePeriodSeconds"]), Presence::WhenSet);
        assert_eq!(presence(&["spec", "hostNetwork"]), Presence::WhenNonZero);
        assert_eq!(presence(&["status", "containerStatuses", "restartCount"]), Presence::Always);
        assert!(containers.description.contains("programs to run"), "comments in the .proto files are descriptions");
        assert!(for_kind("apps", "v1", "Deployment").is_some());
        assert!(for_kind("apps", "v1", "Pod").is_none());
    }

    #[test]
    fn pruning_names_what_it_drops() {
        let pod = for_kind("", "v1", "Pod").unwrap();
        let mut value = json!({"kind": "Pod", "metadata": {"name": "x", "labelz": {}}, "spec": {"containers": [{"name": "a", "imag": "b"}]}});
        let told: Vec<String> = pod.prune(&mut value).iter().map(Problem::to_string).collect();
        assert_eq!(told, ["unknown field \"metadata.labelz\"", "unknown field \"spec.containers[0].imag\""]);
        assert_eq!(value, json!({"kind": "Pod", "metadata": {"name": "x"}, "spec": {"containers": [{"name": "a"}]}}));
    }

    #[test]
    fn schemas_are_made_at_run_time() {
        let object = |name: &'static str, fields: Vec<Field>| Object {
            name: name.into(),
            description: "".into(),
            fields: fields.into(),
            open: false,
            atomic: false,
        };
        let objects = vec![
            object("Backup", vec![Field::new("spec", Shape::Single, Type::Object(1))]),
            object("BackupSpec", vec![Field::new("keep", Shape::Single, Type::Integer)]),
        ];
        assert!(Schema::new(objects.clone(), 2).is_none());
        let schema = Schema::new(objects, 0).unwrap();
        let mut value = json!({"apiVersion": "x/v1", "kind": "Backup", "metadata": {"name": "b"}, "spec": {"keep": 1, "kep": 2}, "more": 1});
        assert_eq!(schema.prune(&mut value).len(), 2);
        assert_eq!(value["spec"], json!({"keep": 1}));
        assert_eq!(value["metadata"], json!({"name": "b"}));
    }
}
