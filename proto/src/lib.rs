//! The API: one generated struct per kind is the gRPC message, the stored value, the JSON and YAML
//! document and Kubernetes' own protobuf, all at once. The .proto files in `protos/` are the source;
//! `build/` makes the types and what is said about them from it.

pub mod apply;
pub mod columns;
pub mod fields;
pub mod json;
pub mod jsonpath;
mod kind;
pub mod labels;
pub mod merge;
pub mod protobuf;
pub mod quota;
pub mod refs;
mod scalar;
pub mod schema;
pub mod yaml;

#[cfg(test)]
mod roundtrip;

/// What prost and tonic generate, in the modules of the protobuf packages.
#[allow(missing_docs, clippy::all, rustdoc::all)]
pub mod generated {
    include!(concat!(env!("OUT_DIR"), "/generated.rs"));
}

mod kinds {
    //! `Kind` for every message that is one.
    include!(concat!(env!("OUT_DIR"), "/kinds.rs"));
}

pub use generated::k8s::io::api::apps::v1 as appsv1;
pub use generated::k8s::io::api::authentication::v1 as authenticationv1;
pub use generated::k8s::io::api::autoscaling::v1 as autoscalingv1;
pub use generated::k8s::io::api::coordination::v1 as coordinationv1;
pub use generated::k8s::io::api::core::v1 as corev1;
pub use generated::k8s::io::api::discovery::v1 as discoveryv1;
pub use generated::k8s::io::api::policy::v1 as policyv1;
pub use generated::k8s::io::api::rbac::v1 as rbacv1;
pub use generated::k8s::io::api::scheduling::v1 as schedulingv1;
pub use generated::skiff::v1 as skiffv1;
pub use kind::Kind;
pub use scalar::{
    BadQuantity, BadTime, FieldsV1, IntOrString, Json, MicroTime, NotAPercentage, Quantity, RawExtension,
    SchemaOrArray, SchemaOrBool, SchemaOrNames, Time,
};
pub use schema::Schema;

/// CustomResourceDefinitions.
pub mod apiextensionsv1 {
    pub use crate::generated::k8s::io::apiextensions_apiserver::pkg::apis::apiextensions::v1::*;
    pub use crate::scalar::{Json, SchemaOrArray, SchemaOrBool, SchemaOrNames};
}

/// Metadata and what else all groups share.
pub mod metav1 {
    pub use crate::generated::k8s::io::apimachinery::pkg::apis::meta::v1::*;
    pub use crate::scalar::{FieldsV1, MicroTime, Time};
}
