//! Measures branch, diff, merge and revert of a big SQLite database in the directory given as the
//! first argument, and prints one JSON object a line: `cargo run --release --example
//! measure_sqlite -- DIRECTORY [MEBIBYTES]`.
#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use belljar_base::DatabaseName;
use belljar_branch::engine::sqlite::{self, ChangeSet, Sqlite};
use belljar_branch::engine::{Deed, DeedKind, Engine, Steps};
use rusqlite::Connection;

/// Bytes of a row, more or less.
const ROW_BYTES: i64 = 512;
const ROUNDS: u32 = 7;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments
        .next()
        .ok_or("usage: measure_sqlite DIRECTORY [MEBIBYTES]")?;
    let mebibytes: i64 = arguments.next().map_or(Ok(1024), |text| text.parse())?;
    let directory = Path::new(&directory).join("measure-sqlite");
    std::fs::create_dir(&directory)?;
    let measured = measure(&directory, mebibytes);
    std::fs::remove_dir_all(&directory)?;
    measured
}

fn measure(directory: &Path, mebibytes: i64) -> Result<(), Box<dyn Error>> {
    let source = directory.join("source.db");
    let rows = mebibytes * (1 << 20) / ROW_BYTES;
    fill(&source, rows)?;
    let bytes = std::fs::metadata(&source)?.len();
    for _ in 0..ROUNDS {
        let into = directory.join("branch");
        let start = Instant::now();
        let branched = sqlite::branch(&source, &into)?;
        tell(
            "sqlite_branch",
            start,
            &format!("\"bytes\":{bytes},\"method\":\"{:?}\"", branched.method),
        );
        std::fs::remove_dir_all(into)?;
    }
    // Spread over the file, each changed row costs a page; side by side, as a table rewritten by one
    // statement is, they cost what they weigh.
    for (changed, spread) in [(1000, true), (200_000, false), (200_000, true)] {
        let run = directory.join(format!("run-{changed}-{spread}"));
        let database = run.join("db").join("main");
        let branched = sqlite::branch(&source, &database)?;
        let step = if spread { (rows / changed).max(1) } else { 1 };
        let last = if spread { rows } else { changed };
        let agent = Connection::open(&branched.database)?;
        agent.execute(
            "UPDATE t SET a = a + 1, note = 'rewritten' WHERE id % ?1 = 0 AND id <= ?2",
            [step, last],
        )?;
        drop(agent);
        for _ in 0..3 {
            let start = Instant::now();
            let changes = sqlite::seal(&database)?;
            tell(
                "sqlite_diff",
                start,
                &format!("\"bytes\":{bytes},\"rows\":{}", changes.totals().1),
            );
        }
        let start = Instant::now();
        ChangeSet::load(&database)?;
        tell(
            "sqlite_load",
            start,
            &format!("\"rows\":{changed},\"spread\":{spread}"),
        );
        let name: DatabaseName = "main".parse()?;
        for (label, kind) in [
            ("sqlite_merge", DeedKind::Merge),
            ("sqlite_revert", DeedKind::Revert),
        ] {
            let start = Instant::now();
            let mut engine = Sqlite::new(&name, &Deed::new(kind, &run));
            let found = engine.conflicts()?;
            if !found.is_empty() {
                return Err(format!("{} conflicts", found.len()).into());
            }
            let mut steps = Steps::unwatched();
            engine.prepare(&mut steps)?;
            engine.apply(&mut steps)?;
            engine.finish(&mut steps)?;
            drop(engine);
            tell(
                label,
                start,
                &format!("\"bytes\":{bytes},\"rows\":{changed},\"spread\":{spread}"),
            );
        }
    }
    Ok(())
}

fn fill(source: &Path, rows: i64) -> Result<(), Box<dyn Error>> {
    let connection = Connection::open(source)?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;
         CREATE TABLE t (id INTEGER PRIMARY KEY, a INT, note TEXT, pad BLOB);
         CREATE INDEX by_a ON t (a);",
    )?;
    connection.execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
         INSERT INTO t SELECT i, i * 7, 'note ' || i, randomblob(470) FROM n",
        [rows],
    )?;
    connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")?;
    drop(connection);
    std::fs::File::open(source)?.sync_all()?;
    Ok(())
}

fn tell(what: &str, start: Instant, more: &str) {
    let millis = start.elapsed().as_secs_f64() * 1000.0;
    println!("{{\"measure\":\"{what}\",\"milliseconds\":{millis:.3},{more}}}");
}
