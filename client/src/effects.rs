//! Effects: what a component did that is not a write. A container started, an address given, a chain replaced.
//!
//! Nothing in the API shows an effect by itself, so each component keeps the latest of its own, with their causes, in a
//! bounded ring that is read through the tunnel (`/debug/effects`). On a node it lies in a file too, so that it outlives
//! the process that keeps it. A status write that follows names the effects it reports (`cause::reporting`): so the way
//! from a container back to an `apply` has no gap.

mod file;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use skiff_proto::skiffv1::{Cause, ObjectRef};
use skiff_world::World;

use crate::cause;
use file::RingFile;

/// So many effects are kept; older ones go.
pub const KEPT: usize = 512;

/// The effects of a component; clones are the same ring.
#[derive(Clone, Default)]
pub struct Effects {
    ring: Arc<Mutex<Ring>>,
}

#[derive(Default)]
struct Ring {
    next: u64,
    /// What earlier processes did, as they wrote it.
    earlier: VecDeque<Value>,
    kept: VecDeque<Effect>,
    file: Option<RingFile>,
}

/// One effect.
#[derive(Clone, Debug, PartialEq)]
pub struct Effect {
    /// Counts up, on from what is in the file: what causes name it by.
    pub id: String,
    /// When.
    pub at: jiff::Timestamp,
    /// What was done, in words: `container app started`.
    pub what: String,
    /// For which object, at the revision that it was done for.
    pub object: ObjectRef,
    /// The step that did it.
    pub cause: Cause,
}

impl Effects {
    /// From here on the ring is also kept in this file, with what earlier processes left in it.
    pub fn keep_in(&self, world: &World, path: &Path) {
        let (file, found) = RingFile::open(world, path);
        let mut ring = self.lock();
        let id = |effect: &Value| effect["id"].as_str().and_then(|id| id.parse::<u64>().ok());
        let next = found.iter().filter_map(id).max().map_or(0, |last| last.saturating_add(1));
        ring.next = ring.next.max(next);
        ring.earlier = found.into();
        ring.file = Some(file);
    }

    /// Keeps an effect of the step that is being done now; gives its id.
    pub fn note(&self, at: jiff::Timestamp, what: impl Into<String>, object: ObjectRef) -> String {
        self.note_because(at, what, object, cause::of_now())
    }

    /// The same, for what was done on other grounds than the present step's.
    pub fn note_because(
        &self,
        at: jiff::Timestamp,
        what: impl Into<String>,
        object: ObjectRef,
        cause: Cause,
    ) -> String {
        let mut ring = self.lock();
        let id = ring.next.to_string();
        ring.next += 1;
        if ring.earlier.len() + ring.kept.len() >= KEPT && ring.earlier.pop_front().is_none() {
            ring.kept.pop_front();
        }
        let effect = Effect { id: id.clone(), at, what: what.into(), object, cause };
        tracing::info!(target: "effect", id, object = effect.object.name, reason = effect.cause.reason, "{}", effect.what);
        let line = format!("{}\n", effect.to_json());
        ring.kept.push_back(effect);
        if let Some(mut file) = ring.file.take() {
            file.append(&line, || ring.print());
            ring.file = Some(file);
        }
        id
    }

    /// The cause of the step that is being done now; an empty one outside of steps.
    pub fn cause(&self) -> Cause {
        cause::of_now()
    }

    /// Those of this process that are kept, the oldest first.
    pub fn all(&self) -> Vec<Effect> {
        self.lock().kept.iter().cloned().collect()
    }

