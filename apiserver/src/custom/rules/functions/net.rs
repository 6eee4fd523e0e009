//! Addresses and networks: `ip('10.0.0.1').isLoopback()`, `cidr('10.0.0.0/8').containsIP('10.1.2.3')`.

use super::{Held, Hold};
use cel::common::types::{CelBool, CelInt, CelString, Type};
use cel::{DeclarationError, Env, ExecutionError};
use ipnet::IpNet;
use std::net::IpAddr;

static IP: Type = Type::new_unspecified_type("net.IP");
static CIDR: Type = Type::new_unspecified_type("net.CIDR");

impl Hold for IpAddr {
    fn of_type() -> &'static Type {
        &IP
    }
}

impl Hold for IpNet {
    fn of_type() -> &'static Type {
        &CIDR
    }
}

type Ip = Held<IpAddr>;
type Cidr = Held<IpNet>;

/// Adds them.
pub fn extension(env: &mut Env) -> Result<(), DeclarationError> {
    env.add_type(IP.to_owned())?;
    cel::add_overload!(env, fn ip: (CelString) -> Result<Ip>)?;
    cel::add_overload!(env, fn is_ip: (CelString) -> CelBool, name = "isIP")?;
    cel::add_overload!(env, fn is_canonical: (CelString) -> Result<CelBool>, name = "ip.isCanonical")?;
    cel::add_overload!(env, fn text_of_ip: (Ip) -> CelString, name = "string")?;
    cel::add_member_overload!(env, fn family: (Ip) -> CelInt)?;
    cel::add_member_overload!(env, fn is_unspecified: (Ip) -> CelBool)?;
    cel::add_member_overload!(env, fn is_loopback: (Ip) -> CelBool)?;
    cel::add_member_overload!(env, fn is_link_local_multicast: (Ip) -> CelBool)?;
    cel::add_member_overload!(env, fn is_link_local_unicast: (Ip) -> CelBool)?;
    cel::add_member_overload!(env, fn is_global_unicast: (Ip) -> CelBool)?;
    env.add_type(CIDR.to_owned())?;
    cel::add_overload!(env, fn cidr: (CelString) -> Result<Cidr>)?;
    cel::add_overload!(env, fn is_cidr: (CelString) -> CelBool, name = "isCIDR")?;
    cel::add_overload!(env, fn text_of_cidr: (Cidr) -> CelString, name = "string")?;
    cel::add_member_overload!(env, fn contains_ip: (Cidr, Ip) -> CelBool, name = "containsIP")?;
    cel::add_member_overload!(env, fn contains_ip_text: (Cidr, CelString) -> Result<CelBool>, name = "containsIP")?;
    cel::add_member_overload!(env, fn contains_cidr: (Cidr, Cidr) -> CelBool, name = "containsCIDR")?;
    cel::add_member_overload!(env, fn contains_cidr_text: (Cidr, CelString) -> Result<CelBool>, name = "containsCIDR")?;
    cel::add_member_overload!(env, fn ip_of: (Cidr) -> Ip, name = "ip")?;
    cel::add_member_overload!(env, fn prefix_length: (Cidr) -> CelInt)?;
    cel::add_member_overload!(env, fn masked: (Cidr) -> Cidr)
}

/// Reads an address. One of IPv4 in the clothes of IPv6 is refused: it would be the same address under a second name.
fn parse_ip(text: &str) -> Result<IpAddr, String> {
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) if address.to_ipv4_mapped().is_some() => {
            Err(format!("IPv4-mapped IPv6 address {text:?} is not allowed"))
        }
        Ok(address) => Ok(address),
        Err(_) => Err(format!("{text:?} is not an IP address")),
    }
}

/// Reads a network. The library would take leading zeros, which others read as octal.
fn parse_cidr(text: &str) -> Result<IpNet, String> {
    let bad = || format!("{text:?} is not a network in CIDR notation");
    let (address, length) = text.split_once('/').ok_or_else(bad)?;
    let plain = length.bytes().all(|b| b.is_ascii_digit()) && (length == "0" || !length.starts_with('0'));
    let length = length.parse().ok().filter(|_| plain).ok_or_else(bad)?;
    IpNet::new(parse_ip(address)?, length).map_err(|_| bad())
}

fn ip(text: &CelString) -> Result<Ip, ExecutionError> {
    parse_ip(text.inner()).map(Held).map_err(|why| ExecutionError::function_error("ip", why))
}

fn is_ip(text: &CelString) -> CelBool {
    CelBool::from(parse_ip(text.inner()).is_ok())
}

fn is_canonical(text: &CelString) -> Result<CelBool, ExecutionError> {
    Ok(CelBool::from(ip(text)?.0.to_string() == text.inner()))
}

fn text_of_ip(address: &Ip) -> CelString<'static> {
    CelString::from(address.0.to_string())
}

fn family(address: &Ip) -> CelInt {
    CelInt::from(if address.0.is_ipv4() { 4 } else { 6 })
}

fn is_unspecified(address: &Ip) -> CelBool {
    CelBool::from(address.0.is_unspecified())
}

fn is_loopback(address: &Ip) -> CelBool {
    CelBool::from(address.0.is_loopback())
}

fn is_link_local_multicast(address: &Ip) -> CelBool {
    CelBool::from(match address.0 {
        IpAddr::V4(address) => address.octets()[..3] == [224, 0, 0],
        IpAddr::V6(address) => address.segments()[0] & 0xff0f == 0xff02,
    })
}

fn is_link_local_unicast(address: &Ip) -> CelBool {
    CelBool::from(match address.0 {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    })
}

/// Private addresses are global here, as in Go: it is said of what is routed at all.
fn is_global_unicast(address: &Ip) -> CelBool {
    let is_broadcast = matches!(address.0, IpAddr::V4(v4) if v4.is_broadcast());
    let is_other = address.0.is_unspecified() || address.0.is_loopback() || address.0.is_multicast() || is_broadcast;
    CelBool::from(!is_other && !is_link_local_unicast(address).inner())
}

fn cidr(text: &CelString) -> Result<Cidr, ExecutionError> {
    parse_cidr(text.inner()).map(Held).map_err(|why| ExecutionError::function_error("cidr", why))
}

fn is_cidr(text: &CelString) -> CelBool {
    CelBool::from(parse_cidr(text.inner()).is_ok())
}

fn text_of_cidr(network: &Cidr) -> CelString<'static> {
    CelString::from(network.0.to_string())
}

fn contains_ip(network: &Cidr, address: &Ip) -> CelBool {
    CelBool::from(network.0.contains(&address.0))
}

fn contains_ip_text(network: &Cidr, address: &CelString) -> Result<CelBool, ExecutionError> {
    Ok(contains_ip(network, &ip(address)?))
}

fn contains_cidr(network: &Cidr, other: &Cidr) -> CelBool {
    CelBool::from(network.0.contains(&other.0))
}

fn contains_cidr_text(network: &Cidr, other: &CelString) -> Result<CelBool, ExecutionError> {
    Ok(contains_cidr(network, &cidr(other)?))
}

fn ip_of(network: &Cidr) -> Ip {
    Held(network.0.addr())
}

fn prefix_length(network: &Cidr) -> CelInt {
    CelInt::from(i64::from(network.0.prefix_len()))
}

fn masked(network: &Cidr) -> Cidr {
    Held(network.0.trunc())
}
