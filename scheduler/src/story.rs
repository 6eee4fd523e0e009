//! Stories of decisions, printed, for people who ask: `/debug/schedule/NAMESPACE/POD` through the tunnel.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use skiff_client::tunnel::{Channel, Close};
use skiff_client::{Controls, ObjectKey, TunnelHandler, TunnelStream, stepping};
use skiff_proto::skiffv1::{StreamOpen, stream_open};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use crate::cycle::{Outcome, Story};
use crate::scheduler::Event;

const PATH: &str = "/debug/schedule/";

/// What the scheduler shows of itself.
pub struct Inspect {
    controls: Controls,
    /// The loop of the current term, if this process leads.
    scheduler: Mutex<Option<UnboundedSender<Event>>>,
}

impl Inspect {
    /// Shows these controls.
    pub fn new(controls: Controls) -> Inspect {
        Inspect { controls, scheduler: Mutex::new(None) }
    }

    /// Questions go to this loop from now on.
    pub fn serve(&self, scheduler: UnboundedSender<Event>) {
        *self.scheduler.lock().unwrap_or_else(PoisonError::into_inner) = Some(scheduler);
    }

    async fn answer(&self, path: &str) -> Result<String, String> {
        let Some(pod) = path.strip_prefix(PATH) else {
            return self.controls.http_get(path).ok_or(format!("there is nothing at {path}"));
        };
        let Some((namespace, name)) = pod.split_once('/') else {
            return Err(format!("{path} should be {PATH}NAMESPACE/POD"));
        };
        let (reply, story) = oneshot::channel();
        let ask = Event::Explain { pod: ObjectKey::new(namespace, name), reply };
        let scheduler = self.scheduler.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if scheduler.is_none_or(|s| s.send(ask).is_err()) {
            return Err("this scheduler does not lead at present; ask the one that does".into());
        }
        match story.await {
            Ok(Some(story)) => Ok(story.to_string()),
            Ok(None) => Err(format!("there is no pod {namespace}/{name}")),
            Err(_) => Err("the scheduler has just ceased to lead; ask again".into()),
        }
    }
}

#[async_trait]
impl TunnelHandler for Inspect {
    async fn open(&self, request: StreamOpen, stream: TunnelStream) {
        let (stream, user) = stream.split();
        let how = match &request.request {
            Some(stream_open::Request::HttpGet(get)) => match self.answer(&get.path).await {
                // If it cannot be sent, nobody is there to be told.
                Ok(text) => stream.send(Channel::Stdout, text).await.map_or(Close::Done, |()| Close::Done),
                Err(why) => Close::failed("NotFound", why),
            },
            Some(stream_open::Request::Step(step)) => stepping::serve(&self.controls, step, &stream, user).await,
            _ => Close::failed("BadRequest", "a scheduler has no containers"),
        };
        stream.close(how).await;
    }
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.decision.outcome {
            Outcome::Node { name, score, feasible } => {
                writeln!(f, "{name}: best of {feasible} feasible nodes out of {}, score {score}", self.nodes.len())?;
            }
            Outcome::Unschedulable(failure) => writeln!(f, "{failure}")?,
        }
        for node in &self.nodes {
            if let Some((plugin, reasons)) = &node.objection {
                writeln!(f, "  {}: no ({plugin}): {}", node.node, reasons.join(", "))?;
                continue;
            }
            writeln!(f, "  {}: {}", node.node, node.total)?;
            for score in &node.scores {
                writeln!(
                    f,
                    "    {}: raw {}, scaled {}, weighted {}",
                    score.plugin, score.raw, score.scaled, score.weighted
                )?;
            }
        }
        Ok(())
    }
}
