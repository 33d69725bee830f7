//! A rule as the command line has it: `[SCHEME://]HOST[:PORT][/PATH]`. What is no rule is answered
//! with the nearest text that is one.

mod parts; // a text taken apart

use core::net::IpAddr;

use belljar_base::bounds::{
    EGRESS_NET_4_BITS_MIN, EGRESS_NET_6_BITS_MIN, EGRESS_RULE_BYTES_MAX, EGRESS_SHOWN_CHARS_MAX,
};
use ipnet::IpNet;

use super::address::{Sort, sort_of};
use super::host::{Host, HostName};
use super::nearest::nearest_word;
use super::path::{PathError, canonical_path};
use super::rule::{Effect, HostPattern, Rule, RuleError, Scheme};
use parts::{Parts, split_scheme, without_credentials};

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

const EXAMPLE: &str = "name the host, for example `api.example.com`";
const EXAMPLES: &str = "name the hosts, for example `api.example.com` or `*.example.com`";
/// How many faults of one text are mended before words must do.
const MENDED_MAX: usize = 12;

pub(super) fn parse(effect: Effect, text: &str) -> Result<Rule, RuleError> {
    read(effect, text).map_err(|fault| RuleError {
        text: shown(text),
        remedy: mended(effect, text, fault.remedy),
        reason: fault.reason,
    })
}

/// The remedy in words: what is to be written is mended until it is a rule.
fn mended(effect: Effect, text: &str, remedy: Remedy) -> String {
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
    let open = match (split_scheme(text), text.rsplit_once('@')) {
        ((Some(scheme), _), Some((_, host))) => format!("{scheme}://…@{host}"),
        ((None, _), Some((_, host))) => format!("…@{host}"),
        (_, None) => text.to_owned(),
    };
    let clean = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    open.chars()
        .take(EGRESS_SHOWN_CHARS_MAX)
        .map(clean)
        .collect()
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
        let bare = Parts {
            tail: None,
            ..parts
        };
        return fault("bare TCP has no paths", bare.write());
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
    // Before anything else is repeated of it.
    if let Some(open) = without_credentials(text) {
        return fault("it has credentials in it", Remedy::Write(open));
    }
    if trimmed.len() < text.len() {
        return fault("it has spaces around it", Remedy::Write(trimmed.to_owned()));
    }
    if text.contains(char::is_control) {
        let clean = text.chars().filter(|c| !c.is_control()).collect();
        return fault("it has control characters", Remedy::Write(clean));
    }
    let separates = |c: char| c.is_whitespace() || matches!(c, ',' | ';');
    let (_, rest) = split_scheme(text);
    let authority = rest.split('/').next().unwrap_or_default();
    if text.contains(char::is_whitespace) || authority.contains(separates) {
        let first = text.split(separates).find(|word| !word.is_empty());
        let first = first.unwrap_or_default().to_owned();
        return fault("it is more than one word", Remedy::Write(first));
    }
    Ok(())
}

fn scheme_named(word: &str) -> Option<Scheme> {
    let lower = word.to_ascii_lowercase();
    Scheme::ALL.into_iter().find(|one| one.as_str() == lower)
}

fn scheme(parts: &Parts<'_>, word: &str) -> Result<Scheme, Fault> {
    if let Some(scheme) = scheme_named(word) {
        return Ok(scheme);
    }
    let known = Scheme::ALL.map(Scheme::as_str);
    let near = nearest_word(&word.to_ascii_lowercase(), &known);
    let nearest = match (near, parts.port) {
        (Some(near), _) => Some(near),
        (None, Some(_)) => Some("tcp"),
        (None, None) => None,
    };
    let remedy = match nearest {
        Some(_) => {
            let scheme = nearest;
            Parts { scheme, ..*parts }.write()
        }
        None => say("for bytes that are not HTTP write `tcp://HOST:PORT`"),
    };
    let reason = "its scheme is none of http, https, ws, wss and tcp";
    fault(reason, remedy)
}

