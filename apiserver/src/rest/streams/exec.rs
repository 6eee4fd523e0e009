//! `pods/exec` and `pods/attach`. Over a WebSocket standard input is channel 0, output 1, errors 2, the outcome 3, the
//! terminal's size 4; in version 5, 255 closes a channel. Older clients have a stream of SPDY for each.

use super::pipe::spdy_handshake;
use super::session::{CLOSE, OUTCOME, RESIZE, STDERR, STDIN, STDOUT, Session};
use super::socket::handshake;
use super::wire::{Event, Wire};
use crate::registry::ApiResult;
use crate::rest::Rest;
use crate::rest::path::Place;
use crate::rest::query::Query;
use crate::rest::respond::Answer;
use bytes::Bytes;
use http::Request;
use serde::Deserialize;
use skiff_proto::metav1::{Status, StatusCause, StatusDetails};
use skiff_proto::skiffv1::stream_data::Channel;
use skiff_proto::skiffv1::{ExecRequest, StreamClose, stream_open};
use skiff_world::Identity;
use tonic::body::Body;

const V5: &str = "v5.channel.k8s.io";
const V4: &str = "v4.channel.k8s.io";
const V4_TEXT: &str = "v4.base64.channel.k8s.io";
/// The subprotocols, the best first. The oldest ones tell failures in plain words.
const PROTOCOLS: &[&str] = &[V5, V4, "channel.k8s.io", V4_TEXT, "base64.channel.k8s.io"];

/// Over SPDY version 4 is the newest.
const SPDY_PROTOCOLS: &[&str] = &[V4];

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Size {
    width: u16,
    height: u16,
}

impl Rest {
    /// Runs a command in a container, or joins what runs there.
    pub(super) async fn exec(
        &self,
        identity: &Identity,
        place: &Place,
        query: &Query,
        mut request: Request<Body>,
    ) -> ApiResult<Answer> {
        let asked = ExecRequest {
            namespace: place.namespace.clone(),
            pod: place.name.clone(),
            container: query.get("container").into(),
            command: query.all("command"),
            stdin: query.is_on("stdin"),
            tty: query.is_on("tty"),
            attach: place.subresource == "attach",
            // As Kubernetes has it: whoever attaches sees what comes from now on.
            replay: false,
            pod_uid: String::new(),
        };
        let mut needed = vec![OUTCOME];
        let streams = [("stdin", STDIN), ("stdout", STDOUT)];
        needed.extend(streams.iter().filter(|(name, _)| query.is_on(name)).map(|(_, channel)| *channel));
        needed.extend((query.is_on("stderr") && !asked.tty).then_some(STDERR));
        // Whoever may not do this is told so before the way it is spoken matters.
        let wire = self.dial(identity, stream_open::Request::Exec(asked)).await?;
        if let Some(upgrade) = spdy_handshake(&mut request, SPDY_PROTOCOLS) {
            let protocol = upgrade.protocol;
            let (answer, opened) = upgrade.grant();
            self.converse("exec", place, async move {
                let Some(pipe) = opened.await else { return };
                if let Some(session) = Session::over_spdy(pipe, &needed).await {
                    converse(session, wire, protocol).await;
                }
            });
            return Ok(answer);
        }
        let upgrade = handshake(&mut request, PROTOCOLS)?;
        let protocol = upgrade.protocol;
        let (answer, opened) = upgrade.grant();
        self.converse("exec", place, async move {
            if let Some(socket) = opened.await {
                converse(Session::Socket(Box::new(socket)), wire, protocol).await;
            }
        });
        Ok(answer)
    }
}

