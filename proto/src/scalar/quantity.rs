//! Amounts of resources: `500m`, `1.5Gi`, `2e3`. Exact, and printed in Kubernetes' canonical form.

use prost::bytes::{Buf, BufMut};
use prost::encoding::{self, DecodeContext, WireType};
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::str::FromStr;

/// An amount, exact to a billionth. Two quantities are equal when they are the same amount,
/// however they are written: `1Gi` equals `1024Mi`.
#[derive(Clone, Copy, Default)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

/// How an amount was written, which its canonical form keeps.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
enum Format {
    /// `1500m`, `2k`
    #[default]
    DecimalSi,
    /// `15e-1`, `2e3`
    DecimalExponent,
    /// `1Gi`
    BinarySi,
}

/// What stands where a quantity should, and is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadQuantity {
    /// No number, or an unknown suffix.
    #[error(
        "{0:?} is not a quantity: write a number with an optional suffix, like 500m, 2, 1.5Gi or 1e3 (suffixes: n u m k M G T P E, Ki Mi Gi Ti Pi Ei)"
    )]
    Form(String),
    /// More than can be counted in billionths.
    #[error("{0:?} is too large for a quantity")]
    TooLarge(String),
}

const NANO: i128 = 1_000_000_000;
const DECIMAL_SUFFIXES: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];
const BINARY_SUFFIXES: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

impl Quantity {
    /// Reads a quantity; the value it returns prints in canonical form.
    pub fn parse(text: &str) -> Result<Quantity, BadQuantity> {
        let bad = || BadQuantity::Form(text.chars().take(64).collect());
        let (negative, unsigned) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
            return Err(bad());
        }
        let (format, scale) = Scale::parse(suffix).ok_or_else(bad)?;
        let nanos =
            scale.nanos(whole, fraction).ok_or_else(|| BadQuantity::TooLarge(text.chars().take(64).collect()))?;
        // A kibibyte and more prints as whole bytes, so it is whole bytes from the start: what was
        // read and what is read back are then the same amount.
        let whole_bytes = format == Format::BinarySi && nanos >= 1024 * NANO;
        let nanos = if whole_bytes { round_away(nanos, NANO).checked_mul(NANO) } else { Some(nanos) };
        let nanos = nanos.ok_or_else(|| BadQuantity::TooLarge(text.chars().take(64).collect()))?;
        Ok(Quantity { nanos: if negative { -nanos } else { nanos }, format })
    }

    /// A whole number, printed decimally: `from_value(2000)` is `2k`.
    pub fn from_value(value: i64) -> Quantity {
        Quantity { nanos: i128::from(value) * NANO, format: Format::DecimalSi }
    }

    /// A number of bytes, printed in powers of 1024.
    pub fn from_bytes(bytes: i64) -> Quantity {
        Quantity { nanos: i128::from(bytes) * NANO, format: Format::BinarySi }
    }

    /// Thousandths, as CPUs are counted.
    pub fn from_milli(milli: i64) -> Quantity {
        Quantity { nanos: i128::from(milli) * (NANO / 1000), format: Format::DecimalSi }
    }

    /// The whole number, a fraction rounded away from zero.
    pub fn value(&self) -> i64 {
        round_away(self.nanos, NANO).clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
    }

    /// Thousandths, a smaller fraction rounded away from zero.
    pub fn milli(&self) -> i128 {
        round_away(self.nanos, NANO / 1000)
    }

    /// The whole number, if it is one and fits.
    pub fn whole(&self) -> Option<i64> {
        (self.nanos % NANO == 0).then(|| i64::try_from(self.nanos / NANO).ok()).flatten()
    }

    /// The nearest double.
    pub fn approximate(&self) -> f64 {
        self.nanos as f64 / NANO as f64
    }

    /// Whether the amount is nothing.
    pub fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    /// Whether the amount is below zero.
    pub fn is_negative(&self) -> bool {
        self.nanos < 0
    }
}

fn round_away(nanos: i128, unit: i128) -> i128 {
    nanos / unit + if nanos % unit != 0 { nanos.signum() } else { 0 }
}

/// What a suffix multiplies by.
enum Scale {
    PowerOfTen(i32),
    PowerOfTwo(u32),
}

