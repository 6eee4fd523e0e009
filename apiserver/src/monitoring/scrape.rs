//! Pages of components that listen nowhere, fetched over their tunnels.

use super::{Monitoring, Page};
use crate::registry::{ApiError, ApiResult};
use crate::tunnel::Fetched;
use http::StatusCode;
use skiff_world::{Identity, exposition};
use std::time::Duration;

/// How long a component may take: a little less than Prometheus' usual patience of 10 s, so that it is told why.
const PATIENCE: Duration = Duration::from_secs(8);
/// The ports by which Kubernetes knows a node's parts.
const KUBELET: &str = "10250";
const PROXY: &str = "10249";

impl Monitoring {
    /// The measurements of the process that leads among those of a component; of the newest, if none says that it does.
    pub(super) async fn leader(&self, component: &str) -> ApiResult<Page> {
        let mut newest = Err(ApiError::unavailable(format!(
            "no process of the {component} has a tunnel open to this API server: it is not running, or starting"
        )));
        for tunnel in self.tunnels.all(component, "") {
            let page = tunnel.fetch("/metrics", PATIENCE).await.and_then(page);
            let leads = matches!(&page, Ok(Page(_, _, text)) if leads(text));
            if leads || newest.is_err() {
                newest = page;
            }
            if leads {
                break;
            }
        }
        newest
    }

    /// A page of a node's kubelet, or of its proxy.
    pub(super) async fn node(&self, caller: &Identity, node: &str, path: &str) -> ApiResult<Page> {
        let wrong = || ApiError::bad_request(format!("invalid node request {node:?}"));
        let named = crate::rest::parse_proxied(node).ok_or_else(wrong)?;
        let (name, port) = (named.name, if named.port.is_empty() { KUBELET } else { named.port });
        let nodes = self.registry.resource("", "v1", "nodes")?;
        let may =
            |subresource| self.registry.authorizer().authorize_stream(caller, &nodes, subresource, "get", "", name);
        // Whoever may see all of a component may see its measurements.
        let allowed = may("proxy");
        if path == "/metrics" {
            allowed.or_else(|_| may("metrics"))?
        } else {
            allowed?
        };
        let component = match port {
            KUBELET => "kubelet",
            PROXY => "proxy",
            _ => {
                return Err(ApiError::bad_request(format!(
                    "a node has its kubelet at port {KUBELET} and its proxy at port {PROXY}, and nothing at {port:?}"
                )));
            }
        };
        match self.tunnels.all(component, name).first() {
            Some(tunnel) => {
                let Page(status, _, text) = tunnel.fetch(path, PATIENCE).await.and_then(page)?;
                Ok(Page(status, content_type(path), text))
            }
            None => {
                // A node that does not exist is another mistake than one that is cut off.
                self.registry.read(&nodes, "", name).await?;
                Err(ApiError::unavailable(format!(
                    "the {component} of node {name:?} has no tunnel open to this API server: it is not running, cut \
                     off, or starting; see `skiffctl get nodes`"
                )))
            }
        }
    }
}

/// What a node's page is.
fn content_type(path: &str) -> &'static str {
    match path {
        "/metrics" => exposition::CONTENT_TYPE,
        "/pods" => "application/json",
        _ => "text/plain; charset=utf-8",
    }
}

fn leads(text: &str) -> bool {
    text.lines().any(|line| line.starts_with("leader_election_master_status{") && line.ends_with(" 1"))
}

fn page(Fetched { text, reason, message }: Fetched) -> ApiResult<Page> {
    match reason.as_str() {
        "" => Ok(Page(StatusCode::OK, exposition::CONTENT_TYPE, text)),
        "NotFound" => Err(ApiError::no_such_resource(message)),
        _ => Err(ApiError::unavailable(message)),
    }
}
