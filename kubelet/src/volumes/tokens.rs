//! Tokens of service accounts in a Pod's projected volumes: which ones it has, when each is to be renewed, and whose
//! their files are. Pure.
//!
//! A token that lies in its file and is still young enough is kept, so that a kubelet that starts again asks for none.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::Value;
use skiff_proto::authenticationv1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use skiff_proto::corev1::Pod;

use super::content::ContentFile;

/// How long a token is good where the volume does not say, in seconds.
const USUAL: i64 = 3600;
/// No token is kept longer than this, however long it is good.
const OLDEST: Duration = Duration::from_secs(24 * 3600);
/// How long to wait after a token could not be renewed.
pub const RETRY: Duration = Duration::from_secs(30);

/// Where a token is: the volume, and the path in it.
pub type TokenPlace = (String, String);
/// The tokens of a Pod.
pub type Tokens = BTreeMap<TokenPlace, Vec<u8>>;

/// A token that one of a Pod's volumes holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Projected {
    /// where it is
    pub place: TokenPlace,
    /// for whom; empty: the API server
    pub audience: String,
    /// how long it is to be good
    pub seconds: i64,
    /// permission bits, if nobody in particular is to read it
    pub mode: u32,
}

/// All tokens of a Pod.
pub fn of(pod: &Pod) -> Vec<Projected> {
    let mut tokens = Vec::new();
    for volume in &pod.spec.volumes {
        let Some(projected) = &volume.volume_source.projected else { continue };
        for token in projected.sources.iter().filter_map(|source| source.service_account_token.as_ref()) {
            tokens.push(Projected {
                place: (volume.name.clone(), token.path.clone()),
                audience: token.audience.clone(),
                seconds: token.expiration_seconds.unwrap_or(USUAL),
                mode: u32::try_from(projected.default_mode.unwrap_or(super::content::DEFAULT_MODE)).unwrap_or(0)
                    & 0o777,
            });
        }
    }
    tokens
}

/// How to ask for one.
pub fn request(pod: &Pod, token: &Projected) -> TokenRequest {
    let audiences = if token.audience.is_empty() { vec![] } else { vec![token.audience.clone()] };
    let bound = BoundObjectReference {
        kind: "Pod".into(),
        api_version: "v1".into(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
    };
    TokenRequest {
        spec: TokenRequestSpec {
            audiences,
            expiration_seconds: Some(token.seconds),
            bound_object_ref: Some(Box::new(bound)),
        },
        ..TokenRequest::default()
    }
}

/// When a token is to be renewed: when four fifths of its life are over, or after a day.
pub fn renew_at(issued: Timestamp, ends: Timestamp) -> Timestamp {
    let life = Duration::try_from(ends.duration_since(issued)).unwrap_or_default();
    issued + Duration::from_secs(life.as_secs() * 4 / 5).min(OLDEST)
}

/// When what lies in a token's file is to be renewed; None if it is no token of this Pod for this audience.
pub fn kept(pod: &Pod, token: &Projected, file: &[u8]) -> Option<Timestamp> {
    let payload = std::str::from_utf8(file).ok()?.split('.').nth(1)?;
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
    let time = |name: &str| claims[name].as_i64().and_then(|second| Timestamp::from_second(second).ok());
    let (issued, ends) = (time("iat")?, time("exp")?);
    let of_pod = claims["kubernetes.io"]["pod"]["uid"] == pod.metadata.uid.as_str();
    let audiences = claims["aud"].as_array()?;
    let for_it = token.audience.is_empty() || audiences.iter().any(|audience| *audience == token.audience.as_str());
    let as_long = ends.as_second().saturating_sub(issued.as_second()) == token.seconds;
    (of_pod && for_it && as_long).then(|| renew_at(issued, ends))
}

/// A token's file: readable by whoever the Pod's group or its one user is, and by everybody only where it has neither.
pub fn file(pod: &Pod, path: &str, mode: u32, bytes: &[u8]) -> ContentFile {
    let security = pod.spec.security_context.as_deref();
    let group = security.and_then(|context| context.fs_group).and_then(|group| u32::try_from(group).ok());
    let user = only_user(pod);
    let mode = match (user, group) {
        (_, Some(_)) => 0o640,
        (Some(_), None) => 0o600,
        (None, None) => mode,
    };
    ContentFile { path: path.into(), bytes: bytes.to_vec(), mode, user, group }
}

/// The user that all containers run as, if it is one.
fn only_user(pod: &Pod) -> Option<u32> {
    let of_pod = pod.spec.security_context.as_deref().and_then(|context| context.run_as_user);
    let containers = pod.spec.init_containers.iter().chain(&pod.spec.containers);
    let mut users =
        containers.map(|c| c.security_context.as_deref().and_then(|context| context.run_as_user).or(of_pod));
    let first = users.next()??;
    users.all(|user| user == Some(first)).then(|| u32::try_from(first).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(spec: Value) -> Pod {
        let whole = json!({"metadata": {"name": "p", "uid": "u"}, "spec": spec});
        serde_json::from_value(whole).expect("a Pod")
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    #[test]
    fn a_token_is_renewed_after_four_fifths_of_its_life_or_a_day() {
        for (life, after) in [(3607, 2885), (600, 480), (3600 * 24, 3600 * 24 * 4 / 5), (3600 * 24 * 7, 3600 * 24)] {
            assert_eq!(renew_at(at(100), at(100 + life)).as_second(), 100 + after, "{life}");
        }
    }

    #[test]
    fn what_lies_in_the_file_is_kept_if_it_is_the_token_that_is_wanted() {
        let pod = pod(json!({"containers": [], "volumes": [{"name": "v", "projected": {"sources": [
            {"serviceAccountToken": {"path": "t", "expirationSeconds": 3607}}]}}]}));
        let wanted = of(&pod).remove(0);
        let token = |uid: &str, aud: &str, life: i64| {
            let claims = json!({"iat": 100, "exp": 100 + life, "aud": [aud], "kubernetes.io": {"pod": {"uid": uid}}});
            format!("h.{}.s", URL_SAFE_NO_PAD.encode(claims.to_string())).into_bytes()
        };
        assert_eq!(kept(&pod, &wanted, &token("u", "api", 3607)), Some(at(100 + 2885)));
        assert_eq!(kept(&pod, &wanted, &token("other", "api", 3607)), None);
        assert_eq!(kept(&pod, &wanted, &token("u", "api", 600)), None);
        assert_eq!(kept(&pod, &Projected { audience: "vault".into(), ..wanted }, &token("u", "api", 3607)), None);
        assert_eq!(kept(&pod, &of(&pod)[0], b"nonsense"), None);
    }

    #[test]
    fn a_token_is_readable_by_those_it_is_for() {
        let app = |user: Value| json!({"name": "a", "securityContext": {"runAsUser": user}});
        for (spec, mode, user, group) in [
            (json!({"containers": [{"name": "a"}]}), 0o644, None, None),
            (json!({"containers": [app(json!(7))]}), 0o600, Some(7), None),
            (json!({"containers": [app(json!(7)), app(json!(8))]}), 0o644, None, None),
            (json!({"containers": [app(json!(7)), {"name": "b"}]}), 0o644, None, None),
            (json!({"containers": [{"name": "a"}], "securityContext": {"runAsUser": 9}}), 0o600, Some(9), None),
            (json!({"containers": [{"name": "a"}], "securityContext": {"fsGroup": 5}}), 0o640, None, Some(5)),
        ] {
            let made = file(&pod(spec.clone()), "t", 0o644, b"x");
            assert_eq!((made.mode, made.user, made.group), (mode, user, group), "{spec}");
        }
    }
}
