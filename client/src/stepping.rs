//! Stepping a component by hand: a stream that holds a gate closed, shows who stands before it, and lets one action pass
//! for every byte that comes. When the stream ends, however it ends, the gate is open again.

use serde_json::json;
use skiff_proto::skiffv1::StepRequest;

use crate::controls::Controls;
use crate::driver::Standing;
use crate::tunnel::{Channel, Close, StreamEvent, StreamReceiver, StreamSender};

/// Serves one stream.
pub async fn serve(controls: &Controls, request: &StepRequest, sender: &StreamSender, user: StreamReceiver) -> Close {
    let gates = controls.gates();
    let Some(gate) = gates.iter().find(|gate| gate.name() == request.gate) else {
        let names: Vec<&str> = gates.iter().map(|gate| gate.name()).collect();
        let there = if names.is_empty() { "none (it does not lead)".to_string() } else { names.join(", ") };
        return Close::failed("NotFound", format!("there is no gate {:?} here; there are: {there}", request.gate));
    };
    let Some(held) = gate.hold() else {
        return Close::failed("Conflict", format!("somebody holds the gate {:?} already", request.gate));
    };
    let mut user = user;
    let mut shown = held.gate().stories();
    if sender.send(Channel::Stdout, print(&shown)).await.is_err() {
        return Close::Done;
    }
    loop {
        tokio::select! {
            biased;
            event = user.recv() => match event {
                Some(StreamEvent::Data { channel: Channel::Stdin, bytes }) => held.gate().step(bytes.len() as u64),
                Some(StreamEvent::Data { .. }) => {}
                // Who sends no more has gone away, or wants no more.
                Some(StreamEvent::End(_) | StreamEvent::Closed(_)) | None => return Close::Done,
            },
            stories = held.gate().other_than(&shown) => {
                shown = stories;
                if sender.send(Channel::Stdout, print(&shown)).await.is_err() {
                    return Close::Done;
                }
            }
        }
    }
}

/// Who stands there, as a line of JSON.
fn print(standing: &[Standing]) -> String {
    let all: Vec<_> = standing.iter().map(|s| json!({ "what": s.what, "story": s.story })).collect();
    format!("{}\n", json!({ "standing": all }))
}
