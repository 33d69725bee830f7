//! Connections that wait for their next request. They belong to one run and to one host, port and
//! scheme; a connection is never used for another name, whatever its certificate would allow.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use belljar_base::bounds::{
    HTTP_TARGETS_MAX, HTTP_WAITING_CONNECTIONS_MAX, HTTP_WAITING_SECONDS_MAX,
};
use tokio::sync::OwnedMutexGuard;

use super::{First, Second};
use crate::http::Target;

/// The connections of a run that wait, or are shared.
pub(crate) struct Pool {
    targets: Mutex<Targets>,
}

struct Targets {
    waiting: HashMap<Arc<Target>, Waiting>,
    /// When what had waited too long was last taken out.
    swept: Instant,
}

/// What there is for one target.
#[derive(Default)]
struct Waiting {
    first: Vec<First>,
    second: Option<Second>,
    /// Held by whoever makes a connection that others may share.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// The server was asked for HTTP/2 and has none.
    first_only: bool,
}

impl Default for Pool {
    fn default() -> Self {
        let targets = Targets {
            waiting: HashMap::new(),
            swept: Instant::now(),
        };
        Self {
            targets: Mutex::new(targets),
        }
    }
}

impl Pool {
    /// A connection that waited and can carry a request.
    pub(super) fn take(&self, target: &Target) -> Option<First> {
        loop {
            let mut first = self.lock().waiting.get_mut(target)?.first.pop()?;
            // Looking at the connection is left out of the lock.
            if first.waited().is_some_and(|waited| waited < KEPT) && first.is_ready() {
                return Some(first);
            }
        }
    }

    /// Keeps a connection for the next request, if it can carry one.
    pub(super) fn put(&self, mut first: First) {
        if !first.is_ready() {
            return;
        }
        first.since = Some(Instant::now());
        let target = Arc::clone(&first.target);
        let mut targets = self.lock();
        let spare = targets.sweep();
        let waiting = targets.waiting.entry(target).or_default();
        if waiting.first.len() < HTTP_WAITING_CONNECTIONS_MAX {
            waiting.first.push(first);
        }
        drop(targets);
        // What is too old is closed without anybody waiting for it.
        drop(spare);
    }

    /// A connection of HTTP/2 that carries the requests of others.
    pub(super) fn second(&self, target: &Target) -> Option<Second> {
        let mut targets = self.lock();
        let waiting = targets.waiting.get_mut(target)?;
        let second = waiting.second.as_ref()?;
        if second.sender.is_closed() {
            waiting.second = None;
            return None;
        }
        Some(second.clone())
    }

    /// Waits for the turn to make a connection that may be shared; none when it cannot be.
    pub(super) async fn turn(&self, target: &Arc<Target>) -> Option<OwnedMutexGuard<()>> {
        let turn = {
            let mut targets = self.lock();
            let waiting = targets.waiting.entry(Arc::clone(target)).or_default();
            if waiting.first_only {
                return None;
            }
            Arc::clone(&waiting.turn)
        };
        Some(turn.lock_owned().await)
    }

    /// Lets others use a connection of HTTP/2.
    pub(super) fn share(&self, target: Arc<Target>, second: Second) {
        self.lock().waiting.entry(target).or_default().second = Some(second);
    }

    /// Remembers that a server has no HTTP/2.
    pub(super) fn first_only(&self, target: &Arc<Target>) {
        let mut targets = self.lock();
        let waiting = targets.waiting.entry(Arc::clone(target)).or_default();
        waiting.first_only = true;
    }

    fn lock(&self) -> MutexGuard<'_, Targets> {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Targets {
    /// Takes out what has waited too long, now and again.
    fn sweep(&mut self) -> Vec<First> {
        let mut spare = Vec::new();
        if self.swept.elapsed() < KEPT / 4 {
            return spare;
        }
        self.swept = Instant::now();
        for waiting in self.waiting.values_mut() {
            let old = |first: &mut First| first.waited().is_none_or(|waited| waited >= KEPT);
            spare.extend(waiting.first.extract_if(.., old));
        }
        if self.waiting.len() > HTTP_TARGETS_MAX {
            self.waiting.retain(|_target, waiting| waiting.is_used());
        }
        spare
    }
}

impl Waiting {
    fn is_used(&self) -> bool {
        let shared = self.second.as_ref();
        shared.is_some_and(|second| !second.sender.is_closed())
            || !self.first.is_empty()
            || Arc::strong_count(&self.turn) > 1
    }
}

/// How long a connection waits for its next request.
const KEPT: Duration = Duration::from_secs(HTTP_WAITING_SECONDS_MAX);
