//! Addresses and node ports of Services. Each one given is a key of its own in the store, written only if it is absent:
//! however many servers create Services at once, none is given twice.
//!
//! The address's key is written in the same transaction as the Service. Node ports, of which there may be many, are
//! reserved before. What a crash leaves reserved belongs to a Service that does not have it: it is found and taken over
//! when it is next asked for.

use super::commit::{Beside, store_error};
use super::error::{ApiError, ApiResult};
use super::{Registry, Request};
use crate::resources::{Errors, Object, Typed, has_address, has_node_ports};
use crate::store::{Compare, Op, Txn, TxnResult};
use bytes::Bytes;
use ipnet::Ipv4Net;
use skiff_proto::corev1::Service;
use skiff_world::mutants::{Mutant, is_awake};
use std::net::Ipv4Addr;

/// The range of node ports.
const PORTS: std::ops::RangeInclusive<i32> = 30000..=32767;
/// Random picks before every number is tried in turn.
const PICKS: usize = 16;
const ADDRESSES: &str = "/skiff/-/service-addresses/";
const NODE_PORTS: &str = "/skiff/-/service-node-ports/";

/// Keys reserved for a write that has not happened yet, each with the revision of its reservation.
#[derive(Default)]
pub struct Reserved(Vec<Compare>);

impl Reserved {
    fn has(&self, key: &Bytes) -> bool {
        self.0.iter().any(|reserved| reserved.key == *key)
    }
}

/// The first address of a range: the API server's.
pub fn first_address(cidr: &Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(cidr.network()).wrapping_add(1))
}

fn address_key(ip: &str) -> Bytes {
    format!("{ADDRESSES}{ip}").into()
}

fn port_key(protocol: &str, port: i32) -> Bytes {
    format!("{NODE_PORTS}{protocol}/{port}").into()
}

fn service(object: &dyn Object) -> Option<&Service> {
    object.as_any().downcast_ref::<Typed<Service>>().map(|typed| &typed.0)
}

/// The keys a Service holds.
fn holds(service: &Service) -> Vec<Bytes> {
    let spec = &service.spec;
    let address = (has_address(spec) && !spec.cluster_ip.is_empty()).then(|| address_key(&spec.cluster_ip));
    let ports = spec.ports.iter().filter(|p| p.node_port != 0).map(|p| port_key(&p.protocol, p.node_port));
    address.into_iter().chain(ports).collect()
}

impl Registry {
    /// Gives a new or changed Service what it lacks. Other kinds pass.
    pub(super) async fn allocate(
        &self,
        request: &Request,
        object: &mut dyn Object,
        old: Option<&dyn Object>,
        beside: &mut Beside,
    ) -> ApiResult<Reserved> {
        let mut reserved = Reserved::default();
        if service(object).is_none() {
            return Ok(reserved);
        }
        let held = old.and_then(service).map(holds).unwrap_or_default();
        let Some(Typed(wanted)) = object.as_any_mut().downcast_mut::<Typed<Service>>() else { return Ok(reserved) };
        let result = self.allocate_all(request, wanted, &held, beside, &mut reserved).await;
        match result {
            // The write stands on what was reserved: if somebody took it over meanwhile, it is worked out again.
            Ok(()) => {
                beside.compare.extend(reserved.0.iter().cloned());
                Ok(reserved)
            }
            Err(error) => {
                self.release(reserved).await;
                Err(error)
            }
        }
    }

    async fn allocate_all(
        &self,
        request: &Request,
        wanted: &mut Service,
        held: &[Bytes],
        beside: &mut Beside,
        reserved: &mut Reserved,
    ) -> ApiResult<()> {
        let owner = owner(wanted);
        if has_node_ports(&wanted.spec) {
            for i in 0..wanted.spec.ports.len() {
                self.allocate_port(request, wanted, i, held, &owner, reserved).await?;
            }
        }
        if has_address(&wanted.spec) {
            self.allocate_address(request, wanted, held, owner, beside).await?;
        }
        Ok(())
    }

