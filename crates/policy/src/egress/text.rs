//! A rule as the command line has it: `[SCHEME://]HOST[:PORT][/PATH]`. What is no rule is answered
//! with the nearest text that is one.

use core::net::IpAddr;
use std::fmt;

use belljar_base::bounds::EGRESS_RULE_BYTES_MAX;
use ipnet::IpNet;

use super::address::{Sort, sort_of};
use super::host::{Host, HostName};
use super::path::{PathError, canonical_path};
use super::rule::{Effect, HostPattern, Rule, RuleError, Scheme};

/// What is wrong with a text, and what to write.
struct Fault {
    reason: String,
    remedy: Remedy,
}

enum Remedy {
    /// Another text, which may have faults of its own.
    Write(String),
    /// Words.
    Say(String),
}

/// The parts of a text, as they were written.
#[derive(Clone, Copy)]
struct Parts<'a> {
    scheme: Option<&'a str>,
    /// With its brackets, if it has any; without them when it is the address of a net.
    host: &'a str,
    /// How long the prefix of a net is.
    length: Option<&'a str>,
    port: Option<&'a str>,
    /// The path without its slash.
    tail: Option<&'a str>,
}

const EXAMPLE: &str = "name the host, for example `api.example.com`";
/// How many faults of one text are mended before words must do.
const MENDED_MAX: usize = 8;

pub(super) fn parse(effect: Effect, text: &str) -> Result<Rule, RuleError> {
    read(effect, text).map_err(|fault| RuleError {
        text: shown(text),
        remedy: nearest(effect, text, fault.remedy),
        reason: fault.reason,
    })
}

/// The remedy in words: the nearest text is mended until it is a rule.
fn nearest(effect: Effect, text: &str, remedy: Remedy) -> String {
    let mut remedy = remedy;
    let mut before = text.to_owned();
    for _ in 0..MENDED_MAX {
        let candidate = match remedy {
            Remedy::Say(words) => return words,
            Remedy::Write(candidate) => candidate,
        };
        match read(effect, &candidate) {
            Ok(_) => return format!("write `{candidate}`"),
            Err(_) if candidate == before => break,
            Err(fault) => remedy = fault.remedy,
        }
        before = candidate;
    }
    EXAMPLE.to_owned()
}

/// What may be repeated of a text: no password, nothing that moves a cursor, not too much.
fn shown(text: &str) -> String {
    let (scheme, rest) = text
        .split_once("://")
        .map_or(("", text), |(scheme, rest)| (scheme, rest));
    let open = match rest.rsplit_once('@') {
        Some((_, host)) if scheme.is_empty() => format!("…@{host}"),
        Some((_, host)) => format!("{scheme}://…@{host}"),
        None => text.to_owned(),
    };
    let clean = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    open.chars().take(128).map(clean).collect()
}

fn fault<T>(reason: impl Into<String>, remedy: Remedy) -> Result<T, Fault> {
    let reason = reason.into();
    Err(Fault { reason, remedy })
}

fn say(words: impl Into<String>) -> Remedy {
    Remedy::Say(words.into())
}

fn read(effect: Effect, text: &str) -> Result<Rule, Fault> {
    is_one_word(text)?;
    let parts = Parts::of(text)?;
    let scheme = parts.scheme.map(|word| scheme(&parts, word)).transpose()?;
    let port = parts.port.map(|digits| port(&parts, digits)).transpose()?;
    let (host, path) = host_and_path(effect, &parts)?;
    if let (Some(Scheme::Tcp), Some(_)) = (scheme, &path) {
        let whole = Parts {
            tail: None,
            ..parts
        };
        return fault("bare TCP has no paths", Remedy::Write(whole.to_string()));
    }
    Ok(Rule {
        effect,
        schemes: scheme.into_iter().collect(),
        host,
        ports: port.into_iter().collect(),
        methods: Vec::new(),
        path,
        addresses: Vec::new(),
        text: text.to_owned(),
    })
}

