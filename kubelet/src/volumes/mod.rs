//! A Pod's files on the node: its volumes, and the three files that Docker cannot write for a container that joins
//! another's network (resolv.conf, hosts, hostname).
//!
//! ```text
//!   DIRECTORY/pods/UID/
//!     etc/{hosts,hostname,resolv.conf}      bind-mounted into every container
//!     volumes/NAME/                         emptyDir, configMap, secret, downwardAPI, projected
//!     messages/CONTAINER.ATTEMPT            termination messages
//! ```
//!
//! Secrets and emptyDirs with `medium: Memory` are on a tmpfs of their own, so that they never reach the disk. All of it
//! is made anew after a crash, and goes with the Pod.

pub mod content;
pub mod files;
pub mod mounts;
pub mod tokens;

use std::path::{Path, PathBuf};

use skiff_proto::corev1::{Pod, Volume};
use skiff_world::World;

pub use content::{ContentFile, content};
pub use mounts::{MountError, container_mounts};

/// Where memory-backed volumes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// a tmpfs each, mounted in this process's mount namespace, which must be the engine's
    Tmpfs,
    /// an ordinary directory: the simulation has no mounts
    Directory,
}

/// What can go wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VolumeError {
    /// A kind of volume that is not honoured.
    #[error(
        "volume \"{volume}\" is of a kind that Skiff does not have: use emptyDir, hostPath, configMap, secret, downwardAPI or projected"
    )]
    Unsupported {
        /// its name
        volume: String,
    },
    /// hostPath's type does not fit what is there.
    #[error("hostPath volume \"{volume}\": {path} {what}")]
    HostPath {
        /// its name
        volume: String,
        /// on the node
        path: String,
        /// what is wrong with it
        what: String,
    },
    /// What a configMap, secret, downwardAPI or projected volume is made from cannot be had.
    #[error("volume \"{volume}\": {what}")]
    Content {
        /// its name
        volume: String,
        /// in words
        what: String,
    },
    /// The disk.
    #[error("cannot {operation} {path}: {reason}")]
    Disk {
        /// what was tried
        operation: &'static str,
        /// on the node
        path: String,
        /// the system's words
        reason: String,
    },
}

fn disk(operation: &'static str, path: &Path, error: impl std::fmt::Display) -> VolumeError {
    VolumeError::Disk { operation, path: path.display().to_string(), reason: error.to_string() }
}

/// The volumes of this node's Pods.
#[derive(Clone)]
pub struct Volumes {
    world: World,
    directory: PathBuf,
    memory: Memory,
}

/// A volume with what goes into it.
#[derive(Clone, Debug)]
pub struct Filled {
    /// as in the Pod's spec
    pub volume: Volume,
    /// for the kinds that are made of files
    pub files: Option<Vec<ContentFile>>,
}

impl Volumes {
    /// Below this directory.
    pub fn new(world: &World, directory: &Path, memory: Memory) -> Volumes {
        Volumes { world: world.clone(), directory: directory.to_path_buf(), memory }
    }

    /// The Pod's own directory.
    pub fn pod_directory(&self, uid: &str) -> PathBuf {
        self.directory.join("pods").join(uid)
    }

    /// Whether paths are those of a simulated disk.
    pub(super) fn is_simulated(&self) -> bool {
        self.memory == Memory::Directory
    }

    /// Where a volume is on the node, if it is below the Pod's directory.
    pub fn volume_path(&self, uid: &str, volume: &str) -> PathBuf {
        self.pod_directory(uid).join("volumes").join(volume)
    }

    /// Where a container's termination message is written.
    pub fn message_path(&self, uid: &str, container: &str, attempt: u32) -> PathBuf {
        self.pod_directory(uid).join("messages").join(format!("{container}.{attempt}"))
    }

    /// Which Pods have files here.
    pub async fn pods(&self) -> Vec<String> {
        let (disk, directory) = (self.world.disk(), self.directory.join("pods"));
        let listed = self.world.blocking(move || disk.list(directory)).await;
        listed.unwrap_or_default().into_iter().filter_map(|entry| entry.name.into_string().ok()).collect()
    }

