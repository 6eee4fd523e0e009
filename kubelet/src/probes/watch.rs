//! Watches a running container with its probes, one task each, and wakes the Pod when a verdict changes.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use skiff_world::{Task, World};

use super::check::{self, Question, Target};
use super::state::{Kind, Settings, Streak, Verdict};
use crate::runtime::ContainerRuntime;

/// What happened at a probe, for the Pod's worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// the verdict changed
    Changed,
    /// one bad answer, for an event
    Failed {
        /// which probe
        kind: Kind,
        /// in words
        words: String,
    },
}

/// The probes of one container, until dropped.
pub struct Watch {
    verdict: Arc<Mutex<Verdict>>,
    tasks: Vec<Task>,
}

impl Watch {
    /// Starts asking. `tell` is called when something happened; it must not block.
    pub fn start(
        world: &World,
        runtime: Arc<dyn ContainerRuntime>,
        target: Target,
        verdict: Verdict,
        tell: impl Fn(News) + Clone + Send + Sync + 'static,
    ) -> Watch {
        let verdict = Arc::new(Mutex::new(verdict));
        let mut tasks = Vec::new();
        for kind in [Kind::Startup, Kind::Readiness, Kind::Liveness] {
            let Some(probe) = kind.of(&target.container) else {
                continue;
            };
            let prober = Prober {
                world: world.clone(),
                runtime: runtime.clone(),
                kind,
                question: Question::of_probe(&probe.handler),
                settings: Settings::of(probe),
                target: target.clone(),
                verdict: verdict.clone(),
            };
            tasks.push(world.spawn("probe", prober.run(tell.clone())));
        }
        Watch { verdict, tasks }
    }

    /// What they say so far.
    pub fn verdict(&self) -> Verdict {
        self.verdict.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.tasks.iter().for_each(Task::abort);
    }
}

struct Prober {
    world: World,
    runtime: Arc<dyn ContainerRuntime>,
    kind: Kind,
    question: Question,
    settings: Settings,
    target: Target,
    verdict: Arc<Mutex<Verdict>>,
}

impl Prober {
    async fn run(self, tell: impl Fn(News)) {
        let mut streak = Streak::default();
        self.world.sleep(self.settings.initial_delay).await;
        loop {
            if self.asks() {
                let answer =
                    check::ask(&self.world, &*self.runtime, &self.target, &self.question, self.settings.timeout).await;
                if let Err(words) = &answer {
                    tell(News::Failed { kind: self.kind, words: words.clone() });
                }
                if let Some(good) = streak.count(answer.is_ok(), &self.settings)
                    && self.settle(good, answer.err().unwrap_or_default().as_str())
                {
                    tell(News::Changed);
                }
            } else if self.kind == Kind::Startup {
                return;
            }
            self.world.sleep(self.pause()).await;
        }
    }

    /// While a container is not ready, a probe with a long period would keep it from its Service for that long:
    /// ask every second at first.
    fn pause(&self) -> Duration {
        let verdict = self.lock();
        let eager = match self.kind {
            Kind::Readiness => verdict.ready.is_none() || verdict.started != Some(true),
            Kind::Liveness => verdict.started != Some(true),
            Kind::Startup => false,
        };
        if eager { self.settings.period.min(Duration::from_secs(1)) } else { self.settings.period }
    }

    fn asks(&self) -> bool {
        self.lock().asks(self.kind)
    }

    /// True when this changed the verdict.
    fn settle(&self, good: bool, words: &str) -> bool {
        let mut verdict = self.lock();
        let before = verdict.clone();
        verdict.settle(self.kind, good, words);
        *verdict != before
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Verdict> {
        self.verdict.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
