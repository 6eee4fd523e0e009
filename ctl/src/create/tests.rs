//! What flags make, as manifests.

use clap::Parser;
use serde_json::{Value, json};

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: Options,
}

fn kind(line: &[&str]) -> Kind {
    let words = std::iter::once("create").chain(line.iter().copied());
    Line::try_parse_from(words).unwrap_or_else(|e| panic!("{e}")).options.kind.unwrap()
}

fn made(line: &[&str]) -> Result<Value> {
    match kind(line) {
        Kind::Deployment(d) => deployment(&d),
        Kind::Service(s) => s.object(),
        Kind::Configmap(c) => c.object(),
        Kind::Secret(s) => s.object(),
        Kind::Quota(q) => q.object(),
        Kind::Priorityclass(c) => Ok(c.object()),
        Kind::Namespace(n) => Ok(plain("Namespace", &n.name)),
        Kind::Token(t) => t.object(),
        Kind::Serviceaccount(n) => Ok(plain("ServiceAccount", &n.name)),
        Kind::Role(r) => r.object(&table()),
        Kind::Clusterrole(r) => r.object(&table()),
        Kind::Rolebinding(b) => b.object(),
        Kind::Clusterrolebinding(b) => b.object(),
    }
}

fn table() -> Vec<ResourceInfo> {
    let row = |group: &str, resource: &str, singular: &str| ResourceInfo {
        group: group.into(),
        version: "v1".into(),
        resource: resource.into(),
        singular: singular.into(),
        kind: singular.into(),
        ..ResourceInfo::default()
    };
    vec![row("", "pods", "pod"), row("", "secrets", "secret"), row("apps", "deployments", "deployment")]
}

#[test]
fn roles_have_a_rule_for_each_group() {
    let role = made(&[
        "role",
        "r",
        "--verb=get,list",
        "--verb=get",
        "--resource=pods,deploy.apps/x",
        "--resource=pod/log,pods",
    ]);
    assert!(role.is_err(), "no such type");
    let role =
        made(&["role", "r", "--verb=get,list", "--verb=get", "--resource=pods,deployment.apps/scale,pod/log,pods"])
            .unwrap();
    assert_eq!(
        role["rules"],
        json!([
            {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "pods/log"]},
            {"verbs": ["get", "list"], "apiGroups": ["apps"], "resources": ["deployments/scale"]},
        ])
    );
    let role =
        made(&["role", "r", "--verb=get,*", "--resource=secrets", "--resource-name=a", "--resource-name=b"]).unwrap();
    assert_eq!(
        role["rules"],
        json!([{"verbs": ["*"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["a", "b"]}])
    );
    let role = made(&["clusterrole", "r", "--verb=get", "--non-resource-url=/metrics,/healthz/*"]).unwrap();
    assert_eq!(role["rules"], json!([{"verbs": ["get"], "nonResourceURLs": ["/metrics", "/healthz/*"]}]));
    let role = made(&["clusterrole", "r", "--aggregation-rule=a=b,c=d"]).unwrap();
    assert_eq!(role["aggregationRule"], json!({"clusterRoleSelectors": [{"matchLabels": {"a": "b", "c": "d"}}]}));
    for (line, why) in [
        (&["role", "r", "--resource=pods"][..], "--verb"),
        (&["role", "r", "--verb=get"], "--resource"),
        (&["clusterrole", "r", "--verb=get"], "--non-resource-url"),
        (&["role", "r", "--verb=get", "--resource=pods,deployments", "--resource-name=a"], "each API group"),
        (&["rolebinding", "b", "--role=r", "--serviceaccount=robot"], "NAMESPACE:NAME"),
    ] {
        let error = made(line).expect_err(why).to_string();
        assert!(error.contains(why), "{line:?}: {error}");
    }
}

#[test]
fn bindings_name_their_role_and_their_subjects() {
    let binding =
        made(&["rolebinding", "b", "--clusterrole=view", "--user=ann,bob", "--group=dev", "--serviceaccount=ci:robot"])
            .unwrap();
    let rbac = "rbac.authorization.k8s.io";
    assert_eq!(binding["roleRef"], json!({"apiGroup": rbac, "kind": "ClusterRole", "name": "view"}));
    assert_eq!(
        binding["subjects"],
        json!([
            {"kind": "User", "apiGroup": rbac, "name": "ann"},
            {"kind": "User", "apiGroup": rbac, "name": "bob"},
            {"kind": "Group", "apiGroup": rbac, "name": "dev"},
            {"kind": "ServiceAccount", "name": "robot", "namespace": "ci"},
        ])
    );
    let binding = made(&["clusterrolebinding", "b", "--clusterrole=view", "--group=dev"]).unwrap();
    assert_eq!((&binding["kind"], &binding["roleRef"]["name"]), (&json!("ClusterRoleBinding"), &json!("view")));
}

#[test]
fn a_token_is_asked_for_as_its_flags_say() {
    let asked = made(&["token", "robot", "--audience=a", "--audience=b", "--duration=20m"]).unwrap();
    assert_eq!(asked["spec"], json!({"audiences": ["a", "b"], "expirationSeconds": 1200}));
    let bound = ["token", "robot", "--bound-object-kind=pod", "--bound-object-name=p"];
    let asked = made(&bound).unwrap();
    assert_eq!(asked["spec"]["boundObjectRef"], json!({"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": ""}));
    let wrong = ["token", "robot", "--bound-object-kind=house", "--bound-object-name=p"];
    assert!(made(&wrong).unwrap_err().to_string().contains("expected Pod, Secret or Node"));
}

