//! Deployment.

use crate::resources::field_error::Errors;
use crate::resources::strategy::KindStrategy;
use crate::resources::validation::{self, child, non_negative};
use crate::resources::{pod_defaults, warnings};
use skiff_proto::IntOrString;
use skiff_proto::appsv1::{Deployment, DeploymentSpec, DeploymentStrategy as UpdateStrategy};
use skiff_proto::corev1::PodTemplateSpec;
use skiff_proto::metav1::LabelSelector;

pub struct DeploymentStrategy;

const ROLLING: &str = "RollingUpdate";

impl KindStrategy for DeploymentStrategy {
    type Kind = Deployment;
    const GENERATIONS: bool = true;

    fn default(&self, d: &mut Deployment) {
        let spec = &mut d.spec;
        spec.replicas.get_or_insert(1);
        spec.revision_history_limit.get_or_insert(10);
        spec.progress_deadline_seconds.get_or_insert(600);
        if spec.strategy.r#type.is_empty() {
            spec.strategy.r#type = ROLLING.into();
        }
        if spec.strategy.r#type == ROLLING {
            let rolling = spec.strategy.rolling_update.get_or_insert_default();
            rolling.max_unavailable.get_or_insert_with(quarter);
            rolling.max_surge.get_or_insert_with(quarter);
        }
        pod_defaults::pod_spec(&mut spec.template.spec);
    }

    fn prepare_for_create(&self, d: &mut Deployment) {
        d.status = Default::default();
    }

    fn prepare_for_update(&self, new: &mut Deployment, old: &Deployment) {
        new.status = old.status.clone();
    }

    fn take_status(&self, from: Deployment, onto: &mut Deployment) {
        onto.status = from.status;
    }

    fn validate(&self, d: &Deployment) -> Errors {
        let mut errors = Errors::new();
        let spec = &d.spec;
        numbers(spec, &mut errors);
        errors.append(selector_and_template(spec.selector.as_deref(), &spec.template));
        update_strategy(&spec.strategy, &mut errors);
        errors
    }

    fn validate_update(&self, new: &Deployment, old: &Deployment) -> Errors {
        let mut errors = Errors::new();
        if new.spec.selector != old.spec.selector {
            errors.invalid("spec.selector", shown_selector(new.spec.selector.as_deref()), validation::IMMUTABLE);
        }
        errors
    }

    fn validate_status_update(&self, new: &Deployment, _old: &Deployment) -> Errors {
        let mut errors = Errors::new();
        let status = &new.status;
        for (field, value) in [
            ("observedGeneration", status.observed_generation),
            ("replicas", i64::from(status.replicas)),
            ("updatedReplicas", i64::from(status.updated_replicas)),
            ("readyReplicas", i64::from(status.ready_replicas)),
            ("availableReplicas", i64::from(status.available_replicas)),
            ("unavailableReplicas", i64::from(status.unavailable_replicas)),
        ] {
            non_negative(value, child("status", field), &mut errors);
        }
        if status.updated_replicas > status.replicas {
            errors.invalid("status.updatedReplicas", status.updated_replicas, "cannot be greater than status.replicas");
        }
        errors
    }

    fn desired_changed(&self, new: &Deployment, old: &Deployment) -> bool {
        new.spec != old.spec || new.metadata.annotations != old.metadata.annotations
    }

    fn warnings(&self, d: &Deployment) -> Vec<String> {
        warnings::pod_spec(&d.spec.template.spec, "spec.template.spec")
    }
}

fn quarter() -> IntOrString {
    IntOrString::Str("25%".into())
}

fn numbers(spec: &DeploymentSpec, errors: &mut Errors) {
    let (replicas, min_ready) = (spec.replicas.unwrap_or(1), spec.min_ready_seconds);
    non_negative(i64::from(replicas), "spec.replicas", errors);
    non_negative(i64::from(min_ready), "spec.minReadySeconds", errors);
    if let Some(limit) = spec.revision_history_limit {
        non_negative(i64::from(limit), "spec.revisionHistoryLimit", errors);
    }
    if let Some(deadline) = spec.progress_deadline_seconds {
        non_negative(i64::from(deadline), "spec.progressDeadlineSeconds", errors);
        if deadline <= min_ready {
            errors.invalid("spec.progressDeadlineSeconds", deadline, "must be greater than minReadySeconds");
        }
    }
}

/// What Deployments and ReplicaSets share: a selector that selects something, and matches its own template.
pub fn selector_and_template(selector: Option<&LabelSelector>, template: &PodTemplateSpec) -> Errors {
    let mut errors = Errors::new();
    match selector {
        None => errors.required("spec.selector", ""),
        Some(selector) => {
            let wrong = validation::label_selector(selector, "spec.selector");
            let sound = wrong.is_empty();
            errors.append(wrong);
            if selector.match_labels.is_empty() && selector.match_expressions.is_empty() {
                errors.invalid("spec.selector", "{}", "empty selector is invalid for deployment");
            } else if sound && !matches(selector, template) {
                errors.invalid(
                    "spec.template.metadata.labels",
                    shown_labels(&template.metadata.labels),
                    "`selector` does not match template `labels`",
                );
            }
        }
    }
    errors.append(validation::pod_template(template, "spec.template"));
    errors
}

fn matches(selector: &LabelSelector, template: &PodTemplateSpec) -> bool {
    skiff_proto::labels::Selector::try_from(selector).is_ok_and(|s| s.matches(&template.metadata.labels))
}

fn shown_labels(labels: &std::collections::BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    pairs.join(",")
}

/// A selector as errors show it.
pub fn shown_selector(selector: Option<&LabelSelector>) -> String {
    selector.map(|s| shown_labels(&s.match_labels)).unwrap_or_default()
}

fn update_strategy(strategy: &UpdateStrategy, errors: &mut Errors) {
    let path = "spec.strategy.rollingUpdate";
    match strategy.r#type.as_str() {
        "Recreate" => {
            if strategy.rolling_update.is_some() {
                errors.forbidden(path, "may not be specified when strategy `type` is 'Recreate'");
            }
        }
        ROLLING => {
            let Some(rolling) = &strategy.rolling_update else {
                errors.required(path, "this should be defaulted and never be nil");
                return;
            };
            let unavailable = amount(rolling.max_unavailable.as_ref(), &child(path, "maxUnavailable"), errors);
            let surge = amount(rolling.max_surge.as_ref(), &child(path, "maxSurge"), errors);
            if unavailable == Some(0) && surge == Some(0) {
                errors.invalid(child(path, "maxUnavailable"), 0, "may not be 0 when `maxSurge` is 0");
            }
            if let (Some(IntOrString::Str(shown)), Some(101..)) = (&rolling.max_unavailable, unavailable) {
                errors.invalid(child(path, "maxUnavailable"), shown, "must not be greater than 100%");
            }
        }
        other => errors.not_supported("spec.strategy.type", other, &["Recreate", ROLLING]),
    }
}

/// A number of Pods or a percentage, as a plain number.
fn amount(value: Option<&IntOrString>, path: &str, errors: &mut Errors) -> Option<i64> {
    match value? {
        IntOrString::Int(n) => {
            non_negative(i64::from(*n), path, errors);
            Some(i64::from(*n))
        }
        IntOrString::Str(s) => {
            let digits =
                s.strip_suffix('%').filter(|d| !d.is_empty() && d.len() <= 9 && d.bytes().all(|c| c.is_ascii_digit()));
            if digits.is_none() {
                errors.invalid(
                    path,
                    s,
                    "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%' or '93%')",
                );
            }
            digits?.parse().ok()
        }
    }
}
