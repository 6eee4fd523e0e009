//! The archives of `cp`: made of what is here, and unpacked with distrust of what a container sends.

use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};
use tokio::sync::mpsc::{Receiver, Sender};

/// An archive's bytes, written to a channel.
struct Pieces(Sender<Vec<u8>>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.blocking_send(bytes.to_vec()) {
            Ok(()) => Ok(bytes.len()),
            Err(_) => Err(io::Error::new(io::ErrorKind::BrokenPipe, "the container takes no more")),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An archive's bytes, read from a channel.
struct Joined {
    pieces: Receiver<Vec<u8>>,
    rest: io::Cursor<Vec<u8>>,
}

impl Read for Joined {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.rest.read(buffer)? {
                0 => match self.pieces.blocking_recv() {
                    Some(piece) => self.rest = io::Cursor::new(piece),
                    None => return Ok(0),
                },
                length => return Ok(length),
            }
        }
    }
}

/// Packs a file or a folder under a name.
pub fn pack(from: &Path, name: &str, to: Sender<Vec<u8>>) -> Result<()> {
    let mut archive = tar::Builder::new(io::BufWriter::with_capacity(16 << 10, Pieces(to)));
    archive.follow_symlinks(false);
    let reading = || format!("copy {}", from.display());
    if from.is_dir() {
        archive.append_dir_all(name, from).with_context(reading)?;
    } else {
        archive.append_path_with_name(from, name).with_context(reading)?;
    }
    archive.into_inner().and_then(|mut out| out.flush()).with_context(reading)
}

/// Unpacks what stands under `name` as `to`; returns what was left out and why. Nothing is written
/// outside of `to`: links could lead there, so none are made.
pub fn unpack(from: Receiver<Vec<u8>>, name: &str, to: &Path) -> Result<Vec<String>> {
    let mut archive = tar::Archive::new(Joined { pieces: from, rest: io::Cursor::default() });
    let mut left_out = vec![];
    let mut found = false;
    for entry in archive.entries().context("read the archive")? {
        let mut entry = entry.context("read the archive")?;
        let path = entry.path().context("read the archive")?.into_owned();
        let Some(inside) = inside(&path, name) else {
            bail!("the container sent {}, which is not in {name}: nothing more is unpacked", path.display());
        };
        found = true;
        let target = if inside.as_os_str().is_empty() { to.to_owned() } else { to.join(&inside) };
        let kind = entry.header().entry_type();
        let writing = || format!("write {}", target.display());
        if kind.is_dir() {
            std::fs::create_dir_all(&target).with_context(writing)?;
        } else if kind.is_file() {
            if let Some(folder) = target.parent().filter(|f| !f.as_os_str().is_empty()) {
                std::fs::create_dir_all(folder).with_context(writing)?;
            }
            let mut file = std::fs::File::create(&target).with_context(writing)?;
            io::copy(&mut entry, &mut file).with_context(writing)?;
            if let Ok(mode) = entry.header().mode() {
                use std::os::unix::fs::PermissionsExt;
                let permissions = std::fs::Permissions::from_mode(mode & 0o777);
                file.set_permissions(permissions).with_context(writing)?;
            }
        } else {
            left_out.push(format!("left out {}: only files and folders are copied, no links", path.display()));
        }
    }
    if !found {
        bail!("nothing was sent for {name}");
    }
    Ok(left_out)
}

/// The rest of a path beneath `name`; `None` if it is not beneath it.
fn inside(path: &Path, name: &str) -> Option<PathBuf> {
    let mut parts = path.components().filter(|c| *c != Component::CurDir).peekable();
    if name != "." {
        match parts.next() {
            Some(Component::Normal(first)) if first == name => {}
            _ => return None,
        }
    }
    let mut rest = PathBuf::new();
    for part in parts {
        match part {
            Component::Normal(part) => rest.push(part),
            _ => return None,
        }
    }
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc;

    #[test]
    fn what_is_packed_is_unpacked_under_another_name() {
        let folder = tempfile::tempdir().unwrap();
        let from = folder.path().join("from");
        std::fs::create_dir_all(from.join("inner")).unwrap();
        std::fs::write(from.join("a"), vec![7; 100_000]).unwrap();
        std::fs::write(from.join("inner/b"), "text").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", from.join("link")).unwrap();
        let (sender, receiver) = mpsc::channel(1024);
        pack(&from, "base", sender).unwrap();
        let to = folder.path().join("to");
        let left_out = unpack(receiver, "base", &to).unwrap();
        assert_eq!(std::fs::read(to.join("a")).unwrap(), vec![7; 100_000]);
        assert_eq!(std::fs::read(to.join("inner/b")).unwrap(), b"text");
        assert!(left_out.len() == 1 && left_out[0].contains("base/link"), "{left_out:?}");
        assert!(std::fs::symlink_metadata(to.join("link")).is_err());
    }

    #[test]
    fn a_single_file_is_the_target_itself() {
        let folder = tempfile::tempdir().unwrap();
        let from = folder.path().join("x");
        std::fs::write(&from, "text").unwrap();
        let (sender, receiver) = mpsc::channel(1024);
        pack(&from, "x", sender).unwrap();
        let to = folder.path().join("new/y");
        assert_eq!(unpack(receiver, "x", &to).unwrap(), Vec::<String>::new());
        assert_eq!(std::fs::read(to).unwrap(), b"text");
        let (sender, receiver) = mpsc::channel(1);
        drop(sender);
        assert!(unpack(receiver, "x", &folder.path().join("z")).is_err(), "nothing was sent");
    }

    #[test]
    fn nothing_leaves_the_target() {
        for (path, name, expected) in [
            ("base/a", "base", Some("a")),
            ("base", "base", Some("")),
            ("./base/a", "base", Some("a")),
            ("./etc/a", ".", Some("etc/a")),
            ("base/../a", "base", None),
            ("other/a", "base", None),
            ("/base/a", "base", None),
            ("../base", ".", None),
        ] {
            assert_eq!(inside(Path::new(path), name), expected.map(PathBuf::from), "{path}");
        }
    }
}
