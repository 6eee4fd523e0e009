//! The files of configMap, secret, downwardAPI and projected volumes: which ones, with what in them. Pure, writing aside.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use skiff_proto::corev1::{Container, DownwardApiVolumeFile, KeyToPath, Pod, Volume};
use skiff_world::Disk;

use super::tokens::{self, Tokens};
use super::{VolumeError, disk};
use crate::environment::{self, Facts, SourceKind, SourceRef, Sources};

pub(super) const DEFAULT_MODE: i32 = 0o644;

/// One file of a volume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContentFile {
    /// below the volume
    pub path: String,
    /// content
    pub bytes: Vec<u8>,
    /// permission bits
    pub mode: u32,
    /// whose it is, if it is not the kubelet's
    pub user: Option<u32>,
    /// whose group's it is
    pub group: Option<u32>,
}

/// Which ConfigMaps and Secrets a volume is made from.
pub fn needs(volume: &Volume) -> BTreeSet<SourceRef> {
    let source = &volume.volume_source;
    let mut needed = BTreeSet::new();
    if let Some(map) = &source.config_map {
        needed.insert((SourceKind::ConfigMap, map.local_object_reference.name.clone()));
    }
    if let Some(secret) = &source.secret {
        needed.insert((SourceKind::Secret, secret.secret_name.clone()));
    }
    for projection in source.projected.iter().flat_map(|projected| &projected.sources) {
        if let Some(map) = &projection.config_map {
            needed.insert((SourceKind::ConfigMap, map.local_object_reference.name.clone()));
        }
        if let Some(secret) = &projection.secret {
            needed.insert((SourceKind::Secret, secret.local_object_reference.name.clone()));
        }
    }
    needed
}

/// The files of a volume; None where it is not made of files.
pub fn content(
    pod: &Pod,
    volume: &Volume,
    sources: &Sources,
    facts: &Facts,
    tokens: &Tokens,
) -> Result<Option<Vec<ContentFile>>, VolumeError> {
    let make = Maker { pod, volume: &volume.name, sources, facts };
    let source = &volume.volume_source;
    if let Some(map) = &source.config_map {
        let name = (SourceKind::ConfigMap, map.local_object_reference.name.clone());
        return make.keys(name, &map.items, map.default_mode, map.optional).map(Some);
    }
    if let Some(secret) = &source.secret {
        let name = (SourceKind::Secret, secret.secret_name.clone());
        return make.keys(name, &secret.items, secret.default_mode, secret.optional).map(Some);
    }
    if let Some(downward) = &source.downward_api {
        return make.downward(&downward.items, downward.default_mode).map(Some);
    }
    let Some(projected) = &source.projected else {
        return Ok(None);
    };
    let mut files = Vec::new();
    for projection in &projected.sources {
        if let Some(map) = &projection.config_map {
            let name = (SourceKind::ConfigMap, map.local_object_reference.name.clone());
            files.extend(make.keys(name, &map.items, projected.default_mode, map.optional)?);
        }
        if let Some(secret) = &projection.secret {
            let name = (SourceKind::Secret, secret.local_object_reference.name.clone());
            files.extend(make.keys(name, &secret.items, projected.default_mode, secret.optional)?);
        }
        if let Some(downward) = &projection.downward_api {
            files.extend(make.downward(&downward.items, projected.default_mode)?);
        }
        if let Some(token) = &projection.service_account_token {
            let place = (volume.name.clone(), token.path.clone());
            let bytes =
                tokens.get(&place).ok_or_else(|| make.wrong("the service account's token was not asked for"))?;
            let mode = u32::try_from(projected.default_mode.unwrap_or(DEFAULT_MODE)).unwrap_or(0) & 0o777;
            files.push(tokens::file(pod, make.safe(&token.path)?, mode, bytes));
        }
    }
    Ok(Some(files))
}

struct Maker<'a> {
    pod: &'a Pod,
    volume: &'a str,
    sources: &'a Sources,
    facts: &'a Facts,
}

