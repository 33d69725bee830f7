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
