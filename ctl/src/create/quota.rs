//! `create quota` and `create priorityclass`: how much a namespace may have, and which Pods come first.

use anyhow::Result;
use clap::Args;
use serde_json::{Map, Value, json};

use super::pairs;
use crate::report::Report;

/// What `create quota` takes.
#[derive(Args, Debug)]
pub struct Quota {
    /// Its name.
    name: String,
    /// What there may be at most: `cpu=2,pods=10,count/deployments.apps=4`.
    #[arg(long, default_value = "")]
    hard: String,
    /// Which Pods it is for: `BestEffort,Terminating`.
    #[arg(long, value_delimiter = ',')]
    scopes: Vec<String>,
    #[command(flatten)]
    pub report: Report,
}

/// What `create priorityclass` takes.
#[derive(Args, Debug)]
pub struct PriorityClass {
    /// Its name.
    name: String,
    /// The priority; higher goes first.
    #[arg(long, default_value_t = 0, allow_hyphen_values = true)]
    value: i32,
    /// Pods that name no class get this one.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true")]
    global_default: bool,
    /// When to use it.
    #[arg(long)]
    description: Option<String>,
    /// `PreemptLowerPriority` or `Never`.
    #[arg(long, default_value = "PreemptLowerPriority")]
    preemption_policy: String,
    #[command(flatten)]
    pub report: Report,
}

impl Quota {
    /// What the flags make.
    pub fn object(&self) -> Result<Value> {
        let mut spec = Map::new();
        let hard = pairs(&self.hard)?;
        if !hard.is_empty() {
            spec.insert("hard".into(), json!(hard));
        }
        if !self.scopes.is_empty() {
            spec.insert("scopes".into(), json!(self.scopes));
        }
        Ok(json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": self.name}, "spec": spec}))
    }
}

impl PriorityClass {
    /// What the flags make.
    pub fn object(&self) -> Value {
        let mut class = json!({
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": self.name},
            "value": self.value,
            "preemptionPolicy": self.preemption_policy,
        });
        if self.global_default {
            class["globalDefault"] = json!(true);
        }
        if let Some(description) = &self.description {
            class["description"] = json!(description);
        }
        class
    }
}
