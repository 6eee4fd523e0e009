//! `pods/portforward`: many connections to a Pod's ports over one of the user's. kubectl opens two streams of SPDY for
//! each, for data and for what went wrong, inside a WebSocket or not; other clients take two channels of a WebSocket
//! for each port.

use super::pipe::{Pipe, spdy_handshake};
use super::socket::{Socket, handshake};
use super::spdy::{Decoder, Encoder, Frame};
use super::wire::{Event, Wire, refusal};
use crate::registry::{ApiError, ApiResult};
use crate::rest::Rest;
use crate::rest::path::Place;
use crate::rest::query::Query;
use crate::rest::respond::Answer;
use bytes::{Buf, Bytes};
use http::Request;
use skiff_proto::skiffv1::stream_data::Channel;
use skiff_proto::skiffv1::{PortForwardRequest, stream_open};
use skiff_world::Identity;
use std::collections::{BTreeMap, VecDeque};
use tokio::sync::mpsc;
use tonic::body::Body;

const CHANNELS: &str = "v4.channel.k8s.io";
const TUNNELLED: &str = "SPDY/3.1+portforward.k8s.io";
const PORT_FORWARD: &str = "portforward.k8s.io";
/// Pieces that may wait for one connection, and for the user.
const WAITING: usize = 16;
/// Connections at once over one of the user's.
const CONNECTIONS: usize = 128;

/// Names a connection: the request's number, or the port's place in the list.
type Key = String;

/// What the user says.
enum Input {
    /// A connection to a port begins.
    Open(Key, u16),
    Data(Key, Bytes),
    /// Nothing follows.
    End(Key),
}

/// What a connection says.
enum Output {
    Data(Bytes),
    /// It is over; if not well, with words.
    Closed(Option<String>),
}

/// What goes to a connection.
type ToConnection = mpsc::Sender<Option<Bytes>>;

impl Rest {
    /// Forwards ports.
    pub(super) async fn port_forward(
        &self,
        identity: &Identity,
        place: &Place,
        query: &Query,
        mut request: Request<Body>,
    ) -> ApiResult<Answer> {
        // Whoever may not do this, or to a Pod that is not there, is told so now; ports are only named later.
        self.tunnels.may_forward(identity, &place.namespace, &place.name).await?;
        let dialer = Dialer { rest: self.clone(), identity: identity.clone(), place: place.clone() };
        if let Some(upgrade) = spdy_handshake(&mut request, &[PORT_FORWARD]) {
            let (answer, opened) = upgrade.grant();
            self.converse("port-forward", place, async move {
                if let Some(pipe) = opened.await {
                    forward(Speech::Spdy(Box::new(Streams::new(pipe))), dialer).await;
                }
            });
            return Ok(answer);
        }
        let upgrade = handshake(&mut request, &[TUNNELLED, CHANNELS])?;
        let protocol = upgrade.protocol;
        let ports = ports(query, protocol)?;
        let (answer, opened) = upgrade.grant();
        self.converse("port-forward", place, async move {
            let Some(socket) = opened.await else { return };
            let speech = match protocol {
                TUNNELLED => Speech::Spdy(Box::new(Streams::new(Pipe::Socket(Box::new(socket))))),
                _ => Speech::Channels(Box::new(Numbered { socket, ports, begun: 0, over: 0 })),
            };
            forward(speech, dialer).await;
        });
        Ok(answer)
    }
}

/// The ports of a request that names them in its query.
fn ports(query: &Query, protocol: &str) -> ApiResult<Vec<u16>> {
    let named = query.all("ports");
    let ports: Result<Vec<u16>, _> = named.iter().flat_map(|list| list.split(',')).map(|p| p.trim().parse()).collect();
    match ports {
        Ok(ports) if protocol == TUNNELLED || (1..=CONNECTIONS / 2).contains(&ports.len()) => Ok(ports),
        _ => Err(ApiError::bad_request(format!("ports: {:?} are not ports to forward", named.join(",")))),
    }
}

/// Opens connections to a Pod's ports.
#[derive(Clone)]
struct Dialer {
    rest: Rest,
    identity: Identity,
    place: Place,
}

impl Dialer {
    async fn dial(&self, port: u16) -> ApiResult<Wire> {
        let request = PortForwardRequest {
            namespace: self.place.namespace.clone(),
            pod: self.place.name.clone(),
            port: port.into(),
            pod_uid: String::new(),
            by_address: false,
        };
        self.rest.dial(&self.identity, stream_open::Request::PortForward(request)).await
    }
}

