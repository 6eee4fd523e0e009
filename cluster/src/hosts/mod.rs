//! Test hosts: a cluster's nodes on one machine, as network namespaces joined by a bridge.
//!
//! ```text
//!   host ──skfXXXXXXXX═host─┐                       ┌─node-1═eth0── skiff.NAME.node-1
//!   (API server, browser)   ├── br0 in skiff.NAME.switch
//!                           │                       ├─node-2═eth0── skiff.NAME.node-2
//! ```
//!
//! The bridge sits in a namespace of its own: in the host's, Docker's FORWARD policy would eat the
//! nodes' traffic. Cutting a node off is taking its link in the switch down.

pub mod namespace;

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd;

use anyhow::{Context, Result};
use futures::TryStreamExt;
use ipnet::Ipv4Net;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute};
use rtnetlink::{Handle, LinkBridge, LinkUnspec, LinkVeth, RouteMessageBuilder};

use crate::layout::Layout;
use crate::spec::ClusterSpec;

/// The bridge's name inside the switch namespace.
const BRIDGE: &str = "br0";
/// The link's name inside a node.
const NODE_LINK: &str = "eth0";
/// The switch's end of the host's leg.
const HOST_PORT: &str = "host";

/// Makes the switch, the host's leg and every node's namespace and link; what is there already
/// stays as it is.
pub fn ensure(layout: &Layout, spec: &ClusterSpec) -> Result<()> {
    let switch = layout.switch_namespace();
    namespace::create(&switch)?;
    namespace::inside(&switch, |netlink| async move {
        set_up(&netlink, "lo").await?;
        if index(&netlink, BRIDGE).await?.is_none() {
            netlink.link().add(LinkBridge::new(BRIDGE).build()).execute().await.context("make the bridge")?;
        }
        set_up(&netlink, BRIDGE).await?;
        // Bridged packets must not pass the namespace's own iptables; absent without br_netfilter.
        let _ = std::fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", "0");
        Ok(())
    })?;

    ensure_host_leg(layout, spec)?;
    for (number, node) in spec.nodes() {
        ensure_node(layout, spec, number, &node)?;
    }
    Ok(())
}

fn ensure_host_leg(layout: &Layout, spec: &ClusterSpec) -> Result<()> {
    let (link, switch) = (layout.host_link(), layout.switch_namespace());
    let address = spec.host_address();
    let prefix = spec.node_network.prefix_len();
    let into = std::fs::File::open(namespace::path(&switch)).context("open the switch namespace")?;
    let of = switch.clone();
    namespace::here(move |netlink| async move {
        if index(&netlink, &link).await?.is_none() {
            remove_port(&of, HOST_PORT)?;
            add_pair(&netlink, &link, HOST_PORT, into.as_raw_fd()).await?;
        }
        ensure_address(&netlink, &link, address, prefix).await?;
        set_up(&netlink, &link).await
    })?;
    attach(&switch, HOST_PORT)
}

fn ensure_node(layout: &Layout, spec: &ClusterSpec, number: u32, node: &str) -> Result<()> {
    let (own, switch) = (layout.namespace(node), layout.switch_namespace());
    namespace::create(&own)?;
    let into = std::fs::File::open(namespace::path(&switch)).context("open the switch namespace")?;
    let (address, gateway) = (spec.node_address(number), spec.host_address());
    let prefix = spec.node_network.prefix_len();
    let (port, of) = (node.to_owned(), switch.clone());
    namespace::inside(&own, move |netlink| async move {
        set_up(&netlink, "lo").await?;
        if index(&netlink, NODE_LINK).await?.is_none() {
            remove_port(&of, &port)?;
            add_pair(&netlink, NODE_LINK, &port, into.as_raw_fd()).await?;
        }
        ensure_address(&netlink, NODE_LINK, address, prefix).await?;
        set_up(&netlink, NODE_LINK).await?;
        let default = RouteMessageBuilder::<Ipv4Addr>::new().gateway(gateway).build();
        match netlink.route().add(default).execute().await {
            Err(e) if !is_exists(&e) => Err(e).context("add the default route"),
            _ => Ok(()),
        }
    })?;
    attach(&switch, node)
}

/// Removes a port of the switch whose other end is not where it belongs: what an `up` that was cut short left, or one end
/// of a link to a namespace that nobody finds any more.
fn remove_port(switch: &str, port: &str) -> Result<()> {
    let port = port.to_owned();
    namespace::inside(switch, |netlink| async move {
        match index(&netlink, &port).await? {
            None => Ok(()),
            Some(link) => match netlink.link().del(link).execute().await {
                Err(e) if !is_gone(&e) => Err(e).with_context(|| format!("remove the port {port} of the switch")),
                _ => Ok(()),
            },
        }
    })
}