    async fn allocate_address(
        &self,
        request: &Request,
        wanted: &mut Service,
        held: &[Bytes],
        owner: Bytes,
        beside: &mut Beside,
    ) -> ApiResult<()> {
        let cidr = self.inner.settings.service_cidr;
        let ip = if wanted.spec.cluster_ip.is_empty() {
            self.free_address(request).await?
        } else {
            wanted.spec.cluster_ip.clone()
        };
        let key = address_key(&ip);
        wanted.spec.cluster_ip = ip.clone();
        wanted.spec.cluster_ips = vec![ip.clone()];
        if held.contains(&key) {
            return Ok(());
        }
        let refuse = |why: &str| Err(invalid(request, &wanted.metadata.name, "spec.clusterIPs", &ip, why));
        match ip.parse::<Ipv4Addr>() {
            Ok(v4) if cidr.contains(&v4) && v4 != cidr.network() && v4 != cidr.broadcast() => {}
            _ => {
                return refuse(&format!(
                    "failed to allocate IP {ip}: the provided network does not contain it ({cidr})"
                ));
            }
        }
        match self.holder(&key).await? {
            Holder::Nobody(stands_on) => {
                beside.compare.extend(stands_on);
                beside.ops.push(Op::Put { key, value: owner, ttl: None });
                Ok(())
            }
            Holder::Somebody(name) => {
                refuse(&format!("failed to allocate IP {ip}: provided IP is already allocated to {name}"))
            }
        }
    }

    async fn free_address(&self, request: &Request) -> ApiResult<String> {
        let cidr = self.inner.settings.service_cidr;
        let base = u32::from(cidr.network());
        let usable = u64::from(u32::from(cidr.broadcast()) - base).saturating_sub(1);
        // The first one is the API server's own.
        let nth = |n: u64| Ipv4Addr::from(base + 2 + (n % usable.saturating_sub(1).max(1)) as u32).to_string();
        let picks = (0..PICKS).map(|_| self.inner.world.random_u64());
        for n in picks.chain(0..usable.saturating_sub(1)).collect::<Vec<_>>() {
            let ip = nth(n);
            if let Holder::Nobody(_) = self.holder(&address_key(&ip)).await? {
                return Ok(ip);
            }
        }
        Err(ApiError::internal(format!(
            "failed to allocate an address for {:?}: the range {cidr} is full",
            request.resource.qualified()
        )))
    }

    async fn allocate_port(
        &self,
        request: &Request,
        wanted: &mut Service,
        i: usize,
        held: &[Bytes],
        owner: &Bytes,
        reserved: &mut Reserved,
    ) -> ApiResult<()> {
        let protocol = wanted.spec.ports[i].protocol.clone();
        let asked = wanted.spec.ports[i].node_port;
        let path = format!("spec.ports[{i}].nodePort");
        if asked != 0 {
            let key = port_key(&protocol, asked);
            if held.contains(&key) || reserved.has(&key) {
                return Ok(());
            }
            if !PORTS.contains(&asked) {
                let why = "provided port is not in the valid range. The range of valid ports is 30000-32767";
                return Err(invalid(request, &wanted.metadata.name, &path, asked, why));
            }
            return match self.reserve(request, &key, owner).await? {
                Some(compare) => {
                    reserved.0.extend(compare);
                    Ok(())
                }
                None => {
                    Err(invalid(request, &wanted.metadata.name, &path, asked, "provided port is already allocated"))
                }
            };
        }
        let count = (PORTS.end() - PORTS.start() + 1) as u64;
        let picks = (0..PICKS).map(|_| self.inner.world.random_below(count));
        for n in picks.chain(0..count).collect::<Vec<_>>() {
            let port = PORTS.start() + n as i32;
            let key = port_key(&protocol, port);
            if held.contains(&key) || reserved.has(&key) {
                continue;
            }
            if let Some(compare) = self.reserve(request, &key, owner).await? {
                reserved.0.extend(compare);
                wanted.spec.ports[i].node_port = port;
                return Ok(());
            }
        }
        Err(ApiError::internal("failed to allocate a nodePort: range is full"))
    }

