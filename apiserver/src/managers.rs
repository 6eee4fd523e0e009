//! Who manages which fields of an object: `metadata.managedFields` as plain data, and what writes make of it.
//!
//! Ownership is kept from an object's first apply on. An object that was never applied carries no managedFields, and
//! costs nothing; at its first apply everything in it belongs to `before-first-apply`.

use serde_json::Value;
use skiff_proto::Time;
use skiff_proto::apply::{BadFields, Changes, FieldSet, Step, compare, remove};
use skiff_proto::metav1::{ManagedFieldsEntry, ObjectMeta};
use skiff_proto::schema::Schema;
use std::sync::LazyLock;

/// Who owns what an object held before it was applied for the first time.
pub const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// How a manager came by its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum How {
    /// By applying a document that names them.
    Apply,
    /// By any other write that changed them.
    Update,
}

/// What tells one manager from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// The name it gives itself.
    pub name: String,
    /// How it writes.
    pub how: How,
    /// In which version it speaks of the fields: `apps/v1`.
    pub api_version: String,
    /// `""` or `status`.
    pub subresource: String,
}

/// A manager and its fields.
#[derive(Clone, Debug, PartialEq)]
pub struct Manager {
    /// Who it is.
    pub who: Who,
    /// When its set of fields last changed, or it last changed one of them.
    pub time: Option<Time>,
    /// What it owns.
    pub fields: FieldSet,
}

/// Fields of one manager that another wants to change.
#[derive(Clone, Debug, PartialEq)]
pub struct Conflict {
    /// The manager that owns them.
    pub with: Manager,
    /// What it would lose.
    pub fields: FieldSet,
}

/// All managers of an object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Managers(pub Vec<Manager>);

impl Managers {
    /// Reads an object's `managedFields`.
    pub fn read(meta: &ObjectMeta) -> Result<Managers, BadFields> {
        let read = |entry: &ManagedFieldsEntry| {
            Ok(Manager {
                who: Who {
                    name: entry.manager.clone(),
                    how: if entry.operation == "Apply" { How::Apply } else { How::Update },
                    api_version: entry.api_version.clone(),
                    subresource: entry.subresource.clone(),
                },
                time: entry.time,
                fields: entry.fields_v1.as_ref().map(FieldSet::from_fields_v1).transpose()?.unwrap_or_default(),
            })
        };
        meta.managed_fields.iter().map(read).collect::<Result<_, _>>().map(Managers)
    }

    /// As `managedFields` are written: appliers first, then by time.
    pub fn write(&self) -> Vec<ManagedFieldsEntry> {
        let mut managers: Vec<&Manager> = self.0.iter().filter(|m| !m.fields.is_empty()).collect();
        managers.sort_by_key(|m| (m.who.how, m.time.map(|t| t.unix()), m.who.name.clone(), m.who.subresource.clone()));
        let write = |m: &Manager| ManagedFieldsEntry {
            manager: m.who.name.clone(),
            operation: if m.who.how == How::Apply { "Apply".into() } else { "Update".into() },
            api_version: m.who.api_version.clone(),
            time: m.time,
            fields_type: "FieldsV1".into(),
            fields_v1: Some(m.fields.to_fields_v1()),
            subresource: m.who.subresource.clone(),
        };
        managers.into_iter().map(write).collect()
    }

    /// What a manager owns.
    pub fn fields_of(&self, who: &Who) -> Option<&FieldSet> {
        self.0.iter().find(|m| m.who == *who).map(|m| &m.fields)
    }

    /// Everything that is owned by anybody.
    fn all(&self) -> FieldSet {
        self.0.iter().fold(FieldSet::default(), |all, m| all.union(&m.fields))
    }

    /// Gives a manager a set of fields in place of the one it had.
    pub fn set(&mut self, who: &Who, fields: FieldSet, now: Time) {
        match self.0.iter_mut().find(|m| m.who == *who) {
            Some(manager) if manager.fields == fields => {}
            Some(manager) => (manager.fields, manager.time) = (fields, Some(now)),
            None => self.0.push(Manager { who: who.clone(), time: Some(now), fields }),
        }
    }

