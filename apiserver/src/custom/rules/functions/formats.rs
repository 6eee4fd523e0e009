//! Kubernetes' named formats: `!format.dns1123Label().validate(self.name).hasValue()`.

use super::{Held, Hold};
use crate::custom::format;
use crate::resources::validation;
use cel::common::functions::Function;
use cel::common::types::{CelList, CelOptional, CelString, Type};
use cel::common::value::{CowVal, Val};
use cel::{DeclarationError, Env};

static TYPE: Type = Type::new_unspecified_type("kubernetes.NamedFormat");

/// A format, by its name.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Format(&'static str);

impl Hold for Format {
    fn of_type() -> &'static Type {
        &TYPE
    }
}

type Named = Held<Format>;

/// Makes the function that stands for one format; a function here has nothing to remember a name in.
macro_rules! formats {
    ($($name:literal),*) => {
        const NAMES: &[(&str, Function)] = &[$(($name, |_| Ok(CowVal::owned(Held(Format($name)))))),*];
    };
}

formats!(
    "dns1123Label",
    "dns1123Subdomain",
    "dns1035Label",
    "qualifiedName",
    "dns1123LabelPrefix",
    "dns1123SubdomainPrefix",
    "dns1035LabelPrefix",
    "labelValue",
    "uri",
    "uuid",
    "byte",
    "date",
    "datetime"
);

/// Adds them.
pub fn extension(env: &mut Env) -> Result<(), DeclarationError> {
    env.add_type(TYPE.to_owned())?;
    for (name, make) in NAMES {
        let name = format!("format.{name}");
        env.add_overload(&name, &name, vec![], *make)?;
    }
    cel::add_overload!(env, fn named: (CelString) -> CelOptional, name = "format.named")?;
    cel::add_member_overload!(env, fn validate: (Named, CelString) -> CelOptional)
}

fn named(name: &CelString) -> CelOptional<'static> {
    let found = NAMES.iter().find(|(known, _)| *known == name.inner());
    found.map_or_else(CelOptional::none, |(name, _)| CelOptional::of(Box::new(Held(Format(name)))))
}

/// What is wrong with a text; nothing at all if nothing is.
fn validate(format: &Named, text: &CelString) -> CelOptional<'static> {
    let problems = problems(format.0.0, text.inner());
    if problems.is_empty() {
        return CelOptional::none();
    }
    let boxed = |problem: String| -> Box<dyn Val> { Box::new(CelString::from(problem)) };
    CelOptional::of(Box::new(CelList::from(problems.into_iter().map(boxed).collect::<Vec<_>>())))
}

fn problems(format: &str, text: &str) -> Vec<String> {
    match format {
        "dns1123Label" => validation::dns1123_label(text),
        "dns1123Subdomain" => validation::dns1123_subdomain(text),
        "dns1035Label" => validation::dns1035_label(text),
        "qualifiedName" => validation::qualified_name(text),
        "dns1123LabelPrefix" => validation::dns1123_label(&completed(text)),
        "dns1123SubdomainPrefix" => validation::dns1123_subdomain(&completed(text)),
        "dns1035LabelPrefix" => validation::dns1035_label(&completed(text)),
        "labelValue" => validation::label_value(text),
        "uri" => super::urls::problem(text).into_iter().collect(),
        other if format::fits(other, text) => Vec::new(),
        "uuid" => vec!["does not match the UUID format".to_owned()],
        "byte" => vec!["invalid base64".to_owned()],
        "date" => vec!["invalid date".to_owned()],
        _ => vec!["invalid datetime".to_owned()],
    }
}

/// What a name is made of may end in a dash, since more follows it.
fn completed(prefix: &str) -> String {
    match prefix.strip_suffix('-') {
        Some(rest) if !rest.is_empty() => format!("{rest}a"),
        _ => prefix.to_owned(),
    }
}
