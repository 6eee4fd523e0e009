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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tunnel::{Feed, Sink, pair};
    use futures::FutureExt;
    use skiff_proto::skiffv1::tunnel_frame::Body;
    use skiff_proto::skiffv1::{StreamData, TunnelFrame, stream_data};
    use tokio::sync::mpsc;

    /// One stream to a component: what the user sends, and what comes back.
    struct User {
        feed: Feed,
        frames: mpsc::Receiver<TunnelFrame>,
    }

    impl User {
        fn open(controls: &Controls, gate: &str) -> (User, impl Future<Output = Close>) {
            let (sink, frames) = mpsc::channel(64);
            let (stream, feed) = pair(Sink::Tunnel { stream: 1, frames: sink });
            let (controls, request) = (controls.clone(), StepRequest { gate: gate.into() });
            let served = async move {
                let (sender, user) = stream.split();
                serve(&controls, &request, &sender, user).await
            };
            (User { feed, frames }, served)
        }

        fn step(&self) {
            let channel = stream_data::Channel::Stdin.into();
            self.feed.data(StreamData { channel, data: ".".into(), end: false });
        }

        /// The latest that was shown.
        fn shown(&mut self) -> Option<String> {
            let text = |frame: TunnelFrame| match frame.body {
                Some(Body::Data(data)) => String::from_utf8(data.data.to_vec()).ok(),
                _ => None,
            };
            std::iter::from_fn(|| self.frames.try_recv().ok()).filter_map(text).last()
        }
    }

    fn line(controls: &Controls, name: &'static str) -> std::pin::Pin<Box<dyn Future<Output = bool>>> {
        let gate = controls.gate("deployment");
        async move { gate.pass(|| name.to_string()).await }.boxed_local()
    }

    #[tokio::test]
    async fn one_action_goes_at_a_time_and_all_when_the_user_goes_away() {
        let controls = Controls::new();
        controls.gate("deployment");
        let (mut user, served) = User::open(&controls, "deployment");
        let mut served = Box::pin(served);
        assert!(futures::poll!(&mut served).is_pending());
        assert_eq!(user.shown().as_deref(), Some("{\"standing\":[]}\n"));

        let (mut a, mut b) = (line(&controls, "a"), line(&controls, "b"));
        assert!(futures::poll!(&mut a).is_pending() && futures::poll!(&mut b).is_pending());
        assert!(futures::poll!(&mut served).is_pending());
        assert!(user.shown().is_some_and(|text| text.contains("\"a\"") && text.contains("\"b\"")));

        user.step();
        assert!(futures::poll!(&mut served).is_pending());
        assert!(futures::poll!(&mut a).is_ready() && futures::poll!(&mut b).is_pending());

        user.feed.close(Close::lost());
        assert_eq!(served.await, Close::Done);
        assert!(controls.gate("deployment").is_open() && futures::poll!(&mut b).is_ready());
    }

    #[tokio::test]
    async fn a_stream_that_is_dropped_opens_the_gate_too() {
        let controls = Controls::new();
        controls.gate("deployment");
        let (_user, served) = User::open(&controls, "deployment");
        let mut served = Box::pin(served);
        assert!(futures::poll!(&mut served).is_pending());
        assert!(!controls.gate("deployment").is_open());
        drop(served);
        assert!(controls.gate("deployment").is_open());
    }

    #[tokio::test]
    async fn refusals_say_what_there_is() {
        let controls = Controls::new();
        let held = controls.gate("deployment").hold();
        for (gate, words) in [("deploy", "there are: deployment"), ("deployment", "somebody holds")] {
            let (_user, served) = User::open(&controls, gate);
            assert!(matches!(served.await, Close::Failed { message, .. } if message.contains(words)), "{gate}");
        }
        drop(held);
    }
}
