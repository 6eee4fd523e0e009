//! Checks of volumes and of what mounts them.

use super::{child, index, names, one_of};
use crate::resources::field_error::Errors;
use skiff_proto::corev1::{KeyToPath, ServiceAccountTokenProjection, Volume, VolumeMount, VolumeSource};
use std::collections::BTreeSet;

/// The volumes of a Pod. Returns their names, for the mounts to refer to.
pub fn volumes<'a>(volumes: &'a [Volume], path: &str, errors: &mut Errors) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    for (i, volume) in volumes.iter().enumerate() {
        let path = index(path, "volumes", i);
        let name_path = child(&path, "name");
        if volume.name.is_empty() {
            errors.required(name_path, "");
        } else if seen.contains(volume.name.as_str()) {
            errors.duplicate(name_path, &volume.name);
        } else {
            for problem in names::dns1123_label(&volume.name) {
                errors.invalid(name_path.clone(), &volume.name, problem);
            }
            seen.insert(volume.name.as_str());
        }
        source(&volume.volume_source, &path, errors);
    }
    seen
}

/// The sources set, by their field names.
pub fn sources(source: &VolumeSource) -> Vec<&'static str> {
    let all = [
        ("hostPath", source.host_path.is_some()),
        ("emptyDir", source.empty_dir.is_some()),
        ("secret", source.secret.is_some()),
        ("configMap", source.config_map.is_some()),
        ("downwardAPI", source.downward_api.is_some()),
        ("projected", source.projected.is_some()),
        ("persistentVolumeClaim", source.persistent_volume_claim.is_some()),
        ("nfs", source.nfs.is_some()),
        ("csi", source.csi.is_some()),
        ("ephemeral", source.ephemeral.is_some()),
        ("image", source.image.is_some()),
        ("gcePersistentDisk", source.gce_persistent_disk.is_some()),
        ("awsElasticBlockStore", source.aws_elastic_block_store.is_some()),
        ("gitRepo", source.git_repo.is_some()),
        ("iscsi", source.iscsi.is_some()),
        ("glusterfs", source.glusterfs.is_some()),
        ("rbd", source.rbd.is_some()),
        ("flexVolume", source.flex_volume.is_some()),
        ("cinder", source.cinder.is_some()),
        ("cephfs", source.cephfs.is_some()),
        ("flocker", source.flocker.is_some()),
        ("fc", source.fc.is_some()),
        ("azureFile", source.azure_file.is_some()),
        ("azureDisk", source.azure_disk.is_some()),
        ("vsphereVolume", source.vsphere_volume.is_some()),
        ("quobyte", source.quobyte.is_some()),
        ("photonPersistentDisk", source.photon_persistent_disk.is_some()),
        ("portworxVolume", source.portworx_volume.is_some()),
        ("scaleIO", source.scale_io.is_some()),
        ("storageos", source.storageos.is_some()),
    ];
    all.into_iter().filter(|(_, set)| *set).map(|(name, _)| name).collect()
}

