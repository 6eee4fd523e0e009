//! `cp`: files and folders between this machine and a container, through `tar` in the container.

mod archive;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use skiff_client::streams::{Channel, StreamEvent};
use skiff_client::tunnel::Close;
use skiff_proto::skiffv1::ExecRequest;
use tokio::sync::mpsc;

use crate::pod::container_of;
use crate::session::Session;
use crate::terminal;

/// What `cp` takes.
#[derive(Args, Debug)]
pub struct Options {
    /// What to copy: a local path, or `[NAMESPACE/]POD:PATH`.
    from: String,
    /// Where to: a local path, or `[NAMESPACE/]POD:PATH`.
    to: String,
    /// Which container; default: the first.
    #[arg(short, long)]
    container: Option<String>,
}

/// Pieces of an archive on their way.
const PIECES: usize = 16;
/// So much of what a command prints is kept, for the case that it fails.
const WORDS: usize = 4096;

/// One end of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Local(PathBuf),
    Remote { namespace: Option<String>, pod: String, path: String },
}

/// A container in which commands are run.
struct Container<'s> {
    session: &'s Session,
    namespace: String,
    pod: String,
    container: String,
}

/// Copies one way or the other.
pub async fn run(session: &Session, options: Options) -> Result<ExitCode> {
    let within = async |namespace: Option<String>, pod: String| {
        let namespace = namespace.unwrap_or_else(|| session.namespace().to_owned());
        let container = container_of(session, &namespace, &pod, options.container.clone()).await?;
        anyhow::Ok(Container { session, namespace, pod, container })
    };
    match (place(&options.from)?, place(&options.to)?) {
        (Place::Local(from), Place::Remote { namespace, pod, path }) => {
            within(namespace, pod).await?.put(&from, &path).await?;
        }
        (Place::Remote { namespace, pod, path }, Place::Local(to)) => {
            within(namespace, pod).await?.fetch(&path, &to).await?;
        }
        (Place::Local(_), Place::Local(_)) => bail!("one of the two must be in a Pod: POD:PATH"),
        (Place::Remote { .. }, Place::Remote { .. }) => bail!("one of the two must be a local path"),
    }
    Ok(ExitCode::SUCCESS)
}

fn place(text: &str) -> Result<Place> {
    // `./a:b` is a local file with a colon in its name.
    let Some((who, path)) = text.split_once(':').filter(|(who, _)| !who.starts_with(['.', '/'])) else {
        return Ok(Place::Local(PathBuf::from(text)));
    };
    let (namespace, pod) = match who.split_once('/') {
        Some((namespace, pod)) => (Some(namespace.to_owned()), pod),
        None => (None, who),
    };
    if pod.is_empty() || pod.contains('/') || path.is_empty() {
        bail!("{text:?}: expected a local path, POD:PATH or NAMESPACE/POD:PATH");
    }
    Ok(Place::Remote { namespace, pod: pod.to_owned(), path: path.to_owned() })
}

/// A path's folder and its last name; of `/` the name is `.`.
fn parted(path: &str) -> (String, String) {
    let trimmed = path.trim_end_matches('/');
    match trimmed.rsplit_once('/') {
        _ if trimmed.is_empty() => ("/".to_owned(), ".".to_owned()),
        Some(("", name)) => ("/".to_owned(), name.to_owned()),
        Some((folder, name)) => (folder.to_owned(), name.to_owned()),
        None => (".".to_owned(), trimmed.to_owned()),
    }
}

