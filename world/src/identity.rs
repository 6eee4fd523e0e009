//! Who somebody is: the user and groups that a certificate, a bearer token or a pipe presents.

use std::collections::BTreeMap;

/// A user, the groups it is in, and what else its credentials say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The user's name, as in `system:node:one`.
    pub user: String,
    /// The groups, as in `system:nodes`.
    pub groups: Vec<String>,
    /// What tells this user from an earlier one of its name; empty where the credentials do not say.
    pub uid: String,
    /// What else the credentials say, as in `authentication.kubernetes.io/pod-name`.
    pub extra: BTreeMap<String, Vec<String>>,
    /// Who really asks, where they ask as this user.
    pub impersonator: Option<Box<Identity>>,
}

impl Identity {
    /// An identity from its parts.
    pub fn new(user: &str, groups: &[&str]) -> Identity {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        Identity { user: user.to_owned(), groups, ..Identity::default() }
    }
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.user)
    }
}
