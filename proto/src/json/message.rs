//! One loop that reads any message and one that writes it.

use super::field::read_value;
use super::path::{Context, Path};
use super::problem::Strictness;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use std::fmt;
use std::marker::PhantomData;

/// What the build says of each message.
pub trait Message: Default {
    /// Set for messages that stand alone.
    const TYPE: Option<TypeMeta> = None;
    /// The keys of its JSON object, inlined ones among them.
    const FIELDS: &'static [&'static str];

    /// The position of a key in `FIELDS`.
    fn index(key: &str) -> Option<usize>;

    /// Reads the value of the field at `index`; `at` is its path.
    fn read_field<'de, A: MapAccess<'de>>(
        &mut self,
        index: usize,
        access: &mut A,
        at: &Path<'_>,
    ) -> Result<(), A::Error>;

    /// Writes the fields that are set, and those that are always written.
    fn write_fields<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error>;

    /// Makes absent what Go writes as a zero time.
    fn normalise(&mut self) {}
}

/// `apiVersion` and `kind`, which JSON has and the struct has not.
#[derive(Clone, Copy, Debug)]
pub struct TypeMeta {
    pub(crate) api_version: &'static str,
    pub(crate) kind: &'static str,
    /// Whether another `apiVersion` is refused.
    pub(crate) strict: bool,
}

pub(crate) fn serialize<T: Message, S: Serializer>(message: &T, serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(None)?;
    if let Some(meta) = T::TYPE {
        map.serialize_entry("apiVersion", meta.api_version)?;
        map.serialize_entry("kind", meta.kind)?;
    }
    message.write_fields(&mut map)?;
    map.end()
}

/// The message as part of another: no `apiVersion`, no `kind`.
pub(crate) fn write_message<T: Message, S: Serializer>(message: &T, serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(None)?;
    message.write_fields(&mut map)?;
    map.end()
}

pub(crate) fn deserialize<'de, T: Message, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    let context = Context::new(Strictness::Ignore);
    read_message(deserializer, &Path::root(&context))
}

pub(crate) fn read_message<'de, T: Message, D: Deserializer<'de>>(
    deserializer: D,
    at: &Path<'_>,
) -> Result<T, D::Error> {
    deserializer.deserialize_any(MessageVisitor { at, message: PhantomData })
}

struct MessageVisitor<'a, T> {
    at: &'a Path<'a>,
    message: PhantomData<T>,
}

impl<'de, T: Message> Visitor<'de> for MessageVisitor<'_, T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match T::FIELDS {
            [] => f.write_str("an object without fields"),
            [first, ..] => write!(f, "an object with fields like {first:?}"),
        }
    }

    fn visit_unit<E>(self) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<T, A::Error> {
        let mut message = T::default();
        let mut seen = 0u64;
        let mut meta = SeenMeta::default();
        while let Some(key) = access.next_key_seed(KeySeed::<T>(PhantomData))? {
            match key {
                Key::Field(index) => {
                    let name = T::FIELDS[index];
                    if seen & (1 << index) != 0 {
                        self.at.duplicate(name);
                    }
                    seen |= 1 << index;
                    message.read_field(index, &mut access, &self.at.field(name))?;
                }
                Key::Meta(name) => meta.read(T::TYPE, name, &mut access, self.at)?,
                Key::Unknown(name) => {
                    self.at.unknown(&name, T::FIELDS);
                    access.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(message)
    }
}

/// Which of `apiVersion` and `kind` were there.
#[derive(Default)]
struct SeenMeta {
    api_version: bool,
    kind: bool,
}

impl SeenMeta {
    fn read<'de, A: MapAccess<'de>>(
        &mut self,
        meta: Option<TypeMeta>,
        name: &'static str,
        access: &mut A,
        parent: &Path<'_>,
    ) -> Result<(), A::Error> {
        let is_kind = name == "kind";
        let seen = if is_kind { &mut self.kind } else { &mut self.api_version };
        if std::mem::replace(seen, true) {
            parent.duplicate(name);
        }
        let at = parent.field(name);
        let found: String = read_value(access, &at)?;
        let expected = meta.map(|m| if is_kind { m.kind } else { m.api_version }).unwrap_or_default();
        let compared = is_kind || meta.is_some_and(|m| m.strict);
        if compared && !found.is_empty() && found != expected {
            at.fail();
            return Err(A::Error::custom(format_args!("{name} {found:?} where {expected:?} is expected")));
        }
        Ok(())
    }
}

enum Key {
    Field(usize),
    Meta(&'static str),
    Unknown(String),
}

struct KeySeed<T>(PhantomData<T>);

impl<'de, T: Message> DeserializeSeed<'de> for KeySeed<T> {
    type Value = Key;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Key, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl<T: Message> Visitor<'_> for KeySeed<T> {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_str<E>(self, key: &str) -> Result<Key, E> {
        if let Some(index) = T::index(key) {
            return Ok(Key::Field(index));
        }
        Ok(match key {
            "kind" if T::TYPE.is_some() => Key::Meta("kind"),
            "apiVersion" if T::TYPE.is_some() => Key::Meta("apiVersion"),
            _ => Key::Unknown(key.to_owned()),
        })
    }
}