impl Maker<'_> {
    fn wrong(&self, what: impl std::fmt::Display) -> VolumeError {
        VolumeError::Content { volume: self.volume.to_string(), what: what.to_string() }
    }

    fn keys(
        &self,
        source: SourceRef,
        items: &[KeyToPath],
        mode: Option<i32>,
        optional: Option<bool>,
    ) -> Result<Vec<ContentFile>, VolumeError> {
        let empty = BTreeMap::new();
        let data = match (self.sources.get(&source).and_then(Option::as_ref), optional) {
            (Some(data), _) => data,
            (None, Some(true)) => &empty,
            (None, _) => {
                return Err(self.wrong(format!("{} \"{}\" not found", source.0.word(), source.1)));
            }
        };
        let file = |path: &str, bytes: &[u8], mode: Option<i32>| ContentFile {
            path: path.to_string(),
            bytes: bytes.to_vec(),
            mode: u32::try_from(mode.unwrap_or(DEFAULT_MODE)).unwrap_or(0) & 0o777,
            ..ContentFile::default()
        };
        if items.is_empty() {
            return Ok(data.iter().map(|(key, bytes)| file(key, bytes, mode)).collect());
        }
        let mut files = Vec::new();
        for item in items {
            match data.get(&item.key) {
                Some(bytes) => files.push(file(self.safe(&item.path)?, bytes, item.mode.or(mode))),
                None if optional == Some(true) => {}
                None => {
                    let (kind, name) = (source.0.word(), &source.1);
                    return Err(self.wrong(format!("references non-existent key \"{}\" of {kind} {name}", item.key)));
                }
            }
        }
        Ok(files)
    }

    fn downward(&self, items: &[DownwardApiVolumeFile], mode: Option<i32>) -> Result<Vec<ContentFile>, VolumeError> {
        let mut files = Vec::new();
        for item in items {
            let none = Container::default();
            let text = match (&item.field_ref, &item.resource_field_ref) {
                (Some(field), _) => environment::field(self.pod, field, self.facts),
                (_, Some(resource)) => environment::resource(self.pod, &none, resource, self.facts),
                _ => Ok(String::new()),
            };
            let bytes = text.map_err(|error| self.wrong(error))?.into_bytes();
            let mode = u32::try_from(item.mode.or(mode).unwrap_or(DEFAULT_MODE)).unwrap_or(0) & 0o777;
            files.push(ContentFile { path: self.safe(&item.path)?.to_string(), bytes, mode, ..ContentFile::default() });
        }
        Ok(files)
    }

    /// A path that stays below the volume.
    fn safe<'p>(&self, path: &'p str) -> Result<&'p str, VolumeError> {
        let plain = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
        if plain && !path.is_empty() {
            Ok(path)
        } else {
            Err(self.wrong(format!("the path \"{path}\" must be relative and without \"..\"")))
        }
    }
}

/// Brings a volume's files up to date: each is replaced as a whole, and what is no longer named goes.
/// `open_up` lets the Pod read them whoever it runs as; a simulated disk has no permissions.
pub(super) fn write(directory: &Disk, volume: &Path, files: &[ContentFile], open_up: bool) -> Result<(), VolumeError> {
    for file in files {
        write_one(directory, volume, file, open_up)?;
    }
    let named: BTreeSet<&str> = files.iter().filter_map(|file| file.path.split('/').next()).collect();
    for entry in directory.list(volume).unwrap_or_default() {
        if !entry.name.to_str().is_some_and(|name| named.contains(name)) {
            let path = volume.join(&entry.name);
            let gone = if entry.is_dir { directory.remove_dir_all(&path) } else { directory.remove(&path) };
            gone.map_err(|error| disk("remove", &path, error))?;
        }
    }
    Ok(())
}

