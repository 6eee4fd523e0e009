//! The JSON of the hand-written types.

use super::field::{Field, Present, scalar};
use super::path::Path;
use crate::scalar::{FieldsV1, IntOrString, Json, MicroTime, Quantity, RawExtension, Time};
use serde::de::{Deserialize, Deserializer, Error, Unexpected, Visitor};
use serde::ser::{Serialize, Serializer};
use serde_json::Value;
use std::fmt;

scalar!(TimeVisitor -> Time, "a time like 2026-01-31T15:04:05Z", {
    fn visit_str<E: Error>(self, value: &str) -> Result<Time, E> {
        value.parse().map_err(E::custom)
    }
});

scalar!(MicroTimeVisitor -> MicroTime, "a time like 2026-01-31T15:04:05.000000Z", {
    fn visit_str<E: Error>(self, value: &str) -> Result<MicroTime, E> {
        value.parse().map_err(E::custom)
    }
});

scalar!(QuantityVisitor -> Quantity, "a quantity like 500m, 2 or 1.5Gi", {
    fn visit_str<E: Error>(self, value: &str) -> Result<Quantity, E> {
        Quantity::parse(value).map_err(E::custom)
    }
    fn visit_i64<E: Error>(self, value: i64) -> Result<Quantity, E> {
        Ok(Quantity::from_value(value))
    }
    fn visit_u64<E: Error>(self, value: u64) -> Result<Quantity, E> {
        self.visit_str(&value.to_string())
    }
    fn visit_f64<E: Error>(self, value: f64) -> Result<Quantity, E> {
        self.visit_str(&value.to_string())
    }
});

scalar!(IntOrStringVisitor -> IntOrString, "a whole number or a text", {
    fn visit_str<E>(self, value: &str) -> Result<IntOrString, E> {
        Ok(IntOrString::Str(value.to_owned()))
    }
    fn visit_i64<E: Error>(self, value: i64) -> Result<IntOrString, E> {
        i32::try_from(value).map(IntOrString::Int).map_err(|_| E::invalid_value(Unexpected::Signed(value), &self))
    }
    fn visit_u64<E: Error>(self, value: u64) -> Result<IntOrString, E> {
        i32::try_from(value).map(IntOrString::Int).map_err(|_| E::invalid_value(Unexpected::Unsigned(value), &self))
    }
});

/// `Field` by a visitor and a writer, and serde's own traits by `Field`'s means.
macro_rules! json_scalar {
    ($ty:ty, $visitor:ident, |$value:ident| $empty:expr, |$this:ident, $s:ident| $write:expr) => {
        impl Field for $ty {
            fn write<S: Serializer>(&self, $s: S) -> Result<S::Ok, S::Error> {
                let $this = self;
                $write
            }
            fn read<'de, D: Deserializer<'de>>(d: D, _: &Path<'_>) -> Result<$ty, D::Error> {
                d.deserialize_any($visitor)
            }
            fn is_empty(&self) -> bool {
                let $value = self;
                $empty
            }
        }
        impl Serialize for $ty {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                self.write(s)
            }
        }
        impl<'de> Deserialize<'de> for $ty {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<$ty, D::Error> {
                d.deserialize_any($visitor)
            }
        }
    };
}

json_scalar!(Time, TimeVisitor, |t| t.is_zero(), |t, s| if t.is_zero() {
    s.serialize_unit()
} else {
    s.collect_str(t)
});
json_scalar!(MicroTime, MicroTimeVisitor, |t| t.is_zero(), |t, s| if t.is_zero() {
    s.serialize_unit()
} else {
    s.collect_str(t)
});
json_scalar!(Quantity, QuantityVisitor, |_q| false, |q, s| s.collect_str(q));
json_scalar!(IntOrString, IntOrStringVisitor, |_i| false, |i, s| match i {
    IntOrString::Int(n) => s.serialize_i32(*n),
    IntOrString::Str(text) => s.serialize_str(text),
});

impl Present for Time {
    fn is_present(&self) -> bool {
        !self.is_zero()
    }
}
impl Present for MicroTime {
    fn is_present(&self) -> bool {
        !self.is_zero()
    }
}
impl Present for Quantity {}
impl Present for IntOrString {}
impl Present for FieldsV1 {}
impl Present for RawExtension {}
impl Present for Json {}

macro_rules! json_raw {
    ($ty:ident) => {
        impl Field for $ty {
            fn write<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                self.value().serialize(s)
            }
            fn read<'de, D: Deserializer<'de>>(d: D, _: &Path<'_>) -> Result<$ty, D::Error> {
                <$ty as Deserialize>::deserialize(d)
            }
            fn is_empty(&self) -> bool {
                self.raw.is_empty()
            }
        }
        impl Serialize for $ty {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                self.write(s)
            }
        }
        impl<'de> Deserialize<'de> for $ty {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<$ty, D::Error> {
                Ok(match Value::deserialize(d)? {
                    Value::Null => $ty::default(),
                    value => $ty::from_value(&value),
                })
            }
        }
    };
}
json_raw!(FieldsV1);
json_raw!(RawExtension);
json_raw!(Json);
