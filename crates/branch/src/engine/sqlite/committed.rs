//! Tells from the rows whether a merge whose process died had committed.

use rusqlite::{Connection, OptionalExtension};

use super::catalog;
use super::change_set::{ChangeSet, RowChange, SchemaAction, TableChanges};
use super::merge::MergeError;
use super::schema_merge::definition;
use super::statements::quoted;
use super::value::Value;

/// Row changes that are looked at.
const EVIDENCE_MAX: u64 = 1000;

/// The side of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Before,
    After,
}

/// How many things are on each side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    before: u64,
    after: u64,
}

impl Seen {
    const fn count(&mut self, is_after: Option<bool>) {
        match is_after {
            Some(true) => self.after += 1,
            Some(false) => self.before += 1,
            None => {}
        }
    }
}

/// Looks where the database is, given the inverse of a merge: each thing the inverse would change
/// is either as the merge made it, or as it was.
pub(crate) fn side(connection: &Connection, inverse: &ChangeSet) -> Result<Side, MergeError> {
    let mut seen = Seen::default();
    for change in &inverse.changes.schema {
        let now = |kind: &str, name: &str| definition(connection, kind, name);
        seen.count(match change.action {
            // The inverse drops what the merge created.
            SchemaAction::Drop => {
                Some(now(&change.kind, &change.name)?.as_ref() == Some(&change.sql))
            }
            SchemaAction::Create => {
                Some(now(&change.kind, &change.name)?.as_ref() != Some(&change.sql))
            }
            SchemaAction::AddColumn | SchemaAction::DropColumn => {
                let now = now("table", &change.table)?;
                if now == change.before {
                    Some(true)
                } else {
                    (now == change.after).then_some(false)
                }
            }
        });
    }
    for change in &inverse.changes.settings {
        let pragma = format!("PRAGMA {}", change.name);
        let now: i32 = connection.query_row(&pragma, (), |row| row.get(0))?;
        seen.count((now == change.before || now == change.after).then_some(now == change.before));
    }
    // A definition decides alone: rows cannot be told without their table.
    if seen == Seen::default() {
        for table in &inverse.changes.tables {
            for change in inverse
                .rows(table)?
                .take(usize::try_from(EVIDENCE_MAX).unwrap_or(0))
            {
                seen.count(row_side(connection, table, &change?)?);
            }
        }
    }
    match (seen.before, seen.after) {
        (0, 0) if inverse.changes.is_empty() => Ok(Side::After),
        (0, 0) => only_counters(connection, inverse),
        (0, _) => Ok(Side::After),
        (_, 0) => Ok(Side::Before),
        (_, _) => Err(MergeError::refused(
            "after a crash, others changed the merged rows so that it cannot be told whether the \
             merge took place"
                .to_owned(),
        )),
    }
}

fn only_counters(connection: &Connection, inverse: &ChangeSet) -> Result<Side, MergeError> {
    for change in &inverse.changes.sequences {
        let select = "SELECT seq FROM sqlite_sequence WHERE name = ?1";
        let now: Option<i64> = connection
            .query_row(select, [&change.table], |row| row.get(0))
            .optional()?;
        if now == change.before {
            return Ok(Side::After);
        }
    }
    Ok(Side::Before)
}

/// Whether the row is as the merge made it; `None` when it is neither that nor as it was.
fn row_side(
    connection: &Connection,
    changes: &TableChanges,
    change: &RowChange,
) -> Result<Option<bool>, MergeError> {
    let table = catalog::table_of(connection, &changes.name)?;
    let is_there = |row: &Option<Vec<Value>>, rowid: i64| -> Result<bool, MergeError> {
        let Some(row) = row else {
            return Ok(false);
        };
        let names = changes
            .columns
            .iter()
            .map(|name| format!("{} IS ?", quoted(name)));
        let mut terms: Vec<String> = names.collect();
        // The rowid finds a row that has no key; one that has is found by its columns.
        let place = match (&table.rowid_name, table.key_of(row)) {
            (Some(name), None) => Some(name),
            (_, _) => None,
        };
        terms.extend(place.map(|name| format!("{} = {rowid}", quoted(name))));
        let select = format!(
            "SELECT 1 FROM {} WHERE {}",
            quoted(&changes.name),
            terms.join(" AND ")
        );
        let mut statement = connection.prepare_cached(&select)?;
        Ok(statement.exists(rusqlite::params_from_iter(row))?)
    };
    let made = is_there(&change.old, change.rowid)?;
    let was = is_there(&change.new, change.new_rowid)?;
    let gone = !made && !was;
    Ok(match (&change.old, &change.new) {
        (Some(_), Some(_)) => (!gone && made != was).then_some(made),
        (Some(_), None) => Some(made),
        (None, Some(_)) => Some(!was),
        (None, None) => None,
    })
}
