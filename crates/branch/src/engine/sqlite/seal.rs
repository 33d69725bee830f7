//! Turns a branch that nobody works on any more into a change set.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use belljar_base::{HasKind, Kind};

use super::change_set::{self, DatabaseChanges, Writer};
use super::clone::{DATABASE, WORK};
use super::diff::{self, DiffError};
use super::image::{Image, ImageError};
use super::regular;

/// The rows are longer than the databases that they come from can account for.
#[derive(Debug, thiserror::Error)]
#[error("what changed is longer than {0} bytes, which is more than the two databases explain")]
pub(crate) struct TooLong(pub(crate) u64);

/// Bytes that the rows of a change set may have, however small the databases are.
const ROWS_BYTES_FREE: u64 = 64 << 20;

/// Why a branch could not be compared with what it came from.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The frozen copy cannot be read: the source was damaged, or somebody touched the branch.
    #[error("could not compare with the database as it was (`{}`)", .path.display())]
    Base {
        /// The frozen copy.
        path: PathBuf,
        /// Why.
        #[source]
        source: ImageError,
    },
    /// The change set cannot be written.
    #[error("could not write the change set in `{}`", .path.display())]
    Write {
        /// The branch's directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl HasKind for SealError {
    fn kind(&self) -> Kind {
        match self {
            Self::Base { .. } => Kind::Invalid,
            Self::Write { source, .. } => regular::kind(source),
        }
    }
}

/// Compares `base.db` and `work/work.db` in `directory`, which must have no writer any more, and
/// makes the change set durable beside them. As `seal_left`, but `work.db` stays.
///
/// # Errors
/// When the frozen copy cannot be read or the change set cannot be written.
pub fn seal(directory: &Path) -> Result<DatabaseChanges, SealError> {
    let work = directory.join(WORK).join(DATABASE);
    compare_left(directory, &work, &work)
}

/// As `seal`, where the database that the run left is at `work`, and its `-wal` and `-journal` are
/// those of `companions`. They are only read, never trusted: when it is no database any more the
/// change set says so. Afterwards `work.db` is removed: a diff and a merge have the change set and
/// the frozen copy, and it may be as large as the database.
///
/// # Errors
/// When the frozen copy cannot be read or the change set cannot be written.
pub fn seal_left(
    directory: &Path,
    work: &Path,
    companions: &Path,
) -> Result<DatabaseChanges, SealError> {
    let changes = compare_left(directory, work, companions)?;
    // One that stays costs room until the run is merged or discarded, and nothing else.
    let _best_effort = std::fs::remove_file(directory.join(WORK).join(DATABASE));
    Ok(changes)
}

fn compare_left(
    directory: &Path,
    work: &Path,
    companions: &Path,
) -> Result<DatabaseChanges, SealError> {
    let write = |source| SealError::Write {
        path: directory.to_owned(),
        source,
    };
    let file = change_set::create_rows(directory).map_err(write)?;
    let open = || Image::open_with(work, companions).map_err(DiffError::Work);
    let (changes, rows) = match compare(directory, open, file) {
        Ok(done) => done,
        Err(DiffError::Write(source)) => {
            let too_long = source.get_ref().and_then(|inner| inner.downcast_ref());
            let Some(too_long) = too_long.map(TooLong::to_string) else {
                return Err(write(source));
            };
            unreadable(directory, too_long).map_err(write)?
        }
        Err(DiffError::Base(source)) => {
            return Err(SealError::Base {
                path: directory.join("base.db"),
                source,
            });
        }
        Err(DiffError::Work(error)) => unreadable(directory, reason(&error)).map_err(write)?,
    };
    change_set::seal(directory, &changes, &rows).map_err(write)?;
    Ok(changes)
}

/// A change set that says only why there is none.
fn unreadable(directory: &Path, reason: String) -> io::Result<(DatabaseChanges, File)> {
    let mut writer = Writer::new(change_set::create_rows(directory)?)?;
    writer.changes.unreadable = Some(reason);
    writer.finish()
}

fn compare(
    directory: &Path,
    work: impl FnOnce() -> Result<Image, DiffError>,
    file: File,
) -> Result<(DatabaseChanges, File), DiffError> {
    let base = Image::open(&directory.join("base.db")).map_err(DiffError::Base)?;
    let work = work()?;
    let mut writer = Writer::new(file).map_err(DiffError::Write)?;
    // A value takes more bytes in a change set than in a page, but not many times as many. A
    // hostile file has one page in many rows, or one long default in each.
    let explained = base.bytes().saturating_add(work.bytes());
    writer.bytes_max = explained.saturating_mul(4).saturating_add(ROWS_BYTES_FREE);
    diff::diff(&base, &work, &mut writer)?;
    writer.finish().map_err(DiffError::Write)
}

/// The error and its cause in one sentence.
fn reason(error: &ImageError) -> String {
    match error {
        ImageError::Io(cause) => format!("it could not be read: {cause}"),
        ImageError::NotRegular(_)
        | ImageError::NotDatabase(_)
        | ImageError::Corrupt(_)
        | ImageError::Unsupported(_) => error.to_string(),
    }
}