fn port(parts: &Parts<'_>, digits: &str) -> Result<u16, Fault> {
    let number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if let (false, None, Some(scheme)) = (number, parts.scheme, scheme_named(parts.host)) {
        let slash = if digits.is_empty() { "" } else { "/" };
        let tail = parts.tail.map(|tail| format!("{slash}{tail}"));
        let rest = digits.to_owned() + &tail.unwrap_or_default();
        let remedy = Remedy::Write(format!("{scheme}://{rest}"));
        return fault("its scheme is without `//`", remedy);
    }
    // Of `80-90`, the 80.
    let first = digits.split(|c: char| !c.is_ascii_digit()).next();
    let first = first.filter(|first| first.parse::<u16>().is_ok_and(|port| port > 0));
    let bare = Parts {
        port: first,
        ..*parts
    };
    match digits.parse::<u16>() {
        Ok(port) if number && port > 0 => Ok(port),
        Ok(_) | Err(_) if digits.is_empty() => fault("it has a colon and no port", bare.write()),
        Ok(_) | Err(_) => fault("its port is no number from 1 to 65535", bare.write()),
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
        Ok(Host::Address(address)) => {
            is_plain(parts, address)?;
            HostPattern::Addresses(IpNet::from(address))
        }
        Err(_) => {
            let reason = "its host is neither a name nor an address";
            return fault(reason, near_host(parts));
        }
    };
    Ok((host, path(parts)?))
}

/// A person who writes `10.1` may not mean 10.0.0.1: an address of version 4 has four numbers here.
fn is_plain(parts: &Parts<'_>, address: IpAddr) -> Result<(), Fault> {
    let host = address.to_string();
    if address.is_ipv6() || parts.host == host {
        return Ok(());
    }
    let host = host.as_str();
    let reason = "its address is not written as four numbers";
    fault(reason, Parts { host, ..*parts }.write())
}

fn near_host(parts: &Parts<'_>) -> Remedy {
    if let Some(rest) = parts
        .tail
        .filter(|tail| parts.host.is_empty() && tail.starts_with('/'))
    {
        return Remedy::Write(rest.trim_start_matches('/').to_owned());
    }
    let (host, _zone) = parts.host.split_once('%').unwrap_or((parts.host, ""));
    let host = host.trim_matches(['[', ']']);
    let labels = host.split('.').map(|label| label.trim_matches('-'));
    let labels: Vec<_> = labels.filter(|label| !label.is_empty()).collect();
    let mended = match host.parse::<Host>() {
        Ok(Host::Address(IpAddr::V6(_))) => format!("[{host}]"),
        Ok(_) | Err(_) => labels.join("."),
    };
    let host = mended.as_str();
    match host.parse::<Host>() {
        Ok(_) if host != parts.host => Parts { host, ..*parts }.write(),
        Ok(_) | Err(_) => say(EXAMPLE),
    }
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
        return fault("a net has no paths", bare.write());
    }
    let Ok(Host::Address(address)) = parts.host.parse::<Host>() else {
        return fault("its net has no address", say(EXAMPLE));
    };
    let given = parts.host.split('.').count();
    if given < 4 && address.is_ipv4() && parts.host.bytes().all(|b| b != b':') {
        let host = parts.host.to_owned() + &".0".repeat(4 - given);
        let host = host.as_str();
        let reason = "its address is not written as four numbers";
        return fault(reason, Parts { host, ..*parts }.write());
    }
    is_plain(parts, address)?;
    let bits = length.parse().ok();
    let Some(net) = bits.and_then(|bits| IpNet::new(address, bits).ok()) else {
        let host = match address {
            IpAddr::V4(v4) => v4.to_string(),
            IpAddr::V6(v6) => format!("[{v6}]"),
        };
        let (host, length) = (host.as_str(), None);
        let reason = "the prefix of its net is longer than an address";
        let bare = Parts {
            host,
            length,
            ..*parts
        };
        return fault(reason, bare.write());
    };
    if net.network() != net.addr() {
        let host = net.network().to_string();
        let host = host.as_str();
        let reason = "its net begins at another address";
        return fault(reason, Parts { host, ..*parts }.write());
    }
    Ok(Some(net))
}

