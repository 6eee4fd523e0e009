//! The query of a request, and the options that stand in it.

use crate::registry::{ApiError, ApiResult, DeleteOptions, FieldValidation, ListOptions, WatchOptions};

/// A query's parameters.
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a query.
    pub fn parse(text: Option<&str>) -> Self {
        Self(form_urlencoded::parse(text.unwrap_or_default().as_bytes()).into_owned().collect())
    }

    /// A parameter's first value; empty if it is not there.
    pub fn get(&self, key: &str) -> &str {
        self.find(key).unwrap_or_default()
    }

    fn find(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// All values of a parameter.
    pub fn all(&self, key: &str) -> Vec<String> {
        self.0.iter().filter(|(k, _)| k == key).map(|(_, v)| v.clone()).collect()
    }

    /// Whether a switch is on: it is there, and is not false.
    pub fn is_on(&self, key: &str) -> bool {
        self.find(key).is_some_and(|value| !matches!(value.to_ascii_lowercase().as_str(), "false" | "0"))
    }

    /// A number, if it is there.
    pub fn number(&self, key: &str) -> ApiResult<Option<i64>> {
        match self.get(key) {
            "" => Ok(None),
            text => text
                .parse()
                .map(Some)
                .map_err(|_| ApiError::bad_request(format!("{key}: {text:?} is not a whole number"))),
        }
    }

    /// Whether all but the writing is to be done.
    pub fn dry_run(&self) -> ApiResult<bool> {
        is_dry(&self.all("dryRun"))
    }

    /// What to do about unknown and duplicate fields.
    pub fn field_validation(&self) -> ApiResult<FieldValidation> {
        let name = self.get("fieldValidation");
        FieldValidation::parse(name).ok_or_else(|| {
            ApiError::invalid_options(&format!(
                "fieldValidation: Unsupported value: {name:?}: supported values: \"Ignore\", \"Strict\", \"Warn\""
            ))
        })
    }

    /// How to list.
    pub fn list(&self) -> ApiResult<ListOptions> {
        let limit = self.number("limit")?.unwrap_or(0);
        Ok(ListOptions {
            label_selector: self.get("labelSelector").into(),
            field_selector: self.get("fieldSelector").into(),
            limit: usize::try_from(limit)
                .map_err(|_| ApiError::bad_request("limit: must be greater than or equal to 0"))?,
            continue_token: self.get("continue").into(),
            resource_version: self.get("resourceVersion").into(),
            resource_version_match: self.get("resourceVersionMatch").into(),
            unpaged: true,
        })
    }

    /// How to watch.
    pub fn watch(&self) -> ApiResult<WatchOptions> {
        let initial = self.find("sendInitialEvents").is_some();
        match (initial, self.get("resourceVersionMatch")) {
            (false, "") | (true, "NotOlderThan") => {}
            (false, _) => {
                return Err(ApiError::invalid_options(
                    "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
                ));
            }
            (true, _) => {
                return Err(ApiError::invalid_options(
                    "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
                ));
            }
        }
        Ok(WatchOptions {
            label_selector: self.get("labelSelector").into(),
            field_selector: self.get("fieldSelector").into(),
            resource_version: self.get("resourceVersion").into(),
            allow_bookmarks: self.is_on("allowWatchBookmarks"),
            send_initial_events: self.is_on("sendInitialEvents"),
            skip_initial_events: initial && !self.is_on("sendInitialEvents"),
            timeout_seconds: self.number("timeoutSeconds")?.and_then(|s| u64::try_from(s).ok()).unwrap_or(0),
        })
    }

    /// How to delete, as far as the query says; a body says more.
    pub fn delete(&self) -> ApiResult<DeleteOptions> {
        let orphan = self.find("orphanDependents").map(|_| self.is_on("orphanDependents"));
        let policy = match (self.get("propagationPolicy"), orphan) {
            ("", Some(true)) => "Orphan",
            ("", Some(false)) => "Background",
            (policy, _) => policy,
        };
        Ok(DeleteOptions {
            dry_run: self.dry_run()?,
            grace_period_seconds: self.number("gracePeriodSeconds")?,
            propagation_policy: policy.into(),
            precondition_uid: String::new(),
            precondition_resource_version: String::new(),
        })
    }
}

/// Whether a `dryRun` means it; the only value there is is `All`.
pub fn is_dry(values: &[String]) -> ApiResult<bool> {
    match values.iter().find(|value| *value != "All") {
        Some(other) => {
            Err(ApiError::invalid_options(&format!("dryRun: Unsupported value: {other:?}: supported values: \"All\"")))
        }
        None => Ok(!values.is_empty()),
    }
}
