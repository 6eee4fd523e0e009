//! Environments, as tables.

use super::*;
use skiff_proto::corev1::{
    ConfigMapEnvSource, ConfigMapKeySelector, EnvFromSource, EnvVar, LocalObjectReference, ServicePort,
};

fn variable(name: &str, value: &str) -> EnvVar {
    EnvVar { name: name.into(), value: value.into(), value_from: None }
}

fn map(name: &str, data: &[(&str, &str)]) -> Sources {
    let data = data.iter().map(|(k, v)| (k.to_string(), v.as_bytes().to_vec())).collect();
    BTreeMap::from([((SourceKind::ConfigMap, name.to_string()), Some(data))])
}

fn from_key(name: &str, map: &str, key: &str, optional: Option<bool>) -> EnvVar {
    let local_object_reference = LocalObjectReference { name: map.into() };
    let key = ConfigMapKeySelector { local_object_reference, key: key.into(), optional };
    let value_from = EnvVarSource { config_map_key_ref: Some(Box::new(key)), ..Default::default() };
    EnvVar { name: name.into(), value: String::new(), value_from: Some(Box::new(value_from)) }
}

fn resolve(container: &Container, sources: &Sources) -> Result<Vec<(String, String)>, EnvironmentError> {
    environment(&Pod::default(), container, &[("A".into(), "service".into())], sources, &Facts::default())
}

#[test]
fn expansion() {
    let variables = BTreeMap::from([("A".to_string(), "1".to_string())]);
    for (text, expected) in [
        ("$(A)", "1"),
        ("x$(A)y$(A)", "x1y1"),
        ("$$(A)", "$(A)"),
        ("$(B)", "$(B)"),
        ("$(A", "$(A"),
        ("$A", "$A"),
        ("cost: 5$", "cost: 5$"),
        ("$$$(A)", "$1"),
    ] {
        assert_eq!(expand(text, &variables), expected, "{text}");
    }
}

#[test]
fn later_ones_win_and_see_earlier_ones() {
    let from = EnvFromSource {
        prefix: "P_".into(),
        config_map_ref: Some(Box::new(ConfigMapEnvSource {
            local_object_reference: LocalObjectReference { name: "m".into() },
            optional: None,
        })),
        secret_ref: None,
    };
    let container = Container {
        env_from: vec![from],
        env: vec![variable("B", "$(P_k)-$(A)"), variable("A", "own")],
        ..Container::default()
    };
    let got = resolve(&container, &map("m", &[("k", "v")])).expect("resolves");
    let expected = [("A", "own"), ("P_k", "v"), ("B", "v-service")];
    assert_eq!(got, expected.map(|(k, v)| (k.to_string(), v.to_string())));
}

#[test]
fn what_is_missing_is_named() {
    let env = |variable| Container { env: vec![variable], ..Container::default() };
    let missing_map = resolve(&env(from_key("X", "m", "k", None)), &Sources::new()).expect_err("missing");
    assert_eq!(missing_map.to_string(), "configmap \"m\" not found");
    let missing_key = resolve(&env(from_key("X", "m", "k", None)), &map("m", &[])).expect_err("missing");
    assert_eq!(missing_key.to_string(), "couldn't find key k in configmap m");
    let optional = resolve(&env(from_key("X", "m", "k", Some(true))), &map("m", &[])).expect("optional");
    assert_eq!(optional, [("A".to_string(), "service".to_string())]);
}

#[test]
fn fields_and_resources() {
    let mut pod = Pod::default();
    pod.metadata.name = "web".into();
    pod.metadata.labels.insert("app".into(), "x".into());
    let facts = Facts {
        pod_ip: "10.0.0.5".into(),
        allocatable: BTreeMap::from([("cpu".to_string(), Quantity::parse("4").expect("quantity"))]),
        ..Facts::default()
    };
    let field =
        |path: &str| self::field(&pod, &ObjectFieldSelector { field_path: path.into(), ..Default::default() }, &facts);
    assert_eq!(field("metadata.name").as_deref(), Ok("web"));
    assert_eq!(field("metadata.labels['app']").as_deref(), Ok("x"));
    assert_eq!(field("status.podIP").as_deref(), Ok("10.0.0.5"));
    assert!(field("spec.nothing").is_err());
    let mut container = Container::default();
    container.resources.limits.insert("memory".into(), Quantity::parse("100Mi").expect("quantity"));
    let resource = |resource: &str, divisor: &str| {
        let divisor = Quantity::parse(divisor).expect("quantity");
        let selector = ResourceFieldSelector { resource: resource.into(), divisor, ..Default::default() };
        self::resource(&pod, &container, &selector, &facts)
    };
    assert_eq!(resource("limits.memory", "1Mi").as_deref(), Ok("100"));
    assert_eq!(resource("limits.cpu", "1").as_deref(), Ok("4"), "the node's, where there is no limit");
    assert_eq!(resource("requests.cpu", "1m").as_deref(), Ok("0"));
}

#[test]
fn services_tell_where_they_are() {
    let mut service = Service::default();
    service.metadata.name = "my-db".into();
    service.spec.cluster_ip = "10.96.0.7".into();
    service.spec.ports =
        vec![ServicePort { name: "sql".into(), protocol: "TCP".into(), port: 5432, ..Default::default() }];
    let mut headless = service.clone();
    headless.spec.cluster_ip = "None".into();
    let variables = service_variables([&service, &headless].into_iter());
    let get = |name: &str| variables.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
    assert_eq!(get("MY_DB_SERVICE_HOST"), Some("10.96.0.7"));
    assert_eq!(get("MY_DB_SERVICE_PORT_SQL"), Some("5432"));
    assert_eq!(get("MY_DB_PORT"), Some("tcp://10.96.0.7:5432"));
    assert_eq!(get("MY_DB_PORT_5432_TCP_ADDR"), Some("10.96.0.7"));
    assert_eq!(variables.len(), 8);
}
