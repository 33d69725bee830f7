//! Random schemas and random statements: a merge makes the source equal to the agent's file, with
//! other writers their union; a revert gives back what was there; the change set is exact.
#![expect(
    clippy::unwrap_used,
    reason = "a case that cannot be set up is a failed test"
)]

use proptest::prelude::*;
use rusqlite::Connection;

use super::support::{Case, assert_same, content};

const TABLES: [&str; 7] = [
    "CREATE TABLE t0 (id INTEGER PRIMARY KEY, a, b TEXT, c REAL)",
    "CREATE TABLE t1 (k TEXT PRIMARY KEY, a, b, c UNIQUE)",
    "CREATE TABLE t2 (a, b, c)",
    "CREATE TABLE t3 (a INT, b TEXT COLLATE NOCASE, c BLOB, PRIMARY KEY (b, a)) WITHOUT ROWID",
    "CREATE TABLE t4 (id INTEGER PRIMARY KEY AUTOINCREMENT, a INT, b, c AS (a || b), d AS (a) STORED)",
    "CREATE TABLE t5 (a INT, b, c, PRIMARY KEY (a, b))",
    "CREATE TABLE t6 (x INTEGER PRIMARY KEY, a INT, b NUMERIC, c TEXT); CREATE INDEX i6 ON t6 (c, b)",
];

/// One statement; those that break a constraint do nothing.
#[derive(Clone, Debug)]
enum Statement {
    Insert(usize, u32, u8),
    Many(usize, u32, u16),
    Update(usize, u32, u8),
    Delete(usize, u32),
    DeleteAll(usize),
    Other(u8),
}

fn statements(max: usize) -> impl Strategy<Value = Vec<Statement>> {
    let table = 0..TABLES.len();
    let one = prop_oneof![
        6 => (table.clone(), 0..400_u32, any::<u8>()).prop_map(|(t, k, v)| Statement::Insert(t, k, v)),
        3 => (table.clone(), 0..400_u32, 1..200_u16).prop_map(|(t, k, n)| Statement::Many(t, k, n)),
        6 => (table.clone(), 0..400_u32, any::<u8>()).prop_map(|(t, k, v)| Statement::Update(t, k, v)),
        4 => (table.clone(), 0..400_u32).prop_map(|(t, k)| Statement::Delete(t, k)),
        1 => table.prop_map(Statement::DeleteAll),
        2 => (0..14_u8).prop_map(Statement::Other),
    ];
    prop::collection::vec(one, 0..max)
}

/// A value of each kind, short and long.
fn value(seed: u8) -> String {
    let n = u32::from(seed);
    match seed % 10 {
        0 => "NULL".into(),
        1 => format!("{}", i64::from(n) - 128),
        2 => format!("{n}.25"),
        3 => format!("{n}.0"),
        4 => format!("'text {n}'"),
        5 => format!("x'{n:02x}00ff'"),
        6 => format!("'{}'", "long ".repeat(usize::from(seed) * 20)),
        7 => format!("zeroblob({})", n * 100),
        8 => "'é' || char(0) || '😀'".into(),
        _ => format!("{n} * 10000000000000"),
    }
}

/// Where a row goes, and its values.
fn columns(table: usize, k: &str, v: &str, c: &str) -> String {
    match table {
        0 => format!("t0 (id, a, b, c) VALUES ({k}, {v}, {k}, {k} / 3.0)"),
        1 => format!("t1 (k, a, b, c) VALUES ('k' || ({k}), {v}, 1, {c})"),
        2 => format!("t2 (a, b, c) VALUES ({k}, {v}, 'c')"),
        3 => format!("t3 (a, b, c) VALUES ({k}, 'b' || (({k}) % 3), {v})"),
        4 => format!("t4 (a, b) VALUES ({k}, {v})"),
        5 => format!("t5 (a, b, c) VALUES ({k}, iif(({k}) % 5, {k}, NULL), {v})"),
        _ => format!("t6 (x, a, b, c) VALUES ({k}, {k}, {v}, {v})"),
    }
}

fn run(connection: &Connection, statement: &Statement, offset: u32) {
    let key = |table: usize, k: u32| match table {
        0 | 4 => format!("id = {k}"),
        6 => format!("x = {k}"),
        1 => format!("k = 'k{k}'"),
        _ => format!("a = {k}"),
    };
    let sql = match *statement {
        Statement::Insert(t, k, v) => {
            let k = k + offset;
            format!(
                "INSERT OR IGNORE INTO {}",
                columns(t, &k.to_string(), &value(v), &k.to_string())
            )
        }
        Statement::Many(t, k, n) => {
            let values = columns(t, "i", "'row ' || i || hex(zeroblob(i % 50))", "i");
            let (head, list) = values.split_once(" VALUES (").unwrap();
            let list = list.strip_suffix(')').unwrap();
            let (from, to) = (k + offset, k + offset + u32::from(n));
            format!(
                "WITH RECURSIVE n(i) AS (SELECT {from} UNION ALL SELECT i + 1 FROM n WHERE i < {to})
                 INSERT OR IGNORE INTO {head} SELECT {list} FROM n"
            )
        }
        Statement::Update(t, k, v) => {
            let column = match (t, v % 3) {
                (3, _) => "c",
                (4, _) | (0..=2 | 6, 2) => "a",
                (_, 0) => "b",
                (_, _) => "c",
            };
            let range = if v % 4 == 0 {
                format!("{} AND 1", key(t, k + offset))
            } else {
                key(t, k + offset)
            };
            format!(
                "UPDATE OR IGNORE t{t} SET {column} = {} WHERE {range}",
                value(v.wrapping_mul(7))
            )
        }
        Statement::Delete(t, k) => format!("DELETE FROM t{t} WHERE {}", key(t, k + offset)),
        Statement::DeleteAll(t) => format!("DELETE FROM t{t} WHERE 1"),
        Statement::Other(n) => other(n).into(),
    };
    // A table may be gone by an earlier statement.
    if let Err(error) = connection.execute_batch(&sql) {
        let text = error.to_string();
        assert!(
            text.contains("no such")
                || text.contains("has no column")
                || text.contains("already exists")
                || text.contains("duplicate")
                || text.contains("constraint"),
            "{text}: {sql}"
        );
    }
}

