//! Merge and revert of one database, as the coordinator of merges wants them.
//!
//! Everything happens in one transaction of SQLite's: `conflicts` makes the change set real in it
//! and looks what stands in the way, `prepare` stores the inverse that this gave, `apply` commits.
//! Until then SQLite's own journal undoes it, whatever happens. After a crash the rows themselves
//! say on which side of the commit it fell.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Seek};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use belljar_base::{DatabaseName, HasKind, Kind};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use rustix::fs::{Mode, OFlags};

use super::alone::Alone;
use super::change_set::{self, ChangeSet, DatabaseChanges, LoadError};
use super::clone::{BUSY_MILLIS_MAX, SOURCE};
use super::committed::{self, Side};
use super::conflict::{Conflicts, RowConflict};
use super::merge::{self, Made, MergeError};
use crate::engine::{Conflict, Deed, Engine, EngineError, Steps};

/// A deed on one database.
#[derive(Debug)]
pub struct Sqlite {
    name: String,
    changes: PathBuf,
    inverse: PathBuf,
    spool: PathBuf,
    open: Option<Open>,
    conflicts: Vec<RowConflict>,
}

/// A transaction in which the change set is real, and what would undo it.
#[derive(Debug)]
struct Open {
    // Dropped in this order: SQLite lets go of its locks before the next thread may come.
    connection: Connection,
    inverse: DatabaseChanges,
    inverse_rows: File,
    _alone: Alone,
}

impl Sqlite {
    /// The engine for the database `name` of the deed's run.
    #[must_use]
    pub fn new(name: &DatabaseName, deed: &Deed) -> Self {
        let name = format!("db-{name}");
        Self {
            changes: deed.changes(&name),
            inverse: deed.inverse(&name),
            spool: deed.run().to_owned(),
            name,
            open: None,
            conflicts: Vec::new(),
        }
    }

    /// What the last look found in the way, with the rows themselves.
    #[must_use]
    pub fn row_conflicts(&self) -> &[RowConflict] {
        &self.conflicts
    }

    /// Makes the change set at `changes` real in an open transaction.
    fn make(&mut self, changes: &Path) -> Result<Vec<Conflict>, EngineError> {
        let doing = format!("merge into the database `{}`", self.name);
        let failed = |error: MergeError| fail(&doing, error);
        self.open = None;
        let set = ChangeSet::load(changes).map_err(|error| failed(error.into()))?;
        let target = target(changes).map_err(|error| failed(MergeError::Write(error)))?;
        let (alone, connection) = begin(&target)?;
        let spool = spool(&self.spool).map_err(|error| failed(MergeError::Write(error)))?;
        let made: Made = merge::make(&connection, &set, spool).map_err(failed)?;
        let found = self.tell(made.conflicts);
        if found.is_empty() {
            self.open = Some(Open {
                connection,
                inverse: made.inverse,
                inverse_rows: made.inverse_rows,
                _alone: alone,
            });
        }
        Ok(found)
    }

    fn tell(&mut self, conflicts: Conflicts) -> Vec<Conflict> {
        self.conflicts = conflicts.told;
        let of = |conflict: &RowConflict| Conflict {
            engine: self.name.clone(),
            place: conflict.place(),
            reason: conflict.detail(),
        };
        let mut told: Vec<Conflict> = self.conflicts.iter().map(of).collect();
        if conflicts.untold > 0 {
            told.push(Conflict {
                engine: self.name.clone(),
                place: "the database".to_owned(),
                reason: format!("{} more conflicts", conflicts.untold),
            });
        }
        told
    }

    /// Stores the inverse of the open transaction.
    fn store(&mut self) -> Result<(), EngineError> {
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        let stored = store(&self.changes, &self.inverse, open);
        stored.map_err(|error| fail("store the inverse", MergeError::Write(error)))
    }

    fn commit(&mut self) -> Result<(), EngineError> {
        let Some(open) = self.open.take() else {
            return Ok(());
        };
        let committed = open.connection.execute_batch("COMMIT");
        committed.map_err(|error| fail("commit the merge", error.into()))
    }

    /// On which side of its commit the deed is, when its inverse was stored.
    fn side(&self) -> Result<Side, EngineError> {
        let failed = |error: MergeError| fail("see whether the merge was committed", error);
        let set = match ChangeSet::load(&self.inverse) {
            Err(LoadError::Missing(_)) => return Ok(Side::Before),
            other => other.map_err(|error| failed(error.into()))?,
        };
        let target = target(&self.inverse).map_err(|error| failed(MergeError::Write(error)))?;
        let (_alone, connection) = begin(&target)?;
        committed::side(&connection, &set).map_err(failed)
    }
}

impl Engine for Sqlite {
    fn name(&self) -> &str {
        &self.name
    }

