//! A container's environment: Services, envFrom, env, and the expansion of `$(NAME)`. Pure: what ConfigMaps and Secrets
//! hold is fetched first ([`needs`]) and handed in.

use std::collections::{BTreeMap, BTreeSet};

use skiff_proto::Quantity;
use skiff_proto::corev1::{Container, EnvVarSource, ObjectFieldSelector, Pod, ResourceFieldSelector, Service};

/// A ConfigMap or Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SourceKind {
    /// a ConfigMap
    ConfigMap,
    /// a Secret
    Secret,
}

impl SourceKind {
    /// The word in messages.
    pub fn word(self) -> &'static str {
        match self {
            SourceKind::ConfigMap => "configmap",
            SourceKind::Secret => "secret",
        }
    }
}

/// Names a ConfigMap or Secret in the Pod's namespace.
pub type SourceRef = (SourceKind, String);

/// What they hold; None: there is none of this name.
pub type Sources = BTreeMap<SourceRef, Option<BTreeMap<String, Vec<u8>>>>;

/// Facts that only the node knows.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// the Pod's address
    pub pod_ip: String,
    /// the node's address
    pub host_ip: String,
    /// what the node has to give: the limit of a container without one
    pub allocatable: BTreeMap<String, Quantity>,
}

/// Why a container cannot be made from its spec (yet).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvironmentError {
    /// A ConfigMap or Secret that is not there.
    #[error("{} \"{name}\" not found", kind.word())]
    NoSource {
        /// what
        kind: SourceKind,
        /// its name
        name: String,
    },
    /// It is there, the key is not.
    #[error("couldn't find key {key} in {} {name}", kind.word())]
    NoKey {
        /// of what
        kind: SourceKind,
        /// its name
        name: String,
        /// the key
        key: String,
    },
    /// The value is not text.
    #[error("the value of key {key} in {} {name} is not UTF-8 and cannot be an environment variable", kind.word())]
    NotText {
        /// of what
        kind: SourceKind,
        /// its name
        name: String,
        /// the key
        key: String,
    },
    /// A field that fieldRef or resourceFieldRef cannot give.
    #[error("unsupported field path \"{0}\"")]
    Field(String),
}

/// Which ConfigMaps and Secrets a container's environment needs.
pub fn needs(container: &Container) -> BTreeSet<SourceRef> {
    let mut needed = BTreeSet::new();
    for from in &container.env_from {
        if let Some(map) = &from.config_map_ref {
            needed.insert((SourceKind::ConfigMap, map.local_object_reference.name.clone()));
        }
        if let Some(secret) = &from.secret_ref {
            needed.insert((SourceKind::Secret, secret.local_object_reference.name.clone()));
        }
    }
    for source in container.env.iter().filter_map(|variable| variable.value_from.as_ref()) {
        if let Some(key) = &source.config_map_key_ref {
            needed.insert((SourceKind::ConfigMap, key.local_object_reference.name.clone()));
        }
        if let Some(key) = &source.secret_key_ref {
            needed.insert((SourceKind::Secret, key.local_object_reference.name.clone()));
        }
    }
    needed
}

/// The whole environment, in order; a later variable of the same name wins.
pub fn environment(
    pod: &Pod,
    container: &Container,
    services: &[(String, String)],
    sources: &Sources,
    facts: &Facts,
) -> Result<Vec<(String, String)>, EnvironmentError> {
    let mut variables = Variables::default();
    for (name, value) in services {
        variables.set(name, value.clone());
    }
    for from in &container.env_from {
        if let Some(map) = &from.config_map_ref {
            let name = &map.local_object_reference.name;
            variables.all_of(SourceKind::ConfigMap, name, map.optional, &from.prefix, sources)?;
        }
        if let Some(secret) = &from.secret_ref {
            let name = &secret.local_object_reference.name;
            variables.all_of(SourceKind::Secret, name, secret.optional, &from.prefix, sources)?;
        }
    }
    for variable in &container.env {
        let value = match &variable.value_from {
            None => Some(expand(&variable.value, &variables.by_name)),
            Some(source) => from_source(pod, container, source, sources, facts)?,
        };
        if let Some(value) = value {
            variables.set(&variable.name, value);
        }
    }
    Ok(variables.ordered())
}

