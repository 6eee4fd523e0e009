//! The scheduling cycle: which node for this pod? A pure function of pod, snapshot and profile.
//!
//! ```text
//! filter every node ──► score every node that is left ──► scale ──► the best; among equals, by the pod's uid
//! ```
//!
//! All nodes are looked at, not a sample. `Evaluation` is the part that pods of one template
//! share: verdicts and scores of every node. It can be brought up to date node by node, which
//! gives the same as making it afresh (a property test holds us to that); `decide` is the part
//! that is done for each pod. `explain` tells the whole story, with the same plugins.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::framework::{Filter, Profile, Scale, Score};
use crate::plugins::spread::OwnerSpread;
use crate::snapshot::{NodeView, Snapshot};
use crate::template::Template;

/// What the cycle needs to know of a pod.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Breaks ties between equally good nodes, so that equal pods don't all go to the first.
    pub uid: &'a str,
    /// The uid of its controller.
    pub owner: Option<&'a str>,
    /// What it needs.
    pub template: &'a Template,
}

/// The outcome of a cycle.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// Where to, or why nowhere.
    pub outcome: Outcome,
    /// The snapshot's revision that it was computed from.
    pub revision: u64,
}

/// Where to, or why nowhere.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The winner.
    Node {
        /// Its name.
        name: String,
        /// Its score.
        score: i64,
        /// How many nodes would have done.
        feasible: usize,
    },
    /// No node will do.
    Unschedulable(Arc<Failure>),
}

/// Why no node will do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Failure {
    /// How many nodes there are.
    pub nodes: usize,
    /// How many of them for which reason.
    pub reasons: BTreeMap<String, usize>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nodes == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        write!(f, "0/{} nodes are available", self.nodes)?;
        let mut parts: Vec<String> = self.reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        parts.sort();
        if parts.is_empty() { f.write_str(".") } else { write!(f, ": {}.", parts.join(", ")) }
    }
}

/// Verdicts and scores of all nodes for one template.
pub struct Evaluation {
    template: Arc<Template>,
    revision: u64,
    /// Weighted sum of the absolute scores, or `INFEASIBLE`.
    base: Vec<i32>,
    /// Raw scores of the scores that are relative to the other nodes.
    relative: Vec<Relative>,
    feasible: usize,
    /// Why nowhere, if that was asked for at this revision.
    failure: Option<Arc<Failure>>,
    scratch: Vec<i32>,
}

struct Relative {
    score: usize,
    raw: Vec<i32>,
    /// How many are not zero: mostly none, and then there is nothing to do.
    nonzero: usize,
}

/// Far below every total, also after something was added to it.
const INFEASIBLE: i32 = i32::MIN / 2;

impl Evaluation {
    /// Looks at every node.
    pub fn of(template: &Arc<Template>, snapshot: &Snapshot, profile: &Profile) -> Evaluation {
        let relative = profile
            .scores
            .iter()
            .enumerate()
            .filter(|(_, (_, score))| score.scale() != Scale::Absolute)
            .map(|(score, _)| Relative { score, raw: Vec::new(), nonzero: 0 })
            .collect();
        let mut evaluation = Evaluation {
            template: template.clone(),
            revision: snapshot.revision(),
            base: Vec::new(),
            relative,
            feasible: 0,
            failure: None,
            scratch: Vec::new(),
        };
        evaluation.widen(snapshot.width());
        let plugins = Plugins::of(template, profile);
        for slot in 0..snapshot.width() {
            evaluation.look(slot, snapshot, &plugins);
        }
        evaluation
    }

    /// The template it is of.
    pub fn template(&self) -> &Arc<Template> {
        &self.template
    }

    /// Looks again at the nodes that changed.
    pub fn catch_up(&mut self, snapshot: &Snapshot, profile: &Profile) {
        if self.revision == snapshot.revision() {
            return;
        }
        let Some(changed) = snapshot.changed_since(self.revision) else {
            *self = Evaluation::of(&self.template.clone(), snapshot, profile);
            return;
        };
        self.widen(snapshot.width());
        let template = self.template.clone();
        let plugins = Plugins::of(&template, profile);
        for slot in changed {
            self.look(slot, snapshot, &plugins);
        }
        self.revision = snapshot.revision();
        self.failure = None;
    }

    /// The best node for one pod of the template. The evaluation has to be up to date.
    pub fn decide(&mut self, pod: &Request<'_>, snapshot: &Snapshot, profile: &Profile) -> Decision {
        let outcome = match self.best(pod, snapshot, profile) {
            Some((view, score)) => Outcome::Node { name: view.info.name.clone(), score, feasible: self.feasible },
            None => Outcome::Unschedulable(self.failure(snapshot, profile)),
        };
        Decision { outcome, revision: self.revision }
    }

