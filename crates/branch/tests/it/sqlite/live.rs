//! Branching while others read and write, and sources that are none.
#![expect(
    clippy::unwrap_used,
    reason = "a case that cannot be set up is a failed test"
)]

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use belljar_base::{HasKind, Kind};
use belljar_branch::engine::sqlite;
use rusqlite::Connection;

use super::support::{Case, chain, content};

/// A writer moves money between two rows; every branch must see the sum whole.
fn branches_under_a_writer(mode: &str) {
    let case = Case::unbranched(&format!(
        "PRAGMA journal_mode = {mode}; CREATE TABLE t (id INTEGER PRIMARY KEY, a INT, pad BLOB);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300)
         INSERT INTO t SELECT i, 10, randomblob(900) FROM n"
    ));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let connection = Connection::open(case.source()).unwrap();
            connection.busy_timeout(std::time::Duration::from_secs(20)).unwrap();
            connection.execute_batch("PRAGMA wal_autocheckpoint = 20; PRAGMA synchronous = OFF").unwrap();
            let mut count = 0_u32;
            while !stop.load(Ordering::Relaxed) {
                connection.execute_batch(&format!(
                    "BEGIN IMMEDIATE; UPDATE t SET a = a - 1, pad = randomblob(900) WHERE id = {};
                     UPDATE t SET a = a + 1 WHERE id = {}; COMMIT", count % 300 + 1, (count * 7) % 300 + 1
                )).unwrap();
                count += 1;
                std::thread::yield_now();
            }
            count
        });
        for index in 0..20 {
            let into = case.run().join(format!("branch {index}"));
            let branched = sqlite::branch(&case.source(), &into).unwrap();
            let connection = Connection::open(&branched.database).unwrap();
            let (sum, check): (i64, String) = connection
                .query_row(
                    "SELECT sum(a), (SELECT * FROM pragma_integrity_check) FROM t",
                    (),
                    |row| Ok((row.get(0)?, row.get(1)?)),
                )
                .unwrap();
            assert_eq!((sum, check.as_str()), (3000, "ok"), "{mode}");
            drop(connection);
            assert!(sqlite::seal(&into).unwrap().tables.is_empty());
        }
        stop.store(true, Ordering::Relaxed);
        assert!(writer.join().unwrap() > 0);
    });
}

#[test]
fn a_writer_with_a_write_ahead_log() {
    branches_under_a_writer("WAL");
}

#[test]
fn a_writer_with_a_rollback_journal() {
    branches_under_a_writer("DELETE");
}

#[test]
fn a_log_that_was_never_checkpointed_comes_along() {
    let case = Case::unbranched("PRAGMA journal_mode = WAL; CREATE TABLE t (a)");
    let connection = Connection::open(case.source()).unwrap();
    connection
        .execute_batch("PRAGMA wal_autocheckpoint = 0; INSERT INTO t VALUES (1), (2)")
        .unwrap();
    case.branch();
    assert!(case.seal().is_empty());
    case.agent("INSERT INTO t VALUES (3)");
    assert_eq!(case.seal().totals(), (1, 0, 0));
    connection
        .execute_batch("INSERT INTO t VALUES (4)")
        .unwrap();
    drop(connection);
    assert_eq!(case.merge(), Ok(()));
    assert_eq!(content(&case.source())["t"].len(), 4);
}

#[test]
fn sources_that_are_none() {
    let case = Case::unbranched("");
    let fail = |name: &str, bytes: Option<&[u8]>| {
        let path = case.run().join(name);
        if let Some(bytes) = bytes {
            fs::write(&path, bytes).unwrap();
        }
        let error = sqlite::branch(&path, &case.run().join("into")).unwrap_err();
        (
            error.kind(),
            chain(&error).replace(case.run().to_str().unwrap(), "RUN"),
        )
    };
    let (kind, text) = fail("missing", None);
    assert_eq!(kind, Kind::NotFound);
    assert!(
        text.starts_with("could not open the database `RUN/missing`"),
        "{text}"
    );
    let (kind, text) = fail("encrypted", Some(&[0x5a; 4096]));
    assert_eq!(kind, Kind::Invalid);
    assert!(text.contains("not a SQLite database"), "{text}");
    assert_eq!(fail("short", Some(b"SQLite format 3\0")).0, Kind::Invalid);
    fs::create_dir(case.run().join("directory")).unwrap();
    let (kind, text) = fail("directory", None);
    assert_eq!(kind, Kind::Invalid);
    assert!(text.contains("directory"), "{text}");
}

#[test]
fn only_the_database_is_in_the_directory_a_run_gets() {
    let case = Case::new("CREATE TABLE t (a)");
    let names: Vec<_> = fs::read_dir(case.work().parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["work.db"]);
}
