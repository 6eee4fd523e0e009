//! A conversation with the real kubectl on a real cluster: what a person types, and what a person sees. It must hold for
//! whatever kubectl the machine has: Debian's is years older than the newest.

mod doors;

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::cluster::{Cluster, eventually, expect_success, http_get};

const GUESTBOOK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/guestbook.yaml");

const DEFINITION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/crontab/definition.yaml");
const CRONTABS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/crontab/crontabs.yaml");

/// kubectl with a home of its own, so that nothing of it is left behind.
struct Kubectl<'c> {
    cluster: &'c Cluster,
    home: tempfile::TempDir,
    minor: u32,
}

impl<'c> Kubectl<'c> {
    fn new(cluster: &'c Cluster) -> Self {
        let home = tempfile::Builder::new().prefix("skiff-kubectl-").tempdir().unwrap();
        let mut kubectl = Kubectl { cluster, home, minor: 0 };
        let version: Value = serde_json::from_str(&kubectl.ok(&["version", "--client", "-o", "json"])).unwrap();
        let minor = version["clientVersion"]["minor"].as_str().unwrap_or_default();
        kubectl.minor = minor.trim_end_matches(|c: char| !c.is_ascii_digit()).parse().unwrap();
        kubectl
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        // The very file that skiffctl uses.
        command.args(words).env("HOME", self.home.path()).env("KUBECONFIG", self.cluster.kubeconfig());
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().expect("kubectl is installed: ./setup.sh tests")
    }

    /// Runs it, which must succeed; its standard output.
    fn ok(&self, words: &[&str]) -> String {
        let output = self.run(words);
        expect_success(&format!("kubectl {}", words.join(" ")), &output);
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs it, which must fail; its standard error.
    fn refused(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(!output.status.success(), "kubectl {}: it was taken", words.join(" "));
        String::from_utf8(output.stderr).unwrap()
    }

    /// Runs it with something to read, which must succeed.
    fn fed(&self, words: &[&str], input: &str) -> String {
        let mut command = self.command(words);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        expect_success(&format!("kubectl {}", words.join(" ")), &output);
        String::from_utf8(output.stdout).unwrap()
    }

    /// One field of one object.
    fn field(&self, object: &str, path: &str) -> String {
        self.ok(&["get", object, "-o", &format!("jsonpath={{{path}}}")])
    }

    /// A first Pod with a label.
    fn pod(&self, label: &str) -> String {
        self.ok(&["get", "pods", "-l", label, "-o", "jsonpath={.items[0].metadata.name}"])
    }
}

fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }
}

#[test]
fn kubectl_works_unchanged() {
    let cluster = Cluster::up_with("kubectl", &["--nodes", "2"]);
    let k = Kubectl::new(&cluster);
    looking_around(&k);
    rights(&k);
    applying(&k);
    reading(&k);
    doors::every_kind(&k);
    streams(&k);
    tokens(&k);
    doors::reaching(&k);
    doors::missing(&k);
    doors::looking_into(&k);
    making(&k);
    bounding(&k);
    changing(&k);
    kinds_of_ones_own(&k);
    rolling(&k);
    nodes(&k);
    deleting(&k);
}

fn looking_around(k: &Kubectl<'_>) {
    has(&k.ok(&["version"]), &["v1.36.0+skiff"]);
    has(&k.ok(&["cluster-info"]), &["https://10."]);
    has(&k.ok(&["api-resources"]), &["deployments", "deploy", "endpointslices"]);
    has(&k.ok(&["api-versions"]), &["apps/v1\n", "v1\n"]);
    has(&k.ok(&["get", "nodes", "-o", "wide"]), &["NAME", "STATUS", "INTERNAL-IP", "node-1", "Ready", "docker://"]);
    has(&k.ok(&["get", "namespaces"]), &["default", "kube-system", "Active"]);
    has(&k.ok(&["explain", "deployment.spec.strategy"]), &["rollingUpdate", "type"]);
    assert_eq!(k.ok(&["auth", "can-i", "delete", "nodes"]), "yes\n");
    has(&k.ok(&["auth", "can-i", "--list"]), &["*.*"]);
    if k.minor >= 28 {
        has(&k.ok(&["auth", "whoami"]), &["kubernetes-admin", "system:masters"]);
    }
    has(&k.refused(&["get", "pods", "none"]), &["Error from server (NotFound): pods \"none\" not found"]);
    has(&k.refused(&["get", "widgets"]), &["the server doesn't have a resource type \"widgets\""]);
}

