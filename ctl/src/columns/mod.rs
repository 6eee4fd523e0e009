//! Tables of objects: the columns of their kind (`skiff_proto::columns`), and what the user wants beside them.

pub use skiff_proto::columns::{Columns, labels, list, name, number, of, of_definition, pod_status, selector, text};

use jiff::Timestamp;
use serde_json::Value;
use skiff_proto::skiffv1::ResourceInfo;

use crate::table::Table;

/// The columns of a row of the server's table: built in, or as the kind's definition has them.
pub fn of_resource(resource: &ResourceInfo) -> Columns {
    if resource.custom { of_definition(&resource.columns) } else { of(&resource.kind) }
}

/// A table of objects of one kind; `prefix` (as `pod/`) is put before each name.
pub fn table(columns: &Columns, objects: &[Value], options: &TableOptions, now: Timestamp) -> Table {
    let shown = || columns.columns.iter().enumerate().filter(|(_, column)| options.wide || !column.is_wide());
    let mut header: Vec<String> = vec![];
    if options.namespace {
        header.push("NAMESPACE".to_owned());
    }
    header.extend(shown().map(|(_, column)| column.name.to_uppercase()));
    header.extend(options.label_columns.iter().map(|key| label_title(key)));
    if options.labels {
        header.push("LABELS".to_owned());
    }
    let mut table = Table::new(header);
    for object in objects {
        let all = columns.cells(object, now);
        let mut cells: Vec<String> = shown().map(|(i, _)| all.get(i).cloned().unwrap_or_default()).collect();
        if columns.columns.first().is_some_and(|column| column.name == "Name")
            && let Some(first) = cells.first_mut()
        {
            first.insert_str(0, &options.prefix);
        }
        if options.namespace {
            cells.insert(0, text(object, "/metadata/namespace"));
        }
        let values = object.pointer("/metadata/labels");
        let value = |key: &String| values.and_then(|v| v.get(key)).and_then(Value::as_str).unwrap_or_default();
        cells.extend(options.label_columns.iter().map(|key| value(key).to_owned()));
        if options.labels {
            cells.push(labels(object.pointer("/metadata/labels")));
        }
        table.row(cells);
    }
    table
}

/// `topology.kubernetes.io/zone` is titled ZONE.
fn label_title(key: &str) -> String {
    key.rsplit('/').next().unwrap_or(key).to_uppercase()
}

/// What a table shows beside the columns of its kind.
#[derive(Clone, Debug, Default)]
pub struct TableOptions {
    /// A first column with the namespace.
    pub namespace: bool,
    /// The wide columns.
    pub wide: bool,
    /// A column for each of these labels.
    pub label_columns: Vec<String>,
    /// A last column with the labels.
    pub labels: bool,
    /// Put before names: `pod/`.
    pub prefix: String,
}

#[cfg(test)]
mod tests;
