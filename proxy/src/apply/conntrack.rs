//! How stale UDP conversations are forgotten: with the program `conntrack`, where it is installed.
//!
//! UDP knows no end of a connection. A client that goes on sending keeps its conntrack entry alive, and with it
//! the endpoint once chosen, long after that endpoint is gone.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::rules::StaleFlow;

/// The command's arguments for one conversation.
pub fn arguments(flow: &StaleFlow) -> Vec<String> {
    let mut args: Vec<String> = ["-D", "-f", "ipv4", "-p", StaleFlow::PROTOCOL.as_str()].map(str::to_owned).into();
    if let Some(address) = flow.address {
        args.extend(["--orig-dst".to_owned(), address.to_string()]);
    }
    args.extend(["--orig-port-dst".to_owned(), flow.port.to_string()]);
    if let Some(endpoint) = flow.endpoint {
        args.extend(["--dst-nat".to_owned(), endpoint.to_string()]);
    }
    args
}

/// It ends with a failure if there was nothing to delete, which is no failure.
pub fn found_nothing(stderr: &[u8]) -> bool {
    String::from_utf8_lossy(stderr).contains("0 flow entries")
}

/// Says once that the program is missing.
#[derive(Debug, Default)]
pub struct Notice {
    said: AtomicBool,
}

impl Notice {
    /// The program could not be run, for this reason.
    pub fn missing(&self, reason: &str) {
        if !self.said.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                reason,
                "no `conntrack` program: UDP clients of a Service may keep talking to an endpoint that is gone \
                 until they pause for 30 s; the package `conntrack` puts that right"
            );
        }
    }
}