    /// Puts everything in place. What is there already stays; files are brought up to date.
    pub async fn prepare(&self, pod: &Pod, volumes: Vec<Filled>, etc: files::Etc) -> Result<(), VolumeError> {
        let (volumes_of, uid) = (self.clone(), pod.metadata.uid.clone());
        let security = pod.spec.security_context.as_deref();
        let group = security.and_then(|context| context.fs_group);
        self.world.blocking(move || volumes_of.prepare_blocking(&uid, &volumes, &etc, group)).await
    }

    fn prepare_blocking(
        &self,
        uid: &str,
        volumes: &[Filled],
        etc: &files::Etc,
        group: Option<i64>,
    ) -> Result<(), VolumeError> {
        let pod = self.pod_directory(uid);
        for directory in ["etc", "volumes", "messages"] {
            let path = pod.join(directory);
            self.world.disk().create_dir_all(&path).map_err(|error| disk("make", &path, error))?;
        }
        etc.write(&self.world.disk(), &pod.join("etc"))?;
        for filled in volumes {
            self.fill(uid, filled, group)?;
        }
        Ok(())
    }

    fn fill(&self, uid: &str, filled: &Filled, group: Option<i64>) -> Result<(), VolumeError> {
        let source = &filled.volume.volume_source;
        let path = self.volume_path(uid, &filled.volume.name);
        if let Some(host) = &source.host_path {
            return self.host_path(&filled.volume.name, &host.path, host.r#type.as_deref().unwrap_or_default());
        }
        let secret = source.secret.is_some()
            || source.projected.as_ref().is_some_and(|p| {
                p.sources.iter().any(|source| source.secret.is_some() || source.service_account_token.is_some())
            });
        let empty = source.empty_dir.as_deref();
        if empty.is_none() && filled.files.is_none() {
            return Err(VolumeError::Unsupported { volume: filled.volume.name.clone() });
        }
        self.world.disk().create_dir_all(&path).map_err(|error| disk("make", &path, error))?;
        if secret || empty.is_some_and(|empty| empty.medium == "Memory") {
            let limit = empty.and_then(|empty| empty.size_limit.as_ref()).map(|limit| limit.value());
            self.mount_memory(&path, limit)?;
        }
        match &filled.files {
            Some(files) => content::write(&self.world.disk(), &path, files, self.memory == Memory::Tmpfs)?,
            None => self.open_up(&path)?,
        }
        self.give_to_group(&path, group)
    }

    /// A file of one of the Pod's volumes, as it is now.
    pub async fn read(&self, uid: &str, volume: &str, path: &str) -> Option<Vec<u8>> {
        let (disk, path) = (self.world.disk(), self.volume_path(uid, volume).join(path));
        self.world.blocking(move || disk.read(path)).await.ok()
    }

    /// Replaces one file of a volume that is in place; all others stay.
    pub async fn replace(&self, uid: &str, volume: &str, file: content::ContentFile) -> Result<(), VolumeError> {
        let (disk, path, real) = (self.world.disk(), self.volume_path(uid, volume), self.memory == Memory::Tmpfs);
        self.world.blocking(move || content::write_one(&disk, &path, &file, real)).await
    }

    /// An emptyDir belongs to whoever runs in the Pod.
    fn open_up(&self, path: &Path) -> Result<(), VolumeError> {
        if self.memory == Memory::Directory {
            return Ok(());
        }
        use std::os::unix::fs::PermissionsExt;
        let open = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(path, open).map_err(|error| disk("open up", path, error))
    }

    fn give_to_group(&self, path: &Path, group: Option<i64>) -> Result<(), VolumeError> {
        let Some(group) = group.and_then(|group| u32::try_from(group).ok()) else {
            return Ok(());
        };
        if self.memory == Memory::Directory {
            return Ok(());
        }
        std::os::unix::fs::chown(path, None, Some(group)).map_err(|error| disk("give to the Pod's group", path, error))
    }

    fn mount_memory(&self, path: &Path, limit: Option<i64>) -> Result<(), VolumeError> {
        if self.memory == Memory::Directory || is_mount(path) {
            return Ok(());
        }
        let options = match limit.filter(|limit| *limit > 0) {
            Some(bytes) => format!("mode=0755,size={bytes}"),
            None => "mode=0755".to_string(),
        };
        use nix::mount::MsFlags;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        nix::mount::mount(Some("tmpfs"), path, Some("tmpfs"), flags, Some(options.as_str()))
            .map_err(|error| disk("mount a tmpfs at", path, error))
    }

    fn host_path(&self, volume: &str, path: &str, kind: &str) -> Result<(), VolumeError> {
        if self.memory == Memory::Directory {
            return Ok(());
        }
        let wrong = |what: &str| {
            Err(VolumeError::HostPath { volume: volume.to_string(), path: path.to_string(), what: what.to_string() })
        };
        let at = Path::new(path);
        let found = std::fs::metadata(at).ok();
        match (kind, &found) {
            ("DirectoryOrCreate", None) => std::fs::create_dir_all(at).map_err(|error| disk("make", at, error)),
            ("FileOrCreate", None) => std::fs::write(at, b"").map_err(|error| disk("make", at, error)),
            ("" | "DirectoryOrCreate" | "FileOrCreate", Some(_)) => Ok(()),
            // Without a type nothing is checked; Docker itself refuses a bind mount from nowhere.
            ("", None) => wrong("does not exist on this node"),
            ("Directory", found) if found.as_ref().is_some_and(|f| f.is_dir()) => Ok(()),
            ("Directory", _) => wrong("is not a directory on this node"),
            ("File", found) if found.as_ref().is_some_and(|f| f.is_file()) => Ok(()),
            ("File", _) => wrong("is not a file on this node"),
            ("Socket" | "CharDevice" | "BlockDevice", Some(_)) => Ok(()),
            _ => wrong("does not exist on this node"),
        }
    }

    /// Unmounts and removes everything of the Pod.
    pub async fn remove(&self, uid: &str) -> Result<(), VolumeError> {
        let (volumes, path) = (self.clone(), self.pod_directory(uid));
        self.world.blocking(move || volumes.remove_blocking(&path)).await
    }

    fn remove_blocking(&self, pod: &Path) -> Result<(), VolumeError> {
        let directory = self.world.disk();
        for entry in directory.list(pod.join("volumes")).unwrap_or_default() {
            let path = pod.join("volumes").join(entry.name);
            while self.memory == Memory::Tmpfs && is_mount(&path) {
                nix::mount::umount2(&path, nix::mount::MntFlags::MNT_DETACH)
                    .map_err(|error| disk("unmount", &path, error))?;
            }
        }
        match directory.remove_dir_all(pod) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(disk("remove", pod, error)),
            _ => Ok(()),
        }
    }