    /// A write that was no apply has changed fields: the writer owns what it set, others lose it, and nobody owns what
    /// is gone.
    pub fn updated(&mut self, who: &Who, changes: &Changes, now: Time) {
        let gained = owned_part(&changes.added.union(&changes.modified), &who.subresource);
        self.take_away(who, &gained, &changes.removed);
        if gained.is_empty() {
            return;
        }
        let mine = self.fields_of(who).map_or_else(|| gained.clone(), |mine| mine.union(&gained));
        self.set(who, mine.difference(&changes.removed), now);
        // Its values changed, though perhaps not its set.
        self.0.iter_mut().filter(|m| m.who == *who).for_each(|m| m.time = Some(now));
    }

    /// Which managers an apply that makes these changes is in conflict with.
    pub fn conflicts(&self, who: &Who, changes: &Changes) -> Vec<Conflict> {
        let changed = changes.added.union(&changes.modified);
        let of = |m: &Manager| Conflict { with: m.clone(), fields: m.fields.intersection(&changed) };
        self.0.iter().filter(|m| m.who != *who).map(of).filter(|c| !c.fields.is_empty()).collect()
    }

    /// An apply has made these changes, be it by force.
    pub fn applied(&mut self, who: &Who, changes: &Changes) {
        self.take_away(who, &changes.added.union(&changes.modified), &changes.removed);
    }

    fn take_away(&mut self, who: &Who, gained: &FieldSet, removed: &FieldSet) {
        for manager in &mut self.0 {
            let left = manager.fields.difference(removed);
            manager.fields = if manager.who == *who { left } else { left.difference(gained) };
        }
        self.0.retain(|m| !m.fields.is_empty());
    }

    /// Takes out of a document what a manager applied before, applies no longer, and nobody else owns. The managers are
    /// those after the apply.
    pub fn prune(&self, document: &mut Value, before: &FieldSet, schema: &Schema) {
        let dropped = before.with_parents().difference(&self.all().with_parents());
        if !dropped.is_empty() {
            remove(document, &dropped, schema);
        }
    }
}

/// What the server alone decides, so that nobody owns it.
static NOBODYS: LazyLock<FieldSet> = LazyLock::new(|| {
    let field = |name: &str| Step::Field(name.to_owned());
    let metadata = [
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
        "managedFields",
    ];
    let mut nobodys = FieldSet::default();
    ["apiVersion", "kind", "metadata"].iter().for_each(|name| nobodys.insert(&[field(name)]));
    metadata.iter().for_each(|name| nobodys.insert(&[field("metadata"), field(name)]));
    nobodys
});

/// What of a set of fields can be owned by who writes through this subresource.
pub fn owned_part(fields: &FieldSet, subresource: &str) -> FieldSet {
    if subresource == "status" {
        return fields.only("status");
    }
    fields.without("status").difference(&NOBODYS)
}

