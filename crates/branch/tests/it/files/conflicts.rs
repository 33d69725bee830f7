//! What is in the way of a merge: it is named, and nothing is touched.

use std::ops::ControlFlow;
use std::path::Path;

use belljar_base::{HasKind as _, Kind};
use belljar_branch::engine::{Conflict, Deed, Engine, EngineError, Steps};
use belljar_branch::merge::{self, BranchState, MergeError};
use expect_test::{Expect, expect};

use super::stage::{Stage, now};

const TREE: &str =
    "mkdir -p d/e s; echo one >a; echo two >b; echo x >d/x; echo y >d/e/y; echo z >s/z";

fn conflicts(error: &MergeError) -> String {
    let MergeError::Conflicts(conflicts) = error else {
        return format!("{error:?}");
    };
    let line = |conflict: &belljar_branch::engine::Conflict| {
        format!("{}: {}\n", conflict.place, conflict.reason)
    };
    conflicts.iter().map(line).collect()
}

/// The run does `inside`, somebody else does `outside`; a merge finds the conflicts.
fn check(inside: &str, outside: &str, expected: Expect) {
    let stage = Stage::new(TREE);
    stage.inside(inside);
    stage.seal();
    now();
    stage.outside(outside);
    let before = stage.snapshot();
    let found = match stage.merge() {
        Ok(_) => "merged\n".to_owned(),
        Err(error) => {
            assert_eq!(error.kind(), Kind::Conflict);
            assert_eq!(stage.snapshot(), before, "something was touched");
            conflicts(&error)
        }
    };
    expected.assert_eq(&found);
}

#[test]
fn changed_on_both_sides() {
    check(
        "echo 1 >>a",
        "echo 2 >>a",
        expect![["a: it has been changed since\n"]],
    );
    check(
        "echo 1 >>a",
        "chmod 600 a",
        expect![["a: it has been changed since\n"]],
    );
    check(
        "echo 1 >>a",
        "touch -d 2001-01-01 a; touch a",
        expect![["a: it has been changed since\n"]],
    );
    check(
        "echo 1 >>a",
        "cp a a2; mv a2 a",
        expect![["a: it has been changed since\n"]],
    );
    check(
        "rm a",
        "echo 2 >>a",
        expect![["a: it has been changed since\n"]],
    );
    check(
        "chmod 600 a",
        "echo 2 >>a",
        expect![["a: it has been changed since\n"]],
    );
}

#[test]
fn removed_or_created_on_the_other_side() {
    check(
        "echo 1 >>a",
        "rm a",
        expect![["a: it has been removed since\n"]],
    );
    check(
        "echo 1 >n",
        "echo 2 >n",
        expect![["n: something else has been created there since\n"]],
    );
    check(
        "echo 1 >>a",
        "rm a; mkdir a",
        expect![["a: another kind of thing has taken its place since\n"]],
    );
    check(
        "rm -r d",
        "echo new >d/e/new",
        expect![["d/e/new: it has been created since in a directory that the run removed\n"]],
    );
    check(
        "rm -r d; echo f >d",
        "echo new >d/new",
        expect![["d/new: it has been created since in a directory that the run removed\n"]],
    );
    check(
        "echo 1 >d/e/n",
        "rm -r d/e",
        expect![["d/e/n: its directory `d/e` has been removed or replaced since\n"]],
    );
}

#[test]
fn the_same_on_both_sides_is_no_conflict() {
    check("echo 1 >>a", "echo 1 >>a", expect![["merged\n"]]);
    check("rm a; rm -r d", "rm a; rm -r d", expect![["merged\n"]]);
    check(
        "mkdir n; echo 1 >n/x",
        "mkdir n; echo 2 >n/y",
        expect![["merged\n"]],
    );
    check(
        "echo 1 >>a",
        "echo 2 >>b; echo 3 >d/n",
        expect![["merged\n"]],
    );
    check("rm -r d/e", "echo new >d/new", expect![["merged\n"]]);
}

#[test]
fn changed_while_the_run_was_working() {
    let stage = Stage::new(TREE);
    let started = now();
    stage.inside("cat a >/dev/null; sleep 0.02; echo 1 >>a; echo 1 >>b");
    stage.outside("echo somebody >a");
    assert!(stage.seal_started(started).entries()[0].changed_while_running);
    let error = stage.merge().unwrap_err();
    expect![["a: it was changed while the run was working on its copy\n"]]
        .assert_eq(&conflicts(&error));
    assert_eq!(
        std::fs::read(stage.lower().join("a")).unwrap(),
        b"somebody\n"
    );
}

