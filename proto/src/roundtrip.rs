//! Every kind, whatever its fields hold, is the same object as JSON, as YAML and as protobuf.
//! Objects are made from the Schema, so that a new field is tested by being declared.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::json::{self, Json, Strictness};
use crate::schema::{self, Field, Object, Schema, Shape, Type};
use crate::yaml::{self, Limits};
use crate::{
    apiextensionsv1, appsv1, authenticationv1, autoscalingv1, coordinationv1, corev1, discoveryv1, metav1, policyv1,
    rbacv1, schedulingv1,
};

/// Decisions as bytes: proptest makes fewer of them when it looks for a smaller failure.
struct Choices<'a>(std::slice::Iter<'a, u8>);

impl Choices<'_> {
    /// One of `n`; the first when there is nothing left to decide.
    fn of(&mut self, n: usize) -> usize {
        self.0.next().map_or(0, |byte| usize::from(*byte) % n)
    }
}

const TEXTS: &[&str] = &[
    "",
    "a",
    "yes",
    "0644",
    "1_000",
    "é 日本 🦀",
    "two\nlines\n",
    " x",
    "a: b",
    "null",
    "2026-01-31",
    "\\\"'\t",
    "a.b/c",
];
const QUANTITIES: &[&str] = &["0", "1", "500m", "1Gi", "1536Mi", "1e3", "-2", "1.1Ki", "0.5"];
const TIMES: &[&str] = &["2026-01-31T15:04:05Z", "1969-12-31T23:59:59Z", "9999-12-30T00:00:00Z"];

fn object(schema: &Schema, object: &Object, choices: &mut Choices<'_>, depth: usize) -> Value {
    let mut map = Map::new();
    for field in object.fields.iter() {
        // Deeper down fewer fields are set, or nothing would ever end.
        if choices.of(2 + depth / 2) == 1 {
            map.insert(field.name.to_string(), field_value(schema, field, choices, depth));
        }
    }
    Value::Object(map)
}

fn field_value(schema: &Schema, field: &Field, choices: &mut Choices<'_>, depth: usize) -> Value {
    let one = |choices: &mut Choices<'_>| single(schema, field, choices, depth);
    match field.shape {
        Shape::Single => one(choices),
        Shape::List => (0..choices.of(3)).map(|_| one(choices)).collect(),
        Shape::Map => {
            let entries = (0..choices.of(3)).map(|_| (TEXTS[choices.of(TEXTS.len())].to_owned(), one(choices)));
            Value::Object(entries.collect())
        }
    }
}

fn single(schema: &Schema, field: &Field, choices: &mut Choices<'_>, depth: usize) -> Value {
    match field.of {
        Type::Boolean => json!(choices.of(2) == 1),
        Type::Integer | Type::Number => json!([0, 1, -1, i32::MAX, i32::MIN][choices.of(5)]),
        Type::String => json!(TEXTS[choices.of(TEXTS.len())]),
        Type::Bytes => json!(["", "AA==", "aGVsbG8="][choices.of(3)]),
        Type::Time => json!(TIMES[choices.of(TIMES.len())]),
        Type::Quantity => json!(QUANTITIES[choices.of(QUANTITIES.len())]),
        Type::IntOrString => [json!(0), json!(8080), json!("http"), json!("25%"), json!("")][choices.of(5)].clone(),
        Type::Any => [json!({"f:a": {"k:{\"b\":1}": {}}}), json!([1, "x", null]), json!(true)][choices.of(3)].clone(),
        // None of the built-in kinds has one.
        Type::Nested(_) => json!(null),
        Type::Object(index) => object(schema, schema.object(index), choices, depth + 1),
    }
}

