//! How to reach the API server and as whom: given, or read from a kubeconfig file.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use http::HeaderValue;
use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde::Deserialize;
use skiff_world::{Address, tls};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use crate::error::Error;

/// How to reach the API server, and as whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientConfig {
    /// The API servers; any of them will do.
    pub servers: Vec<Address>,
    /// Whom to trust and who to be, over TCP. Pipes have no TLS: the World says who is there.
    pub tls: Option<TlsFiles>,
    /// A bearer token that every request shows. Where there is one, it says who asks, and the certificate does not.
    pub token: Option<Token>,
    /// What the client calls itself: `skiff-kubelet/0.1`.
    pub user_agent: String,
    /// Whom it asks as, if not as itself.
    pub impersonate: Option<Impersonate>,
}

/// Somebody else to ask as: whoever does needs the right to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Impersonate {
    /// The user.
    pub user: String,
    /// The groups.
    pub groups: Vec<String>,
    /// The uid, or empty.
    pub uid: String,
}

impl Impersonate {
    /// The headers that say so.
    pub(crate) fn headers(&self) -> Result<Vec<(&'static str, HeaderValue)>, Error> {
        let groups = self.groups.iter().map(|group| ("impersonate-group", group));
        let uid = Some(("impersonate-uid", &self.uid)).filter(|(_, uid)| !uid.is_empty());
        let all = std::iter::once(("impersonate-user", &self.user)).chain(groups).chain(uid);
        let header = |(name, value): (&'static str, &String)| match HeaderValue::from_str(value) {
            Ok(header) => Ok((name, header)),
            Err(_) => Err(Error::Config {
                place: "client".into(),
                problem: format!("{value:?} cannot be impersonated: a header cannot carry it"),
            }),
        };
        all.map(header).collect()
    }
}

/// The parts of TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate authority that the server's certificate comes from.
    pub ca: Pem,
    /// This client's certificate and its private key. Without them a token has to say who asks.
    pub identity: Option<(Pem, Pem)>,
}

/// A bearer token.
#[derive(Clone, PartialEq, Eq)]
pub enum Token {
    /// This text.
    Text(String),
    /// What is in this file at the time: tokens are renewed.
    File(PathBuf),
}

impl std::fmt::Debug for Token {
    /// Never prints a token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Token::File(path) => path.fmt(f),
            Token::Text(_) => f.write_str("(inline)"),
        }
    }
}

impl Token {
    /// The header that shows it.
    pub(crate) fn header(&self) -> Result<HeaderValue, Error> {
        let bad = |problem: String| Error::Config { place: format!("token {self:?}"), problem };
        let text = match self {
            Token::Text(text) => text.clone(),
            Token::File(path) => {
                fs::read_to_string(path).map_err(|error| bad(format!("it cannot be read: {error}")))?
            }
        };
        let mut header = HeaderValue::from_str(&format!("Bearer {}", text.trim()))
            .map_err(|_| bad("it has characters that a header cannot carry".into()))?;
        header.set_sensitive(true);
        Ok(header)
    }
}

impl TlsFiles {
    /// Mutual TLS from three files (or texts).
    pub fn new(ca: impl Into<Pem>, cert: impl Into<Pem>, key: impl Into<Pem>) -> TlsFiles {
        TlsFiles { ca: ca.into(), identity: Some((cert.into(), key.into())) }
    }
}

/// Something in PEM form. A file is read again when it has changed.
#[derive(Clone, PartialEq, Eq)]
pub enum Pem {
    /// In this file.
    File(PathBuf),
    /// This text.
    Text(Vec<u8>),
}

impl From<PathBuf> for Pem {
    fn from(path: PathBuf) -> Pem {
        Pem::File(path)
    }
}

impl From<&Path> for Pem {
    fn from(path: &Path) -> Pem {
        Pem::File(path.to_owned())
    }
}

impl std::fmt::Debug for Pem {
    /// Never prints a key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Pem::File(path) => path.fmt(f),
            Pem::Text(_) => f.write_str("(inline)"),
        }
    }
}

impl ClientConfig {
    /// A configuration for an API server in the same process, or in the same simulation.
    pub fn pipe(name: &str, user_agent: &str) -> ClientConfig {
        let servers = vec![Address::Pipe(name.to_string())];
        ClientConfig { servers, tls: None, token: None, user_agent: user_agent.to_string(), impersonate: None }
    }

