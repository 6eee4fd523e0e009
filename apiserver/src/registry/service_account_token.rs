//! Tokens of service accounts: who holds one, and the subresource `serviceaccounts/token`, by which one is had.

use super::error::{ApiError, ApiResult};
use super::request::{Body, Format, ObjectReply, Request};
use super::subresources::read;
use super::{Registry, meta};
use crate::auth::node_name;
use crate::auth::tokens::{Claims, Holder, Named, Rejected, Subject, user_of};
use crate::resources::{JSON, PROTOBUF, Typed};
use prost::Message;
use skiff_proto::Time;
use skiff_proto::authenticationv1::{BoundObjectReference, TokenRequest, TokenRequestStatus};
use skiff_proto::corev1::Pod;
use skiff_proto::metav1::ObjectMeta;

/// How long a token is good where the request does not say, and the least and most it may be, in seconds.
const USUAL: i64 = 3600;
const LEAST: i64 = 600;
const MOST: i64 = 1 << 32;

impl Registry {
    /// Who holds a bearer token.
    pub async fn authenticate(&self, token: &str) -> ApiResult<skiff_world::Identity> {
        match self.token_holder(token, &[]).await {
            Ok(holder) => Ok(holder.identity),
            Err(why) => Err(ApiError::bad_token(&why)),
        }
    }

    /// Who holds a token that is for one of these audiences. What the cache shows may be old: it catches up before
    /// anything is believed gone.
    pub async fn token_holder(&self, token: &str, audiences: &[String]) -> Result<Holder, Rejected> {
        let authenticator = &self.inner.authenticator;
        match authenticator.holder(token, audiences) {
            Err(why @ Rejected::Gone(_)) => match self.catch_up().await {
                Ok(()) => authenticator.holder(token, audiences),
                Err(_) => Err(why),
            },
            settled => settled,
        }
    }

    /// Makes a token for a service account.
    pub(super) async fn issue_token(&self, request: &Request, body: &Body) -> ApiResult<ObjectReply> {
        let Some(issuer) = self.inner.authenticator.issuer() else {
            return Err(ApiError::not_implemented("this API server has no key to sign tokens with"));
        };
        let mut asked: TokenRequest = read(body)?;
        if !asked.metadata.name.is_empty() && asked.metadata.name != request.name {
            return Err(ApiError::bad_request(
                "the name of the TokenRequest does not match the service account in the request",
            ));
        }
        let seconds = lifetime(asked.spec.expiration_seconds)?;
        if asked.spec.audiences.is_empty() {
            asked.spec.audiences = issuer.audiences().to_vec();
        }
        let account = self.existing_if(request, &asked.metadata.uid, "").await?;
        let named = |meta: &ObjectMeta| Named { name: meta.name.clone(), uid: meta.uid.clone() };
        let mut subject = Subject {
            namespace: request.namespace.clone(),
            node: None,
            pod: None,
            secret: None,
            serviceaccount: named(account.object.meta()),
        };
        if let Some(bound) = &mut asked.spec.bound_object_ref {
            self.bind_token(request, bound, &mut subject).await?;
        }
        if let Some(node) = node_name(&request.identity) {
            self.own_token(request, node, &asked, issuer.audiences()).await?;
        }
        let now = self.inner.world.wall().as_second();
        let claims = Claims {
            aud: asked.spec.audiences.clone(),
            exp: now + seconds,
            iat: now,
            iss: issuer.name.clone(),
            jti: self.inner.world.uuid(),
            nbf: now,
            sub: user_of(&request.namespace, &request.name),
            kubernetes: subject,
        };
        let token = match request.dry_run() {
            true => String::new(),
            false => issuer.keys.sign(&claims).ok_or_else(|| ApiError::internal("the token could not be signed"))?,
        };
        asked.metadata.name = request.name.clone();
        asked.metadata.namespace = request.namespace.clone();
        asked.metadata.creation_timestamp = Some(meta::now(&self.inner.world));
        asked.spec.expiration_seconds = Some(seconds);
        asked.status = TokenRequestStatus { token, expiration_timestamp: Some(Time::from_unix(claims.exp)) };
        Ok(answer(request, &asked))
    }

