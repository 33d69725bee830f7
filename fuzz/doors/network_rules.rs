//! Rules for the network: one on a command line, and a whole file.

use std::io;

use belljar_base::bounds::EGRESS_SHOWN_CHARS_MAX;
use belljar_policy::Decision;
use belljar_policy::egress::{
    Asked, Effect, Host, HostPattern, Request, Rule, RuleError, Rules, RulesFile, Scheme,
    canonical_path, decide_address, decide_connection, decide_name, decide_request, sort_of,
    terminates,
};

pub(crate) fn enter(bytes: &[u8]) -> io::Result<()> {
    let Ok(text) = str::from_utf8(bytes) else {
        return Ok(());
    };
    look(Rule::parse_allow(text), Rule::parse_allow);
    look(Rule::parse_deny(text), Rule::parse_deny);
    if let (Err(_), Ok(rule)) = (Rule::parse_deny(text), Rule::parse_allow(text)) {
        panic!("{rule} may allow and not deny");
    }
    match RulesFile::parse(text) {
        Ok(file) => {
            let rules = file.for_agent(&"some-agent".parse().map_err(io::Error::other)?);
            rules.rules.iter().for_each(sound);
            outlives(&rules);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    Ok(())
}

fn look(read: Result<Rule, RuleError>, parse: fn(&str) -> Result<Rule, RuleError>) {
    match read {
        Ok(rule) => {
            assert_eq!(parse(&rule.text).as_ref(), Ok(&rule));
            sound(&rule);
            asked(&rule);
        }
        Err(error) => {
            assert!(error.text.chars().count() <= EGRESS_SHOWN_CHARS_MAX);
            assert!(!error.to_string().contains(char::is_control), "{error:?}");
            let nearest = error.remedy.strip_prefix("write `");
            if let Some(nearest) = nearest.and_then(|rest| rest.strip_suffix('`')) {
                assert!(parse(nearest).is_ok(), "{error}");
            }
        }
    }
}

/// What every rule is, however it was written.
fn sound(rule: &Rule) {
    assert!(rule.ports.iter().all(|port| *port > 0));
    if let Some(path) = &rule.path {
        assert_eq!(canonical_path(path).as_ref(), Ok(path));
        assert!(path.len() > 1 && !path.ends_with('/'));
    }
    if let (Effect::Allow, HostPattern::Below(base)) = (rule.effect, &rule.host) {
        assert!(base.as_str().contains('.'), "{base} is a public suffix");
    }
}

/// A rule alone decides about what it names, and about nothing else.
fn asked(rule: &Rule) {
    let host = match &rule.host {
        HostPattern::Exact(name) => Host::Name(name.clone()),
        HostPattern::Below(base) => match format!("a.{base}").parse() {
            Ok(host) => host,
            // The name would be too long.
            Err(_) => return,
        },
        HostPattern::Addresses(net) => Host::Address(net.addr()),
    };
    let scheme = rule.schemes.first().copied().unwrap_or(Scheme::Https);
    let own = scheme.port().unwrap_or(1);
    let port = rule.ports.first().copied().unwrap_or(own);
    let asked = Asked {
        scheme,
        host: &host,
        port,
    };
    let rules = Rules {
        rules: vec![rule.clone()],
        ..Rules::default()
    };
    let path = rule.path.as_deref().unwrap_or("/");
    let request = Request {
        asked,
        method: "GET",
        path,
    };
    let wanted = rule.effect == Effect::Allow;
    let literal = match &host {
        Host::Name(name) => {
            assert_eq!(allows(&decide_name(&rules, name)), wanted);
            false
        }
        Host::Address(address) => {
            if wanted && allows(&decide_connection(&rules, &asked)) {
                assert!(allows(&decide_address(&rules, &asked, *address)));
            }
            sort_of(*address) != belljar_policy::egress::Sort::Public
        }
    };
    // A wide net of more than one sort does not name its first address.
    if !literal {
        assert_eq!(allows(&decide_connection(&rules, &asked)), wanted);
        assert_eq!(allows(&decide_request(&rules, &request)), wanted);
    }
    assert!(!rule.has_conditions() || terminates(&rules, &asked) || literal);
    outlives(&rules);
}

fn allows(decision: &Decision) -> bool {
    matches!(decision, Decision::Allow { .. })
}

/// What is kept beside a run is what was decided by.
fn outlives(rules: &Rules) {
    let json = serde_json::to_string(rules);
    let again = json.and_then(|json| serde_json::from_str::<Rules>(&json));
    assert_eq!(again.ok().as_ref(), Some(rules));
}