fn other(n: u8) -> &'static str {
    match n {
        0 => "VACUUM",
        1 => "DROP TABLE t2",
        2 => "CREATE TABLE made (a PRIMARY KEY, b); INSERT INTO made SELECT id, a FROM t0",
        3 => "CREATE INDEX i0 ON t0 (a, b)",
        4 => "DROP INDEX i6",
        5 => "ALTER TABLE t5 ADD COLUMN added TEXT DEFAULT 'x,y'",
        6 => "ALTER TABLE t6 RENAME COLUMN b TO renamed",
        7 => "CREATE VIEW v AS SELECT 1; CREATE TRIGGER tr0 INSERT ON t0 BEGIN SELECT 1; END",
        8 => "PRAGMA user_version = 42",
        9 => "ALTER TABLE t0 DROP COLUMN c",
        10 => "UPDATE t1 SET c = -c",
        11 => "UPDATE OR REPLACE t0 SET id = id + 1 WHERE id % 7 = 0",
        12 => "REPLACE INTO t1 SELECT k, 'replaced', b, c FROM t1 WHERE rowid % 4 = 0",
        _ => "ANALYZE",
    }
}

fn setup(pragma: &str, before: &[Statement]) -> Case {
    let case = Case::unbranched(&format!("{pragma}; {}", TABLES.join(";")));
    let connection = Connection::open(case.source()).unwrap();
    for statement in before {
        run(&connection, statement, 0);
    }
    drop(connection);
    case.branch();
    case
}

fn pragma() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "PRAGMA page_size = 512",
        "PRAGMA page_size = 4096",
        "PRAGMA journal_mode = WAL",
        "PRAGMA auto_vacuum = FULL; PRAGMA page_size = 1024",
        "PRAGMA encoding = 'UTF-16'; PRAGMA page_size = 1024",
    ])
}

fn cases(count: u32) -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(count)
    }
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn merge_is_the_agents_file_and_revert_the_source(
        pragma in pragma(), before in statements(30), during in statements(20)
    ) {
        let case = setup(pragma, &before);
        let was = content(&case.source());
        let connection = Connection::open(case.work()).unwrap();
        connection.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
        for statement in &during {
            run(&connection, statement, 0);
        }
        drop(connection);
        prop_assert_eq!(case.merge(), Ok(()));
        assert_same(&content(&case.source()), &content(&case.work()), "merge");
        prop_assert_eq!(case.revert(), Ok(()));
        assert_same(&content(&case.source()), &was, "revert");
    }

    #[test]
    fn others_keep_what_they_wrote(
        pragma in pragma(), before in statements(20), during in statements(12), meanwhile in statements(12)
    ) {
        // Numbers that AUTOINCREMENT hands out twice are conflicts, which have a test of their own.
        let rows_only = |statement: &&Statement| match statement {
            Statement::Insert(t, ..) | Statement::Many(t, ..) | Statement::Update(t, ..) | Statement::Delete(t, _) => *t != 4,
            Statement::DeleteAll(_) | Statement::Other(_) => false,
        };
        let case = setup(pragma, &before);
        let agent = Connection::open(case.work()).unwrap();
        let others = Connection::open(case.source()).unwrap();
        let plain = case.source().with_extension("plain");
        // A plain copy gets both, one after the other: their keys never meet.
        others.execute("VACUUM INTO ?1", [plain.to_str().unwrap()]).unwrap();
        let both = Connection::open(&plain).unwrap();
        for statement in meanwhile.iter().filter(rows_only) {
            run(&others, statement, 100_000);
            run(&both, statement, 100_000);
        }
        let theirs = {
            drop(others);
            content(&case.source())
        };
        for statement in during.iter().filter(rows_only) {
            run(&agent, statement, 0);
            run(&both, statement, 0);
        }
        drop((agent, both));
        let merged = case.merge();
        prop_assert_eq!(merged, Ok(()));
        assert_same(&content(&case.source()), &content(&plain), "union");
        prop_assert_eq!(case.revert(), Ok(()));
        assert_same(&content(&case.source()), &theirs, "revert beside others");
    }
}
