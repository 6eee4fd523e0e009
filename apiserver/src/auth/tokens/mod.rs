//! Who holds a bearer token: tokens of service accounts, signed by this cluster (`keys`, `claims`), good as long as what
//! they are bound to is there (`bound`); and tokens by which machines become nodes (`bootstrap`).
//!
//! A signature is checked once per token and remembered; whether it has ended and whether its account, Pod and Secret
//! still exist is looked at with every request, in the API server's cache.

mod bootstrap;
mod bound;
mod claims;
mod keys;

pub use claims::{Claims, Named, Subject, user_of};
pub use keys::{KeyError, Keys, SignatureError, generate};

use crate::cache::Cache;
use crate::resources::Table;
use jiff::Timestamp;
use prost::Message;
use ring::digest::{SHA256, digest};
use skiff_proto::corev1::Secret;
use skiff_world::{Identity, World};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

/// Signatures that are remembered.
const REMEMBERED: usize = 4096;
/// The longest token that is looked at.
const LENGTH_MAX: usize = 16 * 1024;
/// How far the clock of another API server may be ahead.
const SKEW: i64 = 60;

/// How a cluster makes and takes tokens of service accounts.
#[derive(Clone)]
pub struct ServiceAccounts {
    /// Who makes them: the tokens' issuer, and the audience of those that are for the API server.
    pub issuer: String,
    /// The private key that signs: P-256, PKCS #8, PEM.
    pub private_key: String,
    /// More public keys that are taken, PEM; may be empty.
    pub public_keys: String,
}

impl ServiceAccounts {
    /// With a new key, which nobody else knows.
    pub fn generate() -> Result<Self, KeyError> {
        Ok(Self { issuer: ISSUER.into(), private_key: generate()?, public_keys: String::new() })
    }
}

impl std::fmt::Debug for ServiceAccounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServiceAccounts").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// The issuer unless another one is named: the API server as Pods know it.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// Who makes tokens.
pub struct Issuer {
    /// Its name.
    pub name: String,
    /// Its keys.
    pub keys: Keys,
}

impl Issuer {
    /// The audiences that the API server is.
    pub fn audiences(&self) -> &[String] {
        std::slice::from_ref(&self.name)
    }
}

