//! To ask as somebody else: the `Impersonate-*` headers, and who may use them. What is asked is then judged by the rights
//! of whoever is impersonated, and by nothing of the one who asks.

use super::rbac::Asked;
use super::{AUTHENTICATED, Authorizer, UNAUTHENTICATED, anonymous};
use crate::registry::{ApiError, ApiResult};
use http::HeaderMap;
use skiff_world::Identity;

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";
/// The API group of what an identity has beside a name and groups.
const AUTHENTICATION: &str = "authentication.k8s.io";

/// The identity that the headers ask for; `None` if they ask for none. Whoever asks needs the verb `impersonate` on every
/// part of it: the user (or service account), each group, the uid, each extra value.
pub fn impersonated(authorizer: &Authorizer, caller: &Identity, headers: &HeaderMap) -> ApiResult<Option<Identity>> {
    let Some(mut wanted) = read(headers)? else { return Ok(None) };
    for part in parts(&wanted) {
        if authorizer.decide(caller, &part.asked()).is_none() {
            return Err(ApiError::forbidden_here(format!(
                "{} {:?} is forbidden: User {:?} cannot impersonate resource {:?} in API group {:?} {}",
                part.kind,
                part.name,
                caller.user,
                part.kind,
                part.group,
                if part.namespace.is_empty() {
                    "at the cluster scope".to_owned()
                } else {
                    format!("in the namespace {:?}", part.namespace)
                }
            )));
        }
    }
    complete(&mut wanted);
    Ok(Some(wanted))
}

/// What the headers say.
fn read(headers: &HeaderMap) -> ApiResult<Option<Identity>> {
    let text = |value: &http::HeaderValue| {
        let text = std::str::from_utf8(value.as_bytes()).map(str::to_owned);
        text.map_err(|_| ApiError::bad_request("an impersonation header is not UTF-8"))
    };
    let all = |name: &str| headers.get_all(name).iter().map(text).collect::<ApiResult<Vec<_>>>();
    let one = |name: &str| match all(name)?.as_slice() {
        [] => Ok(String::new()),
        [one] => Ok(one.clone()),
        _ => Err(ApiError::bad_request(format!("the header {name} may be there once"))),
    };
    let mut wanted = Identity { user: one(USER)?, groups: all(GROUP)?, uid: one(UID)?, ..Identity::default() };
    for name in headers.keys().map(http::HeaderName::as_str) {
        let Some(key) = name.strip_prefix(EXTRA) else {
            // One that is not understood must not be answered as if it were not there.
            if name.starts_with("impersonate-") && ![USER, GROUP, UID].contains(&name) {
                return Err(ApiError::bad_request(format!("the header {name} is not known")));
            }
            continue;
        };
        let key = percent_encoding::percent_decode_str(key).decode_utf8_lossy().to_lowercase();
        wanted.extra.entry(key).or_default().extend(all(name)?);
    }
    let says_more = !(wanted.groups.is_empty() && wanted.uid.is_empty() && wanted.extra.is_empty());
    match wanted.user.is_empty() {
        true if says_more || headers.contains_key(USER) => {
            Err(ApiError::bad_request("groups, a uid or extra values are asked for without impersonating a user"))
        }
        true => Ok(None),
        false => Ok(Some(wanted)),
    }
}

/// One thing to be allowed.
struct Part<'a> {
    group: &'static str,
    kind: &'static str,
    subresource: &'a str,
    namespace: &'a str,
    name: &'a str,
}

impl Part<'_> {
    fn asked(&self) -> Asked<'_> {
        Asked {
            verb: "impersonate",
            group: self.group,
            resource: self.kind,
            subresource: self.subresource,
            namespace: self.namespace,
            name: self.name,
        }
    }
}

fn parts(wanted: &Identity) -> Vec<Part<'_>> {
    let part = |group, kind, name| Part { group, kind, subresource: "", namespace: "", name };
    let mut parts = vec![match service_account(&wanted.user) {
        Some((namespace, name)) => Part { namespace, ..part("", "serviceaccounts", name) },
        None => part("", "users", &wanted.user),
    }];
    parts.extend(wanted.groups.iter().map(|name| part("", "groups", name)));
    if !wanted.uid.is_empty() {
        parts.push(part(AUTHENTICATION, "uids", &wanted.uid));
    }
    for (key, values) in &wanted.extra {
        parts.extend(values.iter().map(|value| Part { subresource: key, ..part(AUTHENTICATION, "userextras", value) }));
    }
    parts
}

