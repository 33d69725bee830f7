//! What is in the way of a merge is told, and nothing is changed.

use expect_test::{Expect, expect};

use super::support::{Case, assert_same, content};

fn check(setup: &str, agent: &str, others: &str, expected: Expect) {
    let case = Case::new(setup);
    case.agent(agent).others(others);
    let before = content(&case.source());
    let told = match case.merge() {
        Ok(()) => "merged".to_owned(),
        Err(conflicts) => {
            let lines: Vec<String> = conflicts
                .iter()
                .map(|conflict| format!("{}: {}", conflict.place(), conflict.detail()))
                .collect();
            assert_same(&content(&case.source()), &before, "refused merge");
            lines.join("\n")
        }
    };
    expected.assert_eq(&told);
}

const T: &str =
    "CREATE TABLE t (id INTEGER PRIMARY KEY, a); INSERT INTO t VALUES (1, 'one'), (2, 'two');";

#[test]
fn both_changed_a_row() {
    check(
        T,
        "UPDATE t SET a = 'mine' WHERE id = 1",
        "UPDATE t SET a = 'theirs' WHERE id = 1",
        expect![
            "t [id=1]: the row was changed; was id=1, a='one'; is now id=1, a='theirs'; proposed id=1, a='mine'"
        ],
    );
    check(
        T,
        "UPDATE t SET a = 'same'",
        "UPDATE t SET a = 'same'",
        expect!["merged"],
    );
    check(
        T,
        "UPDATE t SET a = 'x' WHERE id = 1",
        "UPDATE t SET a = 'y' WHERE id = 2",
        expect!["merged"],
    );
}

#[test]
fn one_deleted_a_row() {
    check(
        T,
        "UPDATE t SET a = 'x' WHERE id = 1",
        "DELETE FROM t WHERE id = 1",
        expect!["t [id=1]: the row was deleted; was id=1, a='one'; proposed id=1, a='x'"],
    );
    check(
        T,
        "DELETE FROM t WHERE id = 1",
        "UPDATE t SET a = 'x' WHERE id = 1",
        expect!["t [id=1]: the row was changed; was id=1, a='one'; is now id=1, a='x'"],
    );
    check(
        T,
        "DELETE FROM t WHERE id = 1",
        "DELETE FROM t WHERE id = 1",
        expect!["merged"],
    );
}

#[test]
fn both_inserted_a_key() {
    check(
        T,
        "INSERT INTO t VALUES (3, 'x')",
        "INSERT INTO t VALUES (3, 'y')",
        expect!["t [id=3]: another row has this key; is now id=3, a='y'; proposed id=3, a='x'"],
    );
    check(
        T,
        "INSERT INTO t VALUES (3, 'x')",
        "INSERT INTO t VALUES (3, 'x')",
        expect!["merged"],
    );
}

#[test]
fn rows_without_a_key_get_new_places() {
    let setup = "CREATE TABLE t (a); INSERT INTO t VALUES (1)";
    check(
        setup,
        "INSERT INTO t VALUES (2)",
        "INSERT INTO t VALUES (3)",
        expect!["merged"],
    );
    let case = Case::new(setup);
    case.agent("INSERT INTO t VALUES (2)")
        .others("INSERT INTO t VALUES (3)");
    let theirs = content(&case.source());
    assert_eq!(case.merge(), Ok(()));
    assert_eq!(
        content(&case.source())["t"],
        ["Integer(1)", "Integer(2)", "Integer(3)"]
    );
    assert_eq!(case.revert(), Ok(()));
    assert_same(&content(&case.source()), &theirs, "revert");
}

#[test]
fn a_unique_value_is_taken() {
    check(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, u UNIQUE)",
        "INSERT INTO t VALUES (1, 'a')",
        "INSERT INTO t VALUES (2, 'a')",
        expect![
            "t [id=1]: the database refuses the row: UNIQUE constraint failed: t.u; proposed id=1, u='a'"
        ],
    );
}

#[test]
fn foreign_keys_that_break() {
    let setup = "CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE c (id INTEGER PRIMARY KEY, p REFERENCES p); INSERT INTO p VALUES (1), (2);";
    check(
        setup,
        "INSERT INTO c VALUES (1, 2)",
        "DELETE FROM p WHERE id = 2",
        expect!["c [id=1]: foreign key: p=2 refers to no row of p"],
    );
    check(
        setup,
        "DELETE FROM p WHERE id = 2",
        "INSERT INTO c VALUES (1, 2)",
        expect!["c: foreign key: p=2 refers to no row of p"],
    );
    check(
        &format!("{setup} CREATE INDEX i ON c (p)"),
        "DELETE FROM p WHERE id = 2",
        "INSERT INTO c VALUES (1, 2)",
        expect!["p [id=2]: foreign key: rows of c still refer to it"],
    );
}

#[test]
fn definitions_that_differ() {
    check(
        T,
        "UPDATE t SET a = 'x' WHERE id = 1",
        "ALTER TABLE t ADD COLUMN b",
        expect!["t: the table was redefined"],
    );
    check(
        T,
        "UPDATE t SET a = 'x' WHERE id = 1",
        "DROP TABLE t",
        expect!["t: the table was dropped"],
    );
    check(
        T,
        "CREATE TABLE n (a)",
        "CREATE TABLE n (b)",
        expect!["n: a table of this name exists with another definition"],
    );
    check(
        T,
        "CREATE TABLE n (a)",
        "CREATE TABLE n (a)",
        expect!["merged"],
    );
    check(
        T,
        "DROP TABLE t",
        "INSERT INTO t VALUES (3, 3)",
        expect!["t: the table to drop has rows that were added"],
    );
    check(
        T,
        "DROP TABLE t",
        "CREATE INDEX i ON t (a)",
        expect!["t: the table to drop got the index i"],
    );
    check(
        T,
        "ALTER TABLE t DROP COLUMN a",
        "INSERT INTO t VALUES (3, 3)",
        expect![[r#"
            t: the table to drop has rows that were added
            t: a table of this name exists with another definition"#]],
    );
    check(
        T,
        "PRAGMA user_version = 1",
        "PRAGMA user_version = 2",
        expect!["the database: `user_version` was 0, is now 2, and 1 is proposed"],
    );
}

#[test]
fn a_search_index_that_both_changed() {
    let setup = "CREATE VIRTUAL TABLE f USING fts5(a); INSERT INTO f VALUES ('one')";
    check(
        setup,
        "INSERT INTO f VALUES ('two')",
        "INSERT INTO f VALUES ('three')",
        expect!["f: the virtual table was changed; its index cannot be merged with another"],
    );
}

#[test]
fn a_revert_spares_later_work() {
    let case = Case::new(T);
    case.agent("UPDATE t SET a = 'x' WHERE id = 1");
    assert_eq!(case.merge(), Ok(()));
    case.others("UPDATE t SET a = 'later' WHERE id = 1");
    let conflicts = case.revert().unwrap_err();
    expect!["t [id=1] the row was changed; was id=1, a='x'; is now id=1, a='later'; proposed id=1, a='one'"]
        .assert_eq(&format!("{} {}", conflicts[0].place(), conflicts[0].detail()));
}
