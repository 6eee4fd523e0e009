//! Checks of probes and lifecycle handlers: exactly one handler, sensible numbers.

use super::{child, index, non_negative, one_of, port, port_or_name};
use crate::resources::field_error::Errors;
use skiff_proto::corev1::{ExecAction, HttpGetAction, Lifecycle, LifecycleHandler, Probe, TcpSocketAction};

/// Which probe it is; they differ in one rule.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum ProbeKind {
    /// Restarts the container when it fails.
    Liveness,
    /// Takes the container out of Services when it fails.
    Readiness,
    /// Holds the other two back until it succeeds.
    Startup,
}

/// One probe.
pub fn probe(probe: &Probe, kind: ProbeKind, path: &str, errors: &mut Errors) {
    let handler = &probe.handler;
    let mut handlers = Handlers::new(path);
    handlers.exec(handler.exec.as_deref(), errors);
    handlers.http_get(handler.http_get.as_deref(), errors);
    handlers.tcp_socket(handler.tcp_socket.as_deref(), errors);
    if let Some(grpc) = &handler.grpc
        && handlers.first("grpc", errors)
    {
        port(i64::from(grpc.port), child(path, "grpc.port"), errors);
    }
    handlers.finish(errors);
    for (field, value) in [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ] {
        non_negative(i64::from(value), child(path, field), errors);
    }
    if kind != ProbeKind::Readiness && probe.success_threshold > 1 {
        errors.invalid(child(path, "successThreshold"), probe.success_threshold, "must be 1");
    }
    if let Some(grace) = probe.termination_grace_period_seconds {
        let path = child(path, "terminationGracePeriodSeconds");
        if kind == ProbeKind::Readiness {
            errors.invalid(path, grace, "must not be set for readinessProbes");
        } else if grace <= 0 {
            errors.invalid(path, grace, "must be greater than 0");
        }
    }
}

/// A container's hooks.
pub fn lifecycle(lifecycle: &Lifecycle, path: &str, errors: &mut Errors) {
    for (field, handler) in [("postStart", &lifecycle.post_start), ("preStop", &lifecycle.pre_stop)] {
        if let Some(handler) = handler {
            lifecycle_handler(handler, &child(path, field), errors);
        }
    }
}

fn lifecycle_handler(handler: &LifecycleHandler, path: &str, errors: &mut Errors) {
    let mut handlers = Handlers::new(path);
    handlers.exec(handler.exec.as_deref(), errors);
    handlers.http_get(handler.http_get.as_deref(), errors);
    handlers.tcp_socket(handler.tcp_socket.as_deref(), errors);
    if let Some(sleep) = &handler.sleep
        && handlers.first("sleep", errors)
    {
        non_negative(sleep.seconds, child(path, "sleep.seconds"), errors);
    }
    handlers.finish(errors);
}

/// Counts handlers: exactly one is wanted.
struct Handlers<'a> {
    path: &'a str,
    seen: usize,
}

impl<'a> Handlers<'a> {
    fn new(path: &'a str) -> Self {
        Self { path, seen: 0 }
    }

    fn first(&mut self, field: &str, errors: &mut Errors) -> bool {
        self.seen += 1;
        if self.seen > 1 {
            errors.forbidden(child(self.path, field), "may not specify more than 1 handler type");
        }
        self.seen == 1
    }

    fn exec(&mut self, exec: Option<&ExecAction>, errors: &mut Errors) {
        if let Some(exec) = exec
            && self.first("exec", errors)
            && exec.command.is_empty()
        {
            errors.required(child(self.path, "exec.command"), "");
        }
    }

    fn http_get(&mut self, http: Option<&HttpGetAction>, errors: &mut Errors) {
        let Some(http) = http else { return };
        if !self.first("httpGet", errors) {
            return;
        }
        let path = child(self.path, "httpGet");
        if http.path.is_empty() {
            errors.required(child(&path, "path"), "");
        }
        port_or_name(&http.port, child(&path, "port"), errors);
        one_of(&http.scheme, &["HTTP", "HTTPS"], child(&path, "scheme"), errors);
        for (i, header) in http.http_headers.iter().enumerate() {
            let token = |c: u8| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c);
            if header.name.is_empty() || !header.name.bytes().all(token) {
                errors.invalid(
                    child(&index(&path, "httpHeaders", i), "name"),
                    &header.name,
                    "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name')",
                );
            }
        }
    }

    fn tcp_socket(&mut self, tcp: Option<&TcpSocketAction>, errors: &mut Errors) {
        if let Some(tcp) = tcp
            && self.first("tcpSocket", errors)
        {
            port_or_name(&tcp.port, child(self.path, "tcpSocket.port"), errors);
        }
    }

    fn finish(self, errors: &mut Errors) {
        if self.seen == 0 {
            errors.required(self.path, "must specify a handler type");
        }
    }
}
