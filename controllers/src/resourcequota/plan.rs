//! When a quota has to be counted.

use std::fmt;
use std::sync::Arc;

use skiff_client::Resource;
use skiff_client::driver::Plan;
use skiff_proto::corev1::ResourceQuota;

/// What there is to know about one quota.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The quota.
    pub quota: Arc<ResourceQuota>,
    /// The mark that says that something may have gone since it was counted.
    pub due: Option<u64>,
}

/// What can be done for a quota.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Have it counted.
    Count {
        /// The mark for whose sake it is.
        mark: Option<u64>,
    },
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "have it counted")
    }
}

/// The plan.
pub fn plan(observed: &Observed) -> Plan<Action> {
    let quota = &*observed.quota;
    let mut plan = Plan::nothing();
    plan.input(Resource::of::<ResourceQuota>().object(&quota.metadata));
    let count = Action::Count { mark: observed.due };
    if quota.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    if quota.status.hard != quota.spec.hard {
        plan.step(count, "what it limits has changed, or it is new");
    } else if observed.due.is_some() {
        plan.step(count, "something that it counts may have gone");
    }
    plan
}