/// The namespace and name of a service account, by its user's name.
pub fn service_account(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    (!namespace.is_empty() && !name.is_empty() && !name.contains(':')).then_some((namespace, name))
}

/// The groups that go with being who it is.
fn complete(wanted: &mut Identity) {
    if wanted.groups.is_empty()
        && let Some((namespace, _)) = service_account(&wanted.user)
    {
        wanted.groups = vec!["system:serviceaccounts".into(), format!("system:serviceaccounts:{namespace}")];
    }
    let group = if wanted.user == anonymous().user { UNAUTHENTICATED } else { AUTHENTICATED };
    if !wanted.groups.iter().any(|known| known == group) {
        wanted.groups.push(group.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    fn headers(list: &[(&str, &str)]) -> HeaderMap {
        list.iter()
            .map(|(name, value)| {
                (
                    name.parse::<HeaderName>().expect("a name"),
                    HeaderValue::from_bytes(value.as_bytes()).expect("a value"),
                )
            })
            .collect()
    }

    fn asked(list: &[(&str, &str)]) -> Vec<String> {
        let wanted = read(&headers(list)).expect("well formed").expect("somebody");
        let shown = |p: &Part<'_>| [p.group, p.kind, p.subresource, p.namespace, p.name].join("|");
        parts(&wanted).iter().map(shown).collect()
    }

    #[test]
    fn every_part_of_an_identity_has_to_be_allowed() {
        for (list, expected) in [
            (&[("Impersonate-User", "ann")][..], &["|users|||ann"][..]),
            (&[("Impersonate-User", "system:serviceaccount:ci:robot")], &["|serviceaccounts||ci|robot"]),
            (&[("Impersonate-User", "system:serviceaccount:ci")], &["|users|||system:serviceaccount:ci"]),
            (
                &[("Impersonate-User", "ann"), ("Impersonate-Group", "dev"), ("Impersonate-Group", "system:masters")],
                &["|users|||ann", "|groups|||dev", "|groups|||system:masters"],
            ),
            (
                &[("Impersonate-User", "ann"), ("Impersonate-Uid", "7"), ("Impersonate-Extra-Acme.com%2FProject", "x")],
                &[
                    "|users|||ann",
                    "authentication.k8s.io|uids|||7",
                    "authentication.k8s.io|userextras|acme.com/project||x",
                ],
            ),
        ] {
            assert_eq!(asked(list), expected, "{list:?}");
        }
    }

    #[test]
    fn what_is_no_whole_identity_is_refused() {
        assert_eq!(read(&headers(&[])).expect("nobody asks for anybody"), None);
        for list in [
            &[("Impersonate-Group", "system:masters")][..],
            &[("Impersonate-Uid", "7")],
            &[("Impersonate-Extra-a", "b")],
            &[("Impersonate-User", "")],
            &[("Impersonate-User", "ann"), ("Impersonate-User", "bob")],
            &[("Impersonate-User", "ann"), ("Impersonate-Scopes", "x")],
        ] {
            let refused = read(&headers(list)).expect_err("refused");
            assert_eq!(refused.code(), 400, "{list:?}: {}", refused.message());
        }
    }

    #[test]
    fn everybody_is_in_the_groups_that_go_with_who_they_are() {
        for (user, groups, expected) in [
            ("ann", &["dev"][..], &["dev", AUTHENTICATED][..]),
            ("system:anonymous", &[], &[UNAUTHENTICATED]),
            (
                "system:serviceaccount:ci:robot",
                &[],
                &["system:serviceaccounts", "system:serviceaccounts:ci", AUTHENTICATED],
            ),
            ("system:serviceaccount:ci:robot", &["dev"], &["dev", AUTHENTICATED]),
        ] {
            let mut wanted = Identity::new(user, groups);
            complete(&mut wanted);
            assert_eq!(wanted.groups, expected, "{user}");
        }
    }
}
