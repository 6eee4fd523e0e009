//! Small networks of the test's own: namespaces joined by links, with servers and clients in them.
//!
//! A socket belongs to the namespace in which it was made, whoever uses it afterwards. So a thread enters the
//! namespace, makes the socket and hands it out; no process runs inside.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};

/// How long anything may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(3);

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A network namespace, removed when dropped.
pub struct Namespace {
    pub name: String,
}

impl Namespace {
    pub fn new(what: &str) -> Namespace {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let namespace = Namespace { name: format!("skpx-{}-{number}-{what}", std::process::id()) };
        ip(&format!("netns add {}", namespace.name));
        namespace.ip("link set lo up");
        namespace
    }

    /// Runs `ip` inside.
    pub fn ip(&self, args: &str) {
        ip(&format!("-n {} {args}", self.name));
    }

    /// Runs any command inside; its output.
    pub fn run(&self, command: &str) -> String {
        run(&format!("ip netns exec {} {command}", self.name))
    }

    /// Does something in a thread that has entered.
    pub fn inside<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let path = format!("/run/netns/{}", self.name);
        let entered = move || {
            let file = fs::File::open(path).expect("the namespace is there");
            setns(file, CloneFlags::CLONE_NEWNET).expect("root may enter");
            work()
        };
        thread::spawn(entered).join().expect("the work does not panic")
    }

    /// Lets it pass packets on.
    pub fn forwards(&self) {
        self.inside(|| fs::write("/proc/sys/net/ipv4/ip_forward", "1")).expect("root may set it");
    }

    /// Connects; what the server says, or why not.
    pub fn get(&self, to: impl Into<Ipv4Addr>, port: u16) -> io::Result<String> {
        let to = SocketAddr::V4(SocketAddrV4::new(to.into(), port));
        self.inside(move || {
            let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        })
    }

    /// A UDP socket connected to this address.
    pub fn udp(&self, to: impl Into<Ipv4Addr>, port: u16) -> UdpSocket {
        let to = SocketAddrV4::new(to.into(), port);
        self.inside(move || {
            let socket = UdpSocket::bind("0.0.0.0:0").expect("any port");
            socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            socket.connect(to).expect("there is a route");
            socket
        })
    }

    /// Serves TCP and UDP on `port`: everybody is told this server's name and their own address.
    pub fn serve(&self, name: &str, port: u16) -> Server {
        let (tcp, udp) = self.inside(move || {
            let any = (Ipv4Addr::UNSPECIFIED, port);
            (TcpListener::bind(any).expect("a free port"), UdpSocket::bind(any).expect("a free port"))
        });
        let stop = Arc::new(AtomicBool::new(false));
        tcp.set_nonblocking(true).expect("a listener");
        udp.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout");
        let (name, stopped) = (name.to_owned(), stop.clone());
        let serve = move || {
            let mut buffer = [0; 64];
            while !stopped.load(Ordering::Relaxed) {
                while let Ok((mut stream, peer)) = tcp.accept() {
                    let _ = write!(stream, "{name} to {}", peer.ip());
                }
                if let Ok((_, peer)) = udp.recv_from(&mut buffer) {
                    let _ = udp.send_to(format!("{name} to {}", peer.ip()).as_bytes(), peer);
                }
            }
        };
        Server { stop, thread: Some(thread::spawn(serve)) }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

/// Says something and waits for the answer.
pub fn ask(socket: &UdpSocket) -> io::Result<String> {
    let mut buffer = [0; 64];
    socket.send(b"?")?;
    let length = socket.recv(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// A server that stops when dropped.
pub struct Server {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A node with two Pods of its own, a Pod behind it, and somebody outside.
pub struct Network {
    pub node: Namespace,
    pub pods: [Namespace; 2],
    pub outside: Namespace,
}

pub const NODE: Ipv4Addr = Ipv4Addr::new(10, 89, 0, 2);
pub const OUTSIDE: Ipv4Addr = Ipv4Addr::new(10, 89, 0, 1);
pub const PODS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 244, 0, 2), Ipv4Addr::new(10, 244, 0, 3)];

impl Network {
    pub fn new() -> Network {
        let network = Network {
            node: Namespace::new("node"),
            pods: [Namespace::new("pod0"), Namespace::new("pod1")],
            outside: Namespace::new("out"),
        };
        network.node.forwards();
        // The stranger's packets leave by the link they came on. A redirect for each would use up the few ICMP
        // messages that the kernel sends a host.
        network.node.run("sysctl -qw net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.default.send_redirects=0");
        let node = &network.node;
        for (at, (pod, address)) in network.pods.iter().zip(PODS).enumerate() {
            node.ip(&format!("link add pod{at} type veth peer name eth0 netns {}", pod.name));
            node.ip(&format!("addr add 10.244.0.1/32 dev pod{at}"));
            node.ip(&format!("link set pod{at} up"));
            node.ip(&format!("route add {address}/32 dev pod{at}"));
            pod.ip(&format!("addr add {address}/32 dev eth0"));
            pod.ip("link set eth0 up");
            pod.ip("route add 10.244.0.1 dev eth0 scope link");
            pod.ip("route add default via 10.244.0.1");
        }
        node.ip(&format!("link add out type veth peer name eth0 netns {}", network.outside.name));
        node.ip(&format!("addr add {NODE}/24 dev out"));
        node.ip("link set out up");
        network.outside.ip(&format!("addr add {OUTSIDE}/24 dev eth0"));
        network.outside.ip("link set eth0 up");
        node.ip(&format!("route add default via {OUTSIDE}"));
        network.outside.ip(&format!("route add 10.96.0.0/16 via {NODE}"));
        network
    }
}

fn ip(args: &str) {
    run(&format!("ip {args}"));
}

fn run(command: &str) -> String {
    let mut words = command.split(' ');
    let program = words.next().unwrap_or_default();
    let output = Command::new(program).args(words).output().unwrap_or_else(|e| panic!("{command}: {e}"));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {complaint}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
