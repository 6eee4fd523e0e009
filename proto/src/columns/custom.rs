//! The columns of custom resources, as their definition names them.

use super::{Cells, Column, Columns, age, typed};
use crate::apiextensionsv1::CustomResourceColumnDefinition;
use crate::jsonpath::JsonPath;
use jiff::Timestamp;
use serde_json::Value;

/// How one cell is made.
pub(super) struct Cell {
    kind: Kind,
    path: Option<JsonPath>,
}

#[derive(Clone, Copy)]
enum Kind {
    Text,
    Integer,
    Number,
    Boolean,
    Date,
}

impl Kind {
    fn parse(name: &str) -> Kind {
        match name {
            "integer" => Kind::Integer,
            "number" => Kind::Number,
            "boolean" => Kind::Boolean,
            "date" => Kind::Date,
            _ => Kind::Text,
        }
    }
}

impl Cell {
    fn new(kind: Kind, path: &str) -> Cell {
        Cell { kind, path: JsonPath::parse(path).ok() }
    }

    /// The first value that the path finds, if it is of the column's type; nothing else.
    pub(super) fn of(&self, object: &Value, now: Timestamp) -> String {
        let Some(found) = self.path.as_ref().and_then(|path| path.first(object)) else { return String::new() };
        match (self.kind, found) {
            (Kind::Text, Value::String(text)) => text.clone(),
            (Kind::Text, Value::Null) => String::new(),
            (Kind::Text, other) => other.to_string(),
            (Kind::Integer, Value::Number(n)) => whole(n),
            (Kind::Number, Value::Number(n)) => n.to_string(),
            (Kind::Boolean, Value::Bool(b)) => b.to_string(),
            (Kind::Date, Value::String(text)) => match text.parse::<Timestamp>() {
                Ok(_) => age::since(Some(found), now),
                Err(_) => "<invalid>".to_owned(),
            },
            _ => String::new(),
        }
    }
}

/// A number without what is behind its point.
fn whole(number: &serde_json::Number) -> String {
    match number.as_f64().filter(|_| number.is_f64()) {
        Some(n) => (n.trunc() as i64).to_string(),
        None => number.to_string(),
    }
}

/// The columns that a definition names, behind the name; the age where it names none.
pub fn of_definition(definition: &[CustomResourceColumnDefinition]) -> Columns {
    let mut columns = vec![super::NAME];
    let mut cells = vec![Cell::new(Kind::Text, ".metadata.name")];
    if definition.is_empty() {
        columns.push(typed("Age", "date", 0));
        cells.push(Cell::new(Kind::Date, ".metadata.creationTimestamp"));
    }
    for one in definition {
        columns.push(Column {
            name: one.name.clone().into(),
            kind: one.r#type.clone().into(),
            format: one.format.clone().into(),
            description: one.description.clone().into(),
            priority: one.priority,
        });
        cells.push(Cell::new(Kind::parse(&one.r#type), &one.json_path));
    }
    Columns { columns: columns.into(), cells: Cells::Custom(cells) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn cells_are_what_the_columns_say() {
        let object = json!({
            "metadata": {"name": "nightly", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"replicas": 3, "share": 0.5, "big": 2.9, "on": false, "cron": "* * * * *", "list": [1, 2], "map": {"a": 1}},
            "status": {"conditions": [{"type": "Other", "status": "True"}, {"type": "Ready", "status": "False"}]},
        });
        let now: Timestamp = "2026-01-01T01:00:00Z".parse().expect("a time");
        for (kind, path, wanted) in [
            ("string", ".spec.cron", "* * * * *"),
            ("string", ".spec.replicas", "3"),
            ("string", ".spec.map", "{\"a\":1}"),
            ("string", ".spec.list[1]", "2"),
            ("string", ".spec.none", ""),
            ("integer", ".spec.replicas", "3"),
            ("integer", ".spec.big", "2"),
            ("integer", ".spec.cron", ""),
            ("number", ".spec.share", "0.5"),
            ("boolean", ".spec.on", "false"),
            ("boolean", ".spec.cron", ""),
            ("date", ".metadata.creationTimestamp", "60m"),
            ("date", ".spec.cron", "<invalid>"),
            ("date", ".spec.none", ""),
            ("string", ".status.conditions[?(@.type==\"Ready\")].status", "False"),
            ("string", ".status.conditions[*].type", "Other"),
        ] {
            let one = CustomResourceColumnDefinition {
                name: "X".into(),
                r#type: kind.into(),
                json_path: path.into(),
                ..Default::default()
            };
            assert_eq!(of_definition(&[one]).cells(&object, now), ["nightly", wanted], "{kind} {path}");
        }
        assert_eq!(of_definition(&[]).cells(&object, now), ["nightly", "60m"]);
    }
}
