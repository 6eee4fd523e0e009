//! The first two steps of `skiff up` as commands of their own, for those who start the components by
//! hand, each in its own terminal: `skiff pki` and `skiff hosts`. examples/by-hand/ is the page.

use anyhow::Result;
use skiff_world::World;

use crate::layout::Layout;
use crate::machine::Machine;
use crate::say::say;
use crate::spec::ClusterSpec;
use crate::up::{Wanted, settle};
use crate::{hosts, pki};

/// Writes the cluster's spec, the certificates and the kubeconfig, and says who is who.
pub fn pki(layout: &Layout, wanted: &Wanted) -> Result<()> {
    let spec = settle(layout, wanted, &World::real("pki"), &Machine::this(layout))?;
    say!("{:<20} {:<34} GROUP", "CERTIFICATE", "USER");
    for (file, user, group) in pki::identities(&spec)? {
        say!("{file:<20} {user:<34} {group}");
    }
    say!("\ncertificates  {}", layout.pki().display());
    say!("kubeconfig    {}", layout.admin_kubeconfig().display());
    Ok(())
}

/// Makes the nodes' namespaces and links, and says where each node is.
pub fn hosts(layout: &Layout) -> Result<()> {
    let spec = ClusterSpec::existing(layout)?;
    anyhow::ensure!(nix::unistd::geteuid().is_root(), "`skiff hosts` makes network namespaces: run it as root");
    hosts::ensure(layout, &spec)?;
    say!("{:<16} {:<34} ADDRESS", "HOST", "NAMESPACE");
    say!("{:<16} {:<34} {}", "(this machine)", "-", spec.host_address());
    for (number, node) in spec.nodes() {
        say!("{node:<16} {:<34} {}", layout.namespace(&node), spec.node_address(number));
    }
    Ok(())
}