fn is_one_word(text: &str) -> Result<(), Fault> {
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return fault("it is empty", say(EXAMPLE));
    }
    if text.len() > EGRESS_RULE_BYTES_MAX {
        let reason = format!("it is longer than {EGRESS_RULE_BYTES_MAX} bytes");
        return fault(reason, say("use a shorter path, or none"));
    }
    if trimmed.len() < text.len() {
        return fault("it has spaces around it", Remedy::Write(trimmed.to_owned()));
    }
    if text.contains(char::is_control) {
        let clean = text.chars().filter(|c| !c.is_control()).collect();
        return fault("it has control characters", Remedy::Write(clean));
    }
    let separators = |c: char| c.is_whitespace() || c == ',' || c == ';';
    let authority = text.split_once("://").map_or(text, |(_, rest)| rest);
    let authority = authority.split('/').next().unwrap_or_default();
    if text.contains(char::is_whitespace) || authority.contains(separators) {
        let first = text.split(separators).find(|word| !word.is_empty());
        let first = first.unwrap_or_default().to_owned();
        return fault("it is more than one word", Remedy::Write(first));
    }
    Ok(())
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Result<Self, Fault> {
        if text.contains('\\') {
            return fault("it has a backslash", Remedy::Write(text.replace('\\', "/")));
        }
        for (mark, what) in [('#', "a fragment"), ('?', "a query")] {
            if let Some((before, _)) = text.split_once(mark) {
                let reason = format!("it has {what}, which no rule looks at");
                return fault(reason, Remedy::Write(before.to_owned()));
            }
        }
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (Some(scheme), rest),
            None => (None, text),
        };
        let (authority, tail) = split_tail(rest);
        if let Some((_, host)) = authority.rsplit_once('@') {
            let rest = rest.get(authority.len() - host.len()..).unwrap_or_default();
            let start = scheme.map_or(String::new(), |scheme| format!("{scheme}://"));
            return fault("it has credentials in it", Remedy::Write(start + rest));
        }
        let (host, port) = split_port(authority);
        let length = None;
        let plain = Self {
            scheme,
            host,
            length,
            port,
            tail,
        };
        plain.or_net()
    }

    /// The same parts as those of a net, when the brackets hold a slash or when what follows an
    /// address and a slash is a number.
    fn or_net(self) -> Result<Self, Fault> {
        let inside = self.host.strip_prefix('[');
        let inside = inside.and_then(|rest| rest.strip_suffix(']'));
        if let Some((host, length)) = inside.and_then(|inside| inside.split_once('/')) {
            let length = Some(length);
            return Ok(Self {
                host,
                length,
                ..self
            });
        }
        let (length, port) = match self.tail.map(|tail| (tail, tail.split_once(':'))) {
            Some((_, Some((length, port)))) => (length, Some(port)),
            Some((length, None)) => (length, None),
            None => return Ok(self),
        };
        let number = !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit());
        if !number || !matches!(self.host.parse(), Ok(Host::Address(_))) {
            return Ok(self);
        }
        let net = Self {
            host: inside.unwrap_or(self.host),
            length: Some(length),
            port: port.or(self.port),
            tail: None,
            ..self
        };
        if self.port.is_some() {
            let reason = "the port stands before the prefix of the net";
            return fault(reason, Remedy::Write(net.to_string()));
        }
        Ok(net)
    }
}

/// Splits at the first slash; one in brackets belongs to what is in them.
fn split_tail(rest: &str) -> (&str, Option<&str>) {
    let from = match rest.find(']') {
        Some(at) if rest.starts_with('[') => at,
        _ => 0,
    };
    match rest.get(from..).and_then(|rest| rest.find('/')) {
        Some(at) => rest
            .split_at_checked(from + at)
            .map_or((rest, None), |(authority, tail)| (authority, tail.get(1..))),
        None => (rest, None),
    }
}

