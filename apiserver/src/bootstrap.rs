//! What every cluster begins with: its system namespaces and priority classes, the Service by which Pods find the API
//! server, and the roles without which no component could do its work.

use crate::auth::{self, Mend, Mendable};
use crate::registry::{
    ApiError, ApiResult, Body, DeleteOptions, Format, Operation, PatchKind, Registry, Reply, Request,
};
use crate::resources::{JSON, SYSTEM_CLASSES, Typed};
use serde_json::{Value, json};
use skiff_proto::json;
use skiff_world::Identity;
use std::net::IpAddr;

/// The namespaces that exist from the start.
pub const NAMESPACES: &[&str] = &["default", "kube-system", "kube-public", "kube-node-lease"];

/// A default role or binding is looked at so often before it is left for the next start.
const MENDINGS: usize = 8;

/// The server's own identity.
fn apiserver() -> Identity {
    Identity::new("system:apiserver", &[crate::auth::MASTERS])
}

/// Makes what is missing; running it again changes nothing. `authority` is whose certificates are taken from clients.
pub async fn bootstrap(registry: &Registry, advertise: &[(IpAddr, u16)], authority: Option<&str>) -> ApiResult<()> {
    for name in NAMESPACES {
        create(registry, ("", "v1", "namespaces"), "", json!({"metadata": {"name": name}})).await?;
    }
    for (name, value, description) in SYSTEM_CLASSES {
        let class = json!({"metadata": {"name": name}, "value": value, "description": description});
        create(registry, ("scheduling.k8s.io", "v1", "priorityclasses"), "", class).await?;
    }
    let port = advertise.first().map_or(6443, |(_, port)| *port);
    let service = json!({
        "metadata": {"name": "kubernetes", "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {
            "clusterIP": registry.kubernetes_address().to_string(),
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": port}],
        },
    });
    create(registry, ("", "v1", "services"), "default", service).await?;
    endpoints(registry, advertise).await?;
    if let Some(certificate) = authority {
        // Programs that leave authentication to this server look here for whom it trusts.
        let name = "extension-apiserver-authentication";
        let told = json!({"metadata": {"name": name}, "data": {"client-ca-file": certificate}});
        put(registry, ("", "v1", "configmaps"), "kube-system", told).await?;
    }
    rights(registry).await
}

/// The default roles and their bindings, whole. Nobody is let in before they are in force.
async fn rights(registry: &Registry) -> ApiResult<()> {
    registry.catch_up().await?;
    let all = auth::default_objects();
    mend_all(registry, &all.cluster_roles).await?;
    mend_all(registry, &all.cluster_role_bindings).await?;
    mend_all(registry, &all.roles).await?;
    mend_all(registry, &all.role_bindings).await?;
    registry.catch_up().await
}

async fn mend_all<K: Mendable>(registry: &Registry, wanted: &[K]) -> ApiResult<()> {
    // Many at a time are few writes to the disk.
    let at_once = registry.limits().in_flight.clamp(1, 32);
    for some in wanted.chunks(at_once) {
        let mut together = Vec::with_capacity(some.len());
        for wanted in some {
            together.push(mend(registry, wanted));
        }
        futures::future::try_join_all(together).await?;
    }
    Ok(())
}

/// Brings one default object in line with what it should have at least.
async fn mend<K: Mendable>(registry: &Registry, wanted: &K) -> ApiResult<()> {
    let id = (K::GROUP, K::VERSION, K::RESOURCE);
    let (namespace, name) = (wanted.metadata().namespace.as_str(), wanted.metadata().name.as_str());
    for _ in 0..MENDINGS {
        let found = match registry.read(&*registry.resource(id.0, id.1, id.2)?, namespace, name).await {
            Ok(object) => object.as_any().downcast_ref::<Typed<K>>().map(|typed| typed.0.clone()),
            Err(error) if error.reason() == "NotFound" => None,
            Err(error) => return Err(error),
        };
        let operation = match auth::mend(found.as_ref(), wanted) {
            Mend::Leave => return Ok(()),
            Mend::Create(object) => return create(registry, id, namespace, json::encode_value(&object)).await,
            Mend::Update(object) => Operation::Update(body(&json::encode_value(&object))),
            Mend::Replace(_) => Operation::Delete(DeleteOptions::default()),
        };
        match serve(registry, request(registry, id, namespace, name, operation)?).await {
            Err(error) if !matches!(error.reason(), "Conflict" | "NotFound") => return Err(error),
            // Another server does the same, or the old one is gone: look again.
            _ => {}
        }
    }
    Ok(())
}

/// The API server's addresses, in both forms.
async fn endpoints(registry: &Registry, advertise: &[(IpAddr, u16)]) -> ApiResult<()> {
    // Loopback is nobody else's way here.
    let reachable: Vec<_> = advertise.iter().filter(|(ip, _)| ip.is_ipv4() && !ip.is_loopback()).collect();
    if reachable.is_empty() {
        return Ok(());
    }
    let port = reachable[0].1;
    let addresses: Vec<Value> =
        reachable.iter().map(|(ip, _)| json!({"addresses": [ip.to_string()], "conditions": {"ready": true}})).collect();
    let slice = json!({
        "metadata": {"name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": "IPv4",
        "endpoints": addresses,
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    });
    let ips: Vec<Value> = reachable.iter().map(|(ip, _)| json!({"ip": ip.to_string()})).collect();
    let endpoints = json!({
        "metadata": {"name": "kubernetes", "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": [{"addresses": ips, "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}],
    });
    put(registry, ("discovery.k8s.io", "v1", "endpointslices"), "default", slice).await?;
    put(registry, ("", "v1", "endpoints"), "default", endpoints).await
}

fn request(
    registry: &Registry,
    id: (&str, &str, &str),
    namespace: &str,
    name: &str,
    operation: Operation,
) -> ApiResult<Request> {
    Ok(Request {
        identity: apiserver(),
        resource: registry.resource(id.0, id.1, id.2)?,
        subresource: String::new(),
        namespace: namespace.into(),
        name: name.into(),
        operation,
        accept: Format::Json,
        metadata_only: false,
        cause: skiff_proto::skiffv1::Cause { reason: "every cluster begins with it".into(), ..Default::default() },
        fence: None,
    })
}

/// On the heap: what a request may need is much for a small stack, and here it would lie there several times.
async fn serve(registry: &Registry, request: Request) -> ApiResult<Reply> {
    Box::pin(registry.serve(request)).await
}

fn body(object: &Value) -> Body {
    Body { bytes: object.to_string().into(), content_type: JSON.into(), ..Default::default() }
}

/// Creates an object unless it is there.
async fn create(registry: &Registry, id: (&str, &str, &str), namespace: &str, object: Value) -> ApiResult<()> {
    let request = request(registry, id, namespace, "", Operation::Create(body(&object)))?;
    match serve(registry, request).await {
        Ok(Reply::Object(_)) => Ok(()),
        Ok(_) => Err(ApiError::internal("an object was expected")),
        Err(error) if error.reason() == "AlreadyExists" => Ok(()),
        Err(error) => Err(error),
    }
}

/// Creates an object, or brings the one that is there in line.
async fn put(registry: &Registry, id: (&str, &str, &str), namespace: &str, object: Value) -> ApiResult<()> {
    create(registry, id, namespace, object.clone()).await?;
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_string();
    let operation = Operation::Patch { kind: PatchKind::Merge, body: body(&object) };
    serve(registry, request(registry, id, namespace, &name, operation)?).await.map(|_| ())
}
