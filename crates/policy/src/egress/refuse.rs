//! The words of a refusal. They are for whoever sits in the sandbox: they say what to ask for, and
//! neither what other rules say nor which address a name has.

use core::net::IpAddr;

use belljar_base::Refusal;
use belljar_base::bounds::EGRESS_REPEATED_BYTES_MAX;

use super::address::{Sort, sort_of};
use super::decide::{Asked, Reach};
use super::host::Host;
use super::path::PathError;
use super::rule::{HostPattern, Rule, Scheme};
use crate::Decision;

const DENIED: &str = "a rule denies it whatever others allow; ask for that rule to be changed";

pub(super) fn no_rule_for_name(host: &Host) -> Decision {
    deny(
        "egress.host_denied",
        no_rule_names(host),
        format!("ask for --allow {host}"),
    )
}

pub(super) fn denied_name(host: &Host) -> Decision {
    deny("egress.host_denied", format!("`{host}` is denied"), DENIED)
}

pub(super) fn no_rule(asked: &Asked<'_>) -> Decision {
    deny(
        "egress.host_denied",
        no_rule_names(asked.host),
        ask_for(asked, ""),
    )
}

pub(super) fn denied_address(asked: &Asked<'_>) -> Decision {
    let reason = format!("where `{}` leads is denied", asked.host);
    deny("egress.ip_denied", reason, DENIED)
}

/// The address is nobody's to dial. It is not repeated unless it was asked for by itself.
pub(super) fn not_public(asked: &Asked<'_>, address: IpAddr) -> Decision {
    let sort = match sort_of(address) {
        Sort::Reserved(word) => word,
        Sort::Public => "this host",
    };
    let (reason, remedy) = match asked.host {
        Host::Address(_) => (
            format!("`{}` is not a public address ({sort})", asked.host),
            ask_for(asked, ""),
        ),
        Host::Name(name) => (
            format!("`{name}` does not lead to a public address ({sort})"),
            format!(
                "ask for the address of {} to be allowed as well",
                written(asked)
            ),
        ),
    };
    deny("egress.ip_denied", reason, remedy)
}

/// By a denying rule: the narrowest thing it speaks of names the refusal.
pub(super) fn denied_by(rule: &Rule, asked: &Asked<'_>, request: Option<(&str, &str)>) -> Decision {
    let Asked { scheme, host, port } = asked;
    let (code, reason) = match (request, &rule.host) {
        (Some((_, path)), _) if rule.path.is_some() => {
            let path = bounded(path);
            (
                "egress.path_denied",
                format!("`{path}` at `{host}` is denied"),
            )
        }
        (Some((method, _)), _) if !rule.methods.is_empty() => {
            let method = bounded(method);
            (
                "egress.method_denied",
                format!("{method} at `{host}` is denied"),
            )
        }
        _ if !rule.ports.is_empty() => (
            "egress.port_denied",
            format!("port {port} of `{host}` is denied"),
        ),
        _ if !rule.schemes.is_empty() => (
            "egress.proto_denied",
            format!("{} at `{host}` is denied", called(*scheme)),
        ),
        (_, HostPattern::Addresses(_)) => ("egress.ip_denied", format!("`{host}` is denied")),
        (_, HostPattern::Exact(_) | HostPattern::Below(_)) => {
            ("egress.host_denied", format!("`{host}` is denied"))
        }
    };
    deny(code, reason, DENIED)
}

/// By no rule about the host: what the one that gets furthest lacks names the refusal.
pub(super) fn falls_short(
    reach: Reach,
    asked: &Asked<'_>,
    request: Option<(&str, &str)>,
) -> Decision {
    let Asked { scheme, host, port } = asked;
    let (method, path) = request.unwrap_or_default();
    let (method, path) = (bounded(method), bounded(path));
    let but = |what: String| format!("`{host}` is allowed, but not {what}");
    match reach {
        Reach::Host => deny(
            "egress.proto_denied",
            but(format!("for {}", called(*scheme))),
            ask_for(asked, ""),
        ),
        Reach::Scheme => deny(
            "egress.port_denied",
            but(format!("on port {port}")),
            ask_for(asked, ""),
        ),
        Reach::Port => deny(
            "egress.method_denied",
            but(format!("with {method}")),
            format!("ask for the method {method} at {}", written(asked)),
        ),
        Reach::Method => deny(
            "egress.path_denied",
            but(format!("the path `{path}`")),
            ask_for(asked, nameable(host, path)),
        ),
        Reach::Whole => no_rule(asked),
    }
}

pub(super) fn doubtful_path(error: PathError) -> Refusal {
    Refusal::new(
        "egress.path_denied",
        format!("the {error}"),
        "write the path plainly: the rules of this host are about paths",
    )
}

fn deny(code: &str, reason: String, remedy: impl Into<String>) -> Decision {
    Decision::Deny(Refusal::new(code, reason, remedy))
}

fn no_rule_names(host: &Host) -> String {
    format!("no rule allows `{host}`")
}

fn ask_for(asked: &Asked<'_>, path: &str) -> String {
    format!("ask for --allow {}{path}", written(asked))
}

/// What to write on the command line so that a connection is allowed.
fn written(asked: &Asked<'_>) -> String {
    let Asked { scheme, host, port } = asked;
    let start = match scheme {
        Scheme::Http | Scheme::Https => String::new(),
        Scheme::Ws | Scheme::Wss | Scheme::Tcp => format!("{scheme}://"),
    };
    let end = match scheme.port() {
        Some(own) if own == *port => String::new(),
        Some(_) | None => format!(":{port}"),
    };
    match host {
        Host::Address(IpAddr::V6(address)) => format!("{start}[{address}]{end}"),
        Host::Address(IpAddr::V4(_)) | Host::Name(_) => format!("{start}{host}{end}"),
    }
}

const fn called(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::Http => "HTTP in the clear",
        Scheme::Https => "HTTPS",
        Scheme::Ws => "WebSocket in the clear",
        Scheme::Wss => "WebSocket",
        Scheme::Tcp => "bare TCP",
    }
}

/// The beginning of a path that a rule of the command line can name: up to a segment with a `*`; and
/// behind an address none that begins like the prefix of a net.
fn nameable<'a>(host: &Host, path: &'a str) -> &'a str {
    let digit = |path: &str| path.chars().nth(1).is_some_and(|c| c.is_ascii_digit());
    if matches!(host, Host::Address(_)) && digit(path) {
        return "";
    }
    match path.split_once('*') {
        Some((before, _)) => before.rsplit_once('/').map_or("", |(before, _)| before),
        None => path,
    }
}

/// The beginning of a path or method, by whole segments where there are any.
fn bounded(text: &str) -> &str {
    if text.len() <= EGRESS_REPEATED_BYTES_MAX {
        return text;
    }
    let at = text.floor_char_boundary(EGRESS_REPEATED_BYTES_MAX);
    let head = text.get(..at).unwrap_or_default();
    match head.rfind('/') {
        Some(slash) if slash > 0 => head.get(..slash).unwrap_or_default(),
        Some(_) | None => head,
    }
}
