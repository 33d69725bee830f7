//! Each odd thing a database can have, by name: after a merge the source is what the agent's file
//! is, after a revert it is what it was.

use super::support::{Case, assert_same, content};

/// Merges what `agent` does into a source made by `setup`, compares, reverts, compares.
fn check(setup: &str, agent: &str) {
    let case = Case::new(setup);
    let before = content(&case.source());
    case.agent(agent);
    let merged = case.merge();
    assert_eq!(merged, Ok(()), "{agent}");
    assert_eq!(
        content(&case.source()),
        content(&case.work()),
        "merge of {agent}"
    );
    assert_eq!(case.revert(), Ok(()), "revert of {agent}");
    assert_same(
        &content(&case.source()),
        &before,
        &format!("revert of {agent}"),
    );
}

const ROWS: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)";

fn table(definition: &str, columns: &str, values: &str) -> String {
    format!(
        "CREATE TABLE t ({definition}; {ROWS} INSERT INTO t ({columns}) SELECT {values} FROM n;"
    )
}

#[test]
fn rows_with_an_integer_key() {
    let setup = table(
        "id INTEGER PRIMARY KEY, a TEXT, b REAL)",
        "id, a, b",
        "i, 'row ' || i, i * 0.5",
    );
    check(
        &setup,
        "UPDATE t SET a = 'x' WHERE id = 7; DELETE FROM t WHERE id = 9; INSERT INTO t VALUES (9999, 'new', 1.0)",
    );
    check(
        &setup,
        "UPDATE t SET id = id + 1000 WHERE id % 3 = 0; VACUUM",
    );
    check(&setup, "DELETE FROM t");
    check(&setup, "");
}

#[test]
fn rows_with_a_text_key() {
    let setup = table("k TEXT PRIMARY KEY, a)", "k, a", "'key ' || i, i");
    check(
        &setup,
        "UPDATE t SET a = NULL WHERE k = 'key 3'; REPLACE INTO t VALUES ('key 4', 'again'); DELETE FROM t WHERE a = 10",
    );
    check(&setup, "UPDATE t SET k = 'other ' || k WHERE a % 2");
}

#[test]
fn rows_without_a_key() {
    let setup = table("a, b)", "a, b", "i % 10, 'same'");
    check(
        &setup,
        "DELETE FROM t WHERE rowid IN (5, 15, 25); UPDATE t SET a = 'y' WHERE rowid = 40; INSERT INTO t VALUES (1, 'same'), (1, 'same')",
    );
    check(&setup, "DELETE FROM t WHERE rowid < 50; VACUUM");
}

#[test]
fn rows_without_a_rowid() {
    let setup = table(
        "a TEXT, b INT, c, d REAL, PRIMARY KEY (b, a)) WITHOUT ROWID",
        "a, b, c, d",
        "'k' || i, i, randomblob(400), i",
    );
    check(
        &setup,
        "UPDATE t SET c = 'x' WHERE b = 7; DELETE FROM t WHERE b BETWEEN 100 AND 200; INSERT INTO t VALUES ('n', -1, NULL, 2)",
    );
    check(&setup, "UPDATE t SET b = b + 1");
}

#[test]
fn generated_columns() {
    let setup = table(
        "id INTEGER PRIMARY KEY, a INT, v AS (a * 2), s AS (a * 3) STORED, z TEXT, w AS (z || a)); CREATE INDEX by_v ON t (v); CREATE UNIQUE INDEX by_s ON t (s, id",
        "id, a, z",
        "i, i, 'z' || i",
    );
    let setup = setup.replace("(s, id;", "(s, id);");
    check(
        &setup,
        "UPDATE t SET a = a + 1 WHERE id < 50; DELETE FROM t WHERE id = 60; INSERT INTO t (a, z) VALUES (5, 'five')",
    );
}

#[test]
fn every_kind_of_value() {
    check(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a, b REAL, c TEXT, d BLOB, e NUMERIC, f INT)",
        "INSERT INTO t (a, b, c, d, e, f) VALUES (NULL, 1, 'a' || char(0) || 'b', x'00ff', '12', 3),
           (9223372036854775807, -0.0, CAST(x'fffe41' AS TEXT), zeroblob(0), 1e300, '7'), (-9223372036854775808, 9e999, '', '', 1.5, 'x'),
           (0.1, 3e-320, '😀', randomblob(70000), 1, 1.0), (127, -9e999, 'é', NULL, -1, -129), (1, 5, 0, 8388608, 2147483648, 140737488355328)",
    );
}

#[test]
fn keys_with_nulls() {
    let setup = table(
        "k TEXT PRIMARY KEY, a)",
        "k, a",
        "CASE WHEN i % 2 THEN 'k' || i END, i",
    );
    check(
        &setup,
        "DELETE FROM t WHERE a = 10; UPDATE t SET a = 'changed' WHERE a = 20; INSERT INTO t VALUES (NULL, 1), (NULL, 1)",
    );
}

