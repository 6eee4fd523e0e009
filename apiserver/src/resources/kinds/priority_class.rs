//! PriorityClass: a name for a priority. Admission resolves it (`admission/priority.rs`), the scheduler's queue goes by it.

use crate::resources::field_error::Errors;
use crate::resources::strategy::KindStrategy;
use crate::resources::validation::{IMMUTABLE, one_of};
use skiff_proto::schedulingv1::PriorityClass;

/// The highest priority that users may give.
const HIGHEST: i32 = 1_000_000_000;
/// What the names of the cluster's own classes begin with.
const RESERVED: &str = "system-";
/// The cluster's own classes, with their values and what they are for.
pub const SYSTEM_CLASSES: &[(&str, i32, &str)] = &[
    ("system-cluster-critical", 2_000_000_000, "Pods without which the cluster does not work, on whatever node."),
    ("system-node-critical", 2_000_001_000, "Pods without which their node does not work."),
];
const POLICIES: &[&str] = &["Never", "PreemptLowerPriority"];

pub struct PriorityClassStrategy;

impl KindStrategy for PriorityClassStrategy {
    type Kind = PriorityClass;
    const GENERATIONS: bool = true;

    fn default(&self, class: &mut PriorityClass) {
        class.preemption_policy.get_or_insert_with(|| "PreemptLowerPriority".into());
    }

    fn validate(&self, class: &PriorityClass) -> Errors {
        let mut errors = Errors::new();
        let name = class.metadata.name.as_str();
        if name.starts_with(RESERVED) {
            if let Err(why) = is_system_class(class) {
                let why = format!(
                    "priority class names with '{RESERVED}' prefix are reserved for system use only. error: {why}"
                );
                errors.forbidden("metadata.name", why);
            }
        } else if class.value > HIGHEST {
            errors.forbidden("value", format!("maximum allowed value of a user defined priority is {HIGHEST}"));
        }
        if let Some(policy) = &class.preemption_policy {
            one_of(policy, POLICIES, "preemptionPolicy", &mut errors);
        }
        errors
    }

    fn validate_update(&self, new: &PriorityClass, old: &PriorityClass) -> Errors {
        let mut errors = Errors::new();
        if new.value != old.value {
            errors.forbidden("value", "may not be changed in an update.");
        }
        if new.preemption_policy != old.preemption_policy {
            let policy = new.preemption_policy.as_deref().unwrap_or_default();
            errors.invalid("preemptionPolicy", policy, IMMUTABLE);
        }
        errors
    }

    fn warnings(&self, class: &PriorityClass) -> Vec<String> {
        let preempts = class.preemption_policy.as_deref() != Some("Never");
        let warning = "preemptionPolicy: nothing is preempted: Pods of this class are scheduled before others, \
                       and where there is no room they wait";
        Vec::from_iter(preempts.then(|| warning.to_string()))
    }
}

/// Whether a class is one of the cluster's own, as it has to be.
fn is_system_class(class: &PriorityClass) -> Result<(), String> {
    let name = class.metadata.name.as_str();
    let Some((_, value, _)) = SYSTEM_CLASSES.iter().find(|(known, ..)| *known == name) else {
        return Err(format!("{name} is not a known system priority class"));
    };
    if class.value != *value {
        return Err(format!("value of {name} PriorityClass must be {value}"));
    }
    if class.global_default {
        return Err(format!("globalDefault of {name} PriorityClass must be false"));
    }
    Ok(())
}
