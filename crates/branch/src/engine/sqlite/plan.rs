//! Compares two schemas: which tables can be compared row by row, which came or went, and which
//! definitions changed.

use std::collections::{BTreeMap, BTreeSet};

use super::catalog::{Entry, Scratch};
use super::change_set::{SchemaAction, SchemaChange};
use super::image::ImageError;

/// Modules of virtual tables whose stored parts are known.
const MODULES: [(&str, &[&str]); 6] = [
    ("fts5", &["data", "idx", "content", "docsize", "config"]),
    (
        "fts4",
        &["content", "segments", "segdir", "docsize", "stat"],
    ),
    (
        "fts3",
        &["content", "segments", "segdir", "docsize", "stat"],
    ),
    ("rtree", &["node", "rowid", "parent"]),
    ("rtree_i32", &["node", "rowid", "parent"]),
    ("geopoly", &["node", "rowid", "parent"]),
];

/// What happens to one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TablePlan {
    /// Its entry before.
    pub(crate) base: Option<Entry>,
    /// Its entry after.
    pub(crate) work: Option<Entry>,
    /// The virtual table it is a stored part of.
    pub(crate) shadow_of: Option<String>,
}

/// Everything the two schemas say.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) tables: Vec<TablePlan>,
    pub(crate) schema: Vec<SchemaChange>,
    pub(crate) has_virtual: bool,
}

/// The names of the stored parts of each virtual table → the virtual table.
fn shadows(entries: &[Entry]) -> BTreeMap<String, String> {
    let mut shadows = BTreeMap::new();
    for entry in entries {
        let module = entry.module().unwrap_or_default();
        for (_, parts) in MODULES.iter().filter(|(name, _)| *name == module) {
            for part in *parts {
                shadows.insert(format!("{}_{part}", entry.name), entry.name.clone());
            }
        }
        // Of an unknown module all that bears its name is taken for its parts.
        if !module.is_empty() && !MODULES.iter().any(|(name, _)| *name == module) {
            let prefix = format!("{}_", entry.name);
            for part in entries.iter().filter(|part| part.name.starts_with(&prefix)) {
                shadows.insert(part.name.clone(), entry.name.clone());
            }
        }
    }
    shadows
}

fn by_name<'a>(entries: &'a [Entry]) -> BTreeMap<(&'a str, &'a str), &'a Entry> {
    let own = |entry: &&Entry| !entry.name.starts_with("sqlite_") && !entry.sql.is_empty();
    let named = |entry: &'a Entry| ((entry.kind.as_str(), entry.name.as_str()), entry);
    entries.iter().filter(own).map(named).collect()
}

/// Makes the plan.
pub(crate) fn plan(base: &[Entry], work: &[Entry]) -> Result<Plan, ImageError> {
    let (before, after) = (by_name(base), by_name(work));
    let (old_shadows, new_shadows) = (shadows(base), shadows(work));
    let mut plan = Plan {
        has_virtual: work.iter().any(|entry| entry.module().is_some()),
        ..Plan::default()
    };
    // Tables that are dropped and made again; what hangs on them goes and comes with them.
    let mut remade = BTreeSet::new();
    let names: BTreeSet<_> = before.keys().chain(after.keys()).copied().collect();
    for (kind, name) in &names {
        let (old, new) = (before.get(&(*kind, *name)), after.get(&(*kind, *name)));
        if *kind == "table"
            && let (Some(old), Some(new)) = (old, new)
            && old.sql != new.sql
        {
            match added_columns(old, new) {
                Some(changes) => plan.schema.extend(changes),
                None => {
                    remade.insert((*name).to_owned());
                }
            }
        }
    }
    for (kind, name) in &names {
        let (old, new) = (before.get(&(*kind, *name)), after.get(&(*kind, *name)));
        if *kind == "table" {
            let old_parent = old_shadows.get(*name);
            let new_parent = new_shadows.get(*name);
            let parent = new_parent.or(old_parent);
            let apart = remade.contains(*name) || parent.is_some_and(|name| remade.contains(name));
            let old = old.map(|entry| (*entry).clone());
            let new = new.map(|entry| (*entry).clone());
            add_table(&mut plan, old, new, parent.cloned(), apart)?;
        } else {
            let table = old.or(new).map_or("", |entry| entry.table.as_str());
            let same = old.map(|entry| &entry.sql) == new.map(|entry| &entry.sql);
            if same && !remade.contains(table) {
                continue;
            }
            plan.schema
                .extend(old.map(|entry| change(SchemaAction::Drop, entry)));
            plan.schema
                .extend(new.map(|entry| change(SchemaAction::Create, entry)));
        }
    }
    Ok(plan)
}