    /// What a container left as its termination message: at most 4 KB of it.
    pub async fn message(&self, uid: &str, container: &str, attempt: u32) -> Option<String> {
        const LIMIT: usize = 4096;
        let (disk, path) = (self.world.disk(), self.message_path(uid, container, attempt));
        let bytes = self.world.blocking(move || disk.read(path)).await.ok()?;
        Some(String::from_utf8_lossy(&bytes[..bytes.len().min(LIMIT)]).into_owned())
    }

    /// The file that a container's termination message is written to, made empty.
    pub async fn prepare_message(&self, uid: &str, container: &str, attempt: u32) -> Result<PathBuf, VolumeError> {
        let (directory, path) = (self.world.disk(), self.message_path(uid, container, attempt));
        let (made, real) = (path.clone(), self.memory == Memory::Tmpfs);
        let make = move || -> std::io::Result<()> {
            directory.write_volatile(&made, b"", 0o666)?;
            if real {
                use std::os::unix::fs::PermissionsExt;
                // Against the umask: the container may run as anybody.
                std::fs::set_permissions(&made, std::fs::Permissions::from_mode(0o666))?;
            }
            Ok(())
        };
        self.world.blocking(make).await.map_err(|error| disk("make", &path, error))?;
        Ok(path)
    }
}

/// A directory on another device than the one above it.
fn is_mount(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| std::fs::metadata(path).ok().map(|found| found.dev());
    match (device(path), path.parent().and_then(device)) {
        (Some(own), Some(above)) => own != above,
        _ => false,
    }
}
