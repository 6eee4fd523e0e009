//! A Pod's sandbox: the pause container that keeps the Pod's namespaces together.

use std::path::Path;

use crate::images::pause::NAMESPACE_TARGET;
use crate::runtime::{BindMount, ContainerConfig, Identity, Limits, NamespaceMode, NetworkMode};

/// Pause in the namespace of the file: it starts in the engine's host network, moves over, and drops what it needed
/// for that. The hostname is what containers that join its network have, too.
pub fn pause_config(identity: Identity, image: &str, namespace: &Path, hostname: &str) -> ContainerConfig {
    ContainerConfig {
        args: vec!["--netns".into(), NAMESPACE_TARGET.into()],
        hostname: hostname.to_string(),
        network: NetworkMode::Host,
        ipc: NamespaceMode::Shareable,
        mounts: vec![BindMount {
            source: namespace.display().to_string(),
            target: NAMESPACE_TARGET.into(),
            read_only: true,
            propagation: String::new(),
        }],
        capabilities_drop: vec!["ALL".into()],
        // To enter the namespace, and to empty its own bounding set; it keeps neither.
        capabilities_add: vec!["SYS_ADMIN".into(), "SETPCAP".into()],
        read_only_root: true,
        no_new_privileges: true,
        // No negative oom_score_adj: it takes CAP_SYS_RESOURCE, which an engine inside a container or VM may lack,
        // and then nothing would start at all.
        limits: Limits { cpu_shares: 2, ..Limits::default() },
        ..ContainerConfig::new(identity, image)
    }
}
