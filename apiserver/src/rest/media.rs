//! What a client sends and what it wants back: `Content-Type` and `Accept`.

use crate::registry::{ApiError, ApiResult};
use crate::resources::{JSON, PROTOBUF, YAML};
use http::{HeaderMap, header};

/// One media range of an `Accept` header.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Range {
    kind: String,
    parameters: Vec<(String, String)>,
}

impl Range {
    fn parse(text: &str) -> (Range, u32) {
        let mut parts = text.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
        let mut quality = 1000;
        let mut parameters = vec![];
        for part in parts {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            let (key, value) = (key.trim().to_ascii_lowercase(), value.trim().trim_matches('"').to_string());
            if key == "q" {
                // Thousandths, as the grammar has them.
                quality = value.parse::<f32>().map_or(0, |q| (q.clamp(0.0, 1.0) * 1000.0) as u32);
            } else {
                parameters.push((key, value));
            }
        }
        (Range { kind, parameters }, quality)
    }

    fn parameter(&self, key: &str) -> &str {
        self.parameters.iter().find(|(k, _)| k == key).map_or("", |(_, v)| v.as_str())
    }
}

/// The ranges of a request, the most wanted first; nothing said means anything goes.
fn ranges(headers: &HeaderMap) -> Vec<Range> {
    let all = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut ranges: Vec<(Range, u32)> =
        all.flat_map(|value| value.split(',')).filter(|t| !t.trim().is_empty()).map(Range::parse).collect();
    if ranges.is_empty() {
        ranges.push(Range::parse("*/*"));
    }
    ranges.retain(|(_, quality)| *quality > 0);
    ranges.sort_by_key(|(_, quality)| std::cmp::Reverse(*quality));
    ranges.into_iter().map(|(range, _)| range).collect()
}

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// JSON.
    Json,
    /// YAML.
    Yaml,
    /// Kubernetes' protobuf, in its envelope.
    Protobuf,
}

/// What of the objects is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// The objects themselves.
    Whole,
    /// Their metadata.
    Metadata,
    /// A Table, of this version of meta.k8s.io.
    Table(&'static str),
}

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// How it is written.
    pub encoding: Encoding,
    /// What of the objects.
    pub shape: Shape,
}

/// What can be made of objects.
const OBJECTS: &[&str] = &[JSON, YAML, PROTOBUF];

/// Reads `Accept` where objects are answered.
pub fn wanted(headers: &HeaderMap) -> ApiResult<Wanted> {
    let ranges = ranges(headers);
    ranges.iter().find_map(one).ok_or_else(|| {
        ApiError::not_acceptable(&format!("only the following media types are accepted: {}", OBJECTS.join(", ")))
    })
}

fn one(range: &Range) -> Option<Wanted> {
    let encoding = match range.kind.as_str() {
        "*/*" | "application/*" | JSON => Encoding::Json,
        YAML => Encoding::Yaml,
        PROTOBUF => Encoding::Protobuf,
        _ => return None,
    };
    let shape = match range.parameter("as") {
        "" => Shape::Whole,
        _ if range.parameter("g") != "meta.k8s.io" => return None,
        "Table" if encoding == Encoding::Protobuf => return None,
        "Table" => Shape::Table(version(range)?),
        "PartialObjectMetadata" | "PartialObjectMetadataList" => version(range).map(|_| Shape::Metadata)?,
        _ => return None,
    };
    Some(Wanted { encoding, shape })
}

fn version(range: &Range) -> Option<&'static str> {
    match range.parameter("v") {
        "v1" => Some("v1"),
        "v1beta1" => Some("v1beta1"),
        _ => None,
    }
}

/// The version of apidiscovery.k8s.io that is wanted; `None`: the form before it.
pub fn discovery(headers: &HeaderMap) -> Option<&'static str> {
    for range in ranges(headers) {
        match (range.kind.as_str(), range.parameter("as"), range.parameter("g"), range.parameter("v")) {
            (JSON, "APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2") => return Some("v2"),
            (JSON, "APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2beta1") => return Some("v2beta1"),
            (JSON | "*/*" | "application/*", "", _, _) => return None,
            _ => {}
        }
    }
    None
}

/// Whether a media type is among those asked for by name.
pub fn takes(headers: &HeaderMap, media_type: &str) -> bool {
    ranges(headers).iter().any(|range| range.kind.eq_ignore_ascii_case(media_type))
}

/// The media type of a body, without its parameters. Nothing said means JSON.
pub fn sent(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if kind.is_empty() { JSON.to_string() } else { kind }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(text: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, http::HeaderValue::from_static(text));
        headers
    }

    #[test]
    fn the_most_wanted_form_that_can_be_made_is_taken() {
        use Encoding::{Json, Protobuf, Yaml};
        const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        for (text, encoding, shape) in [
            ("*/*", Json, Shape::Whole),
            (TABLE, Json, Shape::Table("v1")),
            ("application/json;as=Table;v=v2;g=meta.k8s.io,application/json", Json, Shape::Whole),
            ("application/vnd.kubernetes.protobuf,application/json", Protobuf, Shape::Whole),
            ("application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io,application/json", Json, Shape::Whole),
            ("text/html,application/yaml", Yaml, Shape::Whole),
            ("application/json;q=0.5, application/yaml;q=0.9", Yaml, Shape::Whole),
            ("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", Json, Shape::Metadata),
            (
                "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
                Protobuf,
                Shape::Metadata,
            ),
        ] {
            assert_eq!(wanted(&accept(text)).expect(text), Wanted { encoding, shape }, "{text}");
        }
        assert_eq!(wanted(&accept("text/html")).expect_err("nothing fits").code(), 406);
    }

    #[test]
    fn discovery_is_negotiated_in_the_order_asked_for() {
        const BOTH: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
        assert_eq!(discovery(&accept(BOTH)), Some("v2"));
        assert_eq!(discovery(&accept("application/json")), None);
        assert_eq!(
            discovery(&accept("application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList")),
            Some("v2beta1")
        );
    }
}