fn source(source: &VolumeSource, path: &str, errors: &mut Errors) {
    let set = sources(source);
    for extra in set.iter().skip(1) {
        errors.forbidden(child(path, extra), "may not specify more than 1 volume type");
    }
    if set.is_empty() {
        errors.required(path, "must specify a volume type");
    }
    if let Some(host) = &source.host_path {
        let path = child(path, "hostPath");
        if host.path.is_empty() {
            errors.required(child(&path, "path"), "");
        }
        no_backsteps(&host.path, child(&path, "path"), errors);
        let kinds =
            ["", "DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket", "CharDevice", "BlockDevice"];
        one_of(host.r#type.as_deref().unwrap_or(""), &kinds, child(&path, "type"), errors);
    }
    if let Some(empty) = &source.empty_dir {
        if empty.size_limit.as_ref().is_some_and(|q| q.milli() < 0) {
            errors.forbidden(child(path, "emptyDir.sizeLimit"), "SizeLimit field must be a valid resource quantity");
        }
        if !["", "Memory"].contains(&empty.medium.as_str()) && !empty.medium.starts_with("HugePages") {
            errors.not_supported(child(path, "emptyDir.medium"), &empty.medium, &["", "Memory"]);
        }
    }
    if let Some(secret) = &source.secret {
        let path = child(path, "secret");
        if secret.secret_name.is_empty() {
            errors.required(child(&path, "secretName"), "");
        }
        mode(secret.default_mode, child(&path, "defaultMode"), errors);
        items(&secret.items, &path, errors);
    }
    if let Some(config) = &source.config_map {
        let path = child(path, "configMap");
        if config.local_object_reference.name.is_empty() {
            errors.required(child(&path, "name"), "");
        }
        mode(config.default_mode, child(&path, "defaultMode"), errors);
        items(&config.items, &path, errors);
    }
    for (i, projection) in source.projected.iter().flat_map(|projected| &projected.sources).enumerate() {
        if let Some(token) = &projection.service_account_token {
            let path = child(&index(&child(path, "projected"), "sources", i), "serviceAccountToken");
            service_account_token(token, &path, errors);
        }
    }
    if source.persistent_volume_claim.as_ref().is_some_and(|claim| claim.claim_name.is_empty()) {
        errors.required(child(path, "persistentVolumeClaim.claimName"), "");
    }
}

fn service_account_token(token: &ServiceAccountTokenProjection, path: &str, errors: &mut Errors) {
    if let Some(seconds) = token.expiration_seconds {
        let path = child(path, "expirationSeconds");
        if seconds < 600 {
            errors.invalid(path, seconds, "may not specify a duration less than 10 minutes");
        } else if seconds > 1 << 32 {
            errors.invalid(path, seconds, "may not specify a duration larger than 2^32 seconds");
        }
    }
    if token.path.is_empty() {
        errors.required(child(path, "path"), "");
    }
    local_path(&token.path, child(path, "path"), errors);
}

fn items(items: &[KeyToPath], path: &str, errors: &mut Errors) {
    for (i, item) in items.iter().enumerate() {
        let path = index(path, "items", i);
        if item.key.is_empty() {
            errors.required(child(&path, "key"), "");
        }
        if item.path.is_empty() {
            errors.required(child(&path, "path"), "");
        }
        local_path(&item.path, child(&path, "path"), errors);
        mode(item.mode, child(&path, "mode"), errors);
    }
}

fn mode(mode: Option<i32>, path: String, errors: &mut Errors) {
    if let Some(mode) = mode.filter(|mode| !(0..=0o777).contains(mode)) {
        errors.invalid(path, mode, "must be a number between 0 and 0777 (octal), both inclusive");
    }
}

/// A path inside of a volume: relative, and never upwards.
pub fn local_path(value: &str, path: String, errors: &mut Errors) {
    if value.starts_with('/') {
        errors.invalid(path.clone(), value, "must be a relative path");
    }
    no_backsteps(value, path, errors);
}

fn no_backsteps(value: &str, path: String, errors: &mut Errors) {
    if value.split('/').any(|part| part == "..") {
        errors.invalid(path, value, "must not contain '..'");
    }
}

/// What a container mounts.
pub fn mounts(mounts: &[VolumeMount], volumes: &BTreeSet<&str>, path: &str, errors: &mut Errors) {
    let mut points = BTreeSet::new();
    for (i, mount) in mounts.iter().enumerate() {
        let path = index(path, "volumeMounts", i);
        if mount.name.is_empty() {
            errors.required(child(&path, "name"), "");
        } else if !volumes.contains(mount.name.as_str()) {
            errors.not_found(child(&path, "name"), &mount.name);
        }
        if mount.mount_path.is_empty() {
            errors.required(child(&path, "mountPath"), "");
        } else if !points.insert(mount.mount_path.as_str()) {
            errors.invalid(child(&path, "mountPath"), &mount.mount_path, "must be unique");
        }
        if !mount.sub_path.is_empty() {
            local_path(&mount.sub_path, child(&path, "subPath"), errors);
        }
        if !mount.sub_path.is_empty() && !mount.sub_path_expr.is_empty() {
            errors.invalid(
                child(&path, "subPathExpr"),
                &mount.sub_path_expr,
                "subPathExpr and subPath are mutually exclusive",
            );
        }
        if let Some(propagation) = &mount.mount_propagation {
            let all = ["None", "HostToContainer", "Bidirectional"];
            one_of(propagation, &all, child(&path, "mountPropagation"), errors);
        }
    }
}
