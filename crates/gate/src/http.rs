//! HTTP once it can be read: each request is judged, written, and only then written anew to the
//! host it names. No byte of a client's framing reaches a server, none of a server's a client.

mod aim; // what a connection was opened to, and what its requests must name
mod head; // whether a request can be read in one way only, and is meant for that host
mod hop; // header lines that speak of one connection and not of the message
mod refusal; // what a client is told when a request goes nowhere
mod exchange; // one request, in order, until it may be sent
mod sending; // a request on its way, and its answer on its way back
mod upstream; // connections to servers, reused by later requests to the same host
mod stream; // the bytes of such a connection, in TLS or plain
mod body; // bodies on their way: counted, cut, never copied
mod serve; // the client's side of a connection
mod websocket; // a connection that became a WebSocket

use std::fmt;
use std::sync::Arc;

use belljar_policy::egress::{Host, Scheme};

use crate::authority::Authority;
use crate::judge::Judge;
use crate::secret::Injector;
use crate::trust::Trust;
use upstream::Pool;

pub(crate) use refusal::answer_bytes;
pub(crate) use serve::{forward, serve};

/// What a connection was opened to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    /// To whom.
    pub host: Host,
    /// On which port.
    pub port: u16,
    /// `Http` or `Https`.
    pub scheme: Scheme,
}

/// What every connection of a run shares.
pub(crate) struct Context {
    /// Decides and writes.
    pub judge: Arc<Judge>,
    /// Knows the secrets and their placeholders.
    pub injector: Arc<Injector>,
    /// How to speak TLS to servers.
    pub trust: Arc<Trust>,
    /// The run's own certificate authority.
    pub authority: Arc<Authority>,
    /// Connections to servers that wait for their next request.
    pool: Pool,
}

impl Context {
    /// For one run, with no connection yet.
    pub(crate) fn new(
        judge: Arc<Judge>,
        injector: Arc<Injector>,
        trust: Arc<Trust>,
        authority: Arc<Authority>,
    ) -> Self {
        Self {
            judge,
            injector,
            trust,
            authority,
            pool: Pool::default(),
        }
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").finish_non_exhaustive()
    }
}
