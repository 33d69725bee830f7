//! What a run may leave behind where its database was: always an answer, never a crash.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use belljar_branch::engine::sqlite::{self, Bounds};
use expect_test::{Expect, expect};
use rusqlite::Connection;

use super::support::Case;

const SETUP: &str = "PRAGMA page_size = 512; CREATE TABLE t (id INTEGER PRIMARY KEY, a, b); CREATE INDEX i ON t (a);
    CREATE TABLE w (k TEXT PRIMARY KEY, v) WITHOUT ROWID;
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40)
    INSERT INTO t SELECT i, 'a' || i, zeroblob(i * 30) FROM n; INSERT INTO w SELECT a, b FROM t;";

/// Replaces the database and tells what the change set says.
fn check(replace: impl Fn(&Path), expected: Expect) {
    let case = Case::new(SETUP);
    replace(&case.work());
    let changes = case.seal();
    expected.assert_eq(&changes.unreadable.unwrap_or_else(|| "readable".into()));
}

#[test]
fn replaced() {
    let gone = |path: &Path| fs::remove_file(path).unwrap();
    check(gone, expect!["the file is gone"]);
    check(
        |path| {
            gone(path);
            symlink("/etc/passwd", path).unwrap();
        },
        expect!["it was replaced by a symbolic link"],
    );
    check(
        |path| {
            gone(path);
            fs::create_dir(path).unwrap();
        },
        expect!["it was replaced by a directory"],
    );
    check(
        |path| {
            gone(path);
            rustix::fs::mknodat(
                rustix::fs::CWD,
                path,
                rustix::fs::FileType::Fifo,
                0o600.into(),
                0,
            )
            .unwrap();
        },
        expect!["it was replaced by a pipe"],
    );
    check(
        |path| {
            gone(path);
            std::os::unix::net::UnixListener::bind(path).unwrap();
        },
        expect!["it was replaced by a socket or pipe"],
    );
    check(
        |path| fs::write(path, "hello").unwrap(),
        expect!["it is not a SQLite database: it is shorter than a header"],
    );
    check(
        |path| fs::write(path, vec![b'x'; 9000]).unwrap(),
        expect![
            "it is not a SQLite database: its first bytes are not `SQLite format 3` (encrypted, or another format)"
        ],
    );
    check(|path| fs::write(path, "").unwrap(), expect!["readable"]);
}

#[test]
fn damaged_or_with_companions_of_its_own() {
    let log = |path: &Path| path.with_extension("db-wal");
    check(
        |path| symlink("/etc/passwd", log(path)).unwrap(),
        expect!["it was replaced by a symbolic link"],
    );
    check(
        |path| fs::write(log(path), vec![1; 5000]).unwrap(),
        expect!["readable"],
    );
    check(
        |path| {
            fs::File::options()
                .write(true)
                .open(path)
                .unwrap()
                .set_len(1 << 42)
                .unwrap()
        },
        expect!["readable"],
    );
    check(
        |path| {
            fs::File::options()
                .write(true)
                .open(path)
                .unwrap()
                .set_len(512)
                .unwrap()
        },
        expect!["the database is corrupt: the file is shorter than its header says"],
    );
}

/// A journal may promise pages that the database does not have; that is the run's doing, and must not
/// be taken for damage to the frozen copy, which would leave the run without a change set.
#[test]
fn shorter_than_its_journal_says() {
    let cut = |path: &Path| {
        let file = fs::File::options().write(true).open(path).unwrap();
        let bytes = file.metadata().unwrap().len();
        file.set_len(bytes - 512).unwrap();
        let mut journal = b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7".to_vec();
        let pages = u32::try_from(bytes / 512).unwrap();
        for word in [0, 0, pages, 512, 512] {
            journal.extend_from_slice(&u32::to_be_bytes(word));
        }
        journal.resize(512, 0);
        fs::write(path.with_extension("db-journal"), journal).unwrap();
    };
    check(
        cut,
        expect!["it could not be read: failed to fill whole buffer"],
    );
}

