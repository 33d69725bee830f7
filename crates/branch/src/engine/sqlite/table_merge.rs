//! Makes the row changes of one table real: each row must still be as it was, or already be as it
//! should become; everything else is a conflict.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, ErrorCode, OptionalExtension, Statement};

use super::catalog::{self, Table};
use super::change_set::{ChangeSet, RowChange, TableChanges, Writer};
use super::conflict::{Conflicts, RowConflict, row_text};
use super::merge::MergeError;
use super::render;
use super::statements::{Sql, quoted};
use super::value::Value;

/// Prepared updates kept, one for each set of columns.
const UPDATES_MAX: usize = 64;

/// A row of the current file.
enum Current {
    Missing,
    /// As the change expects, at this rowid.
    Old(i64),
    /// Already as the change would make it.
    New,
    Other(Vec<Value>),
}

/// Merges one table.
pub(crate) struct TableMerge<'c> {
    connection: &'c Connection,
    changes: &'c TableChanges,
    table: Table,
    by_key: Option<Statement<'c>>,
    by_rowid: Option<Statement<'c>>,
    delete: Statement<'c>,
    insert: Statement<'c>,
    /// Insert that names the rowid, where that is not a column anyway.
    insert_at: Option<Statement<'c>>,
    taken: Option<Statement<'c>>,
    updates: BTreeMap<Vec<usize>, Statement<'c>>,
    /// Columns of unique indexes other than the key: changing them in place could collide with a
    /// row that is changed later, so such rows are taken out first and put back after.
    unique: BTreeSet<usize>,
    /// Changes that need nothing more: conflicts, and what is already so.
    done: BTreeSet<u64>,
}

impl<'c> TableMerge<'c> {
    pub(crate) fn new(
        connection: &'c Connection,
        changes: &'c TableChanges,
    ) -> Result<Self, MergeError> {
        let table = catalog::table_of(connection, &changes.name)?;
        let names: Vec<&String> = table.columns.iter().map(|column| &column.name).collect();
        if !names.iter().copied().eq(&changes.columns) {
            return Err(MergeError::refused(format!(
                "the columns of `{}` are not those of the change set",
                changes.name
            )));
        }
        let has_key = !table.key.is_empty();
        if !has_key && table.rowid_name.is_none() {
            return Err(MergeError::refused(format!(
                "the rows of `{}` cannot be told apart: it has no primary key, and its columns \
                 hide the rowid",
                changes.name
            )));
        }
        let sql = Sql::of(&table);
        let prepare = |sql: Option<String>| sql.map(|sql| connection.prepare(&sql)).transpose();
        let Some(delete) = prepare(sql.delete())? else {
            return Err(MergeError::refused(
                "a table without key or rowid".to_owned(),
            ));
        };
        Ok(Self {
            connection,
            changes,
            by_key: prepare(sql.find_by_key())?,
            by_rowid: prepare(sql.find_by_rowid())?,
            delete,
            insert: connection.prepare(&sql.insert(false))?,
            insert_at: match table.rowid_alias {
                None if sql.rowid.is_some() => Some(connection.prepare(&sql.insert(true))?),
                None | Some(_) => None,
            },
            taken: prepare(sql.taken())?,
            updates: BTreeMap::new(),
            unique: unique_columns(connection, &table)?,
            done: BTreeSet::new(),
            table,
        })
    }

    /// Two passes over the rows: take out and change in place, then put in.
    pub(crate) fn run(
        &mut self,
        set: &ChangeSet,
        inverse: &mut Writer,
        conflicts: &mut Conflicts,
    ) -> Result<(), MergeError> {
        for (ordinal, change) in (0_u64..).zip(set.rows(self.changes)?) {
            let change = change?;
            if change.old.is_some() {
                self.take_out(ordinal, change, inverse, conflicts)?;
            }
        }
        for (ordinal, change) in (0_u64..).zip(set.rows(self.changes)?) {
            let change = change?;
            if change.new.is_some() && !self.done.contains(&ordinal) && !self.in_place(&change) {
                self.put_in(change, inverse, conflicts)?;
            }
        }
        Ok(())
    }

    /// Every row as it is said to be before, and no other; nothing is changed.
    pub(crate) fn expect_all(
        &mut self,
        set: &ChangeSet,
        inverse: &mut Writer,
        conflicts: &mut Conflicts,
    ) -> Result<(), MergeError> {
        for change in set.rows(self.changes)? {
            let change = change?;
            match self.current(&change, change.old.as_deref())? {
                Current::Old(_) => inverse.row(&change.flipped()).map_err(MergeError::Write)?,
                Current::Missing | Current::New | Current::Other(_) => {
                    conflicts.push(self.conflict(&change, "the row was changed", None));
                }
            }
        }
        Ok(())
    }

