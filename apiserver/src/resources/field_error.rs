//! What is wrong with one field, in the words Kubernetes uses: `spec.replicas: Invalid value: -1: must be ...`.
//! Validation collects every error of an object, so that a user mends them all at once.

use std::fmt;

/// The kind of a field error; decides its words and the machine-readable reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldErrorKind {
    /// A value is missing.
    Required,
    /// The value is malformed or not allowed here.
    Invalid,
    /// The value is not one of an enumeration.
    NotSupported,
    /// The value must be unique and is not.
    Duplicate,
    /// The field may not be set or changed.
    Forbidden,
    /// The value is longer than allowed.
    TooLong,
    /// The list holds more items than allowed.
    TooMany,
    /// What the value refers to does not exist.
    NotFound,
}

impl FieldErrorKind {
    /// The reason in a `StatusCause`.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::NotFound => "FieldValueNotFound",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Required => "Required value",
            Self::Invalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Duplicate => "Duplicate value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::NotFound => "Not found",
        }
    }
}

/// One error: where, what kind, the offending value as people would write it, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// The field's path, as in `spec.containers[0].name`.
    pub path: String,
    /// What kind of error it is.
    pub kind: FieldErrorKind,
    /// The value found, printed; empty when the kind shows none.
    pub value: String,
    /// What would be right.
    pub detail: String,
}

impl FieldError {
    /// The error without its path, as a `StatusCause` carries it.
    pub fn message(&self) -> String {
        let mut out = self.kind.words().to_string();
        let shows_value = !matches!(
            self.kind,
            FieldErrorKind::Required | FieldErrorKind::Forbidden | FieldErrorKind::TooLong | FieldErrorKind::TooMany
        );
        if shows_value {
            out.push_str(": ");
            out.push_str(&self.value);
        }
        if !self.detail.is_empty() {
            out.push_str(": ");
            out.push_str(&self.detail);
        }
        out
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message())
    }
}

/// A value as an error shows it: strings quoted, everything else plain.
pub trait Shown {
    /// The printed form.
    fn shown(&self) -> String;
}

impl Shown for str {
    fn shown(&self) -> String {
        // An error must stay readable whatever was sent: long values are cut.
        match self.char_indices().nth(256) {
            Some((at, _)) => format!("{:?}...", &self[..at]),
            None => format!("{self:?}"),
        }
    }
}

impl Shown for String {
    fn shown(&self) -> String {
        self.as_str().shown()
    }
}

macro_rules! shown_plain {
    ($($t:ty),*) => { $(impl Shown for $t { fn shown(&self) -> String { self.to_string() } })* };
}
shown_plain!(i32, i64, u32, u64, usize, bool);

impl<T: Shown + ?Sized> Shown for &T {
    fn shown(&self) -> String {
        (**self).shown()
    }
}

/// All errors found in an object so far.
#[derive(Debug, Default)]
pub struct Errors {
    found: Vec<FieldError>,
}

/// More errors than this add nothing a person could use, and an attacker could make them many.
const MAX_ERRORS: usize = 100;

impl Errors {
    /// No errors yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn push(&mut self, path: impl Into<String>, kind: FieldErrorKind, value: String, detail: impl Into<String>) {
        if self.found.len() < MAX_ERRORS {
            self.found.push(FieldError { path: path.into(), kind, value, detail: detail.into() });
        }
    }

    /// A required value is missing.
    pub fn required(&mut self, path: impl Into<String>, detail: impl Into<String>) {
        self.push(path, FieldErrorKind::Required, String::new(), detail);
    }

    /// A value is wrong.
    pub fn invalid(&mut self, path: impl Into<String>, value: impl Shown, detail: impl Into<String>) {
        self.push(path, FieldErrorKind::Invalid, value.shown(), detail);
    }

    /// A value is none of those supported.
    pub fn not_supported(&mut self, path: impl Into<String>, value: impl Shown, supported: &[&str]) {
        let list: Vec<String> = supported.iter().map(|s| format!("{s:?}")).collect();
        self.push(path, FieldErrorKind::NotSupported, value.shown(), format!("supported values: {}", list.join(", ")));
    }

    /// A value occurs twice.
    pub fn duplicate(&mut self, path: impl Into<String>, value: impl Shown) {
        self.push(path, FieldErrorKind::Duplicate, value.shown(), "");
    }

    /// A field may not be set or changed.
    pub fn forbidden(&mut self, path: impl Into<String>, detail: impl Into<String>) {
        self.push(path, FieldErrorKind::Forbidden, String::new(), detail);
    }

    /// A value is too long.
    pub fn too_long(&mut self, path: impl Into<String>, max_bytes: usize) {
        self.push(path, FieldErrorKind::TooLong, String::new(), format!("may not be more than {max_bytes} bytes"));
    }

    /// A list or a map has too many entries.
    pub fn too_many(&mut self, path: impl Into<String>, found: usize, most: i64) {
        let detail = format!("{found}: must have at most {most} items");
        self.push(path, FieldErrorKind::TooMany, String::new(), detail);
    }

    /// What a value names does not exist.
    pub fn not_found(&mut self, path: impl Into<String>, value: impl Shown) {
        self.push(path, FieldErrorKind::NotFound, value.shown(), "");
    }

    /// Adds errors.
    pub fn extend(&mut self, errors: Vec<FieldError>) {
        self.append(Errors { found: errors });
    }

    /// Adds what another check found.
    pub fn append(&mut self, other: Errors) {
        for error in other.found {
            if self.found.len() < MAX_ERRORS {
                self.found.push(error);
            }
        }
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The list of errors, in the order found.
    pub fn into_vec(self) -> Vec<FieldError> {
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_read_as_kubernetes_words_them() {
        let mut errors = Errors::new();
        errors.invalid("spec.replicas", -1, "must be greater than or equal to 0");
        errors.required("spec.containers[0].image", "");
        errors.not_supported("spec.restartPolicy", "Sometimes", &["Always", "Never"]);
        errors.duplicate("spec.ports[1].name", "http");
        errors.forbidden("spec", "may not change");
        errors.too_long("metadata.annotations", 262144);
        let words: Vec<String> = errors.into_vec().iter().map(ToString::to_string).collect();
        assert_eq!(
            words,
            [
                "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
                "spec.containers[0].image: Required value",
                "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"Never\"",
                "spec.ports[1].name: Duplicate value: \"http\"",
                "spec: Forbidden: may not change",
                "metadata.annotations: Too long: may not be more than 262144 bytes",
            ]
        );
    }

    #[test]
    fn the_number_of_errors_and_the_length_of_values_are_bounded() {
        let mut errors = Errors::new();
        for _ in 0..1000 {
            errors.invalid("a", "x".repeat(10_000), "");
        }
        let found = errors.into_vec();
        assert_eq!(found.len(), MAX_ERRORS);
        assert!(found[0].to_string().len() < 400);
    }
}
