//! Crash-loop backoff: how long a container that ended waits before it is started again.
//!
//! The first restart is at once; then 10 s, doubling to 300 s. A container that ran for ten minutes has recovered, and
//! starts over. Nothing is kept in memory: each container carries in a label what the restart after it waits, so a
//! kubelet's restart changes nothing.

use std::time::Duration;

use jiff::Timestamp;

use crate::runtime::Exit;

const FIRST_SECONDS: u32 = 10;
const MAX_SECONDS: u32 = 300;
/// Running for so long proves that it can.
const RECOVERED_AFTER: Duration = Duration::from_secs(600);

/// What the restart after the next attempt waits, where the restart into it waited `seconds`.
pub fn next(seconds: u32) -> u32 {
    match seconds {
        0 => FIRST_SECONDS,
        seconds => (seconds * 2).min(MAX_SECONDS),
    }
}

/// How long the restart after this exit waits, where the ended container's label says `labelled`.
pub fn wait(exit: &Exit, labelled: u32) -> u32 {
    let ran = exit.started_at.map(|started| exit.finished_at.duration_since(started));
    let recovered = ran.is_some_and(|ran| ran.as_secs() >= RECOVERED_AFTER.as_secs().cast_signed());
    if recovered { 0 } else { labelled }
}

/// When it may be started again.
pub fn restart_at(exit: &Exit, labelled: u32) -> Timestamp {
    exit.finished_at + Duration::from_secs(u64::from(wait(exit, labelled)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(ran_seconds: i64) -> Exit {
        let at = |second| Timestamp::from_second(second).expect("in range");
        Exit {
            code: 1,
            oom_killed: false,
            start_error: None,
            started_at: Some(at(1000)),
            finished_at: at(1000 + ran_seconds),
        }
    }

    #[test]
    fn waits_double_to_five_minutes() {
        let mut labels = vec![0];
        for _ in 0..7 {
            labels.push(next(*labels.last().expect("one")));
        }
        assert_eq!(labels, [0, 10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn ten_minutes_of_running_start_over() {
        assert_eq!(wait(&exit(599), 80), 80);
        assert_eq!(wait(&exit(600), 80), 0);
        assert_eq!(restart_at(&exit(5), 20).as_second(), 1025);
    }

    #[test]
    fn what_never_ran_has_not_recovered() {
        let never = Exit { started_at: None, ..exit(0) };
        assert_eq!(wait(&never, 40), 40);
    }
}
