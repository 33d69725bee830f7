//! Checks foreign keys where rows changed, and only there: what was already broken is not ours.

use std::collections::BTreeMap;

use rusqlite::{Connection, Statement};

use super::catalog::{self, Table};
use super::change_set::{ChangeSet, TableChanges};
use super::conflict::{Conflicts, RowConflict};
use super::merge::MergeError;
use super::render;
use super::schema_merge::definition;
use super::statements::quoted;
use super::value::Value;

/// One foreign key: columns of a child that name a row of a parent.
#[derive(Clone, Debug)]
struct ForeignKey {
    child: String,
    parent: String,
    from: Vec<String>,
    to: Vec<String>,
}

/// Checks every foreign key that the changed rows are part of.
pub(crate) fn check(
    connection: &Connection,
    set: &ChangeSet,
    conflicts: &mut Conflicts,
) -> Result<(), MergeError> {
    let keys = all(connection)?;
    if keys.is_empty() {
        return Ok(());
    }
    for changes in &set.changes.tables {
        for key in &keys {
            if changes.after.is_some() && key.child.eq_ignore_ascii_case(&changes.name) {
                parents_exist(connection, set, changes, key, conflicts)?;
            }
            if key.parent.eq_ignore_ascii_case(&changes.name) {
                no_orphans(connection, set, changes, key, conflicts)?;
            }
        }
    }
    Ok(())
}

/// Every foreign key of the schema.
fn all(connection: &Connection) -> Result<Vec<ForeignKey>, MergeError> {
    let mut statement = connection.prepare(
        "SELECT t.name, f.id, f.\"table\", f.\"from\", f.\"to\"
         FROM pragma_table_list AS t, pragma_foreign_key_list(t.name) AS f
         WHERE t.schema = 'main' AND t.type = 'table' ORDER BY t.name, f.id, f.seq",
    )?;
    let mut found: BTreeMap<(String, i64), ForeignKey> = BTreeMap::new();
    let mut rows = statement.query(())?;
    while let Some(row) = rows.next()? {
        let (child, id): (String, i64) = (row.get(0)?, row.get(1)?);
        let parent: String = row.get(2)?;
        let key = found
            .entry((child.clone(), id))
            .or_insert_with(|| ForeignKey {
                child,
                parent,
                from: Vec::new(),
                to: Vec::new(),
            });
        key.from.push(row.get(3)?);
        key.to.extend(row.get::<_, Option<String>>(4)?);
    }
    let mut keys = Vec::new();
    for mut key in found.into_values() {
        if key.to.is_empty() && definition(connection, "table", &key.parent)?.is_some() {
            // Without columns it is the parent's primary key.
            let table = catalog::table_of(connection, &key.parent)?;
            let primary = match table.rowid_alias {
                Some(alias) => vec![alias],
                None => table.key.clone(),
            };
            let names = primary
                .iter()
                .filter_map(|column| table.columns.get(*column));
            key.to = names.map(|column| column.name.clone()).collect();
        }
        if key.to.len() == key.from.len() || key.to.is_empty() {
            keys.push(key);
        }
    }
    Ok(keys)
}

/// Where the columns are in a row.
fn positions(changes: &TableChanges, columns: &[String]) -> Option<Vec<usize>> {
    let position = |name: &String| {
        changes
            .columns
            .iter()
            .position(|column| column.eq_ignore_ascii_case(name))
    };
    columns.iter().map(position).collect()
}

/// The values at the positions, unless one is NULL, which refers to nothing.
fn values<'a>(row: Option<&'a Vec<Value>>, at: &[usize]) -> Option<Vec<&'a Value>> {
    let values: Option<Vec<&Value>> = at.iter().map(|column| row?.get(*column)).collect();
    values.filter(|values| !values.iter().any(|value| value.is_null()))
}

fn exists(statement: &mut Statement<'_>, values: &[&Value]) -> rusqlite::Result<bool> {
    for (index, value) in (1..).zip(values) {
        statement.raw_bind_parameter::<usize, _>(index, value)?;
    }
    Ok(statement.raw_query().next()?.is_some())
}

fn lookup(table: &str, columns: &[String]) -> String {
    let terms: Vec<String> = columns
        .iter()
        .map(|column| format!("{} = ?", quoted(column)))
        .collect();
    format!(
        "SELECT 1 FROM {} WHERE {} LIMIT 1",
        quoted(table),
        terms.join(" AND ")
    )
}

/// Rows that came to refer to something: it must exist.
fn parents_exist(
    connection: &Connection,
    set: &ChangeSet,
    changes: &TableChanges,
    key: &ForeignKey,
    conflicts: &mut Conflicts,
) -> Result<(), MergeError> {
    let Some(at) = positions(changes, &key.from) else {
        return Ok(());
    };
    let mut find = match definition(connection, "table", &key.parent)? {
        Some(_) if key.to.is_empty() => return Ok(()),
        Some(_) => Some(connection.prepare(&lookup(&key.parent, &key.to))?),
        None => None,
    };
    for change in set.rows(changes)? {
        let change = change?;
        let refers = values(change.new.as_ref(), &at);
        if refers.is_none() || refers == values(change.old.as_ref(), &at) {
            continue;
        }
        let refers = refers.unwrap_or_default();
        let found = match &mut find {
            Some(find) => exists(find, &refers)?,
            None => false,
        };
        if !found {
            let mut conflict = RowConflict::of(&changes.name, broken(key, &refers));
            conflict.key = render::key_text(changes, &change);
            conflicts.push(conflict);
        }
    }
    Ok(())
}

