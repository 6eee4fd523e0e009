//! The rest of the conversation: ways into Pods and nodes, and every kind in every form.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use super::{Kubectl, has};
use crate::cluster::{docker, eventually, expect_success, http_get};

/// An image with a shell, `tar` and little else.
const SHELL: &str = "skiff-e2e/shell";
/// What is in it, of this machine's own.
const PROGRAMS: &[&str] = &["/bin/sh", "/bin/tar", "/bin/sleep", "/bin/cat", "/bin/ls"];

/// Makes the image, of the programs and what they are linked with.
fn make_shell() {
    let linked = Command::new("ldd").args(PROGRAMS).output().unwrap();
    expect_success("ldd", &linked);
    let text = String::from_utf8(linked.stdout).unwrap();
    let mut files: Vec<&str> =
        text.split_whitespace().filter(|word| word.starts_with('/') && !word.ends_with(':')).collect();
    files.sort_unstable();
    files.dedup();
    let mut archive =
        Command::new("tar").args(["-chP"]).args(PROGRAMS).args(files).stdout(Stdio::piped()).spawn().unwrap();
    let mut import = Command::new("docker");
    import.args(["import", "--change", "ENV PATH=/bin", "-", SHELL]).stdin(archive.stdout.take().unwrap());
    expect_success("docker import", &import.output().unwrap());
    assert!(archive.wait().unwrap().success());
}

pub fn looking_into(k: &Kubectl<'_>) {
    make_shell();
    let idle = ["--command", "--", "sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.2; done"];
    k.ok(&[&["run", "shell", "--image", SHELL, "--image-pull-policy=Never"], &idle[..]].concat());
    k.ok(&["wait", "pod/shell", "--for=condition=Ready", "--timeout=60s"]);
    copying(k);
    terminals(k);
    debugging(k);
    k.ok(&["delete", "pod", "shell", "reader", "copy", "--ignore-not-found", "--grace-period=1"]);
    docker(&["rmi", "-f", SHELL]);
}

fn copying(k: &Kubectl<'_>) {
    let (there, back) = (k.home.path().join("there"), k.home.path().join("back"));
    std::fs::write(&there, "carried over\n".repeat(1000)).unwrap();
    k.ok(&["cp", there.to_str().unwrap(), "shell:/there"]);
    has(&k.ok(&["exec", "shell", "--", "ls", "-l", "/there"]), &["13000"]);
    k.ok(&["cp", "shell:/there", back.to_str().unwrap()]);
    assert_eq!(std::fs::read(&there).unwrap(), std::fs::read(&back).unwrap());
}

