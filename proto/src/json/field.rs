//! How the types of fields read and write: scalars, lists, maps and what may be absent.

use super::path::Path;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

/// A field's value in JSON. Reading takes null for the default, as Kubernetes does.
pub trait Field: Sized + Default {
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error>;
    fn read<'de, D: Deserializer<'de>>(deserializer: D, at: &Path<'_>) -> Result<Self, D::Error>;
    /// Whether the field is left out of the JSON, unless it is always written.
    fn is_empty(&self) -> bool;
}

/// Lends a field to serde.
pub(crate) struct Out<'a, T>(pub(crate) &'a T);

impl<T: Field> Serialize for Out<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.write(serializer)
    }
}

/// Reads a field, remembering its path if that fails.
struct Seed<'a, T>(&'a Path<'a>, PhantomData<T>);

impl<'de, T: Field> DeserializeSeed<'de> for Seed<'_, T> {
    type Value = T;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        T::read(deserializer, self.0).inspect_err(|_| self.0.fail())
    }
}

pub(crate) fn read_value<'de, T: Field, A: MapAccess<'de>>(access: &mut A, at: &Path<'_>) -> Result<T, A::Error> {
    access.next_value_seed(Seed(at, PhantomData))
}

/// Reads one JSON value by a visitor made of a few closures-like methods.
macro_rules! scalar {
    ($name:ident -> $ty:ty, $expecting:expr, { $($methods:tt)* }) => {
        struct $name;
        impl Visitor<'_> for $name {
            type Value = $ty;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($expecting)
            }
            fn visit_unit<E>(self) -> Result<$ty, E> {
                Ok(Default::default())
            }
            $($methods)*
        }
    };
}
pub(super) use scalar;

scalar!(BoolVisitor -> bool, "true or false", {
    fn visit_bool<E>(self, value: bool) -> Result<bool, E> {
        Ok(value)
    }
});

scalar!(StringVisitor -> String, "a text (in YAML, put it in quotes)", {
    fn visit_str<E>(self, value: &str) -> Result<String, E> {
        Ok(value.to_owned())
    }
    fn visit_string<E>(self, value: String) -> Result<String, E> {
        Ok(value)
    }
});

scalar!(BytesVisitor -> Vec<u8>, "bytes in base64", {
    fn visit_str<E: Error>(self, value: &str) -> Result<Vec<u8>, E> {
        // Line breaks are what `base64` and YAML blocks put in, and what Go's reader skips.
        let compact: std::borrow::Cow<'_, str> =
            if value.contains(['\n', '\r']) { value.replace(['\n', '\r'], "").into() } else { value.into() };
        BASE64.decode(compact.as_bytes()).map_err(|e| E::custom(format_args!("not base64: {e}")))
    }
});

scalar!(Int32Visitor -> i32, "a whole number from -2147483648 to 2147483647", {
    fn visit_i64<E: Error>(self, value: i64) -> Result<i32, E> {
        i32::try_from(value).map_err(|_| E::invalid_value(Unexpected::Signed(value), &self))
    }
    fn visit_u64<E: Error>(self, value: u64) -> Result<i32, E> {
        i32::try_from(value).map_err(|_| E::invalid_value(Unexpected::Unsigned(value), &self))
    }
});

scalar!(Int64Visitor -> i64, "a whole number of at most 64 bits", {
    fn visit_i64<E: Error>(self, value: i64) -> Result<i64, E> {
        Ok(value)
    }
    fn visit_u64<E: Error>(self, value: u64) -> Result<i64, E> {
        i64::try_from(value).map_err(|_| E::invalid_value(Unexpected::Unsigned(value), &self))
    }
});

scalar!(NumberVisitor -> f64, "a number", {
    fn visit_i64<E: Error>(self, value: i64) -> Result<f64, E> {
        Ok(value as f64)
    }
    fn visit_u64<E: Error>(self, value: u64) -> Result<f64, E> {
        Ok(value as f64)
    }
    fn visit_f64<E: Error>(self, value: f64) -> Result<f64, E> {
        Ok(value)
    }
});

impl Field for bool {
    fn write<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_bool(*self)
    }
    fn read<'de, D: Deserializer<'de>>(d: D, _: &Path<'_>) -> Result<bool, D::Error> {
        d.deserialize_any(BoolVisitor)
    }
    fn is_empty(&self) -> bool {
        !self
    }
}

impl Field for i32 {
    fn write<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_i32(*self)
    }
    fn read<'de, D: Deserializer<'de>>(d: D, _: &Path<'_>) -> Result<i32, D::Error> {
        d.deserialize_any(Int32Visitor)
    }
    fn is_empty(&self) -> bool {
        *self == 0
    }
}

impl Field for i64 {
    fn write<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_i64(*self)
    }
    fn read<'de, D: Deserializer<'de>>(d: D, _: &Path<'_>) -> Result<i64, D::Error> {
        d.deserialize_any(Int64Visitor)
    }
    fn is_empty(&self) -> bool {
        *self == 0
    }
}