#[test]
fn definitions_that_are_not_what_they_seem() {
    for (sql, expected) in [
        (
            "UPDATE sqlite_schema SET sql = 'CREATE TABLE t AS SELECT 1' WHERE name = 't'",
            "not what it says",
        ),
        (
            "UPDATE sqlite_schema SET sql = 'DROP TABLE w' WHERE name = 't'",
            "not understood",
        ),
        (
            "UPDATE sqlite_schema SET sql = 'CREATE TABLE t (id INTEGER PRIMARY KEY, a, b); DROP TABLE x' WHERE name = 't'",
            "not understood",
        ),
        (
            "INSERT INTO sqlite_schema VALUES ('trigger', 'tr', 't', 0, 'CREATE TABLE evil (a)')",
            "not what it says",
        ),
        (
            "INSERT INTO sqlite_schema VALUES ('table', 'v', 'v', 0, 'CREATE VIRTUAL TABLE v USING csv(x)')",
            "cannot be carried over",
        ),
        (
            "INSERT INTO sqlite_schema VALUES ('table', 'u', 'u', 2, 'CREATE TABLE u (a)')",
            "in two places",
        ),
    ] {
        let case = Case::new(SETUP);
        let connection = Connection::open(case.work()).unwrap();
        connection
            .execute_batch("PRAGMA writable_schema = ON")
            .unwrap();
        connection.execute_batch(sql).unwrap();
        drop(connection);
        let reason = case.seal().unreadable.unwrap_or_default();
        assert!(reason.contains(expected), "{reason}: {sql}");
    }
}

/// Bytes all over a small database, changed: an answer each time, and a merge only of what the
/// change set shows.
#[test]
fn every_byte_changed() {
    let case = Case::new(SETUP);
    case.agent("UPDATE t SET a = 'x' WHERE id % 2; DELETE FROM w WHERE v = zeroblob(300); CREATE TABLE n (a PRIMARY KEY); INSERT INTO n VALUES (1)");
    let good = fs::read(case.work()).unwrap();
    let mut answers = [0, 0];
    for at in 0..good.len() {
        // One in three, and of the long runs of zeroes fewer: a debug build is slow.
        if at % (if good[at] == 0 { 61 } else { 3 }) != 0 {
            continue;
        }
        let mut bytes = good.clone();
        bytes[at] ^= [0xff, 0x01, 0x80][at / 3 % 3];
        fs::write(case.work(), &bytes).unwrap();
        let changes = sqlite::seal(&case.database()).unwrap();
        answers[usize::from(changes.unreadable.is_some())] += 1;
        let set = sqlite::ChangeSet::load(&case.database()).unwrap();
        set.text(Bounds::default()).unwrap();
    }
    assert!(answers[0] > 0 && answers[1] > 0, "{answers:?}");
}

/// Rows that share bytes would make a change set of a thousand times the file's size.
#[test]
fn rows_that_overlap() {
    let case = Case::new("PRAGMA page_size = 65536; CREATE TABLE t (id INTEGER PRIMARY KEY, a)");
    // A page of one row, whose content is then the heads of a thousand rows, each of which reaches
    // to the end of the page.
    case.agent("INSERT INTO t VALUES (1, zeroblob(60000))");
    let mut bytes = fs::read(case.work()).unwrap();
    let page = bytes.len() - 65_536;
    let (step, count) = (16_usize, 1000_usize);
    let first = 65_536 - 40_000;
    let long = |number: usize| {
        let high = [14, 7].map(|shift| u8::try_from(number >> shift & 0x7f).unwrap() | 0x80);
        [high[0], high[1], u8::try_from(number & 0x7f).unwrap()]
    };
    for row in 0..count {
        let at = first + row * step;
        let content = 65_536 - at - 11;
        let mut cell = long(content + 5).to_vec();
        cell.extend(long(row + 1));
        cell.extend([5, 0]);
        cell.extend(long(content * 2 + 12));
        bytes[page + at..page + at + cell.len()].copy_from_slice(&cell);
        let pointer = page + 8 + 2 * row;
        bytes[pointer..pointer + 2].copy_from_slice(&u16::try_from(at).unwrap().to_be_bytes());
    }
    bytes[page + 3..page + 5].copy_from_slice(&u16::try_from(count).unwrap().to_be_bytes());
    fs::write(case.work(), bytes).unwrap();
    let reason = case.seal().unreadable.unwrap_or_default();
    assert_eq!(reason, "the database is corrupt: rows overlap");
}

