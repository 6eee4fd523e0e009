//! `port-forward`: ports of this machine that lead to a Pod, through the API server and the tunnel of
//! its node. Each connection is a stream of its own.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::Value;
use skiff_client::Client;
use skiff_client::streams::{self, Channel, StreamEvent};
use skiff_client::tunnel::Close;
use skiff_proto::skiffv1::{PortForwardRequest, StreamOpen, stream_open::Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::columns::{list, number, text};
use crate::output;
use crate::pod::pod_of;
use crate::session::Session;
use crate::target;

/// What `port-forward` takes.
#[derive(Args, Debug)]
pub struct Options {
    /// `POD` or `TYPE/NAME`.
    what: String,
    /// `PORT`, `LOCAL:REMOTE`, or `:REMOTE` for any local port that is free; remote ports may be names.
    #[arg(required = true)]
    ports: Vec<String>,
    /// Where to listen: addresses, or `localhost`.
    #[arg(long, value_delimiter = ',', default_value = "localhost")]
    address: Vec<String>,
}

/// One pair of ports.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pair {
    /// 0: any that is free; none: the same as the Pod's.
    local: Option<u16>,
    remote: String,
}

/// Listens until interrupted.
pub async fn run(session: &Session, options: Options) -> Result<ExitCode> {
    let pairs: Vec<Pair> = options.ports.iter().map(|p| parse(p)).collect::<Result<_>>()?;
    let name = pod_of(session, &options.what).await?;
    let pods = session.resource("", "pods").await?;
    let pod = session.api(&pods, false).get(session.namespace(), &name).await?;
    let phase = text(&pod, "/status/phase");
    if phase != "Running" {
        bail!("unable to forward port because pod is not running. Current status={phase}");
    }
    let service = service(session, &options.what).await?;
    let mut accepting = vec![];
    for pair in pairs {
        let port = remote_port(&pair.remote, &pod, service.as_ref())?;
        let local = pair.local.unwrap_or(port);
        let request = Arc::new(PortForwardRequest {
            namespace: session.namespace().to_owned(),
            pod: name.clone(),
            port: port.into(),
            ..PortForwardRequest::default()
        });
        let mut listening = 0;
        for address in addresses(&options.address) {
            match TcpListener::bind((address.as_str(), local)).await {
                Ok(listener) => {
                    let at = listener.local_addr().context("ask for the local port")?;
                    output::line(format!("Forwarding from {at} -> {port}"))?;
                    accepting.push(accept(session, listener, request.clone()));
                    listening += 1;
                }
                // Machines without IPv6 have no ::1.
                Err(_) if address == "::1" && listening > 0 => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("unable to listen on port {local} of {address}"));
                }
            }
        }
    }
    futures::future::join_all(accepting).await;
    Ok(ExitCode::SUCCESS)
}

/// `localhost` is both loopback addresses, as browsers have it.
fn addresses(given: &[String]) -> Vec<String> {
    let mut all = vec![];
    for address in given {
        match address.as_str() {
            "localhost" => all.extend(["127.0.0.1".to_owned(), "::1".to_owned()]),
            other => all.push(other.to_owned()),
        }
    }
    all
}

fn parse(text: &str) -> Result<Pair> {
    let wrong = || format!("{text:?}: expected PORT, LOCAL:REMOTE or :REMOTE");
    let (local, remote) = text.split_once(':').unwrap_or((text, text));
    let is_name = |port: &str| !port.bytes().all(|b| b.is_ascii_digit());
    let local = match local {
        "" => Some(0),
        name if !text.contains(':') && is_name(name) => None,
        number => Some(number.parse().with_context(wrong)?),
    };
    if !remote.parse::<u16>().map_or(is_name(remote), |number| number > 0) {
        bail!(wrong());
    }
    Ok(Pair { local, remote: remote.to_owned() })
}

/// The Service, if one was named.
async fn service(session: &Session, what: &str) -> Result<Option<Value>> {
    if !what.contains('/') {
        return Ok(None);
    }
    let (resource, name) = target::parse_one(session, &[what.to_owned()]).await?;
    if resource.kind != "Service" {
        return Ok(None);
    }
    Ok(Some(session.api(&resource, false).get(session.namespace(), &name).await?))
}