#[test]
fn autoincrement_counters() {
    let setup = table("id INTEGER PRIMARY KEY AUTOINCREMENT, a)", "a", "i");
    check(
        &setup,
        "INSERT INTO t (a) VALUES ('x'); DELETE FROM t WHERE a = 'x'",
    );
    check(&setup, "INSERT INTO t (a) VALUES ('x'), ('y')");
}

#[test]
fn unique_values_that_swap() {
    let setup = table(
        "id INTEGER PRIMARY KEY, u UNIQUE, a)",
        "id, u, a",
        "i, i, i",
    );
    check(
        &setup,
        "UPDATE t SET u = -u; UPDATE t SET u = 501 + u; UPDATE t SET a = 0 WHERE id = 3",
    );
}

#[test]
fn triggers_fire_once() {
    let setup = table(
        "id INTEGER PRIMARY KEY, a); CREATE TABLE log (what); CREATE TRIGGER tr AFTER UPDATE ON t BEGIN INSERT INTO log VALUES (new.id); END",
        "id, a",
        "i, i",
    );
    check(&setup, "UPDATE t SET a = 0 WHERE id < 5");
}

#[test]
fn views_indexes_and_triggers() {
    let setup = table(
        "id INTEGER PRIMARY KEY, a); CREATE INDEX old ON t (a); CREATE VIEW v AS SELECT a FROM t; CREATE TRIGGER tr INSERT ON t BEGIN SELECT 1; END",
        "id, a",
        "i, i",
    );
    check(
        &setup,
        "DROP INDEX old; CREATE UNIQUE INDEX new ON t (a, id); DROP VIEW v; CREATE VIEW v AS SELECT id FROM t; DROP TRIGGER tr; CREATE VIEW w AS SELECT 1; CREATE TRIGGER tw INSTEAD OF INSERT ON w BEGIN SELECT 2; END",
    );
}

#[test]
fn tables_that_come_and_go() {
    let setup = table(
        "id INTEGER PRIMARY KEY, a); CREATE INDEX i ON t (a)",
        "id, a",
        "i, i",
    );
    check(&setup, "DROP TABLE t");
    check(
        &setup,
        "CREATE TABLE \"odd \"\"name\" (x PRIMARY KEY, y) WITHOUT ROWID; INSERT INTO \"odd \"\"name\" VALUES (1, 2), ('a', NULL); CREATE TABLE auto (id INTEGER PRIMARY KEY AUTOINCREMENT, x); INSERT INTO auto (x) VALUES (1)",
    );
    check(
        &setup,
        "DROP TABLE t; CREATE TABLE t (id INTEGER PRIMARY KEY, a); INSERT INTO t VALUES (5, 5), (6, 'x'); CREATE INDEX i ON t (a)",
    );
}

#[test]
fn columns_that_are_added() {
    let setup = table("id INTEGER PRIMARY KEY, a)", "id, a", "i, i");
    check(&setup, "ALTER TABLE t ADD COLUMN n TEXT");
    check(
        &setup,
        "ALTER TABLE t ADD COLUMN n REAL DEFAULT 5; ALTER TABLE t ADD COLUMN m DECIMAL(5, 2) DEFAULT 'a,b' CHECK (m IN ('a,b', 'c')); UPDATE t SET n = id WHERE id < 10; INSERT INTO t (id) VALUES (9000)",
    );
    check(&setup, "ALTER TABLE t ADD COLUMN n AS (a + 1)");
    let setup = table(
        "id INTEGER PRIMARY KEY, a, PRIMARY KEY2 TEXT, CHECK (a > 0))",
        "id, a",
        "i, i",
    );
    check(
        &setup.replace("PRIMARY KEY2", "k2"),
        "ALTER TABLE t ADD COLUMN n INT NOT NULL DEFAULT 1; UPDATE t SET n = 2 WHERE id = 100",
    );
}

#[test]
fn tables_that_are_altered() {
    let setup = table(
        "id INTEGER PRIMARY KEY, a, b); CREATE INDEX i ON t (a); CREATE TRIGGER tr INSERT ON t BEGIN SELECT 1; END",
        "id, a, b",
        "i, i, i",
    );
    check(&setup, "ALTER TABLE t DROP COLUMN b");
    check(&setup, "ALTER TABLE t RENAME COLUMN a TO renamed");
    check(&setup, "ALTER TABLE t RENAME TO u");
    check(
        &setup,
        "CREATE TABLE n (id INTEGER PRIMARY KEY, a TEXT); INSERT INTO n SELECT id, a FROM t; DROP TABLE t; ALTER TABLE n RENAME TO t",
    );
}

