//! A gate with one door, whose proxy listener is on loopback.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use belljar_base::{Clock, RunId, Timestamp};
use belljar_gate::secret::Secret;
use belljar_gate::{Authority, Counts, Door, Gate, Opening, Settings, Sockets};
use belljar_ledger::{Event, Ledger, Options};
use belljar_policy::egress::{Rule, Rules};
use rustls::pki_types::CertificateDer;

/// What the gate is to know before it is opened.
#[derive(Default)]
pub(crate) struct Plan {
    rules: Rules,
    secrets: Vec<Secret>,
    hosts: Vec<String>,
    roots: Vec<CertificateDer<'static>>,
}

/// A gate, its door and its ledger.
pub(crate) struct World {
    door: Option<Door>,
    _gate: Gate,
    ledger: Arc<Ledger>,
    _state: tempfile::TempDir,
    run: RunId,
    /// Where programs ask the proxy.
    pub(crate) proxy: SocketAddr,
    /// What the sandbox would trust.
    pub(crate) authority: CertificateDer<'static>,
}

/// How something that passed has ended.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) why: String,
    pub(crate) status: Option<u16>,
    pub(crate) up: u64,
    pub(crate) down: u64,
}

struct Moment;

impl Clock for Moment {
    #[expect(clippy::disallowed_methods, reason = "certificates must be valid now")]
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Timestamp::from_nanos(u64::try_from(since.unwrap().as_nanos()).unwrap())
    }
}

impl Plan {
    /// Lets a rule through whose host is on loopback.
    pub(crate) fn allow(mut self, text: &str) -> Self {
        let mut rule = Rule::parse_allow(text).unwrap();
        rule.addresses = vec!["127.0.0.0/8".parse().unwrap()];
        self.rules.rules.push(rule);
        self
    }

    /// Lets a rule through with these methods alone, so that TLS is looked into.
    pub(crate) fn allow_methods(mut self, text: &str, methods: &[&str]) -> Self {
        self = self.allow(text);
        let rule = self.rules.rules.last_mut().unwrap();
        rule.methods = methods.iter().map(|method| (*method).to_owned()).collect();
        self
    }

    /// Changes the rules.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Rules)) -> Self {
        change(&mut self.rules);
        self
    }

    /// A name that is on loopback.
    pub(crate) fn host(mut self, name: &str) -> Self {
        self.hosts.push(name.to_owned());
        self
    }

    /// A certificate that servers are trusted by.
    pub(crate) fn root(mut self, root: CertificateDer<'static>) -> Self {
        self.roots.push(root);
        self
    }

    /// A secret of the run.
    pub(crate) fn secret(mut self, secret: Secret) -> Self {
        self.secrets.push(secret);
        self
    }

    /// Opens the gate.
    pub(crate) fn open(self) -> World {
        let state = tempfile::tempdir().unwrap();
        let dir: PathBuf = state.path().join("ledger");
        let ledger = Arc::new(Ledger::open(&dir, &Options::default()).unwrap());
        let local = IpAddr::from(Ipv4Addr::LOCALHOST);
        let hosts = self.hosts.iter().map(|name| (name.parse().unwrap(), local));
        let gate = Gate::start(Settings {
            roots: self.roots,
            hosts: hosts.collect(),
            ..Settings::default()
        });
        let gate = gate.unwrap();
        let proxy = TcpListener::bind((local, 0)).unwrap();
        let address = proxy.local_addr().unwrap();
        let run = RunId::new(Moment.now(), 1);
        let authority = Authority::new(run, Moment.now()).unwrap();
        let certificate = CertificateDer::from(authority.der().to_vec());
        let door = gate.open(Opening {
            run,
            agent: "tester".parse().unwrap(),
            sockets: Sockets {
                proxy: vec![proxy.into()],
                ..Sockets::default()
            },
            rules: self.rules,
            secrets: self.secrets,
            authority,
            ledger: Arc::clone(&ledger),
            clock: Arc::new(Moment),
        });
        World {
            door: Some(door.unwrap()),
            _gate: gate,
            ledger,
            _state: state,
            run,
            proxy: address,
            authority: certificate,
        }
    }
}

impl World {
    /// From now on these rules hold.
    pub(crate) fn replace(&self, change: impl FnOnce(&mut Rules)) {
        let door = self.door.as_ref().unwrap();
        let mut rules = (*door.rules()).clone();
        change(&mut rules);
        door.replace(rules);
    }

    /// What happened so far.
    pub(crate) fn counts(&self) -> Counts {
        self.door.as_ref().unwrap().counts()
    }

    /// Everything on record, one line each: `effect scheme host method path rule`.
    pub(crate) fn attempts(&self) -> Vec<String> {
        self.events().iter().filter_map(line).collect()
    }

    /// How everything that passed has ended.
    pub(crate) fn ends(&self) -> Vec<End> {
        let end = |event: &Event| {
            let Event::NetworkEnded {
                up_bytes,
                down_bytes,
                status,
                end,
                ..
            } = event
            else {
                return None;
            };
            Some(End {
                why: end.to_string(),
                status: *status,
                up: *up_bytes,
                down: *down_bytes,
            })
        };
        self.events().iter().filter_map(end).collect()
    }

    /// Whether something has ended for this reason.
    pub(crate) fn has_ended(&self, why: &str) -> bool {
        self.ends().iter().any(|end| end.why == why)
    }

    /// Every event of the run.
    pub(crate) fn events(&self) -> Vec<Event> {
        let records = self.ledger.of_run(self.run).unwrap();
        records.into_iter().map(|record| record.event).collect()
    }

    /// Closes the door and says what happened.
    pub(crate) fn close(mut self) -> Counts {
        self.door.take().unwrap().close()
    }
}

/// Waits until something is so.
pub(crate) fn until(what: &str, so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < Duration::from_secs(10), "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What a test shares with the threads of a server.
pub(crate) type Shared<T> = Arc<Mutex<T>>;

fn line(event: &Event) -> Option<String> {
    let Event::NetworkAsked(asked) = event else {
        return None;
    };
    let text = |text: &Option<belljar_ledger::Text>| {
        text.as_ref().map_or("-".to_owned(), ToString::to_string)
    };
    Some(format!(
        "{:?} {} {} {} {} {}",
        asked.effect,
        asked.scheme,
        asked.host,
        text(&asked.method),
        text(&asked.path),
        asked.rule,
    ))
}