fn broken(key: &ForeignKey, values: &[&Value]) -> String {
    let parts: Vec<String> = key
        .from
        .iter()
        .zip(values)
        .map(|(name, value)| format!("{name}={}", render::value(value, 80)))
        .collect();
    let parts = render::visible(parts.join(", ").as_bytes(), 400);
    let parent = render::visible(key.parent.as_bytes(), 200);
    format!("foreign key: {parts} refers to no row of {parent}")
}

/// Keys that went: nothing may still refer to them.
fn no_orphans(
    connection: &Connection,
    set: &ChangeSet,
    changes: &TableChanges,
    key: &ForeignKey,
    conflicts: &mut Conflicts,
) -> Result<(), MergeError> {
    let Some(at) = positions(changes, &key.to).filter(|at| !at.is_empty()) else {
        return Ok(());
    };
    let parent = definition(connection, "table", &key.parent)?.is_some();
    let mut still = match parent {
        true => Some(connection.prepare(&lookup(&key.parent, &key.to))?),
        false => None,
    };
    let mut gone = Gone::new(connection, key)?;
    for change in set.rows(changes)? {
        let change = change?;
        let before = values(change.old.as_ref(), &at);
        if before.is_none() || before == values(change.new.as_ref(), &at) {
            continue;
        }
        let before = before.unwrap_or_default();
        let supplied = match &mut still {
            Some(still) => exists(still, &before)?,
            None => false,
        };
        if !supplied && gone.is_referred(&before)? {
            let mut conflict = RowConflict::of(&changes.name, still_referred(key));
            conflict.key = render::key_text(changes, &change);
            conflicts.push(conflict);
        }
    }
    gone.finish(key, conflicts)
}

fn still_referred(key: &ForeignKey) -> String {
    let child = render::visible(key.child.as_bytes(), 200);
    format!("foreign key: rows of {child} still refer to it")
}

/// Finds children of keys that went: by the children's index, or where there is none by one pass
/// over the children for all keys together.
struct Gone<'c> {
    connection: &'c Connection,
    find: Option<Statement<'c>>,
    collect: Option<Statement<'c>>,
    collected: bool,
}

impl<'c> Gone<'c> {
    fn new(connection: &'c Connection, key: &ForeignKey) -> Result<Self, MergeError> {
        let table: Table = catalog::table_of(connection, &key.child)?;
        let mut leading: Vec<String> = connection
            .prepare(
                "SELECT c.name FROM pragma_index_list(?1) AS i, pragma_index_info(i.name) AS c
                 WHERE c.seqno = 0 AND NOT i.partial AND c.name IS NOT NULL",
            )?
            .query_map([&key.child], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        let alias = table
            .rowid_alias
            .and_then(|column| table.columns.get(column));
        leading.extend(alias.map(|column| column.name.clone()));
        let indexed = |name: &String| leading.iter().any(|lead| lead.eq_ignore_ascii_case(name));
        if key.from.iter().any(indexed) {
            return Ok(Self {
                connection,
                find: Some(connection.prepare(&lookup(&key.child, &key.from))?),
                collect: None,
                collected: false,
            });
        }
        let columns: Vec<String> = (0..key.from.len())
            .map(|index| format!("k{index}"))
            .collect();
        let columns = columns.join(", ");
        connection.execute_batch(&format!(
            "DROP TABLE IF EXISTS temp.belljar_gone;
             CREATE TEMP TABLE belljar_gone ({columns});
             CREATE INDEX temp.belljar_gone_key ON belljar_gone ({columns});"
        ))?;
        let marks = vec!["?"; key.from.len()].join(", ");
        let insert = format!("INSERT INTO temp.belljar_gone VALUES ({marks})");
        Ok(Self {
            connection,
            find: None,
            collect: Some(connection.prepare(&insert)?),
            collected: false,
        })
    }

    fn is_referred(&mut self, values: &[&Value]) -> Result<bool, MergeError> {
        match (&mut self.find, &mut self.collect) {
            (Some(find), _) => Ok(exists(find, values)?),
            (None, Some(collect)) => {
                for (index, value) in (1..).zip(values) {
                    collect.raw_bind_parameter::<usize, _>(index, value)?;
                }
                collect.raw_execute()?;
                self.collected = true;
                Ok(false)
            }
            (None, None) => Ok(false),
        }
    }

    fn finish(mut self, key: &ForeignKey, conflicts: &mut Conflicts) -> Result<(), MergeError> {
        drop(self.collect.take());
        if !self.collected {
            return Ok(());
        }
        let columns = (0..).zip(&key.from);
        let terms: Vec<String> = columns
            .map(|(index, name)| format!("c.{} = g.k{index}", quoted(name)))
            .collect();
        let names: Vec<String> = key
            .from
            .iter()
            .map(|name| format!("c.{}", quoted(name)))
            .collect();
        // The left table is read once; the keys that went are found by their index.
        let select = format!(
            "SELECT {} FROM {} AS c CROSS JOIN temp.belljar_gone AS g ON {} LIMIT 100",
            names.join(", "),
            quoted(&key.child),
            terms.join(" AND ")
        );
        let mut statement = self.connection.prepare(&select)?;
        let mut rows = statement.query(())?;
        while let Some(row) = rows.next()? {
            let values: rusqlite::Result<Vec<Value>> = (0..names.len())
                .map(|column| row.get_ref(column).map(Value::from))
                .collect();
            let values = values?;
            let values: Vec<&Value> = values.iter().collect();
            conflicts.push(RowConflict::of(&key.child, broken(key, &values)));
        }
        drop(rows);
        drop(statement);
        self.connection
            .execute_batch("DROP TABLE temp.belljar_gone")?;
        Ok(())
    }
}