    fn best<'s>(
        &mut self,
        pod: &Request<'_>,
        snapshot: &'s Snapshot,
        profile: &Profile,
    ) -> Option<(NodeView<'s>, i64)> {
        if self.feasible == 0 {
            return None;
        }
        let spread = (profile.spread > 0).then(|| OwnerSpread::of(pod.owner, snapshot)).flatten();
        let relative = self.relative.iter().any(|r| r.nonzero > 0);
        let totals: &[i32] = if spread.is_none() && !relative {
            &self.base
        } else {
            self.add_up(spread.as_ref(), snapshot, profile);
            &self.scratch
        };
        let slot = highest(totals, tie_break(pod.uid))?;
        Some((snapshot.view(slot)?, i64::from(totals[slot]) + self.same_for_all(profile)))
    }

    /// What the relative scores that tell no node from another give to each; left out of the comparison, not of the sum.
    fn same_for_all(&self, profile: &Profile) -> i64 {
        let idle = self.relative.iter().filter(|r| r.nonzero == 0).map(|r| &profile.scores[r.score]);
        idle.map(|(weight, score)| weight * score.scale().apply(0, 0)).sum()
    }

    /// Base scores, relative scores and spreading, together, in `scratch`.
    fn add_up(&mut self, spread: Option<&OwnerSpread<'_>>, snapshot: &Snapshot, profile: &Profile) {
        self.scratch.clone_from(&self.base);
        let totals = &mut self.scratch;
        for relative in self.relative.iter().filter(|r| r.nonzero > 0) {
            let (weight, score) = &profile.scores[relative.score];
            let feasible = relative.raw.iter().zip(&self.base).filter(|(_, base)| **base != INFEASIBLE);
            let highest = i64::from(feasible.map(|(raw, _)| *raw).max().unwrap_or(0));
            for (total, raw) in totals.iter_mut().zip(&relative.raw).filter(|(t, _)| **t != INFEASIBLE) {
                *total += (weight * score.scale().apply(i64::from(*raw), highest)) as i32;
            }
        }
        if let Some(spread) = spread {
            spread.add_to(totals, profile.spread, snapshot);
        }
    }

    /// Counts the reasons, once per revision.
    fn failure(&mut self, snapshot: &Snapshot, profile: &Profile) -> Arc<Failure> {
        if let Some(failure) = &self.failure {
            return failure.clone();
        }
        let mut failure = Failure { nodes: snapshot.len(), reasons: BTreeMap::new() };
        for node in snapshot.by_name() {
            for reason in profile.objection(&self.template, node).map(|(_, reasons)| reasons).unwrap_or_default() {
                *failure.reasons.entry(reason).or_default() += 1;
            }
        }
        let failure = Arc::new(failure);
        self.failure = Some(failure.clone());
        failure
    }

    fn widen(&mut self, width: usize) {
        self.base.resize(width, INFEASIBLE);
        for relative in &mut self.relative {
            relative.raw.resize(width, 0);
        }
    }

    /// One node's verdict and scores.
    fn look(&mut self, slot: usize, snapshot: &Snapshot, plugins: &Plugins<'_>) {
        let pod = plugins.pod;
        let view = snapshot.view(slot).filter(|view| plugins.filters.iter().all(|filter| filter.check(pod, *view)));
        let base = view.map_or(INFEASIBLE, |view| {
            plugins.absolute.iter().map(|(weight, score)| (weight * score.raw(pod, view)) as i32).sum()
        });
        self.feasible += usize::from(base != INFEASIBLE);
        self.feasible -= usize::from(self.base[slot] != INFEASIBLE);
        self.base[slot] = base;
        for (relative, score) in self.relative.iter_mut().zip(&plugins.relative) {
            let raw = match (score, view) {
                (Some(score), Some(view)) => score.raw(pod, view).clamp(0, i64::from(i32::MAX / 1000)) as i32,
                _ => 0,
            };
            relative.nonzero += usize::from(raw != 0);
            relative.nonzero -= usize::from(relative.raw[slot] != 0);
            relative.raw[slot] = raw;
        }
    }
}

/// The plugins that have something to say about the pods of a template.
struct Plugins<'a> {
    pod: &'a Template,
    filters: Vec<&'a dyn Filter>,
    absolute: Vec<(i64, &'a dyn Score)>,
    /// One for each relative score; nothing for those that give all nodes zero.
    relative: Vec<Option<&'a dyn Score>>,
}

