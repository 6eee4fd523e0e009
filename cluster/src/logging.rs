//! Structured logs to standard error: the level from SKIFF_LOG (`info` when unset, `debug`,
//! `skiff_kubelet=debug,info`, ...), colours only on a terminal.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Sets the process's logging up; called once, first thing.
pub fn init() {
    let filter = EnvFilter::try_from_env("SKIFF_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}
