//! What a token of a service account says: the claims of RFC 7519, with Kubernetes' own under `kubernetes.io`.

use serde::{Deserialize, Serialize};
use skiff_world::Identity;

/// The claims of one token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// For whom it is.
    pub aud: Vec<String>,
    /// When it ends, in seconds since 1970.
    pub exp: i64,
    /// When it was made.
    pub iat: i64,
    /// Who made it.
    pub iss: String,
    /// Its own id.
    pub jti: String,
    /// What it stands for.
    #[serde(rename = "kubernetes.io")]
    pub kubernetes: Subject,
    /// Before this it is not good.
    pub nbf: i64,
    /// `system:serviceaccount:NAMESPACE:NAME`.
    pub sub: String,
}

/// What a token stands for, and what must exist for it to be good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// The service account's namespace.
    pub namespace: String,
    /// The node of the Pod, or the Node that the token is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Named>,
    /// The Pod that the token is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Named>,
    /// The Secret that the token is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Named>,
    /// The account.
    pub serviceaccount: Named,
}

/// One incarnation of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// Its uid.
    #[serde(default)]
    pub uid: String,
}

/// The user that a service account is.
pub fn user_of(namespace: &str, name: &str) -> String {
    format!("system:serviceaccount:{namespace}:{name}")
}

impl Claims {
    /// Whether it is for one of these.
    pub fn is_for(&self, audiences: &[String]) -> bool {
        self.aud.iter().any(|audience| audiences.contains(audience))
    }

    /// Who holds it.
    pub fn identity(&self) -> Identity {
        let subject = &self.kubernetes;
        let mut identity = Identity {
            user: self.sub.clone(),
            groups: vec!["system:serviceaccounts".into(), format!("system:serviceaccounts:{}", subject.namespace)],
            uid: subject.serviceaccount.uid.clone(),
            ..Identity::default()
        };
        let mut say = |what: &str, value: &str| {
            if !value.is_empty() {
                identity.extra.insert(format!("authentication.kubernetes.io/{what}"), vec![value.into()]);
            }
        };
        say("credential-id", &format!("JTI={}", self.jti));
        for (what, named) in [("pod", &subject.pod), ("node", &subject.node)] {
            let Some(named) = named else { continue };
            say(&format!("{what}-name"), &named.name);
            say(&format!("{what}-uid"), &named.uid);
        }
        identity
    }
}
