//! The cluster's certificates: one authority, one certificate per component, each with the identity
//! that Kubernetes gives it (common name = user, organisation = group). `skiff up` makes what is
//! missing or about to expire; keys are readable by root only.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use jiff::Timestamp;
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use skiff_world::World;

use crate::layout::Layout;
use crate::spec::ClusterSpec;

/// The certificate and key of one identity, by path.
#[derive(Clone, Debug)]
pub struct KeyFiles {
    /// The certificate, PEM.
    pub cert: PathBuf,
    /// The private key, PEM, 0600.
    pub key: PathBuf,
}

/// The authority's certificate.
pub fn ca(layout: &Layout) -> PathBuf {
    layout.pki().join("ca.crt")
}

/// The files of the identity called `name` ("apiserver", "admin", "kubelet-node-1", ...).
pub fn files(layout: &Layout, name: &str) -> KeyFiles {
    KeyFiles { cert: layout.pki().join(format!("{name}.crt")), key: layout.pki().join(format!("{name}.key")) }
}

/// The keys of service accounts' tokens, by path. Every API server of the cluster has the same.
#[derive(Clone, Debug)]
pub struct TokenKeys {
    /// Signs: P-256, PEM, 0600.
    pub private: PathBuf,
    /// Verify: PEM, any number of them. To change keys, put the new private key into its file and leave the old public
    /// key here until the last token that it verifies has ended.
    pub public: PathBuf,
}

/// The files of the tokens' keys.
pub fn service_accounts(layout: &Layout) -> TokenKeys {
    TokenKeys { private: layout.pki().join("sa.key"), public: layout.pki().join("sa.pub") }
}

/// Makes the tokens' keys where there are none; what is there is never touched.
fn ensure_token_keys(keys: &TokenKeys) -> Result<()> {
    if !keys.private.exists() {
        write_private(&keys.private, KeyPair::generate()?.serialize_pem().as_bytes())?;
    }
    if !keys.public.exists() {
        let text =
            std::fs::read_to_string(&keys.private).with_context(|| format!("read {}", keys.private.display()))?;
        let key = KeyPair::from_pem(&text).with_context(|| format!("read {}", keys.private.display()))?;
        write_atomically(&keys.public, key.public_key_pem().as_bytes(), 0o644)?;
    }
    Ok(())
}

/// Who a certificate says one is.
struct Subject {
    name: String,
    user: String,
    group: Option<&'static str>,
    server_addresses: Vec<SanType>,
}

const DAY: i64 = 24 * 60 * 60;
/// Ten years: replacing the authority means replacing every certificate.
const CA_DAYS: i64 = 3650;
const LEAF_DAYS: i64 = 365;
/// A certificate that ends within this time is issued anew by `skiff up`.
const RENEW_DAYS: i64 = 30;

/// Makes every certificate that the cluster needs and does not have, or that soon ends, or that
/// does not name the server's addresses.
pub fn ensure(layout: &Layout, spec: &ClusterSpec, world: &World) -> Result<()> {
    let dir = layout.pki();
    make_private_dir(&dir)?;
    ensure_token_keys(&service_accounts(layout))?;
    let now = world.wall();
    let issuer = authority(&dir, &spec.name, now)?;
    for subject in subjects(spec)? {
        let files = files(layout, &subject.name);
        if !is_current(&files, &subject, now) {
            issue(&issuer, &subject, &files, now)
                .with_context(|| format!("issue the certificate {}", files.cert.display()))?;
        }
    }
    Ok(())
}

/// Whom the certificates are for: the file's name, the user, the group.
pub fn identities(spec: &ClusterSpec) -> Result<Vec<(String, String, &'static str)>> {
    let all = subjects(spec)?;
    Ok(all.into_iter().map(|s| (s.name, s.user, s.group.unwrap_or_default())).collect())
}