/// The same words, as somebody else.
fn as_ann<'w>(words: &[&'w str]) -> Vec<&'w str> {
    [words, &["--as=ann", "--as-group=dev"]].concat()
}

/// Roles and bindings, and what they give to whom.
fn rights(k: &Kubectl<'_>) {
    assert!(!k.run(&as_ann(&["auth", "can-i", "list", "pods"])).status.success(), "nothing is bound to her");
    has(&k.refused(&as_ann(&["get", "pods"])), &["Forbidden", "User \"ann\" cannot list resource \"pods\""]);

    has(&k.ok(&["create", "role", "pods", "--verb=get,list,watch", "--resource=pods,pods/log"]), &["created"]);
    has(&k.ok(&["create", "rolebinding", "pods", "--role=pods", "--group=dev"]), &["created"]);
    assert_eq!(k.ok(&as_ann(&["auth", "can-i", "list", "pods"])), "yes\n");
    k.ok(&as_ann(&["get", "pods"]));
    k.refused(&as_ann(&["get", "pods", "-n", "kube-system"]));
    has(&k.ok(&as_ann(&["auth", "can-i", "--list"])), &["pods/log", "[get list watch]", "selfsubjectaccessreviews"]);
    k.refused(&as_ann(&["create", "configmap", "x"]));
    has(&k.refused(&["get", "pods", "--as-group=dev"]), &["without"]);

    // The sum of others: a controller has written its rules.
    let editor = ["create", "rolebinding", "editors", "--clusterrole=edit", "--serviceaccount=default:robot"];
    has(&k.ok(&editor), &["created"]);
    let robot = "--as=system:serviceaccount:default:robot";
    assert_eq!(k.ok(&["auth", "can-i", "create", "deployments.apps", robot]), "yes\n");
    assert!(!k.run(&["auth", "can-i", "create", "rolebindings", robot]).status.success(), "an editor gives no rights");
    has(&k.ok(&["create", "configmap", "robots", robot]), &["created"]);
    k.ok(&["delete", "configmap", "robots", robot]);

    // Nobody gives more than they have.
    k.ok(&["create", "rolebinding", "lead", "--clusterrole=admin", "--user=lead"]);
    has(&k.ok(&["create", "role", "less", "--verb=get", "--resource=secrets", "--as=lead"]), &["created"]);
    let more = ["create", "clusterrolebinding", "more", "--clusterrole=cluster-admin", "--user=lead", "--as=lead"];
    has(&k.refused(&more), &["is forbidden: User \"lead\" cannot create resource \"clusterrolebindings\""]);
    let more = ["create", "rolebinding", "more", "--clusterrole=cluster-admin", "--user=lead", "--as=lead"];
    has(&k.refused(&more), &["is attempting to grant RBAC permissions not currently held"]);

    has(&k.ok(&["get", "clusterroles"]), &["NAME", "CREATED AT", "cluster-admin", "system:kube-scheduler"]);
    has(
        &k.ok(&["get", "rolebindings", "-o", "wide"]),
        &["ROLE", "ClusterRole/edit", "default/robot", "Role/pods", "dev"],
    );
    let described = k.ok(&["describe", "role", "pods"]);
    has(&described, &["PolicyRule:", "pods/log", "[get list watch]"]);
    has(&k.ok(&["describe", "clusterrolebinding", "system:node-proxier"]), &["Group", "system:node-proxier"]);
    k.ok(&["create", "clusterrole", "pages", "--verb=get", "--non-resource-url=/metrics"]);
    k.ok(&["create", "clusterrolebinding", "pages", "--clusterrole=pages", "--user=ann"]);
    assert_eq!(k.ok(&as_ann(&["auth", "can-i", "get", "/metrics"])), "yes\n");
    has(&k.ok(&as_ann(&["get", "--raw", "/metrics"])), &["apiserver_request_total"]);
    ctl_rights(k);
    audited(k);
    k.ok(&["delete", "role/pods", "role/less", "rolebinding/pods", "rolebinding/editors", "rolebinding/lead"]);
    k.ok(&["delete", "clusterrole/pages", "clusterrolebinding/pages"]);
}

