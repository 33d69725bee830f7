//! Branches a database while others write to it: a clone of the file and its write-ahead log,
//! taken under SQLite's own lock.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use belljar_base::{HasKind, Kind};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use serde::{Deserialize, Serialize};

use super::alone::Alone;
use super::image::{Header, ImageError, companion};
use super::regular;
use super::wal;

/// How long a branch waits for whoever is writing.
pub(crate) const BUSY_MILLIS_MAX: u64 = 5000;

/// How the bytes came to the branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// The file system shares them until one side writes.
    Reflink,
    /// They were copied, because the file system cannot share them.
    Copy,
}

/// A branch of a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Branched {
    /// Where it came from, with links resolved.
    pub source: PathBuf,
    /// What the run works on, alone in its directory.
    pub database: PathBuf,
    /// How the bytes came.
    pub method: Method,
    /// Bytes of the database and its log.
    pub bytes: u64,
}

/// Why a database could not be branched.
#[derive(Debug, thiserror::Error)]
pub enum BranchError {
    /// There is no such file, or it is not a regular one.
    #[error("could not open the database `{}`", .path.display())]
    Source {
        /// What was asked for.
        path: PathBuf,
        /// Why.
        #[source]
        source: ImageError,
    },
    /// Somebody keeps it locked.
    #[error(
        "the database `{}` stayed locked for {} s; try again when the program that writes to it \
         has finished its transaction", .0.display(), BUSY_MILLIS_MAX / 1000
    )]
    Busy(PathBuf),
    /// SQLite does not open it.
    #[error("could not lock the database `{}`", .path.display())]
    Lock {
        /// What was asked for.
        path: PathBuf,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// The clone could not be written.
    #[error("could not write the branch `{}`", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl HasKind for BranchError {
    fn kind(&self) -> Kind {
        match self {
            Self::Source { source, .. } => match source {
                ImageError::Io(error) if error.kind() == io::ErrorKind::NotFound => Kind::NotFound,
                ImageError::Io(_) => Kind::Unavailable,
                ImageError::NotRegular(_)
                | ImageError::NotDatabase(_)
                | ImageError::Corrupt(_)
                | ImageError::Unsupported(_) => Kind::Invalid,
            },
            Self::Busy(_) | Self::Lock { .. } => Kind::Unavailable,
            Self::Write { source, .. } => regular::kind(source),
        }
    }
}

/// The file in the branch's directory that names the source.
pub(crate) const SOURCE: &str = "source";

/// The directory of the database that a run works on.
pub(crate) const WORK: &str = "work";
/// That database.
pub(crate) const DATABASE: &str = "work.db";

/// Branches `source` into the directory `into`: `base.db` as it was, with its write-ahead log, and
/// `work/work.db` to work on, into which what the log committed is put: a log of its own would lie
/// beside it, where a run has another place for what it makes.
///
/// # Errors
/// When the source is no SQLite database, stays locked, or the branch cannot be written.
pub fn branch(source: &Path, into: &Path) -> Result<Branched, BranchError> {
    let open = |error: ImageError| BranchError::Source {
        path: source.to_owned(),
        source: error,
    };
    let path = source.canonicalize().map_err(|error| open(error.into()))?;
    let base = into.join("base.db");
    let work = into.join(WORK);
    for directory in [into, work.as_path()] {
        make_directory(directory)?;
    }
    let (method, bytes) = {
        let alone = Alone::with(&path, Duration::from_millis(BUSY_MILLIS_MAX));
        let _alone = alone.ok_or_else(|| BranchError::Busy(path.clone()))?;
        // Dropped last, after SQLite has let go of its locks.
        let file = regular::open(&path).map_err(open)?;
        check_header(&file).map_err(open)?;
        let connection = lock(&path)?;
        let cloned = clone_both(&file, &path, &base);
        drop(connection);
        cloned?
    };
    let database = work.join(DATABASE);
    let private = |path: &Path| {
        regular::open(path).map_err(|source| BranchError::Source {
            path: path.to_owned(),
            source,
        })
    };
    clone_file(&private(&base)?, &database)?;
    let log = companion(&base, "-wal");
    if log.exists() {
        fold(&private(&log)?, &database)?;
    }
    let name = into.join(SOURCE);
    std::fs::write(&name, path.as_os_str().as_bytes())
        .map_err(|source| BranchError::Write { path: name, source })?;
    Ok(Branched {
        source: path,
        database,
        method,
        bytes,
    })
}