impl<'a> Plugins<'a> {
    fn of(pod: &'a Template, profile: &'a Profile) -> Plugins<'a> {
        let (absolute, relative): (Vec<_>, Vec<_>) = profile
            .scores
            .iter()
            .map(|(weight, score)| (*weight, &**score))
            .partition(|(_, score)| score.scale() == Scale::Absolute);
        let concerned = |(_, score): (i64, &'a dyn Score)| score.concerns(pod).then_some(score);
        Plugins {
            pod,
            filters: profile.concerned(pod),
            absolute,
            relative: relative.into_iter().map(concerned).collect(),
        }
    }
}

/// Which node for this pod? Everything computed afresh: the definition that `memo` is held to.
pub fn schedule(pod: &Request<'_>, snapshot: &Snapshot, profile: &Profile) -> Decision {
    let template = Arc::new(pod.template.clone());
    Evaluation::of(&template, snapshot, profile).decide(pod, snapshot, profile)
}

/// Where the search for the best among equals begins.
fn tie_break(uid: &str) -> usize {
    use std::hash::Hasher;
    let mut hasher = fxhash::FxHasher::default();
    hasher.write(uid.as_bytes());
    (hasher.finish() >> 16) as usize
}

/// The slot of the highest total, the first from `start` on around the circle.
fn highest(totals: &[i32], start: usize) -> Option<usize> {
    let best = totals.iter().copied().max().filter(|best| *best >= 0)?;
    let start = start % totals.len();
    let after = totals[start..].iter().position(|t| *t == best).map(|at| start + at);
    after.or_else(|| totals[..start].iter().position(|t| *t == best))
}

/// The whole story of a cycle, for people: every node with every verdict and score.
#[derive(Clone, Debug, PartialEq)]
pub struct Story {
    /// By node name.
    pub nodes: Vec<NodeStory>,
    /// What was decided.
    pub decision: Decision,
}

/// One node's part in it.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeStory {
    /// The node.
    pub node: String,
    /// The filter that said no, with its reasons.
    pub objection: Option<(&'static str, Vec<String>)>,
    /// What every filter says, also behind the one that objected: no reasons mean yes.
    pub verdicts: Vec<(&'static str, Vec<String>)>,
    /// Every score that was given.
    pub scores: Vec<ScoreStory>,
    /// The weighted sum.
    pub total: i64,
}

/// One plugin's score of one node.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoreStory {
    /// The plugin.
    pub plugin: &'static str,
    /// As the plugin gave it.
    pub raw: i64,
    /// 0 to 100.
    pub scaled: i64,
    /// Times its weight.
    pub weighted: i64,
}

/// Tells the whole story.
pub fn explain(pod: &Request<'_>, snapshot: &Snapshot, profile: &Profile) -> Story {
    let spread = OwnerSpread::of(pod.owner, snapshot);
    let feasible: Vec<NodeView<'_>> = snapshot.by_name().filter(|n| profile.admits(pod.template, *n)).collect();
    let highest: Vec<i64> = profile
        .scores
        .iter()
        .map(|(_, score)| feasible.iter().map(|n| score.raw(pod.template, *n)).max().unwrap_or(0))
        .collect();
    let tell = |node: NodeView<'_>| {
        let objection = profile.objection(pod.template, node);
        let mut scores = Vec::new();
        if objection.is_none() {
            for ((weight, score), highest) in profile.scores.iter().zip(&highest) {
                let raw = score.raw(pod.template, node);
                let scaled = score.scale().apply(raw, *highest);
                scores.push(ScoreStory { plugin: score.name(), raw, scaled, weighted: scaled * weight });
            }
            if let Some(spread) = spread.as_ref().filter(|_| profile.spread > 0) {
                let raw = spread.of_slot(node.slot, snapshot.zones[node.slot]);
                scores.push(ScoreStory { plugin: "OwnerSpread", raw, scaled: raw, weighted: raw * profile.spread });
            }
        }
        let total = scores.iter().map(|s| s.weighted).sum();
        let filters = profile.filters.iter();
        let verdicts = filters.map(|filter| (filter.name(), filter.explain(pod.template, node))).collect();
        NodeStory { node: node.info.name.clone(), objection, verdicts, scores, total }
    };
    let nodes = snapshot.by_name().map(tell).collect();
    Story { nodes, decision: schedule(pod, snapshot, profile) }
}
