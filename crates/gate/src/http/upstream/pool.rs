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
#[derive(Default)]
pub(crate) struct Pool {
    targets: Mutex<HashMap<Arc<Target>, Waiting>>,
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

impl Pool {
    /// A connection that waited and can carry a request.
    pub(super) fn take(&self, target: &Target) -> Option<First> {
        loop {
            let mut first = self.lock().get_mut(target)?.first.pop()?;
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
        let spare = prune(&mut targets);
        let waiting = targets.entry(target).or_default();
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
        let waiting = targets.get_mut(target)?;
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
            let waiting = targets.entry(Arc::clone(target)).or_default();
            if waiting.first_only {
                return None;
            }
            Arc::clone(&waiting.turn)
        };
        Some(turn.lock_owned().await)
    }

    /// Lets others use a connection of HTTP/2.
    pub(super) fn share(&self, target: Arc<Target>, second: Second) {
        self.lock().entry(target).or_default().second = Some(second);
    }

    /// Remembers that a server has no HTTP/2.
    pub(super) fn first_only(&self, target: &Arc<Target>) {
        let mut targets = self.lock();
        targets.entry(Arc::clone(target)).or_default().first_only = true;
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<Target>, Waiting>> {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes out what has waited too long, once there is much.
fn prune(targets: &mut HashMap<Arc<Target>, Waiting>) -> Vec<First> {
    let mut spare = Vec::new();
    if targets.len() <= HTTP_TARGETS_MAX {
        return spare;
    }
    targets.retain(|_target, waiting| {
        let old = |first: &mut First| first.waited().is_none_or(|waited| waited >= KEPT);
        spare.extend(waiting.first.extract_if(.., old));
        let used = waiting
            .second
            .as_ref()
            .is_some_and(|second| !second.sender.is_closed());
        used || !waiting.first.is_empty() || Arc::strong_count(&waiting.turn) > 1
    });
    spare
}

/// How long a connection waits for its next request.
const KEPT: Duration = Duration::from_secs(HTTP_WAITING_SECONDS_MAX);