fn add_table(
    plan: &mut Plan,
    old: Option<Entry>,
    new: Option<Entry>,
    shadow_of: Option<String>,
    apart: bool,
) -> Result<(), ImageError> {
    for entry in [&old, &new].into_iter().flatten() {
        check_module(
            entry,
            old.as_ref().map(|entry| &entry.sql) == new.as_ref().map(|e| &e.sql),
        )?;
    }
    let listed = shadow_of.is_none();
    match (old, new) {
        (Some(old), Some(new)) if !apart => plan.tables.push(TablePlan {
            base: Some(old),
            work: Some(new),
            shadow_of,
        }),
        (old, new) => {
            if listed {
                plan.schema
                    .extend(old.iter().map(|entry| change(SchemaAction::Drop, entry)));
                plan.schema
                    .extend(new.iter().map(|entry| change(SchemaAction::Create, entry)));
            }
            for (base, work) in [(old, None), (None, new)] {
                if base.is_some() || work.is_some() {
                    plan.tables.push(TablePlan {
                        base,
                        work,
                        shadow_of: shadow_of.clone(),
                    });
                }
            }
        }
    }
    Ok(())
}

/// A virtual table of an unknown module may stay as it is, but not come, go or change.
fn check_module(entry: &Entry, unchanged: bool) -> Result<(), ImageError> {
    match entry.module() {
        Some(module) if !unchanged && !MODULES.iter().any(|(name, _)| *name == module) => {
            Err(ImageError::Unsupported(format!(
                "the virtual table `{}` uses the module `{module}`, which cannot be carried over",
                entry.name
            )))
        }
        Some(_) | None => Ok(()),
    }
}

fn change(action: SchemaAction, entry: &Entry) -> SchemaChange {
    SchemaChange {
        action,
        kind: entry.kind.clone(),
        name: entry.name.clone(),
        table: entry.table.clone(),
        sql: entry.sql.clone(),
        before: None,
        after: None,
    }
}

/// The columns whose adding turns the old definition into the new one, to the letter; `None` when
/// something else was done.
fn added_columns(old: &Entry, new: &Entry) -> Option<Vec<SchemaChange>> {
    if old.root == 0 || new.root == 0 {
        return None;
    }
    // ALTER TABLE ADD COLUMN puts `, definition` in one place of the old text.
    let same = old
        .sql
        .bytes()
        .zip(new.sql.bytes())
        .take_while(|(a, b)| a == b)
        .count();
    let extra = new.sql.len().checked_sub(old.sql.len())?;
    let candidates = (0..=same).rev().filter(|at| {
        let (head, tail) = (old.sql.get(..*at), old.sql.get(*at..));
        let (new_head, new_tail) = (new.sql.get(..*at), new.sql.get(at + extra..));
        head.is_some() && tail.is_some() && head == new_head && tail == new_tail
    });
    for at in candidates.take(64) {
        let Some(text) = new
            .sql
            .get(at..at + extra)
            .and_then(|text| text.strip_prefix(", "))
        else {
            continue;
        };
        if let Some(changes) = try_columns(old, new, text) {
            return Some(changes);
        }
    }
    None
}

fn try_columns(old: &Entry, new: &Entry, text: &str) -> Option<Vec<SchemaChange>> {
    let scratch = Scratch::new().ok()?;
    scratch.define(old).ok()?;
    let mut sql = old.sql.clone();
    let mut changes = Vec::new();
    for definition in top_level(text) {
        let before = sql.clone();
        let table = old.name.replace('"', "\"\"");
        sql = scratch.altered(
            &format!("ALTER TABLE \"{table}\" ADD COLUMN {definition}"),
            &old.name,
        )?;
        let column = scratch.last_column(&old.name)?;
        changes.push(SchemaChange {
            action: SchemaAction::AddColumn,
            kind: "table".to_owned(),
            name: column,
            table: old.name.clone(),
            sql: definition.to_owned(),
            before: Some(before),
            after: Some(sql.clone()),
        });
    }
    (sql == new.sql).then_some(changes)
}

/// Splits at the commas that are outside quotes and brackets.
fn top_level(text: &str) -> Vec<&str> {
    let (mut depth, mut quote, mut start) = (0_i32, None, 0);
    let mut parts = Vec::new();
    for (at, character) in text.char_indices() {
        match (quote, character) {
            (Some(open), _) if open == character => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"' | '`') => quote = Some(character),
            (None, '[') => quote = Some(']'),
            (None, '(') => depth += 1,
            (None, ')') => depth -= 1,
            (None, ',') if depth == 0 => {
                parts.extend(text.get(start..at));
                start = at + 1;
            }
            (None, _) => {}
        }
    }
    parts.extend(text.get(start..));
    parts.into_iter().map(str::trim).collect()
}