#[test]
fn a_deployment_is_what_its_flags_say() {
    let line =
        ["deployment", "web", "--image=r:5000/skiff/demo_x:1", "--replicas=2", "--port=80", "--", "/demo", "front"];
    let expected = "\
apiVersion: apps/v1
kind: Deployment
metadata:
  labels:
    app: web
  name: web
spec:
  replicas: 2
  selector:
    matchLabels:
      app: web
  template:
    metadata:
      labels:
        app: web
    spec:
      containers:
      - command:
        - /demo
        - front
        image: r:5000/skiff/demo_x:1
        name: demo-x
        ports:
        - containerPort: 80
";
    let read = skiff_proto::yaml::parse_documents(expected, &Default::default()).unwrap();
    assert_eq!(made(&line).unwrap(), read[0].to_json());
    let two = made(&["deployment", "web", "--image=a", "--image=b"]).unwrap();
    assert_eq!(
        two["spec"]["template"]["spec"]["containers"],
        json!([{"name": "a", "image": "a"}, {"name": "b", "image": "b"}])
    );
    assert!(made(&["deployment", "web", "--image=a", "--image=b", "--", "x"]).is_err());
}

#[test]
fn services_have_ports_by_number_or_name() {
    let made_of = made(&["service", "clusterip", "web", "--tcp=80:http", "--tcp=443"]).unwrap();
    let ports = json!([
        {"name": "80-http", "port": 80, "protocol": "TCP", "targetPort": "http"},
        {"name": "443", "port": 443, "protocol": "TCP", "targetPort": 443},
    ]);
    assert_eq!(made_of["spec"], json!({"type": "ClusterIP", "selector": {"app": "web"}, "ports": ports}));
    let node = made(&["svc", "nodeport", "web", "--tcp=80", "--node-port=30080"]).unwrap();
    assert_eq!((&node["spec"]["type"], &node["spec"]["ports"][0]["nodePort"]), (&json!("NodePort"), &json!(30080)));
    let headless = made(&["service", "clusterip", "web", "--clusterip=None"]).unwrap();
    assert_eq!((&headless["spec"]["clusterIP"], &headless["spec"]["ports"]), (&json!("None"), &json!([])));
    for wrong in [
        &["service", "clusterip", "web"][..],
        &["service", "clusterip", "web", "--tcp=99999"],
        &["service", "nodeport", "web", "--tcp=1,2", "--node-port=30080"],
    ] {
        assert!(made(wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn configs_come_from_words_files_and_folders() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    let (page, raw, env) = (file("page.html", b"<p>"), file("raw", &[0xff, 0]), file("env", b"# c\n\nA=1\nB=x=y\n"));
    let map = made(&[
        "configmap",
        "c",
        "--from-literal=k=v",
        &format!("--from-file={page}"),
        &format!("--from-file=bin={raw}"),
    ]);
    let expected = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"},
        "data": {"k": "v", "page.html": "<p>"}, "binaryData": {"bin": "/wA="},
    });
    assert_eq!(map.unwrap(), expected);
    let all = made(&["cm", "c", &format!("--from-file={}", folder.path().display())]).unwrap();
    assert_eq!((all["data"].as_object().unwrap().len(), &all["binaryData"]), (2, &json!({"raw": "/wA="})));
    let secret = made(&["secret", "generic", "s", &format!("--from-env-file={env}")]).unwrap();
    assert_eq!((&secret["type"], &secret["data"]), (&json!("Opaque"), &json!({"A": "MQ==", "B": "eD15"})));
    for wrong in ["--from-literal=k", "--from-literal==v", "--from-file=/nowhere/x", "--from-file=k="] {
        assert!(made(&["cm", "c", wrong]).is_err(), "{wrong}");
    }
    assert!(made(&["cm", "c", "--from-literal=k=1", "--from-literal=k=2"]).is_err());
}

#[test]
fn files_and_kinds_do_not_mix() {
    let words = ["create", "-f", "x.yaml", "namespace", "n"];
    assert!(Line::try_parse_from(words).is_err());
    assert_eq!(pairs("a=b,c=").unwrap(), BTreeMap::from([("a".into(), "b".into()), ("c".into(), String::new())]));
    assert!(pairs("a").is_err() && pairs("=b").is_err());
}

#[test]
fn quotas_and_classes_are_what_their_flags_say() {
    let made = |line: &[&str]| made(line).expect("it can be made");
    assert_eq!(
        made(&["quota", "all", "--hard=cpu=2,count/deployments.apps=4", "--scopes=Terminating,NotBestEffort"])["spec"],
        json!({"hard": {"cpu": "2", "count/deployments.apps": "4"}, "scopes": ["Terminating", "NotBestEffort"]})
    );
    assert_eq!(made(&["resourcequota", "none"])["spec"], json!({}));
    let class = made(&["priorityclass", "high", "--value=-5", "--global-default=true", "--description=for most"]);
    assert_eq!(
        (&class["value"], &class["globalDefault"], &class["description"]),
        (&json!(-5), &json!(true), &json!("for most"))
    );
    let plain = made(&["pc", "low", "--value", "1", "--preemption-policy=Never"]);
    assert_eq!((&plain["globalDefault"], &plain["preemptionPolicy"]), (&Value::Null, &json!("Never")));
}
