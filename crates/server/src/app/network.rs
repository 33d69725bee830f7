//! A run's way out: what it may reach, the gate that judges it, and what a person can change
//! while it runs.

mod addresses; // the addresses of this host itself
mod trust; // what programs inside trust, as files and variables
mod control; // grants from another process while the run is under way

use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;

use belljar_base::{AgentName, HasKind, Kind, RunId, Timestamp};
use belljar_gate::secret::{Secret, refuse_tracing};
use belljar_gate::{Authority, Door, Gate, GateError, Opening, Settings, Sockets};
use belljar_ledger::Event;
use belljar_policy::egress::Rules;
use belljar_sandbox::Shown;
use belljar_sandbox::network::{Counters, Doors};

pub use self::control::{GrantError, grant};
use crate::clock::SystemClock;
use crate::state::State;

/// What a run may reach.
#[derive(Debug, Default)]
pub struct NetworkRequest {
    /// What it may reach.
    pub rules: Rules,
    /// How the gate resolves and whom it trusts.
    pub settings: Settings,
    /// The secrets that it may use, opened.
    pub secrets: Vec<Secret>,
    /// Servers inside that can be reached from this host's loopback.
    pub publish: Vec<Publish>,
}

/// A server inside that can be reached from this host's loopback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish {
    /// Its port inside.
    pub inside: u16,
    /// The port of this host's loopback.
    pub host: u16,
}

/// A run's way out cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// What programs inside are to trust cannot be written.
    #[error("cannot write what programs inside the sandbox trust")]
    Trust(#[source] io::Error),
    /// The gate does not open.
    #[error(transparent)]
    Gate(#[from] GateError),
    /// The port on this host is taken, or not ours.
    #[error("cannot listen on port {port} of this host; name another with --publish {inside}:PORT")]
    Publish {
        /// The port of this host.
        port: u16,
        /// The port inside.
        inside: u16,
        /// Why.
        source: io::Error,
    },
    /// Other programs of the user could read the secrets out of this one.
    #[error("cannot keep other programs from reading this one's memory")]
    Tracing(#[source] io::Error),
    /// The door for grants cannot be opened.
    #[error("cannot listen for grants")]
    Control(#[source] io::Error),
    /// The sandbox has no doors: its class has no network of its own.
    #[error("the sandbox handed out no doors for its network")]
    NoDoors,
}

impl HasKind for NetworkError {
    fn kind(&self) -> Kind {
        match self {
            Self::Gate(error) => error.kind(),
            Self::Publish { .. } => Kind::Conflict,
            Self::Trust(_) | Self::Control(_) | Self::Tracing(_) => Kind::Unavailable,
            Self::NoDoors => Kind::Bug,
        }
    }
}

/// What is made before the sandbox starts.
pub(crate) struct Prepared {
    request: NetworkRequest,
    authority: Authority,
    listeners: Vec<(u16, TcpListener)>,
    /// Files that the sandbox is shown.
    pub(crate) shows: Vec<Shown>,
    /// Variables that its command gets.
    pub(crate) environment: Vec<(OsString, OsString)>,
}

/// A way out that is open.
pub(crate) struct Opened {
    door: Arc<Door>,
    control: control::Control,
    counters: Counters,
    _gate: Gate,
}

/// How much went through, and how much did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Attempts that passed.
    pub allowed: u64,
    /// Attempts that did not.
    pub denied: u64,
}

impl Prepared {
    /// Makes the run's authority and what the sandbox must be shown of it; claims the ports.
    pub(crate) fn new(
        mut request: NetworkRequest,
        (id, now): (RunId, Timestamp),
        folder: &Path,
    ) -> Result<Self, NetworkError> {
        let listeners = request
            .publish
            .iter()
            .map(listen)
            .collect::<Result<_, _>>()?;
        let authority = Authority::new(id, now)?;
        let settings = &request.settings;
        let files = trust::write(&authority, settings, folder, now).map_err(NetworkError::Trust)?;
        let mut environment = files.environment;
        let secrets = request.secrets.iter().flat_map(Secret::environment);
        environment.extend(secrets.map(|(name, value)| (name.into(), value.into())));
        request.rules.own_addresses.extend(addresses::own());
        Ok(Self {
            request,
            authority,
            listeners,
            shows: files.shows,
            environment,
        })
    }

    /// Opens the gate on the sandbox's doors.
    pub(crate) fn open(
        self,
        doors: Option<Doors>,
        state: &State,
        (id, agent): (RunId, AgentName),
    ) -> Result<Opened, NetworkError> {
        let doors = doors.ok_or(NetworkError::NoDoors)?;
        if !self.request.secrets.is_empty() {
            // Only now: before the sandbox is made, an ordinary user's process that refuses could
            // not write the maps of its child.
            refuse_tracing().map_err(NetworkError::Tracing)?;
        }
        let gate = Gate::start(self.request.settings)?;
        let sockets = Sockets {
            transparent: doors.transparent,
            proxy: doors.proxy,
            dns_udp: doors.dns_udp,
            dns_tcp: doors.dns_tcp,
        };
        let door = gate.open(Opening {
            run: id,
            agent: agent.clone(),
            sockets,
            rules: self.request.rules,
            secrets: self.request.secrets,
            authority: self.authority,
            ledger: Arc::clone(&state.ledger),
            clock: Arc::new(SystemClock),
        })?;
        let dialer = Arc::new(doors.dialer);
        for (inside, listener) in self.listeners {
            let dialer = Arc::clone(&dialer);
            door.publish(inside, listener, Arc::new(move || dialer.socket()))?;
        }
        let door = Arc::new(door);
        let writer = control::Writer {
            ledger: Arc::clone(&state.ledger),
            run: id,
            agent,
        };
        let control = control::Control::open(&state.run_folder(id), Arc::clone(&door), writer)
            .map_err(NetworkError::Control)?;
        Ok(Opened {
            door,
            control,
            counters: doors.counters,
            _gate: gate,
        })
    }
}

impl Opened {
    /// Closes every connection; how much went through, and what the ledger must have of it.
    pub(crate) fn close(self) -> (Traffic, Vec<Event>) {
        self.control.close();
        let counts = Arc::into_inner(self.door)
            .map(Door::close)
            .unwrap_or_default();
        let dropped = self.counters.read().unwrap_or_default();
        let traffic = Traffic {
            allowed: counts.allowed,
            denied: counts.denied + dropped.udp + dropped.icmp + dropped.other + dropped.rate,
        };
        let counts: std::collections::BTreeMap<String, u64> = [
            ("icmp", dropped.icmp),
            ("other", dropped.other),
            ("rate", dropped.rate),
            ("repeated", counts.repeated),
            ("udp", dropped.udp),
        ]
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| (name.to_owned(), count))
        .collect();
        let events = if counts.is_empty() {
            Vec::new()
        } else {
            vec![Event::NetworkDropped { counts }]
        };
        (traffic, events)
    }
}

fn listen(publish: &Publish) -> Result<(u16, TcpListener), NetworkError> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, publish.host));
    let listener = TcpListener::bind(address).map_err(|source| NetworkError::Publish {
        port: publish.host,
        inside: publish.inside,
        source,
    })?;
    Ok((publish.inside, listener))
}

/// Removes what a run has of its way out only while it is under way: what its programs trust, and
/// the socket for grants.
pub(crate) fn forget(folder: &Path) -> io::Result<()> {
    let there = |answer: io::Result<()>| match answer {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    };
    there(fs::remove_dir_all(folder.join(trust::FOLDER)))?;
    there(fs::remove_file(folder.join(control::NAME)))
}
