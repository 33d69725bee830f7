//! The gate of a process: the threads, the resolver and the trust that all runs share.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use belljar_base::bounds::EGRESS_OPEN_MAX;
use belljar_base::{HasKind, Kind};
use belljar_policy::egress::HostName;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::pki_types::CertificateDer;
use tokio::runtime::{Builder, Handle, Runtime};

use crate::resolve::Resolver;
use crate::secret::ValueError;
use crate::trust::Trust;

/// The gate of a process. Each run has a door in it.
pub struct Gate {
    /// Taken when the gate is dropped.
    runtime: Option<Runtime>,
    pub(crate) handle: Handle,
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
    /// The secrets of the run.
    #[error("could not open the run's secrets")]
    Secrets(#[source] ValueError),
    /// The certificates to trust.
    #[error("could not use the certificates to trust")]
    Roots(#[source] rustls::Error),
}

impl HasKind for GateError {
    fn kind(&self) -> Kind {
        match self {
            Self::Threads(_) | Self::Sockets(_) => Kind::Unavailable,
            Self::Authority(_) => Kind::Bug,
            Self::Secrets(error) => error.kind(),
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
        let trust = Arc::new(Trust::new(&settings.roots).map_err(GateError::Roots)?);
        let reading = Arc::clone(&trust);
        // Nobody waits for it now; whoever needs it sooner than it is done waits then.
        drop(runtime.spawn_blocking(move || reading.prepare()));
        let resolver = Resolver::new(&settings.nameservers, settings.hosts);
        raise_open_files();
        Ok(Self {
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
            resolver: Arc::new(resolver),
            trust,
        })
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // A gate may be dropped on a thread that must not wait.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").finish_non_exhaustive()
    }
}

/// Lets this process open the files that its tunnels need: each connection out is two of them.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map(|most| most.max(OPEN_FILES_WANTED));
    let more = |current, maximum| Rlimit { current, maximum };
    // Only a privileged user may have more than the host permits; everybody may have that. Where even
    // that is refused the old limit holds, and connections beyond it wait.
    if setrlimit(Resource::Nofile, more(wanted, wanted)).is_err() {
        setrlimit(Resource::Nofile, more(limit.maximum, limit.maximum)).ok();
    }
}

/// Two files for each connection that one run may have open, and as many again for everything else.
const OPEN_FILES_WANTED: u64 = 4 * EGRESS_OPEN_MAX as u64;

/// Threads that carry the traffic of all runs.
const WORKERS: usize = 2;
