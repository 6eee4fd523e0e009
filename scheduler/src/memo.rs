//! Evaluations kept between pods: the second pod of a template costs one look at the one node
//! that the first was put on.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::cycle::{Decision, Evaluation, Request};
use crate::framework::Profile;
use crate::snapshot::Snapshot;
use crate::template::Template;

/// Evaluations by template; the one not used for longest goes first.
pub struct Memo {
    kept: BTreeMap<u64, (u64, Evaluation)>,
    limit: usize,
    clock: u64,
}

impl Memo {
    /// Keeps at most `limit` evaluations; each takes about 16 bytes per node.
    pub fn new(limit: usize) -> Memo {
        Memo { kept: BTreeMap::new(), limit: limit.max(1), clock: 0 }
    }

    /// The same as `cycle::schedule`, faster.
    pub fn decide(
        &mut self,
        digest: u64,
        template: &Arc<Template>,
        pod: &Request<'_>,
        snapshot: &Snapshot,
        profile: &Profile,
    ) -> Decision {
        self.clock += 1;
        let clock = self.clock;
        // Two templates of one digest are possible, if unlikely: then the later one takes the place.
        let stale = self.kept.get(&digest).is_some_and(|(_, kept)| kept.template() != template);
        if stale {
            self.kept.remove(&digest);
        }
        if !self.kept.contains_key(&digest) && self.kept.len() >= self.limit {
            let oldest = self.kept.iter().min_by_key(|(_, (used, _))| *used).map(|(digest, _)| *digest);
            oldest.map(|oldest| self.kept.remove(&oldest));
        }
        let (used, evaluation) =
            self.kept.entry(digest).or_insert_with(|| (clock, Evaluation::of(template, snapshot, profile)));
        *used = clock;
        evaluation.catch_up(snapshot, profile);
        evaluation.decide(pod, snapshot, profile)
    }
}