/// Makes `port` in the switch a port of the bridge, and sets it up.
fn attach(switch: &str, port: &str) -> Result<()> {
    let port = port.to_owned();
    namespace::inside(switch, move |netlink| async move {
        let bridge = index(&netlink, BRIDGE).await?.context("the switch has no bridge")?;
        let Some(link) = index(&netlink, &port).await? else {
            anyhow::bail!("the switch has no link {port}; `skiff down` and `skiff up` make it anew");
        };
        let change = LinkUnspec::new_with_index(link).controller(bridge).up().build();
        netlink.link().set(change).execute().await.with_context(|| format!("attach {port} to the bridge"))
    })
}

/// Removes all namespaces of the cluster and the host's leg, which is all there is: links, routes
/// and rules inside a namespace go with it.
pub fn remove(layout: &Layout) -> Result<()> {
    for name in namespace::list(&layout.namespace_prefix()) {
        namespace::remove(&name)?;
    }
    let link = layout.host_link();
    namespace::here(move |netlink| async move {
        if let Some(index) = index(&netlink, &link).await? {
            // The kernel may be removing it just now, since its other end went with the switch.
            if let Err(e) = netlink.link().del(index).execute().await
                && !is_gone(&e)
            {
                return Err(e).context("remove the host's link");
            }
        }
        Ok(())
    })
}

/// The IPv4 networks that this host has addresses in or routes to, the default route aside.
pub fn taken_networks() -> Result<Vec<Ipv4Net>> {
    namespace::here(|netlink| async move {
        let mut networks = vec![];
        let mut addresses = netlink.address().get().execute();
        while let Some(message) = addresses.try_next().await? {
            let prefix = message.header.prefix_len;
            for attribute in message.attributes {
                if let AddressAttribute::Address(IpAddr::V4(ip)) = attribute {
                    networks.extend(Ipv4Net::new(ip, prefix).map(|n| n.trunc()));
                }
            }
        }
        let mut routes = netlink.route().get(RouteMessageBuilder::<Ipv4Addr>::new().build()).execute();
        while let Some(message) = routes.try_next().await? {
            let prefix = message.header.destination_prefix_length;
            for attribute in message.attributes {
                if let RouteAttribute::Destination(RouteAddress::Inet(ip)) = attribute {
                    networks.extend(Ipv4Net::new(ip, prefix).map(|n| n.trunc()));
                }
            }
        }
        Ok(networks)
    })
}

async fn add_pair(netlink: &Handle, name: &str, peer: &str, peer_namespace: i32) -> Result<()> {
    // Made under a temporary peer name and then moved: the peer's name may exist here, not there.
    let temporary = format!("{}t", name.chars().take(14).collect::<String>());
    netlink
        .link()
        .add(LinkVeth::new(name, &temporary).build())
        .execute()
        .await
        .with_context(|| format!("make the link {name}"))?;
    let index = index(netlink, &temporary).await?.context("the new link's peer is not there")?;
    let change = LinkUnspec::new_with_index(index).name(peer).setns_by_fd(peer_namespace).build();
    netlink.link().set(change).execute().await.with_context(|| format!("move {peer} into the switch"))
}

async fn index(netlink: &Handle, name: &str) -> Result<Option<u32>> {
    let mut links = netlink.link().get().match_name(name.to_owned()).execute();
    match links.try_next().await {
        Ok(link) => Ok(link.map(|l| l.header.index)),
        Err(e) if is_gone(&e) => Ok(None),
        Err(e) => Err(e).with_context(|| format!("look for the link {name}")),
    }
}

async fn set_up(netlink: &Handle, name: &str) -> Result<()> {
    let index = index(netlink, name).await?.with_context(|| format!("there is no link {name}"))?;
    netlink
        .link()
        .set(LinkUnspec::new_with_index(index).up().build())
        .execute()
        .await
        .with_context(|| format!("set {name} up"))
}

async fn ensure_address(netlink: &Handle, link: &str, address: Ipv4Addr, prefix: u8) -> Result<()> {
    let index = index(netlink, link).await?.with_context(|| format!("there is no link {link}"))?;
    match netlink.address().add(index, IpAddr::V4(address), prefix).execute().await {
        Err(e) if !is_exists(&e) => Err(e).with_context(|| format!("give {address}/{prefix} to {link}")),
        _ => Ok(()),
    }
}

fn is_exists(error: &rtnetlink::Error) -> bool {
    has_code(error, nix::errno::Errno::EEXIST)
}

fn is_gone(error: &rtnetlink::Error) -> bool {
    has_code(error, nix::errno::Errno::ENODEV)
}

fn has_code(error: &rtnetlink::Error, code: nix::errno::Errno) -> bool {
    matches!(error, rtnetlink::Error::NetlinkError(m) if m.code.is_some_and(|c| c.get() == -(code as i32)))
}
