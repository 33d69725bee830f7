//! Turns names into addresses, once per ask: what it answers is what gets judged and dialled. It asks
//! the name servers it was given, or the system's; never with search domains, and never the system's
//! own table of hosts, whose names are that host's private matter.

mod upstream; // who is asked, and what was answered
mod cache; // what was answered lately

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use belljar_base::bounds::{RESOLVE_MILLIS_MAX, RESOLVING_MAX};
use belljar_base::{HasKind, Kind};
use belljar_policy::egress::HostName;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use cache::Cache;
use upstream::Upstream;

/// Resolves names for all runs of this process.
pub(crate) struct Resolver {
    hosts: HashMap<HostName, Vec<IpAddr>>,
    upstream: Upstream,
    cache: Mutex<Cache>,
    places: Semaphore,
}

/// Why a name has no address. The text names nobody who was asked: it may be told inside a sandbox.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ResolveError {
    /// No such name.
    #[error("`{0}` does not exist")]
    NoName(HostName),
    /// The name exists and has no address.
    #[error("`{0}` has no address")]
    NoAddress(HostName),
    /// A name server was asked and could not tell.
    #[error("the name server could not resolve `{0}`")]
    Failed(HostName),
    /// What came back is no answer to the question.
    #[error("the name server's answer for `{0}` makes no sense")]
    Nonsense(HostName),
    /// Nobody answered in time.
    #[error("no name server answered for `{0}` in time")]
    Late(HostName),
    /// Nobody could be asked.
    #[error("no name server can be reached to resolve `{0}`")]
    Unreachable(HostName),
}

impl HasKind for ResolveError {
    fn kind(&self) -> Kind {
        match self {
            Self::NoName(_) | Self::NoAddress(_) => Kind::NotFound,
            Self::Failed(_) | Self::Nonsense(_) | Self::Late(_) | Self::Unreachable(_) => {
                Kind::Unavailable
            }
        }
    }
}

/// An answer and for how long it may be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Resolved {
    addresses: Result<Arc<[IpAddr]>, ResolveError>,
    seconds: u32,
}

impl Resolver {
    /// Asks these name servers, or the system's if none are given; `hosts` are answered from here.
    pub(crate) fn new(nameservers: &[SocketAddr], hosts: Vec<(HostName, IpAddr)>) -> Self {
        let mut table: HashMap<HostName, Vec<IpAddr>> = HashMap::new();
        for (name, address) in hosts {
            table.entry(name).or_default().push(address);
        }
        Self {
            hosts: table,
            upstream: Upstream::new(nameservers),
            cache: Mutex::default(),
            places: Semaphore::new(RESOLVING_MAX),
        }
    }

    /// The addresses of a name, as it is written: no domain is ever put behind it.
    pub(crate) async fn lookup(&self, name: &HostName) -> Result<Vec<IpAddr>, ResolveError> {
        if let Some(addresses) = self.hosts.get(name) {
            return Ok(addresses.clone());
        }
        if let Some(kept) = self.cache().get(name, Instant::now()) {
            return kept.map(|addresses| addresses.to_vec());
        }
        let most = Duration::from_millis(RESOLVE_MILLIS_MAX);
        let resolved = match timeout(most, self.ask(name)).await {
            Ok(resolved) => resolved,
            Err(_elapsed) => Resolved::failure(ResolveError::Late(name.clone())),
        };
        self.cache().put(name, &resolved, Instant::now());
        resolved.addresses.map(|addresses| addresses.to_vec())
    }

    async fn ask(&self, name: &HostName) -> Resolved {
        // The semaphore is never closed; if it were, nobody could be asked.
        match self.places.acquire().await {
            Ok(_place) => self.upstream.ask(name).await,
            Err(_closed) => Resolved::failure(ResolveError::Unreachable(name.clone())),
        }
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Resolved {
    /// What may be otherwise at the next try; kept for a moment all the same, so that a sandbox that
    /// asks in a loop asks nobody else in one.
    fn failure(error: ResolveError) -> Self {
        Self {
            addresses: Err(error),
            seconds: 0,
        }
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver")
            .field("hosts", &self.hosts)
            .finish_non_exhaustive()
    }
}
