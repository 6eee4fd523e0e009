//! Makes an image archive (the format of `docker save`) out of a few files, without a builder or a registry.
//!
//! The same files give the same bytes and so the same digests: nothing in the archive knows the time or the machine.

use bytes::Bytes;
use sha2::{Digest, Sha256};

/// One file of an image.
#[derive(Clone, Debug)]
pub struct ImageFile {
    /// path without a leading slash
    pub path: String,
    /// content
    pub content: Bytes,
    /// permission bits
    pub mode: u32,
}

/// An image of one layer.
#[derive(Clone, Debug)]
pub struct ImageArchive {
    /// "name:tag"
    pub reference: String,
    /// its files
    pub files: Vec<ImageFile>,
    /// program and arguments
    pub entrypoint: Vec<String>,
    /// user it runs as: "" is root
    pub user: String,
    /// the architecture in Go's words: "amd64"
    pub architecture: String,
}

/// The architecture this program was built for, in the words images use.
pub fn architecture() -> String {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
    .to_string()
}

impl ImageArchive {
    /// The archive's bytes.
    pub fn to_tar(&self) -> std::io::Result<Bytes> {
        let (layer, config, digest) = self.parts()?;
        let manifest = serde_json::json!([{
            "Config": format!("{digest}.json"),
            "RepoTags": [self.reference],
            "Layers": ["layer.tar"],
        }]);
        let mut archive = tar::Builder::new(Vec::new());
        append(&mut archive, &format!("{digest}.json"), &config, 0o644)?;
        append(&mut archive, "layer.tar", &layer, 0o644)?;
        append(&mut archive, "manifest.json", manifest.to_string().as_bytes(), 0o644)?;
        Ok(archive.into_inner()?.into())
    }

    /// The digest an engine will know the image by.
    pub fn id(&self) -> std::io::Result<String> {
        Ok(format!("sha256:{}", self.parts()?.2))
    }

    fn parts(&self) -> std::io::Result<(Vec<u8>, Vec<u8>, String)> {
        let mut layer = tar::Builder::new(Vec::new());
        for file in &self.files {
            append(&mut layer, &file.path, &file.content, file.mode)?;
        }
        let layer = layer.into_inner()?;
        let config = serde_json::json!({
            "architecture": self.architecture,
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            "config": { "Entrypoint": self.entrypoint, "User": self.user, "Env": ["PATH=/usr/local/bin:/usr/bin:/bin:/"] },
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", hex(&Sha256::digest(&layer)))] },
        })
        .to_string()
        .into_bytes();
        let digest = hex(&Sha256::digest(&config));
        Ok((layer, config, digest))
    }
}

fn append(archive: &mut tar::Builder<Vec<u8>>, path: &str, content: &[u8], mode: u32) -> std::io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(mode);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    archive.append_data(&mut header, path, content)
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(content: &'static [u8]) -> ImageArchive {
        ImageArchive {
            reference: "a/b:1".into(),
            files: vec![ImageFile { path: "b".into(), content: Bytes::from_static(content), mode: 0o755 }],
            entrypoint: vec!["/b".into()],
            user: String::new(),
            architecture: "amd64".into(),
        }
    }

    #[test]
    fn the_same_files_give_the_same_image() {
        assert_eq!(image(b"x").to_tar().expect("tar"), image(b"x").to_tar().expect("tar"));
        assert_ne!(image(b"x").id().expect("id"), image(b"y").id().expect("id"));
    }

    #[test]
    fn the_archive_names_its_parts() {
        let bytes = image(b"x").to_tar().expect("tar");
        let mut archive = tar::Archive::new(&bytes[..]);
        let names: Vec<String> = archive
            .entries()
            .expect("entries")
            .map(|entry| entry.expect("entry").path().expect("path").display().to_string())
            .collect();
        let id = image(b"x").id().expect("id");
        assert_eq!(names, [format!("{}.json", &id["sha256:".len()..]), "layer.tar".into(), "manifest.json".into()]);
    }
}