fn check<T: Json + prost::Message + PartialEq + std::fmt::Debug>(
    group: &str,
    version: &str,
    kind: &str,
    choices: &[u8],
) {
    let schema = schema::for_kind(group, version, kind).unwrap_or_else(|| panic!("{kind} has no Schema"));
    let mut document = object(&schema, schema.root(), &mut Choices(choices.iter()), 0);

    let (first, problems) =
        json::decode_value::<T>(&document, Strictness::Warn).unwrap_or_else(|e| panic!("{e}: {document}"));
    assert_eq!(problems, [], "the Schema and the reader know the same fields");
    assert_eq!(schema.prune(&mut document), []);

    let bytes = json::encode(&first);
    let (again, problems) = json::decode::<T>(&bytes, Strictness::Strict).unwrap();
    assert!(again == first && problems.is_empty(), "JSON: {}", String::from_utf8_lossy(&bytes));

    let text = yaml::write(&json::encode_value(&first));
    let documents = yaml::parse_documents(&text, &Limits::default()).unwrap_or_else(|e| panic!("{e}:\n{text}"));
    let (again, _) = documents[0].decode::<T>(Strictness::Strict).unwrap_or_else(|e| panic!("{e}:\n{text}"));
    assert!(again == first, "YAML:\n{text}");

    let bytes = first.encode_to_vec();
    assert_eq!(bytes.len(), first.encoded_len());
    let again: T = crate::protobuf::decode(bytes.as_slice()).unwrap();
    assert!(again == first, "protobuf: {first:?}");
}

macro_rules! roundtrips {
    ($($test:ident: $ty:ty, $group:literal, $kind:literal;)*) => {
        proptest! {
            #![proptest_config(ProptestConfig::with_cases(96))]
            $(
                #[test]
                fn $test(choices in prop::collection::vec(any::<u8>(), 0..600)) {
                    check::<$ty>($group, "v1", $kind, &choices);
                }
            )*
        }
    };
}

roundtrips! {
    pod: corev1::Pod, "", "Pod";
    node: corev1::Node, "", "Node";
    service: corev1::Service, "", "Service";
    endpoints: corev1::Endpoints, "", "Endpoints";
    namespace: corev1::Namespace, "", "Namespace";
    event: corev1::Event, "", "Event";
    config_map: corev1::ConfigMap, "", "ConfigMap";
    secret: corev1::Secret, "", "Secret";
    service_account: corev1::ServiceAccount, "", "ServiceAccount";
    binding: corev1::Binding, "", "Binding";
    claim: corev1::PersistentVolumeClaim, "", "PersistentVolumeClaim";
    deployment: appsv1::Deployment, "apps", "Deployment";
    replica_set: appsv1::ReplicaSet, "apps", "ReplicaSet";
    endpoint_slice: discoveryv1::EndpointSlice, "discovery.k8s.io", "EndpointSlice";
    lease: coordinationv1::Lease, "coordination.k8s.io", "Lease";
    limit_range: corev1::LimitRange, "", "LimitRange";
    resource_quota: corev1::ResourceQuota, "", "ResourceQuota";
    priority_class: schedulingv1::PriorityClass, "scheduling.k8s.io", "PriorityClass";
    disruption_budget: policyv1::PodDisruptionBudget, "policy", "PodDisruptionBudget";
    role: rbacv1::Role, "rbac.authorization.k8s.io", "Role";
    cluster_role: rbacv1::ClusterRole, "rbac.authorization.k8s.io", "ClusterRole";
    role_binding: rbacv1::RoleBinding, "rbac.authorization.k8s.io", "RoleBinding";
    cluster_role_binding: rbacv1::ClusterRoleBinding, "rbac.authorization.k8s.io", "ClusterRoleBinding";
    eviction: policyv1::Eviction, "policy", "Eviction";
    token_request: authenticationv1::TokenRequest, "authentication.k8s.io", "TokenRequest";
    definition: apiextensionsv1::CustomResourceDefinition, "apiextensions.k8s.io", "CustomResourceDefinition";
    scale: autoscalingv1::Scale, "autoscaling", "Scale";
    status: metav1::Status, "meta.k8s.io", "Status";
    delete_options: metav1::DeleteOptions, "meta.k8s.io", "DeleteOptions";
    partial: metav1::PartialObjectMetadata, "meta.k8s.io", "PartialObjectMetadata";
}

/// What makes the property worth something: the objects are not all empty.
#[test]
fn generated_objects_are_full() {
    let schema = schema::for_kind("", "v1", "Pod").unwrap();
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let sizes = (0..20).map(|_| {
        let choices: Vec<u8> = (0..600).map(|_| next()).collect();
        object(&schema, schema.root(), &mut Choices(choices.iter()), 0).to_string().len()
    });
    let total: usize = sizes.sum();
    assert!(total > 20_000, "{total} bytes in 20 objects");
}
