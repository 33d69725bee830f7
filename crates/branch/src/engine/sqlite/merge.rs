//! Makes a whole change set real inside one transaction, and writes its inverse as it goes.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;

use belljar_base::{HasKind, Kind, Refusal};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OptionalExtension};

use super::catalog;
use super::change_set::{ChangeSet, DatabaseChanges, LoadError, TableChanges, Writer};
use super::compare::Digest;
use super::conflict::{Conflicts, RowConflict};
use super::foreign;
use super::regular;
use super::schema_merge::{self, Phase, definition};
use super::statements::quoted;
use super::table_merge::TableMerge;
use super::value::Value;

/// Why a change set could not be made real, conflicts aside.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// SQLite failed.
    #[error("the database does not take the changes")]
    Sqlite(#[from] rusqlite::Error),
    /// The change set cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The inverse cannot be written.
    #[error("could not write the inverse")]
    Write(#[source] io::Error),
    /// It cannot be done without losing something.
    #[error("{0}")]
    Refused(Refusal),
}

impl MergeError {
    pub(crate) fn refused(reason: String) -> Self {
        let remedy = "discard the run, or make the change by hand";
        Self::Refused(Refusal::new("branch.sqlite", reason, remedy))
    }
}

impl HasKind for MergeError {
    fn kind(&self) -> Kind {
        let by_io = |error: &io::Error| regular::kind(error);
        match self {
            Self::Sqlite(error) => match error.sqlite_error_code() {
                Some(ErrorCode::DiskFull) => Kind::Exhausted,
                Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => Kind::Invalid,
                Some(_) | None => Kind::Unavailable,
            },
            Self::Load(LoadError::Missing(_)) => Kind::NotFound,
            Self::Load(LoadError::Damaged(_)) => Kind::Bug,
            Self::Load(LoadError::Io(error)) | Self::Write(error) => by_io(error),
            Self::Refused(_) => Kind::Denied,
        }
    }
}

/// What making a change set real led to; nothing is committed yet.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) conflicts: Conflicts,
    pub(crate) inverse: DatabaseChanges,
    pub(crate) inverse_rows: File,
}

/// Makes `set` real inside the transaction that is open on `connection`; the rows of the inverse
/// go to `spool`.
pub(crate) fn make(
    connection: &Connection,
    set: &ChangeSet,
    spool: File,
) -> Result<Made, MergeError> {
    let changes = &set.changes;
    if let Some(reason) = &changes.unreadable {
        return Err(MergeError::refused(format!(
            "there is nothing to merge: {reason}"
        )));
    }
    let mut writer = Writer::new(spool).map_err(MergeError::Write)?;
    let mut conflicts = Conflicts::default();
    schema_merge::vet(changes)?;
    check_definitions(connection, changes, &mut conflicts)?;
    check_shadows(connection, changes, &mut writer, &mut conflicts)?;
    let earlier = counters(connection, changes)?;
    if conflicts.is_empty() {
        phases(connection, set, &mut writer, &mut conflicts)?;
    }
    if conflicts.is_empty() {
        foreign::check(connection, set, &mut conflicts)?;
        sequences(connection, changes, &earlier, &mut writer)?;
        settings(connection, changes, &mut writer, &mut conflicts)?;
    }
    let (inverse, inverse_rows) = writer.finish().map_err(MergeError::Write)?;
    Ok(Made {
        conflicts,
        inverse,
        inverse_rows,
    })
}

fn phases(
    connection: &Connection,
    set: &ChangeSet,
    writer: &mut Writer,
    conflicts: &mut Conflicts,
) -> Result<(), MergeError> {
    let changes = &set.changes;
    let schema = |phase, writer: &mut Writer, conflicts: &mut Conflicts| {
        schema_merge::run(connection, changes, phase, writer, conflicts)
    };
    schema(Phase::DropParts, writer, conflicts)?;
    for table in changes.tables.iter().filter(|table| table.after.is_none()) {
        rows(connection, set, table, writer, conflicts)?;
    }
    schema(Phase::DropTables, writer, conflicts)?;
    schema(Phase::CreateTables, writer, conflicts)?;
    schema(Phase::AddColumns, writer, conflicts)?;
    if !conflicts.is_empty() {
        return Ok(());
    }
    for table in changes.tables.iter().filter(|table| table.after.is_some()) {
        rows(connection, set, table, writer, conflicts)?;
    }
    schema(Phase::DropColumns, writer, conflicts)?;
    schema(Phase::CreateIndexes, writer, conflicts)?;
    schema(Phase::CreateViews, writer, conflicts)?;
    schema(Phase::CreateTriggers, writer, conflicts)
}

fn rows(
    connection: &Connection,
    set: &ChangeSet,
    table: &TableChanges,
    writer: &mut Writer,
    conflicts: &mut Conflicts,
) -> Result<(), MergeError> {
    if table.after.is_none() && definition(connection, "table", &table.name)?.is_none() {
        return Ok(());
    }
    let mut inverse = table.clone();
    (inverse.before, inverse.after) = (table.after.clone(), table.before.clone());
    writer.begin(inverse);
    let mut merge = TableMerge::new(connection, table)?;
    // The parts of a virtual table go with it; without them it could not even be dropped.
    if table.shadow && table.after.is_none() {
        merge.expect_all(set, writer, conflicts)?;
    } else {
        merge.run(set, writer, conflicts)?;
    }
    drop(merge);
    writer.end();
    Ok(())
}

