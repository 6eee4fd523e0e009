//! The formats that Kubernetes checks texts and numbers by. Others say something to people only.

use base64::Engine as _;
use regex::Regex;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a well-formed constant")
}

static HOSTNAME: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"^([a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]{0,61}[a-zA-Z0-9])(\.([a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]{0,61}[a-zA-Z0-9]))*\.?$",
    )
});
static EMAIL: LazyLock<Regex> = LazyLock::new(|| regex(r"^([^\s@<>]+@[^\s@<>]+|[^<>]*<[^\s@<>]+@[^\s@<>]+>)$"));
static UUID: LazyLock<Regex> =
    LazyLock::new(|| regex(r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$"));
static MAC: LazyLock<Regex> = LazyLock::new(|| {
    regex(r"(?i)^([0-9a-f]{2}([:-][0-9a-f]{2}){5}|[0-9a-f]{2}([:-][0-9a-f]{2}){7}|([0-9a-f]{4}\.){2}[0-9a-f]{4})$")
});
static URI: LazyLock<Regex> = LazyLock::new(|| regex(r"^([a-zA-Z][a-zA-Z0-9+.-]*:[^\s]+|/[^\s]*)$"));
static HEX_COLOR: LazyLock<Regex> = LazyLock::new(|| regex(r"^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$"));
static DURATION: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"^[-+]?(0|([0-9]+(\.[0-9]*)?|\.[0-9]+)\s*(ns|us|µs|μs|ms|s|m|h|d|w|[a-z]+)(\s*([0-9]+(\.[0-9]*)?)\s*(ns|us|µs|μs|ms|s|m|h))*)$",
    )
});
static BSON: LazyLock<Regex> = LazyLock::new(|| regex(r"^[0-9a-fA-F]{24}$"));
static SSN: LazyLock<Regex> = LazyLock::new(|| regex(r"^[0-9]{3}[- ]?[0-9]{2}[- ]?[0-9]{4}$"));

/// Whether a text is of a format.
pub fn fits(format: &str, text: &str) -> bool {
    match format {
        "date-time" | "datetime" => text.parse::<jiff::Timestamp>().is_ok(),
        "date" => text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok(),
        "duration" => DURATION.is_match(text),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "ip" => text.parse::<IpAddr>().is_ok(),
        "cidr" => text.parse::<ipnet::IpNet>().is_ok(),
        "mac" => MAC.is_match(text),
        "hostname" => text.len() <= 255 && HOSTNAME.is_match(text),
        "email" => EMAIL.is_match(text),
        "uri" => URI.is_match(text),
        "uuid" => UUID.is_match(text),
        "uuid3" | "uuid4" | "uuid5" => is_uuid(text, &format[4..]),
        "byte" => base64::engine::general_purpose::STANDARD.decode(text).is_ok(),
        "hexcolor" => HEX_COLOR.is_match(text),
        "bsonobjectid" => BSON.is_match(text),
        "ssn" => SSN.is_match(text),
        _ => true,
    }
}

fn is_uuid(text: &str, version: &str) -> bool {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    UUID.is_match(text) && digits.get(12..13) == Some(version)
}

/// Whether a number is of a format.
pub fn fits_number(format: &str, number: &serde_json::Number) -> bool {
    match format {
        "int32" => number.as_i64().is_some_and(|n| i32::try_from(n).is_ok()),
        "int64" => number.as_i64().is_some() || number.as_f64().is_some_and(|n| n.fract() == 0.0 && n.abs() < 9.3e18),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_take_what_they_should() {
        for (format, yes, no) in [
            ("date-time", "2026-01-31T15:04:05Z", "2026-01-31"),
            ("date", "2026-01-31", "2026-02-31"),
            ("duration", "1h30m", "soon"),
            ("duration", "22 ns", "1"),
            ("ipv4", "10.0.0.1", "10.0.0.256"),
            ("ipv6", "::1", "10.0.0.1"),
            ("cidr", "10.0.0.0/8", "10.0.0.0/33"),
            ("mac", "00:11:22:33:44:55", "00:11:22"),
            ("hostname", "a-b.example.com", "-a.example.com"),
            ("email", "a@b.c", "a"),
            ("uri", "https://a.b/c", "a b"),
            ("uuid", "123e4567-e89b-12d3-a456-426614174000", "123e4567"),
            ("uuid4", "123e4567-e89b-42d3-a456-426614174000", "123e4567-e89b-12d3-a456-426614174000"),
            ("byte", "aGVsbG8=", "a"),
            ("hexcolor", "#fff", "#ffff"),
        ] {
            assert!(fits(format, yes), "{format}: {yes}");
            assert!(!fits(format, no), "{format}: {no}");
        }
        assert!(
            fits("whatever", "anything")
                && fits_number("int32", &5.into())
                && !fits_number("int32", &(1i64 << 40).into())
        );
    }
}
