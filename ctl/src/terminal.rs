//! A conversation with a process in a container: bytes both ways until it ends, with this terminal
//! as its own when asked to. `exec`, `attach` and `run` are built on it.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use skiff_client::streams::{self, Channel, ClientStream, StreamEvent, StreamSender};
use skiff_client::tunnel::Close;
use skiff_proto::skiffv1::{ExecRequest, StreamOpen, stream_open::Request};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::signal::unix::{SignalKind, signal};

use crate::session::Session;

/// What `exec` and `attach` take.
#[derive(Args, Debug)]
pub struct Place {
    /// `POD` or `TYPE/NAME`.
    pub what: String,
    /// Which container; default: the first.
    #[arg(short, long)]
    pub container: Option<String>,
    /// Pass standard input on.
    #[arg(short = 'i', long)]
    pub stdin: bool,
    /// The process has a terminal: this one becomes it.
    #[arg(short, long)]
    pub tty: bool,
}

/// What is wanted of a process's terminal, and what this one can do.
pub fn is_usable(wanted: bool) -> bool {
    let terminal = wanted && std::io::stdin().is_terminal();
    if wanted && !terminal {
        eprintln!("Unable to use a TTY - input is not a terminal or the right kind of file");
    }
    terminal
}

/// Opens the stream and carries bytes until the process ends; its exit code is ours.
pub async fn converse(session: &Session, request: ExecRequest) -> Result<ExitCode> {
    Ok(listen(session, request).await?.code)
}

/// How a conversation ended.
pub struct Ended {
    /// The process's exit code.
    pub code: ExitCode,
    /// Whether it said anything.
    pub heard: bool,
}

/// The same, for who wants to know whether anything was said.
pub async fn listen(session: &Session, request: ExecRequest) -> Result<Ended> {
    let (pass_input, terminal) = (request.stdin, request.tty);
    let stream = open(session, request).await?;
    let _raw = if terminal && std::io::stdin().is_terminal() { Some(RawTerminal::enter()?) } else { None };
    carry(session, stream, pass_input, terminal).await
}

/// Opens a stream to a process in a container.
pub async fn open(session: &Session, request: ExecRequest) -> Result<ClientStream> {
    let open =
        StreamOpen { component: "kubelet".to_owned(), request: Some(Request::Exec(request)), ..StreamOpen::default() };
    Ok(streams::open(session.client(), open).await?)
}

/// What goes in has a task of its own: a command that reads slowly must not keep us from taking what
/// it writes.
async fn carry(session: &Session, stream: ClientStream, pass_input: bool, terminal: bool) -> Result<Ended> {
    let (sender, mut receiver) = stream.split();
    if terminal {
        session.world().spawn("terminal size", send_sizes(sender.clone()));
    }
    session.world().spawn("standard input", send_input(sender, pass_input));
    let mut heard = false;
    while let Some(event) = receiver.recv().await {
        heard |= matches!(event, StreamEvent::Data { .. });
        match event {
            StreamEvent::Data { channel: Channel::Stderr, bytes } => std::io::stderr().write_all(&bytes)?,
            StreamEvent::Data { bytes, .. } => {
                std::io::stdout().write_all(&bytes)?;
                std::io::stdout().flush()?;
            }
            StreamEvent::End(_) => {}
            StreamEvent::Closed(Close::Exit(code)) if code != 0 => {
                if !terminal {
                    eprintln!("command terminated with exit code {code}");
                }
                return Ok(Ended { code: ExitCode::from(u8::try_from(code).unwrap_or(1)), heard });
            }
            StreamEvent::Closed(Close::Failed { message, .. }) => bail!("{message}"),
            StreamEvent::Closed(_) => break,
        }
    }
    Ok(Ended { code: ExitCode::SUCCESS, heard })
}

/// Ends when the stream does, or the input.
async fn send_input(sender: StreamSender, pass_input: bool) {
    let mut input: Box<dyn AsyncRead + Send + Unpin> =
        if pass_input { Box::new(tokio::io::stdin()) } else { Box::new(tokio::io::empty()) };
    let mut buffer = vec![0; 16 << 10];
    loop {
        match input.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(n) => {
                if sender.send(Channel::Stdin, buffer[..n].to_vec()).await.is_err() {
                    return;
                }
            }
        }
    }
    // An error means that the command has ended already.
    let _ = sender.end(Channel::Stdin).await;
}

/// Sends the terminal's size now and at each change: columns and rows, big endian.
async fn send_sizes(sender: StreamSender) {
    let Ok(mut resized) = signal(SignalKind::window_change()) else { return };
    loop {
        if let Some((columns, rows)) = terminal_size::terminal_size() {
            let bytes = [columns.0.to_be_bytes(), rows.0.to_be_bytes()].concat();
            if sender.send(Channel::Resize, bytes).await.is_err() {
                return;
            }
        }
        resized.recv().await;
    }
}

/// The terminal without line editing and signals, until dropped.
struct RawTerminal {
    before: Termios,
}

impl RawTerminal {
    fn enter() -> Result<RawTerminal> {
        let before = tcgetattr(std::io::stdin()).context("read the terminal's settings")?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(std::io::stdin(), SetArg::TCSANOW, &raw).context("set the terminal to raw")?;
        Ok(RawTerminal { before })
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        let _ = tcsetattr(std::io::stdin(), SetArg::TCSANOW, &self.before);
    }
}
