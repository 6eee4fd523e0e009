//! One small static program for the examples and the tests: an HTTP front with a counter behind it,
//! TCP and UDP echo, and the ways in which programs misbehave.
//!
//! Every server answers `GET /healthz`, can be told to fail it (`POST /health/off`, `/health/on`),
//! and shuts down gracefully: at SIGTERM it fails its health, serves on for `--drain`, then ends.
#![expect(clippy::disallowed_methods, reason = "a plain threaded program, not a component of Skiff")]

mod api;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "demo", about = "Serves, counts, echoes and misbehaves, for examples and tests")]
struct Arguments {
    /// How long to serve on after SIGTERM, in milliseconds: longer than it takes for Services to
    /// stop sending here.
    #[arg(long, global = true, default_value_t = 2000)]
    drain: u64,
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Subcommand)]
enum Mode {
    /// A page that counts its visitors through the counter.
    Front {
        #[arg(long, default_value = "0.0.0.0:8080")]
        listen: String,
        /// HOST:PORT of the counter; default: what the Service `counter` gives in the environment.
        #[arg(long)]
        counter: Option<String>,
        /// Printed on the page: tells one version from the next in a rollout.
        #[arg(long, default_value = "v1")]
        release: String,
    },
    /// Counts: every GET of `/increment` is one more.
    Counter {
        #[arg(long, default_value = "0.0.0.0:8081")]
        listen: String,
    },
    /// Echoes what it gets, on TCP and UDP. The reply begins with the host's name.
    Echo {
        #[arg(long, default_value = "0.0.0.0:7000")]
        listen: String,
    },
    /// Ends with a code, after a while.
    Exit {
        code: u8,
        #[arg(long, default_value_t = 0)]
        after_ms: u64,
    },
    /// Holds so much memory, then sleeps.
    Memory { mebibytes: usize },
    /// Prints numbered lines, then sleeps.
    Print {
        lines: u64,
        #[arg(long, default_value_t = 0)]
        every_ms: u64,
        /// To standard error instead.
        #[arg(long)]
        stderr: bool,
    },
    /// Prints a file.
    Cat { path: String },
    /// Prints the environment, a variable a line.
    Env,
    /// Copies standard input to standard output.
    Copy,
    /// Gets a URL `http://HOST:PORT/PATH`, prints the body; exit code 1 when it fails.
    Get { url: String },
    /// Asks the API server, as this Pod's service account, for a path (`{namespace}` is the Pod's own); prints the answer.
    Api { path: String },
    /// Asks the API server who this Pod is; prints the answer.
    Whoami,
    /// Sleeps until it is told to end.
    Sleep,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let drain = Duration::from_millis(arguments.drain);
    match run(arguments.mode, drain) {
        Ok(code) => code,
        Err(e) => {
            eprintln!("demo: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(mode: Mode, drain: Duration) -> std::io::Result<ExitCode> {
    match mode {
        Mode::Front { listen, counter, release } => {
            let counter = counter.or_else(counter_from_environment);
            let host = host_name();
            serve(&listen, drain, move |path| page(path, &host, &release, counter.as_deref()))?;
        }
        Mode::Counter { listen } => {
            let count = AtomicU64::new(0);
            serve(&listen, drain, move |path| match path {
                "/increment" => (200, format!("{}\n", count.fetch_add(1, Ordering::SeqCst) + 1)),
                "/" => (200, format!("{}\n", count.load(Ordering::SeqCst))),
                _ => (404, "not found\n".to_owned()),
            })?;
        }
        Mode::Echo { listen } => echo(&listen, drain)?,
        Mode::Exit { code, after_ms } => {
            thread::sleep(Duration::from_millis(after_ms));
            return Ok(ExitCode::from(code));
        }
        Mode::Memory { mebibytes } => {
            let held = vec![1u8; mebibytes << 20];
            println!("holding {} bytes", held.len());
            until_terminated()?;
        }
        Mode::Print { lines, every_ms, stderr } => {
            for line in 1..=lines {
                if stderr {
                    eprintln!("line {line}");
                } else {
                    println!("line {line}");
                }
                thread::sleep(Duration::from_millis(every_ms));
            }
            until_terminated()?;
        }
        Mode::Cat { path } => std::io::stdout().write_all(&std::fs::read(path)?)?,
        Mode::Env => std::env::vars().for_each(|(name, value)| println!("{name}={value}")),
        Mode::Copy => {
            std::io::copy(&mut std::io::stdin(), &mut std::io::stdout())?;
        }
        Mode::Get { url } => {
            let rest = url.strip_prefix("http://").unwrap_or(&url);
            let (server, path) = rest.split_once('/').unwrap_or((rest, ""));
            print!("{}", get(server, &format!("/{path}"))?);
        }
        Mode::Api { path } => println!("{}", api::get(&path)?),
        Mode::Whoami => println!("{}", api::whoami()?),
        Mode::Sleep => until_terminated()?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Where the Service `counter` is, by the variables that every container is given.
fn counter_from_environment() -> Option<String> {
    let host = std::env::var("COUNTER_SERVICE_HOST").ok()?;
    let port = std::env::var("COUNTER_SERVICE_PORT").ok()?;
    Some(format!("{host}:{port}"))
}

fn host_name() -> String {
    std::env::var("POD_NAME")
        .or_else(|_| std::fs::read_to_string("/etc/hostname").map(|s| s.trim().to_owned()))
        .unwrap_or_else(|_| "somewhere".to_owned())
}

fn page(path: &str, host: &str, release: &str, counter: Option<&str>) -> (u16, String) {
    match path {
        "/" => {}
        "/plain" => return (200, format!("{release} {host}\n")),
        _ => return (404, "not found\n".to_owned()),
    }
    let Some(counter) = counter else {
        return (500, "no counter: give --counter, or make the Service `counter` before this Pod\n".to_owned());
    };
    match get(counter, "/increment") {
        Ok(count) => (200, format!("Hello from {host} ({release}). You are visitor number {}.\n", count.trim())),
        Err(e) => (502, format!("the counter at {counter} does not answer: {e}\n")),
    }
}

/// A plain HTTP/1.1 GET; the body of a 200.
fn get(server: &str, path: &str) -> std::io::Result<String> {
    let address =
        server.to_socket_addrs()?.next().ok_or_else(|| std::io::Error::other(format!("{server}: no address")))?;
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n")?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply)?;
    let (head, body) = reply.split_once("\r\n\r\n").ok_or_else(|| std::io::Error::other("the reply is cut short"))?;
    if head.split_whitespace().nth(1) == Some("200") {
        Ok(body.to_owned())
    } else {
        Err(std::io::Error::other(head.lines().next().unwrap_or_default().to_owned()))
    }
}

/// Serves HTTP until SIGTERM, then for `drain` longer, then until open connections are done.
fn serve(
    listen: &str,
    drain: Duration,
    answer: impl Fn(&str) -> (u16, String) + Send + Sync + 'static,
) -> std::io::Result<()> {
    let listener = TcpListener::bind(listen)?;
    println!("serving on {}", listener.local_addr()?);
    let healthy = Arc::new(AtomicBool::new(true));
    let open = Arc::new(AtomicU64::new(0));
    let answer = Arc::new(answer);
    let (accept_healthy, accept_open) = (healthy.clone(), open.clone());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            accept_open.fetch_add(1, Ordering::SeqCst);
            let (answer, healthy, open) = (answer.clone(), accept_healthy.clone(), accept_open.clone());
            thread::spawn(move || {
                if let Err(e) = converse(stream, &*answer, &healthy) {
                    eprintln!("connection: {e}");
                }
                open.fetch_sub(1, Ordering::SeqCst);
            });
        }
    });
    until_terminated()?;
    healthy.store(false, Ordering::SeqCst);
    println!("draining for {} ms", drain.as_millis());
    thread::sleep(drain);
    for _ in 0..50 {
        if open.load(Ordering::SeqCst) == 0 {
            break;
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// One request and its reply.
fn converse(
    mut stream: TcpStream,
    answer: &dyn Fn(&str) -> (u16, String),
    healthy: &AtomicBool,
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut reader = BufReader::new(stream.try_clone()?).take(64 << 10);
    let mut request = String::new();
    if reader.read_line(&mut request)? == 0 {
        return Ok(()); // a TCP probe: connected and gone
    }
    let mut header = String::new();
    while reader.read_line(&mut header)? > 2 {
        header.clear();
    }
    let path = request.split_whitespace().nth(1).unwrap_or("/");
    let (code, body) = match path {
        "/healthz" if healthy.load(Ordering::SeqCst) => (200, "ok\n".to_owned()),
        "/healthz" => (503, "not healthy\n".to_owned()),
        "/health/off" | "/health/on" => {
            healthy.store(path.ends_with("/on"), Ordering::SeqCst);
            (200, "done\n".to_owned())
        }
        path => answer(path),
    };
    let reason = if code == 200 { "OK" } else { "Error" };
    write!(
        stream,
        "HTTP/1.1 {code} {reason}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn echo(listen: &str, drain: Duration) -> std::io::Result<()> {
    let host = host_name();
    let tcp = TcpListener::bind(listen)?;
    let udp = UdpSocket::bind(listen)?;
    println!("echoing on {}", tcp.local_addr()?);
    let udp_host = host.clone();
    thread::spawn(move || {
        let mut buffer = [0; 65536];
        while let Ok((size, from)) = udp.recv_from(&mut buffer) {
            let mut reply = format!("{udp_host}: ").into_bytes();
            reply.extend_from_slice(&buffer[..size]);
            let _: Result<usize, _> = udp.send_to(&reply, from as SocketAddr);
        }
    });
    thread::spawn(move || {
        for stream in tcp.incoming().flatten() {
            let host = host.clone();
            thread::spawn(move || {
                let Ok(mut out) = stream.try_clone() else { return };
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    if writeln!(out, "{host}: {line}").is_err() {
                        return;
                    }
                }
            });
        }
    });
    until_terminated()?;
    thread::sleep(drain);
    Ok(())
}

/// Waits for SIGTERM or SIGINT. As process 1 of a container, a program without a handler would not
/// even notice.
fn until_terminated() -> std::io::Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT])?;
    signals.forever().next();
    Ok(())
}
