//! PodDisruptionBudget: how many Pods of a set an eviction may take. `registry/budget.rs` asks it.

use crate::resources::field_error::Errors;
use crate::resources::strategy::KindStrategy;
use crate::resources::validation::{self, child, non_negative, one_of};
use skiff_proto::IntOrString;
use skiff_proto::policyv1::PodDisruptionBudget;

pub struct DisruptionBudgetStrategy;

/// What may happen to Pods that are not ready.
const POLICIES: &[&str] = &["AlwaysAllow", "IfHealthyBudget"];

impl KindStrategy for DisruptionBudgetStrategy {
    type Kind = PodDisruptionBudget;
    const GENERATIONS: bool = true;

    fn prepare_for_create(&self, budget: &mut PodDisruptionBudget) {
        budget.status = Default::default();
    }

    fn prepare_for_update(&self, new: &mut PodDisruptionBudget, old: &PodDisruptionBudget) {
        new.status = old.status.clone();
    }

    fn take_status(&self, from: PodDisruptionBudget, onto: &mut PodDisruptionBudget) {
        onto.status = from.status;
    }

    fn validate(&self, budget: &PodDisruptionBudget) -> Errors {
        let mut errors = Errors::new();
        let spec = &budget.spec;
        if spec.min_available.is_some() && spec.max_unavailable.is_some() {
            errors.forbidden("spec.maxUnavailable", "may not be set beside `minAvailable`: one of them says it all");
        }
        for (field, amount) in [("minAvailable", &spec.min_available), ("maxUnavailable", &spec.max_unavailable)] {
            if let Some(amount) = amount {
                number_or_percentage(amount, child("spec", field), &mut errors);
            }
        }
        if let Some(selector) = &spec.selector {
            errors.append(validation::label_selector(selector, "spec.selector"));
        }
        if let Some(policy) = &spec.unhealthy_pod_eviction_policy {
            one_of(policy, POLICIES, "spec.unhealthyPodEvictionPolicy", &mut errors);
        }
        errors
    }

    fn validate_status_update(&self, new: &PodDisruptionBudget, _old: &PodDisruptionBudget) -> Errors {
        let mut errors = Errors::new();
        let status = &new.status;
        for (field, value) in [
            ("disruptionsAllowed", status.disruptions_allowed),
            ("currentHealthy", status.current_healthy),
            ("desiredHealthy", status.desired_healthy),
            ("expectedPods", status.expected_pods),
        ] {
            non_negative(i64::from(value), child("status", field), &mut errors);
        }
        errors
    }

    fn desired_changed(&self, new: &PodDisruptionBudget, old: &PodDisruptionBudget) -> bool {
        new.spec != old.spec
    }
}

/// A count of 0 or more, or 0% to 100%.
fn number_or_percentage(amount: &IntOrString, path: String, errors: &mut Errors) {
    match (amount, amount.scaled(100, true)) {
        (IntOrString::Int(count), _) => non_negative(i64::from(*count), path, errors),
        (IntOrString::Str(text), Err(_)) => {
            errors.invalid(path, text, "must be a number, or a percentage like \"25%\"")
        }
        (IntOrString::Str(text), Ok(101..)) => errors.invalid(path, text, "must not be greater than 100%"),
        (IntOrString::Str(text), Ok(..0)) => errors.invalid(path, text, "must not be negative"),
        _ => {}
    }
}
