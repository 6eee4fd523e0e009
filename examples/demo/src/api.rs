//! A program in a Pod that asks the API server: by the address in its environment, as its service account, by the token,
//! the certificate and the namespace that every container finds in its files.

use std::io::{Error, Read, Result, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};

/// Where Kubernetes puts the three files.
const FILES: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const PATIENCE: Duration = Duration::from_secs(10);

/// Who the API server says this Pod is: the answer of a SelfSubjectReview.
pub fn whoami() -> Result<String> {
    ask("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", "{}")
}

/// What is at a path; `{namespace}` stands for the Pod's own.
pub fn get(path: &str) -> Result<String> {
    let namespace = file("namespace")?;
    ask("GET", &path.replace("{namespace}", &namespace), "")
}

fn file(name: &str) -> Result<String> {
    let path = format!("{FILES}/{name}");
    std::fs::read_to_string(&path).map_err(|error| Error::other(format!("{path}: {error}")))
}

fn variable(name: &str) -> Result<String> {
    std::env::var(name).map_err(|_| Error::other(format!("the environment has no {name}")))
}

/// One request; its body, or the whole refusal as an error.
fn ask(method: &str, path: &str, body: &str) -> Result<String> {
    let (host, port) = (variable("KUBERNETES_SERVICE_HOST")?, variable("KUBERNETES_SERVICE_PORT")?);
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(file("ca.crt")?.as_bytes()) {
        roots.add(certificate.map_err(Error::other)?).map_err(Error::other)?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(host.clone()).map_err(Error::other)?;
    let connection = ClientConnection::new(Arc::new(config), name).map_err(Error::other)?;
    let socket = TcpStream::connect((host.as_str(), port.parse::<u16>().map_err(Error::other)?))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut stream = StreamOwned::new(connection, socket);
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {}\r\nAccept: application/json\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        file("token")?.trim(),
        body.len(),
    )?;
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply)?;
    let reply = String::from_utf8_lossy(&reply).into_owned();
    let (head, body) = reply.split_once("\r\n\r\n").ok_or_else(|| Error::other("the reply is cut short"))?;
    match head.split_whitespace().nth(1) {
        Some("200" | "201") => Ok(body.to_owned()),
        _ => Err(Error::other(format!("{}: {body}", head.lines().next().unwrap_or_default()))),
    }
}
