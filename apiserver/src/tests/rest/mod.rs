//! The REST face, through real HTTP over a pipe.

pub mod forms;
mod objects;
mod proxy;
mod reviews;
mod streams;
mod watch;

use super::*;
use ::http::{HeaderMap, Method, Request};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;

/// An answer, whole.
#[derive(Debug)]
pub struct Got {
    pub code: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Got {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {:?}", self.body))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn content_type(&self) -> &str {
        self.headers["content-type"].to_str().expect("text")
    }

    pub fn warnings(&self) -> Vec<&str> {
        self.headers.get_all("warning").iter().map(|w| w.to_str().expect("text")).collect()
    }
}

/// A client of the REST face.
pub struct Http {
    pub world: World,
}

impl Server {
    pub fn http_as(&self, identity: Identity) -> Http {
        Http { world: self.machine.world("browser", Some(identity)) }
    }

    /// Somebody without credentials of their own.
    pub fn http_of_nobody(&self) -> Http {
        Http { world: self.machine.world("browser", None) }
    }

    pub fn http(&self) -> Http {
        self.http_as(Identity::new("kubernetes-admin", &["system:masters"]))
    }
}

impl Http {
    /// Sends a request; `headers` are `name: value`.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[&str],
        body: impl Into<Bytes>,
    ) -> ::http::Response<Incoming> {
        let connection = self.world.connect(&address()).await.expect("connected");
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(connection)).await.expect("HTTP/1.1");
        self.world.spawn("connection", async move {
            let _ = connection.with_upgrades().await;
        });
        let mut request = Request::builder()
            .method(Method::from_bytes(method.as_bytes()).expect("a method"))
            .uri(path)
            .header("host", "skiff");
        for header in headers {
            let (name, value) = header.split_once(": ").expect("name: value");
            request = request.header(name, value);
        }
        sender.send_request(request.body(Full::new(body.into())).expect("a request")).await.expect("answered")
    }

    pub async fn ask(&self, method: &str, path: &str, headers: &[&str], body: impl Into<Bytes>) -> Got {
        let (parts, body) = self.send(method, path, headers, body).await.into_parts();
        let body = body.collect().await.expect("whole").to_bytes();
        Got { code: parts.status.as_u16(), headers: parts.headers, body }
    }

    pub async fn get(&self, path: &str) -> Got {
        self.ask("GET", path, &[], "").await
    }

    pub async fn post(&self, path: &str, object: &Value) -> Got {
        self.ask("POST", path, &["content-type: application/json"], object.to_string()).await
    }
}