    /// Looks up what a token shall be bound to, and writes it into the claims.
    async fn bind_token(
        &self,
        request: &Request,
        bound: &mut BoundObjectReference,
        subject: &mut Subject,
    ) -> ApiResult<()> {
        let (resource, namespace) = match (bound.api_version.as_str(), bound.kind.as_str()) {
            ("v1", "Pod") => ("pods", request.namespace.as_str()),
            ("v1", "Secret") => ("secrets", request.namespace.as_str()),
            ("v1", "Node") => ("nodes", ""),
            (version, kind) => {
                return Err(ApiError::bad_request(format!(
                    "cannot bind token for serviceaccount {:?} to a {version} {kind}: a token can be bound to a v1 Pod, Secret or Node",
                    request.name
                )));
            }
        };
        let row = self.resource("", "v1", resource)?;
        let object = self.read(&row, namespace, &bound.name).await?;
        let uid = object.meta().uid.clone();
        if !bound.uid.is_empty() && bound.uid != uid {
            return Err(ApiError::conflict(
                &row,
                &bound.name,
                format!(
                    "the UID in the bound object reference ({}) does not match the UID in record. The object might have been deleted and then recreated",
                    bound.uid
                ),
            ));
        }
        bound.uid = uid.clone();
        let named = Some(Named { name: bound.name.clone(), uid });
        match resource {
            "secrets" => subject.secret = named,
            "nodes" => subject.node = named,
            _ => {
                subject.pod = named;
                let Some(Typed(pod)) = object.as_any().downcast_ref::<Typed<Pod>>() else {
                    return Err(ApiError::internal("a Pod was expected"));
                };
                if pod.spec.service_account_name != request.name {
                    return Err(ApiError::bad_request(format!(
                        "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                        request.name
                    )));
                }
                subject.node = self.node_of(pod)?;
            }
        }
        Ok(())
    }

    /// The node that a Pod is bound to.
    fn node_of(&self, pod: &Pod) -> ApiResult<Option<Named>> {
        let name = &pod.spec.node_name;
        if name.is_empty() {
            return Ok(None);
        }
        let nodes = self.resource("", "v1", "nodes")?;
        let entry = self.inner.cache.get(nodes.cached(), "", name);
        Ok(Some(Named { name: name.clone(), uid: entry.map(|e| e.uid().to_string()).unwrap_or_default() }))
    }

    /// A node may ask only for what a Pod bound to it needs: tokens bound to that Pod, for the API server or for an
    /// audience that one of the Pod's volumes names.
    async fn own_token(&self, request: &Request, node: &str, asked: &TokenRequest, api: &[String]) -> ApiResult<()> {
        let refuse = |why: &str| Err(ApiError::forbidden(&request.resource, &request.name, why));
        let Some(bound) = asked.spec.bound_object_ref.as_ref().filter(|bound| bound.kind == "Pod") else {
            return refuse("node requested token not bound to a pod");
        };
        let pods = self.resource("", "v1", "pods")?;
        let object = self.read(&pods, &request.namespace, &bound.name).await?;
        let Some(Typed(pod)) = object.as_any().downcast_ref::<Typed<Pod>>() else {
            return Err(ApiError::internal("a Pod was expected"));
        };
        if pod.spec.node_name != node {
            return refuse("node requested token bound to a pod scheduled on a different node");
        }
        let sources = pod.spec.volumes.iter().filter_map(|volume| volume.volume_source.projected.as_ref());
        let named: Vec<&str> = sources
            .flat_map(|projected| &projected.sources)
            .filter_map(|source| source.service_account_token.as_ref())
            .map(|token| token.audience.as_str())
            .collect();
        let known = |audience: &String| api.contains(audience) || named.contains(&audience.as_str());
        match asked.spec.audiences.iter().find(|audience| !known(audience)) {
            Some(other) => refuse(&format!("audience {other:?} not found in pod spec volume")),
            None => Ok(()),
        }
    }
}

fn lifetime(asked: Option<i64>) -> ApiResult<i64> {
    let wrong = |seconds: i64, why: &str| {
        Err(ApiError::invalid_options(&format!("spec.expirationSeconds: Invalid value: {seconds}: {why}")))
    };
    match asked.unwrap_or(USUAL) {
        seconds if seconds < LEAST => wrong(seconds, "may not specify a duration less than 10 minutes"),
        seconds if seconds > MOST => wrong(seconds, "may not specify a duration larger than 2^32 seconds"),
        seconds => Ok(seconds),
    }
}

fn answer(request: &Request, reply: &TokenRequest) -> ObjectReply {
    let (bytes, content_type) = match request.accept {
        Format::Protobuf => (reply.encode_to_vec().into(), PROTOBUF),
        Format::Json => (skiff_proto::json::encode(reply).into(), JSON),
    };
    ObjectReply { bytes, content_type, warnings: Vec::new(), deleted: false, created: true }
}
