//! Who gets in: nobody without a certificate or a token of this cluster, and a node only to what is its own.

use std::process::Command;

use crate::cluster::Cluster;

#[test]
fn strangers_stay_out_and_nodes_keep_to_themselves() {
    let cluster = Cluster::up_with("security", &["--nodes", "2"]);
    let config = std::fs::read_to_string(cluster.kubeconfig()).unwrap();
    let server = config.lines().find_map(|l| l.trim().strip_prefix("server: ")).unwrap().to_owned();
    let pki = cluster.dir().join("pki");
    let curl = |extra: &[&str], path: &str| {
        let output = Command::new("curl")
            .args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "5", "--cacert"])
            .arg(pki.join("ca.crt"))
            .args(extra)
            .arg(format!("{server}{path}"))
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert_eq!(curl(&[], "/healthz"), "200");
    assert_eq!(curl(&[], "/version"), "200");
    assert_eq!(curl(&[], "/api/v1/secrets"), "401");

    // A certificate of another authority: the door stays closed.
    let other = Cluster::up_with("stranger", &["--nodes", "1"]);
    let theirs = other.dir().join("pki");
    let (cert, key) = (theirs.join("admin.crt"), theirs.join("admin.key"));
    let code = curl(&["--cert", cert.to_str().unwrap(), "--key", key.to_str().unwrap()], "/api/v1/secrets");
    assert!(code == "401" || code == "000", "{code}");

    // A token is its account, as long as that is there; what is no token is nobody.
    cluster.ctl(&["create", "serviceaccount", "robot"]);
    let token = cluster.ctl(&["create", "token", "robot"]).trim().to_owned();
    let bearer = |token: &str| format!("Authorization: Bearer {token}");
    assert_eq!(curl(&["-H", &bearer(&token)], "/api/v1/secrets"), "403");
    assert_eq!(curl(&["-H", &bearer("nonsense")], "/version"), "401");
    let refused = cluster.refused(&["--token", &token, "get", "secrets"]);
    assert!(refused.contains("system:serviceaccount:default:robot"), "{refused}");
    cluster.ctl(&["delete", "serviceaccount", "robot"]);
    assert_eq!(curl(&["-H", &bearer(&token)], "/api/v1/secrets"), "401");

    // A node's certificate: its own things, and no others.
    let as_node = kubeconfig_as(&cluster, "kubelet-node-1", &config);
    let as_node = as_node.path().to_str().unwrap();
    let denied = |words: &[&str]| {
        let mut all = vec!["--kubeconfig", as_node];
        all.extend(words);
        let error = cluster.refused(&all);
        assert!(error.contains("forbidden") || error.contains("Forbidden"), "{words:?}: {error}");
    };
    cluster.ctl(&["--kubeconfig", as_node, "get", "node", "node-1"]);
    denied(&["delete", "node", "node-2"]);
    denied(&["get", "secrets", "-A"]);
    denied(&["scale", "deployment/x", "--replicas", "1"]);

    // Keys are root's alone.
    use std::os::unix::fs::PermissionsExt;
    for entry in std::fs::read_dir(&pki).unwrap().flatten() {
        if entry.path().extension().is_some_and(|e| e == "key") {
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{}", entry.path().display());
        }
    }
}

/// The administrator's kubeconfig with another identity of the same cluster in it.
fn kubeconfig_as(cluster: &Cluster, identity: &str, admin: &str) -> tempfile::NamedTempFile {
    let pki = cluster.dir().join("pki");
    let text: String = admin
        .lines()
        .map(|line| {
            let indent = &line[..line.len() - line.trim_start().len()];
            let path = |ending: &str| pki.join(format!("{identity}.{ending}")).display().to_string();
            match line.trim().split(':').next() {
                Some("client-certificate-data") => format!("{indent}client-certificate: {}\n", path("crt")),
                Some("client-key-data") => format!("{indent}client-key: {}\n", path("key")),
                _ => format!("{line}\n"),
            }
        })
        .collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}
