//! Mutual TLS from PEM files.
//!
//! The files are looked at on each handshake and read again when they have changed, so that a
//! renewed certificate takes effect without a restart. While they cannot be read (half written, say)
//! the last good ones stay in use.
//!
//! A server asks for a client certificate and verifies it if one is given; a wrong one is a closed
//! door. Somebody without one comes in without an [`Identity`], and what they may do is not decided here.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use crate::Identity;
use crate::host::locked;

/// How long a handshake may take.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The files of one side: whom it trusts, and who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The certificate authority (or several) that the other side's certificate must come from.
    pub ca: PathBuf,
    /// This side's certificate chain and private key. A server needs them; a client without them
    /// has no identity.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// What is wrong with the files of a TLS configuration.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {path}: {error}", path = path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file is not what it should be.
    #[error("{path} holds no {what} in PEM form{detail}", path = path.display())]
    Pem {
        /// Which file.
        path: PathBuf,
        /// What was looked for in it.
        what: &'static str,
        /// What the parser said, if anything.
        detail: String,
    },
    /// A server was given no certificate.
    #[error("a TLS server needs a certificate and a key")]
    NoIdentity,
    /// The certificate and the key don't fit, or are of a kind that is not supported.
    #[error("certificate {path} cannot be used: {error}", path = path.display())]
    Unusable {
        /// The certificate, or the certificate authority.
        path: PathBuf,
        /// Why.
        error: String,
    },
}

/// A server's TLS configuration, kept up to date with its files. Cheap to clone.
#[derive(Clone)]
pub struct ServerTls {
    current: Arc<Reloading<ServerConfig>>,
}

/// A client's TLS configuration, kept up to date with its files. Cheap to clone.
#[derive(Clone)]
pub struct ClientTls {
    current: Arc<Reloading<ClientConfig>>,
}

impl ServerTls {
    /// Reads the files, which must be good now. Speaks HTTP/2 and HTTP/1.1.
    pub fn new(files: Files) -> Result<ServerTls, TlsError> {
        Ok(ServerTls { current: Arc::new(Reloading::new(files, server_config)?) })
    }

    /// The configuration as the files have it now.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.current.get()
    }
}

impl ClientTls {
    /// Reads the files, which must be good now. Speaks HTTP/2 and HTTP/1.1.
    pub fn new(files: Files) -> Result<ClientTls, TlsError> {
        Ok(ClientTls { current: Arc::new(Reloading::new(files, client_config)?) })
    }

    /// The configuration as the files have it now.
    pub fn config(&self) -> Arc<ClientConfig> {
        self.current.get()
    }
}

/// The server's side of a handshake: the encrypted stream, and who came.
pub async fn accept<S>(stream: S, tls: &ServerTls) -> io::Result<(server::TlsStream<S>, Option<Identity>)>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let handshake = TlsAcceptor::from(tls.config()).accept(stream);
    let stream = in_time(handshake).await?;
    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let identity = certificate.map(|der| identity_of(der)).transpose()?;
    Ok((stream, identity))
}

/// The client's side of a handshake. `server_name` is a DNS name or an IP address that the server's
/// certificate must have.
pub async fn connect<S>(stream: S, tls: &ClientTls, server_name: &str) -> io::Result<client::TlsStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let bare = server_name.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(bare.to_owned()).map_err(|_| {
        let text = format!("{server_name:?} is neither a DNS name nor an IP address");
        io::Error::new(io::ErrorKind::InvalidInput, text)
    })?;
    in_time(TlsConnector::from(tls.config()).connect(name, stream)).await
}

async fn in_time<T>(handshake: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
        Ok(done) => done,
        Err(_) => {
            let text = format!("no TLS handshake within {} s", HANDSHAKE_TIMEOUT.as_secs());
            Err(io::Error::new(io::ErrorKind::TimedOut, text))
        }
    }
}