#[test]
fn full_text_search() {
    for module in [
        "fts5(a, b)",
        "fts4(a, b)",
        "fts5(a, content='', contentless_delete=1)",
    ] {
        let columns = if module.contains("content") {
            "a"
        } else {
            "a, b"
        };
        let values = if module.contains("content") {
            "'word' || i"
        } else {
            "'word' || i, 'other text'"
        };
        let setup = format!(
            "CREATE VIRTUAL TABLE f USING {module}; {ROWS} INSERT INTO f (rowid, {columns}) SELECT i, {values} FROM n;"
        );
        check(
            &setup,
            "INSERT INTO f (rowid, a) VALUES (1000, 'hello world'); DELETE FROM f WHERE rowid = 3",
        );
        check(&setup, "DROP TABLE f");
        check("CREATE TABLE x (y)", &setup);
    }
}

#[test]
fn full_text_search_over_a_table() {
    let setup = table(
        "id INTEGER PRIMARY KEY, a TEXT); CREATE VIRTUAL TABLE f USING fts5(a, content='t', content_rowid='id');
         CREATE TRIGGER ai AFTER INSERT ON t BEGIN INSERT INTO f(rowid, a) VALUES (new.id, new.a); END;
         CREATE TRIGGER ad AFTER DELETE ON t BEGIN INSERT INTO f(f, rowid, a) VALUES ('delete', old.id, old.a); END",
        "id, a", "i, 'text ' || i",
    );
    check(
        &setup,
        "INSERT INTO t VALUES (2000, 'needle'); DELETE FROM t WHERE id = 5",
    );
}

#[test]
fn rtree() {
    let setup = format!(
        "CREATE VIRTUAL TABLE r USING rtree(id, x0, x1); {ROWS} INSERT INTO r SELECT i, i, i + 1 FROM n;"
    );
    check(
        &setup,
        "DELETE FROM r WHERE id = 7; INSERT INTO r VALUES (9999, 1, 2)",
    );
    check(&setup, "DROP TABLE r");
    check("CREATE TABLE x (y)", &setup);
}

#[test]
fn foreign_keys_that_hold() {
    let setup = table(
        "id INTEGER PRIMARY KEY, a); CREATE TABLE c (id INTEGER PRIMARY KEY, p REFERENCES t ON DELETE CASCADE)",
        "id, a",
        "i, i",
    );
    check(
        &format!(
            "{setup} INSERT INTO c SELECT id, id FROM t WHERE id < 20; INSERT INTO c VALUES (999, 424242)"
        ),
        "PRAGMA foreign_keys = ON; DELETE FROM t WHERE id < 10; INSERT INTO t VALUES (3000, 1); INSERT INTO c VALUES (3000, 3000)",
    );
}

#[test]
fn overflow_pages_rewritten_in_place() {
    let setup = table(
        "id INTEGER PRIMARY KEY, a INT, b BLOB)",
        "id, a, b",
        "i, i, zeroblob(20000)",
    );
    // A value of the same length is overwritten where it lies: only an overflow page changes.
    check(
        &setup,
        "UPDATE t SET b = zeroblob(15000) || x'01' || zeroblob(4999) WHERE id IN (100, 300)",
    );
    for mode in [
        "auto_vacuum = FULL",
        "auto_vacuum = INCREMENTAL",
        "page_size = 512",
    ] {
        check(
            &format!("PRAGMA {mode}; VACUUM; {setup}"),
            "UPDATE t SET b = zeroblob(15000) || x'01' || zeroblob(4999) WHERE id = 100; DELETE FROM t WHERE id > 400",
        );
    }
}

#[test]
fn settings() {
    check(
        "CREATE TABLE t (a)",
        "PRAGMA user_version = 7; PRAGMA application_id = -5",
    );
}

#[test]
fn page_sizes_encodings_and_journal_modes() {
    let body = table(
        "id INTEGER PRIMARY KEY, a TEXT, b)",
        "id, a, b",
        "i, 'é😀' || i, randomblob(i * 5)",
    );
    let agent = "UPDATE t SET a = 'ü' || a WHERE id % 50 = 0; DELETE FROM t WHERE id = 3; INSERT INTO t VALUES (700, char(0xfeff, 65), 1)";
    for pragma in [
        "page_size = 512",
        "page_size = 1024",
        "page_size = 65536",
        "encoding = 'UTF-16le'",
        "encoding = 'UTF-16be'",
        "auto_vacuum = FULL",
        "journal_mode = WAL",
        "journal_mode = PERSIST",
        "journal_mode = TRUNCATE",
    ] {
        check(&format!("PRAGMA {pragma}; {body}"), agent);
        check(
            &format!("PRAGMA {pragma}; {body}"),
            &format!("PRAGMA journal_mode = WAL; {agent}"),
        );
    }
    check(&body, &format!("PRAGMA page_size = 8192; VACUUM; {agent}"));
}

#[test]
fn an_empty_file() {
    check(
        "",
        "CREATE TABLE t (a PRIMARY KEY, b); INSERT INTO t VALUES (1, 2)",
    );
}
