//! A merge makes of the workspace what the run made of its copy; a revert gives it back.
#![expect(
    clippy::unwrap_used,
    reason = "a stage that cannot be set is a failed test"
)]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::Command;

use belljar_base::{HasKind as _, Kind};
use proptest::prelude::*;

use super::operations::{Operation, ask, command, operations, perform};
use super::stage::{Stage, lines, snapshot, without_directory_times};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(40) })]
    #[test]
    fn as_in_a_plain_copy(before in operations(40), during in operations(30)) {
        there_and_back(&before, &during);
    }
}

/// Set-group-id on files  is refused unless it is asked for; that has tests of its own.
fn is_ordinary(operation: &Operation) -> bool {
    let is_root = rustix::process::geteuid().is_root();
    let is_readable = |mode: u32| is_root || mode & 0o500 == 0o500;
    // What an ordinary user may not read, that user cannot compare either.
    !matches!(operation, Operation::Mode(_, mode) if *mode == 0o2755 || !is_readable(*mode))
}

fn there_and_back(before: &[Operation], during: &[Operation]) {
    let during: Vec<_> = during
        .iter()
        .filter(|operation| is_ordinary(operation))
        .cloned()
        .collect();
    // A copy keeps hard links that an overlay takes apart; they have a test of their own.
    let is_link = |operation: &&Operation| matches!(operation, Operation::Link(..));
    let before: Vec<_> = before
        .iter()
        .filter(|operation| is_ordinary(operation) && !is_link(operation))
        .cloned()
        .collect();
    let stage = Stage::new("true");
    perform(&stage.lower(), &before);
    let copy = stage.path("copy");
    let copied = Command::new("cp")
        .arg("-a")
        .arg(stage.lower())
        .arg(&copy)
        .status();
    assert!(copied.unwrap().success());
    let original = stage.snapshot();

    ask(&stage.path(""), &during);
    let command = command();
    stage.command_inside(&command.each_ref().map(String::as_str));
    let mut plain = Command::new("unshare");
    let done = plain
        .args(["--user", "--map-root-user"])
        .args(&command)
        .current_dir(&copy)
        .output();
    assert!(done.unwrap().status.success());
    assert_eq!(stage.snapshot(), original, "the run touched the real thing");

    let changes = stage.seal();
    stage.merge().unwrap();
    let wanted = without_directory_times(snapshot(&copy));
    assert_eq!(
        without_directory_times(stage.snapshot()),
        wanted,
        "{}",
        lines(&changes)
    );

    stage.revert().unwrap();
    assert_eq!(stage.snapshot(), original, "{}", lines(&changes));
}

#[test]
fn other_names_of_a_file_keep_what_they_have() {
    let stage = Stage::new("echo one >a; ln a b");
    let original = stage.snapshot();
    stage.inside("chmod 600 a");
    stage.seal();
    stage.merge().unwrap();
    let merged = stage.snapshot();
    assert_ne!(merged[Path::new("a")], original[Path::new("a")]);
    assert_eq!(merged[Path::new("b")], original[Path::new("b")]);
    stage.revert().unwrap();
    assert_eq!(stage.snapshot(), original);
}

#[test]
fn every_kind_of_name_and_size() {
    let stage = Stage::new("true");
    let inside = r#"
        : >empty; truncate -s 1T sparse; echo end | dd of=sparse bs=1 seek=500G conv=notrunc 2>/dev/null
        echo odd >"$(printf 'in\201valid\nline')"; echo long >$(printf '%0255d' 0); echo esc >"$(printf 'a\033[2Jb')"
        mkfifo pipe; ln -s /etc/shadow link; python3 -c 'import socket; socket.socket(1).bind("socket")' || true
        mkdir -p $(printf 'deep/%.0s' $(seq 300)); echo bottom >$(printf 'deep/%.0s' $(seq 300))bottom"#;
    stage.inside(inside);
    let before = stage.snapshot();
    let changes = stage.seal();
    assert!(changes.summary().bytes < 1 << 20, "{:?}", changes.summary());
    stage.merge().unwrap();
    let lower = stage.lower();
    assert_eq!(
        std::fs::metadata(lower.join("sparse")).unwrap().len(),
        1 << 40
    );
    assert_eq!(
        std::fs::read(lower.join("0".repeat(255))).unwrap(),
        b"long\n"
    );
    let odd = lower.join(OsStr::from_bytes(b"in\x81valid\nline"));
    assert_eq!(std::fs::read(odd).unwrap(), b"odd\n");
    let bottom = lower.join("deep/".repeat(300)).join("bottom");
    assert_eq!(std::fs::read(bottom).unwrap(), b"bottom\n");
    assert!(!lower.join("socket").exists());
    stage.revert().unwrap();
    assert_eq!(stage.snapshot(), before);
}

/// The workspace is on a small file system of its own, and the new files do not fit.
#[test]
fn a_full_disk_is_said_and_nothing_is_changed() {
    let stage = Stage::new("echo one >a; echo two >b");
    stage.inside("echo more >>a; rm b; head -c 3000000 /dev/urandom >big");
    stage.seal();
    // A process of its own mounts the small file system and merges there.
    let script = "cp -a lower small; mv lower kept; mkdir lower
        mount -t tmpfs -o size=1M tmpfs lower; cp -a small/. lower; exec \"$@\"";
    stage.in_namespaces(script, &full_disk_command());
}

fn full_disk_command() -> [String; 3] {
    let [program, exact, _] = command();
    [program, exact, "files::merging::on_a_full_disk".to_owned()]
}

/// Merges what is beside, on the full disk that is mounted there; alone, it only checks that.
#[test]
fn on_a_full_disk() {
    let here = std::env::current_dir().unwrap();
    if !here.join("small").is_dir() {
        assert!(!here.join("run/changes").exists());
        return;
    }
    let stage = Stage::at(&here);
    let before = without_directory_times(stage.snapshot());
    // The very files are others here, so the base is taken anew.
    stage.seal();
    let error = stage.merge().unwrap_err();
    assert_eq!(error.kind(), Kind::Exhausted, "{error:?}");
    assert_eq!(error.to_string(), "`files` failed; nothing was changed");
    let cause = std::error::Error::source(&error).unwrap();
    assert_eq!(
        cause.to_string(),
        "could not stage the new files in the workspace"
    );
    assert_eq!(without_directory_times(stage.snapshot()), before);
}
