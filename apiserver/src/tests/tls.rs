//! Real TCP and TLS on loopback: a certificate is an identity, none is nobody, and a stranger's does not get in.

use super::*;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use skiff_world::tls::{self, ClientTls, Files};
use std::path::{Path, PathBuf};

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    fn issue(&self, dir: &Path, name: &str, user: &str, groups: &[&str]) -> (PathBuf, PathBuf) {
        let mut params = CertificateParams::new(vec!["localhost".into()]).expect("a name");
        params.distinguished_name.push(DnType::CommonName, user);
        for group in groups {
            params.distinguished_name.push(DnType::OrganizationName, *group);
        }
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let (crt, key_file) = (dir.join(format!("{name}.crt")), dir.join(format!("{name}.key")));
        std::fs::write(&crt, certificate.pem()).expect("written");
        std::fs::write(&key_file, key.serialize_pem()).expect("written");
        (crt, key_file)
    }

    fn write(&self, dir: &Path, name: &str) -> PathBuf {
        let path = dir.join(name);
        std::fs::write(&path, &self.pem).expect("written");
        path
    }
}

/// A client over TCP and TLS.
fn client(world: &World, to: Address, files: Files) -> Client {
    let tls = ClientTls::new(files).expect("a configuration");
    let executor = world.executor();
    let world = world.clone();
    let connector = tower::service_fn(move |_: ::http::Uri| {
        let (world, to, tls) = (world.clone(), to.clone(), tls.clone());
        async move {
            let connection = world.connect(&to).await?;
            tls::connect(connection, &tls, "localhost").await.map(TokioIo::new)
        }
    });
    let channel = Endpoint::from_static("http://skiff").executor(executor).connect_with_connector_lazy(connector);
    Client { grpc: ResourcesClient::new(channel), metadata: Vec::new() }
}

#[tokio::test]
async fn a_certificate_is_an_identity() {
    let dir = tempfile::tempdir().expect("a directory");
    let (ours, theirs) = (Authority::new(), Authority::new());
    let (ca, their_ca) = (ours.write(dir.path(), "ca.crt"), theirs.write(dir.path(), "their.crt"));
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
    let to = Address::Tcp(format!("127.0.0.1:{port}"));
    let world = World::real("apiserver");
    let server_files = Files { ca: ca.clone(), identity: Some(ours.issue(dir.path(), "server", "skiff", &[])) };
    let options = Options {
        tls: Some(server_files),
        ..Options::new(vec![to.clone()], StoreOptions::Embedded(EmbeddedOptions::new(dir.path().join("store"))))
    };
    let handle = run(world.clone(), options).await.expect("the server starts");

    let admin = Files {
        ca: ca.clone(),
        identity: Some(ours.issue(dir.path(), "admin", "kubernetes-admin", &["system:masters"])),
    };
    let namespaces =
        client(&world, to.clone(), admin.clone()).names("v1:namespaces:", "", "").await.expect("the admin may");
    assert!(namespaces.contains(&"kube-system".to_string()));
    let told = "v1:configmaps:kube-system/extension-apiserver-authentication";
    let told = client(&world, to.clone(), admin).get(told).await.expect("whom it trusts can be read");
    assert_eq!(told["data"]["client-ca-file"], ours.pem);

    let node =
        Files { ca: ca.clone(), identity: Some(ours.issue(dir.path(), "node", "system:node:a", &["system:nodes"])) };
    let refused =
        client(&world, to.clone(), node).names("v1:secrets:default", "", "").await.expect_err("a node may not");
    assert!(refused.message().contains("node \"a\""), "{}", refused.message());

    let nobody = Files { ca: ca.clone(), identity: None };
    let refused = client(&world, to.clone(), nobody).names("v1:namespaces:", "", "").await.expect_err("nobody may not");
    assert_eq!(refused.reason(), "Unauthorized");

    let stranger = Files {
        ca: ca.clone(),
        identity: Some(theirs.issue(dir.path(), "stranger", "kubernetes-admin", &["system:masters"])),
    };
    let refused =
        client(&world, to.clone(), stranger).names("v1:namespaces:", "", "").await.expect_err("a stranger may not");
    assert_eq!(refused.reason(), "", "the door stays shut: {refused:?}");

    let misled = Files { ca: their_ca, identity: None };
    assert!(
        client(&world, to, misled).names("v1:namespaces:", "", "").await.is_err(),
        "the client checks the server too"
    );
    handle.stop().await;
    world.stop().await;
}
