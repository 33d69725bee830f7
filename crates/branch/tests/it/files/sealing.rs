//! What is found in an upper directory.
#![expect(
    clippy::unwrap_used,
    reason = "a stage that cannot be set is a failed test"
)]

use expect_test::{Expect, expect};

use super::stage::{Stage, lines, now};
use belljar_branch::engine::files::FileChanges;

const TREE: &str = "mkdir -p d/e; echo one >a; echo two >b; echo x >d/x; echo y >d/e/y; ln -s a l";

fn check(inside: &str, expected: Expect) {
    let stage = Stage::new(TREE);
    let started = now();
    stage.inside(inside);
    let changes = stage.seal_started(started);
    expected.assert_eq(&lines(&changes));
    let loaded = FileChanges::load(&stage.path("run/changes")).unwrap();
    assert_eq!(loaded.entries(), changes.entries());
    assert_eq!(loaded.digest(), changes.digest());
    assert_eq!(loaded.summary(), changes.summary());
}

#[test]
fn each_kind_of_change_is_told_apart() {
    check("true", expect![""]);
    check("cat a b d/x >/dev/null; touch -r a s; rm s", expect![""]);
    check(
        "echo more >>a; echo new >n; rm b; chmod 600 d/x; ln -sf b l",
        expect![[r#"
        Modified a
        Deleted b
        Attributes d/x
        Modified l
        Added n
    "#]],
    );
}
#[test]
fn copied_up_but_unchanged_is_no_change() {
    check(
        "cp -p a /tmp/belljar-$$; cp -p /tmp/belljar-$$ a; rm /tmp/belljar-$$",
        expect![""],
    );
    check(
        "chmod 600 a; chmod 644 a; chmod 700 d; chmod 755 d",
        expect![""],
    );
    check("touch -d 2001-01-01 a", expect![["Attributes a\n"]]);
    check("touch -d 2001-01-01 d", expect![""]);
}

#[test]
fn directories_that_went_or_changed_places() {
    check(
        "rm -r d",
        expect![[r#"
        Deleted d
        Deleted d/e
        Deleted d/e/y
        Deleted d/x
    "#]],
    );
    check(
        "rm -r d; mkdir d; echo x >d/x2",
        expect![[r#"
        Deleted d/e
        Deleted d/e/y
        Deleted d/x
        Added d/x2
    "#]],
    );
    check(
        "rm -r d; mkdir -p d/e; echo other >d/e/y",
        expect![[r#"
        Modified d/e/y
        Deleted d/x
    "#]],
    );
    check(
        "rm -r d; echo file >d; rm a; mkdir a; echo in >a/in",
        expect![[r#"
        Type a
        Added a/in
        Type d
        Deleted d/e
        Deleted d/e/y
        Deleted d/x
    "#]],
    );
    check(
        "rm b; ln -s a b; rm l; echo file >l",
        expect![[r#"
        Type b
        Type l
    "#]],
    );
}

#[test]
fn what_cannot_be_carried_is_said() {
    let stage = Stage::new(TREE);
    stage.inside("mkfifo pipe; ln a a2; rm d/x; mv b moved");
    let changes = stage.seal();
    expect![[r#"
        Added a2
        Deleted b
        Deleted d/x
        Added moved
        Added pipe
    "#]]
    .assert_eq(&lines(&changes));
    let renames: Vec<_> = changes
        .renames()
        .iter()
        .map(|(from, to)| (from.visible(), to.visible()))
        .collect();
    assert_eq!(renames, [("b".to_owned(), "moved".to_owned())]);
    assert_eq!(changes.summary().hard_links, 1);
}

/// Nothing is written for a run that changed nothing but a line that says so.
#[test]
fn no_changes_cost_no_pack() {
    let stage = Stage::new(TREE);
    let changes = stage.seal();
    assert!(changes.is_empty());
    assert!(!stage.path("run/changes/files.pack").exists());
}

#[test]
fn a_damaged_change_set_is_refused() {
    let stage = Stage::new(TREE);
    stage.inside("echo more >>a");
    let changes = stage.seal();
    let manifest = stage.path("run/changes/files.json");
    let whole = std::fs::read_to_string(&manifest).unwrap();
    for (text, reason) in [
        (
            whole.get(..whole.len() / 2).unwrap().to_owned(),
            "is damaged",
        ),
        (
            whole.replace("\"version\":2", "\"version\":9"),
            "is of a version that this program does not know",
        ),
        (
            whole.replace("\"path\":\"a\"", "\"path\":\"../a\""),
            "is damaged",
        ),
        (whole.replace("\"offset\":0", "\"offset\":null"), "merged"),
    ] {
        std::fs::write(&manifest, text).unwrap();
        let found = FileChanges::load(&stage.path("run/changes"));
        let found = found
            .err()
            .map_or("merged".to_owned(), |error| error.to_string());
        assert!(found.ends_with(reason), "{found}");
    }
    std::fs::write(&manifest, whole).unwrap();
    std::fs::write(stage.path("run/changes/files.pack"), "one\nother\n").unwrap();
    assert_eq!(changes.entries().len(), 1);
    let before = stage.snapshot();
    assert!(stage.merge().is_err());
    assert_eq!(
        super::stage::without_directory_times(stage.snapshot()),
        super::stage::without_directory_times(before)
    );
}