    /// Takes a key if nobody has it. `None`: somebody has. The comparison says that it is still ours.
    async fn reserve(&self, request: &Request, key: &Bytes, owner: &Bytes) -> ApiResult<Option<Option<Compare>>> {
        let Holder::Nobody(compare) = self.holder(key).await? else { return Ok(None) };
        if request.dry_run() {
            return Ok(Some(None));
        }
        let op = Op::Put { key: key.clone(), value: owner.clone(), ttl: None };
        let result = self.inner.store.txn(Txn { compare, ops: vec![op] }).await.map_err(store_error)?;
        Ok(match result {
            TxnResult::Committed { revision } => Some(Some(Compare { key: key.clone(), mod_revision: revision })),
            TxnResult::Conflict { .. } => None,
        })
    }

    /// Who holds a key: the Service it names, if that Service is there and uses it.
    async fn holder(&self, key: &Bytes) -> ApiResult<Holder> {
        let Some((value, mod_revision, read_at)) = self.read_key(key).await? else {
            return Ok(Holder::Nobody(vec![Compare { key: key.clone(), mod_revision: 0 }]));
        };
        let mut stands_on = vec![Compare { key: key.clone(), mod_revision }];
        let text = String::from_utf8_lossy(&value).into_owned();
        let mut parts = text.splitn(3, '/');
        let (Some(namespace), Some(name), Some(uid)) = (parts.next(), parts.next(), parts.next()) else {
            return Ok(Holder::Nobody(stands_on));
        };
        let resource = self.resource("", "v1", "services")?;
        self.wait_for(read_at).await?;
        let current = self.current(&resource, namespace, name)?;
        let found = current.as_ref().and_then(|c| service(c.object.as_ref()));
        let holds_it = found.is_some_and(|s| s.metadata.uid == uid && holds(s).contains(key));
        if holds_it || is_awake(Mutant::ReservedForEver) {
            return Ok(Holder::Somebody(format!("{namespace}/{name}")));
        }
        // Its owner may be about to be written: taking the key over stands on the owner's not being there.
        let mod_revision = current.map_or(0, |c| c.revision);
        stands_on.push(Compare { key: resource.key(namespace, name), mod_revision });
        Ok(Holder::Nobody(stands_on))
    }

    /// A key's value, its revision, and the revision it was read at.
    async fn read_key(&self, key: &Bytes) -> ApiResult<Option<(Bytes, u64, u64)>> {
        let page = self.inner.store.range(key, None, 1, None).await.map_err(store_error)?;
        let found = page.entries.into_iter().find(|entry| entry.key == *key);
        Ok(found.map(|entry| (entry.value, entry.mod_revision, page.revision)))
    }

    /// Gives back what was reserved for a write that did not happen.
    pub(super) async fn release(&self, reserved: Reserved) {
        for Compare { key, mod_revision } in reserved.0 {
            self.give_back(key, mod_revision).await;
        }
    }

    /// Gives back what the object held before a write and does not hold after.
    pub(super) async fn release_after(&self, request: &Request, old: &dyn Object, new: Option<&dyn Object>) {
        let Some(old) = service(old).filter(|_| !request.dry_run()) else { return };
        let kept = new.and_then(service).map(holds).unwrap_or_default();
        for key in holds(old).into_iter().filter(|key| !kept.contains(key)) {
            // By now it may belong to another Service.
            if let Ok(Some((value, mod_revision, _))) = self.read_key(&key).await
                && value == owner(old)
            {
                self.give_back(key, mod_revision).await;
            }
        }
    }

    async fn give_back(&self, key: Bytes, mod_revision: u64) {
        if let Err(error) = self.inner.store.txn(Txn::delete(key.clone(), mod_revision)).await {
            let key = String::from_utf8_lossy(&key).into_owned();
            tracing::warn!(key, %error, "a Service's address or port was not given back; it will be found free when it is next asked for");
        }
    }
}

/// What a key says of its owner.
fn owner(service: &Service) -> Bytes {
    let meta = &service.metadata;
    format!("{}/{}/{}", meta.namespace, meta.name, meta.uid).into()
}

/// Who holds a key.
enum Holder {
    /// Nobody, as long as this holds.
    Nobody(Vec<Compare>),
    /// The Service of this namespace and name.
    Somebody(String),
}

fn invalid(request: &Request, name: &str, path: &str, value: impl crate::resources::Shown, why: &str) -> ApiError {
    let mut errors = Errors::new();
    errors.invalid(path, value, why);
    ApiError::invalid(&request.resource, name, &errors.into_vec())
}
