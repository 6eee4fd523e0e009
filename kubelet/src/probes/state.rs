//! How single answers become a verdict: thresholds, counted in a row.
//!
//! ```text
//!              startup probe: none, or succeeded
//!   starting ─────────────────────────────────────▶ started ── readiness and liveness probes count
//!      │  failed failureThreshold times in a row          │
//!      ▼                                                  ▼  liveness failed failureThreshold times in a row
//!    fatal ◀──────────────────────────────────────────  fatal: the container is stopped, and started again by policy
//! ```

use std::time::Duration;

use skiff_proto::corev1::{Container, Probe};

/// Which question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// has it come up?
    Startup,
    /// may it be sent traffic?
    Readiness,
    /// does it work, or is it stuck?
    Liveness,
}

impl Kind {
    /// The word in events: "Readiness probe failed: ..."
    pub fn word(self) -> &'static str {
        match self {
            Kind::Startup => "Startup",
            Kind::Readiness => "Readiness",
            Kind::Liveness => "Liveness",
        }
    }

    /// The container's probe of this kind.
    pub fn of(self, container: &Container) -> Option<&Probe> {
        match self {
            Kind::Startup => container.startup_probe.as_deref(),
            Kind::Readiness => container.readiness_probe.as_deref(),
            Kind::Liveness => container.liveness_probe.as_deref(),
        }
    }
}

/// What the probes of one container say, so far.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Verdict {
    /// past its startup probe; None: not known yet
    pub started: Option<bool>,
    /// None: not known yet
    pub ready: Option<bool>,
    /// why it is to be stopped
    pub failed: Option<String>,
}

impl Verdict {
    /// Why the container is to be stopped, if it is.
    pub fn fatal(&self) -> Option<String> {
        self.failed.clone()
    }
}

/// One probe's settings, with Kubernetes' defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// before the first time
    pub initial_delay: Duration,
    /// between two
    pub period: Duration,
    /// for one answer
    pub timeout: Duration,
    /// so many good answers in a row change the verdict
    pub successes: u32,
    /// so many bad ones
    pub failures: u32,
}

impl Settings {
    /// As the probe says; 0 means the default.
    pub fn of(probe: &Probe) -> Settings {
        let or = |value: i32, default: u32| u32::try_from(value).ok().filter(|v| *v > 0).unwrap_or(default);
        let seconds = |value: u32| Duration::from_secs(u64::from(value));
        Settings {
            initial_delay: seconds(u32::try_from(probe.initial_delay_seconds).unwrap_or(0)),
            period: seconds(or(probe.period_seconds, 10)),
            timeout: seconds(or(probe.timeout_seconds, 1)),
            successes: or(probe.success_threshold, 1),
            failures: or(probe.failure_threshold, 3),
        }
    }
}

/// The answers of one probe in a row.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Streak {
    good: bool,
    length: u32,
}

impl Streak {
    /// Counts an answer; gives the verdict if the streak is long enough for one.
    pub fn count(&mut self, good: bool, settings: &Settings) -> Option<bool> {
        if self.good != good {
            *self = Streak { good, length: 0 };
        }
        self.length = self.length.saturating_add(1);
        let enough = if good { settings.successes } else { settings.failures };
        (self.length >= enough).then_some(good)
    }
}

impl Verdict {
    /// At the start, before any answer.
    pub fn initial(container: &Container) -> Verdict {
        Verdict {
            started: container.startup_probe.is_none().then_some(true),
            ready: container.readiness_probe.is_none().then_some(true),
            failed: None,
        }
    }

    /// Whether probes of this kind are asked now.
    pub fn asks(&self, kind: Kind) -> bool {
        match kind {
            Kind::Startup => self.started != Some(true),
            Kind::Readiness | Kind::Liveness => self.started == Some(true),
        }
    }

    /// Takes in what a streak has settled.
    pub fn settle(&mut self, kind: Kind, good: bool, words: &str) {
        match (kind, good) {
            (Kind::Startup, true) => self.started = Some(true),
            (Kind::Readiness, good) => self.ready = Some(good),
            (Kind::Liveness, true) => {}
            (Kind::Startup | Kind::Liveness, false) => {
                self.failed = Some(format!("{} probe failed: {words}", kind.word()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(successes: u32, failures: u32) -> Settings {
        Settings { successes, failures, ..Settings::of(&Probe::default()) }
    }

    #[test]
    fn defaults_are_kubernetes() {
        let settings = Settings::of(&Probe::default());
        assert_eq!((settings.period.as_secs(), settings.timeout.as_secs()), (10, 1));
        assert_eq!((settings.successes, settings.failures), (1, 3));
    }

    #[test]
    fn thresholds_count_in_a_row() {
        for (answers, successes, failures, expected) in [
            ("+", 1, 3, vec![Some(true)]),
            ("--", 1, 3, vec![None, None]),
            ("---", 1, 3, vec![None, None, Some(false)]),
            ("--+--", 1, 3, vec![None, None, Some(true), None, None]),
            ("+-++", 2, 2, vec![None, None, None, Some(true)]),
        ] {
            let mut streak = Streak::default();
            let settings = settings(successes, failures);
            let verdicts: Vec<_> = answers.chars().map(|answer| streak.count(answer == '+', &settings)).collect();
            assert_eq!(verdicts, expected, "{answers}");
        }
    }

    #[test]
    fn readiness_and_liveness_wait_for_startup() {
        let probe = Some(Box::new(Probe::default()));
        let container = Container { startup_probe: probe.clone(), readiness_probe: probe, ..Container::default() };
        let mut verdict = Verdict::initial(&container);
        assert!(verdict.asks(Kind::Startup) && !verdict.asks(Kind::Readiness) && !verdict.asks(Kind::Liveness));
        assert_eq!(verdict.ready, None);
        verdict.settle(Kind::Startup, true, "");
        assert!(!verdict.asks(Kind::Startup) && verdict.asks(Kind::Readiness));
        verdict.settle(Kind::Readiness, false, "500");
        assert_eq!((verdict.ready, verdict.fatal()), (Some(false), None));
        verdict.settle(Kind::Liveness, false, "no answer");
        assert_eq!(verdict.fatal().as_deref(), Some("Liveness probe failed: no answer"));
    }
}
