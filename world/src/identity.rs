//! Who somebody is: the user and groups that a certificate or a pipe presents.

/// A user and the groups it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The user's name, as in `system:node:one`.
    pub user: String,
    /// The groups, as in `system:nodes`.
    pub groups: Vec<String>,
}

impl Identity {
    /// An identity from its parts.
    pub fn new(user: &str, groups: &[&str]) -> Identity {
        Identity { user: user.to_owned(), groups: groups.iter().map(|group| (*group).to_owned()).collect() }
    }
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.user)
    }
}
