//! What others verify tokens of service accounts by: the issuer's configuration and its public keys, in the form of
//! OpenID Connect. Service accounts may read them, and whoever else is given the right to these paths.

use super::respond::{self, Answer};
use super::{OK, Rest, nothing_here};
use crate::auth::tokens::Issuer;
use crate::registry::ApiResult;
use http::{HeaderMap, Uri, header};
use serde_json::json;

/// Where the configuration is.
pub const CONFIGURATION: &str = "/.well-known/openid-configuration";
/// Where the keys are.
pub const KEYS: &str = "/openid/v1/jwks";

impl Rest {
    fn issuer(&self, path: &str) -> ApiResult<&Issuer> {
        self.registry.issuer().ok_or_else(|| nothing_here(path))
    }

    /// The configuration.
    pub(super) fn oidc_configuration(&self, headers: &HeaderMap, uri: &Uri) -> ApiResult<Answer> {
        let issuer = self.issuer(CONFIGURATION)?;
        let named = || headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let host = uri.authority().map(|authority| authority.as_str()).or_else(named).unwrap_or_default();
        let tree = json!({
            "issuer": issuer.name,
            "jwks_uri": format!("https://{host}{KEYS}"),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": issuer.keys.algorithms(),
        });
        Ok(respond::document(OK, "application/json", tree.to_string()))
    }

    /// The keys.
    pub(super) fn oidc_keys(&self) -> ApiResult<Answer> {
        let keys = self.issuer(KEYS)?.keys.key_set();
        Ok(respond::document(OK, "application/jwk-set+json", keys.to_string()))
    }
}
