//! Branching while others read and write, and sources that are none.
#![expect(
    clippy::unwrap_used,
    reason = "a case that cannot be set up is a failed test"
)]

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use belljar_base::{HasKind, Kind};
use belljar_branch::engine::sqlite;
use rusqlite::Connection;

use super::support::{Case, chain, content};

/// Moves money between two rows until it is ended; says so after its first transaction. A process
/// of its own, as writers are: locks on files belong to processes.
const WRITER: &str = "
import sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], timeout=20, isolation_level=None)
db.execute('PRAGMA wal_autocheckpoint = 20')
db.execute('PRAGMA synchronous = OFF')
count = 0
while True:
    db.execute('BEGIN IMMEDIATE')
    db.execute('UPDATE t SET a = a - 1, pad = randomblob(900) WHERE id = ?', (count % 300 + 1,))
    db.execute('UPDATE t SET a = a + 1 WHERE id = ?', (count * 7 % 300 + 1,))
    db.execute('COMMIT')
    if count == 0:
        print('writing', flush=True)
    count += 1
    time.sleep(0.0005)
";

/// The writer, ended whatever becomes of the test.
struct Writer(Child);

impl Writer {
    fn start(source: &Path) -> Self {
        let mut child = Command::new("python3")
            .args(["-c", WRITER])
            .arg(source)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut word = [0; 8];
        child
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut word)
            .unwrap();
        Self(child)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// While somebody else writes, every branch must see the sum whole.
fn branches_under_a_writer(mode: &str) {
    let case = Case::unbranched(&format!(
        "PRAGMA journal_mode = {mode}; CREATE TABLE t (id INTEGER PRIMARY KEY, a INT, pad BLOB);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300)
         INSERT INTO t SELECT i, 10, randomblob(900) FROM n"
    ));
    let mut writer = Writer::start(&case.source());
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
    // It was writing all the time.
    assert!(writer.0.try_wait().unwrap().is_none());
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