#[derive(Default)]
struct Variables {
    order: Vec<String>,
    by_name: BTreeMap<String, String>,
}

impl Variables {
    fn set(&mut self, name: &str, value: String) {
        if self.by_name.insert(name.to_string(), value).is_none() {
            self.order.push(name.to_string());
        }
    }

    fn all_of(
        &mut self,
        kind: SourceKind,
        name: &str,
        optional: Option<bool>,
        prefix: &str,
        sources: &Sources,
    ) -> Result<(), EnvironmentError> {
        let Some(data) = sources.get(&(kind, name.to_string())).and_then(Option::as_ref) else {
            let missing = EnvironmentError::NoSource { kind, name: name.to_string() };
            return if optional == Some(true) { Ok(()) } else { Err(missing) };
        };
        for (key, value) in data {
            // A key that cannot be a variable, or a value that is not text, is skipped, as in Kubernetes.
            if let (true, Ok(text)) = (!key.is_empty() && !key.contains('='), std::str::from_utf8(value)) {
                self.set(&format!("{prefix}{key}"), text.to_string());
            }
        }
        Ok(())
    }

    fn ordered(self) -> Vec<(String, String)> {
        let Variables { order, mut by_name } = self;
        order.into_iter().filter_map(|name| by_name.remove_entry(&name)).collect()
    }
}

fn from_source(
    pod: &Pod,
    container: &Container,
    source: &EnvVarSource,
    sources: &Sources,
    facts: &Facts,
) -> Result<Option<String>, EnvironmentError> {
    let key_of = |kind, name: &str, key: &str, optional: Option<bool>| {
        let optional = optional == Some(true);
        let Some(data) = sources.get(&(kind, name.to_string())).and_then(Option::as_ref) else {
            let missing = EnvironmentError::NoSource { kind, name: name.to_string() };
            return if optional { Ok(None) } else { Err(missing) };
        };
        let (name, key) = (name.to_string(), key.to_string());
        let Some(value) = data.get(&key) else {
            return if optional { Ok(None) } else { Err(EnvironmentError::NoKey { kind, name, key }) };
        };
        let text = String::from_utf8(value.clone());
        text.map(Some).map_err(|_| EnvironmentError::NotText { kind, name, key })
    };
    if let Some(key) = &source.config_map_key_ref {
        return key_of(SourceKind::ConfigMap, &key.local_object_reference.name, &key.key, key.optional);
    }
    if let Some(key) = &source.secret_key_ref {
        return key_of(SourceKind::Secret, &key.local_object_reference.name, &key.key, key.optional);
    }
    if let Some(field) = &source.field_ref {
        return self::field(pod, field, facts).map(Some);
    }
    if let Some(resource) = &source.resource_field_ref {
        return self::resource(pod, container, resource, facts).map(Some);
    }
    Ok(None)
}

