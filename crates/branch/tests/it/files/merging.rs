//! A merge makes of the workspace what the run made of its copy; a revert gives it back.
#![expect(
    clippy::unwrap_used,
    reason = "a stage that cannot be set is a failed test"
)]

use std::path::Path;
use std::process::Command;

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
    match operation {
        Operation::Mode(_, 0o2755) => false,
        // What an ordinary user may not read, that user cannot compare either.
        Operation::Mode(_, mode) => is_root || mode & 0o500 == 0o500,
        _ => true,
    }
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