fn make_directory(path: &Path) -> Result<(), BranchError> {
    let made = DirBuilder::new().mode(0o700).recursive(true).create(path);
    made.map_err(|source| BranchError::Write {
        path: path.to_owned(),
        source,
    })
}

/// A database, or an empty file, which SQLite takes for one.
fn check_header(file: &File) -> Result<(), ImageError> {
    let length = file.metadata()?.len();
    if length == 0 {
        return Ok(());
    }
    let mut header = [0_u8; 100];
    if length < 100 {
        return Err(ImageError::NotDatabase(
            "it is shorter than a header".into(),
        ));
    }
    file.read_exact_at(&mut header, 0)?;
    Header::parse(&header).map(|_| ())
}

/// Keeps writers out until the connection is dropped, and lets SQLite roll back what a crashed
/// writer left.
fn lock(path: &Path) -> Result<Connection, BranchError> {
    let failed = |source: rusqlite::Error| match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            BranchError::Busy(path.to_owned())
        }
        Some(_) | None => BranchError::Lock {
            path: path.to_owned(),
            source,
        },
    };
    let open = |flags: OpenFlags| {
        let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let mut connection = Connection::open_with_flags(path, flags)?;
        // A busy writer leaves short gaps; SQLite's own waiting grows to steps that miss them.
        connection.busy_handler(Some(|tried: i32| {
            std::thread::sleep(Duration::from_millis(1));
            u64::from(tried.unsigned_abs()) < BUSY_MILLIS_MAX
        }))?;
        // Our last close must not be the one that rewrites the source.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        Ok(connection)
    };
    let connection = open(OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(failed)?;
    match connection.execute_batch("BEGIN IMMEDIATE") {
        Ok(()) => return Ok(connection),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::ReadOnly) => {}
        Err(error) => return Err(failed(error)),
    }
    drop(connection);
    // Who may only read takes a reader's lock: it keeps the main file from changing, or with a
    // write-ahead log keeps the log from being reset, and a frame half written there is ignored.
    let connection = open(OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(failed)?;
    connection
        .execute_batch("BEGIN; SELECT 1 FROM sqlite_schema LIMIT 1")
        .map_err(failed)?;
    Ok(connection)
}

/// Clones the database, then its log: a frame that a checkpoint moves in between is then in both.
fn clone_both(file: &File, from: &Path, to: &Path) -> Result<(Method, u64), BranchError> {
    let (method, bytes) = clone_file(file, to)?;
    let (from_log, to_log) = (companion(from, "-wal"), companion(to, "-wal"));
    let log = regular::open_if_present(&from_log).map_err(|source| BranchError::Source {
        path: from_log,
        source,
    })?;
    match log {
        Some(log) => {
            let (_, log_bytes) = clone_file(&log, &to_log)?;
            Ok((method, bytes + log_bytes))
        }
        None => Ok((method, bytes)),
    }
}

/// Puts what a write-ahead log committed into the database.
fn fold(log: &File, database: &Path) -> Result<(), BranchError> {
    let committed = wal::read(log).map_err(|source| BranchError::Source {
        path: database.to_owned(),
        source,
    })?;
    let Some(committed) = committed else {
        return Ok(());
    };
    let mut pages: Vec<_> = committed.pages.into_iter().collect();
    pages.sort_unstable();
    let page_bytes = u64::from(committed.page_size);
    let put = || -> io::Result<()> {
        let file = File::options().write(true).open(database)?;
        let mut page = vec![0; usize::try_from(page_bytes).unwrap_or(0)];
        for (number, at) in pages {
            log.read_exact_at(&mut page, at)?;
            file.write_all_at(&page, u64::from(number.saturating_sub(1)) * page_bytes)?;
        }
        file.set_len(u64::from(committed.page_count) * page_bytes)
    };
    put().map_err(|source| BranchError::Write {
        path: database.to_owned(),
        source,
    })
}

fn clone_file(from: &File, to: &Path) -> Result<(Method, u64), BranchError> {
    let write = |source: io::Error| BranchError::Write {
        path: to.to_owned(),
        source,
    };
    let mut options = File::options();
    let target = options
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to);
    let mut target = target.map_err(write)?;
    let bytes = from.metadata().map_err(write)?.size();
    if rustix::fs::ioctl_ficlone(&target, from).is_ok() {
        return Ok((Method::Reflink, bytes));
    }
    // Whatever kept the clone from working keeps a copy from working too, or does not matter.
    let mut from = from;
    io::copy(&mut from, &mut target).map_err(write)?;
    Ok((Method::Copy, bytes))
}
