//! How long a pod tolerates a taint.

use crate::nodes::TaintView;
use crate::pods::{PodView, Toleration};

/// When a pod has to go because of a NoExecute taint; `None`: never. Its time runs from when the taint
/// was added or, if that was later, from when the pod was bound: whoever comes to a tainted node has their time too.
pub fn due(taint: &TaintView, pod: &PodView) -> Option<i64> {
    let tolerations: Vec<&Toleration> = pod.tolerations.iter().filter(|t| tolerates(t, taint)).collect();
    if tolerations.is_empty() {
        return Some(taint.added);
    }
    let seconds = tolerations.iter().filter_map(|t| t.seconds).min()?;
    Some(taint.added.max(pod.bound).saturating_add(seconds.max(0)))
}

fn tolerates(toleration: &Toleration, taint: &TaintView) -> bool {
    match toleration.operator.as_str() {
        "Exists" => toleration.key.is_empty() || toleration.key == taint.key,
        "" | "Equal" => toleration.key == taint.key && toleration.value == taint.value,
        _ => false,
    }
}
