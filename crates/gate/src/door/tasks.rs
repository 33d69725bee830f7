//! The tasks of one run: counted, and ended together.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::{EnterGuard, Handle};
use tokio::sync::watch;

/// Starts tasks that end when it is closed.
#[derive(Clone, Debug)]
pub(super) struct Tasks {
    handle: Handle,
    closed: Arc<watch::Sender<bool>>,
    live: Arc<Live>,
}

#[derive(Debug, Default)]
struct Live {
    count: Mutex<usize>,
    none: Condvar,
}

/// Counts one task for as long as it is there.
struct Counted(Arc<Live>);

impl Tasks {
    pub(super) fn new(handle: Handle) -> Self {
        Self {
            handle,
            closed: Arc::new(watch::Sender::new(false)),
            live: Arc::default(),
        }
    }

    /// Makes this thread one that sockets can be registered on.
    pub(super) fn enter(&self) -> EnterGuard<'_> {
        self.handle.enter()
    }

    /// Starts a task.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let counted = Counted::new(&self.live);
        let mut closed = self.closed.subscribe();
        self.handle.spawn(async move {
            let _counted = counted;
            tokio::select! {
                // An error means that whoever could close is gone.
                _closed = closed.wait_for(|closed| *closed) => {}
                () = task => {}
            }
        });
    }

    /// Ends every task, those that are started later as well.
    pub(super) fn close(&self) {
        self.closed.send_replace(true);
    }

    /// Waits, on this thread, until no task is left, but no longer than that.
    pub(super) fn wait(&self, limit: Duration) {
        let count = self
            .live
            .count
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .live
            .none
            .wait_timeout_while(count, limit, |count| *count > 0);
        // Tasks that do not end in time are ended by the runtime; what they hold is closed then.
        drop(waited);
    }
}

impl Counted {
    fn new(live: &Arc<Live>) -> Self {
        *live.count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Self(Arc::clone(live))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut count = self.0.count.lock().unwrap_or_else(PoisonError::into_inner);
        *count = count.saturating_sub(1);
        if *count == 0 {
            self.0.none.notify_all();
        }
    }
}
