//! The rules of a sum: those of its parts, in the order of their names, each once.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use skiff_client::driver::Plan;
use skiff_proto::labels::Selector;
use skiff_proto::rbacv1::{ClusterRole, PolicyRule};

/// What there is to know about one ClusterRole that is a sum.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The ClusterRole.
    pub sum: Arc<ClusterRole>,
    /// Those that it selects, by name.
    pub parts: Vec<Arc<ClusterRole>>,
}

/// What can be done for it.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Write these rules onto the revision that was read.
    WriteRules {
        /// The rules.
        rules: Vec<PolicyRule>,
        /// The resourceVersion that they were worked out from.
        onto: String,
    },
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Action::WriteRules { rules, .. } = self;
        write!(f, "write {} rules", rules.len())
    }
}

/// The plan.
pub fn plan(observed: &Observed) -> Plan<Action> {
    let sum = &observed.sum;
    let mut plan = Plan::nothing();
    if sum.aggregation_rule.is_none() || sum.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    let mut rules: Vec<PolicyRule> = Vec::new();
    for rule in observed.parts.iter().flat_map(|part| &part.rules) {
        if !rules.contains(rule) {
            rules.push(rule.clone());
        }
    }
    if rules != sum.rules {
        let names: Vec<&str> = observed.parts.iter().map(|part| part.metadata.name.as_str()).collect();
        let onto = sum.metadata.resource_version.clone();
        plan.step(Action::WriteRules { rules, onto }, format!("it is the sum of: {}", names.join(", ")));
    }
    plan
}

/// Whether a sum takes in a role with these labels.
pub fn selects(sum: &ClusterRole, labels: &BTreeMap<String, String>) -> bool {
    let selectors = sum.aggregation_rule.iter().flat_map(|rule| &rule.cluster_role_selectors);
    let mut selectors = selectors.filter_map(|selector| Selector::try_from(selector).ok());
    selectors.any(|selector| selector.matches(labels))
}