/// The same by skiffctl, over the other face.
fn ctl_rights(k: &Kubectl<'_>) {
    let ctl = |words: &[&str]| k.cluster.try_ctl(words);
    let asked = ctl(&["auth", "can-i", "list", "pods", "--as=ann", "--as-group=dev"]);
    assert_eq!(String::from_utf8_lossy(&asked.stdout), "yes\n", "{asked:?}");
    let asked = ctl(&["auth", "can-i", "delete", "pods", "--as=ann", "--as-group=dev"]);
    assert_eq!(asked.status.code(), Some(1));
    has(&String::from_utf8_lossy(&asked.stdout), &["no - no role that is bound to the user or its groups allows it"]);
    let told = ctl(&["auth", "whoami", "--as=ann", "--as-group=dev"]);
    has(&String::from_utf8_lossy(&told.stdout), &["Username", " ann\n", "[dev system:authenticated]"]);
    let refused = ctl(&["get", "nodes", "--as=ann"]);
    has(&String::from_utf8_lossy(&refused.stderr), &["(Forbidden)", "User \"ann\" cannot list resource \"nodes\""]);
    let listed = ctl(&["auth", "can-i", "--list", "--as=ann", "--as-group=dev"]);
    has(&String::from_utf8_lossy(&listed.stdout), &["pods/log", "[/metrics]"]);
    let described = ctl(&["describe", "role", "pods"]);
    has(&String::from_utf8_lossy(&described.stdout), &["PolicyRule:", "[get list watch]"]);
}

/// What was done stands in the cluster's folder.
fn audited(k: &Kubectl<'_>) {
    let file = k.cluster.dir().join("audit/audit.log");
    let bound = || {
        let text = std::fs::read_to_string(&file).unwrap();
        let mut lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.find(|line| line["objectRef"]["name"] == "more" && line["objectRef"]["resource"] == "rolebindings")
    };
    let line = eventually("the refused binding stands in the audit log", bound);
    assert_eq!(line["user"]["username"], "kubernetes-admin");
    assert_eq!(
        (&line["impersonatedUser"]["username"], &line["responseStatus"]["code"]),
        (&Value::from("lead"), &Value::from(403))
    );
}

fn applying(k: &Kubectl<'_>) {
    let applied = k.ok(&["apply", "-f", GUESTBOOK]);
    has(&applied, &["service/counter created", "deployment.apps/guestbook created"]);
    let again = k.ok(&["apply", "-f", GUESTBOOK]);
    assert!(again.lines().all(|line| line.ends_with(" unchanged")), "{again}");
    has(&k.ok(&["rollout", "status", "deployment/guestbook", "--timeout", "90s"]), &["successfully rolled out"]);
    k.ok(&["wait", "deployment/counter", "--for=condition=Available", "--timeout=60s"]);
    assert_eq!(k.ok(&["diff", "-f", GUESTBOOK]), "", "nothing differs");
    let text = std::fs::read_to_string(GUESTBOOK).unwrap();
    let more = text.replacen("replicas: 3", "replicas: 2", 1);
    assert_ne!(text, more);
    let file = k.home.path().join("more.yaml");
    std::fs::write(&file, &more).unwrap();
    let file = file.to_str().unwrap();
    let differs = k.run(&["diff", "-f", file]);
    assert_eq!(differs.status.code(), Some(1));
    has(&String::from_utf8_lossy(&differs.stdout), &["-  replicas: 3", "+  replicas: 2"]);
    has(&k.ok(&["apply", "-f", file]), &["deployment.apps/guestbook configured"]);
    let wrong = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: wrong}\ndada: {a: b}\n";
    std::fs::write(k.home.path().join("wrong.yaml"), wrong).unwrap();
    has(&k.refused(&["create", "-f", k.home.path().join("wrong.yaml").to_str().unwrap()]), &["unknown field", "dada"]);
    applying_by_the_server(k, &more, file);
}

