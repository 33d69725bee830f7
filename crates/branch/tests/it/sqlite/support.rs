//! One case: a source database, a branch of it, what an agent did, and the deeds on it.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a case that cannot be set up is a failed test"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use belljar_base::DatabaseName;
use belljar_branch::engine::sqlite::{self, ChangeSet, DatabaseChanges, RowConflict, Sqlite};
use belljar_branch::engine::{Deed, DeedKind, Engine, Steps};
use rusqlite::Connection;
use tempfile::TempDir;

pub(crate) struct Case {
    directory: TempDir,
}

/// All a database holds: definitions, then each table's rows in an order of their own.
pub(crate) type Content = BTreeMap<String, Vec<String>>;

impl Case {
    /// A source made by `sql`, branched.
    pub(crate) fn new(sql: &str) -> Self {
        let case = Self::unbranched(sql);
        case.branch();
        case
    }

    pub(crate) fn unbranched(sql: &str) -> Self {
        let case = Self {
            directory: TempDir::new().unwrap(),
        };
        std::fs::create_dir(case.run()).unwrap();
        execute(&case.source(), sql);
        case
    }

    pub(crate) fn branch(&self) -> sqlite::Branched {
        sqlite::branch(&self.source(), &self.database()).unwrap()
    }

    pub(crate) fn source(&self) -> PathBuf {
        self.directory.path().join("source.db")
    }

    pub(crate) fn run(&self) -> PathBuf {
        self.directory.path().join("run")
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.run().join("db").join("main")
    }

    pub(crate) fn work(&self) -> PathBuf {
        self.database().join("work").join("work.db")
    }

    pub(crate) fn agent(&self, sql: &str) -> &Self {
        execute(&self.work(), sql);
        self
    }

    pub(crate) fn others(&self, sql: &str) -> &Self {
        execute(&self.source(), sql);
        self
    }

    pub(crate) fn seal(&self) -> DatabaseChanges {
        sqlite::seal(&self.database()).unwrap()
    }

    pub(crate) fn set(&self) -> ChangeSet {
        self.seal();
        ChangeSet::load(&self.database()).unwrap()
    }

    pub(crate) fn engine(&self, kind: DeedKind) -> Sqlite {
        let name: DatabaseName = "main".parse().unwrap();
        Sqlite::new(&name, &Deed::new(kind, self.run()))
    }

    /// Does the deed, or answers what is in the way.
    pub(crate) fn deed(&self, kind: DeedKind) -> Result<(), Vec<RowConflict>> {
        let mut engine = self.engine(kind);
        let found = engine
            .conflicts()
            .unwrap_or_else(|error| panic!("{}", chain(&error)));
        if !found.is_empty() {
            return Err(engine.row_conflicts().to_vec());
        }
        let mut steps = Steps::unwatched();
        engine.prepare(&mut steps).unwrap();
        engine.apply(&mut steps).unwrap();
        engine.finish(&mut steps).unwrap();
        Ok(())
    }

    pub(crate) fn merge(&self) -> Result<(), Vec<RowConflict>> {
        self.seal();
        self.deed(DeedKind::Merge)
    }

    pub(crate) fn revert(&self) -> Result<(), Vec<RowConflict>> {
        self.deed(DeedKind::Revert)
    }
}

pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

pub(crate) fn execute(path: &Path, sql: &str) {
    let connection = Connection::open(path).unwrap();
    connection
        .execute_batch("PRAGMA foreign_keys = OFF")
        .unwrap();
    connection
        .execute_batch(sql)
        .unwrap_or_else(|error| panic!("{error}: {sql}"));
}

/// Everything SQLite says is in the file.
pub(crate) fn content(path: &Path) -> Content {
    let connection = Connection::open(path).unwrap();
    let check: String = connection
        .query_row("PRAGMA integrity_check", (), |row| row.get(0))
        .unwrap();
    assert_eq!(check, "ok");
    let mut content = Content::new();
    let definitions = rows(
        &connection,
        "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE name <> 'sqlite_sequence' AND name NOT LIKE 'sqlite_stat%'",
    );
    content.insert("/schema".into(), definitions);
    let version =
        "SELECT user_version, application_id FROM pragma_user_version, pragma_application_id";
    content.insert("/settings".into(), rows(&connection, version));
    let mut statement = connection
        .prepare(
            "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type <> 'view'
                  AND name NOT LIKE 'sqlite_stat%' AND name <> 'sqlite_schema'",
        )
        .unwrap();
    let names: Vec<String> = statement
        .query_map((), |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    for name in names {
        let quoted = name.replace('"', "\"\"");
        content.insert(
            name,
            rows(&connection, &format!("SELECT * FROM \"{quoted}\"")),
        );
    }
    content.retain(|name, rows| name != "sqlite_sequence" || !rows.is_empty());
    content
}

/// Fails with the rows in which the two differ, not with all of them.
#[track_caller]
pub(crate) fn assert_same(left: &Content, right: &Content, what: &str) {
    let none = Vec::new();
    for name in left.keys().chain(right.keys()) {
        let (left, right) = (
            left.get(name).unwrap_or(&none),
            right.get(name).unwrap_or(&none),
        );
        let only = |own: &[String], other: &[String]| -> Vec<String> {
            own.iter()
                .filter(|row| !other.contains(row))
                .take(5)
                .cloned()
                .collect()
        };
        assert!(
            left == right,
            "{what}: `{name}`: only left {:?}, only right {:?}",
            only(left, right),
            only(right, left)
        );
    }
}

fn rows(connection: &Connection, sql: &str) -> Vec<String> {
    let mut statement = connection.prepare(sql).unwrap();
    let count = statement.column_count();
    let mut found = Vec::new();
    let mut rows = statement.query(()).unwrap();
    while let Some(row) = rows.next().unwrap() {
        let row: Vec<String> = (0..count)
            .map(|column| shown(row.get_ref(column).unwrap()))
            .collect();
        found.push(row.join("|"));
    }
    found.sort();
    found
}

fn shown(value: rusqlite::types::ValueRef<'_>) -> String {
    match value {
        rusqlite::types::ValueRef::Text(text) => format!("{:?}", String::from_utf8_lossy(text)),
        rusqlite::types::ValueRef::Null
        | rusqlite::types::ValueRef::Integer(_)
        | rusqlite::types::ValueRef::Real(_)
        | rusqlite::types::ValueRef::Blob(_) => format!("{value:?}"),
    }
}