/// A net of public addresses must not be the whole network in disguise.
pub(super) fn is_wide(net: &IpNet) -> Option<u8> {
    let enough = match net {
        IpNet::V4(_) => EGRESS_NET_4_BITS_MIN,
        IpNet::V6(_) => EGRESS_NET_6_BITS_MIN,
    };
    let sort = sort_of(net.network());
    let reserved = sort != Sort::Public && sort == sort_of(net.broadcast());
    (!reserved && net.prefix_len() < enough).then_some(enough)
}

fn is_narrow(effect: Effect, net: &IpNet) -> Result<(), Fault> {
    match (effect, is_wide(net)) {
        (Effect::Allow, Some(enough)) => {
            let example = match net {
                IpNet::V4(_) => "name the nets, for example `192.0.2.0/24`",
                IpNet::V6(_) => "name the nets, for example `2001:db8::/32`",
            };
            fault(format!("its net is wider than a /{enough}"), say(example))
        }
        (Effect::Allow, None) | (Effect::Deny, _) => Ok(()),
    }
}

fn wildcard(effect: Effect, parts: &Parts<'_>) -> Result<HostPattern, Fault> {
    let whole = |host: &str| Parts { host, ..*parts }.write();
    if parts.host.chars().all(|c| matches!(c, '*' | '.')) {
        let reason = match effect {
            Effect::Allow => "it would let everything through",
            Effect::Deny => "what no rule allows is denied already",
        };
        return fault(reason, say(EXAMPLES));
    }
    let Some(base) = parts
        .host
        .strip_prefix("*.")
        .filter(|base| !base.contains('*'))
    else {
        let kept = parts.host.rsplit('*').next().unwrap_or_default();
        let kept = kept.trim_start_matches(['.', '-']);
        let reason = "a `*` stands for all that is below a domain, alone and in front";
        return fault(reason, whole(&format!("*.{kept}")));
    };
    let base = match base.parse::<Host>() {
        Ok(Host::Name(base)) => base,
        Ok(Host::Address(address)) => {
            let reason = "there are no names below an address";
            return fault(reason, whole(&address.to_string()));
        }
        Err(_) => return fault("what follows `*.` is not a name", say(EXAMPLES)),
    };
    if effect == Effect::Allow && !is_registrable(&base) {
        let reason = format!("anybody can have a name below `{base}`");
        return fault(reason, whole(&format!("*.example.{base}")));
    }
    Ok(HostPattern::Below(base))
}

/// Whether a name has an owner, by the public suffix list.
pub(super) fn is_registrable(name: &HostName) -> bool {
    psl::domain_str(name.as_str()).is_some()
}

fn path(parts: &Parts<'_>) -> Result<Option<String>, Fault> {
    let Some(tail) = parts.tail else {
        return Ok(None);
    };
    prefix_of(tail).or_else(|Misfit { reason, near }| {
        let tail = near.as_deref();
        fault(
            format!("its path {reason}"),
            Parts { tail, ..*parts }.write(),
        )
    })
}

/// What keeps a path from being one of a rule.
pub(super) struct Misfit {
    pub(super) reason: String,
    /// The nearest path, without its slash.
    pub(super) near: Option<String>,
}

