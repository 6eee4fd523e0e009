//! What a plain scalar means in YAML 1.1, as Kubernetes' reader takes it: `yes` and `on` are true,
//! `0644` is octal, `1_000` is a number, `~` is nothing.

use super::tree::Tree;

/// The meaning of an unquoted scalar.
pub fn plain(text: &str) -> Tree {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Tree::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "y" | "Y" | "on" | "On" | "ON" => return Tree::Bool(true),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "n" | "N" | "off" | "Off" | "OFF" => {
            return Tree::Bool(false);
        }
        ".inf" | ".Inf" | ".INF" | "+.inf" | "-.inf" | "-.Inf" | "-.INF" | ".nan" | ".NaN" | ".NAN" => {
            // JSON has no such numbers: they stay text, and a number field refuses them in words.
            return Tree::Text(text.to_owned());
        }
        _ => {}
    }
    let numeric = text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
    if !numeric {
        return Tree::Text(text.to_owned());
    }
    integer(text).or_else(|| float(text)).unwrap_or_else(|| Tree::Text(text.to_owned()))
}

fn integer(text: &str) -> Option<Tree> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if digits.is_empty() || digits.starts_with('_') || digits.ends_with('_') {
        return None;
    }
    let digits = digits.replace('_', "");
    let value = if let Some(hex) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        i128::from_str_radix(hex, 16)
    } else if let Some(binary) = digits.strip_prefix("0b") {
        i128::from_str_radix(binary, 2)
    } else if let Some(octal) = digits.strip_prefix("0o") {
        i128::from_str_radix(octal, 8)
    } else if digits.len() > 1 && digits.starts_with('0') {
        i128::from_str_radix(&digits[1..], 8)
    } else {
        digits.parse()
    };
    // A second sign is not a number.
    let value = value.ok().filter(|_| !digits.contains(['+', '-']))?;
    let value = if negative { -value } else { value };
    match i64::try_from(value) {
        Ok(value) => Some(Tree::Int(value)),
        Err(_) => u64::try_from(value).ok().map(Tree::UInt).or(Some(Tree::Float(value as f64))),
    }
}

/// `08` is no octal number and so a decimal one; what is whole is written without a fraction in
/// JSON, so that `1e3` fits where a whole number is wanted.
fn float(text: &str) -> Option<Tree> {
    let allowed = |c: char| c.is_ascii_digit() || "+-.eE_".contains(c);
    if !text.chars().all(allowed) || !text.contains(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let value: f64 = text.replace('_', "").parse().ok()?;
    // Beyond 2^53 a float does not tell whole numbers apart.
    let whole = value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0;
    let number = if whole { Tree::Int(value as i64) } else { Tree::Float(value) };
    value.is_finite().then_some(number)
}