fn subjects(spec: &ClusterSpec) -> Result<Vec<Subject>> {
    let client = |name: &str, user: &str, group| Subject {
        name: name.to_owned(),
        user: user.to_owned(),
        group,
        server_addresses: vec![],
    };
    let mut addresses: Vec<SanType> =
        [IpAddr::from(spec.host_address()), IpAddr::from(spec.kubernetes_service()), IpAddr::from([127, 0, 0, 1])]
            .into_iter()
            .map(SanType::IpAddress)
            .collect();
    for name in [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ] {
        addresses.push(SanType::DnsName(Ia5String::try_from(name)?));
    }
    let mut all = vec![
        Subject { server_addresses: addresses, ..client("apiserver", "system:apiserver", None) },
        client("admin", "kubernetes-admin", Some("system:masters")),
        client("controllers", "system:kube-controller-manager", None),
        client("scheduler", "system:kube-scheduler", None),
        // For Prometheus: reads measurements, and nothing else.
        client("monitoring", "skiff-monitoring", Some("system:monitoring")),
    ];
    for (_, node) in spec.nodes() {
        all.push(client(&format!("kubelet-{node}"), &format!("system:node:{node}"), Some("system:nodes")));
        all.push(client(&format!("proxy-{node}"), &format!("system:kube-proxy:{node}"), Some("system:node-proxier")));
    }
    Ok(all)
}

/// Loads the authority, or makes it.
fn authority(dir: &Path, cluster: &str, now: Timestamp) -> Result<Issuer<'static, KeyPair>> {
    let (cert_path, key_path) = (dir.join("ca.crt"), dir.join("ca.key"));
    if cert_path.exists() && key_path.exists() {
        let key = KeyPair::from_pem(&std::fs::read_to_string(&key_path)?)
            .with_context(|| format!("read {}", key_path.display()))?;
        return Issuer::from_ca_cert_pem(&std::fs::read_to_string(&cert_path)?, key)
            .with_context(|| format!("read {}", cert_path.display()));
    }
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("skiff-{cluster}-ca"));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    set_validity(&mut params, now, CA_DAYS)?;
    let key = KeyPair::generate()?;
    let cert = params.self_signed(&key)?;
    write_private(&key_path, key.serialize_pem().as_bytes())?;
    write_atomically(&cert_path, cert.pem().as_bytes(), 0o644)?;
    Ok(Issuer::new(params, key))
}

fn issue(issuer: &Issuer<'static, KeyPair>, subject: &Subject, files: &KeyFiles, now: Timestamp) -> Result<()> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, subject.user.clone());
    if let Some(group) = subject.group {
        params.distinguished_name.push(DnType::OrganizationName, group);
    }
    params.subject_alt_names = subject.server_addresses.clone();
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    if !subject.server_addresses.is_empty() {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    }
    set_validity(&mut params, now, LEAF_DAYS)?;
    let key = KeyPair::generate()?;
    let cert = params.signed_by(&key, issuer)?;
    // The key first: a certificate on disk always has its key beside it, also after a crash between
    // the two, because `is_current` then finds that they do not belong together and issues both anew.
    write_private(&files.key, key.serialize_pem().as_bytes())?;
    write_atomically(&files.cert, cert.pem().as_bytes(), 0o644)
}

/// A day before `now`, for clocks that are behind, to `days` after it.
fn set_validity(params: &mut CertificateParams, now: Timestamp, days: i64) -> Result<()> {
    let date = |t: Timestamp| {
        let d = t.to_zoned(jiff::tz::TimeZone::UTC).date();
        rcgen::date_time_ymd(i32::from(d.year()), d.month().unsigned_abs(), d.day().unsigned_abs())
    };
    params.not_before = date(Timestamp::from_second(now.as_second() - DAY)?);
    params.not_after = date(Timestamp::from_second(now.as_second() + days * DAY)?);
    Ok(())
}

/// Whether the files exist, belong together, last long enough and name all addresses.
fn is_current(files: &KeyFiles, subject: &Subject, now: Timestamp) -> bool {
    let (Ok(cert), Ok(key)) = (std::fs::read(&files.cert), std::fs::read_to_string(&files.key)) else {
        return false;
    };
    let Ok(key) = KeyPair::from_pem(&key) else { return false };
    let Ok((_, pem)) = x509_parser::pem::parse_x509_pem(&cert) else { return false };
    let Ok(cert) = pem.parse_x509() else { return false };
    let lasts = cert.validity().not_after.timestamp() > now.as_second() + RENEW_DAYS * DAY;
    let same_key = cert.public_key().raw == rcgen::PublicKeyData::subject_public_key_info(&key).as_slice();
    let named: Vec<IpAddr> = cert
        .subject_alternative_name()
        .ok()
        .flatten()
        .map(|san| san.value.general_names.iter().filter_map(address_of).collect())
        .unwrap_or_default();
    let addresses = subject.server_addresses.iter().all(|a| match a {
        SanType::IpAddress(ip) => named.contains(ip),
        _ => true,
    });
    lasts && same_key && addresses
}

