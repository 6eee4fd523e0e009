//! Handshakes with good, wrong, missing and renewed certificates.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// A certificate authority of the test's own.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { pem, issuer: Issuer::new(params, key) }
    }

    /// Writes `NAME.crt` and `NAME.key` for somebody.
    fn issue(&self, dir: &Path, name: &str, user: &str, groups: &[&str]) -> (PathBuf, PathBuf) {
        let mut params = CertificateParams::new(vec!["api.test".into()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, user);
        for group in groups {
            params.distinguished_name.push(DnType::OrganizationName, *group);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let (crt, key_file) = (dir.join(format!("{name}.crt")), dir.join(format!("{name}.key")));
        replace(&crt, &certificate.pem());
        replace(&key_file, &key.serialize_pem());
        (crt, key_file)
    }
}

/// A new file takes the old one's place, as renewals do; it differs even within one clock tick.
fn replace(path: &Path, content: &str) {
    let new = path.with_extension("new");
    fs::write(&new, content).unwrap();
    fs::rename(&new, path).unwrap();
}

struct House {
    dir: tempfile::TempDir,
    authority: Authority,
    server: ServerTls,
}

impl House {
    fn new() -> House {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        fs::write(dir.path().join("ca.crt"), &authority.pem).unwrap();
        let identity = authority.issue(dir.path(), "server", "api", &[]);
        let files = Files { ca: dir.path().join("ca.crt"), identity: Some(identity) };
        House { server: ServerTls::new(files).unwrap(), dir, authority }
    }

    fn client(&self, identity: Option<(PathBuf, PathBuf)>) -> ClientTls {
        ClientTls::new(Files { ca: self.dir.path().join("ca.crt"), identity }).unwrap()
    }

    /// One connection, with an exchange in each direction: what the server saw.
    async fn meet(&self, client: &ClientTls, name: &str) -> io::Result<Option<Identity>> {
        let (near, far) = tokio::io::duplex(4096);
        let serve = async {
            let (mut stream, identity) = accept(far, &self.server).await?;
            let mut word = [0; 2];
            stream.read_exact(&mut word).await?;
            stream.write_all(b"ok").await?;
            stream.shutdown().await?;
            Ok::<_, io::Error>(identity)
        };
        let ask = async {
            let mut stream = connect(near, client, name).await?;
            stream.write_all(b"hi").await?;
            let mut word = [0; 2];
            stream.read_exact(&mut word).await?;
            Ok::<_, io::Error>(())
        };
        let (identity, answer) = tokio::join!(serve, ask);
        answer?;
        identity
    }
}

#[tokio::test]
async fn a_certificate_becomes_user_and_groups() {
    let house = House::new();
    let identity = house.authority.issue(house.dir.path(), "node", "system:node:one", &["system:nodes"]);
    let seen = house.meet(&house.client(Some(identity)), "api.test").await.unwrap();
    assert_eq!(seen, Some(Identity::new("system:node:one", &["system:nodes"])));
}

#[tokio::test]
async fn without_a_certificate_one_is_nobody() {
    let house = House::new();
    assert_eq!(house.meet(&house.client(None), "api.test").await.unwrap(), None);
}

/// Whoever connects and says nothing, or half a greeting, gives its place back.
#[tokio::test(start_paused = true)]
async fn a_handshake_that_does_not_come_is_not_waited_for() {
    let house = House::new();
    for said in [&b""[..], b"\x16\x03\x01"] {
        let (mut near, far) = tokio::io::duplex(4096);
        near.write_all(said).await.unwrap();
        let began = tokio::time::Instant::now();
        let error = accept(far, &house.server).await.expect_err("nobody greeted");
        assert_eq!((error.kind(), began.elapsed()), (io::ErrorKind::TimedOut, HANDSHAKE_TIMEOUT));
    }
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_a_closed_door() {
    let house = House::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let foreign = Authority::new().issue(elsewhere.path(), "x", "kubernetes-admin", &["system:masters"]);
    assert!(house.meet(&house.client(Some(foreign)), "api.test").await.is_err());
}

#[tokio::test]
async fn a_server_of_another_name_or_authority_is_refused() {
    let house = House::new();
    let client = house.client(None);
    assert!(house.meet(&client, "other.test").await.is_err());
    assert!(House::new().meet(&client, "api.test").await.is_err());
    assert!(house.meet(&client, "no name at all").await.is_err());
}

#[tokio::test]
async fn renewed_files_are_used_at_the_next_handshake_and_bad_ones_are_not() {
    let house = House::new();
    let identity = house.authority.issue(house.dir.path(), "me", "before", &[]);
    let client = house.client(Some(identity.clone()));
    let user = |seen: Option<Identity>| seen.unwrap().user;
    assert_eq!(user(house.meet(&client, "api.test").await.unwrap()), "before");

    house.authority.issue(house.dir.path(), "me", "afterwards", &[]);
    assert_eq!(user(house.meet(&client, "api.test").await.unwrap()), "afterwards");

    fs::write(&identity.0, "half a cert").unwrap();
    assert_eq!(user(house.meet(&client, "api.test").await.unwrap()), "afterwards");
}

#[tokio::test(start_paused = true)]
async fn a_handshake_does_not_wait_for_ever() {
    let house = House::new();
    let (_silent, far) = tokio::io::duplex(64);
    let error = accept(far, &house.server).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
}

#[test]
fn what_is_wrong_with_a_file_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing.crt");
    let refusal = |ca: &Path| ClientTls::new(Files { ca: ca.to_owned(), identity: None }).err().unwrap().to_string();
    assert!(refusal(&missing).contains("missing.crt"));
    let empty = dir.path().join("empty.crt");
    fs::write(&empty, "").unwrap();
    assert!(refusal(&empty).contains("holds no certificate"));
}
