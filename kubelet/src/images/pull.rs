//! When an image is pulled, and what a Pod is told when it cannot be had. Pure: the kubelet's workers do what it says.
//!
//! ```text
//!   not looked for ──▶ there ───────────────────────────────▶ go (policy Always pulls first)
//!        │                                        ▲
//!        └──▶ absent ──▶ policy Never: ErrImageNeverPull
//!               │                                 │
//!               └──────▶ pulling ── pulled ───────┘
//!                          │ ▲
//!            Docker says no│ │ 10 s, doubling to 300 s
//!                          ▼ │
//!                        failed: ErrImagePull, then ImagePullBackOff
//! ```

use std::time::Duration;

use jiff::Timestamp;

/// First wait after a failed pull; doubles up to [`BACKOFF_MAX`].
const BACKOFF_FIRST: Duration = Duration::from_secs(10);
/// No wait is longer.
const BACKOFF_MAX: Duration = Duration::from_secs(300);

/// What is known about an image on this node.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ImageState {
    /// whether it is there; None: not looked for yet
    pub present: Option<bool>,
    /// a pull is on its way
    pub pulling: bool,
    /// the last pull failed
    pub failure: Option<PullFailure>,
}

/// A pull that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullFailure {
    /// Docker's words
    pub message: String,
    /// when
    pub at: Timestamp,
    /// not again before so long after
    pub backoff: Duration,
}

impl PullFailure {
    /// A failure at `now`, after `previous`.
    pub fn after(previous: Option<&PullFailure>, message: String, now: Timestamp) -> PullFailure {
        let backoff = previous.map_or(BACKOFF_FIRST, |failure| (failure.backoff * 2).min(BACKOFF_MAX));
        PullFailure { message, at: now, backoff }
    }

    /// When the next pull may start.
    pub fn retry_at(&self) -> Timestamp {
        self.at + self.backoff
    }
}

/// What to do about a container's image before it can start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// it is there
    Go,
    /// find out whether it is there
    Look,
    /// get it
    Pull,
    /// wait for a pull that is on its way
    Wait,
    /// it cannot be had (yet): reason and message for the container's waiting state
    Refuse {
        /// "ErrImagePull", "ImagePullBackOff" or "ErrImageNeverPull"
        reason: &'static str,
        /// in words
        message: String,
        /// look again then
        until: Option<Timestamp>,
    },
}

/// imagePullPolicy. The API server fills the default in; an object without one is treated alike.
pub fn policy(explicit: &str) -> &str {
    if explicit.is_empty() { "IfNotPresent" } else { explicit }
}

/// Kubernetes tells the failure itself first, and after so long that it waits.
const TOLD_PLAINLY: Duration = Duration::from_secs(2);

/// What to do, by policy and state. `pulled_for_this_attempt` says that policy Always has had its pull.
pub fn decide(
    image: &str,
    policy: &str,
    state: &ImageState,
    pulled_for_this_attempt: bool,
    now: Timestamp,
) -> Decision {
    let there = state.present == Some(true);
    if there && (policy != "Always" || pulled_for_this_attempt) {
        return Decision::Go;
    }
    if state.pulling {
        return Decision::Wait;
    }
    if state.present.is_none() {
        return Decision::Look;
    }
    if policy == "Never" {
        return Decision::Refuse {
            reason: "ErrImageNeverPull",
            message: format!("Container image \"{image}\" is not present with pull policy of Never"),
            until: None,
        };
    }
    match &state.failure {
        Some(failure) if now < failure.retry_at() => back_off(image, failure, now),
        _ => Decision::Pull,
    }
}

fn back_off(image: &str, failure: &PullFailure, now: Timestamp) -> Decision {
    let plainly = failure.at + TOLD_PLAINLY;
    if now < plainly {
        return Decision::Refuse { reason: "ErrImagePull", message: failure.message.clone(), until: Some(plainly) };
    }
    Decision::Refuse {
        reason: "ImagePullBackOff",
        message: format!("Back-off pulling image \"{image}\": {}", failure.message),
        until: Some(failure.retry_at()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    #[test]
    fn decisions() {
        let unknown = ImageState::default();
        let there = ImageState { present: Some(true), ..ImageState::default() };
        let absent = ImageState { present: Some(false), ..ImageState::default() };
        let pulling = ImageState { pulling: true, ..absent.clone() };
        let failed =
            ImageState { failure: Some(PullFailure::after(None, "no such host".into(), at(100))), ..absent.clone() };
        let failed_but_there = ImageState { present: Some(true), ..failed.clone() };
        let word = |decision| match decision {
            Decision::Refuse { reason, .. } => reason.to_string(),
            other => format!("{other:?}"),
        };
        for (policy, state, pulled, now, expected) in [
            ("IfNotPresent", &unknown, false, 0, "Look"),
            ("IfNotPresent", &there, false, 0, "Go"),
            ("IfNotPresent", &absent, false, 0, "Pull"),
            ("IfNotPresent", &pulling, false, 0, "Wait"),
            ("Always", &there, false, 0, "Pull"),
            ("Always", &there, true, 0, "Go"),
            ("Never", &unknown, false, 0, "Look"),
            ("Never", &there, false, 0, "Go"),
            ("Never", &absent, false, 0, "ErrImageNeverPull"),
            ("Always", &failed, false, 101, "ErrImagePull"),
            ("Always", &failed, false, 105, "ImagePullBackOff"),
            ("Always", &failed, false, 110, "Pull"),
            // Somebody else's pull failed; what is there can be used all the same.
            ("IfNotPresent", &failed_but_there, false, 101, "Go"),
            ("Always", &failed_but_there, false, 105, "ImagePullBackOff"),
        ] {
            assert_eq!(word(decide("i", policy, state, pulled, at(now))), expected, "{policy} {state:?}");
        }
    }

    #[test]
    fn failures_back_off_to_five_minutes() {
        let mut failure = PullFailure::after(None, String::new(), at(0));
        let mut waits = vec![failure.backoff.as_secs()];
        for _ in 0..6 {
            failure = PullFailure::after(Some(&failure), String::new(), at(0));
            waits.push(failure.backoff.as_secs());
        }
        assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300]);
    }
}