fn address_of(name: &x509_parser::extensions::GeneralName<'_>) -> Option<IpAddr> {
    match name {
        x509_parser::extensions::GeneralName::IPAddress(bytes) => <[u8; 4]>::try_from(*bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

fn make_private_dir(dir: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))
        .with_context(|| format!("set the mode of {}", dir.display()))
}

/// Writes a file that only its owner may read.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    write_atomically(path, bytes, 0o600)
}

/// Writes to a temporary file and renames it: a reader sees the old file or the new one.
pub fn write_atomically(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let temporary = path.with_extension("tmp");
    let write = || -> std::io::Result<()> {
        let _ = std::fs::remove_file(&temporary);
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    write().with_context(|| format!("write {}", path.display()))
}

/// The administrator's kubeconfig, with everything inline so that it can be copied elsewhere.
pub fn kubeconfig(layout: &Layout, spec: &ClusterSpec) -> Result<String> {
    use base64::Engine;
    let inline = |path: &Path| -> Result<String> {
        let bytes = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
        Ok(base64::engine::general_purpose::STANDARD.encode(bytes))
    };
    let admin = files(layout, "admin");
    let config = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": spec.name, "cluster": {
            "server": format!("https://{}:{}", spec.host_address(), spec.port),
            "certificate-authority-data": inline(&ca(layout))?,
        }}],
        "users": [{"name": "kubernetes-admin", "user": {
            "client-certificate-data": inline(&admin.cert)?,
            "client-key-data": inline(&admin.key)?,
        }}],
        "contexts": [{"name": spec.name, "context": {"cluster": spec.name, "user": "kubernetes-admin", "namespace": "default"}}],
        "current-context": spec.name,
    });
    serde_yaml::to_string(&config).context("write the kubeconfig")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::StoreSpec;

    fn subject_of(files: &KeyFiles) -> (String, i64) {
        let pem = std::fs::read(&files.cert).unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).unwrap();
        let cert = pem.parse_x509().unwrap();
        (cert.subject().to_string(), cert.validity().not_after.timestamp())
    }

    #[test]
    fn certificates_are_made_once_and_renewed_when_needed() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path(), "t");
        let mut spec = ClusterSpec::choose("t", 1, vec![], StoreSpec::Embedded, &[]).unwrap();
        let world = World::real("test");
        ensure(&layout, &spec, &world).unwrap();

        let kubelet = files(&layout, "kubelet-node-1");
        let (subject, ends) = subject_of(&kubelet);
        assert!(subject.contains("system:node:node-1") && subject.contains("system:nodes"), "{subject}");
        assert!(ends > world.wall().as_second() + 300 * DAY);
        let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&kubelet.key).unwrap());
        assert_eq!(mode & 0o777, 0o600);

        let tokens = service_accounts(&layout);
        let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&tokens.private).unwrap());
        assert_eq!(mode & 0o777, 0o600);
        let signing = std::fs::read(&tokens.private).unwrap();
        assert!(std::fs::read_to_string(&tokens.public).unwrap().contains("BEGIN PUBLIC KEY"));

        let before = std::fs::read(&kubelet.cert).unwrap();
        let server_before = std::fs::read(files(&layout, "apiserver").cert).unwrap();
        ensure(&layout, &spec, &world).unwrap();
        assert_eq!(before, std::fs::read(&kubelet.cert).unwrap(), "a good certificate is kept");
        assert_eq!(signing, std::fs::read(&tokens.private).unwrap(), "tokens stay good");

        spec.node_network = "10.89.7.0/24".parse().unwrap();
        ensure(&layout, &spec, &world).unwrap();
        assert_eq!(before, std::fs::read(&kubelet.cert).unwrap());
        assert_ne!(
            server_before,
            std::fs::read(files(&layout, "apiserver").cert).unwrap(),
            "a new address needs a new certificate"
        );

        // A key without its certificate, as a crash between the two writes leaves it.
        std::fs::copy(files(&layout, "admin").key, &kubelet.key).unwrap();
        ensure(&layout, &spec, &world).unwrap();
        assert_ne!(before, std::fs::read(&kubelet.cert).unwrap(), "a foreign key means a new pair");
    }
}
