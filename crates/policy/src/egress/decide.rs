//! The three questions. Each answer names the rule, the reason and the remedy.

use core::net::IpAddr;

use belljar_base::Refusal;

use super::address::{is_named_by, is_public, is_within};
use super::host::{Host, HostName};
use super::path::{canonical_path, plain_path};
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
    // A literal was judged by its address with the connection.
    let named = matches!(asked.host, Host::Name(_));
    let mut denying = of(rules, Effect::Deny).filter(|rule| reaches(rule, asked));
    if named && denying.any(|rule| rule.net().is_some_and(|net| is_within(address, net))) {
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
/// it is: `/@scope%2fname` means something to a server and need not be understood here. Where one
/// does, dot segments are refused: the path goes on as it was sent, and clients resolve them first.
///
/// # Errors
/// With the refusal, when a rule speaks of paths and it is doubtful what this one means.
pub fn judged_path(rules: &Rules, asked: &Asked<'_>, path: &str) -> Result<String, Refusal> {
    if concerning(rules, asked).any(|rule| rule.path.is_some()) {
        return plain_path(path).map_err(refuse::doubtful_path);
    }
    Ok(canonical_path(path).unwrap_or_else(|_doubtful| path.to_owned()))
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
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    /// Rules from the texts of a command line; one that begins with `!` denies, and methods may
    /// stand before one: `GET,HEAD example.com`.
    fn rules(texts: &[&str]) -> Rules {
        let one = |text: &&str| {
            let (deny, text) = match text.strip_prefix('!') {
                Some(text) => (true, text),
                None => (false, *text),
            };
            let (methods, text) = text.split_once(' ').unwrap_or(("", text));
            let read = if deny {
                Rule::parse_deny
            } else {
                Rule::parse_allow
            };
            let mut rule = read(text).unwrap();
            let methods = methods.split(',').filter(|one| !one.is_empty());
            rule.methods = methods.map(str::to_owned).collect();
            rule
        };
        Rules {
            rules: texts.iter().map(one).collect(),
            own_addresses: vec!["192.168.7.7".parse().unwrap(), "9.9.9.9".parse().unwrap()],
            ..Rules::default()
        }
    }

    /// What is asked, from `[METHOD ]SCHEME://HOST:PORT[/PATH]`.
    struct Question {
        scheme: Scheme,
        host: Host,
        port: u16,
        method: String,
        path: Option<String>,
    }

    impl Question {
        fn of(text: &str) -> Self {
            let (method, text) = text.split_once(' ').unwrap_or(("GET", text));
            let (scheme, rest) = text.split_once("://").unwrap();
            let (authority, path) = match rest.split_once('/') {
                Some((authority, path)) => (authority, Some(format!("/{path}"))),
                None => (rest, None),
            };
            let (host, port) = authority.rsplit_once(':').unwrap();
            let scheme = Scheme::ALL.into_iter().find(|one| one.as_str() == scheme);
            Self {
                scheme: scheme.unwrap(),
                host: host.parse().unwrap(),
                port: port.parse().unwrap(),
                method: method.to_owned(),
                path,
            }
        }

        fn asked(&self) -> Asked<'_> {
            Asked {
                scheme: self.scheme,
                host: &self.host,
                port: self.port,
            }
        }

        /// A request when there is a path, else a connection.
        fn decide(&self, rules: &Rules) -> Decision {
            match &self.path {
                Some(path) => {
                    let (asked, method) = (self.asked(), self.method.as_str());
                    decide_request(
                        rules,
                        &Request {
                            asked,
                            method,
                            path,
                        },
                    )
                }
                None => decide_connection(rules, &self.asked()),
            }
        }
    }

    /// Who allows, or by which code it is denied.
    fn word(decision: &Decision) -> String {
        match decision {
            Decision::Allow { rule, .. } => rule.clone(),
            Decision::Hold(refusal) | Decision::Deny(refusal) => refusal.rule.clone(),
        }
    }

    fn check(texts: &[&str], questions: &[(&str, &str)]) {
        let rules = rules(texts);
        for (question, wanted) in questions {
            let decision = Question::of(question).decide(&rules);
            let found = word(&decision);
            let found = found.strip_prefix("egress.").unwrap_or(&found);
            assert_eq!(found, *wanted, "{question} by {texts:?}");
        }
    }

    #[test]
    fn what_no_rule_allows_is_denied() {
        check(
            &[],
            &[
                ("https://example.com:443", "host_denied"),
                ("GET https://example.com:443/", "host_denied"),
                ("tcp://8.8.8.8:53", "host_denied"),
                ("https://10.0.0.1:443", "ip_denied"),
                ("https://9.9.9.9:443", "ip_denied"),
            ],
        );
        check(
            &["example.com"],
            &[
                ("https://example.com:443", "example.com"),
                ("http://example.com:80", "example.com"),
                ("GET https://example.com:443/any", "example.com"),
                ("https://www.example.com:443", "host_denied"),
                ("https://bad-example.com.example:443", "host_denied"),
                ("https://example.com:8443", "port_denied"),
                ("https://example.com:80", "port_denied"),
                ("http://example.com:443", "port_denied"),
                ("wss://example.com:443", "proto_denied"),
                ("tcp://example.com:443", "proto_denied"),
                ("GET wss://example.com:443/", "proto_denied"),
            ],
        );
    }

    #[test]
    fn schemes_and_ports() {
        check(
            &["example.com:8443"],
            &[
                ("https://example.com:8443", "example.com:8443"),
                ("http://example.com:8443", "example.com:8443"),
                ("https://example.com:443", "port_denied"),
                ("ws://example.com:8443", "proto_denied"),
            ],
        );
        check(
            &["wss://example.com"],
            &[
                // A WebSocket begins as HTTPS; what else is asked inside is denied.
                ("https://example.com:443", "wss://example.com"),
                ("GET wss://example.com:443/", "wss://example.com"),
                ("GET https://example.com:443/", "proto_denied"),
                ("http://example.com:80", "proto_denied"),
                ("ws://example.com:80", "proto_denied"),
            ],
        );
        check(
            &["tcp://example.com", "tcp://db.example.com:5432"],
            &[
                ("tcp://example.com:1", "tcp://example.com"),
                ("tcp://db.example.com:5432", "tcp://db.example.com:5432"),
                ("tcp://db.example.com:22", "port_denied"),
                ("https://example.com:443", "proto_denied"),
            ],
        );
        check(
            &["*.example.com"],
            &[
                ("https://a.example.com:443", "*.example.com"),
                ("https://a.b.example.com:443", "*.example.com"),
                ("https://example.com:443", "host_denied"),
            ],
        );
    }

    #[test]
    fn methods_and_paths() {
        check(
            &["GET,HEAD example.com/v1", "POST example.com/v1/items"],
            &[
                ("https://example.com:443", "example.com/v1"),
                ("GET https://example.com:443/v1", "example.com/v1"),
                ("GET https://example.com:443/v1/x", "example.com/v1"),
                ("HEAD https://example.com:443/v1/items", "example.com/v1"),
                (
                    "POST https://example.com:443/v1/items/7",
                    "example.com/v1/items",
                ),
                ("POST https://example.com:443/v1", "path_denied"),
                ("DELETE https://example.com:443/v1/items", "method_denied"),
                ("get https://example.com:443/v1", "method_denied"),
                ("GET https://example.com:443/v10", "path_denied"),
                ("GET https://example.com:443/", "path_denied"),
                ("GET https://example.com:8443/v1", "port_denied"),
            ],
        );
    }

    #[test]
    fn a_denying_rule_wins() {
        check(
            &["*.example.com", "!evil.example.com", "!tcp://a.example.com"],
            &[
                ("https://a.example.com:443", "*.example.com"),
                ("https://evil.example.com:443", "host_denied"),
                ("GET https://evil.example.com:443/", "host_denied"),
            ],
        );
        // What a denying rule leaves out means any.
        check(
            &["example.com:8443", "tcp://example.com", "!example.com"],
            &[
                ("https://example.com:8443", "host_denied"),
                ("tcp://example.com:22", "host_denied"),
            ],
        );
        check(
            &["example.com", "wss://example.com", "!https://example.com"],
            &[
                ("GET https://example.com:443/", "proto_denied"),
                ("GET wss://example.com:443/", "wss://example.com"),
                ("https://example.com:443", "wss://example.com"),
                ("http://example.com:80", "example.com"),
            ],
        );
        check(
            &["example.com", "example.com:8443", "!example.com:8443"],
            &[
                ("https://example.com:443", "example.com"),
                ("https://example.com:8443", "port_denied"),
            ],
        );
        // One about single requests denies those, and no connection.
        check(
            &["example.com", "!DELETE example.com", "!example.com/admin"],
            &[
                ("https://example.com:443", "example.com"),
                ("GET https://example.com:443/", "example.com"),
                ("DELETE https://example.com:443/", "method_denied"),
                ("delete https://example.com:443/", "method_denied"),
                ("GET https://example.com:443/admin", "path_denied"),
                ("GET https://example.com:443/ADMIN;a=b/x", "path_denied"),
                ("GET https://example.com:443/administrators", "example.com"),
            ],
        );
    }

    #[test]
    fn literals_must_be_named() {
        check(
            &[
                "10.0.0.0/8:443",
                "203.0.113.7",
                "8.0.0.0/8",
                "[2606:4700::/32]:443",
                "!8.8.4.4",
            ],
            &[
                ("https://10.1.2.3:443", "10.0.0.0/8:443"),
                ("https://10.1.2.3:8443", "port_denied"),
                ("https://0x0a010203:443", "10.0.0.0/8:443"),
                ("https://[::ffff:10.1.2.3]:443", "10.0.0.0/8:443"),
                ("https://[64:ff9b::10.1.2.3]:443", "ip_denied"),
                ("https://203.0.113.7:443", "203.0.113.7"),
                ("https://203.0.113.8:443", "ip_denied"),
                ("https://8.8.8.8:443", "8.0.0.0/8"),
                ("https://8.8.4.4:443", "ip_denied"),
                ("https://[2606:4700::1]:443", "[2606:4700::/32]:443"),
                ("https://[2606:4700::5efe:10.0.0.1]:443", "ip_denied"),
                ("https://[2606:4700::5efe:8.8.4.4]:443", "ip_denied"),
                ("https://169.254.169.254:443", "ip_denied"),
            ],
        );
        check(
            &[
                "169.254.0.0/16",
                "100.64.0.0/10",
                "192.168.0.0/16",
                "9.9.9.0/24",
            ],
            &[
                ("http://169.254.169.254:80", "ip_denied"),
                ("http://169.254.1.1:80", "169.254.0.0/16"),
                ("http://100.100.100.200:80", "ip_denied"),
                ("http://192.168.1.1:80", "192.168.0.0/16"),
                ("http://192.168.7.7:80", "ip_denied"),
                ("http://9.9.9.9:80", "ip_denied"),
            ],
        );
        check(
            &["169.254.169.254", "192.168.7.7", "9.9.9.9"],
            &[
                ("http://169.254.169.254:80", "169.254.169.254"),
                ("http://192.168.7.7:80", "192.168.7.7"),
                ("http://9.9.9.9:80", "9.9.9.9"),
            ],
        );
    }

    fn check_name(texts: &[&str], table: &[(&str, &str)]) {
        let rules = rules(texts);
        for (name, wanted) in table {
            let decision = decide_name(&rules, &name.parse().unwrap());
            assert_eq!(word(&decision), *wanted, "{name} by {texts:?}");
        }
    }

    #[test]
    fn names_resolve_for_anything_that_could_be_allowed() {
        check_name(
            &[
                "tcp://db.example.com:5432",
                "*.example.org",
                "GET a.example/v1",
                "!x.example.org",
                "!y.example.org:22",
                "!z.example.org/a",
            ],
            &[
                ("db.example.com", "tcp://db.example.com:5432"),
                ("example.com", "egress.host_denied"),
                ("a.example.org", "*.example.org"),
                ("example.org", "egress.host_denied"),
                ("a.example", "a.example/v1"),
                ("x.example.org", "egress.host_denied"),
                ("y.example.org", "*.example.org"),
                ("z.example.org", "*.example.org"),
            ],
        );
    }

    fn check_address(texts: &[&str], table: &[(&str, &str, &str)]) {
        let rules = rules(texts);
        for (question, address, wanted) in table {
            let question = Question::of(question);
            let decision = decide_address(&rules, &question.asked(), address.parse().unwrap());
            let found = word(&decision);
            let found = found.strip_prefix("egress.").unwrap_or(&found);
            assert_eq!(
                found, *wanted,
                "{address} for {} by {texts:?}",
                question.host
            );
        }
    }

    #[test]
    fn names_lead_to_public_addresses_unless_a_rule_names_others() {
        let name = "https://example.com:443";
        check_address(
            &[
                "example.com",
                "10.0.0.0/8",
                "172.16.0.1:8443",
                "GET 172.16.0.2",
            ],
            &[
                (name, "8.8.8.8", "public_address"),
                (name, "2606:4700::1", "public_address"),
                (name, "10.1.2.3", "10.0.0.0/8"),
                (name, "::ffff:10.1.2.3", "10.0.0.0/8"),
                (name, "192.168.1.1", "ip_denied"),
                (name, "127.0.0.1", "ip_denied"),
                (name, "::1", "ip_denied"),
                (name, "169.254.169.254", "ip_denied"),
                (name, "::ffff:169.254.169.254", "ip_denied"),
                (name, "64:ff9b::169.254.169.254", "ip_denied"),
                (name, "9.9.9.9", "ip_denied"),
                // A rule for an address on one port says nothing about others, and one about single
                // requests nothing about names.
                (name, "172.16.0.1", "ip_denied"),
                (name, "172.16.0.2", "ip_denied"),
                ("https://172.16.0.2:443", "172.16.0.2", "172.16.0.2"),
            ],
        );
    }

    #[test]
    fn a_rule_may_expect_an_address() {
        let mut rules = rules(&[
            "db.example.com",
            "*.example.org",
            "tcp://db.example.com:5432",
        ]);
        rules.rules[0].addresses = vec!["10.0.0.0/24".parse().unwrap()];
        rules.rules[1].addresses = vec!["fd00::/64".parse().unwrap(), "0.0.0.0/0".parse().unwrap()];
        for (question, address, wanted) in [
            ("https://db.example.com:443", "10.0.0.7", true),
            ("https://db.example.com:443", "10.0.1.7", false),
            ("tcp://db.example.com:5432", "10.0.0.7", false),
            ("https://a.example.org:443", "10.0.0.7", false),
            ("https://a.example.org:443", "fd00::1", true),
            ("https://a.example.org:443", "127.0.0.1", false),
        ] {
            let question = Question::of(question);
            let decision = decide_address(&rules, &question.asked(), address.parse().unwrap());
            let allowed = matches!(decision, Decision::Allow { .. });
            assert_eq!(allowed, wanted, "{address}");
        }
    }

    #[test]
    fn a_denied_address_is_denied_to_every_name() {
        let name = "https://example.com:443";
        check_address(
            &[
                "example.com",
                "10.0.0.0/8",
                "!8.8.0.0/16",
                "!10.9.0.0/16",
                "!8.1.1.1:22",
                "!DELETE 8.2.2.2/a",
            ],
            &[
                (name, "8.8.8.8", "ip_denied"),
                (name, "::ffff:8.8.8.8", "ip_denied"),
                (name, "64:ff9b::8.8.8.8", "ip_denied"),
                (name, "2002:808:808::1", "ip_denied"),
                (name, "10.9.1.1", "ip_denied"),
                (name, "10.8.1.1", "10.0.0.0/8"),
                (name, "8.1.1.1", "public_address"),
                // Requests are not judged by the address their name leads to: denied as a whole.
                (name, "8.2.2.2", "ip_denied"),
                ("https://8.2.2.2:443", "8.2.2.2", "public_address"),
            ],
        );
    }

    #[test]
    fn tls_is_looked_into_when_a_rule_needs_it() {
        for (texts, wanted) in [
            (&["example.com"][..], false),
            (&["https://example.com", "wss://other.example"], false),
            (&["example.com/v1"], true),
            (&["GET example.com"], true),
            (&["example.com", "!example.com/admin"], true),
            (&["example.com", "!POST example.com"], true),
            (&["example.com", "example.com:8443/v1"], false),
            (&["example.com", "other.example/v1"], false),
            (&["*.com.example/v1", "example.com"], false),
            (&["wss://example.com"], true),
            (&["example.com", "!wss://example.com"], true),
            (&["example.com", "!https://example.com"], true),
            (&["example.com", "!tcp://example.com"], false),
            (&["example.com", "!example.com"], false),
        ] {
            let rules = rules(texts);
            let question = Question::of("https://example.com:443");
            assert_eq!(terminates(&rules, &question.asked()), wanted, "{texts:?}");
        }
    }

    #[test]
    fn a_path_is_doubted_only_where_a_rule_speaks_of_paths() {
        let question = Question::of("https://example.com:443");
        let read = |texts: &[&str], path| judged_path(&rules(texts), &question.asked(), path);
        assert_eq!(read(&["example.com"], "/a/%2e%2e/b").unwrap(), "/b");
        assert_eq!(read(&["example.com"], "/@a%2fb").unwrap(), "/@a%2fb");
        assert_eq!(
            read(&["GET example.com", "example.com:8443/a"], "//").unwrap(),
            "//"
        );
        assert_eq!(read(&["example.com/v1"], "/v1/%61;b").unwrap(), "/v1/a;b");
        let refusal = read(&["example.com/v1"], "/v1/../v1").unwrap_err();
        let text = "the path has dot segments (egress.path_denied); write the path plainly: the \
                    rules of this host are about paths";
        assert_eq!(refusal.to_string(), text);
        let refusal = read(&["example.com", "!example.com/admin"], "/@a%2fb").unwrap_err();
        expect!["the path can be read in more than one way (egress.path_denied); write the path plainly: the rules of this host are about paths"].assert_eq(&refusal.to_string());
    }

    #[test]
    fn what_is_observed() {
        let mut rules = rules(&["10.0.0.0/8", "tcp://example.com:22", "!evil.example"]);
        let observed = |rules: &Rules, question: &str, address: Option<&str>| {
            let address = address.map(|address| address.parse().unwrap());
            is_observed(rules, &Question::of(question).asked(), address)
        };
        assert!(!observed(&rules, "https://example.com:443", None));
        rules.mode = Mode::Observe;
        for (question, address, wanted) in [
            ("https://example.com:443", None, true),
            ("https://evil.example:443", None, true),
            ("https://example.com:443", Some("8.8.8.8"), true),
            ("https://example.com:443", Some("10.1.1.1"), true),
            ("https://example.com:8443", Some("10.1.1.1"), false),
            ("https://example.com:443", Some("127.0.0.1"), false),
            ("https://example.com:443", Some("9.9.9.9"), false),
            ("https://8.8.8.8:443", None, true),
            ("https://8.8.8.8:443", Some("8.8.8.8"), true),
            ("https://10.1.1.1:443", None, true),
            ("https://192.168.1.1:443", None, false),
            ("http://169.254.169.254:80", None, false),
        ] {
            assert_eq!(
                observed(&rules, question, address),
                wanted,
                "{question} {address:?}"
            );
        }
    }

    fn check_words(texts: &[&str], questions: &[&str], wanted: &Expect) {
        let rules = rules(texts);
        let mut lines = String::new();
        for question in questions {
            let Decision::Deny(refusal) = Question::of(question).decide(&rules) else {
                panic!("{question} is not denied")
            };
            lines += &format!("{refusal}\n");
        }
        wanted.assert_eq(&lines);
    }

    #[test]
    fn a_refusal_says_what_to_ask_for() {
        let long = format!(
            "GET https://api.example.com:443/v2{}",
            "/segment".repeat(40)
        );
        check_words(
            &[
                "GET api.example.com/v1",
                "!evil.example.com",
                "!api.example.com/v1/admin",
                "!DELETE api.example.com",
                "!api.example.com:22",
                "!tcp://api.example.com:8080",
                "!7.7.7.7",
            ],
            &[
                "https://example.com:443",
                "http://example.com:80",
                "http://example.com:443",
                "https://example.com:8443",
                "wss://example.com:443",
                "ws://example.com:8080",
                "tcp://example.com:22",
                "https://8.8.8.8:443",
                "https://[2606:4700::1]:8443",
                "http://169.254.169.254:80",
                "https://9.9.9.9:443",
                "https://api.example.com:8443",
                "wss://api.example.com:443",
                "tcp://api.example.com:8443",
                "POST https://api.example.com:443/v1/a",
                "GET https://api.example.com:443/v2/a",
                &long,
                "https://evil.example.com:443",
                "GET https://api.example.com:443/v1/admin/x",
                "DELETE https://api.example.com:443/v1/a",
                "https://api.example.com:22",
                "tcp://api.example.com:8080",
                "https://7.7.7.7:443",
            ],
            &expect![[r#"
                no rule allows `example.com` (egress.host_denied); ask for --allow example.com
                no rule allows `example.com` (egress.host_denied); ask for --allow example.com
                no rule allows `example.com` (egress.host_denied); ask for --allow example.com:443
                no rule allows `example.com` (egress.host_denied); ask for --allow example.com:8443
                no rule allows `example.com` (egress.host_denied); ask for --allow wss://example.com
                no rule allows `example.com` (egress.host_denied); ask for --allow ws://example.com:8080
                no rule allows `example.com` (egress.host_denied); ask for --allow tcp://example.com:22
                no rule allows `8.8.8.8` (egress.host_denied); ask for --allow 8.8.8.8
                no rule allows `2606:4700::1` (egress.host_denied); ask for --allow [2606:4700::1]:8443
                `169.254.169.254` is not a public address (metadata) (egress.ip_denied); ask for --allow 169.254.169.254
                `9.9.9.9` is not a public address (this host) (egress.ip_denied); ask for --allow 9.9.9.9
                `api.example.com` is allowed, but not on port 8443 (egress.port_denied); ask for --allow api.example.com:8443
                `api.example.com` is allowed, but not for WebSocket (egress.proto_denied); ask for --allow wss://api.example.com
                `api.example.com` is allowed, but not for bare TCP (egress.proto_denied); ask for --allow tcp://api.example.com:8443
                `api.example.com` is allowed, but not with POST (egress.method_denied); ask for the method POST at api.example.com
                `api.example.com` is allowed, but not the path `/v2/a` (egress.path_denied); ask for --allow api.example.com/v2/a
                `api.example.com` is allowed, but not the path `/v2/segment/segment/segment/segment/segment/segment/segment/segment/segment/segment/segment` (egress.path_denied); ask for --allow api.example.com/v2/segment/segment/segment/segment/segment/segment/segment/segment/segment/segment/segment
                `evil.example.com` is denied (egress.host_denied); a rule denies it whatever others allow; ask for that rule to be changed
                `/v1/admin/x` at `api.example.com` is denied (egress.path_denied); a rule denies it whatever others allow; ask for that rule to be changed
                DELETE at `api.example.com` is denied (egress.method_denied); a rule denies it whatever others allow; ask for that rule to be changed
                port 22 of `api.example.com` is denied (egress.port_denied); a rule denies it whatever others allow; ask for that rule to be changed
                port 8080 of `api.example.com` is denied (egress.port_denied); a rule denies it whatever others allow; ask for that rule to be changed
                `7.7.7.7` is denied (egress.ip_denied); a rule denies it whatever others allow; ask for that rule to be changed
            "#]],
        );
    }

    #[test]
    fn a_refusal_about_an_address_does_not_repeat_it() {
        let rules = rules(&["example.com", "!8.8.8.8"]);
        let question = Question::of("https://example.com:443");
        let mut lines = String::new();
        for address in ["10.1.2.3", "9.9.9.9", "8.8.8.8"] {
            let address = address.parse().unwrap();
            let Decision::Deny(refusal) = decide_address(&rules, &question.asked(), address) else {
                panic!("{address} is not denied")
            };
            lines += &format!("{refusal}\n");
        }
        let name = "other.example".parse().unwrap();
        let Decision::Deny(refusal) = decide_name(&rules, &name) else {
            panic!("{name} is not denied")
        };
        lines += &format!("{refusal}\n");
        expect![[r#"
            `example.com` does not lead to a public address (private) (egress.ip_denied); ask for the address of example.com to be allowed as well
            `example.com` does not lead to a public address (this host) (egress.ip_denied); ask for the address of example.com to be allowed as well
            where `example.com` leads is denied (egress.ip_denied); a rule denies it whatever others allow; ask for that rule to be changed
            no rule allows `other.example` (egress.host_denied); ask for --allow other.example
        "#]].assert_eq(&lines);
    }

    /// Rules and questions over few hosts, so that they meet.
    fn some_rules() -> impl Strategy<Value = Vec<String>> {
        let scheme = prop::sample::select(vec!["", "", "https://", "http://", "wss://", "tcp://"]);
        let host = prop::sample::select(vec![
            "a.example.com",
            "*.example.com",
            "b.example.com",
            "10.0.0.0/8",
            "8.8.8.8",
        ]);
        let port = prop::sample::select(vec!["", "", ":443", ":8443"]);
        let path = prop::sample::select(vec!["", "", "/v1", "/v1/a"]);
        let method = prop::sample::select(vec!["", "", "GET ", "POST "]);
        let deny = prop::sample::select(vec!["", "", "!"]);
        let one = (deny, method, scheme, host, port, path).prop_map(
            |(deny, method, scheme, host, port, path)| {
                let tcp = scheme == "tcp://";
                let path = if tcp || host.contains('/') { "" } else { path };
                let method = if tcp { "" } else { method };
                format!("{deny}{method}{scheme}{host}{port}{path}")
            },
        );
        prop::collection::vec(one, 0..6)
    }

    fn some_question() -> impl Strategy<Value = String> {
        let scheme = prop::sample::select(vec!["https", "https", "http", "wss", "tcp"]);
        let host = prop::sample::select(vec![
            "a.example.com",
            "b.example.com",
            "c.example.com",
            "10.1.2.3",
            "8.8.8.8",
            "169.254.169.254",
            "9.9.9.9",
            "::1",
        ]);
        let port = prop::sample::select(vec![80_u16, 443, 8443]);
        let path = prop::sample::select(vec!["/", "/v1", "/v1/a/b", "/v10", "/8/a", "/v1/a*b"]);
        let method = prop::sample::select(vec!["GET", "POST"]);
        (method, scheme, host, port, path).prop_map(|(method, scheme, host, port, path)| {
            format!("{method} {scheme}://{host}:{port}{path}")
        })
    }

    fn allows(decision: &Decision) -> bool {
        matches!(decision, Decision::Allow { .. })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2048))]

        #[test]
        fn the_questions_agree(texts in some_rules(), question in some_question()) {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let rules = rules(&texts);
            let question = Question::of(&question);
            let request = question.decide(&rules);
            let connection = decide_connection(&rules, &question.asked());
            // What passes inside, passes: its connection and its name.
            if allows(&request) {
                prop_assert!(allows(&connection));
            }
            if let (true, Host::Name(name)) = (allows(&connection), &question.host) {
                prop_assert!(allows(&decide_name(&rules, name)));
            }
            // What is not looked into is allowed or denied as a whole.
            if question.scheme == Scheme::Https && !terminates(&rules, &question.asked()) {
                prop_assert_eq!(allows(&request), allows(&connection));
            }
            // A literal that is allowed may be dialled.
            if let (true, Host::Address(address)) = (allows(&connection), &question.host) {
                prop_assert!(allows(&decide_address(&rules, &question.asked(), *address)));
            }
        }

        #[test]
        fn what_is_to_be_asked_for_would_do(texts in some_rules(), question in some_question(), request in any::<bool>()) {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let mut rules = rules(&texts);
            let mut question = Question::of(&question);
            if !request {
                question.path = None;
            }
            let decision = question.decide(&rules);
            if let Decision::Deny(Refusal { remedy, .. }) = &decision
                && let Some(text) = remedy.strip_prefix("ask for --allow ")
            {
                rules.add(Rule::parse_allow(text).unwrap()).unwrap();
                let decision = question.decide(&rules);
                prop_assert!(allows(&decision), "{} {:?}", text, decision);
                if let Host::Address(address) = question.host {
                    prop_assert!(allows(&decide_address(&rules, &question.asked(), address)));
                }
            }
        }

        #[test]
        fn a_rule_more_never_loosens_or_tightens_the_wrong_way(texts in some_rules(), more in some_rules(), question in some_question()) {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let question = Question::of(&question);
            let before = allows(&question.decide(&rules(&texts)));
            for rule in &more {
                let mut texts = texts.clone();
                texts.push(rule);
                let after = allows(&question.decide(&rules(&texts)));
                if rule.starts_with('!') {
                    prop_assert!(before || !after, "{}", rule);
                } else {
                    prop_assert!(after || !before, "{}", rule);
                }
            }
        }
    }
}
