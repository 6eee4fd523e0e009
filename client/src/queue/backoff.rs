//! How long to wait before trying again: exponential, capped, never giving up.

use std::time::Duration;

use skiff_world::World;

/// A rule for growing waits: `base`, doubled at each failure, at most `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The wait after the first failure.
    pub base: Duration,
    /// No wait is longer.
    pub max: Duration,
}

impl Backoff {
    /// A rule that starts at `base` and ends at `max`.
    pub const fn new(base: Duration, max: Duration) -> Backoff {
        Backoff { base, max }
    }

    /// The wait after `failures` failures in a row (0 and 1 both give `base`).
    pub fn delay(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        self.base.saturating_mul(1 << doublings).min(self.max)
    }

    /// The same, spread over half to the whole of it, so that many who failed together do not
    /// all come back together.
    pub fn jittered(&self, failures: u32, world: &World) -> Duration {
        let whole = self.delay(failures);
        let half = whole / 2;
        let spread = u64::try_from(half.as_micros()).unwrap_or(u64::MAX).max(1);
        whole - half + Duration::from_micros(world.random_below(spread))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Backoff = Backoff::new(Duration::from_millis(5), Duration::from_secs(1000));

    #[test]
    fn doubles_up_to_the_cap_and_stays_there() {
        for (failures, millis) in
            [(0, 5), (1, 5), (2, 10), (3, 20), (11, 5120), (18, 655_360), (19, 1_000_000), (u32::MAX, 1_000_000)]
        {
            assert_eq!(RULE.delay(failures), Duration::from_millis(millis), "{failures} failures");
        }
    }

    #[test]
    fn jitter_stays_between_half_and_whole() {
        let world = World::real("backoff-test");
        for failures in 0..40 {
            let whole = RULE.delay(failures);
            let wait = RULE.jittered(failures, &world);
            assert!(whole / 2 <= wait && wait <= whole, "{failures}: {wait:?} of {whole:?}");
        }
    }
}
