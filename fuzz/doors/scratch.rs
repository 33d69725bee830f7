//! Directories that are gone afterwards, in memory where the system has such a place.

use std::io;

use tempfile::{Builder, TempDir};

const MEMORY: &str = "/dev/shm";

/// An empty directory.
pub(crate) fn directory() -> io::Result<TempDir> {
    let mut builder = Builder::new();
    builder.prefix("belljar-fuzz-");
    builder
        .tempdir_in(MEMORY)
        .or_else(|_none| builder.tempdir())
}
