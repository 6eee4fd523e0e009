//! A look into a component, through the tunnel that it keeps open: its metrics, queues, effects and informers.

use anyhow::{Result, bail};
use skiff_client::streams::{self, Channel, StreamEvent};
use skiff_client::tunnel::Close;
use skiff_proto::skiffv1::{HttpGet, StreamOpen, stream_open::Request};

use crate::session::Session;

/// What a component answers at a path. `node` is empty for those of the control plane.
pub async fn get(session: &Session, component: &str, node: &str, path: &str) -> Result<String> {
    let request = Request::HttpGet(HttpGet { path: path.to_owned() });
    let open = StreamOpen { component: component.to_owned(), node: node.to_owned(), request: Some(request) };
    let mut stream = streams::open(session.client(), open).await?;
    let mut text = Vec::new();
    while let Some(event) = stream.recv().await {
        match event {
            StreamEvent::Data { channel: Channel::Stdout, bytes } => text.extend_from_slice(&bytes),
            StreamEvent::Data { .. } | StreamEvent::End(_) => {}
            StreamEvent::Closed(Close::Failed { message, .. }) => bail!("{message}"),
            StreamEvent::Closed(_) => break,
        }
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}