/// The Pod's port: a Service's port leads to its target, a name to the container's port of it.
fn remote_port(remote: &str, pod: &Value, service: Option<&Value>) -> Result<u16> {
    let mut wanted = remote.to_owned();
    if let Some(service) = service {
        let ports = list(service, "/spec/ports");
        let Some(port) = ports.iter().find(|p| text(p, "/port") == remote || text(p, "/name") == remote) else {
            let all: Vec<String> = ports.iter().map(|p| text(p, "/port")).collect();
            bail!(
                "service {} does not have a service port {remote}; it has {}",
                text(service, "/metadata/name"),
                all.join(", ")
            );
        };
        wanted = match text(port, "/targetPort") {
            same if same.is_empty() || same == "0" => text(port, "/port"),
            target => target,
        };
    }
    if let Ok(number) = wanted.parse() {
        return Ok(number);
    }
    let ports = list(pod, "/spec/containers").iter().flat_map(|c| list(c, "/ports"));
    match ports.clone().find(|p| text(p, "/name") == wanted) {
        Some(port) => Ok(u16::try_from(number(port, "/containerPort")).unwrap_or_default()),
        None => {
            let all: Vec<String> = ports.map(|p| text(p, "/name")).filter(|n| !n.is_empty()).collect();
            bail!(
                "pod {} does not have a named port {wanted:?}; it has: {}",
                text(pod, "/metadata/name"),
                if all.is_empty() { "none".to_owned() } else { all.join(", ") }
            )
        }
    }
}

/// Takes connections for ever.
async fn accept(session: &Session, listener: TcpListener, request: Arc<PortForwardRequest>) {
    let port = listener.local_addr().map(|a| a.port()).unwrap_or_default();
    loop {
        match listener.accept().await {
            Ok((connection, _)) => {
                // What cannot be written is only a remark.
                let _ = output::line(format!("Handling connection for {port}"));
                let (client, request) = (session.client().clone(), request.clone());
                session.world().spawn("forwarded connection", async move {
                    if let Err(error) = forward(&client, connection, &request).await {
                        eprintln!("error: forwarding {port} -> {}: {error:#}", request.port);
                    }
                });
            }
            Err(error) => {
                // As when there are no descriptors left: others are closed meanwhile.
                eprintln!("error: take a connection on {port}: {error}");
                session.world().sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

/// Carries one connection until both ends have said all.
async fn forward(client: &Client, connection: TcpStream, request: &PortForwardRequest) -> Result<()> {
    let open = StreamOpen {
        component: "kubelet".to_owned(),
        request: Some(Request::PortForward(request.clone())),
        ..StreamOpen::default()
    };
    let (sender, mut receiver) = streams::open(client, open).await?.split();
    let (mut from_user, mut to_user) = connection.into_split();
    let outward = async {
        let mut buffer = vec![0; 16 << 10];
        while let Ok(length @ 1..) = from_user.read(&mut buffer).await {
            if sender.send(Channel::Stdin, buffer[..length].to_vec()).await.is_err() {
                return;
            }
        }
        // An error means that the Pod has closed.
        let _ = sender.end(Channel::Stdin).await;
        std::future::pending::<()>().await;
    };
    let inward = async {
        while let Some(event) = receiver.recv().await {
            match event {
                // A user who has gone takes no more; the stream ends with this.
                StreamEvent::Data { bytes, .. } if to_user.write_all(&bytes).await.is_err() => return Ok(()),
                StreamEvent::Data { .. } => {}
                StreamEvent::End(_) => drop(to_user.shutdown().await),
                StreamEvent::Closed(Close::Failed { message, .. }) => bail!("{message}"),
                StreamEvent::Closed(_) => return Ok(()),
            }
        }
        Ok(())
    };
    tokio::select! {
        biased;
        ended = inward => ended,
        () = outward => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ports_are_pairs_numbers_or_names() {
        for (text, local, remote) in [
            ("80", Some(80), "80"),
            ("8080:80", Some(8080), "80"),
            (":80", Some(0), "80"),
            ("8080:http", Some(8080), "http"),
            ("http", None, "http"),
        ] {
            assert_eq!(parse(text).unwrap(), Pair { local, remote: remote.to_owned() }, "{text}");
        }
        for text in ["", "8080:", "x:80", "70000", "80:0", "0", "80:99999"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_services_port_leads_to_its_target() {
        let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"ports": [{"name": "http", "containerPort": 8080}]}]}});
        let service = json!({"metadata": {"name": "s"}, "spec": {"ports": [
            {"port": 80, "targetPort": "http", "name": "web"}, {"port": 81, "targetPort": 9}, {"port": 82},
        ]}});
        for (remote, of, expected) in [
            ("80", None, Some(80)),
            ("http", None, Some(8080)),
            ("web", None, None),
            ("80", Some(&service), Some(8080)),
            ("web", Some(&service), Some(8080)),
            ("81", Some(&service), Some(9)),
            ("82", Some(&service), Some(82)),
            ("83", Some(&service), None),
        ] {
            assert_eq!(remote_port(remote, &pod, of).ok(), expected, "{remote}");
        }
    }
}
