//! How a change set is shown.
#![expect(
    clippy::unwrap_used,
    reason = "a stage that cannot be set is a failed test"
)]

use expect_test::{Expect, expect};

use super::stage::Stage;
use belljar_branch::engine::files::FileChanges;

fn overview(changes: &FileChanges) -> String {
    let text = changes.overview().into_iter().map(|line| line.text);
    text.collect::<Vec<_>>().join("\n")
}

fn check(tree: &str, inside: &str, expected: Expect, diff: Expect) {
    let stage = Stage::new(tree);
    stage.inside(inside);
    let changes = stage.seal();
    expected.assert_eq(&overview(&changes));
    let workspace = stage.workspace();
    let diffs = changes.diffs(&workspace, &[]);
    let lines = diffs.flat_map(|diff| diff.unwrap().unified());
    let text: Vec<_> = lines.map(|line| line.text).collect();
    diff.assert_eq(&text.join("\n"));
}

#[test]
fn a_person_can_read_it() {
    check(
        "seq 12 >n; printf old >raw; echo gone >gone; seq 30 >big; head -c 3000 /dev/zero >zero",
        "sed -i 's/^6$/six/' n; printf new >raw; rm gone; mv big large; chmod +x large; ln -s n l
         head -c 5000 /dev/zero >zero; printf 'a\\033[31mred\\n' >'e\nsc'",
        expect![[r#"
            A e\nsc (10 B)
            D gone (5 B)
            A l
            R big → large
            M n (27 B → 29 B)
            M raw (3 B)
            M zero (2.9 KiB → 4.8 KiB)"#]],
        expect![[r#"
            diff --git a/e\nsc b/e\nsc
            new file mode 100644
            --- /dev/null
            +++ b/e\nsc
            @@ -0,0 +1 @@
            +a\x1b[31mred
            diff --git a/gone b/gone
            deleted file mode 100644
            --- a/gone
            +++ /dev/null
            @@ -1 +0,0 @@
            -gone
            diff --git a/l b/l
            new file mode 120000
            --- /dev/null
            +++ b/l
            @@ -0,0 +1 @@
            +n
            \ No newline at end of file
            diff --git a/big b/large
            old mode 100644
            new mode 100755
            rename from big
            rename to large
            diff --git a/n b/n
            --- a/n
            +++ b/n
            @@ -3,7 +3,7 @@
             3
             4
             5
            -6
            +six
             7
             8
             9
            diff --git a/raw b/raw
            --- a/raw
            +++ b/raw
            @@ -1 +1 @@
            -old
            \ No newline at end of file
            +new
            \ No newline at end of file
            diff --git a/zero b/zero
            Binary files differ (2.9 KiB → 4.8 KiB)"#]],
    );
}

#[test]
fn big_trees_are_one_line() {
    let stage = Stage::new("mkdir -p old/sub; for i in $(seq 20); do echo $i >old/sub/$i; done");
    stage.inside("rm -r old; mkdir new; for i in $(seq 30); do echo n >new/$i; done; echo x >x");
    expect![[r#"
        A new/ (30 paths, 60 B)
        D old/ (21 paths, 51 B)
        A x (2 B)"#]]
    .assert_eq(&overview(&stage.seal()));
}
