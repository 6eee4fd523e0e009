//! ServiceAccount: every Pod runs as one, which must exist; its containers find the account's token, the certificate of the
//! API server's authority and the namespace's name in files, unless Pod or account say that they shall not; and the account's
//! imagePullSecrets are those of Pods that name none.
//!
//! Where the API server makes no tokens there is only the name.

use super::{Facts, Plugin, Verb, namespace_lifecycle};
use crate::registry::{ApiError, ApiResult};
use crate::resources::{Object, Typed};
use skiff_proto::corev1::{
    ConfigMapProjection, Container, DownwardApiProjection, DownwardApiVolumeFile, KeyToPath, LocalObjectReference,
    ObjectFieldSelector, Pod, ProjectedVolumeSource, ServiceAccountTokenProjection, Volume, VolumeMount,
    VolumeProjection, VolumeSource,
};

/// The account of Pods that name none.
pub const DEFAULT: &str = "default";
/// What the volume's name begins with.
const VOLUME: &str = "kube-api-access-";
/// Where containers find the files.
const MOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// How long a token is good, in seconds; as in Kubernetes, where an hour and some mark the tokens of this volume.
const LIFE: i64 = 3607;
const ROOT_CA: &str = "kube-root-ca.crt";
const CERTIFICATE: &str = "ca.crt";
const MODE: i32 = 0o644;

/// The plugin.
pub struct ServiceAccount;

impl Plugin for ServiceAccount {
    fn mutate(&self, facts: &Facts<'_>, new: &mut dyn Object) -> ApiResult<()> {
        if !facts.is(Verb::Create, "", "Pod") {
            return Ok(());
        }
        let Some(Typed(pod)) = new.as_any_mut().downcast_mut::<Typed<Pod>>() else { return Ok(()) };
        name(pod);
        if !facts.settings.service_account_tokens {
            return Ok(());
        }
        let (namespace, account) = (pod.metadata.namespace.clone(), pod.spec.service_account_name.clone());
        let found = facts.cluster.get::<skiff_proto::corev1::ServiceAccount>(&namespace, &account)?;
        let Some(found) = found else {
            // Where the namespace is the reason, that is said.
            namespace_lifecycle::is_open(facts, new)?;
            let why =
                format!("error looking up service account {namespace}/{account}: serviceaccount {account:?} not found");
            return Err(ApiError::forbidden(facts.resource, &new.meta().name, why));
        };
        let Some(Typed(pod)) = new.as_any_mut().downcast_mut::<Typed<Pod>>() else { return Ok(()) };
        let wanted = pod.spec.automount_service_account_token.or(found.automount_service_account_token);
        if wanted.unwrap_or(true) {
            mount(pod, &found.metadata.uid);
        }
        if pod.spec.image_pull_secrets.is_empty() {
            pod.spec.image_pull_secrets = found.image_pull_secrets;
        }
        Ok(())
    }
}

fn name(pod: &mut Pod) {
    let spec = &mut pod.spec;
    if spec.service_account_name.is_empty() {
        // The older name of the field is still taken.
        spec.service_account_name = match spec.service_account.as_str() {
            "" => DEFAULT.into(),
            named => named.into(),
        };
    }
    spec.service_account = spec.service_account_name.clone();
}

/// Puts the volume into the Pod, and into every container that mounts nothing of its own there.
fn mount(pod: &mut Pod, account: &str) {
    let spec = &mut pod.spec;
    let there = spec.volumes.iter().find(|volume| volume.name.starts_with(VOLUME)).map(|volume| volume.name.clone());
    let is_there = there.is_some();
    let volume = there.unwrap_or_else(|| format!("{VOLUME}{}", suffix(account)));
    let mut needed = false;
    for container in spec.init_containers.iter_mut().chain(&mut spec.containers) {
        needed |= mount_in(container, &volume);
    }
    if needed && !is_there {
        spec.volumes.push(files(volume));
    }
}

