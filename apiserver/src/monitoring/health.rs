//! `/livez`, `/readyz`, `/healthz`: whether the server lives, serves, and what stands in its way, as Kubernetes prints it.

use super::{Monitoring, Page};
use crate::registry::{ApiError, ApiResult};
use http::StatusCode;
use std::fmt::Write as _;
use std::time::Duration;

/// How long the store may take to say that it is there.
const STORE: Duration = Duration::from_secs(2);

const TEXT: &str = "text/plain; charset=utf-8";

/// The checks behind each path, in order.
fn checks(kind: &str) -> &'static [&'static str] {
    match kind {
        // What only a restart mends.
        "livez" => &["ping", "cache"],
        "readyz" => &["ping", "cache", "store", "shutdown"],
        _ => &["ping", "cache", "store"],
    }
}

impl Monitoring {
    /// `check` alone, or all if it is empty. What is wrong is told in words to those who may read metrics.
    pub(super) async fn health(&self, kind: &str, check: &str, query: &str, trusted: bool) -> ApiResult<Page> {
        let asked = |name: &str| query.split('&').any(|part| part.split('=').next() == Some(name));
        let excluded = |name: &str| query.split('&').any(|part| part.strip_prefix("exclude=") == Some(name));
        let known = checks(kind);
        if !check.is_empty() && !known.contains(&check) {
            let there = known.join(", ");
            return Err(ApiError::no_such_resource(format!("/{kind} has the checks {there}, not {check:?}")));
        }
        let (mut lines, mut failed) = (String::new(), Vec::new());
        for name in known.iter().filter(|name| check.is_empty() || **name == check) {
            if excluded(name) {
                let _ = writeln!(lines, "[+]{name} excluded: ok");
                continue;
            }
            match self.check(name).await {
                Ok(()) => drop(writeln!(lines, "[+]{name} ok")),
                Err(why) => {
                    let why = if trusted { why } else { "reason withheld".into() };
                    let _ = writeln!(lines, "[-]{name} failed: {why}");
                    failed.push(*name);
                }
            }
        }
        if !failed.is_empty() {
            tracing::debug!(?failed, "/{kind} is answered with a failure");
            return Ok(Page(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{lines}{kind} check failed\n")));
        }
        let words = if asked("verbose") { format!("{lines}{kind} check passed\n") } else { "ok".into() };
        Ok(Page(StatusCode::OK, TEXT, words))
    }

    async fn check(&self, name: &str) -> Result<(), String> {
        let words = |error: ApiError| error.message().to_string();
        match name {
            "cache" => self.registry.health().map_err(words),
            "store" => match tokio::time::timeout(STORE, self.registry.head()).await {
                Ok(head) => head.map(drop).map_err(words),
                Err(_) => Err(format!("the store has not answered for {} s", STORE.as_secs())),
            },
            "shutdown" if self.registry.is_closing() => Err("the server is about to stop".into()),
            _ => Ok(()),
        }
    }
}
