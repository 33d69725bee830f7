//! What a connection was opened to, in the forms that requests and their copies need.

use std::net::IpAddr;
use std::sync::Arc;

use belljar_policy::egress::{Asked, Host, Scheme};
use http::HeaderValue;
use http::header::InvalidHeaderValue;
use http::uri;

use super::Target;

/// A target, and how it is written.
#[derive(Clone, Debug)]
pub(crate) struct Aim {
    target: Arc<Target>,
    /// As a `Host` line or an `:authority` of our own says it: without the scheme's own port.
    written: String,
    /// The same, always with the port.
    with_port: String,
    line: HeaderValue,
}

impl Aim {
    /// # Errors
    /// When the host cannot be written into a header line; no host that was parsed is so.
    pub(crate) fn new(target: Target) -> Result<Self, InvalidHeaderValue> {
        let host = match &target.host {
            Host::Address(IpAddr::V6(address)) => {
                format!("[{address}]")
            }
            host @ (Host::Name(_) | Host::Address(IpAddr::V4(_))) => host.to_string(),
        };
        let with_port = format!("{host}:{}", target.port);
        let written = match default_port(target.scheme) {
            Some(port) if port == target.port => host,
            _ => with_port.clone(),
        };
        let line = HeaderValue::from_str(&written)?;
        Ok(Self {
            target: Arc::new(target),
            written,
            with_port,
            line,
        })
    }

    /// A connection to it, of HTTP or of a WebSocket.
    pub(crate) fn asked(&self, websocket: bool) -> Asked<'_> {
        let scheme = match (self.target.scheme, websocket) {
            (Scheme::Https | Scheme::Wss, true) => Scheme::Wss,
            (Scheme::Https | Scheme::Wss, false) => Scheme::Https,
            (Scheme::Http | Scheme::Ws | Scheme::Tcp, true) => Scheme::Ws,
            (Scheme::Http | Scheme::Ws | Scheme::Tcp, false) => Scheme::Http,
        };
        Asked {
            scheme,
            host: &self.target.host,
            port: self.target.port,
        }
    }

    /// The same as a WebSocket in TLS, whatever it is: secrets go nowhere else.
    pub(crate) fn asked_in_tls(&self) -> Asked<'_> {
        Asked {
            scheme: Scheme::Wss,
            ..self.asked(true)
        }
    }

    /// What the connection was opened to.
    pub(crate) fn target(&self) -> &Arc<Target> {
        &self.target
    }

    /// Whether these bytes are the target exactly as it is written most often.
    pub(crate) fn is_written(&self, bytes: &[u8]) -> bool {
        bytes == self.written.as_bytes() || bytes == self.with_port.as_bytes()
    }

    /// The `Host` line of a request to it.
    pub(crate) fn line(&self) -> HeaderValue {
        self.line.clone()
    }

    /// The `:authority` of a request to it.
    pub(crate) fn written(&self) -> &str {
        &self.written
    }

    /// The port that a host without one means.
    pub(crate) fn default_port(&self) -> Option<u16> {
        default_port(self.target.scheme)
    }

    /// The scheme that a URI to it has.
    pub(crate) fn scheme(&self) -> uri::Scheme {
        match self.target.scheme {
            Scheme::Https | Scheme::Wss => uri::Scheme::HTTPS,
            Scheme::Http | Scheme::Ws | Scheme::Tcp => uri::Scheme::HTTP,
        }
    }
}

const fn default_port(scheme: Scheme) -> Option<u16> {
    match scheme {
        Scheme::Http | Scheme::Ws => Some(80),
        Scheme::Https | Scheme::Wss => Some(443),
        Scheme::Tcp => None,
    }
}
