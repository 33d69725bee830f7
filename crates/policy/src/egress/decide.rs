//! The three questions. Each answer names the rule, the reason and the remedy.

use std::net::IpAddr;

use belljar_base::Refusal;

use super::host::{Host, HostName};
use super::rule::{Rules, Scheme};
use crate::Decision;

/// A connection that is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// What travels.
    pub scheme: Scheme,
    /// To whom.
    pub host: &'a Host,
    /// On which port.
    pub port: u16,
}

/// An HTTP request inside a connection.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The connection it travels in.
    pub asked: Asked<'a>,
    /// Upper case.
    pub method: &'a str,
    /// Canonical: begins with `/`, no dot segments, no query.
    pub path: &'a str,
}

fn denied() -> Decision {
    Decision::Deny(Refusal::new(
        "egress.host_denied",
        "no rule allows it",
        "ask for a rule",
    ))
}

/// May this name be resolved, for anything at all?
#[must_use]
pub fn decide_name(_rules: &Rules, _name: &HostName) -> Decision {
    denied()
}

/// May this connection be made, for at least one request?
#[must_use]
pub fn decide_connection(_rules: &Rules, _asked: &Asked<'_>) -> Decision {
    denied()
}

/// May this address be dialled for a connection that `decide_connection` allows?
#[must_use]
pub fn decide_address(_rules: &Rules, _asked: &Asked<'_>, _address: IpAddr) -> Decision {
    denied()
}

/// May this request pass?
#[must_use]
pub fn decide_request(_rules: &Rules, _request: &Request<'_>) -> Decision {
    denied()
}

/// Whether TLS to this host must be looked into, because a rule speaks of methods or paths.
#[must_use]
pub fn terminates(_rules: &Rules, _asked: &Asked<'_>) -> bool {
    false
}
