//! Priority: every new Pod has one, that of the class that it names, or of the class that is for those that name none.

use super::{Facts, Plugin, Verb};
use crate::registry::{ApiError, ApiResult, Beside};
use crate::resources::{Object, Typed};
use skiff_proto::corev1::{Pod, PodSpec};
use skiff_proto::schedulingv1::PriorityClass;

pub struct Priority;

impl Plugin for Priority {
    fn mutate(&self, facts: &Facts<'_>, new: &mut dyn Object) -> ApiResult<()> {
        if !facts.is(Verb::Create, "", "Pod") {
            return Ok(());
        }
        let Some(Typed(pod)) = new.as_any_mut().downcast_mut::<Typed<Pod>>() else { return Ok(()) };
        let class = match pod.spec.priority_class_name.as_str() {
            "" => default_of(facts.cluster.list("")?),
            name => facts.cluster.get::<PriorityClass>("", name)?,
        };
        let name = pod.metadata.name.clone();
        resolve(&mut pod.spec, class.as_ref()).map_err(|why| ApiError::forbidden(facts.resource, &name, why))
    }

    fn check(&self, facts: &Facts<'_>, new: Option<&dyn Object>, _beside: &mut Beside) -> ApiResult<()> {
        let Some(Typed(class)) = new.and_then(|o| o.as_any().downcast_ref::<Typed<PriorityClass>>()) else {
            return Ok(());
        };
        let others = facts.cluster.list::<PriorityClass>("")?;
        match others.iter().find(|other| other.global_default && other.metadata.name != class.metadata.name) {
            Some(other) if class.global_default => {
                let other = &other.metadata.name;
                let why = format!("PriorityClass {other} is already marked as default. Only one default can exist");
                Err(ApiError::forbidden(facts.resource, &class.metadata.name, why))
            }
            _ => Ok(()),
        }
    }
}

/// The class of Pods that name none. Should there be two, of which a race is one cause, the lower one.
fn default_of(classes: Vec<PriorityClass>) -> Option<PriorityClass> {
    classes.into_iter().filter(|class| class.global_default).min_by_key(|class| class.value)
}

/// Gives a Pod what its class says. `class` is the one it names, or the default one.
fn resolve(spec: &mut PodSpec, class: Option<&PriorityClass>) -> Result<(), String> {
    let Some(class) = class else {
        if !spec.priority_class_name.is_empty() {
            return Err(format!("no PriorityClass with name {} was found", spec.priority_class_name));
        }
        return settle(spec, 0, None);
    };
    spec.priority_class_name = class.metadata.name.clone();
    settle(spec, class.value, class.preemption_policy.as_deref())
}

fn settle(spec: &mut PodSpec, priority: i32, policy: Option<&str>) -> Result<(), String> {
    if let Some(own) = spec.priority.filter(|own| *own != priority) {
        return Err(format!(
            "the integer value of priority ({own}) must not be provided in pod spec; \
             priority admission controller computed {priority} from the given PriorityClass name"
        ));
    }
    spec.priority = Some(priority);
    let Some(policy) = policy else { return Ok(()) };
    if let Some(own) = spec.preemption_policy.as_deref().filter(|own| *own != policy) {
        return Err(format!(
            "the string value of PreemptionPolicy ({own}) must not be provided in pod spec; \
             priority admission controller computed {policy} from the given PriorityClass name"
        ));
    }
    spec.preemption_policy = Some(policy.to_owned());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(name: &str, value: i32, default: bool) -> PriorityClass {
        let mut class = PriorityClass { value, global_default: default, ..PriorityClass::default() };
        class.metadata.name = name.into();
        class.preemption_policy = Some("Never".into());
        class
    }

    #[test]
    fn a_pod_gets_the_priority_of_its_class() {
        let high = class("high", 1000, false);
        // (named, its own priority, the class) -> priority, class, policy; or words
        let table = [
            ("", None, None, Ok((0, "", None))),
            ("", Some(0), None, Ok((0, "", None))),
            ("", None, Some(&high), Ok((1000, "high", Some("Never")))),
            ("high", Some(1000), Some(&high), Ok((1000, "high", Some("Never")))),
            ("high", Some(5), Some(&high), Err("the integer value of priority (5) must not be provided in pod spec")),
            ("other", None, None, Err("no PriorityClass with name other was found")),
        ];
        for (named, own, class, expected) in table {
            let mut spec = PodSpec { priority_class_name: named.into(), priority: own, ..PodSpec::default() };
            // Twice: the chain may be asked again.
            let first = resolve(&mut spec, class).and_then(|()| resolve(&mut spec, class));
            match expected {
                Ok((priority, name, policy)) => {
                    first.expect("resolved");
                    assert_eq!((spec.priority, spec.priority_class_name.as_str()), (Some(priority), name));
                    assert_eq!(spec.preemption_policy.as_deref(), policy);
                }
                Err(words) => assert!(first.as_ref().is_err_and(|why| why.contains(words)), "{first:?}"),
            }
        }
        let mut own = PodSpec { preemption_policy: Some("PreemptLowerPriority".into()), ..PodSpec::default() };
        resolve(&mut own, Some(&high)).expect_err("a policy of its own");
    }

    #[test]
    fn of_two_defaults_the_lower_counts() {
        let classes = vec![class("a", 9, true), class("b", 4, true), class("c", 1, false)];
        assert_eq!(default_of(classes).map(|class| class.value), Some(4));
        assert!(default_of(vec![class("c", 1, false)]).is_none());
    }
}
