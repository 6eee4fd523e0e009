//! ServiceAccount: every Pod runs as one; who does not say as which runs as `default`.

use super::{Facts, Plugin, Verb};
use crate::registry::ApiResult;
use crate::resources::{Object, Typed};
use skiff_proto::corev1::Pod;

/// The account of Pods that name none.
const DEFAULT: &str = "default";

pub struct ServiceAccount;

impl Plugin for ServiceAccount {
    fn mutate(&self, facts: &Facts<'_>, new: &mut dyn Object) -> ApiResult<()> {
        if facts.is(Verb::Create, "", "Pod")
            && let Some(Typed(pod)) = new.as_any_mut().downcast_mut::<Typed<Pod>>()
        {
            name(pod);
        }
        Ok(())
    }
}

fn name(pod: &mut Pod) {
    let spec = &mut pod.spec;
    if spec.service_account_name.is_empty() {
        spec.service_account_name = DEFAULT.into();
        spec.service_account = DEFAULT.into();
    }
}