/// What is different between two forms of an object, as far as it can be owned.
pub fn changes(old: &Value, new: &Value, schema: &Schema) -> Changes {
    let found = compare(old, new, schema);
    let owned = |fields: &FieldSet| fields.difference(&NOBODYS);
    Changes { added: owned(&found.added), modified: owned(&found.modified), removed: owned(&found.removed) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use skiff_proto::apply::{fields_of, merge};

    fn schema() -> Schema {
        skiff_proto::schema::for_kind("", "v1", "ConfigMap").expect("built in")
    }

    fn applier(name: &str) -> Who {
        Who { name: name.into(), how: How::Apply, api_version: "v1".into(), subresource: String::new() }
    }

    fn updater(name: &str) -> Who {
        Who { how: How::Update, ..applier(name) }
    }

    fn at(seconds: i64) -> Time {
        Time::from_unix(seconds)
    }

    /// Applies data to an object as the registry does; what it conflicts with.
    fn apply(managers: &mut Managers, object: &mut Value, name: &str, data: Value) -> Vec<String> {
        let (schema, who) = (schema(), applier(name));
        let wanted = json!({ "data": data });
        let before = managers.fields_of(&who).cloned().unwrap_or_default();
        managers.set(&who, fields_of(&wanted, &schema).expect("good"), at(1));
        let mut new = object.clone();
        merge(&mut new, &wanted, &schema);
        managers.prune(&mut new, &before, &schema);
        let changes = changes(object, &new, &schema);
        let told = managers.conflicts(&who, &changes).iter().flat_map(|c| c.fields.paths()).collect();
        managers.applied(&who, &changes);
        *object = new;
        told
    }

    fn update(managers: &mut Managers, object: &mut Value, name: &str, data: Value) {
        let new = json!({ "data": data });
        managers.updated(&updater(name), &changes(object, &new, &schema()), at(2));
        *object = new;
    }

    fn owners(managers: &Managers) -> Vec<(String, Vec<String>)> {
        managers.write().iter().map(|m| m.manager.clone()).zip(managers.0.iter().map(|m| m.fields.paths())).collect()
    }

    #[test]
    fn what_is_no_longer_applied_goes_unless_another_owns_it() {
        let (mut managers, mut object) = (Managers::default(), json!({}));
        assert!(apply(&mut managers, &mut object, "a", json!({"x": "1", "y": "1"})).is_empty());
        assert!(
            apply(&mut managers, &mut object, "b", json!({"y": "1", "z": "1"})).is_empty(),
            "the same value is shared"
        );
        assert!(apply(&mut managers, &mut object, "a", json!({})).is_empty());
        assert_eq!(object, json!({"data": {"y": "1", "z": "1"}}));
    }

    #[test]
    fn another_managers_value_is_a_conflict_and_force_takes_it() {
        let (mut managers, mut object) = (Managers::default(), json!({}));
        apply(&mut managers, &mut object, "a", json!({"x": "1", "y": "1"}));
        assert_eq!(apply(&mut managers, &mut object, "b", json!({"x": "2"})), [".data.x"]);
        assert_eq!(
            owners(&managers),
            [("a".into(), vec![".data.y".to_owned()]), ("b".into(), vec![".data.x".to_owned()])]
        );
    }

    #[test]
    fn an_update_takes_what_it_changes_and_what_it_removes_is_nobodys() {
        let (mut managers, mut object) = (Managers::default(), json!({}));
        apply(&mut managers, &mut object, "a", json!({"x": "1", "y": "1", "z": "1"}));
        update(&mut managers, &mut object, "e", json!({"x": "2", "y": "1", "w": "1"}));
        assert_eq!(
            owners(&managers),
            [("a".into(), vec![".data.y".to_owned()]), ("e".into(), vec![".data.w".to_owned(), ".data.x".to_owned()])]
        );
        // What somebody else holds now stays when it is no longer applied.
        apply(&mut managers, &mut object, "a", json!({}));
        assert_eq!(object, json!({"data": {"x": "2", "w": "1"}}));
    }

    #[test]
    fn managers_survive_their_text_and_keep_their_time() {
        let (mut managers, mut object) = (Managers::default(), json!({}));
        apply(&mut managers, &mut object, "a", json!({"x": "1"}));
        let meta = ObjectMeta { managed_fields: managers.write(), ..Default::default() };
        assert_eq!(Managers::read(&meta).expect("readable"), managers);
        let fields = managers.0[0].fields.clone();
        managers.set(&applier("a"), fields, at(9));
        assert_eq!(managers.0[0].time, Some(at(1)), "nothing changed");
    }

    #[test]
    fn status_is_owned_through_its_subresource_only() {
        let document = json!({"apiVersion": "v1", "metadata": {"name": "x", "labels": {"a": "b"}}, "spec": {"nodeName": "n"}, "status": {"phase": "Running"}});
        let pod = skiff_proto::schema::for_kind("", "v1", "Pod").expect("built in");
        let all = fields_of(&document, &pod).expect("good");
        assert_eq!(owned_part(&all, "").paths(), [".metadata.labels.a", ".spec.nodeName"]);
        assert_eq!(owned_part(&all, "status").paths(), [".status.phase"]);
    }
}
