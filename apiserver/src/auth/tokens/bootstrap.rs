//! Bootstrap tokens: `ID.SECRET`, by which a machine that is to become a node asks for its first certificate. Each is a
//! Secret of the type `bootstrap.kubernetes.io/token` in kube-system, and good as long as that is there and has not expired.

use skiff_proto::corev1::Secret;
use skiff_world::Identity;
use subtle::ConstantTimeEq;

/// The namespace of the Secrets.
pub const NAMESPACE: &str = "kube-system";
const TYPE: &str = "bootstrap.kubernetes.io/token";
/// The group of all who come by such a token; more groups begin with it.
const BOOTSTRAPPERS: &str = "system:bootstrappers";
/// The lengths of the two parts.
const ID: usize = 6;
const SECRET: usize = 16;

/// The two parts, if a token has this form.
pub fn parts(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.split_once('.')?;
    let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    (id.len() == ID && secret.len() == SECRET && plain(id) && plain(secret)).then_some((id, secret))
}

/// The Secret's name.
pub fn name_of(id: &str) -> String {
    format!("bootstrap-token-{id}")
}

/// Who comes by a token, or why it is refused. Somebody who does not know the secret learns nothing of it.
pub fn holder(id: &str, secret: &str, stored: Option<&Secret>, now: jiff::Timestamp) -> Result<Identity, &'static str> {
    const UNKNOWN: &str = "it is no bootstrap token of this cluster";
    let stored = stored.filter(|stored| stored.r#type == TYPE && stored.metadata.deletion_timestamp.is_none());
    let value = |key: &str| stored.and_then(|stored| stored.data.get(key)).map(Vec::as_slice).unwrap_or_default();
    // In constant time, whatever is stored: how much of a guess was right must not show.
    let same = value("token-secret").ct_eq(secret.as_bytes()) & value("token-id").ct_eq(id.as_bytes());
    if !bool::from(same) {
        return Err(UNKNOWN);
    }
    if stored.is_some_and(|stored| stored.data.contains_key("expiration")) {
        let text = std::str::from_utf8(value("expiration")).unwrap_or_default();
        match text.parse::<jiff::Timestamp>() {
            Ok(end) if now < end => {}
            Ok(_) => return Err("the bootstrap token has expired"),
            Err(_) => return Err("the bootstrap token's expiration is no time"),
        }
    }
    if value("usage-bootstrap-authentication") != b"true" {
        return Err("the bootstrap token is not for authentication");
    }
    let mut identity = Identity::new(&format!("system:bootstrap:{id}"), &[BOOTSTRAPPERS]);
    let extra = std::str::from_utf8(value("auth-extra-groups")).unwrap_or_default();
    for group in extra.split(',').filter(|group| !group.is_empty()) {
        if !is_bootstrappers(group) {
            return Err("the bootstrap token names groups that are not of system:bootstrappers");
        }
        identity.groups.push(group.into());
    }
    Ok(identity)
}

/// Only groups below `system:bootstrappers:` may come from a Secret: it must not make administrators.
fn is_bootstrappers(group: &str) -> bool {
    let Some(rest) = group.strip_prefix(BOOTSTRAPPERS).and_then(|rest| rest.strip_prefix(':')) else { return false };
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b':' | b'-');
    let ends_well = rest.bytes().last().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    rest.len() <= 256 && rest.bytes().all(plain) && ends_well
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(changes: &[(&str, &str)]) -> Secret {
        let mut secret = Secret { r#type: TYPE.into(), ..Secret::default() };
        let usual =
            [("token-id", "abcdef"), ("token-secret", "0123456789abcdef"), ("usage-bootstrap-authentication", "true")];
        for (key, value) in usual.iter().chain(changes) {
            secret.data.insert((*key).into(), value.as_bytes().to_vec());
        }
        secret
    }

    #[test]
    fn a_token_has_two_parts() {
        assert_eq!(parts("abcdef.0123456789abcdef"), Some(("abcdef", "0123456789abcdef")));
        for other in ["", "abcdef", "abcdef.0123", "ABCDEF.0123456789abcdef", "abcdef.0123456789abcde.", "a.b.c"] {
            assert_eq!(parts(other), None, "{other}");
        }
    }

    #[test]
    fn a_token_is_taken_while_its_secret_says_so() {
        let now = jiff::Timestamp::from_second(1_000_000_000).unwrap();
        let ask = |secret: &str, changes: &[(&str, &str)]| {
            holder("abcdef", secret, Some(&stored(changes)), now).map(|who| (who.user, who.groups.join(" ")))
        };
        let good = "0123456789abcdef";
        let usual = ("system:bootstrap:abcdef".to_string(), "system:bootstrappers".to_string());
        assert_eq!(ask(good, &[]), Ok(usual.clone()));
        assert_eq!(ask(good, &[("expiration", "2001-09-09T01:46:41Z")]), Ok(usual));
        let more = [("auth-extra-groups", "system:bootstrappers:kubeadm:default-node-token")];
        assert!(
            ask(good, &more)
                .is_ok_and(|(_, groups)| groups.ends_with(" system:bootstrappers:kubeadm:default-node-token"))
        );
        for (secret, changes, why) in [
            ("0123456789abcdeg", &[][..], "no bootstrap token"),
            (good, &[("token-id", "other1")], "no bootstrap token"),
            (good, &[("expiration", "2001-09-09T01:46:40Z")], "has expired"),
            (good, &[("expiration", "soon")], "is no time"),
            (good, &[("usage-bootstrap-authentication", "false")], "not for authentication"),
            (good, &[("auth-extra-groups", "system:masters")], "names groups"),
            (good, &[("auth-extra-groups", "system:bootstrappers:a,system:bootstrappers:")], "names groups"),
        ] {
            let refused = ask(secret, changes).expect_err(why);
            assert!(refused.contains(why), "{refused}");
        }
        let other = Secret { r#type: "Opaque".into(), ..stored(&[]) };
        for none in [None, Some(&other)] {
            assert!(holder("abcdef", good, none, now).is_err());
        }
        assert!(holder("abcdef", "", Some(&Secret { r#type: TYPE.into(), ..Secret::default() }), now).is_err());
    }
}
