//! ServiceAccount.

use crate::resources::field_error::Errors;
use crate::resources::strategy::KindStrategy;
use skiff_proto::corev1::ServiceAccount;

pub struct ServiceAccountStrategy;

impl KindStrategy for ServiceAccountStrategy {
    type Kind = ServiceAccount;

    fn validate(&self, _account: &ServiceAccount) -> Errors {
        Errors::new()
    }
}