impl Scale {
    fn parse(suffix: &str) -> Option<(Format, Scale)> {
        if let Some((_, exponent)) = DECIMAL_SUFFIXES.iter().find(|(s, _)| *s == suffix) {
            return Some((Format::DecimalSi, Scale::PowerOfTen(*exponent)));
        }
        if let Some(i) = BINARY_SUFFIXES.iter().position(|s| *s == suffix) {
            return Some((Format::BinarySi, Scale::PowerOfTwo(10 * (i as u32 + 1))));
        }
        let exponent = suffix.strip_prefix(['e', 'E'])?;
        let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        // An exponent past a thousand is as good as a thousand: nothing or too much.
        let size = if plain {
            digits.parse::<i32>().unwrap_or(1000).min(1000)
        } else {
            return None;
        };
        let exponent = if exponent.starts_with('-') { -size } else { size };
        Some((Format::DecimalExponent, Scale::PowerOfTen(exponent)))
    }

    /// The number times this, in billionths; what is smaller rounds up, so that nobody who asks
    /// for a little gets nothing. `None`: too large.
    fn nanos(&self, whole: &str, fraction: &str) -> Option<i128> {
        let whole = whole.trim_start_matches('0');
        let fraction = fraction.trim_end_matches('0');
        if whole.is_empty() && fraction.is_empty() {
            return Some(0);
        }
        match self {
            Scale::PowerOfTen(exponent) => {
                let digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
                decimal(&digits, exponent + 9 - fraction.len() as i32)
            }
            Scale::PowerOfTwo(bits) => {
                // whole * 2^bits + fraction * 2^bits, the second in nanos of limited length.
                let whole = if whole.is_empty() { 0 } else { whole.parse::<i128>().ok()? };
                let factor = 1i128 << bits;
                let whole = whole.checked_mul(factor)?.checked_mul(NANO)?;
                whole.checked_add(binary_fraction(fraction, factor)?)
            }
        }
    }
}

/// `digits` times ten to the `exponent`, rounded up.
fn decimal(digits: &[u8], exponent: i32) -> Option<i128> {
    let kept = if exponent < 0 { digits.len().saturating_sub(exponent.unsigned_abs() as usize) } else { digits.len() };
    let mut value = 0i128;
    for digit in &digits[..kept] {
        value = value.checked_mul(10)?.checked_add(i128::from(digit - b'0'))?;
    }
    if digits[kept..].iter().any(|d| *d != b'0') {
        value = value.checked_add(1)?;
    }
    if value == 0 {
        return Some(0);
    }
    for _ in 0..exponent.max(0) {
        value = value.checked_mul(10)?;
    }
    Some(value)
}

/// `0.fraction * factor` in billionths, rounded up: long multiplication on decimal digits, which
/// stays exact however long the fraction is.
fn binary_fraction(fraction: &str, factor: i128) -> Option<i128> {
    let mut digits: Vec<i128> = fraction.bytes().map(|b| i128::from(b - b'0')).collect();
    let factor = factor.checked_mul(NANO)?;
    let mut carry = 0i128;
    for digit in digits.iter_mut().rev() {
        let product = digit.checked_mul(factor)?.checked_add(carry)?;
        *digit = product % 10;
        carry = product / 10;
    }
    Some(carry + i128::from(digits.iter().any(|d| *d != 0)))
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let small = self.nanos.abs() < 1024 * NANO;
        match self.format {
            Format::BinarySi if !small => self.write_binary(f),
            Format::DecimalExponent => self.write_decimal(f, true),
            _ => self.write_decimal(f, false),
        }
    }
}

impl Quantity {
    fn write_binary(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut value = round_away(self.nanos, NANO);
        if value % 1024 != 0 {
            // No suffix of this form fits, so it would be read back as the other: that one is canonical.
            return Quantity { nanos: value * NANO, format: Format::DecimalSi }.write_decimal(f, false);
        }
        let mut power = 0;
        while value % 1024 == 0 && power < BINARY_SUFFIXES.len() {
            value /= 1024;
            power += 1;
        }
        let suffix = power.checked_sub(1).map_or("", |i| BINARY_SUFFIXES[i]);
        write!(f, "{value}{suffix}")
    }

