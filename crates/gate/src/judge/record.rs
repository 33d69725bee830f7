//! An attempt as the ledger has it.

use std::net::IpAddr;

use belljar_ledger::event::{Effect, NetworkAsked};
use belljar_ledger::{Event, Text};
use belljar_policy::egress::{Asked, HostName, Request};

use super::refused::Refused;
use super::word;

/// What wanted to leave, in canonical form as far as it has one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attempt {
    /// `dns`, `http`, `https`, `ws`, `wss`, `tcp`, `publish`.
    pub(crate) scheme: &'static str,
    /// The host, or what was written in its place.
    pub(crate) host: String,
    /// The port.
    pub(crate) port: u16,
    /// The address, where one is known.
    pub(crate) address: Option<IpAddr>,
    /// The method of a request.
    pub(crate) method: Option<String>,
    /// The path of a request, without its query.
    pub(crate) path: Option<String>,
    /// The names of the secrets that go with it.
    pub(crate) secrets: Vec<String>,
}

impl Attempt {
    /// A name that is to be resolved.
    pub(crate) fn dns(name: &HostName) -> Self {
        Self::to("dns", name.to_string(), 53)
    }

    /// A connection.
    pub(crate) fn connection(asked: &Asked<'_>) -> Self {
        Self::to(word(asked.scheme), asked.host.to_string(), asked.port)
    }

    /// A request.
    pub(crate) fn request(
        request: &Request<'_>,
        address: Option<IpAddr>,
        secrets: &[String],
    ) -> Self {
        Self {
            address,
            method: Some(request.method.to_owned()),
            path: Some(request.path.to_owned()),
            secrets: secrets.to_vec(),
            ..Self::connection(&request.asked)
        }
    }

    /// A connection from outside to a published port.
    pub(crate) fn published(port: u16) -> Self {
        Self::to("publish", "127.0.0.1".to_owned(), port)
    }

    /// An attempt to reach what may not even be a host.
    pub(crate) fn to(scheme: &'static str, host: String, port: u16) -> Self {
        Self {
            scheme,
            host,
            port,
            ..Self::default()
        }
    }

    /// The same for attempts that are to be counted as one.
    pub(super) fn key(&self, code: &str) -> String {
        let Self {
            scheme, host, port, ..
        } = self;
        let method = self.method.as_deref().unwrap_or_default();
        let path = self.path.as_deref().unwrap_or_default();
        format!("{code} {scheme} {host} {port} {method} {path}")
    }

    /// The record of it when it passes.
    pub(super) fn allowed(&self, id: u64, rule: &str, reason: &str, observed: bool) -> Event {
        self.asked(id, Effect::Allow, rule, reason, observed)
    }

    /// The record of it when it does not.
    pub(super) fn denied(&self, id: u64, refused: &Refused) -> Event {
        let refusal = &refused.refusal;
        self.asked(id, Effect::Deny, &refusal.rule, &refusal.reason, false)
    }

    fn asked(&self, id: u64, effect: Effect, rule: &str, reason: &str, observed: bool) -> Event {
        let text = |text: &String| Text::from(text.as_str());
        Event::NetworkAsked(Box::new(NetworkAsked {
            id,
            scheme: Text::from(self.scheme),
            host: text(&self.host),
            port: self.port,
            address: self.address.map(|address| Text::from(address.to_string())),
            method: self.method.as_ref().map(text),
            path: self.path.as_ref().map(text),
            effect,
            rule: Text::from(rule),
            reason: Text::from(reason),
            observed,
            secrets: self.secrets.iter().map(text).collect(),
        }))
    }
}
