//! Stopped at every step, as a kill would: afterwards another process finds either the tree before
//! or the tree after, and nothing left over.
#![expect(
    clippy::unwrap_used,
    reason = "a stage that cannot be set is a failed test"
)]

use std::ops::ControlFlow;
use std::path::Path;

use belljar_branch::engine::{DeedKind, Steps};
use belljar_branch::merge::{self, BranchState, MergeError, Recovery};

use super::stage::{Snapshot, Stage};

const BEFORE: &str = "mkdir -p d/e gone/deep t locked; echo one >a; echo two >b; echo x >d/x; echo y >d/e/y
    echo g >gone/deep/g; echo m >m; ln -s a l; echo k >locked/k; echo f >f; echo t >t/t; chmod 700 d";
const DURING: &str = "echo more >>a; rm b; rm -r gone; mkdir -p new/deep; echo n >new/deep/n; chmod 500 new
    chmod 600 m; chmod 755 d; ln -sf d l; rm f; mkdir f; echo i >f/i; rm -r t; echo file >t; mkfifo p";

/// Each stage is made at another time.
fn without_times(mut snapshot: Snapshot) -> Snapshot {
    for facts in snapshot.values_mut() {
        facts.retain(|fact| !fact.starts_with("mtime"));
    }
    snapshot
}

fn sealed() -> (Stage, Snapshot) {
    let stage = Stage::new(BEFORE);
    stage.inside(DURING);
    let changes = stage.seal();
    assert_eq!(changes.summary().added, 5);
    let before = stage.snapshot();
    (stage, before)
}

/// Does a deed, stopped at step `stop`; whether it got that far.
fn stopped(stage: &Stage, kind: Option<DeedKind>, stop: usize) -> bool {
    let mut step = 0;
    let mut watch = |_: &str| {
        step += 1;
        if step > stop {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let mut steps = Steps::watched(&mut watch);
    let (run, mut engines) = (stage.run_directory(), stage.engines());
    let result = match kind {
        Some(DeedKind::Merge) => merge::merge(&run, &mut engines, &mut steps).map(|_| ()),
        Some(DeedKind::Revert) => merge::revert(&run, &mut engines, &mut steps).map(|_| ()),
        None => merge::recover(&run, &mut engines, &mut steps).map(|_| ()),
    };
    assert_eq!(result.is_err(), step > stop, "{result:?}");
    step > stop
}

fn recover(stage: &Stage) -> Recovery {
    let mut steps = Steps::unwatched();
    merge::recover(&stage.run_directory(), &mut stage.engines(), &mut steps).unwrap()
}

fn check(stage: &Stage, recovery: &Recovery, before: &Snapshot, after: &Snapshot, what: &str) {
    match recovery {
        Recovery::Finished(_, report) => {
            assert_eq!(&without_times(stage.snapshot()), after, "{what}");
            assert_eq!(report.notes, [""; 0], "{what}");
        }
        // Only the time of the workspace's own directory may tell that somebody was there.
        Recovery::Undone(_, report) => {
            let (mut found, mut before) = (stage.snapshot(), before.clone());
            found.remove(Path::new(""));
            before.remove(Path::new(""));
            assert_eq!(found, before, "{what}");
            assert_eq!(report.notes, [""; 0], "{what}");
        }
        Recovery::Nothing => assert_eq!(what, "", "nothing was interrupted"),
    }
    assert!(!merge::is_interrupted(&stage.run_directory()).unwrap());
}

fn at_every_step(kind: DeedKind, from: &dyn Fn() -> (Stage, Snapshot), after: &Snapshot) {
    let (mut finished, mut undone) = (0, 0);
    for stop in 0.. {
        let (stage, before) = from();
        if !stopped(&stage, Some(kind), stop) {
            assert!(finished > 0 && undone > 0, "{finished} {undone}");
            return;
        }
        // A second crash, while the first is being recovered from.
        stopped(&stage, None, stop % 7);
        if merge::is_interrupted(&stage.run_directory()).unwrap() {
            let what = format!("{kind:?} stopped at step {stop}");
            let recovery = recover(&stage);
            finished += usize::from(matches!(recovery, Recovery::Finished(..)));
            undone += usize::from(matches!(recovery, Recovery::Undone(..)));
            check(&stage, &recovery, &before, after, &what);
        }
        assert_eq!(recover(&stage), Recovery::Nothing);
        let state = merge::state(&stage.run_directory()).unwrap();
        if kind == DeedKind::Merge && state == BranchState::Merged {
            stage.revert().unwrap();
        } else if kind == DeedKind::Merge {
            stage.merge().unwrap();
        }
    }
}

#[test]
fn merge_stopped_at_every_step() {
    let (stage, _) = sealed();
    stage.merge().unwrap();
    let after = without_times(stage.snapshot());
    assert!(after.contains_key(Path::new("new/deep/n")) && !after.contains_key(Path::new("b")));
    at_every_step(DeedKind::Merge, &sealed, &after);
}

#[test]
fn revert_stopped_at_every_step() {
    let merged = || {
        let (stage, _) = sealed();
        stage.merge().unwrap();
        let before = stage.snapshot();
        (stage, before)
    };
    let (_, original) = sealed();
    at_every_step(DeedKind::Revert, &merged, &without_times(original));
}

/// Somebody edits `m` after the check, so that the merge fails half-way and is undone; a crash
/// during that is recovered from as well, and the edit stays.
#[test]
fn undoing_stopped_at_every_step() {
    for stop in 0.. {
        let (stage, mut before) = sealed();
        let file = stage.lower().join("locked/k");
        let (edited, mut step, mut is_edited) = (stage.lower().join("a"), 0, false);
        let mut watch = |name: &str| {
            if name == "files: plan stored" {
                std::fs::write(&edited, "an edit").unwrap();
                is_edited = true;
            }
            step += usize::from(is_edited);
            if step > stop {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        let mut steps = Steps::watched(&mut watch);
        let result = merge::merge(&stage.run_directory(), &mut stage.engines(), &mut steps);
        let is_over = step <= stop;
        if is_over {
            assert!(
                matches!(result, Err(MergeError::Conflicts(_))),
                "{result:?}"
            );
        } else {
            recover(&stage);
        }
        assert!(file.exists());
        assert_eq!(std::fs::read(&edited).unwrap(), b"an edit");
        let mut found = stage.snapshot();
        for path in ["", "a"] {
            found.remove(Path::new(path));
            before.remove(Path::new(path));
        }
        assert_eq!(found, before, "stopped at step {stop}");
        if is_over {
            return;
        }
    }
}