    /// A JSON object a line, those of earlier processes first.
    pub fn print(&self) -> String {
        self.lock().print()
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    fn print(&self) -> String {
        let own = self.kept.iter().map(Effect::to_json);
        self.earlier.iter().cloned().chain(own).map(|effect| format!("{effect}\n")).collect()
    }
}

impl Effect {
    fn to_json(&self) -> Value {
        json!({
            "id": self.id,
            "at": self.at.to_string(),
            "what": self.what,
            "object": cause::object_to_json(&self.object),
            "cause": cause::to_json(&self.cause),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> ObjectRef {
        ObjectRef { resource: "pods".into(), name: "web".into(), uid: "u".into(), revision: 7, ..ObjectRef::default() }
    }

    #[test]
    fn the_ring_keeps_the_latest_and_counts_on() {
        let effects = Effects::default();
        (0..KEPT + 3).for_each(|n| drop(effects.note(jiff::Timestamp::UNIX_EPOCH, format!("did {n}"), pod())));
        let all = effects.all();
        assert_eq!((all.len(), all[0].what.as_str(), all[0].id.as_str()), (KEPT, "did 3", "3"));
    }

    /// What a ring in this folder says was done.
    fn told(dir: &Path) -> (Effects, Vec<String>) {
        let effects = Effects::default();
        effects.keep_in(&World::real("effects-test"), &dir.join("effects"));
        let told = effects.print().lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect::<Vec<_>>();
        (
            effects,
            told.iter().map(|e| format!("{} {}", e["id"].as_str().unwrap(), e["what"].as_str().unwrap())).collect(),
        )
    }

    #[test]
    fn the_file_outlives_the_process_and_its_damage_is_skipped() {
        let dir = tempfile::tempdir().unwrap();
        let (effects, before) = told(dir.path());
        assert_eq!(before, Vec::<String>::new());
        for what in ["network set up", "container app started"] {
            effects.note(jiff::Timestamp::UNIX_EPOCH, what, pod());
        }
        // No farewell: what a killed process leaves is what it has written.
        let (effects, after) = told(dir.path());
        assert_eq!(after, ["0 network set up", "1 container app started"]);
        assert_eq!(effects.note(jiff::Timestamp::UNIX_EPOCH, "container app ended", pod()), "2", "ids go on");

        let file = dir.path().join("effects");
        let whole = std::fs::read_to_string(&file).unwrap();
        let lines: Vec<&str> = whole.lines().collect();
        let damaged =
            format!("{}\nno effect\n{{\"id\": \"x\"}}\n{}\n{}", lines[0], lines[1], &lines[2][..lines[2].len() / 2]);
        std::fs::write(&file, damaged).unwrap();
        let (effects, after) = told(dir.path());
        assert_eq!(
            after,
            ["0 network set up", "1 container app started"],
            "half a line and what is no effect are skipped"
        );
        effects.note(jiff::Timestamp::UNIX_EPOCH, "container app started", pod());
        assert_eq!(told(dir.path()).1.len(), 3, "what follows half a line is whole");

        std::fs::write(&file, b"\xff\x00").unwrap();
        assert_eq!(told(dir.path()).1, Vec::<String>::new());
        std::fs::remove_file(&file).unwrap();
        std::fs::create_dir(&file).unwrap();
        let (effects, _) = told(dir.path());
        effects.note(jiff::Timestamp::UNIX_EPOCH, "nowhere to write", pod());
        assert_eq!(effects.all().len(), 1, "without a file there is memory");
    }

    #[test]
    fn the_file_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..3 {
            let (effects, _) = told(dir.path());
            (0..2 * KEPT).for_each(|n| drop(effects.note(jiff::Timestamp::UNIX_EPOCH, format!("did {n}"), pod())));
            assert_eq!(effects.print().lines().count(), KEPT);
        }
        let text = std::fs::read_to_string(dir.path().join("effects")).unwrap();
        assert!(text.lines().count() <= 2 * KEPT, "{}", text.lines().count());
        let (_, after) = told(dir.path());
        assert_eq!(
            (after.len(), after[KEPT - 1].as_str()),
            (KEPT, format!("{} did {}", 6 * KEPT - 1, 2 * KEPT - 1).as_str())
        );
    }

    #[tokio::test]
    async fn an_effect_has_the_cause_of_the_step_that_did_it() {
        let effects = Effects::default();
        let cause = Cause { reason: "it has none yet".into(), controller: "pods".into(), ..Cause::default() };
        cause::with(cause, async { effects.note(jiff::Timestamp::UNIX_EPOCH, "container app started", pod()) }).await;
        let line: Value = serde_json::from_str(effects.print().trim()).unwrap();
        assert_eq!((line["id"].as_str(), line["at"].as_str()), (Some("0"), Some("1970-01-01T00:00:00Z")));
        assert_eq!(
            (line["cause"]["reason"].as_str(), line["object"]["revision"].as_u64()),
            (Some("it has none yet"), Some(7))
        );
    }
}
