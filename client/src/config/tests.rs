//! Kubeconfigs, good and bad, and TLS from files and from inline data.

use super::*;

const GOOD: &str = r#"
apiVersion: v1
kind: Config
current-context: dev
clusters:
- name: c1
  cluster: {server: "https://10.0.0.1:6443", certificate-authority: pki/ca.crt}
users:
- name: admin
  user: {client-certificate-data: aGVsbG8=, client-key: /abs/key.pem}
contexts:
- name: dev
  context: {cluster: c1, user: admin, namespace: web}
- name: prod
  context: {cluster: c1, user: admin}
- name: lost
  context: {cluster: nowhere, user: admin}
"#;

fn parse(text: &str, context: Option<&str>) -> Result<(ClientConfig, String), String> {
    parse_kubeconfig(text, Path::new("/home/me"), context)
}

#[test]
fn files_are_relative_to_the_kubeconfig_and_data_is_inline() {
    let (config, namespace) = parse(GOOD, None).unwrap();
    assert_eq!(config.servers, [Address::Tcp("10.0.0.1:6443".into())]);
    let tls = config.tls.unwrap();
    assert_eq!(tls.ca, Pem::File("/home/me/pki/ca.crt".into()));
    assert_eq!(tls.identity, Some((Pem::Text(b"hello".to_vec()), Pem::File("/abs/key.pem".into()))));
    assert_eq!(config.token, None);
    assert_eq!(namespace, "web");
}

#[test]
fn a_token_needs_no_certificate_and_a_file_of_tokens_is_read_each_time() {
    let user = |user: &str| GOOD.replace("client-certificate-data: aGVsbG8=, client-key: /abs/key.pem", user);
    let (config, _) = parse(&user("token: abc"), None).unwrap();
    assert_eq!(config.token, Some(Token::Text("abc".into())));
    assert_eq!(config.tls.unwrap().identity, None);
    assert!(!format!("{:?}", config.token).contains("abc"));
    let (config, _) = parse(&user("token: abc, tokenFile: tokens/mine"), None).unwrap();
    assert_eq!(config.token, Some(Token::File("/home/me/tokens/mine".into())));

    let folder = tempfile::tempdir().unwrap();
    let token = Token::File(folder.path().join("token"));
    assert!(token.header().unwrap_err().to_string().contains("cannot be read"));
    for text in ["one\n", "two"] {
        std::fs::write(folder.path().join("token"), text).unwrap();
        assert_eq!(token.header().unwrap(), format!("Bearer {}", text.trim()));
    }
}

#[test]
fn a_context_without_a_namespace_means_default() {
    assert_eq!(parse(GOOD, Some("prod")).unwrap().1, "default");
}

#[test]
fn the_servers_port_may_be_left_out() {
    for (server, address) in [("https://a.example", "a.example:443"), ("https://[::1]:6443/", "[::1]:6443")] {
        assert_eq!(address_of(server), Ok(Address::Tcp(address.into())), "{server}");
    }
}

#[test]
fn problems_say_what_is_wrong_and_what_there_is() {
    for (text, context, said) in [
        (GOOD.to_string(), Some("stage"), "no context \"stage\"; there are: dev, prod, lost"),
        (GOOD.to_string(), Some("lost"), "no cluster \"nowhere\"; there are: c1"),
        (GOOD.replace("current-context: dev", ""), None, "current-context is not set"),
        (GOOD.replace("aGVsbG8=", "a-key"), None, "client-certificate-data is not base64"),
        (GOOD.replace("https:", "http:"), None, "only speaks TLS"),
        (GOOD.replace(", client-key: /abs/key.pem", ""), None, "neither client-key nor client-key-data"),
        ("- 1\n".to_string(), None, "not a kubeconfig"),
    ] {
        let error = parse(&text, context).unwrap_err();
        assert!(error.contains(said), "{error:?} does not say {said:?}");
    }
}

/// A certificate authority, and a certificate with its key for each name.
fn certificates(names: &[&str]) -> (String, Vec<(String, String)>) {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(ca, ca_key);
    let leaf = |name: &&str| {
        let key = KeyPair::generate().unwrap();
        let mut leaf = CertificateParams::new(vec![name.to_string()]).unwrap();
        leaf.distinguished_name.push(DnType::CommonName, *name);
        (leaf.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
    };
    (ca_pem, names.iter().map(leaf).collect())
}

#[tokio::test]
async fn inline_data_speaks_tls_as_well_as_files_do_and_to_nobody_else() {
    let (ca, leaves) = certificates(&["127.0.0.1", "kubernetes-admin"]);
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let ca_file = write("ca", &ca);
    let server = (write("server", &leaves[0].0), write("server-key", &leaves[0].1));
    let server = tls::ServerTls::new(tls::Files { ca: ca_file.clone(), identity: Some(server) }).unwrap();
    let (cert, key) = leaves[1].clone();
    let text = |text: &str| Pem::Text(text.as_bytes().to_vec());
    let inline = TlsFiles::new(text(&ca), text(&cert), text(&key));
    let mixed = TlsFiles::new(text(&ca), write("cert", &cert), text(&key));
    let files = TlsFiles::new(ca_file, write("cert", &cert), write("key", &key));
    for files in [inline.clone(), mixed, files] {
        let (near, far) = tokio::io::duplex(1 << 16);
        let client = Tls::new(&files).unwrap();
        let (near, far) = tokio::join!(client.secure(near, "127.0.0.1"), tls::accept(far, &server));
        near.unwrap();
        assert_eq!(far.unwrap().1.unwrap().user, "kubernetes-admin");
    }
    // A server by another authority.
    let stranger = TlsFiles { ca: text(&certificates(&[]).0), ..inline };
    let (near, far) = tokio::io::duplex(1 << 16);
    let client = Tls::new(&stranger).unwrap();
    let (near, _) = tokio::join!(client.secure(near, "127.0.0.1"), tls::accept(far, &server));
    assert!(near.is_err());
}

#[test]
fn tls_that_is_no_good_says_what() {
    let text = |text: &str| Pem::Text(text.as_bytes().to_vec());
    let (ca, leaves) = certificates(&["x"]);
    let (cert, key) = leaves[0].clone();
    let made = |ca: Pem, cert: Pem, key: Pem| TlsFiles::new(ca, cert, key);
    assert!(Tls::new(&made(text(&ca), text(&cert), text(&key))).is_ok());
    for (files, said) in [
        (made(text("x"), text(&cert), text(&key)), "certificate authority"),
        (made(text(&ca), text(""), text(&key)), "client certificate"),
        (made(text(&ca), text(&cert), text(&cert)), "no private key"),
        (made(text(&ca), text(&cert), Pem::File("/nowhere/key".into())), "/nowhere/key"),
    ] {
        let Err(error) = Tls::new(&files) else { panic!("{files:?} is no good") };
        assert!(error.to_string().contains(said), "{error}");
    }
}

#[test]
fn an_inline_key_is_never_printed() {
    let pem = Pem::Text(b"secret".to_vec());
    assert!(!format!("{pem:?}").contains("secret"));
}