    /// With the largest exponent divisible by three that leaves a whole number.
    fn write_decimal(&self, f: &mut fmt::Formatter<'_>, as_exponent: bool) -> fmt::Result {
        let mut value = self.nanos;
        let mut step = 0;
        let last = if as_exponent { usize::MAX } else { DECIMAL_SUFFIXES.len() - 1 };
        while value % 1000 == 0 && step < last {
            value /= 1000;
            step += 1;
        }
        match (as_exponent, step as i32 * 3 - 9) {
            (true, 0) => write!(f, "{value}"),
            (true, exponent) => write!(f, "{value}e{exponent}"),
            (false, _) => write!(f, "{value}{}", DECIMAL_SUFFIXES[step].0),
        }
    }
}

impl fmt::Debug for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Quantity {
    type Err = BadQuantity;
    fn from_str(text: &str) -> Result<Quantity, BadQuantity> {
        Quantity::parse(text)
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Quantity) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Quantity) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Quantity) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl Hash for Quantity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.nanos.hash(state);
    }
}

impl AddAssign for Quantity {
    /// Saturates. Nothing takes the format of what is added to it.
    fn add_assign(&mut self, other: Quantity) {
        if self.is_zero() {
            self.format = other.format;
        }
        self.nanos = self.nanos.saturating_add(other.nanos);
    }
}

impl SubAssign for Quantity {
    /// Saturates. Nothing takes the format of what is taken from it.
    fn sub_assign(&mut self, other: Quantity) {
        if self.is_zero() {
            self.format = other.format;
        }
        self.nanos = self.nanos.saturating_sub(other.nanos);
    }
}

impl Add for Quantity {
    type Output = Quantity;
    fn add(mut self, other: Quantity) -> Quantity {
        self += other;
        self
    }
}

impl Sub for Quantity {
    type Output = Quantity;
    fn sub(mut self, other: Quantity) -> Quantity {
        self -= other;
        self
    }
}

