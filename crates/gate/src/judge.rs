//! The one place where the gate decides and writes. Every way out asks here: decide on canonical
//! values, check every address, write, and only then pass.

mod refused; // what the sandbox is told
mod meter; // what is used, and when it is too much
mod denials; // a hostile loop is counted, not written
mod passage; // an allowed attempt, until it loses its right
mod record; // an attempt as the ledger has it

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use belljar_ledger::Event;
use belljar_policy::Decision;
use belljar_policy::egress::{
    Asked, Host, HostName, Mode, Request, Rules, Scheme, decide_address, decide_connection,
    decide_name, decide_request, is_observed,
};
use tokio::sync::watch;

use crate::resolve::Resolver;
use crate::scribe::{Scribe, Unwritten};
use denials::{Denials, Note};
use meter::{Begun, Meter};
pub(crate) use passage::Passage;
use passage::{Part, Right};
pub(crate) use record::Attempt;
pub(crate) use refused::{Refused, code};

/// Judges the attempts of one run.
pub(crate) struct Judge {
    rules: ArcSwap<Rules>,
    epoch: watch::Sender<u64>,
    scribe: Scribe,
    resolver: Arc<Resolver>,
    meter: Meter,
    denials: Denials,
    /// The names whose resolution is on record.
    names: Denials,
    next: AtomicU64,
    allowed: AtomicU64,
    denied: AtomicU64,
    observed: AtomicU64,
}

/// What a run did with its way out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Attempts that passed.
    pub allowed: u64,
    /// Attempts that did not.
    pub denied: u64,
    /// Attempts that passed only because the rules are observed and not enforced.
    pub observed: u64,
    /// Denials like one already on record, which have no record of their own.
    pub repeated: u64,
    /// Bytes out.
    pub up_bytes: u64,
    /// Bytes in.
    pub down_bytes: u64,
}

/// A decision to let pass: what the record will say of it.
struct Allowed {
    rule: String,
    reason: String,
    observed: bool,
}

impl Judge {
    /// A judge for the run that the scribe writes for.
    pub(crate) fn new(rules: Rules, scribe: Scribe, resolver: Arc<Resolver>) -> Self {
        Self {
            rules: ArcSwap::from_pointee(rules),
            epoch: watch::Sender::new(0),
            scribe,
            resolver,
            meter: Meter::new(),
            denials: Denials::default(),
            names: Denials::default(),
            next: AtomicU64::new(1),
            allowed: AtomicU64::new(0),
            denied: AtomicU64::new(0),
            observed: AtomicU64::new(0),
        }
    }

    /// The rules that hold now.
    pub(crate) fn rules(&self) -> Arc<Rules> {
        self.rules.load_full()
    }

    /// From now on these rules hold; who passes now is judged anew.
    pub(crate) fn replace(&self, rules: Rules) {
        self.rules.store(Arc::new(rules));
        self.epoch.send_modify(|epoch| *epoch += 1);
    }

