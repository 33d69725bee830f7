//! Makes schema changes real: a definition must still be as it was, or already be as it should be.

use rusqlite::{Connection, OptionalExtension};

use super::catalog::Scratch;
use super::change_set::{DatabaseChanges, SchemaAction, SchemaChange, Writer};
use super::conflict::{Conflicts, RowConflict};
use super::merge::MergeError;
use super::statements::quoted;
use super::table_merge::has_rows;

/// The moment of a merge at which a schema change happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Before any row: what stands in the way of rows goes.
    DropParts,
    /// After the rows of dropped tables are out.
    DropTables,
    /// Before the rows of other tables.
    CreateTables,
    AddColumns,
    /// After all rows.
    DropColumns,
    CreateIndexes,
    CreateViews,
    CreateTriggers,
}

impl Phase {
    fn of(change: &SchemaChange) -> Self {
        match (change.action, change.kind.as_str()) {
            (SchemaAction::Drop, "table") => Self::DropTables,
            (SchemaAction::Drop, _) => Self::DropParts,
            (SchemaAction::Create, "table") => Self::CreateTables,
            (SchemaAction::Create, "index") => Self::CreateIndexes,
            (SchemaAction::Create, "view") => Self::CreateViews,
            (SchemaAction::Create, _) => Self::CreateTriggers,
            (SchemaAction::AddColumn, _) => Self::AddColumns,
            (SchemaAction::DropColumn, _) => Self::DropColumns,
        }
    }
}

/// Makes the schema changes of one phase real.
pub(crate) fn run(
    connection: &Connection,
    changes: &DatabaseChanges,
    phase: Phase,
    inverse: &mut Writer,
    conflicts: &mut Conflicts,
) -> Result<(), MergeError> {
    for change in changes
        .schema
        .iter()
        .filter(|change| Phase::of(change) == phase)
    {
        let outcome = match change.action {
            SchemaAction::Create => create(connection, changes, change)?,
            SchemaAction::Drop => drop_one(connection, change)?,
            SchemaAction::AddColumn | SchemaAction::DropColumn => column(connection, change)?,
        };
        match outcome {
            Outcome::Made => inverse.changes.schema.insert(0, change.flipped()),
            Outcome::Already => {}
            Outcome::Conflict(reason) => conflicts.push(RowConflict::of(&change.name, reason)),
        }
    }
    Ok(())
}

enum Outcome {
    Made,
    Already,
    Conflict(String),
}

/// The current definition.
pub(crate) fn definition(
    connection: &Connection,
    kind: &str,
    name: &str,
) -> rusqlite::Result<Option<String>> {
    let select = "SELECT sql FROM main.sqlite_schema WHERE type = ?1 AND name = ?2";
    let mut statement = connection.prepare_cached(select)?;
    let sql: Option<Option<String>> = statement
        .query_row([kind, name], |row| row.get(0))
        .optional()?;
    Ok(sql.flatten())
}

