//! What a rule says, and the set that holds for a run.

use std::net::IpAddr;

use ipnet::IpNet;

use super::host::HostName;

/// What travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// HTTP in the clear.
    Http,
    /// HTTP in TLS, or TLS that is passed through.
    Https,
    /// WebSocket in the clear.
    Ws,
    /// WebSocket in TLS.
    Wss,
    /// Bytes that nobody looks at.
    Tcp,
}

/// Whether a rule lets through or keeps in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Lets through.
    Allow,
    /// Keeps in, whatever others say.
    Deny,
}

/// Whom a rule is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPattern {
    /// This name alone.
    Exact(HostName),
    /// Every name below this one, which is itself at least a registrable domain.
    Below(HostName),
    /// Addresses: as a literal, and as what an allowed name resolves to.
    Addresses(IpNet),
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Lets through or keeps in.
    pub effect: Effect,
    /// What may travel; empty means HTTP and HTTPS (never WebSocket or bare TCP).
    pub schemes: Vec<Scheme>,
    /// To whom.
    pub host: HostPattern,
    /// On which ports; empty means the scheme's own, for TCP any.
    pub ports: Vec<u16>,
    /// With which methods, upper case; empty means any.
    pub methods: Vec<String>,
    /// Below which path, by whole segments; none means any.
    pub path: Option<String>,
    /// Addresses that are not public but are what the name is expected to resolve to.
    pub addresses: Vec<IpNet>,
    /// The rule as a person wrote it: records and refusals name it so.
    pub text: String,
}

/// Whether what is denied is kept in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// It is.
    #[default]
    Enforce,
    /// It passes, and the record says that it would have been denied. Addresses that are not
    /// public and secrets on their way to strangers are kept in all the same.
    Observe,
}

/// What a run may use of the network, in total and per host; absent means the default bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Bytes out.
    pub up_bytes: Option<u64>,
    /// Bytes in.
    pub down_bytes: Option<u64>,
    /// HTTP requests.
    pub requests: Option<u64>,
    /// Connections, ended or not.
    pub connections: Option<u64>,
    /// How long one tunnel may live, in seconds.
    pub tunnel_seconds: Option<u64>,
    /// How long a connection may say nothing, in seconds.
    pub idle_seconds: Option<u64>,
    /// HTTP requests and connections begun in any one second.
    pub per_second: Option<u64>,
}

/// What holds for a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Enforce or observe.
    pub mode: Mode,
    /// The rules, in no particular order.
    pub rules: Vec<Rule>,
    /// For the whole run.
    pub quota: Quota,
    /// For each host of the run.
    pub host_quota: Quota,
    /// Addresses of this host itself, which are refused like private ones.
    pub own_addresses: Vec<IpAddr>,
}

/// The text is no rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a rule: {reason}; {remedy}")]
pub struct RuleError {
    /// What was written.
    pub text: String,
    /// What is wrong with it.
    pub reason: String,
    /// The nearest valid form.
    pub remedy: String,
}
