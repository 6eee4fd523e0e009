//! Rules in the Common Expression Language: compiled once with their schema, asked for every object that is written.
//!
//! A rule cannot run for ever: the language has no loops but those over what is there, and what those may cost is reckoned
//! before a rule is asked, by how deep they stand in each other and by how much there is to go through.

mod expression;
mod functions;
mod values;

use super::before;
use super::structural::Node;
use crate::resources::{Errors, FieldErrorKind, Shown};
use expression::Expression;
use serde_json::{Map, Value};
use skiff_proto::apiextensionsv1::{JsonSchemaProps, ValidationRule};

/// What all rules together may cost for one object, in steps.
const BUDGET: u64 = 10_000_000;
/// A rule that is longer is refused.
const RULE_BYTES: usize = 16 << 10;

/// One rule, compiled.
#[derive(Debug)]
pub struct Rule {
    rule: Expression,
    text: String,
    message: String,
    message_expression: Option<Expression>,
    reason: FieldErrorKind,
    /// Which field is blamed: `.replicas`.
    field: String,
    /// It is asked where there is no old value, too.
    optional_old: bool,
}

/// Compiles the rules of one place of a schema. What cannot be compiled is told, and left out.
pub fn compile(schema: &JsonSchemaProps, node: &Node, path: &str, is_root: bool, errors: &mut Errors) -> Vec<Rule> {
    let one = |(i, rule): (usize, &ValidationRule)| {
        one(rule, (node, is_root), &format!("{path}.x-kubernetes-validations[{i}]"), errors)
    };
    schema.x_validations.iter().enumerate().filter_map(one).collect()
}

fn one(rule: &ValidationRule, (node, is_root): (&Node, bool), path: &str, errors: &mut Errors) -> Option<Rule> {
    if rule.rule.trim().is_empty() {
        errors.required(format!("{path}.rule"), "rule is not specified");
        return None;
    }
    if rule.rule.len() > RULE_BYTES {
        errors.too_long(format!("{path}.rule"), RULE_BYTES);
        return None;
    }
    if rule.message.contains('\n') {
        errors.invalid(format!("{path}.message"), &rule.message, "message must not contain line breaks");
    } else if rule.rule.contains('\n') && rule.message.is_empty() {
        errors.required(format!("{path}.message"), "message must be specified if rule contains line breaks");
    }
    let reason = reason(rule.reason.as_deref(), path, errors);
    if !rule.field_path.is_empty() && !rule.field_path.starts_with(['.', '[']) {
        errors.invalid(format!("{path}.fieldPath"), &rule.field_path, "must begin with a dot or a bracket");
    }
    let mut read = |text: &str, field: &str| match Expression::compile(text, node, is_root) {
        Ok(expression) => Some(expression),
        Err(why) => {
            errors.invalid(format!("{path}.{field}"), text, format!("compilation failed: {why}"));
            None
        }
    };
    let compiled = read(&rule.rule, "rule")?;
    let told = Some(&rule.message_expression).filter(|text| !text.is_empty());
    let message_expression = told.and_then(|text| read(text, "messageExpression"));
    let optional_old = rule.optional_old_self == Some(true);
    if optional_old && !compiled.uses_old {
        errors.invalid(
            format!("{path}.optionalOldSelf"),
            true,
            "may only be set to true when oldSelf is used by the rule",
        );
    }
    Some(Rule {
        rule: compiled,
        text: rule.rule.trim().to_owned(),
        message: rule.message.clone(),
        message_expression,
        reason,
        field: rule.field_path.clone(),
        optional_old,
    })
}

fn reason(name: Option<&str>, path: &str, errors: &mut Errors) -> FieldErrorKind {
    const REASONS: [(&str, FieldErrorKind); 4] = [
        ("FieldValueDuplicate", FieldErrorKind::Duplicate),
        ("FieldValueForbidden", FieldErrorKind::Forbidden),
        ("FieldValueInvalid", FieldErrorKind::Invalid),
        ("FieldValueRequired", FieldErrorKind::Required),
    ];
    let Some(name) = name else { return FieldErrorKind::Invalid };
    match REASONS.iter().find(|(known, _)| *known == name) {
        Some((_, reason)) => *reason,
        None => {
            errors.not_supported(format!("{path}.reason"), name, &REASONS.map(|(name, _)| name));
            FieldErrorKind::Invalid
        }
    }
}