/// Why a token is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// There are no tokens here.
    #[error("this API server takes no tokens")]
    NoTokens,
    /// It is not one of ours.
    #[error("{0}")]
    Signature(#[from] SignatureError),
    /// It says something that no token of ours says.
    #[error("it does not say what a token of this cluster says")]
    Claims,
    /// Somebody else is to take it.
    #[error("it is for {0:?}, and not for this audience")]
    Audience(Vec<String>),
    /// It has ended.
    #[error("it has ended at {0}")]
    Ended(Timestamp),
    /// It has not begun.
    #[error("it is good from {0} on")]
    Early(Timestamp),
    /// It is a bootstrap token that is not taken.
    #[error("{0}")]
    Bootstrap(&'static str),
    /// What it is bound to is gone.
    #[error("{0}")]
    Gone(String),
}

/// Who holds a token, and for which of the audiences asked for it is.
#[derive(Clone, Debug)]
pub struct Holder {
    /// Who.
    pub identity: Identity,
    /// For whom the token is, of those asked for.
    pub audiences: Vec<String>,
}

/// A token's digest: the tokens themselves are not kept.
type Digest = [u8; 32];

/// Tokens whose signature is known to be good, the oldest first.
#[derive(Default)]
struct Remembered {
    claims: BTreeMap<Digest, Arc<Claims>>,
    order: VecDeque<Digest>,
}

impl Remembered {
    fn keep(&mut self, key: Digest, claims: &Arc<Claims>) {
        if self.claims.insert(key, claims.clone()).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > REMEMBERED {
            if let Some(oldest) = self.order.pop_front() {
                self.claims.remove(&oldest);
            }
        }
    }
}

/// Finds out who holds a token.
pub struct Authenticator {
    world: World,
    cache: Cache,
    table: Table,
    issuer: Option<Issuer>,
    remembered: Mutex<Remembered>,
}

impl Authenticator {
    /// Takes tokens of this issuer; without one, none.
    pub fn new(world: World, cache: Cache, table: Table, issuer: Option<Issuer>) -> Self {
        Self { world, cache, table, issuer, remembered: Mutex::default() }
    }

    /// Who makes tokens here, if anybody.
    pub fn issuer(&self) -> Option<&Issuer> {
        self.issuer.as_ref()
    }

    /// Who holds a token that is for one of these audiences; none asked for: for the API server.
    pub fn holder(&self, token: &str, audiences: &[String]) -> Result<Holder, Rejected> {
        if let Some((id, secret)) = bootstrap::parts(token) {
            return self.bootstrapper(id, secret, audiences);
        }
        let issuer = self.issuer.as_ref().ok_or(Rejected::NoTokens)?;
        let wanted = if audiences.is_empty() { issuer.audiences() } else { audiences };
        let claims = self.signed(issuer, token)?;
        if !claims.is_for(wanted) {
            return Err(Rejected::Audience(claims.aud.clone()));
        }
        let now = self.world.wall().as_second();
        let time = |second| Timestamp::from_second(second).unwrap_or_default();
        if now >= claims.exp {
            return Err(Rejected::Ended(time(claims.exp)));
        }
        if now + SKEW < claims.nbf {
            return Err(Rejected::Early(time(claims.nbf)));
        }
        bound::exists(&self.cache, &self.table, &claims.kubernetes, now).map_err(Rejected::Gone)?;
        let audiences = wanted.iter().filter(|audience| claims.aud.contains(audience)).cloned().collect();
        Ok(Holder { identity: super::authenticated(claims.identity()), audiences })
    }

    /// Who comes by a bootstrap token. Such a token is for the API server alone.
    fn bootstrapper(&self, id: &str, secret: &str, audiences: &[String]) -> Result<Holder, Rejected> {
        let own = self.issuer.as_ref().map(|issuer| issuer.audiences().to_vec()).unwrap_or_default();
        let audiences: Vec<String> = match audiences.is_empty() {
            true => own.clone(),
            false => own.iter().filter(|audience| audiences.contains(audience)).cloned().collect(),
        };
        if audiences.is_empty() && !own.is_empty() {
            return Err(Rejected::Audience(own));
        }
        let row = self.table.get("", "v1", "secrets");
        let entry = row.and_then(|row| self.cache.get(row.cached(), bootstrap::NAMESPACE, &bootstrap::name_of(id)));
        let stored = entry.and_then(|entry| Secret::decode(entry.stored().as_ref()).ok());
        let identity =
            bootstrap::holder(id, secret, stored.as_ref(), self.world.wall()).map_err(Rejected::Bootstrap)?;
        Ok(Holder { identity: super::authenticated(identity), audiences })
    }

    /// What a token says, its signature checked now or before.
    fn signed(&self, issuer: &Issuer, token: &str) -> Result<Arc<Claims>, Rejected> {
        if token.len() > LENGTH_MAX {
            return Err(SignatureError::Form.into());
        }
        let mut key = Digest::default();
        key.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        let remembered = || self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = remembered().claims.get(&key) {
            return Ok(known.clone());
        }
        let said = issuer.keys.open(token)?;
        let claims: Claims = serde_json::from_slice(&said).map_err(|_| Rejected::Claims)?;
        let subject = &claims.kubernetes;
        // What is signed and is no token of an account must not become one.
        if claims.iss != issuer.name || claims.sub != user_of(&subject.namespace, &subject.serviceaccount.name) {
            return Err(Rejected::Claims);
        }
        let claims = Arc::new(claims);
        remembered().keep(key, &claims);
        Ok(claims)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_bounded_and_the_oldest_goes_first() {
        let mut remembered = Remembered::default();
        let named = || Named { name: "default".into(), uid: "1".into() };
        let subject = Subject { namespace: "a".into(), node: None, pod: None, secret: None, serviceaccount: named() };
        let claims = Arc::new(Claims {
            aud: vec![],
            exp: 0,
            iat: 0,
            iss: String::new(),
            jti: String::new(),
            kubernetes: subject,
            nbf: 0,
            sub: String::new(),
        });
        let key = |n: usize| {
            let mut key = Digest::default();
            key[..8].copy_from_slice(&n.to_be_bytes());
            key
        };
        for n in 0..=REMEMBERED {
            remembered.keep(key(n), &claims);
            remembered.keep(key(n), &claims);
        }
        assert_eq!((remembered.claims.len(), remembered.order.len()), (REMEMBERED, REMEMBERED));
        assert!(!remembered.claims.contains_key(&key(0)) && remembered.claims.contains_key(&key(REMEMBERED)));
    }
}
