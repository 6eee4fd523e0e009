//! Label and field selectors, parsed once, checked against what a resource can select, and made into a filter.

use super::error::{ApiError, ApiResult};
use crate::cache::{Entry, Filter};
use crate::resources::Resource;
use skiff_proto::{fields, labels};
use std::sync::Arc;

/// What is selected.
#[derive(Clone, Default)]
pub struct Selection {
    labels: labels::Selector,
    fields: fields::Selector,
}

impl Selection {
    /// Parses both selectors; a field that the resource cannot select is refused in words.
    pub fn parse(resource: &Resource, label_selector: &str, field_selector: &str) -> ApiResult<Self> {
        let labels = labels::Selector::parse(label_selector).map_err(|e| {
            ApiError::bad_request(format!("unable to parse the label selector {label_selector:?}: {e}"))
        })?;
        let fields = fields::Selector::parse(field_selector).map_err(|e| {
            ApiError::bad_request(format!("unable to parse the field selector {field_selector:?}: {e}"))
        })?;
        let selectable = resource.strategy.selectable();
        for requirement in fields.requirements() {
            let path = requirement.field.as_str();
            let known = path == "metadata.name"
                || (path == "metadata.namespace" && resource.namespaced)
                || selectable.iter().any(|field| field.path == path);
            if !known {
                let mut all: Vec<&str> = selectable.iter().map(|field| field.path.as_str()).collect();
                all.insert(0, "metadata.name");
                return Err(ApiError::bad_request(format!(
                    "field label not supported: {path} (the fields of {} that can be selected: {})",
                    resource.qualified(),
                    all.join(", ")
                )));
            }
        }
        Ok(Self { labels, fields })
    }

    /// Whether everything is selected.
    pub fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.requirements().is_empty()
    }

    /// The filter for the cache; `None` selects everything.
    pub fn filter(&self) -> Option<Filter> {
        if self.is_everything() {
            return None;
        }
        let selection = self.clone();
        Some(Arc::new(move |entry: &Entry| selection.selects(entry)))
    }

    /// A field that must have one value, which makes many watchers of one value each cheap.
    pub fn only(&self) -> Option<(String, String)> {
        let indexed = |path: &str| !path.starts_with("metadata.");
        let found = self.fields.requirements().iter().find(|r| r.equals && indexed(&r.field));
        found.map(|r| (r.field.clone(), r.value.clone()))
    }

    fn selects(&self, entry: &Entry) -> bool {
        self.labels.matches_with(|key| entry.label(key))
            && self.fields.requirements().iter().all(|r| (entry.field(&r.field) == Some(r.value.as_str())) == r.equals)
    }
}
