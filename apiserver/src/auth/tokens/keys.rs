//! The keys that tokens are signed with (ES256) and verified by, and the compact form of a signed token (RFC 7515).
//!
//! One key signs; every public key given verifies, so that tokens outlive a change of keys. A key's id is the digest of
//! its public half, as in Kubernetes. Signatures are random beyond a seed's reach: nothing may depend on their bytes.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};
use serde_json::{Value, json};
use x509_parser::prelude::FromDer;
use x509_parser::x509::SubjectPublicKeyInfo;

/// The signature algorithm's name in headers and key sets.
const ALGORITHM: &str = "ES256";
/// A point on the curve: a byte that says it is whole, and two coordinates.
const POINT: usize = 65;
/// What stands before the point in the DER of a P-256 public key: its algorithm and its curve.
const BEFORE_POINT: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// Why a key cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
pub enum KeyError {
    /// No private key can be read.
    #[error("the key that service account tokens are signed with must be a P-256 private key in PKCS #8, as PEM: {0}")]
    Private(String),
    /// No public key can be read.
    #[error("the keys that service account tokens are verified by must be P-256 public keys, as PEM: {0}")]
    Public(String),
}

/// Why a token's signature was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// It is no token of this form.
    #[error("it is not a signed token")]
    Form,
    /// None of the keys has made it.
    #[error("it was not signed by a key of this cluster")]
    Key,
}

/// A public key and its id.
struct PublicKey {
    id: String,
    point: Vec<u8>,
}

impl PublicKey {
    fn of_point(point: &[u8]) -> Self {
        let info = [&BEFORE_POINT, point].concat();
        Self { id: URL_SAFE_NO_PAD.encode(digest(&SHA256, &info)), point: point.to_vec() }
    }
}

/// The keys of one cluster.
pub struct Keys {
    signing: EcdsaKeyPair,
    random: SystemRandom,
    /// The first one belongs to the signing key.
    public: Vec<PublicKey>,
}

impl Keys {
    /// Signs with `private` and verifies by it and by every key in `public`, both PEM; `public` may be empty.
    pub fn read(private: &str, public: &str) -> Result<Self, KeyError> {
        let random = SystemRandom::new();
        let der =
            PrivatePkcs8KeyDer::from_pem_slice(private.as_bytes()).map_err(|e| KeyError::Private(e.to_string()))?;
        let signing = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_pkcs8_der(), &random)
            .map_err(|e| KeyError::Private(e.to_string()))?;
        let mut all = vec![PublicKey::of_point(signing.public_key().as_ref())];
        for der in SubjectPublicKeyInfoDer::pem_slice_iter(public.as_bytes()) {
            let der = der.map_err(|e| KeyError::Public(e.to_string()))?;
            let (_, info) = SubjectPublicKeyInfo::from_der(&der).map_err(|e| KeyError::Public(e.to_string()))?;
            let point = info.subject_public_key.data.as_ref();
            if der.len() != BEFORE_POINT.len() + POINT || !der.starts_with(&BEFORE_POINT) {
                return Err(KeyError::Public("it is a key of another kind".into()));
            }
            let key = PublicKey::of_point(point);
            if all.iter().all(|known| known.id != key.id) {
                all.push(key);
            }
        }
        Ok(Self { signing, random, public: all })
    }

    /// A signed token that says `claims`.
    pub fn sign(&self, claims: &impl serde::Serialize) -> Option<String> {
        let header = json!({"alg": ALGORITHM, "kid": self.public[0].id});
        let payload = serde_json::to_vec(claims).ok()?;
        let mut token = format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(payload));
        let signature = self.signing.sign(&self.random, token.as_bytes()).ok()?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Some(token)
    }

    /// What a token says, if one of the keys has signed it. Whether it still holds is another question.
    pub fn open(&self, token: &str) -> Result<Vec<u8>, SignatureError> {
        let (signed, signature) = token.rsplit_once('.').ok_or(SignatureError::Form)?;
        let (header, payload) = signed.split_once('.').ok_or(SignatureError::Form)?;
        let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| SignatureError::Form);
        let header: Value = serde_json::from_slice(&bytes(header)?).map_err(|_| SignatureError::Form)?;
        // The one algorithm there is: a token must not choose how it is looked at.
        if header["alg"] != ALGORITHM {
            return Err(SignatureError::Form);
        }
        let (payload, signature) = (bytes(payload)?, bytes(signature)?);
        let named = header["kid"].as_str();
        let mut candidates = self.public.iter().filter(|key| named.is_none_or(|id| id == key.id));
        let verifies = |key: &PublicKey| {
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &key.point).verify(signed.as_bytes(), &signature).is_ok()
        };
        if candidates.any(verifies) { Ok(payload) } else { Err(SignatureError::Key) }
    }

    /// The public keys as a JSON Web Key Set (RFC 7517).
    pub fn key_set(&self) -> Value {
        let keys: Vec<Value> = self
            .public
            .iter()
            .map(|key| {
                let half = |range| URL_SAFE_NO_PAD.encode(&key.point[range]);
                json!({
                    "use": "sig", "kty": "EC", "kid": key.id, "crv": "P-256", "alg": ALGORITHM,
                    "x": half(1..33), "y": half(33..POINT),
                })
            })
            .collect();
        json!({"keys": keys})
    }

    /// The signature algorithms in use.
    pub fn algorithms(&self) -> &'static [&'static str] {
        &[ALGORITHM]
    }
}

