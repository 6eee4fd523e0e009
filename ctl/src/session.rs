//! Where a command goes and as whom: the kubeconfig, the namespace, the server's resource table.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use serde_json::{Value, json};
use skiff_client::{Client, ClientConfig, DynamicApi, Impersonate, Token, WriteOptions};
use skiff_proto::schema::{self, Schema};
use skiff_proto::skiffv1::ResourceInfo;
use skiff_world::World;
use tokio::sync::Mutex;

use crate::Global;
use crate::target;

/// What a server has.
struct Discovered {
    resources: Vec<ResourceInfo>,
    server_version: String,
}

/// One run's connection and what was learnt over it.
pub struct Session {
    world: World,
    client: Client,
    namespace: String,
    /// Where the address comes from, for messages.
    source: String,
    discovered: Mutex<Option<Arc<Discovered>>>,
}

/// As long as nobody waits.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3600);

impl Session {
    /// Reads the kubeconfig; connects when first used.
    pub fn open(global: &Global) -> Result<Session> {
        let path = kubeconfig(global)?;
        let (mut config, namespace) = ClientConfig::from_kubeconfig(&path, global.context.as_deref())
            .with_context(|| format!("kubeconfig {}", path.display()))?;
        if let Some(token) = &global.token {
            config.token = Some(Token::Text(token.clone()));
            // The certificate is somebody else's.
            if let Some(tls) = &mut config.tls {
                tls.identity = None;
            }
        }
        config.user_agent = format!("skiffctl/{}", env!("CARGO_PKG_VERSION"));
        config.impersonate = impersonated(global)?;
        let world = World::real("skiffctl");
        let client = Client::new(&world, config)?
            .with_timeout(if global.request_timeout.is_zero() { FOR_EVER } else { global.request_timeout })
            .with_warnings(Arc::new(|warning| eprintln!("Warning: {warning}")));
        let namespace = global.namespace.clone().unwrap_or(namespace);
        let source = match &global.context {
            Some(context) => format!("context {context:?} of {}", path.display()),
            None => path.display().to_string(),
        };
        Ok(Session { world, client, namespace, source, discovered: Mutex::new(None) })
    }

    /// A session over a client that is there already.
    #[cfg(test)]
    pub fn over(client: &Client, namespace: &str) -> Session {
        Session {
            world: client.world().clone(),
            client: client.clone(),
            namespace: namespace.to_owned(),
            source: "a test".to_owned(),
            discovered: Mutex::new(None),
        }
    }

    /// Where the API server's address comes from: the kubeconfig.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The namespace that commands mean.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The connection.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// What this run may take from outside.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// The wall clock.
    pub fn now(&self) -> Timestamp {
        self.world.wall()
    }

    /// What to do with objects of one resource.
    pub fn api(&self, resource: &ResourceInfo, dry_run: bool) -> DynamicApi {
        DynamicApi::new(&self.client, resource).with_options(WriteOptions {
            dry_run,
            field_manager: "skiffctl".to_owned(),
            field_validation: "Strict".to_owned(),
        })
    }

    /// The server's resource table, asked for once.
    pub async fn resources(&self) -> Result<Vec<ResourceInfo>> {
        Ok(self.discover().await?.resources.clone())
    }

    /// One row of it, by group and plural.
    pub async fn resource(&self, group: &str, plural: &str) -> Result<ResourceInfo> {
        let table = self.resources().await?;
        match table.iter().find(|r| r.group == group && r.resource == plural) {
            Some(resource) => Ok(resource.clone()),
            None => target::find(&table, plural),
        }
    }

    /// What is known of the fields of a kind: of one that is built in by ourselves, of a custom resource by the server.
    pub async fn schema(&self, resource: &ResourceInfo) -> Result<Option<Schema>> {
        if !resource.custom {
            return Ok(schema::for_kind(&resource.group, &resource.version, &resource.kind));
        }
        let definition = self.client.explain(resource).await?;
        Ok(definition.map(|definition| Schema::of_definition(&resource.kind, &definition)))
    }

    /// The server's version.
    pub async fn server_version(&self) -> Result<String> {
        Ok(self.discover().await?.server_version.clone())
    }

    async fn discover(&self) -> Result<Arc<Discovered>> {
        let mut discovered = self.discovered.lock().await;
        if let Some(known) = &*discovered {
            return Ok(known.clone());
        }
        let table = self.client.discover().await?;
        let known = Arc::new(Discovered { resources: table.resources, server_version: table.server_version });
        *discovered = Some(known.clone());
        Ok(known)
    }

    /// The server has learnt something meanwhile: its table is asked for again when it is needed next.
    pub async fn forget_resources(&self) {
        *self.discovered.lock().await = None;
    }

    /// Puts the session's namespace into an object that names none; refuses one that names another
    /// than `-n` says.
    pub fn settle_namespace(&self, resource: &ResourceInfo, object: &mut Value) -> Result<String> {
        if !resource.namespaced {
            return Ok(String::new());
        }
        let named = object["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
        if !named.is_empty() {
            return Ok(named);
        }
        match object.get_mut("metadata").and_then(Value::as_object_mut) {
            Some(metadata) => metadata.insert("namespace".to_owned(), json!(self.namespace)),
            None => bail!("metadata: Required value"),
        };
        Ok(self.namespace.clone())
    }
}

/// Whom the flags ask as.
fn impersonated(global: &Global) -> Result<Option<Impersonate>> {
    match &global.as_user {
        Some(user) => Ok(Some(Impersonate {
            user: user.clone(),
            groups: global.as_group.clone(),
            uid: global.as_uid.clone().unwrap_or_default(),
        })),
        None if global.as_group.is_empty() && global.as_uid.is_none() => Ok(None),
        None => bail!("--as-group and --as-uid need --as USER: a group alone is nobody"),
    }
}

/// The file that says where the cluster is: the flag, $KUBECONFIG, ~/.kube/config, and what
/// `skiff up` wrote.
pub fn kubeconfig(global: &Global) -> Result<PathBuf> {
    if let Some(path) = &global.kubeconfig {
        return Ok(path.clone());
    }
    if let Some(path) = std::env::var_os("KUBECONFIG").filter(|p| !p.is_empty()) {
        return Ok(PathBuf::from(path));
    }
    let user = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".kube/config"));
    let home = std::env::var_os("SKIFF_HOME").map_or_else(|| PathBuf::from("/var/lib/skiff"), PathBuf::from);
    let tried: Vec<PathBuf> = user.into_iter().chain([home.join("admin.kubeconfig")]).collect();
    match tried.iter().find(|p| p.exists()) {
        Some(path) => Ok(path.clone()),
        None => bail!(
            "no cluster is known: neither {} is there; `skiff up` makes a cluster, --kubeconfig names another",
            tried.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(" nor ")
        ),
    }
}