/// Tables whose rows change must be defined as they were, or already as they should be.
fn check_definitions(
    connection: &Connection,
    changes: &DatabaseChanges,
    conflicts: &mut Conflicts,
) -> Result<(), MergeError> {
    for table in &changes.tables {
        let now = definition(connection, "table", &table.name)?;
        // Those that come are looked at when they are created.
        let fits = table.before.is_none() || now == table.before || now == table.after;
        if !fits {
            let reason = match now {
                None => "the table was dropped",
                Some(_) => "the table was redefined",
            };
            conflicts.push(RowConflict::of(&table.name, reason));
        }
    }
    Ok(())
}

/// The parts of a virtual table mean something only together: nobody else may have touched any.
fn check_shadows(
    connection: &Connection,
    changes: &DatabaseChanges,
    writer: &mut Writer,
    conflicts: &mut Conflicts,
) -> Result<(), MergeError> {
    let mut told = BTreeSet::new();
    for shadow in &changes.shadows {
        let now = match definition(connection, "table", &shadow.shadow)? {
            Some(_) => digest(connection, &shadow.shadow)?,
            None => String::new(),
        };
        let touched = now != shadow.before && now != shadow.after;
        if touched && told.insert(&shadow.table) {
            let reason = "the virtual table was changed; its index cannot be merged with another";
            conflicts.push(RowConflict::of(&shadow.table, reason));
        }
        let mut flipped = shadow.clone();
        std::mem::swap(&mut flipped.before, &mut flipped.after);
        writer.changes.shadows.push(flipped);
    }
    Ok(())
}

fn digest(connection: &Connection, name: &str) -> Result<String, MergeError> {
    let table = catalog::table_of(connection, name)?;
    let columns: Vec<String> = table
        .columns
        .iter()
        .map(|column| quoted(&column.name))
        .collect();
    let rowid = table
        .rowid_name
        .as_deref()
        .map_or_else(|| "0".to_owned(), quoted);
    let select = format!(
        "SELECT {rowid}, {} FROM {}",
        columns.join(", "),
        quoted(name)
    );
    let mut statement = connection.prepare(&select)?;
    let mut rows = statement.query(())?;
    let mut digest = Digest::default();
    while let Some(row) = rows.next()? {
        let values: rusqlite::Result<Vec<Value>> = (1..=columns.len())
            .map(|column| row.get_ref(column).map(Value::from))
            .collect();
        let rowid = match row.get_ref(0)? {
            ValueRef::Integer(rowid) => rowid,
            ValueRef::Null | ValueRef::Real(_) | ValueRef::Text(_) | ValueRef::Blob(_) => 0,
        };
        digest.add(rowid, &values?);
    }
    Ok(digest.finish())
}

/// The AUTOINCREMENT counters that a change set is about, as they are now.
fn counters(
    connection: &Connection,
    changes: &DatabaseChanges,
) -> Result<Vec<Option<i64>>, MergeError> {
    if definition(connection, "table", "sqlite_sequence")?.is_none() {
        return Ok(vec![None; changes.sequences.len()]);
    }
    let mut select = connection.prepare("SELECT seq FROM sqlite_sequence WHERE name = ?1")?;
    let counters = changes.sequences.iter().map(|change| {
        select
            .query_row([&change.table], |row| row.get(0))
            .optional()
    });
    Ok(counters.collect::<rusqlite::Result<_>>()?)
}

/// Sets AUTOINCREMENT counters: exactly where nobody else moved one since, otherwise to the
/// larger number, so that none is given out twice.
fn sequences(
    connection: &Connection,
    changes: &DatabaseChanges,
    earlier: &[Option<i64>],
    writer: &mut Writer,
) -> Result<(), MergeError> {
    let now = counters(connection, changes)?;
    for ((change, earlier), now) in changes.sequences.iter().zip(earlier).zip(now) {
        let untouched = *earlier == change.before;
        if untouched {
            let mut flipped = change.clone();
            std::mem::swap(&mut flipped.before, &mut flipped.after);
            writer.changes.sequences.push(flipped);
        }
        let next = if untouched {
            change.after
        } else {
            now.max(change.after)
        };
        if next == now || definition(connection, "table", &change.table)?.is_none() {
            continue;
        }
        connection.execute(
            "DELETE FROM sqlite_sequence WHERE name = ?1",
            [&change.table],
        )?;
        if let Some(next) = next {
            let insert = "INSERT INTO sqlite_sequence (name, seq) VALUES (?1, ?2)";
            connection.execute(insert, (&change.table, next))?;
        }
    }
    Ok(())
}

fn settings(
    connection: &Connection,
    changes: &DatabaseChanges,
    writer: &mut Writer,
    conflicts: &mut Conflicts,
) -> Result<(), MergeError> {
    for change in &changes.settings {
        if !matches!(change.name.as_str(), "user_version" | "application_id") {
            return Err(MergeError::refused(format!(
                "an unknown setting `{}`",
                change.name
            )));
        }
        let now: i32 =
            connection.query_row(&format!("PRAGMA {}", change.name), (), |row| row.get(0))?;
        if now == change.before {
            connection.execute_batch(&format!("PRAGMA {} = {}", change.name, change.after))?;
            let mut flipped = change.clone();
            std::mem::swap(&mut flipped.before, &mut flipped.after);
            writer.changes.settings.push(flipped);
        } else if now != change.after {
            let reason = format!(
                "`{}` was {}, is now {now}, and {} is proposed",
                change.name, change.before, change.after
            );
            conflicts.push(RowConflict::of("", reason));
        }
    }
    Ok(())
}
