//! events.k8s.io/v1: the Events of the core group under the names that this group has for their fields. They are stored
//! once; what comes in is renamed to the core's fields, what goes out is renamed back. Recorders of controllers write here.

use super::path::Place;
use crate::registry::{ApiError, ApiResult};
use crate::resources::{PROTOBUF, Resource, Table, YAML, event_view};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint};
use serde_json::Value;
use std::sync::Arc;

/// The group.
pub const GROUP: &str = "events.k8s.io";

/// Fields: the name and number here, those in the core group.
const FIELDS: &[(&str, u32, &str, u32)] = &[
    ("metadata", 1, "metadata", 1),
    ("eventTime", 2, "eventTime", 10),
    ("series", 3, "series", 11),
    ("reportingController", 4, "reportingComponent", 14),
    ("reportingInstance", 5, "reportingInstance", 15),
    ("action", 6, "action", 12),
    ("reason", 7, "reason", 3),
    ("regarding", 8, "involvedObject", 2),
    ("related", 9, "related", 13),
    ("note", 10, "message", 4),
    ("type", 11, "type", 9),
    ("deprecatedSource", 12, "source", 5),
    ("deprecatedFirstTimestamp", 13, "firstTimestamp", 6),
    ("deprecatedLastTimestamp", 14, "lastTimestamp", 7),
    ("deprecatedCount", 15, "count", 8),
];

/// Which way an Event goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    In,
    Out,
}

/// Whether a path names them.
pub fn is_here(place: &Place) -> bool {
    place.group == GROUP && place.version == "v1" && place.resource == "events"
}

/// The row of the group's one resource.
pub fn row(table: &Table) -> Option<Arc<Resource>> {
    table.get("", "v1", "events").map(|core| Arc::new(event_view(&core, GROUP)))
}

/// Whether a resource is shown otherwise than it is stored.
pub fn is_view(resource: &Resource) -> bool {
    resource.group == GROUP
}

/// What a client sent, as the core group has it.
pub fn read(resource: &Resource, bytes: Bytes, content_type: &str) -> ApiResult<Bytes> {
    if !is_view(resource) {
        return Ok(bytes);
    }
    let wrong = |why: String| ApiError::bad_request(format!("the body cannot be handled as an Event: {why}"));
    if content_type == PROTOBUF {
        return renumber(&bytes, Way::In).ok_or_else(|| wrong("the protobuf body is malformed".into()));
    }
    let tree = match content_type {
        YAML => crate::resources::yaml_to_tree(&bytes).map_err(|e| wrong(e.to_string()))?,
        _ => serde_json::from_slice(&bytes).map_err(|e| wrong(e.to_string()))?,
    };
    Ok(rename(tree, Way::In).to_string().into())
}

/// An Event of the core group, as it is shown here.
pub fn shown(resource: &Resource, bytes: Bytes, content_type: &str) -> ApiResult<Bytes> {
    if !is_view(resource) {
        return Ok(bytes);
    }
    if content_type == PROTOBUF {
        return renumber(&bytes, Way::Out).ok_or_else(|| ApiError::internal("an Event that is stored does not decode"));
    }
    let tree = serde_json::from_slice(&bytes).map_err(ApiError::internal)?;
    Ok(rename(tree, Way::Out).to_string().into())
}

/// A field selector in the core group's names.
pub fn selector(resource: &Resource, text: String) -> String {
    if !is_view(resource) {
        return text;
    }
    let terms = text.split(',').map(|term| {
        let end = term.find(['.', '=', '!']).unwrap_or(term.len());
        let (field, rest) = term.split_at(end);
        format!("{}{rest}", name_of(field, Way::In))
    });
    terms.collect::<Vec<_>>().join(",")
}

fn name_of(field: &str, way: Way) -> &str {
    let found = FIELDS.iter().find(|(here, _, core, _)| field == if way == Way::In { *here } else { *core });
    found.map_or(field, |(here, _, core, _)| if way == Way::In { *core } else { *here })
}

/// An Event, or a patch of one.
fn rename(tree: Value, way: Way) -> Value {
    match tree {
        Value::Object(map) => {
            let map = map.into_iter().map(|(key, value)| match (key.as_str(), &value, way) {
                ("apiVersion", Value::String(version), Way::In) if version == "events.k8s.io/v1" => (key, "v1".into()),
                ("apiVersion", Value::String(version), Way::Out) if version == "v1" => (key, "events.k8s.io/v1".into()),
                _ => (name_of(&key, way).to_string(), value),
            });
            Value::Object(map.collect())
        }
        Value::Array(steps) => Value::Array(steps.into_iter().map(|step| rename_step(step, way)).collect()),
        other => other,
    }
}