/// Serves a user until they are gone. What comes from the connections is always taken, so nobody waits in a circle.
async fn forward(mut speech: Speech, dialer: Dialer) {
    let (out, mut outputs) = mpsc::channel::<(Key, Output)>(WAITING);
    let mut connections: BTreeMap<Key, ToConnection> = BTreeMap::new();
    // A piece for a connection that has no room for it; meanwhile the user is not listened to.
    let mut held: Option<(ToConnection, Option<Bytes>)> = None;
    loop {
        let input = tokio::select! {
            biased;
            Some((key, output)) = outputs.recv() => {
                if matches!(output, Output::Closed(_)) {
                    connections.remove(&key);
                }
                match speech.tell(&key, output).await {
                    Some(()) => continue,
                    None => return speech.close().await,
                }
            }
            () = room(&mut held) => continue,
            input = speech.next(), if held.is_none() => input,
        };
        match input {
            None => return speech.close().await,
            Some(Input::Open(key, port)) => {
                let (to, from_user) = mpsc::channel(WAITING);
                let (out, dialer) = (out.clone(), dialer.clone());
                if connections.len() >= CONNECTIONS {
                    let words = format!("{CONNECTIONS} connections are open already");
                    if speech.tell(&key, Output::Closed(Some(words))).await.is_none() {
                        return;
                    }
                    continue;
                }
                connections.insert(key.clone(), to);
                let world = dialer.rest.world.clone();
                world.spawn("port-forward connection", connect(dialer, key, port, from_user, out));
            }
            Some(Input::Data(key, data)) => held = connections.get(&key).map(|to| (to.clone(), Some(data))),
            Some(Input::End(key)) => held = connections.get(&key).map(|to| (to.clone(), None)),
        }
    }
}

/// Completes when what is held has been passed on.
async fn room(held: &mut Option<(ToConnection, Option<Bytes>)>) {
    let Some((to, _)) = held.as_ref() else { return std::future::pending().await };
    let to = to.clone();
    let permit = to.reserve().await;
    if let (Ok(permit), Some((_, piece))) = (permit, held.take()) {
        permit.send(piece);
    }
}

/// One connection to a port, until either end is done with it.
async fn connect(
    dialer: Dialer,
    key: Key,
    port: u16,
    mut from_user: mpsc::Receiver<Option<Bytes>>,
    out: mpsc::Sender<(Key, Output)>,
) {
    let failed = match dialer.dial(port).await {
        Ok(mut wire) => pump(&mut wire, &key, &mut from_user, &out).await,
        Err(error) => Some(error),
    };
    let words = failed.map(|error| format!("an error occurred forwarding port {port}: {}", error.message()));
    let _ = out.send((key, Output::Closed(words))).await;
}

async fn pump(
    wire: &mut Wire,
    key: &Key,
    from_user: &mut mpsc::Receiver<Option<Bytes>>,
    out: &mpsc::Sender<(Key, Output)>,
) -> Option<ApiError> {
    let mut held = Bytes::new();
    loop {
        tokio::select! {
            biased;
            event = wire.next() => match event {
                Event::Data(_, data) => out.send((key.clone(), Output::Data(data))).await.ok()?,
                Event::Credit => held = wire.send(Channel::Stdin, std::mem::take(&mut held)).await,
                Event::End => {}
                Event::Closed(close) => return close.failed.then(|| refusal(&close)),
            },
            piece = from_user.recv(), if held.is_empty() => match piece {
                Some(Some(data)) => held = wire.send(Channel::Stdin, data).await,
                Some(None) => wire.end(Channel::Stdin).await,
                // The user is gone; dropping the wire says so.
                None => return None,
            },
        }
    }
}

/// How a user speaks of connections.
enum Speech {
    Spdy(Box<Streams>),
    Channels(Box<Numbered>),
}

impl Speech {
    async fn next(&mut self) -> Option<Input> {
        match self {
            Speech::Spdy(streams) => streams.next().await,
            Speech::Channels(numbered) => numbered.next().await,
        }
    }

    async fn tell(&mut self, key: &Key, output: Output) -> Option<()> {
        match self {
            Speech::Spdy(streams) => streams.tell(key, output).await,
            Speech::Channels(numbered) => numbered.tell(key, output).await,
        }
    }

    async fn close(self) {
        match self {
            Speech::Spdy(streams) => streams.pipe.close().await,
            Speech::Channels(numbered) => numbered.socket.close().await,
        }
    }
}

/// Two streams of SPDY a connection.
struct Streams {
    pipe: Pipe,
    decoder: Decoder,
    encoder: Encoder,
    /// By request: the stream for data, and the one for errors.
    requests: BTreeMap<Key, (Option<u32>, Option<u32>)>,
    waiting: VecDeque<Input>,
}