/// The same objects, by whom their fields are managed.
fn applying_by_the_server(k: &Kubectl<'_>, text: &str, file: &str) {
    let applied = "deployment.apps/guestbook serverside-applied";
    has(&k.ok(&["apply", "--server-side", "-f", file]), &[applied]);
    let theirs = k.home.path().join("theirs.yaml");
    std::fs::write(&theirs, text.replacen("replicas: 2", "replicas: 4", 1)).unwrap();
    let theirs = ["apply", "--server-side", "--field-manager=cd", "-f", theirs.to_str().unwrap()];
    has(&k.refused(&theirs), &["conflict with \"kubectl\"", ".spec.replicas"]);
    has(&k.ok(&[&theirs[..], &["--force-conflicts"]].concat()), &[applied]);
    assert_eq!(k.field("deployment/guestbook", ".spec.replicas"), "4");
    assert_eq!(k.field("deployment/guestbook", ".metadata.managedFields[?(@.manager==\"cd\")].operation"), "Apply");
    has(&k.refused(&["apply", "--server-side", "-f", file]), &["conflict with \"cd\""]);
    has(&k.ok(&["apply", "--server-side", "--force-conflicts", "-f", file]), &[applied]);
    assert_eq!(k.field("deployment/guestbook", ".spec.replicas"), "2");
    eventually("the Pods beyond two are gone", || {
        let pods = k.ok(&["get", "pods", "-l", "app=guestbook", "-o", "name"]);
        (pods.lines().count() == 2).then_some(())
    });
}

fn reading(k: &Kubectl<'_>) {
    let table = k.ok(&["get", "pods", "-l", "app=guestbook"]);
    let header: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(header, ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]);
    has(&k.ok(&["get", "pods", "-o", "wide"]), &["NOMINATED NODE", " 10."]);
    has(&k.ok(&["get", "all"]), &["pod/guestbook-", "service/kubernetes", "replicaset.apps/counter-"]);
    has(&k.ok(&["get", "pods", "-A", "--show-labels"]), &["NAMESPACE", "app=guestbook"]);
    assert_eq!(k.ok(&["get", "deploy", "-o", "name"]), "deployment.apps/counter\ndeployment.apps/guestbook\n");
    has(&k.ok(&["get", "service", "guestbook", "-o", "yaml"]), &["kind: Service\n", "nodePort: 30080"]);
    let list: Value = serde_json::from_str(&k.ok(&["get", "pods", "-o", "json"])).unwrap();
    assert_eq!(list["kind"], "List");
    assert_eq!(k.field("service/guestbook", ".spec.ports[0].nodePort"), "30080");
    has(&k.ok(&["get", "pods", "--sort-by=.metadata.creationTimestamp"]), &["guestbook-"]);
    has(&k.ok(&["get", "pods", "--field-selector=status.phase=Running"]), &["guestbook-"]);
    has(&k.ok(&["get", "pods", "--chunk-size=1"]), &["counter-", "guestbook-"]);
    let pod = k.pod("app=guestbook");
    has(&k.ok(&["describe", "pod", &pod]), &["Controlled By:", "Image:", "Scheduled", "Started"]);
    has(&k.ok(&["describe", "deployment", "guestbook"]), &["2 desired", "ScalingReplicaSet"]);
    let service = k.ok(&["describe", "service", "guestbook"]);
    has(&service, &["Endpoints:", "NodePort:"]);
    if k.minor >= 30 {
        // Older ones look for Endpoints, which nobody makes of EndpointSlices here.
        has(&service, &[":8080"]);
    }
    has(&k.ok(&["describe", "node", "node-1"]), &["Conditions:", "Capacity:", "Non-terminated Pods:"]);
    has(&k.ok(&["describe", "namespace", "default"]), &["Active"]);
    has(&k.ok(&["get", "events"]), &["LAST SEEN", "ScalingReplicaSet"]);
    if k.minor >= 26 {
        has(&k.ok(&["events"]), &["ScalingReplicaSet"]);
    }
    watching(k);
}

