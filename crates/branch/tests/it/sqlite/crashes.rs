//! A merge that is killed, or stopped at a step, is wholly there or not at all, and what is on
//! disk is enough to finish it or to take it back.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use belljar_base::DatabaseName;
use belljar_branch::engine::sqlite::Sqlite;
use belljar_branch::engine::{Deed, DeedKind, Engine, EngineError, Steps};

use super::support::{Case, Content, assert_same, content};

const CHILD: &str = "BELLJAR_TEST_MERGE_IN";

fn case() -> Case {
    let case = Case::new(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a, b UNIQUE); CREATE INDEX i ON t (a);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4000)
         INSERT INTO t SELECT i, hex(randomblob(40)), i FROM n",
    );
    case.agent("UPDATE t SET a = 'changed' WHERE id % 2; DELETE FROM t WHERE id % 10 = 4; CREATE TABLE n (x); INSERT INTO n SELECT id FROM t");
    case.seal();
    case
}

/// Either side, nothing between; answers whether it is the merged one.
fn is_merged(case: &Case, before: &Content, after: &Content) -> bool {
    let now = content(&case.source());
    if now == *before {
        return false;
    }
    assert_same(&now, after, "half a merge");
    true
}

#[test]
fn stopped_at_every_step_then_finished_or_undone() {
    let mut stopped = 0;
    for step in 0..8 {
        for finish in [true, false] {
            let case = case();
            let (before, after) = (content(&case.source()), content(&case.work()));
            let mut left = step;
            let mut watch = |_: &str| {
                left -= 1;
                if left < 0 {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            };
            let mut engine = case.engine(DeedKind::Merge);
            let mut steps = Steps::watched(&mut watch);
            let done = engine
                .prepare(&mut steps)
                .and_then(|()| engine.apply(&mut steps));
            stopped += i32::from(matches!(done, Err(EngineError::Stopped(_))));
            drop(engine);
            is_merged(&case, &before, &after);
            // Another process comes back to it, twice.
            for _ in 0..2 {
                let mut engine = case.engine(DeedKind::Merge);
                let mut steps = Steps::unwatched();
                if finish {
                    engine.apply(&mut steps).unwrap();
                } else {
                    engine.undo(&mut steps).unwrap();
                }
                engine.finish(&mut steps).unwrap();
                drop(engine);
                assert_eq!(is_merged(&case, &before, &after), finish, "step {step}");
            }
        }
    }
    assert!(stopped >= 6, "{stopped}");
}

/// Not a test of its own: the process that the next one kills.
#[test]
fn child_that_merges() {
    #[expect(
        clippy::disallowed_methods,
        reason = "a test tells its child where to work"
    )]
    let Some(run) = std::env::var_os(CHILD) else {
        return;
    };
    let name: DatabaseName = "main".parse().unwrap();
    let mut engine = Sqlite::new(&name, &Deed::new(DeedKind::Merge, PathBuf::from(run)));
    let mut steps = Steps::unwatched();
    engine.prepare(&mut steps).unwrap();
    engine.apply(&mut steps).unwrap();
}

#[test]
fn killed_at_random_moments() {
    let mut merged = 0;
    for round in 0..30_u64 {
        let case = case();
        let (before, after) = (content(&case.source()), content(&case.work()));
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "sqlite::crashes::child_that_merges"])
            .env(CHILD, case.run())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_micros(round * 4700 % 150_000));
        child.kill().unwrap();
        child.wait().unwrap();
        merged += u32::from(is_merged(&case, &before, &after));
        let mut engine = case.engine(DeedKind::Merge);
        let mut steps = Steps::unwatched();
        if round % 2 == 0 {
            engine.apply(&mut steps).unwrap();
        } else {
            engine.undo(&mut steps).unwrap();
        }
        engine.finish(&mut steps).unwrap();
        drop(engine);
        assert_eq!(
            is_merged(&case, &before, &after),
            round % 2 == 0,
            "round {round}"
        );
    }
    println!("{merged} of 30 had committed when they were killed");
}