#[test]
fn privileged_files_are_refused() {
    check(
        "chmod 4755 s/z",
        "true",
        expect![[
            "s/z: it would run with its owner's rights (set-user-id or set-group-id); allow privileged files if that is meant\n"
        ]],
    );
    check("chmod 2755 d", "true", expect![["merged\n"]]);
}

#[test]
fn a_link_on_the_way_leads_nowhere() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("z"), "precious").unwrap();
    let place = outside.path().display();
    for inside in [
        "echo 1 >s/n",
        "rm s/z",
        "echo 1 >>s/z",
        "mkdir s/k; echo 1 >s/k/k",
    ] {
        let stage = Stage::new(TREE);
        stage.inside(inside);
        stage.seal();
        stage.outside(&format!("mv s s2; ln -s {place} s"));
        let merged = stage.merge();
        assert!(inside == "rm s/z" || merged.is_err(), "{inside}");
        let found: Vec<_> = std::fs::read_dir(outside.path()).unwrap().collect();
        assert_eq!(found.len(), 1, "{inside}");
        assert_eq!(
            std::fs::read(outside.path().join("z")).unwrap(),
            b"precious"
        );
    }
}

#[test]
fn a_link_made_by_the_run_leads_nowhere() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("z"), "precious").unwrap();
    let stage = Stage::new(TREE);
    let place = outside.path().display();
    stage.inside(&format!(
        "rm -r s; ln -s {place} s; ln -s / root; ln -s ../../.. up"
    ));
    stage.seal();
    stage.merge().unwrap();
    assert_eq!(
        std::fs::read_link(stage.lower().join("s")).unwrap(),
        outside.path()
    );
    stage.revert().unwrap();
    assert_eq!(
        std::fs::read(outside.path().join("z")).unwrap(),
        b"precious"
    );
}

/// A directory becomes a link between the check and the renames.
#[test]
fn a_racing_link_leads_nowhere() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("z"), "precious").unwrap();
    let stage = Stage::new(TREE);
    stage.inside("echo 1 >>s/z; echo n >s/n; rm b");
    stage.seal();
    let (real, moved) = (stage.lower().join("s"), stage.lower().join("s2"));
    let mut watch = |step: &str| {
        if step == "files: plan stored" {
            std::fs::rename(&real, &moved).unwrap();
            std::os::unix::fs::symlink(outside.path(), &real).unwrap();
        }
        ControlFlow::Continue(())
    };
    let mut steps = Steps::watched(&mut watch);
    let result = merge::merge(&stage.run_directory(), &mut stage.engines(), &mut steps);
    assert!(
        matches!(result, Err(MergeError::Conflicts(_))),
        "{result:?}"
    );
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
    assert!(stage.lower().join("b").exists());
    assert_eq!(std::fs::read(stage.lower().join("s2/z")).unwrap(), b"z\n");
}

/// Somebody saves the file, in place or by a rename, in the middle of a merge.
#[test]
fn a_racing_edit_is_never_lost() {
    for moment in [
        "files: inverse stored",
        "files: plan stored",
        "files: replaced",
    ] {
        for by_rename in [false, true] {
            let stage = Stage::new(TREE);
            stage.inside("rm a; echo run >b; echo run >d/x");
            stage.seal();
            let (file, draft) = (stage.lower().join("d/x"), stage.lower().join("d/draft"));
            let mut left = 1;
            let mut watch = |step: &str| {
                if step == moment && left > 0 {
                    left -= 1;
                    if by_rename {
                        std::fs::write(&draft, "edit").unwrap();
                        std::fs::rename(&draft, &file).unwrap();
                    } else {
                        std::fs::write(&file, "edit").unwrap();
                    }
                }
                ControlFlow::Continue(())
            };
            let mut steps = Steps::watched(&mut watch);
            let result = merge::merge(&stage.run_directory(), &mut stage.engines(), &mut steps);
            let error = result.unwrap_err();
            assert_eq!(
                conflicts(&error),
                "d/x: it is being changed right now; nothing of it was lost\n"
            );
            assert_eq!(std::fs::read(&file).unwrap(), b"edit", "{moment}");
            assert!(
                has(&stage, "a", b"one\n") && has(&stage, "b", b"two\n"),
                "{moment}"
            );
            assert_eq!(
                merge::state(&stage.run_directory()).unwrap(),
                BranchState::Sealed
            );
        }
    }
}