fn mount_in(container: &mut Container, volume: &str) -> bool {
    let taken = container.volume_mounts.iter().any(|mount| mount.mount_path == MOUNT);
    if !taken {
        container.volume_mounts.push(VolumeMount {
            name: volume.into(),
            read_only: true,
            mount_path: MOUNT.into(),
            ..Default::default()
        });
    }
    !taken
}

/// Five characters that are the same for all Pods of an account: what runs from one template stays the same in all Pods
/// of it, and one seed is one run.
fn suffix(account: &str) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut sum = u64::from(crc32fast::hash(account.as_bytes()));
    let mut letter = || {
        let at = sum % LETTERS.len() as u64;
        sum /= LETTERS.len() as u64;
        char::from(LETTERS[usize::try_from(at).unwrap_or(0)])
    };
    (0..5).map(|_| letter()).collect()
}

/// The volume: a token that is renewed, the certificate, and the namespace's name.
fn files(name: String) -> Volume {
    let token =
        ServiceAccountTokenProjection { expiration_seconds: Some(LIFE), path: "token".into(), ..Default::default() };
    let certificate = ConfigMapProjection {
        local_object_reference: LocalObjectReference { name: ROOT_CA.into() },
        items: vec![KeyToPath { key: CERTIFICATE.into(), path: CERTIFICATE.into(), ..Default::default() }],
        ..Default::default()
    };
    let field = ObjectFieldSelector { api_version: "v1".into(), field_path: "metadata.namespace".into() };
    let namespace = DownwardApiProjection {
        items: vec![DownwardApiVolumeFile {
            path: "namespace".into(),
            field_ref: Some(field.into()),
            ..Default::default()
        }],
    };
    let sources = vec![
        VolumeProjection { service_account_token: Some(token.into()), ..Default::default() },
        VolumeProjection { config_map: Some(certificate.into()), ..Default::default() },
        VolumeProjection { downward_api: Some(namespace.into()), ..Default::default() },
    ];
    let projected = ProjectedVolumeSource { sources, default_mode: Some(MODE), ..Default::default() };
    Volume { name, volume_source: VolumeSource { projected: Some(projected.into()), ..Default::default() } }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(containers: &[&str]) -> Pod {
        let mut pod = Pod::default();
        let container = |name: &&str| Container { name: (*name).into(), ..Default::default() };
        pod.spec.containers = containers.iter().map(container).collect();
        pod.spec.init_containers = vec![container(&"init")];
        pod
    }

    fn mounts(pod: &Pod) -> Vec<usize> {
        pod.spec.init_containers.iter().chain(&pod.spec.containers).map(|c| c.volume_mounts.len()).collect()
    }

    #[test]
    fn every_container_gets_the_files_once() {
        let mut made = pod(&["a", "b"]);
        for _ in 0..2 {
            name(&mut made);
            mount(&mut made, "uid-1");
        }
        assert_eq!(mounts(&made), [1, 1, 1]);
        assert_eq!(made.spec.volumes.len(), 1);
        let volume = &made.spec.volumes[0].name;
        assert_eq!(volume.len(), VOLUME.len() + 5);
        assert_eq!((made.spec.service_account_name.as_str(), made.spec.service_account.as_str()), (DEFAULT, DEFAULT));
        let mut other = pod(&["c"]);
        mount(&mut other, "uid-1");
        assert_eq!(&other.spec.volumes[0].name, volume, "all Pods of an account have the same");
    }

    #[test]
    fn what_a_container_mounts_there_itself_stays() {
        let own = VolumeMount { name: "mine".into(), mount_path: MOUNT.into(), ..Default::default() };
        let mut made = pod(&["a"]);
        for container in made.spec.init_containers.iter_mut().chain(&mut made.spec.containers) {
            container.volume_mounts.push(own.clone());
        }
        mount(&mut made, "uid-1");
        assert_eq!(mounts(&made), [1, 1]);
        assert!(made.spec.volumes.is_empty(), "nobody needs it");
    }
}