    /// Changes whenever the rules do.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.epoch.subscribe()
    }

    /// What happened so far.
    pub(crate) fn counts(&self) -> Counts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let (up_bytes, down_bytes) = self.meter.bytes();
        Counts {
            allowed: read(&self.allowed),
            denied: read(&self.denied),
            observed: read(&self.observed),
            repeated: self.denials.repeated(),
            up_bytes,
            down_bytes,
        }
    }

    /// May this name be resolved? Each answer is written once per name and run.
    pub(crate) async fn name(&self, name: &HostName) -> Result<(), Refused> {
        let rules = self.rules();
        let attempt = Attempt::dns(name);
        let observed = rules.mode == Mode::Observe;
        let allowed = match Allowed::of(decide_name(&rules, name), observed) {
            Ok(allowed) => allowed,
            Err(refused) => return Err(self.refuse(attempt, refused).await),
        };
        let id = self.next_id();
        match self.names.note(attempt.key(""), id) {
            Note::Write => self.write(id, &attempt, &allowed).await,
            Note::Known(_) | Note::Count => Ok(()),
        }
    }

    /// May this connection be made, as far as the rules alone can tell? Only a refusal is written:
    /// nothing leaves before [`Judge::connection`].
    pub(crate) async fn admit(&self, asked: &Asked<'_>) -> Result<(), Refused> {
        let rules = self.rules();
        match Self::heard(&rules, asked, decide_connection(&rules, asked)) {
            Ok(_allowed) => Ok(()),
            Err(refused) => Err(self.refuse(Attempt::connection(asked), refused).await),
        }
    }

    /// Resolves once, checks every address, writes the attempt; all before anything is dialled.
    pub(crate) async fn connection(
        self: &Arc<Self>,
        asked: &Asked<'_>,
    ) -> Result<(Passage, Vec<SocketAddr>), Refused> {
        let rules = self.rules();
        let mut attempt = Attempt::connection(asked);
        let share = self.meter.share(asked.host);
        let decided =
            Self::heard(&rules, asked, decide_connection(&rules, asked)).and_then(|allowed| {
                let begun = self.meter.begin(&share, &rules, Begun::Connection);
                begun.map(|()| allowed)
            });
        let allowed = match decided {
            Ok(allowed) => allowed,
            Err(refused) => return Err(self.refuse(attempt, refused).await),
        };
        let addresses = match self.addresses(asked.host).await {
            Ok(addresses) => addresses,
            Err(reason) => return Err(self.unreachable(attempt, &allowed, &reason).await),
        };
        for address in &addresses {
            if let Err(refused) = checked(&rules, asked, *address) {
                attempt.address = Some(*address);
                return Err(self.refuse(attempt, refused).await);
            }
        }
        attempt.address = addresses.first().copied();
        let id = self.next_id();
        self.write(id, &attempt, &allowed).await?;
        let right = Right {
            scheme: asked.scheme,
            host: asked.host.clone(),
            port: asked.port,
            address: attempt.address,
            part: Part::Connection,
        };
        let passage = Passage::new(Arc::clone(self), id, right, share);
        let at_port = |address| SocketAddr::new(address, asked.port);
        Ok((passage, addresses.into_iter().map(at_port).collect()))
    }

    /// Judges one HTTP request inside an open connection and writes it, with the names of the
    /// secrets that go with it.
    pub(crate) async fn request(
        self: &Arc<Self>,
        request: &Request<'_>,
        address: Option<SocketAddr>,
        secrets: &[String],
    ) -> Result<Passage, Refused> {
        let rules = self.rules();
        let attempt = Attempt::request(request, address.map(|to| to.ip()), secrets);
        let share = self.meter.share(request.asked.host);
        let decided = Self::heard(&rules, &request.asked, decide_request(&rules, request))
            .and_then(|allowed| {
                let begun = self.meter.begin(&share, &rules, Begun::Request);
                begun.map(|()| allowed)
            });
        let allowed = match decided {
            Ok(allowed) => allowed,
            Err(refused) => return Err(self.refuse(attempt, refused).await),
        };
        let id = self.next_id();
        self.write(id, &attempt, &allowed).await?;
        let right = Right {
            scheme: request.asked.scheme,
            host: request.asked.host.clone(),
            port: request.asked.port,
            address: attempt.address,
            part: Part::Request(request.method.to_owned(), request.path.to_owned()),
        };
        Ok(Passage::new(Arc::clone(self), id, right, share))
    }

    /// Writes an attempt that is refused, and names the record in the refusal. What is like a denial
    /// already on record is only counted.
    pub(crate) async fn refuse(&self, attempt: Attempt, mut refused: Refused) -> Refused {
        self.denied.fetch_add(1, Ordering::Relaxed);
        let id = self.next_id();
        match self.denials.note(attempt.key(refused.code), id) {
            Note::Known(first) => refused.reference = self.reference(first),
            Note::Count => {}
            Note::Write => {
                let event = attempt.denied(id, &refused);
                // It is refused whether or not it can be written.
                if self.scribe.record(event).await.is_ok() {
                    refused.reference = self.reference(id);
                }
            }
        }
        refused
    }

    /// Writes an event that is not an attempt: a misused secret, dropped packets.
    pub(crate) async fn incident(&self, event: Event) -> Result<(), Unwritten> {
        self.scribe.record(event).await
    }

    /// Writes an attempt that no rule speaks of because it comes from outside: a published port.
    pub(crate) async fn published(self: &Arc<Self>, port: u16) -> Result<Passage, Refused> {
        let host = Host::Address(IpAddr::from([127, 0, 0, 1]));
        let rules = self.rules();
        let share = self.meter.share(&host);
        self.meter.begin(&share, &rules, Begun::Connection)?;
        let attempt = Attempt::published(port);
        let allowed = Allowed {
            rule: format!("publish {port}"),
            reason: "the port is published".to_owned(),
            observed: false,
        };
        let id = self.next_id();
        self.write(id, &attempt, &allowed).await?;
        let right = Right {
            scheme: Scheme::Tcp,
            host,
            port,
            address: None,
            part: Part::Published,
        };
        Ok(Passage::new(Arc::clone(self), id, right, share))
    }

    /// Writes what has no record of its own, and waits until everything is durable.
    pub(crate) fn finish(&self) {
        let repeated = self.denials.repeated();
        if repeated > 0 {
            let counts = [("repeated".to_owned(), repeated)];
            self.scribe.note(Event::NetworkDropped {
                counts: counts.into(),
            });
        }
        self.scribe.flush();
    }

    /// May somebody who asks for a host and port, and for nothing more, go on? By any scheme that the
    /// rules let through, to addresses that may be dialled. Only what leads nowhere is written.
    pub(crate) async fn entry(&self, host: &Host, port: u16) -> Result<(), Refused> {
        let rules = self.rules();
        let by = |scheme| Asked { scheme, host, port };
        let likely = by(if port == 80 {
            Scheme::Http
        } else {
            Scheme::Https
        });
        let schemes = [likely.scheme, Scheme::Https, Scheme::Http, Scheme::Tcp];
        let open = schemes
            .into_iter()
            .map(by)
            .find(|asked| Self::heard(&rules, asked, decide_connection(&rules, asked)).is_ok());
        let Some(asked) = open else {
            return self.admit(&likely).await;
        };
        // A name that cannot be resolved now is told, and written, when it is dialled.
        for address in self.addresses(host).await.unwrap_or_default() {
            if let Err(refused) = checked(&rules, &asked, address) {
                let mut attempt = Attempt::connection(&asked);
                attempt.address = Some(address);
                return Err(self.refuse(attempt, refused).await);
            }
        }
        Ok(())
    }

    /// The decision about a connection or request, as the mode has it.
    fn heard(rules: &Rules, asked: &Asked<'_>, decision: Decision) -> Result<Allowed, Refused> {
        Allowed::of(decision, is_observed(rules, asked, None))
    }

    async fn write(&self, id: u64, attempt: &Attempt, allowed: &Allowed) -> Result<(), Refused> {
        let event = attempt.allowed(id, &allowed.rule, &allowed.reason, allowed.observed);
        if self.scribe.record(event).await.is_err() {
            self.denied.fetch_add(1, Ordering::Relaxed);
            let reason = "what happens here cannot be recorded";
            return Err(Refused::new(code::AUDIT, reason, "try again later"));
        }
        self.allowed.fetch_add(1, Ordering::Relaxed);
        if allowed.observed {
            self.observed.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// An allowed attempt that leads nowhere: nothing was dialled, both halves are on record.
    async fn unreachable(&self, attempt: Attempt, allowed: &Allowed, reason: &str) -> Refused {
        let id = self.next_id();
        if let Err(refused) = self.write(id, &attempt, allowed).await {
            return refused;
        }
        self.scribe.note(Event::NetworkEnded {
            id,
            up_bytes: 0,
            down_bytes: 0,
            duration_ms: 0,
            status: None,
            end: "no address".into(),
        });
        let mut refused = Refused::new(code::UNREACHABLE, reason, "try again later");
        refused.reference = self.reference(id);
        refused
    }

    async fn addresses(&self, host: &Host) -> Result<Vec<IpAddr>, String> {
        match host {
            Host::Address(address) => Ok(vec![*address]),
            Host::Name(name) => match self.resolver.lookup(name).await {
                Ok(found) if !found.is_empty() => Ok(found),
                Ok(_none) => Err(format!("`{name}` has no address")),
                Err(_error) => Err(format!("`{name}` could not be resolved")),
            },
        }
    }

    fn next_id(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn reference(&self, id: u64) -> String {
        format!("{}/{id}", self.scribe.run())
    }
}

impl Allowed {
    /// What passes by a rule, or because rules are only observed.
    fn of(decision: Decision, observed: bool) -> Result<Self, Refused> {
        let (rule, reason, observed) = match decision {
            Decision::Allow { rule, reason } => (rule, reason, false),
            Decision::Hold(refusal) | Decision::Deny(refusal) if observed => {
                (refusal.rule, refusal.reason, true)
            }
            Decision::Hold(refusal) | Decision::Deny(refusal) => {
                return Err(Refused::policy(refusal));
            }
        };
        Ok(Self {
            rule,
            reason,
            observed,
        })
    }
}

/// Whether an address may be dialled. The sandbox is not told which it was.
pub(crate) fn checked(rules: &Rules, asked: &Asked<'_>, address: IpAddr) -> Result<(), Refused> {
    match decide_address(rules, asked, address) {
        Decision::Allow { .. } => Ok(()),
        Decision::Hold(_) | Decision::Deny(_) if is_observed(rules, asked, Some(address)) => Ok(()),
        Decision::Hold(refusal) | Decision::Deny(refusal) => {
            Err(Refused::by(code::IP_DENIED, refusal))
        }
    }
}

/// The word that records have for a scheme.
pub(crate) const fn word(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::Http => "http",
        Scheme::Https => "https",
        Scheme::Ws => "ws",
        Scheme::Wss => "wss",
        Scheme::Tcp => "tcp",
    }
}