impl prost::Message for Quantity {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        encoding::string::encode(1, &self.to_string(), buf);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), prost::DecodeError> {
        if tag != 1 {
            return encoding::skip_field(wire_type, tag, buf, ctx);
        }
        let mut text = String::new();
        encoding::string::merge(wire_type, &mut text, buf, ctx)?;
        *self = match text.as_str() {
            "" => Quantity::default(),
            // prost has no other way to say in words what is wrong with a value.
            #[allow(deprecated)]
            text => Quantity::parse(text).map_err(|e| prost::DecodeError::new(e.to_string()))?,
        };
        Ok(())
    }

    fn encoded_len(&self) -> usize {
        encoding::string::encoded_len(1, &self.to_string())
    }

    fn clear(&mut self) {
        *self = Quantity::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use prost::Message;

    #[test]
    fn an_amount_as_plain_numbers() {
        for (text, whole, approximate) in [
            ("50k", Some(50_000), 5e4),
            ("1500m", None, 1.5),
            ("-2Ki", Some(-2048), -2048.0),
            ("0", Some(0), 0.0),
            ("9223372036854775807", Some(i64::MAX), 9.223_372_036_854_776e18),
            ("10E", None, 1e19),
        ] {
            let amount = Quantity::parse(text).expect("a quantity");
            assert_eq!((amount.whole(), amount.approximate()), (whole, approximate), "{text}");
        }
    }

    #[test]
    fn canonical_forms() {
        for (text, canonical) in [
            ("0", "0"),
            ("0Ki", "0"),
            ("0m", "0"),
            ("-0", "0"),
            ("00.00", "0"),
            ("1", "1"),
            ("+1", "1"),
            ("1.", "1"),
            (".5", "500m"),
            ("0.5", "500m"),
            ("-0.5", "-500m"),
            ("1000m", "1"),
            ("1500m", "1500m"),
            ("100m", "100m"),
            ("0.1", "100m"),
            ("1000", "1k"),
            ("1024", "1024"),
            ("1000000", "1M"),
            ("1500000", "1500k"),
            ("1.5Gi", "1536Mi"),
            ("1Gi", "1Gi"),
            ("1024Mi", "1Gi"),
            ("1024Ki", "1Mi"),
            ("2000Ki", "2000Ki"),
            ("0.5Ki", "512"),
            ("1.1Ki", "1127"),
            ("1Ei", "1Ei"),
            ("1E", "1E"),
            ("1e3", "1e3"),
            ("1E3", "1e3"),
            ("1e0", "1"),
            ("12e1", "120"),
            ("1e-3", "1e-3"),
            ("1000E", "1000E"),
            ("1000e3", "1e6"),
            ("1n", "1n"),
            ("0.1n", "1n"),
            ("-0.1n", "-1n"),
            ("1u", "1u"),
            ("0.0000000001", "1n"),
            ("1e-1000", "1e-9"),
            ("0.0001Ki", "102400u"),
            ("123.456", "123456m"),
        ] {
            let quantity = Quantity::parse(text).unwrap();
            assert_eq!(quantity.to_string(), canonical, "{text}");
            assert_eq!(Quantity::parse(canonical).unwrap(), quantity, "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_quantity() {
        for text in [
            "", "-", "+", ".", "1.2.3", "1 ", " 1", "1K", "1mi", "1gi", "Gi", "1e", "1e+", "1ee3", "0x10", "1,5",
            "--1", "1Gi1", "1e3Ki", "ten", "1 Gi", "١",
        ] {
            assert!(matches!(Quantity::parse(text), Err(BadQuantity::Form(_))), "{text:?}");
        }
        for text in ["1e40", "999999999999999Ei", "1e1000", "99999999999999999999999999999999999999999999"] {
            assert!(matches!(Quantity::parse(text), Err(BadQuantity::TooLarge(_))), "{text:?}");
        }
    }

    #[test]
    fn rounds_away_from_zero() {
        for (text, value, milli) in [
            ("1500m", 2, 1500),
            ("-1500m", -2, -1500),
            ("1n", 1, 1),
            ("100m", 1, 100),
            ("2Gi", 1 << 31, 1000 << 31),
            ("0", 0, 0),
        ] {
            let quantity = Quantity::parse(text).unwrap();
            assert_eq!((quantity.value(), quantity.milli()), (value, milli), "{text}");
        }
    }

    #[test]
    fn equal_amounts_are_equal() {
        let parse = |s| Quantity::parse(s).unwrap();
        assert_eq!(parse("1Gi"), parse("1024Mi"));
        assert_eq!(parse("1"), parse("1000m"));
        assert!(parse("1G") < parse("1Gi"));
        assert_eq!((parse("1Gi") - parse("512Mi")).to_string(), "512Mi");
        assert_eq!((Quantity::default() + parse("2Mi")).to_string(), "2Mi");
        assert_eq!(parse("6.835Ki").to_string(), "7k");
        assert_eq!((parse("900m") + parse("100m")).to_string(), "1");
    }

    #[test]
    fn protobuf_holds_the_text() {
        assert_eq!(Quantity::default().encode_to_vec(), b"\x0a\x010");
        assert!(Quantity::decode(&b"\x0a\x03abc"[..]).is_err());
        assert_eq!(Quantity::decode(&b"\x0a\x00"[..]).unwrap(), Quantity::default());
    }

    proptest! {
        /// The canonical form reads back as the same amount and is its own canonical form.
        #[test]
        fn canonical_form_is_stable(number in "[+-]?[0-9]{1,12}(\\.[0-9]{0,12})?", suffix in prop::sample::select(vec!["", "n", "u", "m", "k", "M", "G", "Ki", "Mi", "Gi", "Ti", "e3", "E-2", "e0"])) {
            let quantity = Quantity::parse(&format!("{number}{suffix}")).unwrap();
            let canonical = quantity.to_string();
            let again = Quantity::parse(&canonical).unwrap();
            prop_assert_eq!(again, quantity);
            prop_assert_eq!(again.to_string(), canonical);
            prop_assert_eq!(again.value(), quantity.value());
            let bytes = quantity.encode_to_vec();
            prop_assert_eq!(bytes.len(), quantity.encoded_len());
            prop_assert_eq!(Quantity::decode(bytes.as_slice()).unwrap(), again);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,24}") {
            let _ = Quantity::parse(&text);
        }

        #[test]
        fn order_is_that_of_the_amounts(a in -1_000_000i64..1_000_000, b in -1_000_000i64..1_000_000) {
            prop_assert_eq!(Quantity::from_milli(a).cmp(&Quantity::from_milli(b)), a.cmp(&b));
            prop_assert_eq!((Quantity::from_milli(a) + Quantity::from_milli(b)).milli(), i128::from(a) + i128::from(b));
        }
    }
}
