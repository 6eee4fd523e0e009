//! What every new Pod gets: a service account's name, and some time on a node that is lost.

use crate::resources::{Object, Typed};
use skiff_proto::corev1::{Pod, Toleration};
use std::time::Duration;

/// The taints of a node that is lost.
const LOST: &[&str] = &["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

/// Fills in a new Pod. One that says nothing of it stays for `tolerance` on a node that is not ready or not reachable.
pub fn fill_in(object: &mut dyn Object, tolerance: Duration) {
    let Some(Typed(pod)) = object.as_any_mut().downcast_mut::<Typed<Pod>>() else { return };
    let spec = &mut pod.spec;
    if spec.service_account_name.is_empty() {
        spec.service_account_name = "default".into();
        spec.service_account = "default".into();
    }
    spec.priority.get_or_insert(0);
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
        let mut object = Typed(pod);
        for _ in 0..2 {
            fill_in(&mut object, Duration::from_secs(60));
        }
        let seconds: Vec<_> =
            object.0.spec.tolerations.iter().map(|t| (t.key.as_str(), t.toleration_seconds)).collect();
        assert_eq!(seconds, [(LOST[0], Some(5)), (LOST[1], Some(60))]);
        assert_eq!(object.0.spec.service_account_name, "default");
    }
}
