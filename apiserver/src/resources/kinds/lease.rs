//! Lease: heartbeats and leader election; taken over only by compare-and-swap.

use crate::resources::field_error::Errors;
use crate::resources::strategy::KindStrategy;
use crate::resources::validation::non_negative;
use skiff_proto::coordinationv1::Lease;

pub struct LeaseStrategy;

impl KindStrategy for LeaseStrategy {
    type Kind = Lease;
    const UNCONDITIONAL_UPDATE: bool = false;

    fn validate(&self, lease: &Lease) -> Errors {
        let mut errors = Errors::new();
        let spec = &lease.spec;
        if let Some(duration) = spec.lease_duration_seconds.filter(|seconds| *seconds <= 0) {
            errors.invalid("spec.leaseDurationSeconds", duration, "must be greater than 0");
        }
        if let Some(transitions) = spec.lease_transitions {
            non_negative(i64::from(transitions), "spec.leaseTransitions", &mut errors);
        }
        errors
    }
}