/// Every rule that an object breaks; of a change, those of changes too.
pub fn broken(node: &Node, object: &Map<String, Value>, old: Option<&Map<String, Value>>) -> Errors {
    let mut asker = Asker { errors: Errors::new(), left: BUDGET };
    if node.has_rules {
        let whole = |map: &Map<String, Value>| Value::Object(map.clone());
        let is_old = old.is_some_and(|old| before::is_same_but_metadata(old, object));
        asker.value(node, &whole(object), old.map(whole).as_ref(), Place { path: "", is_root: true, is_old });
    }
    asker.errors
}

struct Asker {
    errors: Errors,
    left: u64,
}

/// Where a value stands.
#[derive(Clone, Copy)]
struct Place<'p> {
    path: &'p str,
    is_root: bool,
    /// It, or what it stands in, is what it was.
    is_old: bool,
}

impl Place<'_> {
    /// A place inside, by its whole path.
    fn inside<'p>(&self, path: &'p str) -> Place<'p> {
        Place { path, is_root: false, is_old: self.is_old }
    }
}

impl Asker {
    fn value(&mut self, node: &Node, value: &Value, old: Option<&Value>, place: Place) {
        if value.is_null() || !node.has_rules {
            return;
        }
        let place = Place { is_old: place.is_old || old == Some(value), ..place };
        // Of what did not change, only rules of changes are asked.
        for rule in node.rules.iter().filter(|rule| rule.rule.uses_old || !place.is_old) {
            if !self.ask(rule, node, value, old, place) {
                return;
            }
        }
        match value {
            Value::Object(map) => {
                for (name, inner) in map {
                    let Some(schema) = node.properties.get(name).or(node.values.as_deref()) else { continue };
                    let at = if place.path.is_empty() { name.clone() } else { format!("{}.{name}", place.path) };
                    self.value(schema, inner, old.and_then(|old| old.get(name)), place.inside(&at));
                }
            }
            Value::Array(items) => {
                let Some(schema) = &node.items else { return };
                for (i, item) in items.iter().enumerate() {
                    let at = format!("{}[{i}]", place.path);
                    self.value(schema, item, before::item(&node.list, item, old), place.inside(&at));
                }
            }
            _ => {}
        }
    }

    /// Asks one rule. False: there is nothing left to ask more with.
    fn ask(&mut self, rule: &Rule, node: &Node, value: &Value, old: Option<&Value>, place: Place) -> bool {
        let Place { path, is_root, .. } = place;
        if rule.rule.uses_old && old.is_none() && !rule.optional_old {
            return true;
        }
        let cost = rule.rule.cost(value, old);
        let Some(left) = self.left.checked_sub(cost) else {
            self.errors.forbidden(
                path,
                format!(
                    "validation failed due to running out of cost budget, no further validation rules will be run: {}",
                    rule.text
                ),
            );
            return false;
        };
        self.left = left;
        let of = |value: &Value| values::of(node, value, is_root);
        let (value_of, old_of) = (of(value), rule.rule.uses_old.then(|| old.map(of)).flatten());
        let at = format!("{path}{}", rule.field);
        let at = at.trim_start_matches('.');
        match rule.rule.is_true(value_of.clone(), old_of.clone(), rule.optional_old) {
            Ok(true) => {}
            Ok(false) => {
                let told = rule.message_expression.as_ref().and_then(|e| e.text(value_of, old_of, rule.optional_old));
                let told = told.or_else(|| Some(rule.message.clone()).filter(|m| !m.is_empty()));
                let message = told.unwrap_or_else(|| format!("failed rule: {}", rule.text));
                self.blame(rule.reason, at, value, message);
            }
            Err(why) => self.errors.invalid(at, shown(value), format!("rule evaluation error: {why}: {}", rule.text)),
        }
        true
    }

    fn blame(&mut self, reason: FieldErrorKind, path: &str, value: &Value, message: String) {
        match reason {
            FieldErrorKind::Required => self.errors.required(path, message),
            FieldErrorKind::Forbidden => self.errors.forbidden(path, message),
            FieldErrorKind::Duplicate => self.errors.duplicate(path, shown(value)),
            _ => self.errors.invalid(path, shown(value), message),
        }
    }
}

/// A value as an error shows it: of what has parts only what it is.
fn shown(value: &Value) -> impl Shown + use<> {
    match value {
        Value::Object(_) => Value::from("object"),
        Value::Array(_) => Value::from("array"),
        simple => simple.clone(),
    }
}
