//! A text taken apart: scheme, host, the prefix of a net, port, path.

use std::fmt;

use super::super::host::Host;
use super::{Fault, Remedy, fault};

/// The parts of a text, as they were written.
#[derive(Clone, Copy)]
pub(super) struct Parts<'a> {
    pub(super) scheme: Option<&'a str>,
    /// With its brackets, if it has any; without them when it is the address of a net.
    pub(super) host: &'a str,
    /// How long the prefix of a net is.
    pub(super) length: Option<&'a str>,
    pub(super) port: Option<&'a str>,
    /// The path without its slash.
    pub(super) tail: Option<&'a str>,
}

impl<'a> Parts<'a> {
    pub(super) fn of(text: &'a str) -> Result<Self, Fault> {
        if text.contains('\\') {
            return fault("it has a backslash", Remedy::Write(text.replace('\\', "/")));
        }
        for (mark, what) in [('#', "a fragment"), ('?', "a query")] {
            if let Some((before, _)) = text.split_once(mark) {
                let reason = format!("it has {what}, which no rule looks at");
                return fault(reason, Remedy::Write(before.to_owned()));
            }
        }
        let (scheme, rest) = split_scheme(text);
        let (authority, tail) = split_tail(rest);
        let (host, port) = split_port(authority);
        let plain = Self {
            scheme,
            host,
            length: None,
            port,
            tail,
        };
        plain.or_net()
    }

    /// The host without its brackets, when it has them.
    pub(super) fn inside(&self) -> Option<&'a str> {
        let rest = self.host.strip_prefix('[')?;
        rest.strip_suffix(']')
    }

    /// The same parts as those of a net, when the brackets hold a slash or when what follows an
    /// address and a slash is a number.
    fn or_net(self) -> Result<Self, Fault> {
        if let Some((host, length)) = self.inside().and_then(|inside| inside.split_once('/')) {
            let length = Some(length);
            return Ok(Self {
                host,
                length,
                ..self
            });
        }
        let Some(tail) = self.tail else {
            return Ok(self);
        };
        let (first, tail) = match tail.split_once('/') {
            Some((first, tail)) => (first, Some(tail)),
            None => (tail, None),
        };
        let (length, port) = match first.split_once(':') {
            Some((length, port)) => (length, Some(port)),
            None => (first, None),
        };
        let number = !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit());
        if !number || !matches!(self.host.parse(), Ok(Host::Address(_))) {
            return Ok(self);
        }
        let net = Self {
            scheme: self.scheme,
            host: self.inside().unwrap_or(self.host),
            length: Some(length),
            port: port.or(self.port),
            tail,
        };
        if self.port.is_some() {
            let reason = "the port stands before the prefix of the net";
            return fault(reason, net.write());
        }
        Ok(net)
    }

    /// To write it like this.
    pub(super) fn write(&self) -> Remedy {
        Remedy::Write(self.to_string())
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

/// The text without the user name and password before its host, when it has them. A password may
/// hold what ends a host: then what looks like a port and is none gives it away.
pub(super) fn without_credentials(text: &str) -> Option<String> {
    let (scheme, rest) = split_scheme(text);
    let ends = |c: char| matches!(c, '/' | '?' | '#' | '\\');
    let authority = rest.split(ends).next().unwrap_or_default();
    let port = split_port(authority).1;
    let odd = port.is_some_and(|port| !port.bytes().all(|b| b.is_ascii_digit()));
    let within = if odd { rest } else { authority };
    let (before, _) = within.rsplit_once('@')?;
    let host = rest.get(before.len() + 1..)?;
    Some(scheme.map_or(host.to_owned(), |scheme| format!("{scheme}://{host}")))
}

pub(super) fn split_scheme(text: &str) -> (Option<&str>, &str) {
    match text.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, text),
    }
}

/// Splits at the first slash; one in brackets belongs to what is in them.
fn split_tail(rest: &str) -> (&str, Option<&str>) {
    let from = match rest.find(']') {
        Some(at) if rest.starts_with('[') => at,
        Some(_) | None => 0,
    };
    let slash = rest.get(from..).and_then(|rest| rest.find('/'));
    match slash.and_then(|at| rest.split_at_checked(from + at)) {
        Some((authority, tail)) => (authority, tail.get(1..)),
        None => (rest, None),
    }
}

/// Splits off the port; the colons of an address in version 6 belong to it.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    let end = match authority.find(']') {
        Some(end) if authority.starts_with('[') => end + 1,
        Some(_) | None => 0,
    };
    let rest = authority.get(end..).unwrap_or_default();
    match rest.split_once(':') {
        Some((between, port)) if !port.contains(':') && (end == 0 || between.is_empty()) => {
            let host = authority.get(..end + between.len()).unwrap_or(authority);
            (host, Some(port))
        }
        Some(_) | None => (authority, None),
    }
}