    fn in_place(&self, change: &RowChange) -> bool {
        let (Some(old), Some(new)) = (&change.old, &change.new) else {
            return false;
        };
        let mut pairs = old.iter().zip(new).enumerate();
        change.rowid == change.new_rowid
            && !pairs.any(|(column, (old, new))| old != new && self.unique.contains(&column))
    }

    fn take_out(
        &mut self,
        ordinal: u64,
        change: RowChange,
        inverse: &mut Writer,
        conflicts: &mut Conflicts,
    ) -> Result<(), MergeError> {
        let reason = match self.current(&change, change.old.as_deref())? {
            Current::Old(rowid) => {
                let in_place = self.in_place(&change);
                if in_place {
                    if let Err(reason) = self.update(rowid, &change)? {
                        conflicts.push(self.conflict(&change, &reason, None));
                    }
                } else {
                    self.delete(rowid, change.old.as_deref().unwrap_or_default())?;
                }
                if in_place || change.new.is_none() {
                    let mut made = change.flipped();
                    (made.rowid, made.new_rowid) = (rowid, rowid);
                    inverse.row(&made).map_err(MergeError::Write)?;
                }
                return Ok(());
            }
            Current::New => None,
            Current::Missing if change.new.is_none() => None,
            Current::Missing => Some(("the row was deleted", None)),
            Current::Other(current) => Some(("the row was changed", Some(current))),
        };
        self.done.insert(ordinal);
        if let Some((reason, current)) = reason {
            conflicts.push(self.conflict(&change, reason, current.as_deref()));
        }
        Ok(())
    }

    fn put_in(
        &mut self,
        change: RowChange,
        inverse: &mut Writer,
        conflicts: &mut Conflicts,
    ) -> Result<(), MergeError> {
        let named = self.names_row(&change);
        if named {
            match self.current(&change, change.new.as_deref())? {
                Current::Missing => {}
                Current::Old(_) | Current::New => return Ok(()),
                Current::Other(current) => {
                    let reason = "another row has this key";
                    conflicts.push(self.conflict(&change, reason, Some(&current)));
                    return Ok(());
                }
            }
        }
        let new = change.new.as_deref().unwrap_or_default();
        let at = match (&mut self.insert_at, &mut self.taken) {
            (Some(_), Some(taken)) => {
                (!taken.exists([change.new_rowid])?).then_some(change.new_rowid)
            }
            (_, _) => None,
        };
        let inserted = match (at, &mut self.insert_at) {
            (Some(rowid), Some(insert)) => execute(insert, new, Some(rowid)),
            (_, _) => execute(&mut self.insert, new, None),
        }?;
        if let Err(reason) = inserted {
            conflicts.push(self.conflict(&change, &reason, None));
            return Ok(());
        }
        let mut made = change.flipped();
        if !self.table.without_rowid {
            let before = made.new_rowid;
            made.rowid = self.connection.last_insert_rowid();
            made.new_rowid = if made.new.is_some() {
                before
            } else {
                made.rowid
            };
        }
        inverse.row(&made).map_err(MergeError::Write)
    }

    /// Whether the change itself says which row it is about, rather than only where it was.
    fn names_row(&self, change: &RowChange) -> bool {
        let row = change
            .new
            .as_deref()
            .or(change.old.as_deref())
            .unwrap_or_default();
        self.table.rowid_alias.is_some() || self.table.key_of(row).is_some()
    }