/// A step of a JSON patch: its pointers begin with a field.
fn rename_step(mut step: Value, way: Way) -> Value {
    for key in ["path", "from"] {
        if let Some(Value::String(pointer)) = step.get_mut(key) {
            let (field, rest) =
                pointer.strip_prefix('/').map(|p| p.split_once('/').unwrap_or((p, ""))).unwrap_or_default();
            let rest = if rest.is_empty() { String::new() } else { format!("/{rest}") };
            *pointer = format!("/{}{rest}", name_of(field, way));
        }
    }
    step
}

/// The same message with the other group's field numbers; of both, all fields are of the same types.
fn renumber(message: &[u8], way: Way) -> Option<Bytes> {
    let mut rest = message;
    let mut out = BytesMut::with_capacity(message.len());
    while rest.has_remaining() {
        let (number, wire) = decode_key(&mut rest).ok()?;
        let found = FIELDS.iter().find(|(_, here, _, core)| number == if way == Way::In { *here } else { *core });
        let number = found.map_or(number, |(_, here, _, core)| if way == Way::In { *core } else { *here });
        encode_key(number, wire, &mut out);
        match wire {
            WireType::Varint => encode_varint(decode_varint(&mut rest).ok()?, &mut out),
            WireType::LengthDelimited => {
                let length = decode_varint(&mut rest).ok()?;
                let bytes = rest.split_off(..usize::try_from(length).ok()?)?;
                encode_varint(length, &mut out);
                out.put_slice(bytes);
            }
            // Events have no fields of other types.
            _ => return None,
        }
    }
    Some(out.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;
    use serde_json::json;

    #[test]
    fn fields_are_renamed_there_and_back() {
        let here = json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "a"}, "regarding": {"kind": "Pod"},
            "note": "text", "reportingController": "me", "deprecatedCount": 2, "series": {"count": 3}, "mine": 1,
        });
        let core = json!({
            "apiVersion": "v1", "kind": "Event", "metadata": {"name": "a"}, "involvedObject": {"kind": "Pod"},
            "message": "text", "reportingComponent": "me", "count": 2, "series": {"count": 3}, "mine": 1,
        });
        assert_eq!(rename(here.clone(), Way::In), core);
        assert_eq!(rename(core, Way::Out), here);
        let steps = json!([{"op": "replace", "path": "/note", "value": "x"}, {"op": "move", "from": "/regarding/name", "path": "/series/count"}]);
        let wanted = json!([{"op": "replace", "path": "/message", "value": "x"}, {"op": "move", "from": "/involvedObject/name", "path": "/series/count"}]);
        assert_eq!(rename(steps, Way::In), wanted);
    }

    #[test]
    fn protobuf_is_renumbered_there_and_back() {
        let event = skiff_proto::corev1::Event {
            metadata: skiff_proto::metav1::ObjectMeta { name: "a".into(), ..Default::default() },
            reason: "Scheduled".into(),
            message: "text".into(),
            count: 300,
            reporting_component: "me".into(),
            ..Default::default()
        };
        let core = event.encode_to_vec();
        let here = renumber(&core, Way::Out).expect("well-formed");
        #[derive(Clone, PartialEq, Message)]
        struct Some_ {
            #[prost(string, tag = "4")]
            reporting_controller: String,
            #[prost(string, tag = "7")]
            reason: String,
            #[prost(string, tag = "10")]
            note: String,
            #[prost(int32, tag = "15")]
            count: i32,
        }
        let read = Some_::decode(here.clone()).expect("well-formed");
        assert_eq!(
            (&*read.reporting_controller, &*read.reason, &*read.note, read.count),
            ("me", "Scheduled", "text", 300)
        );
        let back = renumber(&here, Way::In).expect("well-formed");
        assert_eq!(skiff_proto::corev1::Event::decode(back).expect("well-formed"), event);
        for bad in [&[0x0a, 0x05, 0x01][..], &[0x0a, 0xff], &[0xff], &[0x0d, 1, 2, 3, 4]] {
            assert!(renumber(bad, Way::In).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn selectors_are_in_the_names_of_the_group() {
        let table = crate::resources::built_in(crate::resources::EVENT_LIFE);
        let core = table.get("", "v1", "events").expect("built in");
        let here = event_view(&core, GROUP);
        let text = "regarding.name=a,reportingController!=b,type=Normal,metadata.name=c";
        let wanted = "involvedObject.name=a,reportingComponent!=b,type=Normal,metadata.name=c";
        assert_eq!(selector(&here, text.into()), wanted);
        assert_eq!(selector(&core, text.into()), text, "only in this group");
    }
}
