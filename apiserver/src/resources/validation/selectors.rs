//! Checks of label selectors.

use super::{child, index, names};
use crate::resources::field_error::Errors;
use skiff_proto::metav1::LabelSelector;

/// A label selector: keys, values, and operators with as many values as they take.
pub fn label_selector(selector: &LabelSelector, path: &str) -> Errors {
    let mut errors = super::labels(&selector.match_labels, &child(path, "matchLabels"));
    for (i, requirement) in selector.match_expressions.iter().enumerate() {
        let path = index(path, "matchExpressions", i);
        match requirement.operator.as_str() {
            "In" | "NotIn" if requirement.values.is_empty() => {
                errors.required(child(&path, "values"), "must be specified when `operator` is 'In' or 'NotIn'");
            }
            "Exists" | "DoesNotExist" if !requirement.values.is_empty() => {
                errors.forbidden(
                    child(&path, "values"),
                    "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                );
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.invalid(child(&path, "operator"), other, "not a valid selector operator"),
        }
        for problem in names::qualified_name(&requirement.key) {
            errors.invalid(child(&path, "key"), &requirement.key, problem);
        }
        for (j, value) in requirement.values.iter().enumerate() {
            for problem in names::label_value(value) {
                errors.invalid(index(&path, "values", j), value, problem);
            }
        }
    }
    errors
}
