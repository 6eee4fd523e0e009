//! DefaultTolerationSeconds: every new Pod has some time on a node that is lost.

use super::{Facts, Plugin, Verb};
use crate::registry::ApiResult;
use crate::resources::{Object, Typed};
use skiff_proto::corev1::{Pod, Toleration};
use std::time::Duration;

/// The taints of a node that is lost.
const LOST: &[&str] = &["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

pub struct DefaultTolerationSeconds;

impl Plugin for DefaultTolerationSeconds {
    fn mutate(&self, facts: &Facts<'_>, new: &mut dyn Object) -> ApiResult<()> {
        if facts.is(Verb::Create, "", "Pod")
            && let Some(Typed(pod)) = new.as_any_mut().downcast_mut::<Typed<Pod>>()
        {
            tolerate(pod, facts.settings.lost_node_tolerance);
        }
        Ok(())
    }
}

/// A Pod that says nothing of it stays for `tolerance` on a node that is not ready or not reachable.
fn tolerate(pod: &mut Pod, tolerance: Duration) {
    let spec = &mut pod.spec;
    for key in LOST {
        if !spec.tolerations.iter().any(|t| tolerates(t, key)) {
            spec.tolerations.push(Toleration {
                key: (*key).into(),
                operator: "Exists".into(),
                effect: "NoExecute".into(),
                toleration_seconds: Some(i64::try_from(tolerance.as_secs()).unwrap_or(i64::MAX)),
                ..Default::default()
            });
        }
    }
}

fn tolerates(toleration: &Toleration, key: &str) -> bool {
    (toleration.key == key || toleration.key.is_empty())
        && (toleration.effect == "NoExecute" || toleration.effect.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_toleration_of_ones_own_is_kept() {
        let mut pod = Pod::default();
        pod.spec.tolerations.push(Toleration {
            key: LOST[0].into(),
            operator: "Exists".into(),
            effect: "NoExecute".into(),
            toleration_seconds: Some(5),
            ..Default::default()
        });
        for _ in 0..2 {
            tolerate(&mut pod, Duration::from_secs(60));
        }
        let seconds: Vec<_> = pod.spec.tolerations.iter().map(|t| (t.key.as_str(), t.toleration_seconds)).collect();
        assert_eq!(seconds, [(LOST[0], Some(5)), (LOST[1], Some(60))]);
    }
}
