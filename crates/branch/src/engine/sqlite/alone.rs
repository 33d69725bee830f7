//! One deed at a time on one database, within this process.
//!
//! Closing any descriptor of a file drops every POSIX lock the process has on it, also those of
//! another thread's SQLite. So whoever opens a source, or has it locked, is alone with it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

static HELD: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
static FREED: Condvar = Condvar::new();

/// Proof that no other thread of this process works on the file.
#[derive(Debug)]
pub(crate) struct Alone(PathBuf);

impl Alone {
    /// Waits until nobody else has `path` (with links resolved), at most `wait`.
    pub(crate) fn with(path: &Path, wait: Duration) -> Option<Self> {
        let held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut held, waited) = FREED
            .wait_timeout_while(held, wait, |held| held.contains(path))
            .unwrap_or_else(PoisonError::into_inner);
        (!waited.timed_out() && held.insert(path.to_owned())).then(|| Self(path.to_owned()))
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        HELD.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.0);
        FREED.notify_all();
    }
}