/// Brings one file of a volume up to date.
pub(super) fn write_one(directory: &Disk, volume: &Path, file: &ContentFile, open_up: bool) -> Result<(), VolumeError> {
    let path = volume.join(&file.path);
    let parent = path.parent().unwrap_or(volume);
    directory.create_dir_all(parent).map_err(|error| disk("make", parent, error))?;
    let same = directory.read(&path).is_ok_and(|bytes| bytes == file.bytes);
    if !same {
        directory.write_volatile(&path, &file.bytes, file.mode).map_err(|error| disk("write", &path, error))?;
    }
    if open_up {
        set_readable(parent, volume, file.mode, &path);
        if file.user.is_some() || file.group.is_some() {
            std::os::unix::fs::chown(&path, file.user, file.group)
                .map_err(|error| disk("give to the Pod's user", &path, error))?;
        }
    }
    Ok(())
}

/// Directories are made for this process alone; the Pod's may run as anybody.
fn set_readable(parent: &Path, volume: &Path, mode: u32, file: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let _ = std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode));
    for directory in parent.ancestors().take_while(|path| path.starts_with(volume)) {
        let _ = std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skiff_proto::corev1::{ConfigMapVolumeSource, LocalObjectReference, VolumeSource};

    fn volume(items: &[(&str, &str)], optional: Option<bool>) -> Volume {
        let items = items.iter().map(|(key, path)| KeyToPath {
            key: key.to_string(),
            path: path.to_string(),
            ..Default::default()
        });
        let map = ConfigMapVolumeSource {
            local_object_reference: LocalObjectReference { name: "m".into() },
            items: items.collect(),
            optional,
            ..Default::default()
        };
        let volume_source = VolumeSource { config_map: Some(Box::new(map)), ..Default::default() };
        Volume { name: "v".into(), volume_source }
    }

    fn sources() -> Sources {
        let data = BTreeMap::from([("a".to_string(), b"1".to_vec()), ("b".to_string(), b"2".to_vec())]);
        BTreeMap::from([((SourceKind::ConfigMap, "m".to_string()), Some(data))])
    }

    fn paths(volume: &Volume, sources: &Sources) -> Result<Vec<String>, VolumeError> {
        let files = content(&Pod::default(), volume, sources, &Facts::default(), &Tokens::new())?;
        Ok(files.expect("made of files").into_iter().map(|file| file.path).collect())
    }

    #[test]
    fn all_keys_or_the_chosen_ones() {
        assert_eq!(paths(&volume(&[], None), &sources()).expect("files"), ["a", "b"]);
        assert_eq!(paths(&volume(&[("a", "x/y")], None), &sources()).expect("files"), ["x/y"]);
    }

    #[test]
    fn what_is_missing_is_named_unless_optional() {
        let none = Sources::new();
        let error = paths(&volume(&[], None), &none).expect_err("missing");
        assert_eq!(error.to_string(), "volume \"v\": configmap \"m\" not found");
        assert!(paths(&volume(&[], Some(true)), &none).expect("optional").is_empty());
        let error = paths(&volume(&[("c", "c")], None), &sources()).expect_err("missing key");
        assert!(error.to_string().contains("non-existent key \"c\""), "{error}");
    }

    #[test]
    fn paths_stay_below_the_volume() {
        for path in ["../up", "/etc/passwd", "a/../../b", ""] {
            assert!(paths(&volume(&[("a", path)], None), &sources()).is_err(), "{path}");
        }
    }

    #[test]
    fn writing_replaces_and_removes() {
        let directory = tempfile::tempdir().expect("directory");
        let world = skiff_world::World::real("test");
        let file = |path: &str, text: &str| ContentFile {
            path: path.into(),
            bytes: text.into(),
            mode: 0o644,
            ..ContentFile::default()
        };
        write(&world.disk(), directory.path(), &[file("a", "1"), file("d/b", "2")], true).expect("write");
        write(&world.disk(), directory.path(), &[file("a", "3")], true).expect("write again");
        assert_eq!(std::fs::read_to_string(directory.path().join("a")).expect("a"), "3");
        assert!(!directory.path().join("d").exists());
    }
}