impl Streams {
    fn new(pipe: Pipe) -> Self {
        let (decoder, encoder, requests, waiting) = Default::default();
        Self { pipe, decoder, encoder, requests, waiting }
    }

    async fn next(&mut self) -> Option<Input> {
        loop {
            if let Some(input) = self.waiting.pop_front() {
                return Some(input);
            }
            match self.decoder.next().ok()? {
                Some(frame) => self.take(frame).await?,
                None => {
                    let bytes = self.pipe.read().await?;
                    self.decoder.feed(&bytes);
                }
            }
        }
    }

    fn key(&self, stream: u32) -> Option<Key> {
        self.requests.iter().find(|(_, (data, _))| *data == Some(stream)).map(|(key, _)| key.clone())
    }

    async fn take(&mut self, frame: Frame) -> Option<()> {
        match frame {
            Frame::Open { stream, headers } => self.open(stream, &headers).await?,
            Frame::Data { stream, data, end } => {
                // What comes on a stream for errors says nothing.
                if let Some(key) = self.key(stream) {
                    if !data.is_empty() {
                        self.waiting.push_back(Input::Data(key.clone(), data));
                    }
                    if end {
                        self.waiting.push_back(Input::End(key));
                    }
                }
            }
            Frame::Reset(stream) => {
                if let Some(key) = self.key(stream) {
                    self.waiting.push_back(Input::End(key));
                }
            }
            Frame::Ping(ping) => self.pipe.write(self.encoder.pong(ping)).await?,
            Frame::GoAway => return None,
            Frame::Other => {}
        }
        Some(())
    }

    async fn open(&mut self, stream: u32, headers: &[(String, String)]) -> Option<()> {
        let find = |name: &str| headers.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value.as_str());
        let (kind, key) = (find("streamtype"), find("requestid").to_string());
        let port = find("port").parse::<u16>().ok().filter(|port| *port > 0);
        let known = self.requests.contains_key(&key);
        let Some(port) =
            port.filter(|_| matches!(kind, "data" | "error") && (known || self.requests.len() < 2 * CONNECTIONS))
        else {
            return self.pipe.write(self.encoder.reset(stream)).await;
        };
        let request = self.requests.entry(key.clone()).or_default();
        match kind {
            "error" => request.1 = Some(stream),
            _ => {
                request.0 = Some(stream);
                self.waiting.push_back(Input::Open(key, port));
            }
        }
        let reply = self.encoder.reply(stream);
        self.pipe.write(reply).await
    }

    async fn tell(&mut self, key: &Key, output: Output) -> Option<()> {
        let (data, error) = self.requests.get(key).copied().unwrap_or_default();
        match output {
            Output::Data(bytes) => match data {
                Some(stream) => self.pipe.write(self.encoder.data(stream, &bytes, false)).await,
                None => Some(()),
            },
            Output::Closed(words) => {
                self.requests.remove(key);
                if let Some(stream) = error {
                    let words = words.unwrap_or_default();
                    self.pipe.write(self.encoder.data(stream, words.as_bytes(), true)).await?;
                }
                match data {
                    Some(stream) => self.pipe.write(self.encoder.data(stream, b"", true)).await,
                    None => Some(()),
                }
            }
        }
    }
}

/// Two channels of a WebSocket for each port: an even one for data, an odd one for errors. Each begins with the port.
struct Numbered {
    socket: Socket,
    ports: Vec<u16>,
    /// As many ports have been opened.
    begun: usize,
    /// As many connections are over.
    over: usize,
}

impl Numbered {
    async fn next(&mut self) -> Option<Input> {
        if let Some(port) = self.ports.get(self.begun).copied() {
            let index = self.begun;
            self.begun += 1;
            for channel in [2 * index, 2 * index + 1] {
                self.socket.send(u8::try_from(channel).ok()?, &port.to_le_bytes()).await?;
            }
            return Some(Input::Open(index.to_string(), port));
        }
        loop {
            let mut message = self.socket.next().await?;
            if message.remaining() > 1 && message[0] % 2 == 0 {
                let index = message.get_u8() / 2;
                return Some(Input::Data(index.to_string(), message));
            }
        }
    }

    async fn tell(&mut self, key: &Key, output: Output) -> Option<()> {
        let index: u8 = key.parse().ok()?;
        match output {
            Output::Data(data) => self.socket.send(2 * index, &data).await,
            Output::Closed(words) => {
                if let Some(words) = words {
                    self.socket.send(2 * index + 1, words.as_bytes()).await?;
                }
                // There is no way to close one channel here: the user reads on until all connections are over.
                self.over += 1;
                (self.over < self.ports.len()).then_some(())
            }
        }
    }
}