/// Whole numbers are written without a point, as Go does.
impl Field for f64 {
    fn write<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        const EXACT: f64 = (1i64 << 53) as f64;
        if self.fract() == 0.0 && self.abs() < EXACT { s.serialize_i64(*self as i64) } else { s.serialize_f64(*self) }
    }
    fn read<'de, D: Deserializer<'de>>(d: D, _: &Path<'_>) -> Result<f64, D::Error> {
        d.deserialize_any(NumberVisitor)
    }
    fn is_empty(&self) -> bool {
        *self == 0.0
    }
}

impl Field for String {
    fn write<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self)
    }
    fn read<'de, D: Deserializer<'de>>(d: D, _: &Path<'_>) -> Result<String, D::Error> {
        d.deserialize_any(StringVisitor)
    }
    fn is_empty(&self) -> bool {
        self.is_empty()
    }
}

impl Field for Vec<u8> {
    fn write<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&BASE64.encode(self))
    }
    fn read<'de, D: Deserializer<'de>>(d: D, _: &Path<'_>) -> Result<Vec<u8>, D::Error> {
        d.deserialize_any(BytesVisitor)
    }
    fn is_empty(&self) -> bool {
        self.is_empty()
    }
}

impl<T: Field> Field for Box<T> {
    fn write<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        T::write(self, s)
    }
    fn read<'de, D: Deserializer<'de>>(d: D, at: &Path<'_>) -> Result<Box<T>, D::Error> {
        T::read(d, at).map(Box::new)
    }
    fn is_empty(&self) -> bool {
        T::is_empty(self)
    }
}

/// A pointer in Go: absent, or there even when it is zero.
impl<T: Field> Field for Option<T>
where
    T: Present,
{
    fn write<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Some(value) => value.write(s),
            None => s.serialize_unit(),
        }
    }
    fn read<'de, D: Deserializer<'de>>(d: D, at: &Path<'_>) -> Result<Option<T>, D::Error> {
        d.deserialize_option(OptionVisitor(at, PhantomData))
    }
    fn is_empty(&self) -> bool {
        !self.as_ref().is_some_and(Present::is_present)
    }
}

/// Whether a value that is there says something. Only a zero time does not.
pub trait Present {
    fn is_present(&self) -> bool {
        true
    }
}

impl Present for bool {}
impl Present for i32 {}
impl Present for i64 {}
impl Present for f64 {}
impl Present for String {}
impl<T> Present for Box<T> {}

struct OptionVisitor<'a, T>(&'a Path<'a>, PhantomData<T>);

impl<'de, T: Field> Visitor<'de> for OptionVisitor<'_, T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value or null")
    }
    fn visit_none<E>(self) -> Result<Option<T>, E> {
        Ok(None)
    }
    fn visit_unit<E>(self) -> Result<Option<T>, E> {
        Ok(None)
    }
    fn visit_some<D: Deserializer<'de>>(self, d: D) -> Result<Option<T>, D::Error> {
        T::read(d, self.0).map(Some)
    }
}

impl<T: Field> Field for Vec<T> {
    fn write<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut seq = s.serialize_seq(Some(self.len()))?;
        for item in self {
            seq.serialize_element(&Out(item))?;
        }
        seq.end()
    }
    fn read<'de, D: Deserializer<'de>>(d: D, at: &Path<'_>) -> Result<Vec<T>, D::Error> {
        d.deserialize_any(ListVisitor(at, PhantomData))
    }
    fn is_empty(&self) -> bool {
        self.is_empty()
    }
}

struct ListVisitor<'a, T>(&'a Path<'a>, PhantomData<T>);

impl<'de, T: Field> Visitor<'de> for ListVisitor<'_, T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }
    fn visit_unit<E>(self) -> Result<Vec<T>, E> {
        Ok(Vec::new())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(Seed(&self.0.item(items.len()), PhantomData))? {
            items.push(item);
        }
        Ok(items)
    }
}

impl<T: Field> Field for BTreeMap<String, T> {
    fn write<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(Some(self.len()))?;
        for (key, value) in self {
            map.serialize_entry(key, &Out(value))?;
        }
        map.end()
    }
    fn read<'de, D: Deserializer<'de>>(d: D, at: &Path<'_>) -> Result<BTreeMap<String, T>, D::Error> {
        d.deserialize_any(MapVisitor(at, PhantomData))
    }
    fn is_empty(&self) -> bool {
        self.is_empty()
    }
}

struct MapVisitor<'a, T>(&'a Path<'a>, PhantomData<T>);

impl<'de, T: Field> Visitor<'de> for MapVisitor<'_, T> {
    type Value = BTreeMap<String, T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of keys and values")
    }
    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(BTreeMap::new())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut map = BTreeMap::new();
        while let Some(key) = access.next_key::<String>()? {
            let value = read_value(&mut access, &self.0.field(&key))?;
            if map.contains_key(&key) {
                self.0.duplicate(&key);
            }
            map.insert(key, value);
        }
        Ok(map)
    }
}