fn terminals(k: &Kubectl<'_>) {
    let line = "kubectl exec -it shell -- sh -c 'test -t 0 && echo a terminal'";
    let mut script = Command::new("script");
    script.args(["-qec", line, "/dev/null"]).env("HOME", k.home.path()).env("KUBECONFIG", k.cluster.kubeconfig());
    let output = script.stdin(Stdio::null()).output().unwrap();
    has(&String::from_utf8_lossy(&output.stdout), &["a terminal"]);

    let said = ["--command", "--", "sh", "-c", "read line; echo heard $line; sleep 600"];
    let reader =
        ["run", "reader", "-i", "--image", SHELL, "--image-pull-policy=Never", "--restart=Never", "--attach=false"];
    k.ok(&[&reader, &said[..]].concat());
    k.ok(&["wait", "pod/reader", "--for=condition=Ready", "--timeout=60s"]);
    let mut child =
        k.command(&["attach", "-i", "reader"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    stdin.write_all(b"what was said\n").unwrap();
    assert_eq!(lines.find(|line| line.starts_with("heard")).as_deref(), Some("heard what was said"));
    child.kill().unwrap();
    child.wait().unwrap();
}

fn debugging(k: &Kubectl<'_>) {
    // Process 1 is the target's: its command line, and not our own.
    let look = ["--", "sh", "-c", "read line; cat /proc/1/cmdline; ls /"];
    let debug = ["debug", "shell", "-i", "--image", SHELL, "--image-pull-policy=Never", "--target=shell", "-c", "look"];
    has(&k.fed(&[&debug, &look[..]].concat(), "go\n"), &["trap", "proc"]);
    assert_eq!(k.field("pod/shell", ".status.ephemeralContainerStatuses[0].name"), "look");
    assert_eq!(k.field("pod/shell", ".status.containerStatuses[0].restartCount"), "0");
    has(&k.ok(&["logs", "shell", "-c", "look"]), &["trap"]);
    has(&k.ok(&["describe", "pod", "shell"]), &["Ephemeral Containers:", "look:"]);
    let mut ours = k.cluster.ctl_command(&["debug", "shell", "-i", "--image", SHELL, "--target=shell"]);
    let mut child = ours.args(look).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let output = child.wait_with_output().unwrap();
    expect_success("skiffctl debug", &output);
    has(&String::from_utf8_lossy(&output.stdout), &["trap", "proc"]);

    let copy = ["debug", "shell", "--copy-to=copy", "--image", SHELL, "--image-pull-policy=Never", "-c", "beside"];
    k.ok(&[&copy, &["--", "sleep", "600"][..]].concat());
    k.ok(&["wait", "pod/copy", "--for=condition=Ready", "--timeout=60s"]);
    assert_eq!(k.field("pod/copy", ".spec.containers[*].name"), "shell beside");
}

/// What is reached over HTTP, through the API server.
pub fn reaching(k: &Kubectl<'_>) {
    let pod = k.pod("app=guestbook");
    let pods = "/api/v1/namespaces/default/pods";
    let page = k.ok(&["get", "--raw", &format!("{pods}/{pod}:8080/proxy/plain")]);
    assert!(!page.is_empty());
    assert!(!k.ok(&["get", "--raw", "/api/v1/namespaces/default/services/guestbook:80/proxy/plain"]).is_empty());
    has(
        &k.refused(&["get", "--raw", &format!("{pods}/{pod}:1/proxy/")]),
        &["error trying to reach service", "refused"],
    );
    has(
        &k.refused(&["get", "--raw", "/api/v1/namespaces/default/services/kubernetes/proxy/"]),
        &["no endpoints available"],
    );
    let node = "/api/v1/nodes/node-1/proxy";
    assert_eq!(k.ok(&["get", "--raw", &format!("{node}/healthz")]), "ok");
    has(&k.ok(&["get", "--raw", &format!("{node}/pods")]), &["\"kind\":\"PodList\"", "\"nodeName\":\"node-1\""]);
    has(&k.refused(&["get", "--raw", &format!("{node}/nothing")]), &["NotFound"]);

    let mut child = k.command(&["proxy", "--port=0"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let line = lines.next().expect("it says where it serves");
    let address = line.split_whitespace().last().unwrap_or_default().to_owned();
    let proxied =
        eventually("kubectl proxy answers", || http_get(&address, &format!("{pods}/{pod}:8080/proxy/plain")).ok());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!proxied.is_empty());

    k.ok(&["create", "service", "clusterip", "board", "--tcp=80", "-n", "kube-system"]);
    k.ok(&["label", "service", "board", "kubernetes.io/cluster-service=true", "-n", "kube-system"]);
    has(&k.ok(&["cluster-info"]), &["board is running at", "/api/v1/namespaces/kube-system/services/board:80/proxy"]);
    k.ok(&["delete", "service", "board", "-n", "kube-system"]);
}

/// What is not there says so.
pub fn missing(k: &Kubectl<'_>) {
    has(&k.refused(&["top", "pods"]), &["Metrics API not available"]);
    has(&k.refused(&["top", "nodes"]), &["Metrics API not available"]);
    has(&k.refused(&["autoscale", "deployment", "guestbook", "--max=3"]), &["horizontalpodautoscalers"]);
}

/// Every kind can be listed in every form, and described.
pub fn every_kind(k: &Kubectl<'_>) {
    let kinds = k.ok(&["api-resources", "--verbs=list", "-o", "name"]);
    for kind in kinds.lines() {
        for form in [&["-o", "wide"][..], &["-o", "yaml"], &["-o", "name"]] {
            k.ok(&[&["get", kind, "-A"], form].concat());
        }
        let described = k.run(&["describe", kind, "-A"]);
        expect_success(&format!("kubectl describe {kind} -A"), &described);
        let told = String::from_utf8_lossy(&described.stderr);
        assert!(told.is_empty() || told.contains("No resources found"), "{kind}: {told}");
    }
    let names = k.ok(&["get", "nodes", "-o", "go-template={{range .items}}{{.metadata.name}} {{end}}"]);
    assert_eq!(names, "node-1 node-2 ");
    has(&k.ok(&["get", "nodes", "-o", "custom-columns=N:.metadata.name,C:.spec.podCIDR"]), &["N ", "10."]);
}
