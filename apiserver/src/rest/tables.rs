//! Tables: lists as people read them, with the columns of `skiff_proto::columns`.

use crate::registry::{ApiError, ApiResult};
use crate::resources::Resource;
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};
use skiff_proto::columns::{self, Columns};
use skiff_proto::metav1::ListMeta;

/// Makes Tables of one kind's objects.
pub struct Table {
    columns: Columns,
    api_version: String,
    include: Include,
    now: Timestamp,
}

/// What of its object a row carries.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Include {
    Nothing,
    Metadata,
    Object,
}

impl Table {
    /// Tables of a resource's objects, in a version of meta.k8s.io.
    pub fn new(resource: &Resource, version: &str, include: &str, now: Timestamp) -> Self {
        let include = match include {
            "None" => Include::Nothing,
            "Object" => Include::Object,
            _ => Include::Metadata,
        };
        Self {
            columns: resource.strategy.columns().unwrap_or_else(|| columns::of(&resource.kind)),
            api_version: format!("meta.k8s.io/{version}"),
            include,
            now,
        }
    }

    /// A Table of one object, at its revision.
    pub fn of_one(&self, object: &Bytes) -> ApiResult<Bytes> {
        let object = read(object)?;
        let revision = object.pointer("/metadata/resourceVersion").cloned().unwrap_or_default();
        Ok(self.table(json!({"resourceVersion": revision}), true, vec![self.row(object)]).to_string().into())
    }

    /// A Table of a page.
    pub fn of_list(&self, meta: &ListMeta, items: &[Bytes]) -> ApiResult<Bytes> {
        let rows: ApiResult<Vec<Value>> = items.iter().map(|item| Ok(self.row(read(item)?))).collect();
        Ok(self.table(skiff_proto::json::encode_value(meta), true, rows?).to_string().into())
    }

    /// A watch event's object as a Table; only the first one has the columns.
    pub fn of_event(&self, object: &Bytes, first: bool) -> ApiResult<Value> {
        let object = read(object)?;
        let revision = object.pointer("/metadata/resourceVersion").cloned().unwrap_or_default();
        Ok(self.table(json!({"resourceVersion": revision}), first, vec![self.row(object)]))
    }

    /// A bookmark as a Table.
    pub fn of_bookmark(&self, bookmark: Value, first: bool) -> Value {
        let revision = bookmark.pointer("/metadata/resourceVersion").cloned().unwrap_or_default();
        let row = json!({"cells": [], "object": bookmark});
        self.table(json!({"resourceVersion": revision}), first, vec![row])
    }

    fn table(&self, metadata: Value, headed: bool, rows: Vec<Value>) -> Value {
        let definitions: Vec<Value> = if headed { self.definitions() } else { Vec::new() };
        json!({
            "kind": "Table",
            "apiVersion": self.api_version,
            "metadata": metadata,
            "columnDefinitions": definitions,
            "rows": rows,
        })
    }

    fn definitions(&self) -> Vec<Value> {
        let columns = self.columns.columns.iter();
        columns
            .map(|column| {
                json!({
                    "name": column.name,
                    "type": column.kind,
                    "format": column.format,
                    "description": column.description,
                    "priority": column.priority,
                })
            })
            .collect()
    }

    /// A cell as the type of its column has it. What is not there is nothing in custom columns, as Kubernetes has it.
    fn cell(&self, cell: String, kind: &str) -> Value {
        match kind {
            _ if cell.is_empty() && self.columns.is_custom() => Value::Null,
            _ if cell.is_empty() => "<none>".into(),
            "integer" | "number" | "boolean" => serde_json::from_str(&cell).unwrap_or_else(|_| cell.into()),
            _ => cell.into(),
        }
    }

    fn row(&self, mut object: Value) -> Value {
        let cells = self.columns.cells(&object, self.now).into_iter().zip(self.columns.columns.iter());
        let cells: Vec<Value> = cells.map(|(cell, column)| self.cell(cell, &column.kind)).collect();
        match self.include {
            Include::Nothing => json!({"cells": cells}),
            Include::Object => json!({"cells": cells, "object": object}),
            Include::Metadata => {
                let metadata = object.get_mut("metadata").map(Value::take).unwrap_or_default();
                let object =
                    json!({"kind": "PartialObjectMetadata", "apiVersion": self.api_version, "metadata": metadata});
                json!({"cells": cells, "object": object})
            }
        }
    }
}

fn read(object: &Bytes) -> ApiResult<Value> {
    serde_json::from_slice(object).map_err(ApiError::internal)
}
