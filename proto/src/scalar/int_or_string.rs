//! A number or a text: a port or its name, a count or a percentage.

use prost::bytes::{Buf, BufMut};
use prost::encoding::{self, DecodeContext, WireType};
use std::fmt;

/// `8080` or `"http"`; `1` or `"25%"`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IntOrString {
    /// A number.
    Int(i32),
    /// A name or a percentage.
    Str(String),
}

/// A text where a count or a percentage is expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither a number nor a percentage like \"25%\"")]
pub struct NotAPercentage(pub String);

impl IntOrString {
    /// The count that this stands for: itself, or the percentage of `total`.
    pub fn scaled(&self, total: i32, round_up: bool) -> Result<i32, NotAPercentage> {
        match self {
            IntOrString::Int(count) => Ok(*count),
            IntOrString::Str(text) => {
                let percent = percentage(text).ok_or_else(|| NotAPercentage(text.clone()))?;
                let product = i64::from(percent) * i64::from(total);
                let share = if round_up {
                    product.div_euclid(100) + i64::from(product.rem_euclid(100) != 0)
                } else {
                    product.div_euclid(100)
                };
                Ok(share.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32)
            }
        }
    }

    /// The number, when it is one.
    pub fn as_int(&self) -> Option<i32> {
        match self {
            IntOrString::Int(n) => Some(*n),
            IntOrString::Str(_) => None,
        }
    }

    /// The text, when it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            IntOrString::Int(_) => None,
            IntOrString::Str(s) => Some(s),
        }
    }

    /// Whether this is what an absent value decodes to.
    pub fn is_unset(&self) -> bool {
        *self == IntOrString::Int(0)
    }
}

/// The number before `%`: digits only, so that "+5%" and "5 %" are refused.
fn percentage(text: &str) -> Option<i32> {
    let digits = text.strip_suffix('%')?;
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if plain { digits.parse().ok() } else { None }
}

impl Default for IntOrString {
    fn default() -> Self {
        IntOrString::Int(0)
    }
}

impl From<i32> for IntOrString {
    fn from(n: i32) -> Self {
        IntOrString::Int(n)
    }
}

impl From<&str> for IntOrString {
    fn from(s: &str) -> Self {
        IntOrString::Str(s.to_owned())
    }
}

impl fmt::Display for IntOrString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IntOrString::Int(n) => n.fmt(f),
            IntOrString::Str(s) => s.fmt(f),
        }
    }
}

impl prost::Message for IntOrString {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        match self {
            IntOrString::Int(0) => {}
            IntOrString::Int(n) => encoding::int32::encode(2, n, buf),
            IntOrString::Str(s) => {
                encoding::int64::encode(1, &1, buf);
                encoding::string::encode(3, s, buf);
            }
        }
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), prost::DecodeError> {
        // Go writes all three fields, the one that does not count being zero: the type says which counts.
        match tag {
            1 => {
                let mut kind = 0i64;
                encoding::int64::merge(wire_type, &mut kind, buf, ctx)?;
                match (kind, &self) {
                    (0, IntOrString::Str(_)) => *self = IntOrString::Int(0),
                    (1, IntOrString::Int(_)) => *self = IntOrString::Str(String::new()),
                    _ => {}
                }
            }
            2 => {
                let mut number = 0i32;
                encoding::int32::merge(wire_type, &mut number, buf, ctx)?;
                if let IntOrString::Int(n) = self {
                    *n = number;
                }
            }
            3 => {
                let mut text = String::new();
                encoding::string::merge(wire_type, &mut text, buf, ctx)?;
                if let IntOrString::Str(s) = self {
                    *s = text;
                }
            }
            _ => encoding::skip_field(wire_type, tag, buf, ctx)?,
        }
        Ok(())
    }

    fn encoded_len(&self) -> usize {
        match self {
            IntOrString::Int(0) => 0,
            IntOrString::Int(n) => encoding::int32::encoded_len(2, n),
            IntOrString::Str(s) => encoding::int64::encoded_len(1, &1) + encoding::string::encoded_len(3, s),
        }
    }

    fn clear(&mut self) {
        *self = IntOrString::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;

    #[test]
    fn scales_percentages() {
        for (value, total, up, down) in [
            ("25%", 4, 1, 1),
            ("25%", 3, 1, 0),
            ("0%", 10, 0, 0),
            ("100%", 7, 7, 7),
            ("150%", 10, 15, 15),
            ("1%", 0, 0, 0),
        ] {
            let value = IntOrString::from(value);
            assert_eq!(value.scaled(total, true), Ok(up), "{value} of {total} up");
            assert_eq!(value.scaled(total, false), Ok(down), "{value} of {total} down");
        }
        assert_eq!(IntOrString::Int(3).scaled(100, true), Ok(3));
        for bad in ["", "%", "x%", "25", "-5%", "2.5%", "99999999999%"] {
            assert!(IntOrString::from(bad).scaled(10, true).is_err(), "{bad}");
        }
    }

    #[test]
    fn protobuf_as_go_writes_it() {
        // type 0, intVal 80, strVal "": all three present.
        assert_eq!(IntOrString::decode(&[8, 0, 16, 80, 26, 0][..]).unwrap(), IntOrString::Int(80));
        assert_eq!(IntOrString::decode(&[8, 1, 16, 0, 26, 1, b'x'][..]).unwrap(), IntOrString::from("x"));
        for value in [IntOrString::Int(0), IntOrString::Int(-7), IntOrString::from(""), IntOrString::from("http")] {
            let bytes = value.encode_to_vec();
            assert_eq!(bytes.len(), value.encoded_len());
            assert_eq!(IntOrString::decode(bytes.as_slice()).unwrap(), value);
        }
    }
}
