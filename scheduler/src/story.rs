//! Stories of decisions, printed, for people who ask: `/debug/schedule/NAMESPACE/POD` through the tunnel, and
//! `/debug/schedule/NAMESPACE/POD/NODE` for all that every plugin says about one node.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use skiff_client::tunnel::{Channel, Close};
use skiff_client::{Controls, ObjectKey, TunnelHandler, TunnelStream, stepping};
use skiff_proto::skiffv1::{StreamOpen, stream_open};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use crate::cycle::{NodeStory, Outcome, Story};
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
            return Err(format!("{path} should be {PATH}NAMESPACE/POD or {PATH}NAMESPACE/POD/NODE"));
        };
        let (name, node) = name.split_once('/').map_or((name, None), |(name, node)| (name, Some(node)));
        let (reply, story) = oneshot::channel();
        let ask = Event::Explain { pod: ObjectKey::new(namespace, name), reply };
        let scheduler = self.scheduler.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if scheduler.is_none_or(|s| s.send(ask).is_err()) {
            return Err("this scheduler does not lead at present; ask the one that does".into());
        }
        match story.await {
            Ok(Some(story)) => match node {
                None => Ok(story.to_string()),
                Some(node) => story.of_node(node).ok_or(format!("there is no node {node:?}")),
            },
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

impl Story {
    /// What every plugin says about one node, and how that compares with the decision.
    pub fn of_node(&self, name: &str) -> Option<String> {
        let node = self.nodes.iter().find(|node| node.node == name)?;
        let mut lines = vec![match (&node.objection, &self.decision.outcome) {
            (Some((plugin, reasons)), _) => format!("no, says {plugin}: {}", reasons.join(", ")),
            (None, Outcome::Node { name: winner, score, .. }) if winner == name => {
                format!("yes: {name} is the node that would be chosen, with {score}")
            }
            (None, Outcome::Node { name: winner, .. }) => self.beaten_by(node, winner),
            (None, Outcome::Unschedulable(_)) => format!("yes, as of now: {name} would do"),
        }];
        lines.push("filters:".into());
        for (plugin, reasons) in &node.verdicts {
            let says = if reasons.is_empty() { "yes".to_string() } else { format!("no: {}", reasons.join(", ")) };
            lines.push(format!("  {plugin}: {says}"));
        }
        if node.objection.is_none() {
            lines.push(format!("scores, {} in all:", node.total));
        }
        for score in &node.scores {
            let (raw, scaled, weighted) = (score.raw, score.scaled, score.weighted);
            lines.push(format!("  {}: raw {raw}, scaled {scaled}, weighted {weighted}", score.plugin));
        }
        Some(lines.iter().map(|line| format!("{line}\n")).collect())
    }

    fn beaten_by(&self, node: &NodeStory, winner: &str) -> String {
        let best = self.nodes.iter().find(|other| other.node == winner).map_or(0, |other| other.total);
        let (name, total) = (&node.node, node.total);
        if total == best {
            return format!("it would do as well: {winner} has {best} too, and the Pod's uid decides between equals");
        }
        format!("it would do, but {winner} is better: {best} against {total} of {name}")
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cycle::{Decision, ScoreStory};

    fn node(name: &str, no: Option<&str>, total: i64) -> NodeStory {
        let reasons: Vec<String> = no.into_iter().map(str::to_string).collect();
        NodeStory {
            node: name.into(),
            objection: no.map(|_| ("NodePorts", reasons.clone())),
            verdicts: vec![("NodeName", Vec::new()), ("NodePorts", reasons)],
            scores: match no {
                None => vec![ScoreStory { plugin: "NodeResourcesFit", raw: total, scaled: total, weighted: total }],
                Some(_) => Vec::new(),
            },
            total,
        }
    }

    #[test]
    fn every_plugin_speaks_about_one_node() {
        let nodes =
            vec![node("a", Some("its ports are taken"), 0), node("b", None, 7), node("c", None, 9), node("d", None, 9)];
        let outcome = Outcome::Node { name: "c".into(), score: 9, feasible: 3 };
        let story = Story { nodes, decision: Decision { outcome, revision: 1 } };
        let no = "no, says NodePorts: its ports are taken\nfilters:\n  NodeName: yes\n  NodePorts: no: its ports are taken\n";
        assert_eq!(story.of_node("a").as_deref(), Some(no));
        let yes = "filters:\n  NodeName: yes\n  NodePorts: yes\nscores, 7 in all:\n  NodeResourcesFit: raw 7, scaled 7, weighted 7\n";
        let beaten = format!("it would do, but c is better: 9 against 7 of b\n{yes}");
        assert_eq!(story.of_node("b"), Some(beaten));
        assert!(
            story
                .of_node("c")
                .is_some_and(|text| text.starts_with("yes: c is the node that would be chosen, with 9\n"))
        );
        assert!(story.of_node("d").is_some_and(|text| text.starts_with("it would do as well: c has 9 too")));
        assert_eq!(story.of_node("e"), None);
    }
}