    fn conflicts(&mut self) -> Result<Vec<Conflict>, EngineError> {
        let changes = self.changes.clone();
        self.make(&changes)
    }

    fn prepare(&mut self, steps: &mut Steps<'_>) -> Result<(), EngineError> {
        if self.open.is_none() {
            let found = self.conflicts()?;
            if !found.is_empty() {
                return Err(EngineError::Conflicts(found));
            }
        }
        steps.reached("the changes are in an open transaction")?;
        self.store()?;
        steps.reached("the inverse is stored")
    }

    fn apply(&mut self, steps: &mut Steps<'_>) -> Result<(), EngineError> {
        if self.open.is_none() {
            if self.side()? == Side::After {
                return Ok(());
            }
            self.prepare(steps)?;
        }
        self.commit()?;
        steps.reached("the changes are committed")
    }

    fn undo(&mut self, steps: &mut Steps<'_>) -> Result<(), EngineError> {
        if self.open.take().is_some() {
            return steps.reached("the transaction is rolled back");
        }
        if self.side()? == Side::Before {
            return Ok(());
        }
        let inverse = self.inverse.clone();
        let found = self.make(&inverse)?;
        if !found.is_empty() {
            return Err(EngineError::Conflicts(found));
        }
        steps.reached("the inverse is in an open transaction")?;
        self.commit()?;
        steps.reached("the inverse is committed")
    }

    fn finish(&mut self, _steps: &mut Steps<'_>) -> Result<Vec<String>, EngineError> {
        self.open = None;
        Ok(Vec::new())
    }
}

fn fail(doing: &str, error: MergeError) -> EngineError {
    match error {
        MergeError::Refused(refusal) => EngineError::Refused(refusal),
        error @ (MergeError::Sqlite(_) | MergeError::Load(_) | MergeError::Write(_)) => {
            EngineError::failed(doing, error.kind(), error)
        }
    }
}

/// The database that the change set in `directory` is about.
fn target(directory: &Path) -> io::Result<PathBuf> {
    let bytes = std::fs::read(directory.join(SOURCE))?;
    Ok(PathBuf::from(OsStr::from_bytes(&bytes)))
}

/// Opens the real database and takes its write lock.
fn begin(target: &Path) -> Result<(Alone, Connection), EngineError> {
    let doing = format!("open the database `{}`", target.display());
    let wait = Duration::from_millis(BUSY_MILLIS_MAX);
    let alone = Alone::with(target, wait).ok_or_else(|| {
        EngineError::failed(
            &*doing,
            Kind::Unavailable,
            "another merge or branch is at work on it",
        )
    })?;
    // Not opened to look at: closing it would drop the locks of this process on it.
    match std::fs::symlink_metadata(target) {
        Ok(metadata) if metadata.is_file() => {}
        Ok(_) => {
            return Err(EngineError::failed(
                doing,
                Kind::Invalid,
                "it is no regular file any more",
            ));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(EngineError::failed(doing, Kind::NotFound, error));
        }
        Err(error) => return Err(EngineError::failed(doing, Kind::Unavailable, error)),
    }
    match locked(target, wait) {
        Ok(connection) => Ok((alone, connection)),
        Err(error) => match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Err(EngineError::failed(
                format!(
                    "lock the database `{}` within {} s; try again when the program that writes \
                     to it has finished its transaction",
                    target.display(),
                    wait.as_secs()
                ),
                Kind::Unavailable,
                error,
            )),
            Some(_) | None => Err(fail(&doing, error.into())),
        },
    }
}

fn locked(target: &Path, wait: Duration) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(target, flags)?;
    connection.busy_timeout(wait)?;
    // What triggers and cascades did is in the change set already.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.execute_batch("PRAGMA cache_size = -65536; PRAGMA temp_store = MEMORY")?;
    connection.execute_batch("BEGIN IMMEDIATE")?;
    Ok(connection)
}

/// A file without a name for the inverse, until it is known that it will be kept.
fn spool(directory: &Path) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::open(directory, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => Ok(File::from(file)),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR) => {
            let path = directory.join("inverse.spool");
            let mut options = File::options();
            let file = options
                .read(true)
                .write(true)
                .create(true)
                .truncate(true)
                .open(&path)?;
            std::fs::remove_file(&path)?;
            Ok(file)
        }
        Err(error) => Err(error.into()),
    }
}

fn store(changes: &Path, inverse: &Path, open: &mut Open) -> io::Result<()> {
    std::fs::create_dir_all(inverse)?;
    std::fs::copy(changes.join(SOURCE), inverse.join(SOURCE))?;
    let mut rows = change_set::create_rows(inverse)?;
    open.inverse_rows.rewind()?;
    io::copy(&mut open.inverse_rows, &mut rows)?;
    File::open(inverse.join(SOURCE))?.sync_all()?;
    change_set::seal(inverse, &open.inverse, &rows)
}