/// Who a certificate (in DER) says its holder is: the common name is the user, organizations are
/// groups, as in Kubernetes.
pub fn identity_of(certificate: &[u8]) -> io::Result<Identity> {
    let wrong = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate)
        .map_err(|error| wrong(format!("the client certificate cannot be read: {error}")))?;
    let subject = certificate.subject();
    let text = |name: &x509_parser::x509::AttributeTypeAndValue<'_>| {
        name.as_str()
            .map(str::to_owned)
            .map_err(|error| wrong(format!("the client certificate's subject is not text: {error}")))
    };
    let mut users = subject.iter_common_name();
    let user = match (users.next(), users.next()) {
        (Some(user), None) => text(user)?,
        (None, _) => return Err(wrong("the client certificate has no common name".into())),
        // Which of them is meant would be a guess.
        (Some(_), Some(_)) => {
            return Err(wrong("the client certificate has more than one common name".into()));
        }
    };
    let groups = subject.iter_organization().map(text).collect::<io::Result<Vec<_>>>()?;
    Ok(Identity { user, groups, ..Identity::default() })
}

/// Something made from files, made again when they have changed.
struct Reloading<T> {
    files: Files,
    make: fn(&Files) -> Result<T, TlsError>,
    current: Mutex<(Stamps, Arc<T>)>,
}

/// What shows that a file has changed: where it lies, its length and its times.
type Stamps = Vec<Option<(u64, u64, i64, i64)>>;

impl<T> Reloading<T> {
    fn new(files: Files, make: fn(&Files) -> Result<T, TlsError>) -> Result<Reloading<T>, TlsError> {
        // Stamped before reading: a change in between is then seen at the next look.
        let stamps = stamps(&files);
        let made = Arc::new(make(&files)?);
        Ok(Reloading { files, make, current: Mutex::new((stamps, made)) })
    }

    fn get(&self) -> Arc<T> {
        let mut current = locked(&self.current);
        let stamps = stamps(&self.files);
        if stamps != current.0 {
            match (self.make)(&self.files) {
                Ok(made) => current.1 = Arc::new(made),
                Err(error) => {
                    tracing::warn!(%error, "TLS files changed and are no good; the old ones stay in use")
                }
            }
            // Also when they are no good: what is wrong is said once, not at each handshake.
            current.0 = stamps;
        }
        current.1.clone()
    }
}

fn stamps(files: &Files) -> Stamps {
    let identity = files.identity.iter().flat_map(|(certificate, key)| [certificate, key]);
    std::iter::once(&files.ca)
        .chain(identity)
        .map(|path| {
            let meta = fs::metadata(path).ok()?;
            Some((meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec()))
        })
        .collect()
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn protocols() -> Vec<Vec<u8>> {
    vec![b"h2".to_vec(), b"http/1.1".to_vec()]
}

fn server_config(files: &Files) -> Result<ServerConfig, TlsError> {
    let (certificate, key) = files.identity.as_ref().ok_or(TlsError::NoIdentity)?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(&files.ca)?), provider())
        .allow_unauthenticated()
        .build()
        .map_err(|error| unusable(&files.ca, &error))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(certificate, &error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain(certificate)?, private_key(key)?)
        .map_err(|error| unusable(certificate, &error))?;
    config.alpn_protocols = protocols();
    Ok(config)
}

fn client_config(files: &Files) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&files.ca, &error))?
        .with_root_certificates(roots(&files.ca)?);
    let mut config = match &files.identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => builder
            .with_client_auth_cert(chain(certificate)?, private_key(key)?)
            .map_err(|error| unusable(certificate, &error))?,
    };
    config.alpn_protocols = protocols();
    Ok(config)
}

fn unusable(path: &Path, error: &dyn std::fmt::Display) -> TlsError {
    TlsError::Unusable { path: path.to_owned(), error: error.to_string() }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|error| TlsError::Read { path: path.to_owned(), error })
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = |detail| TlsError::Pem { path: path.to_owned(), what: "certificate", detail };
    let chain = CertificateDer::pem_slice_iter(&read(path)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| pem(format!(": {error}")))?;
    if chain.is_empty() { Err(pem(String::new())) } else { Ok(chain) }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|error| TlsError::Pem {
        path: path.to_owned(),
        what: "private key",
        // The parser's words are about the form alone, never the key.
        detail: format!(": {error}"),
    })
}

fn roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in chain(path)? {
        roots.add(certificate).map_err(|error| unusable(path, &error))?;
    }
    Ok(roots)
}

#[cfg(test)]
mod tests;
