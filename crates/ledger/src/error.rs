//! What can go wrong, one enum per deed; [`Fault`] is what the files themselves can have.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use belljar_base::bounds::{COMMIT_BYTES_MAX, COMMIT_RECORDS_MAX, RECORD_BYTES_MAX};
use belljar_base::{HasKind, Kind};

/// Where something is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The segment's number.
    pub segment: u32,
    /// The byte in that file.
    pub offset: u64,
    /// The record that is, or should be, there.
    pub seq: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            segment,
            offset,
            seq,
        } = self;
        write!(f, "segment {segment:08}, offset {offset}, record {seq}")
    }
}

/// The end of a commit that was never acknowledged, cut off when the ledger was next used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Torn {
    /// Where it began.
    pub place: Place,
    /// How much of the file was cut.
    pub bytes: u64,
}

/// The files of a ledger cannot be used, or are not what they were.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Fault {
    /// The operating system refused.
    #[error("could not {deed}")]
    Io {
        /// What was attempted.
        deed: &'static str,
        /// The answer.
        #[source]
        source: Arc<io::Error>,
    },
    /// A record that was durable is damaged.
    #[error("the ledger is damaged at {place}: {what}")]
    Damaged {
        /// Where.
        place: Place,
        /// How.
        what: &'static str,
    },
    /// Records that were acknowledged are missing from the end.
    #[error("the ledger has {found} records, its checkpoint says {signed}")]
    Short {
        /// As many as were once there.
        signed: u64,
        /// As many as are there.
        found: u64,
    },
    /// The records are not those the checkpoint was signed over.
    #[error("the checkpoint of {size} records does not match them")]
    OtherHistory {
        /// Its size.
        size: u64,
    },
    /// A failed write could not be undone; opening the ledger again will sort it out.
    #[error("an earlier write failed and could not be undone")]
    Poisoned,
}

impl Fault {
    pub(crate) fn io(deed: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            deed,
            source: Arc::new(source),
        }
    }
}

impl HasKind for Fault {
    fn kind(&self) -> Kind {
        match self {
            Self::Io { source, .. } => io_kind(source),
            Self::Damaged { .. } | Self::Short { .. } | Self::OtherHistory { .. } => Kind::Conflict,
            Self::Poisoned => Kind::Unavailable,
        }
    }
}

pub(crate) fn io_kind(error: &io::Error) -> Kind {
    use io::ErrorKind as E;
    let kind = error.kind();
    let is = |kinds: &[E]| kinds.contains(&kind);
    if is(&[
        E::StorageFull,
        E::QuotaExceeded,
        E::FileTooLarge,
        E::OutOfMemory,
    ]) {
        Kind::Exhausted
    } else if is(&[E::PermissionDenied, E::ReadOnlyFilesystem]) {
        Kind::Denied
    } else if is(&[E::NotFound]) {
        Kind::NotFound
    } else {
        Kind::Unavailable
    }
}

/// The ledger could not be opened.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OpenError {
    /// The ledger's directory cannot be made or opened.
    #[error("could not open the ledger `{}`", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The answer.
        #[source]
        source: Arc<io::Error>,
    },
    /// The key cannot be read or made.
    #[error("could not use the ledger's key `{}`", path.display())]
    Key {
        /// The key file.
        path: PathBuf,
        /// The answer.
        #[source]
        source: Arc<io::Error>,
    },
    /// There is a ledger, but not the key that signs it.
    #[error("`{}` is not the key of the ledger; put the right one there, or move the ledger aside to begin a new one", path.display())]
    OtherKey {
        /// The key file.
        path: PathBuf,
    },
    /// Its files are not as they should be.
    #[error("could not use the ledger `{}`; `belljar audit verify` says more, moving it aside begins a new one", path.display())]
    Files {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: Fault,
    },
}

impl HasKind for OpenError {
    fn kind(&self) -> Kind {
        match self {
            Self::Directory { source, .. } | Self::Key { source, .. } => io_kind(source),
            Self::OtherKey { .. } => Kind::Conflict,
            Self::Files { source, .. } => source.kind(),
        }
    }
}

/// The records were not written. None of them is in the ledger.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// One record is too long even with its texts cut.
    #[error("a record of {0} bytes is over the bound of {RECORD_BYTES_MAX}")]
    TooLong(usize),
    /// Too much at once.
    #[error(
        "{0} records at once are over the bound of {COMMIT_RECORDS_MAX} records or {COMMIT_BYTES_MAX} bytes"
    )]
    TooMany(usize),
    /// No record at all.
    #[error("there is no record to write")]
    Empty,
    /// An event that was read from a record of another version.
    #[error("an event of another version cannot be written")]
    Unknown,
    /// The files did not take it.
    #[error("could not write to the ledger")]
    Write(#[from] Fault),
}

impl HasKind for AppendError {
    fn kind(&self) -> Kind {
        match self {
            Self::TooLong(_) | Self::TooMany(_) => Kind::Exhausted,
            Self::Empty | Self::Unknown => Kind::Invalid,
            Self::Write(fault) => fault.kind(),
        }
    }
}

/// Records could not be read.
#[derive(Clone, Debug, thiserror::Error)]
#[error("could not read the ledger")]
pub struct ReadError(#[from] pub(crate) Fault);

impl HasKind for ReadError {
    fn kind(&self) -> Kind {
        self.0.kind()
    }
}

/// The ledger could not be exported.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ExportError {
    /// The ledger cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A file cannot be written.
    #[error("could not write `{}`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The answer.
        #[source]
        source: Arc<io::Error>,
    },
}

impl HasKind for ExportError {
    fn kind(&self) -> Kind {
        match self {
            Self::Read(error) => error.kind(),
            Self::Write { source, .. } => io_kind(source),
        }
    }
}