/// `get -w` shows what is, and then what happens.
fn watching(k: &Kubectl<'_>) {
    let mut child = k.command(&["get", "configmaps", "-w"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.next().unwrap().starts_with("NAME"));
    k.ok(&["create", "configmap", "watched", "--from-literal=a=b"]);
    let seen = lines.find(|line| line.starts_with("watched"));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(seen.unwrap().split_whitespace().nth(1), Some("1"));
}

fn streams(k: &Kubectl<'_>) {
    let pod = k.pod("app=guestbook");
    has(&k.ok(&["logs", &pod]), &["serving on 0.0.0.0:8080"]);
    has(&k.ok(&["logs", "deployment/guestbook", "--tail=1", "--timestamps"]), &["Z serving on"]);
    has(&k.refused(&["logs", &pod, "--previous"]), &["previous"]);
    has(&k.ok(&["exec", &pod, "--", "/demo", "env"]), &["KUBERNETES_SERVICE_HOST=10."]);
    let failed = k.run(&["exec", &pod, "--", "/demo", "exit", "7"]);
    assert_eq!(failed.status.code(), Some(7), "the command's exit code is ours");
    let text = "a line\n".repeat(20_000);
    assert_eq!(k.fed(&["exec", "-i", &pod, "--", "/demo", "copy"], &text), text);
    has(&k.refused(&["exec", &pod, "-c", "none", "--", "ls"]), &["none"]);

    let mut child = k.command(&["port-forward", &pod, ":8080"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let line = lines.next().expect("it says what it forwards");
    let address = line.split_whitespace().nth(2).unwrap_or_default().to_owned();
    let page = eventually("the Pod answers through the forwarded port", || http_get(&address, "/plain").ok());
    let again = http_get(&address, "/plain");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!page.is_empty() && again.is_ok(), "{line}: {page:?} {again:?}");
}

/// Who asks by a token: from here, and from inside a Pod, by the files that every container has.
fn tokens(k: &Kubectl<'_>) {
    let robot = "system:serviceaccount:default:robot";
    has(&k.ok(&["create", "serviceaccount", "robot"]), &["serviceaccount/robot created"]);
    let token = k.ok(&["create", "token", "robot", "--duration=20m"]).trim().to_owned();
    let by_token = format!("--token={token}");
    has(&k.ok(&[&by_token, "auth", "whoami"]), &[robot, "system:serviceaccounts:default"]);
    has(&k.refused(&[&by_token, "get", "pods"]), &["Forbidden", robot]);
    has(&k.refused(&["create", "token", "robot", "--duration=1m"]), &["less than 10 minutes"]);

    let pod = k.pod("app=guestbook");
    has(
        &k.ok(&["exec", &pod, "--", "/demo", "whoami"]),
        &["system:serviceaccount:default:default", &format!("\"authentication.kubernetes.io/pod-name\":[\"{pod}\"]")],
    );
    has(&k.refused(&["exec", &pod, "--", "/demo", "api", "/api/v1/namespaces/{namespace}/pods"]), &["403"]);
    k.ok(&["delete", "serviceaccount", "robot"]);
    has(&k.refused(&[&by_token, "get", "pods"]), &["Unauthorized"]);
}

fn making(k: &Kubectl<'_>) {
    k.ok(&["create", "namespace", "other"]);
    k.ok(&["create", "secret", "generic", "sesame", "--from-literal=word=open", "-n", "other"]);
    assert_eq!(k.ok(&["get", "secret", "sesame", "-n", "other", "-o", "jsonpath={.data.word}"]), "b3Blbg==");
    has(
        &k.ok(&["run", "one", "--image=skiff/demo", "--image-pull-policy=IfNotPresent", "--", "front"]),
        &["pod/one created"],
    );
    k.ok(&["wait", "pod/one", "--for=condition=Ready", "--timeout=60s"]);
    has(&k.ok(&["expose", "pod", "one", "--port=80", "--target-port=8080"]), &["service/one exposed"]);
    k.ok(&["create", "deployment", "made", "--image=skiff/demo", "--dry-run=server"]);
    has(&k.refused(&["get", "deployment", "made"]), &["not found"]);
    has(&k.refused(&["create", "configmap", "watched"]), &["configmaps \"watched\" already exists"]);
    has(&k.refused(&["run", "Bad_Name", "--image=x"]), &["is invalid", "metadata.name"]);
}

/// What a namespace may have, and which Pods come first.
fn bounding(k: &Kubectl<'_>) {
    k.ok(&["create", "namespace", "small"]);
    k.ok(&["create", "quota", "all", "--hard=pods=1,limits.cpu=1,count/deployments.apps=1", "-n", "small"]);
    eventually("the quota is counted", || k.ok(&["get", "quota", "-n", "small"]).contains("pods: 0/1").then_some(()));
    let image = "--image=skiff/demo";
    has(
        &k.refused(&["run", "silent", image, "-n", "small"]),
        &["pods \"silent\" is forbidden: failed quota: all: must specify limits.cpu for: silent"],
    );
    let limits = "apiVersion: v1\nkind: LimitRange\nmetadata: {name: usual, namespace: small}\n\
                  spec: {limits: [{type: Container, default: {cpu: 500m}, defaultRequest: {cpu: 10m}}]}\n";
    has(&k.fed(&["create", "-f", "-"], limits), &["limitrange/usual created"]);
    k.ok(&["run", "first", image, "-n", "small"]);
    has(
        &k.refused(&["run", "second", image, "-n", "small"]),
        &["exceeded quota: all, requested: pods=1, used: pods=1, limited: pods=1"],
    );
    has(&k.ok(&["describe", "quota", "all", "-n", "small"]), &["Resource", "limits.cpu", "500m", "pods"]);
    has(&k.ok(&["describe", "limits", "-n", "small"]), &["Container", "10m", "500m"]);
    let namespace = k.ok(&["describe", "namespace", "small"]);
    has(&namespace, &["Resource Quotas", "count/deployments.apps", "Resource Limits", "Container"]);
    // A Deployment whose Pods find no room says so, and goes on when there is some.
    k.ok(&["create", "deployment", "late", image, "-n", "small"]);
    let set = || k.ok(&["get", "rs", "-n", "small", "-o", "jsonpath={.items[*].status.conditions[*].message}"]);
    eventually("it says that there is no room", || set().contains("exceeded quota: all").then_some(()));
    has(&k.ok(&["get", "events", "-n", "small"]), &["FailedCreate"]);
    k.ok(&["delete", "pod", "first", "-n", "small", "--now"]);
    eventually("it has room", || k.ok(&["get", "pods", "-n", "small"]).contains("late-").then_some(()));
    has(
        &k.ok(&["create", "priorityclass", "high", "--value=1000", "--description=first"]),
        &["priorityclass.scheduling.k8s.io/high created"],
    );
    has(&k.ok(&["get", "priorityclasses"]), &["VALUE", "1000", "system-cluster-critical", "2000000000"]);
    k.ok(&["delete", "namespace", "small", "--wait=false"]);
}

fn changing(k: &Kubectl<'_>) {
    k.ok(&["label", "pod", "one", "color=red"]);
    k.ok(&["annotate", "pod", "one", "note=this"]);
    assert_eq!(k.field("pod/one", ".metadata.labels.color"), "red");
    has(&k.refused(&["label", "pod", "one", "color=blue"]), &["overwrite"]);
    k.ok(&["label", "pod", "one", "color-"]);
    for (kind, patch) in [
        ("strategic", r#"{"data":{"b":"1"}}"#),
        ("merge", r#"{"data":{"c":"2"}}"#),
        ("json", r#"[{"op":"remove","path":"/data/b"}]"#),
    ] {
        has(&k.ok(&["patch", "configmap", "watched", "--type", kind, "-p", patch]), &["patched"]);
    }
    let data: Value = serde_json::from_str(&k.field("configmap/watched", ".data")).unwrap();
    assert_eq!(data, serde_json::json!({"a": "b", "c": "2"}));
    let edited =
        k.command(&["edit", "configmap", "watched"]).env("EDITOR", "sed -i s/a:.b/a:\\ edited/").output().unwrap();
    expect_success("kubectl edit", &edited);
    assert_eq!(k.field("configmap/watched", ".data.a"), "edited");
    let mut object: Value = serde_json::from_str(&k.ok(&["get", "configmap", "watched", "-o", "json"])).unwrap();
    object["data"] = serde_json::json!({"replaced": "yes"});
    k.fed(&["replace", "-f", "-"], &object.to_string());
    assert_eq!(k.field("configmap/watched", ".data.replaced"), "yes");
    object["metadata"]["resourceVersion"] = "1".into();
    let file = k.home.path().join("stale.json");
    std::fs::write(&file, object.to_string()).unwrap();
    has(&k.refused(&["replace", "-f", file.to_str().unwrap()]), &["(Conflict)", "the object has been modified"]);
}

/// From a definition to its end.
fn kinds_of_ones_own(k: &Kubectl<'_>) {
    let name = "crontabs.stable.example.com";
    has(&k.ok(&["apply", "-f", DEFINITION]), &[name, "created"]);
    k.ok(&["wait", &format!("crd/{name}"), "--for=condition=Established", "--timeout=10s"]);
    let applied = k.ok(&["apply", "-f", CRONTABS]);
    has(&applied, &["crontab.stable.example.com/nightly created", "crontab.stable.example.com/hourly created"]);
    let again = k.ok(&["apply", "-f", CRONTABS]);
    assert!(again.lines().all(|line| line.ends_with(" unchanged")), "{again}");
    has(&k.ok(&["apply", "--server-side", "--force-conflicts", "-f", CRONTABS]), &["nightly serverside-applied"]);
    let table = k.ok(&["get", "ct"]);
    let header: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(header, ["NAME", "SCHEDULE", "REPLICAS", "READY", "AGE"]);
    has(&table, &["nightly", "0 3 * * *"]);
    has(&k.ok(&["get", "crontabs", "-o", "wide"]), &["IMAGE", "skiff/demo"]);
    has(&k.ok(&["get", "all"]), &["crontab.stable.example.com/nightly"]);
    has(&k.ok(&["api-resources", "--api-group=stable.example.com"]), &["crontabs", "ct", "true", "CronTab"]);
    has(&k.ok(&["explain", "crontab.spec.cronSpec"]), &["five fields of numbers and stars"]);
    has(&k.ok(&["describe", "crontab", "nightly"]), &["Cron Spec:", "0 3 * * *"]);
    let patch = |patch: &str| ["patch", "ct", "nightly", "--type=merge", "-p", patch].map(String::from);
    let refused = patch(r#"{"spec":{"replicas":11,"cronSpec":"soon"}}"#);
    let refused = k.refused(&refused.each_ref().map(String::as_str));
    has(&refused, &["spec.replicas in body should be less than or equal to 10", "spec.cronSpec in body should match"]);
    k.ok(&["scale", "crontab/nightly", "--replicas=4"]);
    assert_eq!(k.field("ct/nightly", ".spec.replicas"), "4");
    k.ok(&["label", "ct", "nightly", "by=hand"]);
    has(&k.cluster.ctl(&["get", "ct", "-l", "by=hand"]), &["SCHEDULE", "nightly", "0 3 * * *"]);
    has(&k.cluster.ctl(&["explain", "ct.spec"]), &["cronSpec", "five fields"]);
    has(&k.cluster.ctl(&["describe", "ct", "nightly"]), &["nightly"]);
    k.ok(&["delete", "-f", DEFINITION, "--timeout=30s"]);
    has(&k.refused(&["get", "ct"]), &["resource"]);
}

fn rolling(k: &Kubectl<'_>) {
    let deployment = "deployment/guestbook";
    k.ok(&["scale", deployment, "--replicas=3"]);
    has(&k.refused(&["scale", deployment, "--current-replicas=9", "--replicas=1"]), &["9"]);
    let container = k.field(deployment, ".spec.template.spec.containers[0].name");
    k.ok(&["set", "env", deployment, "RELEASE=two"]);
    k.ok(&["rollout", "status", deployment, "--timeout", "90s"]);
    k.ok(&["set", "image", deployment, &format!("{container}=skiff/demo:latest")]);
    has(&k.ok(&["rollout", "history", deployment]), &["REVISION", "1 ", "2 ", "3 "]);
    has(&k.ok(&["rollout", "history", deployment, "--revision=2"]), &["RELEASE"]);
    has(&k.ok(&["rollout", "undo", deployment, "--to-revision=1"]), &["rolled back"]);
    k.ok(&["rollout", "restart", deployment]);
    k.ok(&["rollout", "pause", deployment]);
    assert_eq!(k.field(deployment, ".spec.paused"), "true");
    k.ok(&["rollout", "resume", deployment]);
    has(&k.ok(&["rollout", "status", deployment, "--timeout", "90s"]), &["successfully rolled out"]);
}

fn nodes(k: &Kubectl<'_>) {
    k.ok(&["taint", "node", "node-1", "a=b:PreferNoSchedule"]);
    k.ok(&["taint", "node", "node-1", "a-"]);
    k.ok(&["cordon", "node-2"]);
    has(&k.ok(&["get", "node", "node-2"]), &["Ready,SchedulingDisabled"]);
    let drained = k.run(&["drain", "node-2", "--force", "--ignore-daemonsets", "--timeout=90s"]);
    expect_success("kubectl drain", &drained);
    let left = k.ok(&["get", "pods", "-A", "--field-selector=spec.nodeName=node-2", "-o", "name"]);
    assert_eq!(left, "", "the node is empty");
    k.ok(&["uncordon", "node-2"]);
}

fn deleting(k: &Kubectl<'_>) {
    k.ok(&["create", "configmap", "other"]);
    has(&k.ok(&["delete", "configmap", "other", "watched"]), &["\"other\" deleted", "\"watched\" deleted"]);
    // The owner goes, what it owned stays; then that goes too, at once.
    let set = k.ok(&["get", "rs", "-l", "app=counter", "-o", "jsonpath={.items[0].metadata.name}"]);
    k.ok(&["delete", "deployment", "counter", "--cascade=orphan"]);
    assert_eq!(k.field(&format!("rs/{set}"), ".metadata.ownerReferences"), "");
    k.ok(&["delete", "rs", &set]);
    k.ok(&["delete", "pods", "-l", "app=counter", "--grace-period=1", "--ignore-not-found"]);
    // The foreground waits for what is owned; in the background it goes by itself; a wait sees the end.
    for (cascade, name) in [("foreground", "front"), ("background", "back")] {
        let image = "--image=skiff/demo";
        k.ok(&["create", "deployment", name, image, "--replicas=1", "--", "/demo", "echo"]);
        k.ok(&["rollout", "status", &format!("deployment/{name}"), "--timeout=60s"]);
        k.ok(&["delete", "deployment", name, &format!("--cascade={cascade}")]);
        let left = k.ok(&["get", "rs", "-l", &format!("app={name}"), "-o", "name"]);
        assert!(left.is_empty() || cascade == "background", "the owner was the last to go: {left}");
        k.ok(&["wait", "--for=delete", "pod", "-l", &format!("app={name}"), "--timeout=60s"]);
    }
    let deleted = k.ok(&["delete", "-f", GUESTBOOK, "--ignore-not-found"]);
    has(&deleted, &["deployment.apps \"guestbook\" deleted"]);
    k.ok(&["delete", "pods", "--all", "--force", "--grace-period=0", "--ignore-not-found"]);
    k.ok(&["delete", "namespace", "other", "--timeout=60s"]);
    has(&k.refused(&["get", "namespace", "other"]), &["not found"]);
    eventually("all Pods are gone", || k.ok(&["get", "pods", "-o", "name"]).is_empty().then_some(()));
}