impl Container<'_> {
    async fn put(&self, from: &Path, to: &str) -> Result<()> {
        std::fs::symlink_metadata(from).with_context(|| format!("read {}", from.display()))?;
        let mut target = to.to_owned();
        // As cp has it: into a folder that is there.
        if to.ends_with('/') || self.exec(&["test", "-d", to], None, None).await?.code == 0 {
            let canonical = std::fs::canonicalize(from).with_context(|| format!("read {}", from.display()))?;
            let name = canonical.file_name().and_then(|n| n.to_str()).unwrap_or(".").to_owned();
            target = format!("{}/{name}", to.trim_end_matches('/'));
        }
        let (folder, name) = parted(&target);
        let (sender, receiver) = mpsc::channel(PIECES);
        let path = from.to_owned();
        let pack = self.session.world().blocking(move || archive::pack(&path, &name, sender));
        let command = ["tar", "-xmf", "-", "-C", &folder];
        let (packed, unpacked) = futures::future::join(pack, self.exec(&command, Some(receiver), None)).await;
        // What the container says comes first: it is why packing was cut short.
        unpacked?.succeeded(&self.pod)?;
        packed
    }

    async fn fetch(&self, from: &str, to: &Path) -> Result<()> {
        let (folder, name) = parted(from);
        let to = if to.is_dir() && name != "." { to.join(&name) } else { to.to_owned() };
        let (sender, receiver) = mpsc::channel(PIECES);
        let unpack = self.session.world().blocking(move || archive::unpack(receiver, &name, &to));
        let command = ["tar", "cf", "-", "-C", &folder, &parted(from).1];
        let (unpacked, packed) = futures::future::join(unpack, self.exec(&command, None, Some(sender))).await;
        packed?.succeeded(&self.pod)?;
        for left_out in unpacked? {
            eprintln!("warning: {left_out}");
        }
        Ok(())
    }

    /// Runs a command, which is fed from `input` and whose output goes to `output`.
    async fn exec(
        &self,
        command: &[&str],
        input: Option<mpsc::Receiver<Vec<u8>>>,
        output: Option<mpsc::Sender<Vec<u8>>>,
    ) -> Result<Ended> {
        let request = ExecRequest {
            namespace: self.namespace.clone(),
            pod: self.pod.clone(),
            container: self.container.clone(),
            command: command.iter().map(|c| (*c).to_owned()).collect(),
            stdin: input.is_some(),
            ..ExecRequest::default()
        };
        let (sender, mut receiver) = terminal::open(self.session, request).await?.split();
        self.session.world().spawn("archive", async move {
            if let Some(mut input) = input {
                while let Some(bytes) = input.recv().await {
                    if sender.send(Channel::Stdin, bytes).await.is_err() {
                        return;
                    }
                }
            }
            // An error means that the command has ended already.
            let _ = sender.end(Channel::Stdin).await;
            sender.closed().await;
        });
        let (mut said, mut errors) = (vec![], vec![]);
        while let Some(event) = receiver.recv().await {
            match event {
                StreamEvent::Data { channel: Channel::Stderr, bytes } => errors.extend_from_slice(&bytes),
                StreamEvent::Data { bytes, .. } => {
                    // The engine's own words come this way too.
                    if said.len() < WORDS {
                        said.extend_from_slice(&bytes);
                    }
                    if let Some(output) = &output
                        && output.send(bytes.to_vec()).await.is_err()
                    {
                        break; // who unpacks has said why
                    }
                }
                StreamEvent::End(_) => {}
                StreamEvent::Closed(Close::Exit(code)) => {
                    return Ok(Ended::new(code, if errors.is_empty() { &said } else { &errors }));
                }
                StreamEvent::Closed(Close::Failed { message, .. }) => bail!("{message}"),
                StreamEvent::Closed(Close::Done) => break,
            }
        }
        Ok(Ended::new(0, &said))
    }
}

/// How a command ended.
struct Ended {
    code: i32,
    said: String,
}

impl Ended {
    fn new(code: i32, said: &[u8]) -> Ended {
        Ended { code, said: String::from_utf8_lossy(said).trim().to_owned() }
    }

    fn succeeded(self, pod: &str) -> Result<()> {
        match self.code {
            0 => Ok(()),
            126 | 127 => bail!(
                "cp needs the program `tar` in the container's image, and in pod {pod} it cannot be run: {}. \
                 Without it, use an image that has tar, or a volume that both sides reach",
                self.said
            ),
            code => bail!("tar in pod {pod} failed with exit code {code}: {}", self.said),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_local_or_in_a_pod() {
        let remote = |namespace: Option<&str>, path: &str| Place::Remote {
            namespace: namespace.map(str::to_owned),
            pod: "web".to_owned(),
            path: path.to_owned(),
        };
        for (text, expected) in [
            ("a/b", Place::Local("a/b".into())),
            ("./a:b", Place::Local("./a:b".into())),
            ("/a:b", Place::Local("/a:b".into())),
            ("web:/tmp/x", remote(None, "/tmp/x")),
            ("ns/web:x", remote(Some("ns"), "x")),
        ] {
            assert_eq!(place(text).unwrap(), expected, "{text}");
        }
        for text in [":x", "web:", "a/b/c:x"] {
            assert!(place(text).is_err(), "{text}");
        }
    }

    #[test]
    fn paths_have_a_folder_and_a_name() {
        for (path, folder, name) in
            [("/a/b", "/a", "b"), ("/a", "/", "a"), ("a", ".", "a"), ("a/b/", "a", "b"), ("/", "/", ".")]
        {
            assert_eq!(parted(path), (folder.to_owned(), name.to_owned()), "{path}");
        }
    }
}
