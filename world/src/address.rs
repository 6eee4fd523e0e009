//! Where something listens: a TCP or Unix socket, or an in-memory pipe.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// An address that a [`World`](crate::World) can connect to or listen on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// `host:port`, the host being a name or an IP address (IPv6 in brackets).
    Tcp(String),
    /// A Unix socket's path.
    Unix(PathBuf),
    /// An in-memory pipe's name, known to a World and its relatives.
    Pipe(String),
}

/// Why a text is not an address.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{text:?} is not an address: {problem}; write tcp://HOST:PORT, HOST:PORT, unix:///PATH or pipe://NAME")]
pub struct AddressError {
    text: String,
    problem: &'static str,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(host) => write!(f, "tcp://{host}"),
            Address::Unix(path) => write!(f, "unix://{}", path.display()),
            Address::Pipe(name) => write!(f, "pipe://{name}"),
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Address, AddressError> {
        let wrong = |problem| AddressError { text: text.to_owned(), problem };
        match text.split_once("://") {
            Some(("tcp", host)) => tcp(host).map_err(wrong),
            Some(("unix", "")) => Err(wrong("the socket's path is missing")),
            Some(("unix", path)) => Ok(Address::Unix(PathBuf::from(path))),
            Some(("pipe", "")) => Err(wrong("the pipe's name is missing")),
            Some(("pipe", name)) => Ok(Address::Pipe(name.to_owned())),
            Some(_) => Err(wrong("the scheme is unknown")),
            None => tcp(text).map_err(wrong),
        }
    }
}

fn tcp(host: &str) -> Result<Address, &'static str> {
    let (name, port) = host.rsplit_once(':').ok_or("the port is missing")?;
    if name.is_empty() {
        return Err("the host is missing");
    }
    if name.contains(':') && !(name.starts_with('[') && name.ends_with(']')) {
        return Err("an IPv6 address stands in brackets");
    }
    if name.contains(['/', '@', ' ']) {
        return Err("the host contains a character that no host has");
    }
    port.parse::<u16>().map_err(|_| "the port is not a number from 0 to 65535")?;
    Ok(Address::Tcp(host.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_a_round_trip() {
        for text in ["tcp://10.0.0.1:6443", "tcp://[::1]:6443", "unix:///run/skiff.sock", "pipe://api"] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
        }
        assert_eq!("localhost:80".parse(), Ok(Address::Tcp("localhost:80".into())));
    }

    #[test]
    fn a_wrong_address_is_refused_with_its_problem() {
        for (text, problem) in [
            ("localhost", "port is missing"),
            (":80", "host is missing"),
            ("localhost:http", "not a number"),
            ("localhost:65536", "not a number"),
            ("::1:80", "brackets"),
            ("pipe://", "name is missing"),
            ("unix://", "path is missing"),
            ("ftp://host:1", "scheme"),
            ("tcp://user@host:1", "character"),
        ] {
            let refusal = text.parse::<Address>().unwrap_err().to_string();
            assert!(refusal.contains(problem) && refusal.contains(text), "{text}: {refusal}");
        }
    }
}
