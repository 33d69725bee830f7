//! What a run makes its host store: never many times what it stored itself.
#![expect(
    clippy::unwrap_used,
    reason = "a stage that cannot be set is a failed test"
)]

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;

use super::stage::{Stage, lines};
use belljar_branch::engine::EngineError;
use belljar_branch::engine::files::{DiffBody, FileChanges};
use belljar_branch::merge::MergeError;

fn pack_bytes(stage: &Stage) -> u64 {
    fs::metadata(stage.path("run/changes/files.pack"))
        .unwrap()
        .len()
}

fn taken(path: &Path) -> u64 {
    fs::metadata(path).unwrap().blocks() * 512
}

/// A file with one byte in each block of so many: a page of each is all that it takes.
fn sparse(path: &Path, blocks: u64) {
    let file = File::create(path).unwrap();
    for block in 0..blocks {
        file.write_all_at(b"x", block << 16).unwrap();
    }
    file.sync_all().unwrap();
}

/// Makes hard links `name0`, `name1`, … to `first` in the same directory.
fn link(first: &Path, name: &str, count: usize) {
    for number in 0..count {
        let link = first.with_file_name(format!("{name}{number}"));
        fs::hard_link(first, link).unwrap();
    }
}

#[test]
fn a_sparse_file_costs_what_its_pages_cost() {
    let stage = Stage::new("true");
    let made = stage.path("upper/sparse");
    sparse(&made, 1000);
    let held = taken(&made);
    let changes = stage.seal();
    assert!(
        pack_bytes(&stage) <= held,
        "{} of {held}",
        pack_bytes(&stage)
    );
    let shown: Vec<_> = changes.diffs(&stage.workspace(), &[]).collect();
    let body = &shown.first().unwrap().as_ref().unwrap().body;
    assert!(
        matches!(body, DiffBody::Sizes { .. }),
        "too long to be shown: {body:?}"
    );
    stage.merge().unwrap();
    let merged = stage.lower().join("sparse");
    assert_eq!(fs::read(&merged).unwrap(), fs::read(&made).unwrap());
    assert!(taken(&merged) <= held + 4096, "{}", taken(&merged));
}

/// Text before a hole and nothing after it: not millions of escaped zeros for a person to read.
#[test]
fn a_hole_is_not_shown() {
    let stage = Stage::new("true");
    let made = stage.path("upper/notes");
    fs::write(&made, "x".repeat(9000)).unwrap();
    File::options()
        .write(true)
        .open(&made)
        .unwrap()
        .set_len(4 << 20)
        .unwrap();
    let changes = stage.seal();
    let shown: Vec<_> = changes.diffs(&stage.workspace(), &[]).collect();
    let body = &shown.first().unwrap().as_ref().unwrap().body;
    let expected = DiffBody::Sizes {
        binary: true,
        old: 0,
        new: 4 << 20,
    };
    assert_eq!(*body, expected);
}

#[test]
fn names_of_one_file_are_stored_once_and_merged_apart() {
    let stage = Stage::new("true");
    let first = stage.path("upper/first");
    fs::write(&first, vec![7; 1 << 20]).unwrap();
    link(&first, "name", 40);
    let changes = stage.seal();
    assert_eq!(changes.summary().hard_links, 41);
    assert_eq!(pack_bytes(&stage), 1 << 20);
    assert_eq!(lines(&changes).lines().count(), 41);
    stage.merge().unwrap();
    for name in ["first", "name0", "name39"] {
        let path = stage.lower().join(name);
        assert_eq!(fs::read(&path).unwrap(), vec![7; 1 << 20], "{name}");
        assert_eq!(fs::metadata(&path).unwrap().nlink(), 1, "{name}");
    }
    // What is taken out is stored once as well, where the real names share a file.
    stage.revert().unwrap();
    assert_eq!(fs::read_dir(stage.lower()).unwrap().count(), 0);
}

#[test]
fn real_names_of_one_file_are_taken_out_once() {
    let stage =
        Stage::new("head -c 1000000 /dev/urandom >a; for i in 1 2 3 4 5; do ln a a$i; done");
    stage.inside("rm a*");
    stage.seal();
    let before = fs::read(stage.lower().join("a")).unwrap();
    stage.merge().unwrap();
    let inverse = fs::metadata(stage.path("run/merge/files/files.pack")).unwrap();
    assert_eq!(inverse.len(), 1_000_000);
    stage.revert().unwrap();
    for name in ["a", "a1", "a5"] {
        assert_eq!(fs::read(stage.lower().join(name)).unwrap(), before);
    }
}

/// As files of their own the names would have a gigabyte more than four times what is stored.
#[test]
fn names_that_would_fill_the_workspace_are_not_merged() {
    let stage = Stage::new("echo kept >file");
    let first = stage.path("upper/first");
    fs::write(&first, vec![7; 8 << 20]).unwrap();
    link(&first, "name", 140);
    stage.seal();
    let before = stage.snapshot();
    let error = stage.merge().unwrap_err();
    let MergeError::Engine {
        source: EngineError::Refused(refusal),
        ..
    } = &error
    else {
        panic!("{error:?}");
    };
    assert_eq!(refusal.rule, "files.hard-links");
    assert!(
        refusal.reason.contains("141 names share files"),
        "{refusal:?}"
    );
    assert_eq!(stage.snapshot(), before);
}

/// What an earlier version stored has runs of whole blocks; what a later one stores is not known.
#[test]
fn other_versions() {
    let stage = Stage::new("true");
    fs::write(stage.path("upper/file"), "text").unwrap();
    stage.seal();
    let manifest = stage.path("run/changes/files.json");
    let whole = fs::read_to_string(&manifest).unwrap();
    for (version, good) in [(0, false), (1, true), (2, true), (3, false)] {
        let text = whole.replace("\"version\":2", &format!("\"version\":{version}"));
        fs::write(&manifest, text).unwrap();
        let loaded = FileChanges::load(&stage.path("run/changes"));
        assert_eq!(loaded.is_ok(), good, "{version}");
    }
}