/// Somebody edits what a merge has just put in place, and then the merge is undone.
#[test]
fn an_edit_of_the_new_version_is_kept_aside() {
    let stage = Stage::new(TREE);
    stage.inside("echo run >a; echo run >b");
    stage.seal();
    let mut replaced = 0;
    let (one, other) = (stage.lower().join("a"), stage.lower().join("b"));
    let mut watch = |step: &str| {
        replaced += usize::from(step == "files: replaced");
        if step == "files: replaced" && replaced == 1 {
            std::fs::write(&one, "an edit of the new one").unwrap();
            std::fs::write(&other, "an edit in the way").unwrap();
        }
        ControlFlow::Continue(())
    };
    let mut steps = Steps::watched(&mut watch);
    let result = merge::merge(&stage.run_directory(), &mut stage.engines(), &mut steps);
    assert!(
        matches!(result, Err(MergeError::Conflicts(_))),
        "{result:?}"
    );
    assert!(has(&stage, "a", b"one\n") && has(&stage, "b", b"an edit in the way"));
    assert!(has(
        &stage,
        ".belljar-run/kept-0",
        b"an edit of the new one"
    ));
}

#[test]
fn a_revert_follows_the_same_rules() {
    let stage = Stage::new(TREE);
    stage.inside("echo run >a; echo n >n");
    stage.seal();
    stage.merge().unwrap();
    assert!(matches!(stage.merge(), Err(MergeError::State { .. })));
    now();
    stage.outside("echo mine >>a; touch -r b a");
    let error = stage.revert().unwrap_err();
    expect![["a: it has been changed since\n"]].assert_eq(&conflicts(&error));
    assert!(has(&stage, "n", b"n\n"));
    assert_eq!(
        merge::state(&stage.run_directory()).unwrap(),
        BranchState::Merged
    );
}

#[test]
fn discard_leaves_nothing_to_merge() {
    let stage = Stage::new(TREE);
    stage.inside("echo run >a");
    stage.seal();
    let before = stage.snapshot();
    merge::discard(&stage.run_directory()).unwrap();
    let error = stage.merge().unwrap_err().to_string();
    expect![["the run is discarded, and only a run that is sealed can be merged"]]
        .assert_eq(&error);
    assert!(!stage.run_directory().join("changes").exists());
    assert_eq!(stage.snapshot(), before);
}

fn has(stage: &Stage, path: impl AsRef<Path>, bytes: &[u8]) -> bool {
    std::fs::read(stage.lower().join(path)).is_ok_and(|found| found == bytes)
}

/// An engine that fails when it is to make its part real.
struct Failing;

impl Engine for Failing {
    fn name(&self) -> &str {
        "db-failing"
    }

    fn conflicts(&mut self) -> Result<Vec<Conflict>, EngineError> {
        Ok(Vec::new())
    }

    fn prepare(&mut self, _steps: &mut Steps<'_>) -> Result<(), EngineError> {
        Ok(())
    }

    fn apply(&mut self, _steps: &mut Steps<'_>) -> Result<(), EngineError> {
        Err(EngineError::failed(
            "commit",
            Kind::Exhausted,
            "the disk is full",
        ))
    }

    fn undo(&mut self, _steps: &mut Steps<'_>) -> Result<(), EngineError> {
        Ok(())
    }

    fn finish(&mut self, _steps: &mut Steps<'_>) -> Result<Vec<String>, EngineError> {
        Ok(Vec::new())
    }
}

#[test]
fn files_are_put_back_when_a_database_fails() {
    let stage = Stage::new(TREE);
    stage.inside("echo run >a; rm -r d; echo n >n");
    stage.seal();
    let before = stage.snapshot();
    let mut files = stage.engines();
    let mut engines = |deed: &Deed| {
        let mut engines = files(deed)?;
        engines.push(Box::new(Failing));
        Ok(engines)
    };
    let run = stage.run_directory();
    let error = merge::merge(&run, &mut engines, &mut Steps::unwatched()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`db-failing` failed; nothing was changed"
    );
    assert_eq!(error.kind(), Kind::Exhausted);
    assert_eq!(stage.snapshot(), before);
    // The database has room again.
    stage.merge().unwrap();
    assert!(has(&stage, "a", b"run\n"));
}