/// A long default is in every row that was there before it: said, and not written a million times.
#[test]
fn a_default_as_long_as_the_database() {
    let case = Case::new(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL \
         SELECT i + 1 FROM n WHERE i < 2000) INSERT INTO t SELECT i, 'a' FROM n",
    );
    let long = "x".repeat(500_000);
    case.agent(&format!(
        "ALTER TABLE t ADD COLUMN b DEFAULT '{long}'; DELETE FROM t WHERE id > 1000; \
         UPDATE t SET b = 1, a = 'b'"
    ));
    let reason = case.seal().unreadable.unwrap_or_default();
    assert!(
        reason.contains("more than the two databases explain"),
        "{reason}"
    );
    let rows = fs::metadata(case.database().join("changes.rows")).unwrap();
    assert!(rows.len() < 1000, "{rows:?}");
}

#[test]
fn cut_at_every_page_and_logs_of_noise() {
    let case = Case::new(SETUP);
    case.agent("UPDATE t SET a = 'x' WHERE id % 2");
    let good = fs::read(case.work()).unwrap();
    for length in (0..good.len()).step_by(100) {
        fs::write(case.work(), &good[..length]).unwrap();
        case.seal();
    }
}

#[test]
fn an_unfinished_transaction_is_rolled_back() {
    for mode in ["DELETE", "PERSIST", "WAL"] {
        let case = Case::new(SETUP);
        case.agent("UPDATE t SET a = 'kept' WHERE id = 1");
        let work = case.work();
        let connection = Connection::open(&work).unwrap();
        connection.execute_batch(&format!("PRAGMA journal_mode = {mode}; PRAGMA cache_size = 1; UPDATE t SET b = 'kept too' WHERE id = 2;")).unwrap();
        connection
            .execute_batch("BEGIN; UPDATE t SET a = 'lost', b = randomblob(900)")
            .unwrap();
        // As a kill would leave it: the files as they are now, the connection never closed.
        let left: Vec<(String, Vec<u8>)> = fs::read_dir(work.parent().unwrap())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| !path.to_str().unwrap().ends_with("-shm"))
            .map(|path| {
                (
                    path.file_name().unwrap().to_str().unwrap().into(),
                    fs::read(&path).unwrap(),
                )
            })
            .collect();
        assert!(left.len() == 2, "{mode}: a journal is there");
        drop(connection);
        for (name, bytes) in left {
            fs::write(work.with_file_name(name), bytes).unwrap();
        }
        let changes = case.seal();
        assert_eq!(changes.unreadable, None, "{mode}");
        assert_eq!(changes.totals(), (0, 2, 0), "{mode}");
    }
}

#[test]
fn text_that_would_move_a_cursor_is_visible() {
    let case = Case::new("CREATE TABLE t (id INTEGER PRIMARY KEY, a)");
    case.agent("INSERT INTO t VALUES (1, char(27) || '[2J' || char(0x202e) || 'x'), (2, x'00ff')");
    expect![[r"
        t: +2 ~0 -0

        table t
          + id=1  a='\u{1b}[2J\u{202e}x'
          + id=2  a=x'00ff'
    "]]
    .assert_eq(&case.set().text(Bounds::default()).unwrap());
}
