//! The real machine: the operating system's clock, network and files, and pipes inside the process.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::mpsc;

use crate::connection::Accepting;
use crate::host::{Host, Random, locked};
use crate::{Address, Connection, Disk, ProcessStats, World, pipe};

/// How many connections to a pipe may wait to be accepted.
const BACKLOG: usize = 128;

type Listeners = Arc<Mutex<BTreeMap<String, mpsc::Sender<Connection>>>>;

pub(crate) struct RealHost {
    /// The pipes of this World's family; other families in the process have their own.
    listeners: Listeners,
}

impl RealHost {
    pub(crate) fn new() -> RealHost {
        RealHost { listeners: Arc::default() }
    }

    async fn connect_pipe(&self, from: &World, name: &str) -> io::Result<Connection> {
        let refused = || io::Error::new(io::ErrorKind::ConnectionRefused, format!("nobody listens on pipe://{name}"));
        let listener = locked(&self.listeners).get(name).cloned().ok_or_else(refused)?;
        let (near, far) = pipe::pair(0, None);
        let far = Connection::pipe(far, from.component().to_owned(), from.identity().cloned());
        listener.send(far).await.map_err(|_| refused())?;
        Ok(Connection::pipe(near, format!("pipe://{name}"), None))
    }

    fn listen_pipe(&self, name: &str) -> io::Result<PipeListener> {
        let mut listeners = locked(&self.listeners);
        if listeners.get(name).is_some_and(|listener| !listener.is_closed()) {
            return Err(in_use(&Address::Pipe(name.to_owned())));
        }
        let (sender, incoming) = mpsc::channel(BACKLOG);
        listeners.insert(name.to_owned(), sender);
        Ok(PipeListener { incoming, name: name.to_owned(), listeners: self.listeners.clone() })
    }
}

fn in_use(address: &Address) -> io::Error {
    io::Error::new(io::ErrorKind::AddrInUse, format!("somebody listens on {address} already"))
}

#[async_trait]
impl Host for RealHost {
    fn wall(&self) -> jiff::Timestamp {
        jiff::Timestamp::now()
    }

    fn random(&self, _component: &str) -> Random {
        Random::system()
    }

    fn blocks_inline(&self) -> bool {
        false
    }

    fn process(&self) -> Option<ProcessStats> {
        ProcessStats::of_this_process().ok()
    }

    async fn connect(&self, from: &World, to: &Address) -> io::Result<Connection> {
        match to {
            Address::Tcp(host) => Connection::tcp(TcpStream::connect(host).await?, host.clone()),
            Address::Unix(path) => Ok(Connection::unix(UnixStream::connect(path).await?, to.to_string())),
            Address::Pipe(name) => self.connect_pipe(from, name).await,
        }
    }

    async fn listen(&self, _world: &World, on: &Address) -> io::Result<Box<dyn Accepting>> {
        Ok(match on {
            Address::Tcp(host) => Box::new(TcpListener::bind(host).await?),
            Address::Unix(path) => Box::new(UnixSocket::bind(path).await?),
            Address::Pipe(name) => Box::new(self.listen_pipe(name)?),
        })
    }

    fn disk(&self) -> Disk {
        Disk::real()
    }
}

#[async_trait]
impl Accepting for TcpListener {
    async fn accept(&mut self) -> io::Result<Connection> {
        let (stream, peer) = TcpListener::accept(self).await?;
        Connection::tcp(stream, peer.to_string())
    }

    fn local(&self) -> Option<Address> {
        Some(Address::Tcp(self.local_addr().ok()?.to_string()))
    }
}

/// A Unix socket that takes the place of one left behind by a dead process, and leaves none.
struct UnixSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl UnixSocket {
    async fn bind(path: &Path) -> io::Result<UnixSocket> {
        let left_behind = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
        if left_behind {
            if UnixStream::connect(path).await.is_ok() {
                return Err(in_use(&Address::Unix(path.to_owned())));
            }
            std::fs::remove_file(path)?;
        }
        Ok(UnixSocket { listener: UnixListener::bind(path)?, path: path.to_owned() })
    }
}

#[async_trait]
impl Accepting for UnixSocket {
    async fn accept(&mut self) -> io::Result<Connection> {
        let (stream, _) = self.listener.accept().await?;
        Ok(Connection::unix(stream, format!("unix://{}", self.path.display())))
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = std::fs::remove_file(&self.path);
    }
}

struct PipeListener {
    incoming: mpsc::Receiver<Connection>,
    name: String,
    listeners: Listeners,
}

#[async_trait]
impl Accepting for PipeListener {
    async fn accept(&mut self) -> io::Result<Connection> {
        self.incoming.recv().await.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Drop for PipeListener {
    fn drop(&mut self) {
        self.incoming.close();
        let mut listeners = locked(&self.listeners);
        // A successor may hold the name already.
        if listeners.get(&self.name).is_some_and(mpsc::Sender::is_closed) {
            listeners.remove(&self.name);
        }
    }
}