/// Splits off the port; the colons of an address in version 6 belong to it.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    if authority.starts_with('[') {
        let Some(end) = authority.find(']') else {
            return (authority, None);
        };
        let (host, rest) = authority
            .split_at_checked(end + 1)
            .unwrap_or((authority, ""));
        return match rest.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if rest.is_empty() => (host, None),
            None => (authority, None),
        };
    }
    match authority.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') => (host, Some(port)),
        Some(_) | None => (authority, None),
    }
}

impl fmt::Display for Parts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(scheme) = self.scheme {
            write!(f, "{scheme}://")?;
        }
        match self.length {
            None => f.write_str(self.host)?,
            Some(length) if self.host.contains(':') => write!(f, "[{}/{length}]", self.host)?,
            Some(length) => write!(f, "{}/{length}", self.host)?,
        }
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        self.tail.map_or(Ok(()), |tail| write!(f, "/{tail}"))
    }
}

fn scheme(parts: &Parts<'_>, word: &str) -> Result<Scheme, Fault> {
    let lower = word.to_ascii_lowercase();
    let found = Scheme::ALL.into_iter().find(|one| one.as_str() == lower);
    let Some(scheme) = found else {
        let scheme = parts.port.map(|_| "tcp");
        let nearest = Parts { scheme, ..*parts };
        return fault(
            "its scheme is none of http, https, ws, wss and tcp",
            Remedy::Write(nearest.to_string()),
        );
    };
    Ok(scheme)
}

fn port(parts: &Parts<'_>, digits: &str) -> Result<u16, Fault> {
    let bare = Parts {
        port: None,
        ..*parts
    };
    if digits.is_empty() {
        return fault(
            "it has a colon and no port",
            Remedy::Write(bare.to_string()),
        );
    }
    let number = digits.bytes().all(|b| b.is_ascii_digit());
    match digits.parse::<u16>() {
        Ok(port) if number && port > 0 => Ok(port),
        Ok(_) | Err(_) => {
            let reason = "its port is no number from 1 to 65535";
            fault(reason, Remedy::Write(bare.to_string()))
        }
    }
}

fn host_and_path(
    effect: Effect,
    parts: &Parts<'_>,
) -> Result<(HostPattern, Option<String>), Fault> {
    if parts.host.contains('*') {
        return Ok((wildcard(effect, parts)?, path(parts)?));
    }
    if let Some(net) = net(parts)? {
        is_narrow(effect, &net)?;
        return Ok((HostPattern::Addresses(net), None));
    }
    let host = match parts.host.parse::<Host>() {
        Ok(Host::Name(name)) => HostPattern::Exact(name),
        Ok(Host::Address(address)) => HostPattern::Addresses(IpNet::from(address)),
        Err(_) => {
            let reason = "its host is neither a name nor an address";
            return fault(reason, near_host(parts));
        }
    };
    Ok((host, path(parts)?))
}

fn near_host(parts: &Parts<'_>) -> Remedy {
    if parts.host.is_empty() {
        return say(EXAMPLE);
    }
    let (host, _zone) = parts.host.split_once('%').unwrap_or((parts.host, ""));
    let mended: String = match host.strip_prefix('[') {
        Some(rest) if !host.ends_with(']') => format!("[{rest}]"),
        _ => host
            .split('.')
            .filter(|label| !label.is_empty())
            .map(|label| label.trim_matches('-'))
            .collect::<Vec<_>>()
            .join("."),
    };
    if mended == parts.host {
        return say(EXAMPLE);
    }
    let host = mended.as_str();
    Remedy::Write(Parts { host, ..*parts }.to_string())
}