    /// What is now at the place of `row`, which is the old or the new row of `change`.
    fn current(
        &mut self,
        change: &RowChange,
        row: Option<&[Value]>,
    ) -> Result<Current, MergeError> {
        let row = row.unwrap_or_default();
        let key = self.table.key_of(row);
        let mut rows = match (key, &mut self.by_key, &mut self.by_rowid) {
            (Some(key), Some(find), _) => {
                for (index, value) in (1..).zip(key) {
                    find.raw_bind_parameter::<usize, _>(index, value)?;
                }
                find.raw_query()
            }
            (_, _, Some(find)) => {
                let alias = self.table.rowid_alias.and_then(|column| row.get(column));
                match alias {
                    Some(alias) => find.raw_bind_parameter(1, alias)?,
                    None => find.raw_bind_parameter(1, change.rowid)?,
                }
                find.raw_query()
            }
            (_, _, None) => return Err(MergeError::refused("a row that nothing names".to_owned())),
        };
        let Some(found) = rows.next()? else {
            return Ok(Current::Missing);
        };
        let is = |row: &[Value]| -> rusqlite::Result<bool> {
            for (column, value) in (1..).zip(row) {
                if !value.is(found.get_ref::<usize>(column)?) {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        if is(row)? {
            return Ok(Current::Old(found.get(0)?));
        }
        if change.new.as_deref().map(is).transpose()? == Some(true) {
            return Ok(Current::New);
        }
        let columns = 1..=self.table.columns.len();
        let current: rusqlite::Result<_> = columns
            .map(|column| found.get_ref(column).map(Value::from))
            .collect();
        Ok(Current::Other(current?))
    }

    fn delete(&mut self, rowid: i64, row: &[Value]) -> Result<(), MergeError> {
        if self.by_rowid.is_some() {
            self.delete.raw_bind_parameter(1, rowid)?;
        } else {
            for (index, value) in (1..).zip(self.table.key_of(row).unwrap_or_default()) {
                self.delete.raw_bind_parameter::<usize, _>(index, value)?;
            }
        }
        self.delete.raw_execute()?;
        Ok(())
    }

    /// Sets only the columns that change, so that only their indexes are touched.
    fn update(&mut self, rowid: i64, change: &RowChange) -> Result<Result<(), String>, MergeError> {
        let old = change.old.as_deref().unwrap_or_default();
        let new = change.new.as_deref().unwrap_or_default();
        let differs = |column: &usize| old.get(*column) != new.get(*column);
        let columns: Vec<usize> = (0..new.len()).filter(differs).collect();
        if !self.updates.contains_key(&columns) {
            if self.updates.len() >= UPDATES_MAX {
                self.updates.clear();
            }
            let sql = Sql::of(&self.table).update(&columns);
            self.updates
                .insert(columns.clone(), self.connection.prepare(&sql)?);
        }
        let Some(update) = self.updates.get_mut(&columns) else {
            return Ok(Ok(()));
        };
        let mut index = 1;
        for value in columns.iter().filter_map(|column| new.get(*column)) {
            update.raw_bind_parameter::<usize, _>(index, value)?;
            index += 1;
        }
        if self.by_rowid.is_some() {
            update.raw_bind_parameter(index, rowid)?;
        } else {
            for value in self.table.key_of(old).unwrap_or_default() {
                update.raw_bind_parameter(index, value)?;
                index += 1;
            }
        }
        let done = update.raw_execute();
        constraint(done.map(|_| ()))
    }

    fn conflict(&self, change: &RowChange, reason: &str, current: Option<&[Value]>) -> RowConflict {
        let of = |row: &[Value]| row_text(&self.changes.columns, row);
        RowConflict {
            table: self.changes.name.clone(),
            key: render::key_text(self.changes, change),
            reason: reason.to_owned(),
            base: change.old.as_deref().map(of),
            current: current.map(of),
            proposed: change.new.as_deref().map(of),
        }
    }
}

fn execute(
    insert: &mut Statement<'_>,
    row: &[Value],
    rowid: Option<i64>,
) -> Result<Result<(), String>, MergeError> {
    let mut index = 1;
    if let Some(rowid) = rowid {
        insert.raw_bind_parameter(index, rowid)?;
        index += 1;
    }
    for value in row {
        insert.raw_bind_parameter::<usize, _>(index, value)?;
        index += 1;
    }
    let done = insert.raw_execute();
    constraint(done.map(|_| ()))
}

/// A constraint that refuses a row is a conflict; anything else is a failure.
fn constraint(done: rusqlite::Result<()>) -> Result<Result<(), String>, MergeError> {
    match done {
        Ok(()) => Ok(Ok(())),
        Err(error) => match error.sqlite_error_code() {
            Some(ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch) => {
                Ok(Err(format!("the database refuses the row: {error}")))
            }
            Some(_) | None => Err(error.into()),
        },
    }
}

/// The columns of the unique indexes other than the primary key; all columns when one of them is
/// on an expression.
fn unique_columns(connection: &Connection, table: &Table) -> Result<BTreeSet<usize>, MergeError> {
    let mut unique = BTreeSet::new();
    let mut statement = connection.prepare(
        "SELECT c.cid, c.name FROM pragma_index_list(?1) AS i, pragma_index_xinfo(i.name) AS c
         WHERE i.\"unique\" AND i.origin <> 'pk' AND c.key",
    )?;
    let mut rows = statement.query([&table.name])?;
    while let Some(row) = rows.next()? {
        let name: Option<String> = row.get(1)?;
        let column = table
            .columns
            .iter()
            .position(|column| Some(&column.name) == name.as_ref());
        match column {
            Some(column) => {
                unique.insert(column);
            }
            // An expression, or a generated column: any column may be part of it.
            None => unique.extend(0..table.columns.len()),
        }
    }
    Ok(unique)
}

/// Whether the table has a row.
pub(crate) fn has_rows(connection: &Connection, name: &str) -> rusqlite::Result<bool> {
    let select = format!("SELECT 1 FROM {} LIMIT 1", quoted(name));
    Ok(connection
        .query_row(&select, (), |_| Ok(()))
        .optional()?
        .is_some())
}