/// Passes on what both ends say, until the command has ended or the user is gone.
async fn converse(mut session: Session, mut wire: Wire, protocol: &str) {
    // Input that the component has no room for yet; meanwhile the user is not listened to.
    let mut held = Bytes::new();
    loop {
        tokio::select! {
            biased;
            event = wire.next() => match event {
                Event::Data(channel, data) => {
                    let channel = if channel == Channel::Stderr { STDERR } else { STDOUT };
                    if session.send(channel, &data).await.is_none() {
                        return;
                    }
                }
                Event::End => {}
                Event::Credit => held = wire.send(Channel::Stdin, std::mem::take(&mut held)).await,
                Event::Closed(close) => {
                    let _ = session.send(OUTCOME, &outcome(&close, protocol)).await;
                    return session.close().await;
                }
            },
            message = session.next(), if held.is_empty() => match message {
                Some(message) => held = said(&mut wire, message).await,
                None => return,
            },
        }
    }
}

/// What one message of a user says.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    /// Standard input.
    Input(Bytes),
    /// Nothing follows on it.
    InputEnds,
    /// The terminal has so many columns and rows.
    Size(u16, u16),
    /// Nothing that matters here.
    Nothing,
}

/// Reads a message: its channel, and what that carries.
pub fn parts(mut message: Bytes) -> Said {
    if message.is_empty() {
        return Said::Nothing;
    }
    let channel = message.split_to(1)[0];
    match channel {
        STDIN => Said::Input(message),
        RESIZE => {
            serde_json::from_slice(&message).map_or(Said::Nothing, |Size { width, height }| Said::Size(width, height))
        }
        CLOSE if message.first() == Some(&STDIN) => Said::InputEnds,
        _ => Said::Nothing,
    }
}

/// Takes one message from the user; input for which there is no room comes back.
async fn said(wire: &mut Wire, message: Bytes) -> Bytes {
    match parts(message) {
        Said::Input(input) => return wire.send(Channel::Stdin, input).await,
        Said::InputEnds => wire.end(Channel::Stdin).await,
        Said::Size(columns, rows) => {
            let bytes = [columns.to_be_bytes(), rows.to_be_bytes()].concat();
            // Without room for it a size is not worth waiting for.
            wire.send(Channel::Resize, bytes.into()).await;
        }
        Said::Nothing => {}
    }
    Bytes::new()
}

/// How it ended, as the subprotocol tells it.
pub fn outcome(close: &StreamClose, protocol: &str) -> Vec<u8> {
    let code = close.exit_code.unwrap_or(0);
    let status = if close.failed {
        Status {
            status: "Failure".into(),
            reason: if close.reason.is_empty() { "InternalError".into() } else { close.reason.clone() },
            message: close.message.clone(),
            code: 500,
            ..Status::default()
        }
    } else if code != 0 {
        let exit = StatusCause { reason: "ExitCode".into(), message: code.to_string(), ..StatusCause::default() };
        Status {
            status: "Failure".into(),
            reason: "NonZeroExitCode".into(),
            message: format!("command terminated with non-zero exit code: exit status {code}"),
            details: Some(Box::new(StatusDetails { causes: vec![exit], ..StatusDetails::default() })),
            ..Status::default()
        }
    } else {
        Status { status: "Success".into(), ..Status::default() }
    };
    match protocol {
        V5 | V4 | V4_TEXT => skiff_proto::json::encode(&status),
        // Silence is success.
        _ => status.message.into_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_code_is_a_cause_and_the_oldest_protocol_has_words_only() {
        let close = StreamClose { exit_code: Some(7), ..StreamClose::default() };
        let status: serde_json::Value = serde_json::from_slice(&outcome(&close, V5)).expect("JSON");
        assert_eq!(
            (&status["reason"], &status["details"]["causes"][0]["message"]),
            (&"NonZeroExitCode".into(), &"7".into())
        );
        assert!(outcome(&close, "channel.k8s.io").starts_with(b"command terminated"));
        let well = StreamClose { exit_code: Some(0), ..StreamClose::default() };
        let status: serde_json::Value = serde_json::from_slice(&outcome(&well, V4)).expect("JSON");
        assert_eq!(status["status"], "Success");
        assert!(outcome(&well, "channel.k8s.io").is_empty());
    }
}