    /// Reads a kubeconfig: the configuration of `context` (or the current one), and its namespace.
    pub fn from_kubeconfig(path: &Path, context: Option<&str>) -> Result<(ClientConfig, String), Error> {
        let place = path.display().to_string();
        let text = fs::read_to_string(path).map_err(|error| {
            let problem = match error.kind() {
                io::ErrorKind::NotFound => "there is no such kubeconfig file".to_string(),
                _ => format!("the kubeconfig file cannot be read: {error}"),
            };
            Error::Config { place: place.clone(), problem }
        })?;
        let folder = path.parent().unwrap_or(Path::new("."));
        parse_kubeconfig(&text, folder, context).map_err(|problem| Error::Config { place, problem })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Kubeconfig {
    #[serde(default)]
    clusters: Vec<Named>,
    #[serde(default)]
    users: Vec<Named>,
    #[serde(default)]
    contexts: Vec<Named>,
    #[serde(default)]
    current_context: String,
}

#[derive(Deserialize)]
struct Named {
    name: String,
    cluster: Option<Cluster>,
    user: Option<User>,
    context: Option<Context>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    #[serde(default)]
    server: String,
    certificate_authority: Option<PathBuf>,
    certificate_authority_data: Option<String>,
    #[serde(default)]
    insecure_skip_tls_verify: bool,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct User {
    client_certificate: Option<PathBuf>,
    client_certificate_data: Option<String>,
    client_key: Option<PathBuf>,
    client_key_data: Option<String>,
    token: Option<String>,
    #[serde(alias = "tokenFile")]
    token_file: Option<PathBuf>,
}

impl User {
    /// Its token; a file goes before a text, since it is renewed.
    fn token(&self, folder: &Path) -> Option<Token> {
        let text = self.token.as_ref().filter(|text| !text.is_empty());
        let file = self.token_file.as_ref().map(|file| Token::File(folder.join(file)));
        file.or_else(|| text.map(|text| Token::Text(text.clone())))
    }
}

#[derive(Clone, Deserialize)]
struct Context {
    #[serde(default)]
    cluster: String,
    #[serde(default)]
    user: String,
    #[serde(default)]
    namespace: String,
}

fn parse_kubeconfig(text: &str, folder: &Path, context: Option<&str>) -> Result<(ClientConfig, String), String> {
    let file: Kubeconfig = serde_yaml::from_str(text).map_err(|error| format!("this is not a kubeconfig: {error}"))?;
    let wanted = context.unwrap_or(&file.current_context);
    if wanted.is_empty() {
        return Err("current-context is not set: name one with --context".into());
    }
    let context = find(&file.contexts, wanted, "context", |entry| entry.context.clone())?;
    let cluster = find(&file.clusters, &context.cluster, "cluster", |entry| entry.cluster.clone())?;
    let user = find(&file.users, &context.user, "user", |entry| entry.user.clone())?;
    let server = address_of(&cluster.server)?;
    let tls = if matches!(server, Address::Tcp(_)) { Some(tls_of(&cluster, &user, &context, folder)?) } else { None };
    let token = user.token(folder);
    let user_agent = format!("skiffctl/{}", env!("CARGO_PKG_VERSION"));
    let namespace = if context.namespace.is_empty() { "default".to_string() } else { context.namespace };
    Ok((ClientConfig { servers: vec![server], tls, token, user_agent, impersonate: None }, namespace))
}

fn find<T>(entries: &[Named], name: &str, what: &str, get: impl Fn(&Named) -> Option<T>) -> Result<T, String> {
    let entry = entries.iter().find(|entry| entry.name == name);
    entry.and_then(get).ok_or_else(|| {
        let names: Vec<_> = entries.iter().map(|entry| entry.name.as_str()).collect();
        format!(
            "there is no {what} {name:?}; there are: {}",
            if names.is_empty() { "none".into() } else { names.join(", ") }
        )
    })
}

fn address_of(server: &str) -> Result<Address, String> {
    if server.starts_with("http://") {
        return Err(format!("server {server:?} is not https: Skiff's API server only speaks TLS"));
    }
    if let Some(rest) = server.strip_prefix("https://") {
        let host = rest.trim_end_matches('/');
        if host.is_empty() || host.contains('/') {
            return Err(format!("server {server:?} should be https://HOST:PORT"));
        }
        // An IPv6 address has colons of its own, in brackets.
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        return Ok(Address::Tcp(if has_port { host.to_string() } else { format!("{host}:443") }));
    }
    server.parse().map_err(|error| format!("server {server:?}: {error}"))
}

fn tls_of(cluster: &Cluster, user: &User, context: &Context, folder: &Path) -> Result<TlsFiles, String> {
    if cluster.insecure_skip_tls_verify {
        let name = &context.cluster;
        return Err(format!(
            "cluster {name:?} sets insecure-skip-tls-verify, which Skiff does not do: give certificate-authority(-data)"
        ));
    }
    let pem = |file: &Option<PathBuf>, data: &Option<String>, whose: &str, what: &str| match (data, file) {
        (Some(data), _) => {
            let bytes = base64::engine::general_purpose::STANDARD.decode(data.trim());
            bytes.map(Pem::Text).map_err(|error| format!("{whose}: {what}-data is not base64: {error}"))
        }
        (None, Some(file)) => Ok(Pem::File(folder.join(file))),
        (None, None) => Err(format!("{whose} has neither {what} nor {what}-data")),
    };
    let (whose_cluster, whose_user) = (format!("cluster {:?}", context.cluster), format!("user {:?}", context.user));
    let ca = pem(
        &cluster.certificate_authority,
        &cluster.certificate_authority_data,
        &whose_cluster,
        "certificate-authority",
    )?;
    let has_certificate = user.client_certificate.is_some() || user.client_certificate_data.is_some();
    if !has_certificate && user.token(folder).is_some() {
        return Ok(TlsFiles { ca, identity: None });
    }
    let cert = pem(&user.client_certificate, &user.client_certificate_data, &whose_user, "client-certificate")?;
    let key = pem(&user.client_key, &user.client_key_data, &whose_user, "client-key")?;
    Ok(TlsFiles { ca, identity: Some((cert, key)) })
}

/// TLS, ready for handshakes.
pub(crate) enum Tls {
    /// From files, which may be renewed at any time.
    Files(tls::ClientTls),
    /// From a kubeconfig with everything in it.
    Fixed(Arc<rustls::ClientConfig>),
}

impl Tls {
    pub(crate) fn new(files: &TlsFiles) -> Result<Tls, Error> {
        let bad = |problem: String| Error::Config { place: "TLS".into(), problem };
        let paths = match (&files.ca, &files.identity) {
            (Pem::File(ca), Some((Pem::File(cert), Pem::File(key)))) => Some((ca, Some((cert.clone(), key.clone())))),
            (Pem::File(ca), None) => Some((ca, None)),
            _ => None,
        };
        if let Some((ca, identity)) = paths {
            let files = tls::Files { ca: ca.clone(), identity };
            return tls::ClientTls::new(files).map(Tls::Files).map_err(|error| bad(error.to_string()));
        }
        fixed(files).map(|config| Tls::Fixed(Arc::new(config))).map_err(bad)
    }

    /// Makes a connection secure, to a server whose certificate has this name or address.
    pub(crate) async fn secure<S>(&self, stream: S, name: &str) -> io::Result<tokio_rustls::client::TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let config = match self {
            Tls::Files(files) => return tls::connect(stream, files, name).await,
            Tls::Fixed(config) => config.clone(),
        };
        let name = ServerName::try_from(name.to_string()).map_err(io::Error::other)?;
        TlsConnector::from(config).connect(name, stream).await
    }
}

fn fixed(files: &TlsFiles) -> Result<rustls::ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&files.ca, "certificate authority")? {
        roots.add(certificate).map_err(|error| format!("the certificate authority cannot be used: {error}"))?;
    }
    let builder = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    let mut config = match &files.identity {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => {
            let chain = certificates(cert, "client certificate")?;
            let key = PrivateKeyDer::from_pem_slice(&read(key)?)
                .map_err(|_| format!("the client key {key:?} holds no private key in PEM form"))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| format!("the client certificate and key cannot be used: {error}"))?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn certificates(pem: &Pem, what: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = read(pem)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        _ => Err(format!("the {what} {pem:?} holds no certificate in PEM form")),
    }
}

fn read(pem: &Pem) -> Result<Vec<u8>, String> {
    match pem {
        Pem::File(path) => fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display())),
        Pem::Text(bytes) => Ok(bytes.clone()),
    }
}

#[cfg(test)]
mod tests;
