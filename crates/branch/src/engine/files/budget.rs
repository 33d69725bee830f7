//! How much of the host a sealed change set may take. A run's own limits hold what it writes to its
//! layer; these hold what is made of that afterwards, where no limit of the run is left.

use std::io;
use std::os::fd::BorrowedFd;

use belljar_base::bounds::{CHANGE_ENTRIES_MAX, CHANGE_LIST_BYTES_MAX, CHANGE_PACK_BYTES_FREE};
use serde::Serialize;

use super::seal_error::SealError;

/// What is left for one change set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    /// Entries of the manifest, and things that it says are left out.
    pub(crate) entries: usize,
    /// Bytes of the manifest.
    pub(crate) list_bytes: u64,
    /// Bytes of the pack.
    pub(crate) pack_bytes: u64,
}

impl Budget {
    /// For what lies in the layer that `upper` is in. The pack has at most the pages that are in use
    /// there, and before the content of a file up to one page to start at.
    pub(crate) fn of_layer(upper: BorrowedFd<'_>) -> io::Result<Self> {
        let stat = rustix::fs::fstatvfs(upper)?;
        let used = stat.f_blocks.saturating_sub(stat.f_bfree);
        let explained = used.saturating_mul(stat.f_frsize).saturating_mul(2);
        Ok(Self {
            entries: CHANGE_ENTRIES_MAX,
            list_bytes: CHANGE_LIST_BYTES_MAX,
            pack_bytes: explained.saturating_add(CHANGE_PACK_BYTES_FREE),
        })
    }

    /// Takes an entry of the manifest before it is kept. A name takes next to nothing of a layer, and
    /// up to six bytes of a manifest for one of its own.
    pub(crate) fn spend(&mut self, entry: &impl Serialize) -> Result<(), SealError> {
        self.entries = self.entries.checked_sub(1).ok_or(SealError::TooMany)?;
        self.spend_bytes(entry)
    }

    /// Takes something that belongs to an entry.
    pub(crate) fn spend_bytes(&mut self, part: &impl Serialize) -> Result<(), SealError> {
        let mut left = Left(self.list_bytes);
        serde_json::to_writer(&mut left, part).map_err(|_no_room| SealError::TooMany)?;
        self.list_bytes = left.0.saturating_sub(1);
        Ok(())
    }
}

/// Counts bytes instead of writing them, down to none.
struct Left(u64);

impl io::Write for Left {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let left = self.0.checked_sub(count);
        self.0 = left.ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
