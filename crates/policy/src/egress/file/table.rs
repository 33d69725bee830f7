//! A rule as a table: `host`, and what else it speaks of.

use belljar_base::bounds::{EGRESS_RULE_BYTES_MAX, EGRESS_RULE_LIST_MAX};
use ipnet::IpNet;

use super::super::nearest::nearest_word;
use super::super::rule::{Effect, HostPattern, Rule, RuleError, Scheme};
use super::super::text::{Misfit, prefix_of};
use super::FileError;
use super::node::Node;

const FIELDS: &[&str] = &["host", "schemes", "ports", "methods", "path", "addresses"];

/// Reads a rule.
pub(super) fn rule(effect: Effect, node: &Node<'_>) -> Result<Rule, FileError> {
    let fields = node.fields(FIELDS)?;
    let Some(field) = fields.iter().find(|field| field.key() == "host") else {
        return Err(node.must_be("a rule with a `host`"));
    };
    let mut rule = host(effect, field)?;
    for field in &fields {
        match field.key() {
            "schemes" => rule.schemes = list(field, scheme)?,
            "ports" => rule.ports = list(field, port)?,
            "methods" => rule.methods = list(field, method)?,
            "path" => rule.path = path(field)?,
            "addresses" => rule.addresses = addresses(effect, field)?,
            _ => {}
        }
    }
    if rule.has_conditions() && rule.schemes.contains(&Scheme::Tcp) {
        return Err(node.must_be("without `methods` and `path`: bare TCP has none"));
    }
    rule.text = written(&rule);
    Ok(rule)
}

fn list<T>(
    field: &Node<'_>,
    read: impl Fn(&Node<'_>) -> Result<T, FileError>,
) -> Result<Vec<T>, FileError> {
    let list = field.list(EGRESS_RULE_LIST_MAX)?;
    if list.is_empty() {
        return Err(field.must_be("a list of at least one, or left out"));
    }
    list.iter().map(read).collect()
}

fn host(effect: Effect, field: &Node<'_>) -> Result<Rule, FileError> {
    let text = field.text("a host, as in `api.example.com` or `*.example.com`")?;
    let read = match effect {
        Effect::Allow => Rule::parse_allow(text),
        Effect::Deny => Rule::parse_deny(text),
    };
    let rule = read.map_err(|error| at(field, error))?;
    if rule.schemes.is_empty() && rule.ports.is_empty() && rule.path.is_none() {
        return Ok(rule);
    }
    let host = rule.host.to_string();
    Err(field.must_be(format!(
        "the host alone, `{host}`; the rest has keys of its own: schemes, ports, path"
    )))
}

fn scheme(node: &Node<'_>) -> Result<Scheme, FileError> {
    let known = Scheme::ALL.map(Scheme::as_str);
    let wanted = format!("some of {}", known.join(", "));
    let word = node.text(&wanted)?;
    let found = Scheme::ALL.into_iter().find(|one| one.as_str() == word);
    found.ok_or_else(|| match nearest_word(&word.to_ascii_lowercase(), &known) {
        Some(near) => node.must_be(format!("{wanted}; write `{near}`")),
        None => node.must_be(wanted),
    })
}

fn port(node: &Node<'_>) -> Result<u16, FileError> {
    let wanted = "numbers from 1 to 65535";
    match u16::try_from(node.number(wanted)?) {
        Ok(port) if port > 0 => Ok(port),
        Ok(_) | Err(_) => Err(node.must_be(wanted)),
    }
}

fn method(node: &Node<'_>) -> Result<String, FileError> {
    let wanted = "methods, as in `GET`";
    let word = node.text(wanted)?;
    let letters = word.bytes().all(|b| b.is_ascii_alphabetic() || b == b'-');
    match word.len() {
        1..=32 if letters => Ok(word.to_ascii_uppercase()),
        _ => Err(node.must_be(wanted)),
    }
}

fn path(field: &Node<'_>) -> Result<Option<String>, FileError> {
    let wanted = "a path, as in `/v1`";
    let text = field.text(wanted)?;
    let Some(tail) = text.strip_prefix('/') else {
        return Err(field.must_be(wanted));
    };
    if text.len() > EGRESS_RULE_BYTES_MAX {
        return Err(field.must_be("a shorter path"));
    }
    prefix_of(tail).map_err(|Misfit { reason, near }| match near {
        Some(near) => field.must_be(format!("`/{near}` or the like: this one {reason}")),
        None => field.must_be(format!("plain: this one {reason}")),
    })
}

fn addresses(effect: Effect, field: &Node<'_>) -> Result<Vec<IpNet>, FileError> {
    if effect == Effect::Deny {
        return Err(field
            .must_be("left out: what a host resolves to is denied by a rule for the addresses"));
    }
    list(field, |node| {
        let wanted = "addresses or nets, as in `192.0.2.1` or `192.0.2.0/24`";
        let rule = Rule::parse_allow(node.text(wanted)?).map_err(|error| at(node, error))?;
        match rule.host {
            HostPattern::Addresses(net) if rule.ports.is_empty() && !rule.has_conditions() => {
                Ok(net)
            }
            HostPattern::Addresses(_) | HostPattern::Exact(_) | HostPattern::Below(_) => {
                Err(node.must_be(wanted))
            }
        }
    })
}

fn at(node: &Node<'_>, error: RuleError) -> FileError {
    let line = node.line();
    FileError::Rule { line, error }
}

/// The rule in one line, close to the form of the command line.
fn written(rule: &Rule) -> String {
    let mut text = String::new();
    if !rule.schemes.is_empty() {
        let schemes: Vec<_> = rule.schemes.iter().map(|one| one.as_str()).collect();
        text = format!("{}://", schemes.join("+"));
    }
    text += &rule.host.to_string();
    if !rule.ports.is_empty() {
        let ports: Vec<_> = rule.ports.iter().map(u16::to_string).collect();
        text += &format!(":{}", ports.join(","));
    }
    text += rule.path.as_deref().unwrap_or_default();
    if !rule.methods.is_empty() {
        text += &format!(" {}", rule.methods.join(","));
    }
    text
}
