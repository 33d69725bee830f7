//! The three questions. Each answer names the rule, the reason and the remedy.

use core::net::IpAddr;

use belljar_base::Refusal;

use super::address::{is_named_by, is_public, is_within};
use super::host::{Host, HostName};
use super::path::canonical_path;
use super::refuse;
use super::rule::{Effect, HostPattern, Mode, Rule, Rules, Scheme};
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

/// May this name be resolved, for anything at all?
#[must_use]
pub fn decide_name(rules: &Rules, name: &HostName) -> Decision {
    let host = Host::Name(name.clone());
    let mut denying = about(rules, Effect::Deny, &host);
    if denying.any(|rule| rule.is_for_everything()) {
        return refuse::denied_name(&host);
    }
    match about(rules, Effect::Allow, &host).next() {
        Some(rule) => Decision::allow(&rule.text, "the rule names the host"),
        None => refuse::no_rule_for_name(&host),
    }
}

/// May this connection be made, for at least one request?
#[must_use]
pub fn decide_connection(rules: &Rules, asked: &Asked<'_>) -> Decision {
    let mut first = None;
    for scheme in asked.scheme.carried() {
        let carried = Asked {
            scheme: *scheme,
            ..*asked
        };
        let decision = judge(rules, &carried, None);
        if matches!(decision, Decision::Allow { .. }) {
            return decision;
        }
        first = first.or(Some(decision));
    }
    first.unwrap_or_else(|| refuse::no_rule(asked))
}

/// May this address be dialled for a connection that `decide_connection` allows?
///
/// What is asked inside the connection is not judged by address again: a denying rule for
/// addresses keeps in every connection of a name that leads there, even if it speaks of methods or
/// paths.
#[must_use]
pub fn decide_address(rules: &Rules, asked: &Asked<'_>, address: IpAddr) -> Decision {
    let own = rules.own_addresses.as_slice();
    let literal = matches!(asked.host, Host::Address(_));
    let denying = of(rules, Effect::Deny)
        .filter(|rule| reaches(rule, asked) && !(literal && rule.has_conditions()))
        .any(|rule| rule.net().is_some_and(|net| is_within(address, net)));
    if denying {
        return refuse::denied_address(asked);
    }
    if is_public(address, own) {
        return Decision::allow("egress.public_address", "the address is public");
    }
    match permitting(rules, asked, address) {
        Some(rule) => Decision::allow(&rule.text, "the rule names the address"),
        None => refuse::not_public(asked, address),
    }
}

/// May this request pass?
#[must_use]
pub fn decide_request(rules: &Rules, request: &Request<'_>) -> Decision {
    judge(rules, &request.asked, Some((request.method, request.path)))
}

/// Whether TLS to this host must be looked into: because a rule speaks of methods or paths, or
/// because one speaks of WebSocket apart from HTTP.
#[must_use]
pub fn terminates(rules: &Rules, asked: &Asked<'_>) -> bool {
    let carried = asked.scheme.carried();
    let splits = |rule: &Rule| {
        let speaks =
            rule.effect == Effect::Deny || rule.schemes.iter().any(|one| one.is_websocket());
        speaks && !carried.iter().all(|scheme| rule.has_scheme(*scheme))
    };
    concerning(rules, asked).any(|rule| rule.has_conditions() || splits(rule))
}

/// The path by which a request is judged. Where no rule for the host speaks of paths it is taken as
/// it is: `/@scope%2fname` means something to a server and need not be understood here.
///
/// # Errors
/// With the refusal, when a rule speaks of paths and it is doubtful what this one means.
pub fn judged_path(rules: &Rules, asked: &Asked<'_>, path: &str) -> Result<String, Refusal> {
    match canonical_path(path) {
        Ok(canonical) => Ok(canonical),
        Err(error) if concerning(rules, asked).any(|rule| rule.path.is_some()) => {
            Err(refuse::doubtful_path(error))
        }
        Err(_) => Ok(path.to_owned()),
    }
}

/// Whether what enforcement denies passes all the same, because the mode is to observe: an address
/// that is not public, asked for or found by name, passes only when a rule names it.
#[must_use]
pub fn is_observed(rules: &Rules, asked: &Asked<'_>, address: Option<IpAddr>) -> bool {
    let literal = match asked.host {
        Host::Address(literal) => Some(*literal),
        Host::Name(_) => None,
    };
    let own = rules.own_addresses.as_slice();
    let harmless = |one| is_public(one, own) || permitting(rules, asked, one).is_some();
    rules.mode == Mode::Observe && literal.into_iter().chain(address).all(harmless)
}

/// How far a request gets with a rule about its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reach {
    /// The scheme is another.
    Host,
    /// The port is another.
    Scheme,
    /// The method is another.
    Port,
    /// The path is another.
    Method,
    /// The rule is for it.
    Whole,
}

