//! A lock on a directory, given back when it is dropped.

use std::fs::{File, TryLockError};
use std::io;

/// A held lock. It is given back by name, because a process that is just being started may hold
/// the same open directory for a moment longer.
#[derive(Debug)]
pub(crate) struct Lock(File);

impl Lock {
    /// Locks the open `directory`; none if somebody else has it locked.
    pub(crate) fn take(directory: File) -> io::Result<Option<Self>> {
        match directory.try_lock() {
            Ok(()) => Ok(Some(Self(directory))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file gives the lock back too, if this cannot.
        let _given_back = self.0.unlock();
    }
}
