//! When an image is pulled, and what a Pod is told when it cannot be had. Pure: the kubelet's workers do what it says.
//!
//! ```text
//!            absent, policy Never            absent                     pulled
//!  unknown ─────────────────────► Never   unknown ──────► Pulling ──────────────► Present
//!                                                           │  ▲
//!                                            Docker says no │  │ backoff over
//!                                                           ▼  │
//!                                                          Failed (ErrImagePull, then ImagePullBackOff)
//! ```

use std::time::Duration;

use jiff::Timestamp;

/// First wait after a failed pull; doubles up to [`BACKOFF_MAX`].
const BACKOFF_FIRST: Duration = Duration::from_secs(10);
/// No wait is longer.
const BACKOFF_MAX: Duration = Duration::from_secs(300);

/// What is known about an image on this node.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum ImageState {
    /// not looked for yet
    #[default]
    Unknown,
    /// there
    Present,
    /// not there, and nobody has asked for a pull
    Absent,
    /// on its way
    Pulling,
    /// the last pull failed
    Failed(PullFailure),
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

/// imagePullPolicy, and what it defaults to.
pub fn policy<'a>(explicit: &'a str, image: &str) -> &'a str {
    if !explicit.is_empty() {
        return explicit;
    }
    let name = image.rsplit('/').next().unwrap_or(image);
    let latest = name.ends_with(":latest") || !name.contains([':', '@']);
    if latest { "Always" } else { "IfNotPresent" }
}

/// What to do, by policy and state. `pulled_for_this_attempt` says that policy Always has had its pull.
pub fn decide(image: &str, policy: &str, state: &ImageState, pulled_for_this_attempt: bool, now: Timestamp) -> Decision {
    match (policy, state) {
        (_, ImageState::Unknown) => Decision::Look,
        (_, ImageState::Pulling) => Decision::Wait,
        ("Never", ImageState::Present) | ("IfNotPresent", ImageState::Present) => Decision::Go,
        ("Never", _) => Decision::Refuse {
            reason: "ErrImageNeverPull",
            message: format!("Container image \"{image}\" is not present with pull policy of Never"),
            until: None,
        },
        (_, ImageState::Present) if pulled_for_this_attempt => Decision::Go,
        (_, ImageState::Failed(failure)) if now < failure.retry_at() => Decision::Refuse {
            // Kubernetes tells the failure itself first, then that it waits; both carry the words that matter.
            reason: if now.duration_since(failure.at).as_millis() < 2_000 { "ErrImagePull" } else { "ImagePullBackOff" },
            message: if now.duration_since(failure.at).as_millis() < 2_000 {
                failure.message.clone()
            } else {
                format!("Back-off pulling image \"{image}\": {}", failure.message)
            },
            until: Some(if now.duration_since(failure.at).as_millis() < 2_000 {
                failure.at + Duration::from_secs(2)
            } else {
                failure.retry_at()
            }),
        },
        (_, ImageState::Present | ImageState::Absent | ImageState::Failed(_)) => Decision::Pull,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    #[test]
    fn policies_default_by_tag() {
        for (image, expected) in [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("host:5000/nginx", "Always"),
            ("nginx:1.2", "IfNotPresent"),
            ("nginx@sha256:ab", "IfNotPresent"),
        ] {
            assert_eq!(policy("", image), expected, "{image}");
            assert_eq!(policy("Never", image), "Never");
        }
    }

    #[test]
    fn decisions() {
        let failed = ImageState::Failed(PullFailure::after(None, "no such host".into(), at(100)));
        let reason = |decision| match decision {
            Decision::Refuse { reason, .. } => reason.to_string(),
            other => format!("{other:?}"),
        };
        for (policy, state, pulled, now, expected) in [
            ("IfNotPresent", ImageState::Unknown, false, 0, "Look"),
            ("IfNotPresent", ImageState::Present, false, 0, "Go"),
            ("IfNotPresent", ImageState::Absent, false, 0, "Pull"),
            ("Always", ImageState::Present, false, 0, "Pull"),
            ("Always", ImageState::Present, true, 0, "Go"),
            ("Never", ImageState::Absent, false, 0, "ErrImageNeverPull"),
            ("Always", failed.clone(), false, 101, "ErrImagePull"),
            ("Always", failed.clone(), false, 105, "ImagePullBackOff"),
            ("Always", failed.clone(), false, 110, "Pull"),
            ("IfNotPresent", ImageState::Pulling, false, 0, "Wait"),
        ] {
            assert_eq!(reason(decide("i", policy, &state, pulled, at(now))), expected, "{policy} {state:?}");
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
