//! Priority: every new Pod has one. Without classes, all are alike.

use super::{Facts, Plugin, Verb};
use crate::registry::ApiResult;
use crate::resources::{Object, Typed};
use skiff_proto::corev1::Pod;

pub struct Priority;

impl Plugin for Priority {
    fn mutate(&self, facts: &Facts<'_>, new: &mut dyn Object) -> ApiResult<()> {
        if facts.is(Verb::Create, "", "Pod")
            && let Some(Typed(pod)) = new.as_any_mut().downcast_mut::<Typed<Pod>>()
        {
            pod.spec.priority.get_or_insert(0);
        }
        Ok(())
    }
}