/// A field of the Pod, as the downward API gives it.
pub fn field(pod: &Pod, selector: &ObjectFieldSelector, facts: &Facts) -> Result<String, EnvironmentError> {
    let path = selector.field_path.as_str();
    let metadata = &pod.metadata;
    let subscript = |prefix: &str| path.strip_prefix(prefix)?.strip_prefix("['")?.strip_suffix("']");
    if let Some(key) = subscript("metadata.labels") {
        return Ok(metadata.labels.get(key).cloned().unwrap_or_default());
    }
    if let Some(key) = subscript("metadata.annotations") {
        return Ok(metadata.annotations.get(key).cloned().unwrap_or_default());
    }
    let lines = |map: &BTreeMap<String, String>| {
        map.iter().map(|(key, value)| format!("{key}={value:?}")).collect::<Vec<_>>().join("\n")
    };
    Ok(match path {
        "metadata.name" => metadata.name.clone(),
        "metadata.namespace" => metadata.namespace.clone(),
        "metadata.uid" => metadata.uid.clone(),
        "metadata.labels" => lines(&metadata.labels),
        "metadata.annotations" => lines(&metadata.annotations),
        "spec.nodeName" => pod.spec.node_name.clone(),
        "spec.serviceAccountName" => pod.spec.service_account_name.clone(),
        "status.hostIP" | "status.hostIPs" => facts.host_ip.clone(),
        "status.podIP" | "status.podIPs" => facts.pod_ip.clone(),
        _ => return Err(EnvironmentError::Field(path.to_string())),
    })
}

/// A container's limit or request, divided and rounded up.
pub fn resource(
    pod: &Pod,
    container: &Container,
    selector: &ResourceFieldSelector,
    facts: &Facts,
) -> Result<String, EnvironmentError> {
    let unsupported = || EnvironmentError::Field(selector.resource.clone());
    let mut all = pod.spec.containers.iter().chain(&pod.spec.init_containers);
    let named = all.find(|other| other.name == selector.container_name);
    let container = named.unwrap_or(container);
    let (list, name) = selector.resource.split_once('.').ok_or_else(unsupported)?;
    let value = match list {
        "limits" => container.resources.limits.get(name).or_else(|| facts.allocatable.get(name)),
        "requests" => container.resources.requests.get(name).or_else(|| container.resources.limits.get(name)),
        _ => return Err(unsupported()),
    };
    let milli = value.map_or(0, Quantity::milli);
    let divisor = if selector.divisor.is_zero() { 1000 } else { selector.divisor.milli() };
    Ok((milli + divisor - 1).div_euclid(divisor).to_string())
}

/// Replaces `$(NAME)`; `$$` is a `$`, and what is not known stays as it is.
pub fn expand(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match variables.get(name) {
                Some(value) => out.push_str(value),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

/// The variables that tell a Pod where the Services are.
pub fn service_variables<'a>(services: impl Iterator<Item = &'a Service>) -> Vec<(String, String)> {
    let mut variables = Vec::new();
    for service in services {
        let ip = &service.spec.cluster_ip;
        if ip.is_empty() || ip == "None" || service.spec.ports.is_empty() {
            continue;
        }
        let name = variable_name(&service.metadata.name);
        let host = if ip.contains(':') { format!("[{ip}]") } else { ip.clone() };
        let first = &service.spec.ports[0];
        let protocol = |text: &str| {
            if text.is_empty() { "TCP".to_string() } else { text.to_uppercase() }
        };
        variables.push((format!("{name}_SERVICE_HOST"), ip.clone()));
        variables.push((format!("{name}_SERVICE_PORT"), first.port.to_string()));
        for port in service.spec.ports.iter().filter(|port| !port.name.is_empty()) {
            variables.push((format!("{name}_SERVICE_PORT_{}", variable_name(&port.name)), port.port.to_string()));
        }
        let url = |protocol: &str, port: i32| format!("{}://{host}:{port}", protocol.to_lowercase());
        variables.push((format!("{name}_PORT"), url(&protocol(&first.protocol), first.port)));
        for port in &service.spec.ports {
            let protocol = protocol(&port.protocol);
            let prefix = format!("{name}_PORT_{}_{protocol}", port.port);
            variables.push((prefix.clone(), url(&protocol, port.port)));
            variables.push((format!("{prefix}_PROTO"), protocol.to_lowercase()));
            variables.push((format!("{prefix}_PORT"), port.port.to_string()));
            variables.push((format!("{prefix}_ADDR"), ip.clone()));
        }
    }
    variables
}

fn variable_name(name: &str) -> String {
    name.to_uppercase().replace('-', "_")
}

#[cfg(test)]
mod tests;