fn create(
    connection: &Connection,
    changes: &DatabaseChanges,
    change: &SchemaChange,
) -> Result<Outcome, MergeError> {
    match definition(connection, &change.kind, &change.name)? {
        Some(sql) if sql == change.sql => return Ok(Outcome::Already),
        Some(_) => {
            let reason = format!(
                "a {} of this name exists with another definition",
                change.kind
            );
            return Ok(Outcome::Conflict(reason));
        }
        None => {}
    }
    // The statement comes from the run: it was tried in an empty database when the change set was
    // made, and had to arrive at its own text, so it creates this one thing and reads nothing.
    if let Err(error) = connection.execute(&change.sql, ()) {
        return Ok(Outcome::Conflict(format!("it cannot be created: {error}")));
    }
    if definition(connection, &change.kind, &change.name)?.as_deref() != Some(&change.sql) {
        return Err(MergeError::refused(format!(
            "`{}` is not what it says",
            change.name
        )));
    }
    // A virtual table begins with parts of its own making; those of the change set replace them.
    let prefix = format!("{}_", change.name);
    let parts = changes.tables.iter().filter(|table| {
        change.kind == "table"
            && table.shadow
            && table.before.is_none()
            && table.name.starts_with(&prefix)
    });
    for part in parts {
        if definition(connection, "table", &part.name)? != part.after {
            return Err(MergeError::refused(format!(
                "the virtual table `{}` would get other parts than the run's SQLite made",
                change.name
            )));
        }
    }
    if is_virtual(&change.sql) {
        let names: Vec<String> = connection
            .prepare(
                "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'shadow'",
            )?
            .query_map((), |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        for name in names.iter().filter(|name| name.starts_with(&prefix)) {
            connection.execute(&format!("DELETE FROM {}", quoted(name)), ())?;
        }
    }
    Ok(Outcome::Made)
}

fn is_virtual(sql: &str) -> bool {
    sql.get(..14)
        .is_some_and(|head| head.eq_ignore_ascii_case("CREATE VIRTUAL"))
}

fn drop_one(connection: &Connection, change: &SchemaChange) -> Result<Outcome, MergeError> {
    match definition(connection, &change.kind, &change.name)? {
        None => return Ok(Outcome::Already),
        Some(sql) if sql != change.sql => {
            return Ok(Outcome::Conflict(format!(
                "the {} was redefined",
                change.kind
            )));
        }
        Some(_) => {}
    }
    if change.kind == "table" {
        if !is_virtual(&change.sql) && has_rows(connection, &change.name)? {
            return Ok(Outcome::Conflict(
                "the table to drop has rows that were added".into(),
            ));
        }
        let select = "SELECT type || ' ' || name FROM main.sqlite_schema \
                      WHERE tbl_name = ?1 AND name <> ?1 AND sql IS NOT NULL LIMIT 1";
        let part: Option<String> = connection
            .query_row(select, [&change.name], |row| row.get(0))
            .optional()?;
        if let Some(part) = part {
            return Ok(Outcome::Conflict(format!(
                "the table to drop got the {part}"
            )));
        }
    }
    let sql = format!("DROP {} {}", change.kind, quoted(&change.name));
    match connection.execute(&sql, ()) {
        Ok(_) => Ok(Outcome::Made),
        Err(error) => Ok(Outcome::Conflict(format!("it cannot be dropped: {error}"))),
    }
}

fn column(connection: &Connection, change: &SchemaChange) -> Result<Outcome, MergeError> {
    let now = definition(connection, "table", &change.table)?;
    if now.is_some() && now == change.after {
        return Ok(Outcome::Already);
    }
    if now != change.before {
        return Ok(Outcome::Conflict(format!(
            "the table `{}` was redefined",
            change.table
        )));
    }
    let (table, name) = (quoted(&change.table), quoted(&change.name));
    let sql = if change.action == SchemaAction::AddColumn {
        format!("ALTER TABLE {table} ADD COLUMN {}", change.sql)
    } else {
        let select = "SELECT dflt_value FROM pragma_table_xinfo(?1) WHERE name = ?2";
        let default: Option<String> =
            connection.query_row(select, [&change.table, &change.name], |row| row.get(0))?;
        let default = default.unwrap_or_else(|| "NULL".to_owned());
        let select = format!("SELECT 1 FROM {table} WHERE {name} IS NOT ({default}) LIMIT 1");
        let used = connection
            .query_row(&select, (), |_| Ok(()))
            .optional()?
            .is_some();
        if used && !is_generated(connection, change)? {
            return Ok(Outcome::Conflict(format!(
                "the column `{}` to drop has values that were set since",
                change.name
            )));
        }
        format!("ALTER TABLE {table} DROP COLUMN {name}")
    };
    if let Err(error) = connection.execute_batch(&sql) {
        return Ok(Outcome::Conflict(format!(
            "the column cannot be changed: {error}"
        )));
    }
    if definition(connection, "table", &change.table)? == change.after {
        Ok(Outcome::Made)
    } else {
        Err(MergeError::refused(format!(
            "`{}` is not what it says",
            change.table
        )))
    }
}

fn is_generated(connection: &Connection, change: &SchemaChange) -> rusqlite::Result<bool> {
    let select = "SELECT hidden FROM pragma_table_xinfo(?1) WHERE name = ?2";
    let hidden: i64 =
        connection.query_row(select, [&change.table, &change.name], |row| row.get(0))?;
    Ok(hidden != 0)
}

/// Checks that a column definition taken from a change set adds that column and does nothing else.
pub(crate) fn vet(changes: &DatabaseChanges) -> Result<(), MergeError> {
    let columns = changes
        .schema
        .iter()
        .filter(|change| change.action == SchemaAction::AddColumn);
    for change in columns {
        let scratch = Scratch::new().map_err(|error| MergeError::refused(error.to_string()))?;
        let before = change.before.as_deref().unwrap_or_default();
        let sql = format!(
            "ALTER TABLE {} ADD COLUMN {}",
            quoted(&change.table),
            change.sql
        );
        let made = scratch.altered(before, &change.table).is_some()
            && scratch.altered(&sql, &change.table) == change.after;
        if !made {
            return Err(MergeError::refused(format!(
                "the new column `{}` of `{}` is not what it says",
                change.name, change.table
            )));
        }
    }
    Ok(())
}