/// The canonical path of a rule, of what follows its first slash: without the slash at its end; none
/// when it is the root.
pub(super) fn prefix_of(tail: &str) -> Result<Option<String>, Misfit> {
    let misfit = |reason: &str, near: Option<&str>| {
        let (reason, near) = (reason.to_owned(), near.map(str::to_owned));
        Err(Misfit { reason, near })
    };
    if let Some((before, _)) = tail.split_once('*') {
        let near = before.rsplit_once('/').map(|(near, _)| near);
        return misfit("has a `*` and stands for all that is below it anyway", near);
    }
    let segments = || tail.split('/').filter(|one| !one.is_empty());
    let canonical = match canonical_path(&format!("/{tail}")) {
        Ok(canonical) => canonical,
        Err(PathError::Empty) => {
            let near = segments().collect::<Vec<_>>().join("/");
            return misfit("has an empty segment", Some(&near));
        }
        Err(error) => {
            let reason = error.to_string();
            return misfit(reason.strip_prefix("path ").unwrap_or(&reason), None);
        }
    };
    let prefix = canonical.strip_suffix('/').unwrap_or(&canonical);
    if segments().count() != prefix.matches('/').count() {
        return misfit("has dot segments", prefix.strip_prefix('/'));
    }
    Ok((!prefix.is_empty()).then(|| prefix.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use proptest::prelude::*;

    /// What a rule is, in one line.
    fn line(rule: &Rule) -> String {
        let host = match &rule.host {
            HostPattern::Exact(name) => name.to_string(),
            HostPattern::Below(name) => format!("below {name}"),
            HostPattern::Addresses(net) => net.to_string(),
        };
        let schemes: Vec<_> = rule.schemes.iter().map(|one| one.as_str()).collect();
        let ports: Vec<_> = rule.ports.iter().map(u16::to_string).collect();
        let path = rule.path.as_deref().unwrap_or_default();
        let line = format!("{host} {} {} {path}", schemes.join(","), ports.join(","));
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn check(effect: Effect, table: &[(&str, &str)]) {
        for (text, wanted) in table {
            let answer = match parse(effect, text) {
                Ok(rule) => {
                    assert_eq!(rule.text, *text);
                    line(&rule)
                }
                Err(error) => format!("{}; {}", error.reason, error.remedy),
            };
            assert_eq!(answer, *wanted, "{text:?}");
        }
    }

    /// Names.
    const RULES: &[(&str, &str)] = &[
        ("example.com", "example.com"),
        ("Example.COM.", "example.com"),
        ("example.com:443", "example.com 443"),
        ("example.com:00443", "example.com 443"),
        ("example.com/", "example.com"),
        ("example.com/v1", "example.com /v1"),
        ("example.com/v1/", "example.com /v1"),
        (
            "example.com:8443/v1/%7Eme/a%20b",
            "example.com 8443 /v1/~me/a%20b",
        ),
        (
            "registry.example.com/@types/node",
            "registry.example.com /@types/node",
        ),
        ("https://example.com", "example.com https"),
        ("HTTPS://example.com:8443/v1", "example.com https 8443 /v1"),
        ("http://example.com", "example.com http"),
        ("ws://example.com", "example.com ws"),
        ("wss://example.com/feed", "example.com wss /feed"),
        ("tcp://db.example.com:5432", "db.example.com tcp 5432"),
        ("tcp://db.example.com", "db.example.com tcp"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("_sip._tcp.example.com", "_sip._tcp.example.com"),
        ("db", "db"),
        ("localhost:8080", "localhost 8080"),
        ("*.example.com", "below example.com"),
        (
            "*.api.example.com:8443/v1",
            "below api.example.com 8443 /v1",
        ),
        ("*.me.github.io", "below me.github.io"),
        ("*.svc.cluster.local", "below svc.cluster.local"),
        ("wss://*.example.com", "below example.com wss"),
    ];

    /// Addresses and nets.
    const ADDRESSES: &[(&str, &str)] = &[
        ("192.0.2.1", "192.0.2.1/32"),
        ("192.0.2.1:8443", "192.0.2.1/32 8443"),
        ("192.0.2.1/api", "192.0.2.1/32 /api"),
        (
            "https://192.0.2.1:8443/api/1",
            "192.0.2.1/32 https 8443 /api/1",
        ),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("10.0.0.0/8:5432", "10.0.0.0/8 5432"),
        ("tcp://10.0.0.0/8:5432", "10.0.0.0/8 tcp 5432"),
        ("2001:db8::1", "2001:db8::1/128"),
        ("2001:DB8:0::1", "2001:db8::1/128"),
        ("[2001:db8::1]", "2001:db8::1/128"),
        ("[2001:db8::1]:443", "2001:db8::1/128 443"),
        ("[2001:db8::1]:443/api", "2001:db8::1/128 443 /api"),
        ("https://[2001:db8::1]/api", "2001:db8::1/128 https /api"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("[2001:db8::/32]:443", "2001:db8::/32 443"),
        ("[2001:db8::]/32:443", "2001:db8::/32 443"),
        ("tcp://[2001:db8::/32]:5432", "2001:db8::/32 tcp 5432"),
        ("fc00::/7", "fc00::/7"),
        ("169.254.169.254", "169.254.169.254/32"),
    ];

    /// Hosts that are none.
    const NO_HOSTS: &[(&str, &str)] = &[
        (
            "",
            "it is empty; name the host, for example `api.example.com`",
        ),
        (
            " ",
            "it is empty; name the host, for example `api.example.com`",
        ),
        (
            "*",
            "it would let everything through; name the hosts, for example `api.example.com` or `*.example.com`",
        ),
        (
            "*:443",
            "it would let everything through; name the hosts, for example `api.example.com` or `*.example.com`",
        ),
        (
            "https://*",
            "it would let everything through; name the hosts, for example `api.example.com` or `*.example.com`",
        ),
        (
            "*.*",
            "it would let everything through; name the hosts, for example `api.example.com` or `*.example.com`",
        ),
        (
            "**",
            "it would let everything through; name the hosts, for example `api.example.com` or `*.example.com`",
        ),
        (
            "*.",
            "it would let everything through; name the hosts, for example `api.example.com` or `*.example.com`",
        ),
        (
            "*.com",
            "anybody can have a name below `com`; write `*.example.com`",
        ),
        (
            "*.co.uk",
            "anybody can have a name below `co.uk`; write `*.example.co.uk`",
        ),
        (
            "*.co.uk:8443/v1",
            "anybody can have a name below `co.uk`; write `*.example.co.uk:8443/v1`",
        ),
        (
            "*.公司.cn",
            "anybody can have a name below `xn--55qx5d.cn`; write `*.example.xn--55qx5d.cn`",
        ),
        (
            "*.github.io",
            "anybody can have a name below `github.io`; write `*.example.github.io`",
        ),
        (
            "*.internal",
            "anybody can have a name below `internal`; write `*.example.internal`",
        ),
        (
            "*example.com",
            "a `*` stands for all that is below a domain, alone and in front; write `*.example.com`",
        ),
        (
            "api*.example.com",
            "a `*` stands for all that is below a domain, alone and in front; write `*.example.com`",
        ),
        (
            "api.*.example.com",
            "a `*` stands for all that is below a domain, alone and in front; write `*.example.com`",
        ),
        (
            "*.*.example.com",
            "a `*` stands for all that is below a domain, alone and in front; write `*.example.com`",
        ),
        (
            "example.*",
            "a `*` stands for all that is below a domain, alone and in front; name the hosts, for example `api.example.com` or `*.example.com`",
        ),
        (
            "*.192.0.2.1",
            "there are no names below an address; write `192.0.2.1`",
        ),
        (
            "*.exa mple.com",
            "it is more than one word; write `*.example.exa`",
        ),
        (
            "*.-a.example",
            "what follows `*.` is not a name; name the hosts, for example `api.example.com` or `*.example.com`",
        ),
        (
            "exam!ple.com",
            "its host is neither a name nor an address; name the host, for example `api.example.com`",
        ),
        (
            "-a.example.com",
            "its host is neither a name nor an address; write `a.example.com`",
        ),
        (
            "a..example.com",
            "its host is neither a name nor an address; write `a.example.com`",
        ),
        (
            ".example.com",
            "its host is neither a name nor an address; write `example.com`",
        ),
        (
            "example.123",
            "its host is neither a name nor an address; name the host, for example `api.example.com`",
        ),
        (
            "a_b.example.com%eth0",
            "its host is neither a name nor an address; write `a_b.example.com`",
        ),
        (
            "fe80::1%eth0",
            "its host is neither a name nor an address; write `[fe80::1]`",
        ),
        (
            "[fe80::1%25eth0]:80",
            "its host is neither a name nor an address; write `[fe80::1]:80`",
        ),
        (
            "[2001:db8::1",
            "its host is neither a name nor an address; write `[2001:db8::1]`",
        ),
        (
            "2001:db8::1]",
            "its host is neither a name nor an address; write `[2001:db8::1]`",
        ),
        (
            "[192.0.2.1]",
            "its host is neither a name nor an address; write `192.0.2.1`",
        ),
        (
            "[2001:db8::1]443",
            "its host is neither a name nor an address; name the host, for example `api.example.com`",
        ),
        (
            "2001:db8:::1",
            "its host is neither a name nor an address; name the host, for example `api.example.com`",
        ),
        (
            "/v1",
            "its host is neither a name nor an address; name the host, for example `api.example.com`",
        ),
        (
            ":443",
            "its host is neither a name nor an address; name the host, for example `api.example.com`",
        ),
        (
            "https://",
            "its host is neither a name nor an address; name the host, for example `api.example.com`",
        ),
        (
            "https:///v1",
            "its host is neither a name nor an address; name the host, for example `api.example.com`",
        ),
    ];

    /// Everything else that is none.
    const NO_RULES: &[(&str, &str)] = &[
        (
            " example.com",
            "it has spaces around it; write `example.com`",
        ),
        (
            "example.com\n",
            "it has spaces around it; write `example.com`",
        ),
        (
            "example\u{1b}[2J.com",
            "it has control characters; name the host, for example `api.example.com`",
        ),
        (
            "example.com example.org",
            "it is more than one word; write `example.com`",
        ),
        (
            "example.com,example.org",
            "it is more than one word; write `example.com`",
        ),
        (
            "example.com, example.org",
            "it is more than one word; write `example.com`",
        ),
        (
            "https://user:secret@example.com/v1",
            "it has credentials in it; write `https://example.com/v1`",
        ),
        (
            "https://user@example.com",
            "it has credentials in it; write `https://example.com`",
        ),
        (
            "user:secret@example.com:443",
            "it has credentials in it; write `example.com:443`",
        ),
        (
            "https://user:se/cr?e#t@example.com:443/v1",
            "it has credentials in it; write `https://example.com:443/v1`",
        ),
        (
            "https://user:se,cret @example.com",
            "it has credentials in it; write `https://example.com`",
        ),
        (
            "https://u:p@EXAMPLE.com:0/a/../b?c#d",
            "it has credentials in it; write `https://EXAMPLE.com/b`",
        ),
        (
            "example.com:",
            "it has a colon and no port; write `example.com`",
        ),
        (
            "example.com:0",
            "its port is no number from 1 to 65535; write `example.com`",
        ),
        (
            "example.com:65536",
            "its port is no number from 1 to 65535; write `example.com`",
        ),
        (
            "example.com:-1",
            "its port is no number from 1 to 65535; write `example.com`",
        ),
        (
            "example.com:+443",
            "its port is no number from 1 to 65535; write `example.com`",
        ),
        (
            "example.com:https",
            "its port is no number from 1 to 65535; write `example.com`",
        ),
        (
            "example.com:80:81",
            "its host is neither a name nor an address; name the host, for example `api.example.com`",
        ),
        (
            "example.com:80-90",
            "its port is no number from 1 to 65535; write `example.com:80`",
        ),
        (
            "[2001:db8::1]:0",
            "its port is no number from 1 to 65535; write `[2001:db8::1]`",
        ),
        (
            "https:example.com",
            "its scheme is without `//`; write `https://example.com`",
        ),
        (
            "https:/example.com/v1",
            "its scheme is without `//`; write `https://example.com/v1`",
        ),
        (
            "https:",
            "its scheme is without `//`; name the host, for example `api.example.com`",
        ),
        (
            "ftp://example.com",
            "its scheme is none of http, https, ws, wss and tcp; for bytes that are not HTTP write `tcp://HOST:PORT`",
        ),
        (
            "ssh://git@example.com:22",
            "it has credentials in it; write `tcp://example.com:22`",
        ),
        (
            "htps://example.com",
            "its scheme is none of http, https, ws, wss and tcp; write `https://example.com`",
        ),
        (
            "://example.com",
            "its scheme is none of http, https, ws, wss and tcp; for bytes that are not HTTP write `tcp://HOST:PORT`",
        ),
        (
            "//example.com",
            "its host is neither a name nor an address; write `example.com`",
        ),
        (
            "example.com/v1?a=b",
            "it has a query, which no rule looks at; write `example.com/v1`",
        ),
        (
            "example.com/v1#top",
            "it has a fragment, which no rule looks at; write `example.com/v1`",
        ),
        (
            "example.com?a=b",
            "it has a query, which no rule looks at; write `example.com`",
        ),
        (
            "example.com\\v1",
            "it has a backslash; write `example.com/v1`",
        ),
        (
            "example.com/../v1",
            "its path climbs above the root; write `example.com`",
        ),
        (
            "example.com/a/../v1",
            "its path has dot segments; write `example.com/v1`",
        ),
        (
            "example.com/a/./v1/",
            "its path has dot segments; write `example.com/a/v1`",
        ),
        (
            "example.com/a/%2e%2e/v1",
            "its path has dot segments; write `example.com/v1`",
        ),
        (
            "example.com//v1",
            "its path has an empty segment; write `example.com/v1`",
        ),
        (
            "example.com/a%2fb",
            "its path can be read in more than one way; write `example.com`",
        ),
        (
            "example.com/a%zz",
            "its path has a `%` that encodes nothing; write `example.com`",
        ),
        (
            "example.com/ü",
            "its path has a character that is not allowed in one; write `example.com`",
        ),
        (
            "example.com/*",
            "its path has a `*` and stands for all that is below it anyway; write `example.com`",
        ),
        (
            "example.com/v1/*",
            "its path has a `*` and stands for all that is below it anyway; write `example.com/v1`",
        ),
        (
            "example.com/v1/a*/b",
            "its path has a `*` and stands for all that is below it anyway; write `example.com/v1`",
        ),
        ("example.com:8443/%2a", "example.com 8443 /%2A"),
        (
            "tcp://example.com:22/v1",
            "bare TCP has no paths; write `tcp://example.com:22`",
        ),
    ];

    /// Addresses that are none.
    const NO_ADDRESSES: &[(&str, &str)] = &[
        (
            "2130706433",
            "its address is not written as four numbers; write `127.0.0.1`",
        ),
        (
            "0x7f.1",
            "its address is not written as four numbers; write `127.0.0.1`",
        ),
        (
            "0177.0.0.1",
            "its address is not written as four numbers; write `127.0.0.1`",
        ),
        (
            "127.1:8080",
            "its address is not written as four numbers; write `127.0.0.1:8080`",
        ),
        (
            "127.0.0.1.",
            "its address is not written as four numbers; write `127.0.0.1`",
        ),
        (
            "::ffff:192.0.2.1",
            "its address is not written as four numbers; write `192.0.2.1`",
        ),
        (
            "10/8",
            "its address is not written as four numbers; write `10.0.0.0/8`",
        ),
        (
            "10.1/16",
            "its address is not written as four numbers; write `10.1.0.0/16`",
        ),
        (
            "10.0.0.1/8",
            "its net begins at another address; write `10.0.0.0/8`",
        ),
        (
            "10.0.0.0/33",
            "the prefix of its net is longer than an address; write `10.0.0.0`",
        ),
        ("10.0.0.0/8/v1", "a net has no paths; write `10.0.0.0/8`"),
        (
            "10.0.0.0:443/8",
            "the port stands before the prefix of the net; write `10.0.0.0/8:443`",
        ),
        (
            "0.0.0.0/0",
            "its net is wider than a /8; name the nets, for example `192.0.2.0/24`",
        ),
        (
            "8.0.0.0/5",
            "its net is wider than a /8; name the nets, for example `192.0.2.0/24`",
        ),
        (
            "::/0",
            "its net is wider than a /16; name the nets, for example `2001:db8::/32`",
        ),
        (
            "2000::/3",
            "its net is wider than a /16; name the nets, for example `2001:db8::/32`",
        ),
        (
            "2001:db8::1/32",
            "its net begins at another address; write `[2001:db8::/32]`",
        ),
        (
            "2001:db8::/129",
            "the prefix of its net is longer than an address; write `[2001:db8::]`",
        ),
        (
            "[2001:db8::/32]/v1",
            "a net has no paths; write `[2001:db8::/32]`",
        ),
        (
            "[2001:db8::]:443/32",
            "the port stands before the prefix of the net; write `[2001:db8::/32]:443`",
        ),
        (
            "[::ffff:10.0.0.0/104]",
            "its address is not written as four numbers; write `10.0.0.0`",
        ),
        (
            "[example.com/8]",
            "its net has no address; name the host, for example `api.example.com`",
        ),
        (
            "256.0.0.1",
            "its host is neither a name nor an address; name the host, for example `api.example.com`",
        ),
        (
            "1.2.3.4.5",
            "its host is neither a name nor an address; name the host, for example `api.example.com`",
        ),
    ];

    /// Who denies may deny much.
    const DENIALS: &[(&str, &str)] = &[
        ("example.com", "example.com"),
        ("*.com", "below com"),
        ("*.co.uk", "below co.uk"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        (
            "*",
            "what no rule allows is denied already; name the hosts, for example `api.example.com` or `*.example.com`",
        ),
        (
            "https://u:p@example.com",
            "it has credentials in it; write `https://example.com`",
        ),
    ];

    #[test]
    fn every_text_has_its_answer() {
        for table in [RULES, ADDRESSES, NO_HOSTS, NO_RULES, NO_ADDRESSES] {
            check(Effect::Allow, table);
        }
        check(Effect::Deny, DENIALS);
    }

    #[test]
    fn an_error_says_all_three() {
        let error = parse(Effect::Allow, "https://user:secret@example.com/v1").unwrap_err();
        expect!["`https://…@example.com/v1` is not a rule: it has credentials in it; write `https://example.com/v1`"].assert_eq(&error.to_string());
        let long = parse(Effect::Allow, &"a".repeat(EGRESS_RULE_BYTES_MAX + 1)).unwrap_err();
        assert_eq!(long.text.len(), EGRESS_SHOWN_CHARS_MAX);
        expect!["it is longer than 2048 bytes; use a shorter path, or none"]
            .assert_eq(&format!("{}; {}", long.reason, long.remedy));
    }

    /// Texts near rules.
    fn near() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("https://".to_owned()),
            Just("example.com".to_owned()),
            Just("co.uk".to_owned()),
            Just("10.0.0.0".to_owned()),
            Just("[2001:db8::1]".to_owned()),
            "[a-z*.:/@?#\\[\\]%,; \\\\-]{1,3}",
            ":[0-9]{1,6}",
            "/[0-9]{1,3}",
            "/[a-z.%0-9]{0,4}",
            any::<char>().prop_map(String::from),
        ];
        prop::collection::vec(piece, 0..7).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn every_text_is_a_rule_or_leads_to_one(text in near(), deny in any::<bool>()) {
            let effect = if deny { Effect::Deny } else { Effect::Allow };
            match parse(effect, &text) {
                Ok(rule) => {
                    let below = matches!(&rule.host, HostPattern::Below(base) if !deny && !is_registrable(base));
                    prop_assert!(!below);
                    prop_assert!(rule.ports.iter().all(|port| *port > 0));
                    prop_assert!(rule.path.iter().all(|path| canonical_path(path).as_ref() == Ok(path)));
                }
                Err(error) => {
                    if let Some(nearest) = error.remedy.strip_prefix("write `") {
                        let nearest = nearest.strip_suffix('`').unwrap();
                        prop_assert!(parse(effect, nearest).is_ok(), "{}", nearest);
                    }
                    prop_assert!(!error.to_string().contains(char::is_control));
                }
            }
        }
    }
}