/// The net, when there is one; nothing but a port may follow it.
fn net(parts: &Parts<'_>) -> Result<Option<IpNet>, Fault> {
    let Some(length) = parts.length else {
        return Ok(None);
    };
    if parts.tail.is_some() {
        let bare = Parts {
            tail: None,
            ..*parts
        };
        return fault("a net has no paths", Remedy::Write(bare.to_string()));
    }
    let write = |host: &str, length: Option<&str>| {
        Remedy::Write(
            Parts {
                host,
                length,
                ..*parts
            }
            .to_string(),
        )
    };
    let Ok(Host::Address(address)) = parts.host.parse::<Host>() else {
        return fault("its net has no address", say(EXAMPLE));
    };
    let Some(net) = length
        .parse()
        .ok()
        .and_then(|bits| IpNet::new(address, bits).ok())
    else {
        let reason = "the prefix of its net is longer than an address";
        return fault(reason, write(&literal(address), None));
    };
    if net.network() != net.addr() {
        let reason = "its net begins at another address";
        return fault(reason, write(&net.network().to_string(), Some(length)));
    }
    Ok(Some(net))
}

/// An address as it stands before a port.
fn literal(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    }
}

/// A net of public addresses must not be the whole network in disguise.
fn is_narrow(effect: Effect, net: &IpNet) -> Result<(), Fault> {
    let enough = match net {
        IpNet::V4(_) => 8,
        IpNet::V6(_) => 16,
    };
    let sort = sort_of(net.network());
    let reserved = sort != Sort::Public && sort == sort_of(net.broadcast());
    if effect == Effect::Deny || reserved || net.prefix_len() >= enough {
        return Ok(());
    }
    fault(
        format!("it is wider than a /{enough}"),
        say("name the nets, for example `192.0.2.0/24`"),
    )
}

fn wildcard(effect: Effect, parts: &Parts<'_>) -> Result<HostPattern, Fault> {
    let whole = |host: &str| Remedy::Write(Parts { host, ..*parts }.to_string());
    if parts.host.chars().all(|c| matches!(c, '*' | '.')) {
        return match effect {
            Effect::Allow => fault(
                "it would let everything through",
                say("name the hosts, for example `api.example.com` or `*.example.com`"),
            ),
            Effect::Deny => fault(
                "what no rule allows is denied already",
                say("name the hosts, for example `api.example.com` or `*.example.com`"),
            ),
        };
    }
    let base = match parts.host.strip_prefix("*.") {
        Some(base) if !base.contains('*') => base,
        Some(_) | None => {
            let kept = parts.host.rsplit('*').next().unwrap_or_default();
            let kept = kept.trim_start_matches(['.', '-']);
            return fault(
                "a `*` stands for all that is below a domain, alone and in front",
                whole(&format!("*.{kept}")),
            );
        }
    };
    let Ok(base) = base.parse::<HostName>() else {
        return fault("what is below an address has no name", say(EXAMPLE));
    };
    if effect == Effect::Allow && psl::domain_str(base.as_str()).is_none() {
        let example = whole(&format!("*.example.{base}"));
        return fault(format!("anybody can have a name below `{base}`"), example);
    }
    Ok(HostPattern::Below(base))
}

/// The canonical path, without the slash at its end; none when it is the root.
fn path(parts: &Parts<'_>) -> Result<Option<String>, Fault> {
    let Some(tail) = parts.tail else {
        return Ok(None);
    };
    let near = |tail: &str| {
        Remedy::Write(
            Parts {
                tail: Some(tail),
                ..*parts
            }
            .to_string(),
        )
    };
    let canonical = match canonical_path(&format!("/{tail}")) {
        Ok(canonical) => canonical,
        Err(PathError::Empty) => {
            let segments: Vec<_> = tail.split('/').filter(|one| !one.is_empty()).collect();
            return fault("its path has an empty segment", near(&segments.join("/")));
        }
        Err(error) => {
            let bare = Parts {
                tail: None,
                ..*parts
            };
            return fault(error.to_string(), Remedy::Write(bare.to_string()));
        }
    };
    let dots = tail.split('/').any(|one| matches!(one, "." | ".."));
    if dots {
        let tail = canonical.strip_prefix('/').unwrap_or_default();
        return fault("its path has dot segments", near(tail));
    }
    let prefix = canonical.strip_suffix('/').unwrap_or(&canonical);
    Ok((!prefix.is_empty()).then(|| prefix.to_owned()))
}