fn judge(rules: &Rules, asked: &Asked<'_>, request: Option<(&str, &str)>) -> Decision {
    let denying = about(rules, Effect::Deny, asked.host).find(|rule| {
        let judged = request.is_some() || !rule.has_conditions();
        judged && reach(rule, asked, request) == Reach::Whole
    });
    if let Some(rule) = denying {
        return refuse::denied_by(rule, asked, request);
    }
    let mut furthest = None;
    for rule in about(rules, Effect::Allow, asked.host) {
        let reach = reach(rule, asked, request);
        if reach == Reach::Whole {
            return Decision::allow(&rule.text, "the rule names the host");
        }
        furthest = furthest.max(Some(reach));
    }
    match (furthest, asked.host) {
        (Some(furthest), _) => refuse::falls_short(furthest, asked, request),
        (None, Host::Address(address)) if !is_public(*address, &rules.own_addresses) => {
            refuse::not_public(asked, *address)
        }
        (None, Host::Name(_) | Host::Address(_)) => refuse::no_rule(asked),
    }
}

fn reach(rule: &Rule, asked: &Asked<'_>, request: Option<(&str, &str)>) -> Reach {
    if !rule.has_scheme(asked.scheme) {
        return Reach::Host;
    }
    if !rule.has_port(asked.scheme, asked.port) {
        return Reach::Scheme;
    }
    match request {
        Some((method, _)) if !rule.has_method(method) => Reach::Port,
        Some((_, path)) if !rule.has_path(path) => Reach::Method,
        Some(_) | None => Reach::Whole,
    }
}

/// The rule that lets an address be dialled that is nobody's to dial: one for the address itself,
/// or one about the host that expects it there.
fn permitting<'a>(rules: &'a Rules, asked: &Asked<'_>, address: IpAddr) -> Option<&'a Rule> {
    let own = rules.own_addresses.as_slice();
    let names = |net: &_| is_named_by(address, net, own);
    let literal = matches!(asked.host, Host::Address(_));
    of(rules, Effect::Allow)
        .filter(|rule| reaches(rule, asked))
        .find(|rule| {
            let itself = literal || !rule.has_conditions();
            (itself && rule.net().is_some_and(names))
                || (rule.is_about(asked.host, own) && rule.addresses.iter().any(names))
        })
}

fn of(rules: &Rules, effect: Effect) -> impl Iterator<Item = &Rule> {
    rules.rules.iter().filter(move |rule| rule.effect == effect)
}

fn about<'a>(rules: &'a Rules, effect: Effect, host: &'a Host) -> impl Iterator<Item = &'a Rule> {
    let own = rules.own_addresses.as_slice();
    of(rules, effect).filter(move |rule| rule.is_about(host, own))
}

/// Every rule about the host that has a word in this connection.
fn concerning<'a>(rules: &'a Rules, asked: &'a Asked<'_>) -> impl Iterator<Item = &'a Rule> {
    let own = rules.own_addresses.as_slice();
    let mut rules = rules.rules.iter();
    std::iter::from_fn(move || {
        rules.find(|rule| rule.is_about(asked.host, own) && reaches(rule, asked))
    })
}

fn reaches(rule: &Rule, asked: &Asked<'_>) -> bool {
    let carries = |scheme: &Scheme| rule.has_scheme(*scheme) && rule.has_port(*scheme, asked.port);
    asked.scheme.carried().iter().any(carries)
}

impl Rule {
    fn net(&self) -> Option<&ipnet::IpNet> {
        match &self.host {
            HostPattern::Addresses(net) => Some(net),
            HostPattern::Exact(_) | HostPattern::Below(_) => None,
        }
    }

    fn is_for_everything(&self) -> bool {
        !self.has_conditions() && self.schemes.is_empty() && self.ports.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rules from the texts of a command line; one that begins with `!` denies.
    fn rules(texts: &[&str]) -> Rules {
        let one = |text: &&str| match text.strip_prefix('!') {
            Some(text) => Rule::parse_deny(text).unwrap(),
            None => Rule::parse_allow(text).unwrap(),
        };
        Rules {
            rules: texts.iter().map(one).collect(),
            ..Rules::default()
        }
    }

    #[test]
    fn default_deny_and_deny_wins() {
        let host: Host = "Example.com.".parse().unwrap();
        let https = Asked {
            scheme: Scheme::Https,
            host: &host,
            port: 443,
        };
        let allowed = |texts: &[&str]| {
            matches!(
                decide_connection(&rules(texts), &https),
                Decision::Allow { .. }
            )
        };
        assert!(!allowed(&[]));
        assert!(allowed(&["example.com:443"]));
        assert!(allowed(&["example.com"]));
        assert!(!allowed(&["example.com", "!example.com"]));
        assert!(!allowed(&["www.example.com"]));
        assert!(!allowed(&["example.com:8443"]));
    }
}
