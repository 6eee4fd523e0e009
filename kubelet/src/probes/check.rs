//! One question to a container: an HTTP request, a TCP connection, a command. Hooks (postStart, preStop) ask the same way.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use skiff_proto::IntOrString;
use skiff_proto::corev1::{Container, HttpGetAction, LifecycleHandler, ProbeHandler, TcpSocketAction};
use skiff_world::{Address, World};

use crate::runtime::{ContainerRuntime, RuntimeError, run_command};

/// How much of an answer is read: enough for a message.
const BODY_LIMIT: usize = 10 * 1024;

/// What is asked.
#[derive(Clone, Debug)]
pub enum Question {
    /// a command; exit code 0 is yes
    Exec(Vec<String>),
    /// a request; 200 to 399 is yes
    Http(Box<HttpGetAction>),
    /// a connection
    Tcp(Box<TcpSocketAction>),
    /// nothing but time (preStop: sleep)
    Sleep(Duration),
    /// something that is not spoken here, in words
    Unknown(&'static str),
}

impl Question {
    /// A probe's.
    pub fn of_probe(handler: &ProbeHandler) -> Question {
        if let Some(exec) = &handler.exec {
            Question::Exec(exec.command.clone())
        } else if let Some(get) = &handler.http_get {
            Question::Http(get.clone())
        } else if let Some(tcp) = &handler.tcp_socket {
            Question::Tcp(tcp.clone())
        } else {
            Question::Unknown("gRPC probes are not spoken here; use httpGet, tcpSocket or exec")
        }
    }

    /// A hook's.
    pub fn of_hook(handler: &LifecycleHandler) -> Question {
        if let Some(exec) = &handler.exec {
            Question::Exec(exec.command.clone())
        } else if let Some(get) = &handler.http_get {
            Question::Http(get.clone())
        } else if let Some(sleep) = &handler.sleep {
            Question::Sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0)))
        } else if let Some(tcp) = &handler.tcp_socket {
            Question::Tcp(tcp.clone())
        } else {
            Question::Unknown("the hook names nothing to do")
        }
    }
}

/// Whom it is asked of.
#[derive(Clone, Debug)]
pub struct Target {
    /// the container's id
    pub id: String,
    /// the Pod's address, or the node's with hostNetwork
    pub ip: IpAddr,
    /// the container, for the names of its ports
    pub container: Container,
}

/// Asks once. `Err` says in words what is wrong with the answer.
pub async fn ask(
    world: &World,
    runtime: &dyn ContainerRuntime,
    target: &Target,
    question: &Question,
    limit: Duration,
) -> Result<(), String> {
    match question {
        Question::Exec(command) => exec(runtime, target, command, limit).await,
        Question::Http(get) => within(limit, http(world, target, get)).await,
        Question::Tcp(tcp) => within(limit, connect(world, target, tcp)).await,
        Question::Sleep(time) => {
            world.sleep((*time).min(limit)).await;
            Ok(())
        }
        Question::Unknown(words) => Err((*words).to_string()),
    }
}

async fn within(limit: Duration, ask: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    match tokio::time::timeout(limit, ask).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("no answer within {} s", limit.as_secs_f64())),
    }
}

async fn exec(
    runtime: &dyn ContainerRuntime,
    target: &Target,
    command: &[String],
    limit: Duration,
) -> Result<(), String> {
    match run_command(runtime, &target.id, command, limit).await {
        Ok((0, _)) => Ok(()),
        Ok((code, output)) if output.trim().is_empty() => Err(format!("the command ended with code {code}")),
        Ok((_, output)) => Err(output.trim().to_string()),
        Err(RuntimeError::Timeout { .. }) => Err(format!("command timed out after {} s", limit.as_secs_f64())),
        Err(error) => Err(error.to_string()),
    }
}

