//! Why a change set could not be made.

use std::io;
use std::path::PathBuf;

use belljar_base::bounds::{CHANGE_ENTRIES_MAX, CHANGE_LIST_BYTES_MAX};
use belljar_base::{HasKind, Kind};
use rustix::io::Errno;

use super::text::RelativePath;

/// A change set could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// What the run wrote cannot be read.
    #[error("could not read `{place}` of the run's files")]
    Upper {
        /// Where, printable.
        place: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The workspace cannot be read.
    #[error("could not read `{place}` in the workspace")]
    Lower {
        /// Where, printable.
        place: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The change set cannot be written.
    #[error("could not write the change set to `{}`", path.display())]
    Write {
        /// Its directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The run changed more paths than a change set holds.
    #[error(
        "the run changed more than {CHANGE_ENTRIES_MAX} paths, or the list of them is over \
         {CHANGE_LIST_BYTES_MAX} bytes"
    )]
    TooMany,
    /// The contents are longer than what the run wrote can account for.
    #[error("what the run changed is over {0} bytes, which is more than its layer explains")]
    TooLong(u64),
}

impl HasKind for SealError {
    fn kind(&self) -> Kind {
        match self {
            Self::Upper { source, .. }
            | Self::Lower { source, .. }
            | Self::Write { source, .. } => kind_of(source),
            Self::TooMany | Self::TooLong(_) => Kind::Exhausted,
        }
    }
}

/// A full disk is a bound that was reached; everything else may pass.
pub(crate) fn kind_of(error: &io::Error) -> Kind {
    match Errno::from_io_error(error) {
        Some(Errno::NOSPC | Errno::DQUOT | Errno::MFILE | Errno::NFILE) => Kind::Exhausted,
        Some(Errno::ACCESS | Errno::PERM | Errno::ROFS) => Kind::Denied,
        _ if error.kind() == io::ErrorKind::InvalidData => Kind::Invalid,
        _ => Kind::Unavailable,
    }
}

pub(crate) fn in_upper(path: Option<&RelativePath>, source: io::Error) -> SealError {
    let place = path.map_or_else(|| ".".to_owned(), RelativePath::visible);
    SealError::Upper { place, source }
}

pub(crate) fn in_lower(path: &RelativePath, source: io::Error) -> SealError {
    let place = path.visible();
    SealError::Lower { place, source }
}
