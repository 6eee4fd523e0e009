//! LimitRange: what Pods and containers of a namespace may ask for. `admission/limit_ranger.rs` holds them to it.

use crate::resources::field_error::Errors;
use crate::resources::strategy::KindStrategy;
use crate::resources::validation::{child, container_resource_name, index, key, qualified_name};
use skiff_proto::Quantity;
use skiff_proto::corev1::{LimitRange, LimitRangeItem};
use std::collections::BTreeMap;

const TYPES: &[&str] = &["Pod", "Container", "PersistentVolumeClaim"];

pub struct LimitRangeStrategy;

impl KindStrategy for LimitRangeStrategy {
    type Kind = LimitRange;

    fn default(&self, range: &mut LimitRange) {
        range.spec.limits.iter_mut().filter(|item| item.r#type == "Container").for_each(fill_in);
    }

    fn validate(&self, range: &LimitRange) -> Errors {
        let mut errors = Errors::new();
        let limits = &range.spec.limits;
        for (at, limit) in limits.iter().enumerate() {
            let path = index("spec", "limits", at);
            if limits[..at].iter().any(|before| before.r#type == limit.r#type) {
                errors.duplicate(child(&path, "type"), &limit.r#type);
            }
            item(limit, &path, &mut errors);
        }
        errors
    }
}

/// The default limit is the most, the default request the default limit, or else the least.
fn fill_in(item: &mut LimitRangeItem) {
    let add = |to: &mut BTreeMap<String, Quantity>, from: &BTreeMap<String, Quantity>| {
        for (name, amount) in from {
            to.entry(name.clone()).or_insert(*amount);
        }
    };
    add(&mut item.default, &item.max);
    add(&mut item.default_request, &item.default);
    add(&mut item.default_request, &item.min);
}

fn item(limit: &LimitRangeItem, path: &str, errors: &mut Errors) {
    let kind = limit.r#type.as_str();
    for problem in qualified_name(kind) {
        errors.invalid(child(path, "type"), kind, problem);
    }
    if !kind.contains('/') && !TYPES.contains(&kind) {
        errors.invalid(child(path, "type"), kind, "must be a standard limit type or fully qualified");
    }
    let mut maps = vec![("max", &limit.max), ("min", &limit.min)];
    let defaults = [("default", &limit.default), ("defaultRequest", &limit.default_request)];
    if kind == "Pod" {
        for (field, _) in defaults.iter().filter(|(_, map)| !map.is_empty()) {
            errors.forbidden(child(path, field), "may not be specified when `type` is 'Pod'");
        }
    } else {
        maps.extend(defaults);
    }
    maps.push(("maxLimitRequestRatio", &limit.max_limit_request_ratio));
    for (field, map) in maps {
        for name in map.keys() {
            let at = key(&child(path, field), name);
            if kind == "PersistentVolumeClaim" && name == "storage" {
                continue;
            }
            container_resource_name(name, &at, errors);
        }
    }
    let storage = |map: &BTreeMap<String, Quantity>| map.contains_key("storage");
    if kind == "PersistentVolumeClaim" && !storage(&limit.min) && !storage(&limit.max) {
        let words = "either minimum or maximum storage value is required, but neither was provided";
        errors.required(child(path, "limits"), words);
    }
    order(limit, path, errors);
    ratios(limit, path, errors);
}

/// The least is at most the default request, that at most the default, that at most the most.
fn order(limit: &LimitRangeItem, path: &str, errors: &mut Errors) {
    let (min, max) = (("min", "min", &limit.min), ("max", "max", &limit.max));
    let request = ("defaultRequest", "default request", &limit.default_request);
    let default = ("default", "default", &limit.default);
    // (what is to be less, with its words; what is to be more; at which of the two the error is told)
    for (less, less_words, more, more_words, at) in [
        (min, "min", max, "max", "min"),
        (min, "min", request, "default request", "defaultRequest"),
        (request, "default request", max, "max", "defaultRequest"),
        (request, "default request", default, "default limit", "defaultRequest"),
        (min, "min", default, "default", "default"),
        (default, "default", max, "max", "default"),
    ] {
        for (name, least) in less.2 {
            if let Some(most) = more.2.get(name).filter(|most| least > most) {
                let shown = if at == more.0 { most } else { least };
                let words = format!("{less_words} value {least} is greater than {more_words} value {most}");
                errors.invalid(key(&child(path, at), name), shown, words);
            }
        }
    }
}

fn ratios(limit: &LimitRangeItem, path: &str, errors: &mut Errors) {
    for (name, ratio) in &limit.max_limit_request_ratio {
        let at = || key(&child(path, "maxLimitRequestRatio"), name);
        if *ratio < Quantity::from_value(1) {
            errors.invalid(at(), ratio, format!("ratio {ratio} is less than 1"));
        }
        if let (Some(min), Some(max)) = (limit.min.get(name), limit.max.get(name))
            && !min.is_zero()
        {
            let most = max.milli() as f64 / min.milli() as f64;
            if ratio.milli() as f64 / 1000.0 > most {
                errors.invalid(at(), ratio, format!("ratio {ratio} is greater than max/min = {most:.6}"));
            }
        }
    }
}
