//! Which of the Pod's files each container sees where. Pure, subPath aside.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use skiff_proto::corev1::{Container, Pod};

use super::Volumes;
use crate::environment::expand;
use crate::runtime::BindMount;

/// What is wrong with a volumeMount.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MountError {
    /// No volume of this name.
    #[error("container {container} mounts volume \"{volume}\", which the Pod does not have")]
    NoVolume {
        /// which container
        container: String,
        /// which volume
        volume: String,
    },
    /// A subPath that would lead out of its volume.
    #[error(
        "container {container}: subPath \"{path}\" must be relative, without \"..\", and may not pass through a symbolic link"
    )]
    SubPath {
        /// which container
        container: String,
        /// as written
        path: String,
    },
    /// The disk.
    #[error("container {container}: cannot make subPath \"{path}\": {reason}")]
    Disk {
        /// which container
        container: String,
        /// as written
        path: String,
        /// the system's words
        reason: String,
    },
}

/// A container's mounts: the Pod's three files first, then its volumes, then its termination message.
pub fn container_mounts(
    volumes: &Volumes,
    pod: &Pod,
    container: &Container,
    variables: &BTreeMap<String, String>,
    message: &Path,
) -> Result<Vec<BindMount>, MountError> {
    let directory = volumes.pod_directory(&pod.metadata.uid);
    let bind = |source: &Path, target: &str, read_only: bool| BindMount {
        source: source.display().to_string(),
        target: target.to_string(),
        read_only,
        propagation: String::new(),
    };
    let mut mounts = Vec::new();
    for name in ["resolv.conf", "hosts", "hostname"] {
        let target = format!("/etc/{name}");
        // Whoever mounts something of their own there means it.
        if container.volume_mounts.iter().all(|mount| mount.mount_path != target) {
            mounts.push(bind(&directory.join("etc").join(name), &target, name == "resolv.conf"));
        }
    }
    for mount in &container.volume_mounts {
        let volume = pod.spec.volumes.iter().find(|volume| volume.name == mount.name);
        let volume = volume
            .ok_or_else(|| MountError::NoVolume { container: container.name.clone(), volume: mount.name.clone() })?;
        let source = &volume.volume_source;
        let root = match &source.host_path {
            Some(host) => PathBuf::from(&host.path),
            None => volumes.volume_path(&pod.metadata.uid, &volume.name),
        };
        let sub_path = match mount.sub_path_expr.as_str() {
            "" => mount.sub_path.clone(),
            expression => expand(expression, variables),
        };
        let path = match sub_path.as_str() {
            "" => root,
            // A simulated disk has no links that could lead astray.
            path if volumes.is_simulated() => root.join(path),
            path => beneath(&root, path, &container.name)?,
        };
        let made_of_files = source.config_map.is_some()
            || source.secret.is_some()
            || source.downward_api.is_some()
            || source.projected.is_some();
        mounts.push(BindMount {
            propagation: match mount.mount_propagation.as_deref() {
                Some("HostToContainer") => "rslave".into(),
                Some("Bidirectional") => "rshared".into(),
                _ => String::new(),
            },
            ..bind(&path, &mount.mount_path, mount.read_only || made_of_files)
        });
    }
    let target = match container.termination_message_path.as_str() {
        "" => "/dev/termination-log",
        path => path,
    };
    mounts.push(bind(message, target, false));
    Ok(mounts)
}

/// A path below the root, made if it is missing. Every part is looked at without following links, since the volume's
/// content belongs to the Pod: a link in it must not lead the mount elsewhere.
fn beneath(root: &Path, sub_path: &str, container: &str) -> Result<PathBuf, MountError> {
    let wrong = || MountError::SubPath { container: container.to_string(), path: sub_path.to_string() };
    let mut path = root.to_path_buf();
    for part in Path::new(sub_path).components() {
        let Component::Normal(name) = part else {
            if part == Component::CurDir {
                continue;
            }
            return Err(wrong());
        };
        path.push(name);
        match std::fs::symlink_metadata(&path) {
            Ok(found) if found.file_type().is_symlink() => return Err(wrong()),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let made = std::fs::create_dir(&path);
                made.map_err(|error| MountError::Disk {
                    container: container.to_string(),
                    path: sub_path.to_string(),
                    reason: error.to_string(),
                })?;
            }
            Err(_) => return Err(wrong()),
        }
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sub_paths_stay_beneath() {
        let directory = tempfile::tempdir().expect("directory");
        let root = directory.path();
        std::os::unix::fs::symlink("/etc", root.join("link")).expect("a link");
        assert_eq!(beneath(root, "a/b", "c").expect("made"), root.join("a/b"));
        assert!(root.join("a/b").is_dir());
        for path in ["../x", "/etc", "a/../../x", "link", "link/passwd"] {
            assert!(matches!(beneath(root, path, "c"), Err(MountError::SubPath { .. })), "{path}");
        }
    }
}