/// A new private key, PKCS #8 in PEM.
pub fn generate() -> Result<String, KeyError> {
    let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
        .map_err(|e| KeyError::Private(e.to_string()))?;
    let text = base64::engine::general_purpose::STANDARD.encode(made);
    let mut pem = String::from("-----BEGIN PRIVATE KEY-----\n");
    for start in (0..text.len()).step_by(64) {
        pem.push_str(&text[start..text.len().min(start + 64)]);
        pem.push('\n');
    }
    pem.push_str("-----END PRIVATE KEY-----\n");
    Ok(pem)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn public_pem(private: &str) -> String {
        rcgen::KeyPair::from_pem(private).expect("a key").public_key_pem()
    }

    #[test]
    fn a_token_is_read_by_the_key_that_signed_it_and_by_no_other() {
        let (one, two) = (generate().expect("a key"), generate().expect("a key"));
        let (first, second) = (Keys::read(&one, "").expect("keys"), Keys::read(&two, "").expect("keys"));
        let token = first.sign(&json!({"sub": "a"})).expect("signed");
        assert_eq!(first.open(&token), Ok(br#"{"sub":"a"}"#.to_vec()));
        assert_eq!(second.open(&token), Err(SignatureError::Key));
        // After a change of keys the old ones are still verified by.
        let both = Keys::read(&two, &(public_pem(&one) + &public_pem(&two))).expect("keys");
        assert!(both.open(&token).is_ok());
        assert_eq!(both.key_set()["keys"].as_array().map(Vec::len), Some(2));
        // The key's id is that of Kubernetes: the digest of the public key in DER.
        let der = rcgen::KeyPair::from_pem(&one).expect("a key");
        let id = URL_SAFE_NO_PAD.encode(digest(&SHA256, &rcgen::PublicKeyData::subject_public_key_info(&der)));
        assert_eq!(both.key_set()["keys"][1]["kid"], id.as_str());
    }

    #[test]
    fn a_changed_token_is_refused() {
        let keys = Keys::read(&generate().expect("a key"), "").expect("keys");
        let token = keys.sign(&json!({"sub": "a"})).expect("signed");
        let parts: Vec<&str> = token.split('.').collect();
        let other = URL_SAFE_NO_PAD.encode(r#"{"sub":"b"}"#);
        let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
        for (changed, why) in [
            (format!("{}.{other}.{}", parts[0], parts[2]), SignatureError::Key),
            (format!("{none}.{}.", parts[1]), SignatureError::Form),
            (format!("{}.{}.", parts[0], parts[1]), SignatureError::Key),
            (format!("{}.{}", parts[0], parts[1]), SignatureError::Form),
            (format!("{token}="), SignatureError::Form),
            ("abc".into(), SignatureError::Form),
            (String::new(), SignatureError::Form),
        ] {
            assert_eq!(keys.open(&changed), Err(why), "{changed}");
        }
    }

    #[test]
    fn keys_of_other_kinds_are_refused_in_words() {
        let key = generate().expect("a key");
        let rsa = "-----BEGIN PUBLIC KEY-----\nMFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAMt\n-----END PUBLIC KEY-----\n";
        for (private, public, words) in [
            ("", "", "private key"),
            (key.as_str(), rsa, "public keys"),
            (public_pem(&key).as_str(), "", "private key"),
        ] {
            let refused = Keys::read(private, public).err().expect("refused").to_string();
            assert!(refused.contains(words), "{refused}");
        }
    }
}
