//! Links, addresses and routes through rtnetlink: the few operations that the node's network is made of.
//! Each may be repeated.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::RawFd;
use std::path::PathBuf;

use futures::TryStreamExt;
use ipnet::Ipv4Net;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkAttribute, LinkMessage};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteProtocol, RouteScope};
use rtnetlink::{Handle, LinkBridge, LinkBridgePort, LinkUnspec, LinkVeth, RouteMessageBuilder};
use skiff_world::World;

use super::{NetworkError, namespace};

/// Marks the routes that are ours, so that we change no others ("ip route" shows `proto 83`).
const OUR_ROUTES: RouteProtocol = RouteProtocol::Other(83);

/// A connection to the kernel, in one network namespace.
pub struct Netlink {
    handle: Handle,
}

impl Netlink {
    /// In the calling process's own namespace, or in the one of the file. Ends when dropped.
    pub async fn open(world: &World, file: Option<PathBuf>) -> Result<Netlink, NetworkError> {
        let failed = |error| NetworkError::failed("open a netlink connection", error);
        // The socket belongs to the namespace of the thread that makes it, for good.
        let (connection, handle, _) = match file {
            None => rtnetlink::new_connection().map_err(failed)?,
            Some(file) => {
                let made = world.blocking(move || namespace::inside(&file, rtnetlink::new_connection)).await;
                made?.map_err(failed)?
            }
        };
        world.spawn("netlink", connection);
        Ok(Netlink { handle })
    }

    async fn link(&self, name: &str) -> Result<Option<LinkMessage>, NetworkError> {
        let mut found = self.handle.link().get().match_name(name).execute();
        match found.try_next().await {
            Ok(link) => Ok(link),
            Err(error) if code(&error) == -nix::libc::ENODEV => Ok(None),
            Err(error) => Err(NetworkError::failed(format!("look for link {name}"), error)),
        }
    }

    /// The link's index.
    pub async fn index(&self, name: &str) -> Result<Option<u32>, NetworkError> {
        Ok(self.link(name).await?.map(|link| link.header.index))
    }

    /// A bridge of this name, up.
    pub async fn bridge(&self, name: &str, mtu: u32) -> Result<u32, NetworkError> {
        if self.index(name).await?.is_none() {
            let message = LinkBridge::new(name).mtu(mtu).up().build();
            exists_is_fine(self.handle.link().add(message).execute().await)
                .map_err(|error| NetworkError::failed(format!("make bridge {name}"), error))?;
        }
        let index = self.need(name).await?;
        self.up(index, name).await?;
        Ok(index)
    }

    async fn need(&self, name: &str) -> Result<u32, NetworkError> {
        self.index(name).await?.ok_or_else(|| NetworkError::failed(format!("find link {name}"), "it is gone"))
    }

    /// Turns a link on.
    pub async fn up(&self, index: u32, name: &str) -> Result<(), NetworkError> {
        let message = LinkUnspec::new_with_index(index).up().build();
        let done = self.handle.link().set(message).execute().await;
        done.map_err(|error| NetworkError::failed(format!("turn link {name} on"), error))
    }

    /// A veth pair: `name` here, up and a port of the bridge; `peer` in the namespace of the descriptor.
    pub async fn veth(
        &self,
        name: &str,
        peer: &str,
        mtu: u32,
        peer_namespace: RawFd,
        bridge: u32,
    ) -> Result<(), NetworkError> {
        let far = LinkUnspec::new_with_name(peer)
            .mtu(mtu)
            .append_extra_attribute(LinkAttribute::NetNsFd(peer_namespace))
            .build();
        let message = LinkVeth::new(name, peer)
            .mtu(mtu)
            .controller(bridge)
            .up()
            .set_info_data(InfoData::Veth(InfoVeth::Peer(far)))
            .build();
        let done = self.handle.link().add(message).execute().await;
        done.map_err(|error| NetworkError::failed(format!("make the veth pair {name} and {peer}"), error))?;
        let port = LinkBridgePort::new(self.need(name).await?).hairpin(true).build();
        let done = self.handle.link().set_port(port).execute().await;
        done.map_err(|error| NetworkError::failed(format!("turn hairpin on for {name}"), error))
    }

