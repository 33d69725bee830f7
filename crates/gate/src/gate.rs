//! The gate of a process: the threads, the resolver and the trust that all runs share.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use belljar_base::{HasKind, Kind};
use belljar_policy::egress::HostName;
use rustls::pki_types::CertificateDer;
use tokio::runtime::{Builder, Runtime};

use crate::resolve::Resolver;
use crate::trust::Trust;

/// The gate of a process. Each run has a door in it.
pub struct Gate {
    pub(crate) runtime: Runtime,
    pub(crate) resolver: Arc<Resolver>,
    pub(crate) trust: Arc<Trust>,
}

/// What all doors of a process share.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Name servers to ask; empty means the system's.
    pub nameservers: Vec<SocketAddr>,
    /// Certificates to trust beside the system's.
    pub roots: Vec<CertificateDer<'static>>,
    /// Names whose addresses are known without asking.
    pub hosts: Vec<(HostName, IpAddr)>,
}

/// The gate could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// Its threads.
    #[error("could not start the gate's threads")]
    Threads(#[source] io::Error),
    /// The sockets of a sandbox.
    #[error("could not listen for the sandbox")]
    Sockets(#[source] io::Error),
    /// The run's certificate authority.
    #[error("could not make the run's certificate authority")]
    Authority(#[source] rcgen::Error),
    /// The certificates to trust.
    #[error("could not use the certificates to trust")]
    Roots(#[source] rustls::Error),
}

impl HasKind for GateError {
    fn kind(&self) -> Kind {
        match self {
            Self::Threads(_) | Self::Sockets(_) => Kind::Unavailable,
            Self::Authority(_) => Kind::Bug,
            Self::Roots(_) => Kind::Invalid,
        }
    }
}

impl Gate {
    /// Starts the threads.
    ///
    /// # Errors
    /// When they cannot be started, or a certificate to trust is none.
    pub fn start(settings: Settings) -> Result<Self, GateError> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .thread_name("gate")
            .enable_all()
            .build()
            .map_err(GateError::Threads)?;
        let trust = Trust::new(&settings.roots).map_err(GateError::Roots)?;
        let resolver = Resolver::new(&settings.nameservers, settings.hosts);
        Ok(Self {
            runtime,
            resolver: Arc::new(resolver),
            trust: Arc::new(trust),
        })
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").finish_non_exhaustive()
    }
}

/// Threads that carry the traffic of all runs.
const WORKERS: usize = 2;
