//! What a rule says, and the set that holds for a run.

use core::net::IpAddr;
use std::fmt;

use belljar_base::bounds::EGRESS_RULES_MAX;
use belljar_base::{HasKind, Kind};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::address::is_named_by;
use super::host::{Host, HostName};
use super::{path, text};

/// What travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// Lets through.
    Allow,
    /// Keeps in, whatever others say.
    Deny,
}

/// Whom a rule is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HostPattern {
    /// This name alone.
    Exact(HostName),
    /// Every name below this one, which in an allowing rule is at least a registrable domain.
    Below(HostName),
    /// Addresses: as a literal, and as what an allowed name resolves to.
    Addresses(IpNet),
}

/// One rule. What a denying rule leaves out means any: it keeps in whatever it does not spare.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Lets through or keeps in.
    pub effect: Effect,
    /// What may travel; empty means HTTP and HTTPS (never WebSocket or bare TCP), in a denying rule
    /// anything.
    pub schemes: Vec<Scheme>,
    /// To whom.
    pub host: HostPattern,
    /// On which ports; empty means the scheme's own, for TCP and in a denying rule any.
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// It is.
    #[default]
    Enforce,
    /// It passes, and the record says that it would have been denied. Addresses that are not
    /// public and secrets on their way to strangers are kept in all the same.
    Observe,
}

/// What a run may use of the network, in total and per host; absent means the default bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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

impl HasKind for RuleError {
    fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

impl Scheme {
    /// Every scheme.
    pub const ALL: [Self; 5] = [Self::Http, Self::Https, Self::Ws, Self::Wss, Self::Tcp];

    /// The word before `://`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Ws => "ws",
            Self::Wss => "wss",
            Self::Tcp => "tcp",
        }
    }

    /// The port it has when none is named; bare TCP has none of its own.
    #[must_use]
    pub const fn port(self) -> Option<u16> {
        match self {
            Self::Http | Self::Ws => Some(80),
            Self::Https | Self::Wss => Some(443),
            Self::Tcp => None,
        }
    }

    pub(super) const fn is_websocket(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }

    /// What may turn out to travel in a connection that begins as this: a WebSocket begins as HTTP.
    pub(super) const fn carried(self) -> &'static [Self] {
        match self {
            Self::Http => &[Self::Http, Self::Ws],
            Self::Https => &[Self::Https, Self::Wss],
            Self::Ws => &[Self::Ws],
            Self::Wss => &[Self::Wss],
            Self::Tcp => &[Self::Tcp],
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Rule {
    /// An allowing rule, as the command line has it: `[SCHEME://]HOST[:PORT][/PATH]`.
    ///
    /// # Errors
    /// With the nearest valid form, when the text is no rule.
    pub fn parse_allow(text: &str) -> Result<Self, RuleError> {
        text::parse(Effect::Allow, text)
    }

    /// A denying rule, in the same words.
    ///
    /// # Errors
    /// With the nearest valid form, when the text is no rule.
    pub fn parse_deny(text: &str) -> Result<Self, RuleError> {
        text::parse(Effect::Deny, text)
    }

    /// Whether the rule speaks of single requests, so that TLS must be looked into.
    #[must_use]
    pub fn has_conditions(&self) -> bool {
        !self.methods.is_empty() || self.path.is_some()
    }

    /// Whether the rule is about this host. An allowing rule is about an address that is not public
    /// only when it names it.
    pub(super) fn is_about(&self, host: &Host, own: &[IpAddr]) -> bool {
        match (&self.host, host) {
            (HostPattern::Exact(name), Host::Name(asked)) => name == asked,
            (HostPattern::Below(base), Host::Name(asked)) => asked.is_below(base),
            (HostPattern::Addresses(net), Host::Address(asked)) => match self.effect {
                Effect::Allow => is_named_by(*asked, net, own),
                Effect::Deny => super::address::is_within(*asked, net),
            },
            (HostPattern::Exact(_) | HostPattern::Below(_), Host::Address(_))
            | (HostPattern::Addresses(_), Host::Name(_)) => false,
        }
    }

    pub(super) fn has_scheme(&self, scheme: Scheme) -> bool {
        match self.effect {
            Effect::Allow if self.schemes.is_empty() => {
                matches!(scheme, Scheme::Http | Scheme::Https)
            }
            Effect::Deny if self.schemes.is_empty() => true,
            Effect::Allow | Effect::Deny => self.schemes.contains(&scheme),
        }
    }

    pub(super) fn has_port(&self, scheme: Scheme, port: u16) -> bool {
        match self.effect {
            Effect::Allow if self.ports.is_empty() => scheme.port().is_none_or(|own| own == port),
            Effect::Deny if self.ports.is_empty() => true,
            Effect::Allow | Effect::Deny => self.ports.contains(&port),
        }
    }

    /// Methods are upper case; where one is not, a denying rule takes it for the one it names.
    pub(super) fn has_method(&self, asked: &str) -> bool {
        let same = |method: &String| match self.effect {
            Effect::Allow => method == asked,
            Effect::Deny => method.eq_ignore_ascii_case(asked),
        };
        self.methods.is_empty() || self.methods.iter().any(same)
    }

    pub(super) fn has_path(&self, asked: &str) -> bool {
        let under = match self.effect {
            Effect::Allow => path::is_under,
            Effect::Deny => path::could_be_under,
        };
        let prefix = self.path.as_deref();
        prefix.is_none_or(|prefix| under(asked, prefix))
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => name.fmt(f),
            Self::Below(name) => write!(f, "*.{name}"),
            Self::Addresses(net) if net.prefix_len() == net.max_prefix_len() => match net.addr() {
                IpAddr::V4(address) => address.fmt(f),
                IpAddr::V6(address) => write!(f, "[{address}]"),
            },
            Self::Addresses(IpNet::V4(net)) => net.fmt(f),
            Self::Addresses(IpNet::V6(net)) => write!(f, "[{net}]"),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Rules {
    /// Adds a rule to a run that goes on; whether it is a new one.
    ///
    /// # Errors
    /// When the run has as many rules as it may have.
    pub fn add(&mut self, rule: Rule) -> Result<bool, RuleError> {
        if self.rules.contains(&rule) {
            return Ok(false);
        }
        if self.rules.len() >= EGRESS_RULES_MAX {
            return Err(RuleError {
                text: rule.text,
                reason: format!("the run has {EGRESS_RULES_MAX} rules already"),
                remedy: "name many hosts at once, as in `*.example.com`".to_owned(),
            });
        }
        self.rules.push(rule);
        Ok(true)
    }
}