/// The number of a port that may be given by name.
pub fn port(container: &Container, port: &IntOrString) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::Str(name) => {
            let named = container.ports.iter().find(|port| port.name == *name).map(|port| port.container_port);
            named.or_else(|| name.parse().ok())
        }
    };
    number
        .and_then(|number| u16::try_from(number).ok())
        .filter(|number| *number > 0)
        .ok_or_else(|| format!("the container has no port {port}"))
}

/// Host and port, as they stand in a URL.
fn authority(target: &Target, host: &str, port: u16) -> String {
    let ip = target.ip.to_string();
    let host = if host.is_empty() { &ip } else { host };
    let bracketed = host.contains(':') && !host.starts_with('[');
    if bracketed { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

async fn connect(world: &World, target: &Target, tcp: &TcpSocketAction) -> Result<(), String> {
    let to = authority(target, &tcp.host, port(&target.container, &tcp.port)?);
    world.connect(&Address::Tcp(to.clone())).await.map(|_| ()).map_err(|error| format!("dial tcp {to}: {error}"))
}

async fn http(world: &World, target: &Target, get: &HttpGetAction) -> Result<(), String> {
    if get.scheme.eq_ignore_ascii_case("https") {
        // As Kubernetes does, a probe would have to accept any certificate; what can be known without is that it listens.
        let tcp = TcpSocketAction { port: get.port.clone(), host: get.host.clone() };
        return connect(world, target, &tcp).await;
    }
    let number = port(&target.container, &get.port)?;
    let to = authority(target, &get.host, number);
    let words = |error: &dyn std::fmt::Display| format!("Get \"http://{to}{}\": {error}", get.path);
    let connection = world.connect(&Address::Tcp(to.clone())).await.map_err(|e| words(&e))?;
    let (mut sender, driver) =
        hyper::client::conn::http1::handshake(TokioIo::new(connection)).await.map_err(|e| words(&e))?;
    let path = if get.path.starts_with('/') { get.path.clone() } else { format!("/{}", get.path) };
    let mut request = http::Request::get(path).header("connection", "close");
    let named = get.http_headers.iter().any(|header| header.name.eq_ignore_ascii_case("host"));
    if !named {
        request = request.header("host", format!("{}:{number}", target.ip));
    }
    if !get.http_headers.iter().any(|header| header.name.eq_ignore_ascii_case("user-agent")) {
        request = request.header("user-agent", concat!("kube-probe/skiff-", env!("CARGO_PKG_VERSION")));
    }
    for header in &get.http_headers {
        request = request.header(header.name.as_str(), header.value.as_str());
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|e| words(&e))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|e| words(&e))?;
        let code = response.status().as_u16();
        // A redirect counts as an answer; it is not followed, least of all to another host.
        if (200..400).contains(&code) {
            return Ok(());
        }
        let body = Limited::new(response.into_body(), BODY_LIMIT).collect().await;
        let text = body.map(|body| String::from_utf8_lossy(&body.to_bytes()).trim().to_string()).unwrap_or_default();
        let more =
            if text.is_empty() { String::new() } else { format!(": {}", text.lines().next().unwrap_or_default()) };
        Err(format!("HTTP probe failed with statuscode: {code}{more}"))
    };
    // The connection may end together with the answer; it is the answer that counts. If there is none, the exchange
    // itself says so.
    let driven = async {
        let _ = driver.await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        biased;
        answer = exchange => answer,
        () = driven => Err("the connection ended".to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skiff_proto::corev1::ContainerPort;

    #[test]
    fn ports_by_number_and_name() {
        let named = ContainerPort { name: "web".into(), container_port: 8080, ..Default::default() };
        let container = Container { ports: vec![named], ..Container::default() };
        assert_eq!(port(&container, &IntOrString::Int(80)), Ok(80));
        assert_eq!(port(&container, &IntOrString::Str("web".into())), Ok(8080));
        assert_eq!(port(&container, &IntOrString::Str("9090".into())), Ok(9090));
        for wrong in [IntOrString::Int(0), IntOrString::Int(70_000), IntOrString::Str("db".into())] {
            assert!(port(&container, &wrong).is_err(), "{wrong}");
        }
    }
}