    /// Removes a link; nothing happens where it is gone.
    pub async fn delete(&self, name: &str) -> Result<(), NetworkError> {
        let Some(index) = self.index(name).await? else {
            return Ok(());
        };
        match self.handle.link().del(index).execute().await {
            Err(error) if code(&error) == -nix::libc::ENODEV => Ok(()),
            other => other.map_err(|error| NetworkError::failed(format!("remove link {name}"), error)),
        }
    }

    /// An address on a link.
    pub async fn address(&self, index: u32, address: Ipv4Addr, prefix: u8) -> Result<(), NetworkError> {
        let done = self.handle.address().add(index, IpAddr::V4(address), prefix).execute().await;
        exists_is_fine(done).map_err(|error| NetworkError::failed(format!("give a link the address {address}"), error))
    }

    /// The MTU of the link that has this address.
    pub async fn mtu_at(&self, address: IpAddr) -> Result<Option<u32>, NetworkError> {
        let failed = |error| NetworkError::failed("look for the node's link", error);
        let mut addresses = self.handle.address().get().execute();
        let mut index = None;
        while let Some(message) = addresses.try_next().await.map_err(failed)? {
            if message.attributes.contains(&AddressAttribute::Local(address)) {
                index = Some(message.header.index);
            }
        }
        let Some(index) = index else { return Ok(None) };
        let mut links = self.handle.link().get().match_index(index).execute();
        let link = links.try_next().await.map_err(failed)?;
        Ok(link.into_iter().flat_map(|link| link.attributes).find_map(|attribute| match attribute {
            LinkAttribute::Mtu(mtu) => Some(mtu),
            _ => None,
        }))
    }

    /// A Pod's two routes: its gateway is on the link, everything else is behind it.
    pub async fn pod_routes(&self, index: u32, gateway: Ipv4Addr) -> Result<(), NetworkError> {
        let direct = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(gateway, 32)
            .output_interface(index)
            .scope(RouteScope::Link)
            .build();
        let default = RouteMessageBuilder::<Ipv4Addr>::new().gateway(gateway).output_interface(index).build();
        for route in [direct, default] {
            let done = self.handle.route().add(route).replace().execute().await;
            done.map_err(|error| NetworkError::failed(format!("set the Pod's route to {gateway}"), error))?;
        }
        Ok(())
    }

    /// Our routes to other nodes' Pods.
    pub async fn node_routes(&self) -> Result<Vec<(Ipv4Net, IpAddr)>, NetworkError> {
        let mut found = Vec::new();
        let mut routes = self.handle.route().get(RouteMessageBuilder::<Ipv4Addr>::new().build()).execute();
        while let Some(route) = routes.try_next().await.map_err(|error| NetworkError::failed("list routes", error))? {
            if route.header.protocol != OUR_ROUTES {
                continue;
            }
            let (mut range, mut via) = (None, None);
            for attribute in &route.attributes {
                match attribute {
                    RouteAttribute::Destination(RouteAddress::Inet(address)) => {
                        range = Ipv4Net::new(*address, route.header.destination_prefix_length).ok();
                    }
                    RouteAttribute::Gateway(RouteAddress::Inet(address)) => via = Some(IpAddr::V4(*address)),
                    _ => {}
                }
            }
            found.extend(range.zip(via));
        }
        Ok(found)
    }

    /// Adds or changes one.
    pub async fn set_node_route(&self, range: Ipv4Net, via: Ipv4Addr) -> Result<(), NetworkError> {
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(range.network(), range.prefix_len())
            .gateway(via)
            .protocol(OUR_ROUTES)
            .build();
        let done = self.handle.route().add(route).replace().execute().await;
        done.map_err(|error| NetworkError::failed(format!("route {range} via {via}"), error))
    }

    /// Removes one.
    pub async fn remove_node_route(&self, range: Ipv4Net) -> Result<(), NetworkError> {
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(range.network(), range.prefix_len())
            .protocol(OUR_ROUTES)
            .build();
        match self.handle.route().del(route).execute().await {
            Err(error) if code(&error) == -nix::libc::ESRCH => Ok(()),
            other => other.map_err(|error| NetworkError::failed(format!("remove the route to {range}"), error)),
        }
    }
}

/// The kernel's error number, negative; 0 for other failures.
fn code(error: &rtnetlink::Error) -> i32 {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.raw_code(),
        _ => 0,
    }
}

fn exists_is_fine(result: Result<(), rtnetlink::Error>) -> Result<(), rtnetlink::Error> {
    match result {
        Err(error) if code(&error) == -nix::libc::EEXIST => Ok(()),
        other => other,
    }
}
