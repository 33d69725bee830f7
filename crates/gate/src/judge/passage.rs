//! An attempt that was allowed and is on record: it may pass bytes until it loses its right.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::time::Duration;

use belljar_ledger::{Event, Text};
use belljar_policy::Decision;
use belljar_policy::egress::{
    Asked, Host, Request, Rules, Scheme, decide_connection, decide_request, is_observed,
};
use tokio::time::{Instant, sleep_until};

use super::meter::{Share, idle_limit, tunnel_limit};
use super::refused::Refused;
use super::{Judge, checked};

/// What an allowed attempt was about.
pub(crate) struct Right {
    pub(crate) scheme: Scheme,
    pub(crate) host: Host,
    pub(crate) port: u16,
    pub(crate) address: Option<IpAddr>,
    pub(crate) part: Part,
}

/// Which part of the traffic a right is for.
pub(crate) enum Part {
    /// A connection out.
    Connection,
    /// A request inside one: its method and path.
    Request(String, String),
    /// A connection in, to a published port; rules do not speak of it.
    Published,
}

/// An allowed, recorded attempt. Counts what passes; when it is dropped, its end is on record.
pub(crate) struct Passage {
    judge: Arc<Judge>,
    id: u64,
    right: Right,
    share: Share,
    began: Instant,
    up: AtomicU64,
    down: AtomicU64,
    /// 0 before an answer came.
    status: AtomicU16,
    /// Why it ended, when it was not just closed.
    cut: OnceLock<&'static str>,
}

impl Passage {
    pub(super) fn new(judge: Arc<Judge>, id: u64, right: Right, share: Share) -> Self {
        Self {
            judge,
            id,
            right,
            share,
            began: Instant::now(),
            up: AtomicU64::new(0),
            down: AtomicU64::new(0),
            status: AtomicU16::new(0),
            cut: OnceLock::new(),
        }
    }

    /// Counts bytes that are about to leave; refused, they must not.
    pub(crate) fn up(&self, bytes: u64) -> Result<(), Refused> {
        let counted = self.share.up(&self.judge.rules.load(), bytes);
        self.count(&self.up, bytes, counted)
    }

    /// Counts bytes that are about to come in; refused, they must not.
    pub(crate) fn down(&self, bytes: u64) -> Result<(), Refused> {
        let counted = self.share.down(&self.judge.rules.load(), bytes);
        self.count(&self.down, bytes, counted)
    }

    fn count(
        &self,
        count: &AtomicU64,
        bytes: u64,
        counted: Result<(), Refused>,
    ) -> Result<(), Refused> {
        match counted {
            Ok(()) => {
                count.fetch_add(bytes, Ordering::Relaxed);
                Ok(())
            }
            Err(refused) => {
                self.ended("quota");
                Err(self.named(refused))
            }
        }
    }

    /// The answer's HTTP status.
    pub(crate) fn status(&self, status: u16) {
        self.status.store(status, Ordering::Relaxed);
    }

    /// Why it ends, when that is not just because one side closed; the first word stays.
    pub(crate) fn ended(&self, why: &'static str) {
        self.cut.get_or_init(|| why);
    }

    /// How long nothing may happen on it.
    pub(crate) fn idle_limit(&self) -> Duration {
        idle_limit(&self.judge.rules.load())
    }

    /// How many bytes have passed, both ways.
    pub(crate) fn passed(&self) -> u64 {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        read(&self.up).saturating_add(read(&self.down))
    }

    /// Returns when the right to pass is lost: the rules have changed and no longer allow it, its
    /// time is over, or the run's way out is closed.
    pub(crate) async fn lost(&self) -> Refused {
        let mut changes = self.judge.changes();
        loop {
            let rules = self.judge.rules();
            if let Some(refused) = self.right.refused(&rules) {
                self.ended("rules changed");
                return self.named(refused);
            }
            let end = self.began + tunnel_limit(&rules);
            drop(rules);
            tokio::select! {
                changed = changes.changed() => if changed.is_err() {
                    self.ended("run over");
                    return self.named(Refused::quota("the run's time"));
                },
                () = sleep_until(end) => {
                    self.ended("time");
                    return self.named(Refused::quota("tunnel time"));
                }
            }
        }
    }

    /// The refusal, with the record that this attempt has.
    fn named(&self, mut refused: Refused) -> Refused {
        refused.reference = self.judge.reference(self.id);
        refused
    }

    fn finish(&self) {
        let status = self.status.load(Ordering::Relaxed);
        let lasted = self.began.elapsed().as_millis();
        self.judge.scribe.note(Event::NetworkEnded {
            id: self.id,
            up_bytes: self.up.load(Ordering::Relaxed),
            down_bytes: self.down.load(Ordering::Relaxed),
            duration_ms: u64::try_from(lasted).unwrap_or(u64::MAX),
            status: (status != 0).then_some(status),
            end: Text::from(self.cut.get().copied().unwrap_or("closed")),
        });
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        self.finish();
    }
}

impl fmt::Debug for Passage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passage")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Right {
    /// Why these rules no longer allow it.
    fn refused(&self, rules: &Rules) -> Option<Refused> {
        let asked = Asked {
            scheme: self.scheme,
            host: &self.host,
            port: self.port,
        };
        let decision = match &self.part {
            Part::Published => return None,
            Part::Connection => decide_connection(rules, &asked),
            Part::Request(method, path) => {
                let request = Request {
                    asked,
                    method,
                    path,
                };
                decide_request(rules, &request)
            }
        };
        if let Decision::Hold(refusal) | Decision::Deny(refusal) = decision
            && !is_observed(rules, &asked, None)
        {
            return Some(Refused::policy(refusal));
        }
        checked(rules, &asked, self.address?).err()
    }
}
