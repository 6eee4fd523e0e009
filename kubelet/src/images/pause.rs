//! The sandbox's image: pause (kubelet/pause/main.rs), compiled with the kubelet and embedded in it.

use std::sync::LazyLock;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::archive::{ImageArchive, ImageFile, architecture, hex};
use crate::runtime::{ContainerRuntime, RuntimeError};

static PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pause"));

/// Where pause finds the namespace that it is to enter.
pub const NAMESPACE_TARGET: &str = "/netns";

/// The image as an archive. Its tag holds a digest of the program, so two versions of the kubelet do not mix theirs.
pub fn archive() -> ImageArchive {
    let digest = hex(&Sha256::digest(PROGRAM));
    ImageArchive {
        reference: format!("skiff/pause:{}-{}", env!("CARGO_PKG_VERSION"), &digest[..12]),
        files: vec![ImageFile { path: "pause".into(), content: Bytes::from_static(PROGRAM), mode: 0o755 }],
        entrypoint: vec!["/pause".into()],
        user: String::new(),
        architecture: architecture(),
    }
}

/// Its reference.
pub fn reference() -> String {
    archive().reference
}

/// Makes sure that the engine has the image: from the kubelet's own bytes, never from a registry.
pub async fn ensure(runtime: &dyn ContainerRuntime) -> Result<String, RuntimeError> {
    // The program does not change while it runs.
    static ARCHIVE: LazyLock<ImageArchive> = LazyLock::new(archive);
    let archive = &*ARCHIVE;
    if runtime.image(&archive.reference).await?.is_some() {
        return Ok(archive.reference.clone());
    }
    let bytes = archive.to_tar().map_err(|error| RuntimeError::Refused {
        operation: "make the pause image".into(),
        message: error.to_string(),
    })?;
    runtime.load(bytes).await?;
    Ok(archive.reference.clone())
}
