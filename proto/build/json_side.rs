//! The JSON of every message: which key is which field, how to read it and when to write it.
//! The loops around it stand in src/json, written once.

use crate::model::{Field, Message, Model, Shape, Type};
use std::collections::BTreeSet;
use std::fmt::Write;

/// A message's fields as JSON shows them: those of inlined sub-messages count as its own.
fn keys<'m>(model: &'m Model, message: &'m Message) -> Vec<&'m Field> {
    let mut out = Vec::new();
    for field in &message.fields {
        match inlined(model, field) {
            Some(inner) => out.extend(keys(model, inner)),
            None => out.push(field),
        }
    }
    out
}

fn inlined<'m>(model: &'m Model, field: &Field) -> Option<&'m Message> {
    match &field.ty {
        Type::Message(name) if field.inline => Some(model.message(name)),
        _ => None,
    }
}

pub fn generate(model: &Model) -> Result<String, String> {
    let mut out = String::new();
    for message in &model.messages {
        let keys = keys(model, message);
        if keys.len() > 64 {
            return Err(format!("{}: more fields than the reader's mask has bits", message.full_name));
        }
        write_message(&mut out, model, message, &keys).map_err(|e| e.to_string())?;
    }
    Ok(out)
}

fn write_message(out: &mut String, model: &Model, message: &Message, keys: &[&Field]) -> std::fmt::Result {
    let names: Vec<&str> = keys.iter().map(|f| f.name.as_str()).collect();
    writeln!(out, "impl Message for {} {{", message.rust)?;
    if let Some(kind) = &message.kind {
        let TypeMeta { api_version, kind, strict } = TypeMeta::of(message, kind);
        writeln!(
            out,
            "const TYPE: Option<TypeMeta> = Some(TypeMeta {{ api_version: {api_version:?}, kind: {kind:?}, strict: {strict} }});"
        )?;
    }
    writeln!(out, "const FIELDS: &'static [&'static str] = &{names:?};")?;

    if names.is_empty() {
        // A message that says something by being there.
        writeln!(out, "fn index(_: &str) -> Option<usize> {{ None }}")?;
    } else {
        writeln!(out, "fn index(key: &str) -> Option<usize> {{\nSome(match key {{")?;
        for (i, name) in names.iter().enumerate() {
            writeln!(out, "{name:?} => {i},")?;
        }
        writeln!(out, "_ => return None,\n}})\n}}")?;
    }

    write_reader(out, model, message)?;
    write_writer(out, message)?;
    write_normaliser(out, model, message)?;
    writeln!(out, "}}")?;
    writeln!(
        out,
        "impl serde::Serialize for {rust} {{\n\
         fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {{ serialize(self, s) }}\n\
         }}\n\
         impl<'de> serde::Deserialize<'de> for {rust} {{\n\
         fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {{ deserialize(d) }}\n\
         }}\n\
         impl Field for {rust} {{\n\
         fn write<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {{ write_message(self, s) }}\n\
         fn read<'de, D: serde::Deserializer<'de>>(d: D, at: &Path<'_>) -> Result<Self, D::Error> {{ read_message(d, at) }}\n\
         fn is_empty(&self) -> bool {{ false }}\n\
         }}\n",
        rust = message.rust
    )
}

struct TypeMeta<'m> {
    api_version: &'m str,
    kind: &'m str,
    strict: bool,
}

impl<'m> TypeMeta<'m> {
    /// Options and answers are written under many a group's version, so theirs is not compared.
    fn of(message: &'m Message, kind: &'m crate::model::KindFacts) -> TypeMeta<'m> {
        TypeMeta { api_version: &kind.api_version, kind: &message.name, strict: !kind.resource.is_empty() }
    }
}

fn write_reader(out: &mut String, model: &Model, message: &Message) -> std::fmt::Result {
    writeln!(
        out,
        "#[allow(unused_variables, clippy::single_match, clippy::match_single_binding)]\n\
         fn read_field<'de, A: serde::de::MapAccess<'de>>(&mut self, index: usize, access: &mut A, at: &Path<'_>) -> Result<(), A::Error> {{\n\
         match index {{"
    )?;
    let mut index = 0;
    for field in &message.fields {
        if let Some(inner) = inlined(model, field) {
            let end = index + keys(model, inner).len();
            let inner = if index == 0 { "index".to_owned() } else { format!("index - {index}") };
            writeln!(out, "{index}..{end} => self.{}.read_field({inner}, access, at)?,", field.rust)?;
            index = end;
        } else {
            writeln!(out, "{index} => self.{} = read_value(access, at)?,", field.rust)?;
            index += 1;
        }
    }
    writeln!(out, "_ => {{}}\n}}\nOk(())\n}}")
}

fn write_writer(out: &mut String, message: &Message) -> std::fmt::Result {
    writeln!(
        out,
        "#[allow(unused_variables)]\n\
         fn write_fields<M: serde::ser::SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {{"
    )?;
    for field in &message.fields {
        let (name, rust) = (&field.name, &field.rust);
        if field.inline {
            writeln!(out, "self.{rust}.write_fields(map)?;")?;
        } else if field.keep || field.shape == Shape::Value {
            writeln!(out, "map.serialize_entry({name:?}, &Out(&self.{rust}))?;")?;
        } else {
            writeln!(out, "if !self.{rust}.is_empty() {{ map.serialize_entry({name:?}, &Out(&self.{rust}))?; }}")?;
        }
    }
    writeln!(out, "Ok(())\n}}")
}

/// Only messages that hold a time, at whatever depth, have anything to normalise.
fn write_normaliser(out: &mut String, model: &Model, message: &Message) -> std::fmt::Result {
    if !holds_time(model, message) {
        return Ok(());
    }
    writeln!(out, "fn normalise(&mut self) {{")?;
    for field in &message.fields {
        let rust = &field.rust;
        match (&field.ty, field.shape) {
            (ty, Shape::Optional) if is_time(ty) => {
                writeln!(out, "if self.{rust}.is_some_and(|t| t.is_zero()) {{ self.{rust} = None; }}")?;
            }
            (Type::Message(name), shape) if holds_time(model, model.message(name)) => match shape {
                Shape::Value => writeln!(out, "self.{rust}.normalise();")?,
                Shape::Map => writeln!(out, "self.{rust}.values_mut().for_each(Message::normalise);")?,
                Shape::List => writeln!(out, "self.{rust}.iter_mut().for_each(Message::normalise);")?,
                _ => writeln!(out, "if let Some(inner) = &mut self.{rust} {{ inner.normalise(); }}")?,
            },
            _ => {}
        }
    }
    writeln!(out, "}}")
}

fn is_time(ty: &Type) -> bool {
    matches!(ty, Type::HandWritten(rust) if rust.ends_with("Time"))
}

fn holds_time(model: &Model, message: &Message) -> bool {
    time_within(model, message, &mut BTreeSet::new())
}

/// Messages may hold themselves: each is looked into once.
fn time_within<'m>(model: &'m Model, message: &'m Message, seen: &mut BTreeSet<&'m str>) -> bool {
    seen.insert(&message.full_name)
        && message.fields.iter().any(|field| match &field.ty {
            Type::Message(name) => time_within(model, model.message(name), seen),
            ty => is_time(ty),
        })
}
