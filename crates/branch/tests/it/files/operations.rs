//! Random file operations, and the process that does them.
#![expect(
    clippy::unwrap_used,
    reason = "an operation that cannot be read is a failed test"
)]

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::prelude::*;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, XattrFlags};

/// One operation. What it cannot do, it leaves: the same here and there.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) enum Operation {
    Write(String, u32),
    Append(String, u32),
    Truncate(String, u64),
    Move(String, String),
    Directory(String),
    RemoveTree(String),
    Remove(String),
    Mode(String, u32),
    Symlink(String, String),
    Link(String, String),
    Attribute(String, u8),
    Time(String, i64),
}

const ASKED: &str = "../operations.json";

/// Does what `../operations.json` says, in the current directory; alone, it checks itself.
#[test]
fn as_asked() {
    if let Ok(bytes) = std::fs::read(ASKED) {
        let operations: Vec<Operation> = serde_json::from_slice(&bytes).unwrap();
        perform(Path::new("."), &operations);
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    perform(
        directory.path(),
        &[Operation::Write("a".to_owned(), 70_000)],
    );
    assert_eq!(
        std::fs::read(directory.path().join("a")).unwrap().len(),
        70_000
    );
}

/// The command that runs this test in a process of its own.
pub(crate) fn command() -> [String; 3] {
    let program = std::env::current_exe().unwrap();
    let program = program.to_str().unwrap().to_owned();
    [
        program,
        "--exact".to_owned(),
        "files::operations::as_asked".to_owned(),
    ]
}

pub(crate) fn perform(root: &Path, operations: &[Operation]) {
    for (number, operation) in operations.iter().enumerate() {
        let time = 1_000_000_000 + i64::try_from(number).unwrap();
        // An operation that is not possible here is not possible in the copy either.
        let _possible = one(root, operation, time);
    }
}

fn one(root: &Path, operation: &Operation, time: i64) -> std::io::Result<()> {
    match operation {
        Operation::Write(path, size) => {
            std::fs::write(root.join(path), bytes(*size, time))?;
            set_time(&root.join(path), time)
        }
        Operation::Append(path, size) => {
            let mut file = OpenOptions::new().append(true).open(root.join(path))?;
            file.write_all(&bytes(*size, time))?;
            set_time(&root.join(path), time)
        }
        Operation::Truncate(path, size) => {
            OpenOptions::new()
                .write(true)
                .open(root.join(path))?
                .set_len(*size)?;
            set_time(&root.join(path), time)
        }
        Operation::Move(from, to) => {
            // The program copies where an overlay cannot rename.
            let mut mv = Command::new("mv");
            mv.args(["-Tf", "--"])
                .arg(root.join(from))
                .arg(root.join(to))
                .output()?;
            Ok(())
        }
        Operation::Directory(path) => std::fs::create_dir(root.join(path)),
        Operation::RemoveTree(path) => std::fs::remove_dir_all(root.join(path)),
        Operation::Remove(path) => std::fs::remove_file(root.join(path)),
        Operation::Mode(path, mode) => {
            let permissions = std::fs::Permissions::from_mode(*mode);
            std::fs::set_permissions(root.join(path), permissions)
        }
        Operation::Symlink(target, path) => symlink(target, root.join(path)),
        Operation::Link(from, to) => std::fs::hard_link(root.join(from), root.join(to)),
        Operation::Attribute(path, value) => {
            let name = format!("user.belljar{}", value % 3);
            let flags = XattrFlags::empty();
            if value % 5 == 0 {
                return Ok(rustix::fs::removexattr(root.join(path), name)?);
            }
            Ok(rustix::fs::setxattr(
                root.join(path),
                name,
                &[*value],
                flags,
            )?)
        }
        Operation::Time(path, seconds) => set_time(&root.join(path), *seconds),
    }
}

fn set_time(path: &PathBuf, seconds: i64) -> std::io::Result<()> {
    File::open(path)?;
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: 123_456_789,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    Ok(rustix::fs::utimensat(CWD, path, &times, AtFlags::empty())?)
}

/// Bytes with zeros in between, so that blocks of all kinds occur.
fn bytes(size: u32, seed: i64) -> Vec<u8> {
    let seed = u32::try_from(seed % 251).unwrap();
    let byte = |place: u32| match (place / 65_536) % 2 {
        0 => u8::try_from((place * 7 + seed) % 256).unwrap(),
        _ => 0,
    };
    (0..size).map(byte).collect()
}

fn path() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec!["a", "b", "c", "d", "a-", "n\nl", "ü%"]);
    prop::collection::vec(name, 1..4).prop_map(|names| names.join("/"))
}

fn operation() -> impl Strategy<Value = Operation> {
    let size = prop_oneof![4 => 0_u32..40, 1 => 0_u32..300_000];
    let target = prop::sample::select(vec!["a", "b/c", "../d", "/nowhere/at/all"]);
    prop_oneof![
        6 => (path(), size.clone()).prop_map(|(path, size)| Operation::Write(path, size)),
        1 => (path(), size).prop_map(|(path, size)| Operation::Append(path, size)),
        1 => (path(), 0_u64..200_000).prop_map(|(path, size)| Operation::Truncate(path, size)),
        1 => (path(), path()).prop_map(|(from, to)| Operation::Move(from, to)),
        6 => path().prop_map(Operation::Directory),
        1 => path().prop_map(Operation::RemoveTree),
        1 => path().prop_map(Operation::Remove),
        2 => (path(), prop::sample::select(vec![0o600, 0o755, 0o640, 0o1777, 0o2755, 0o500, 0o000]))
            .prop_map(|(path, mode)| Operation::Mode(path, mode)),
        1 => (target, path()).prop_map(|(target, path)| Operation::Symlink(target.to_owned(), path)),
        1 => (path(), path()).prop_map(|(from, to)| Operation::Link(from, to)),
        2 => (path(), any::<u8>()).prop_map(|(path, value)| Operation::Attribute(path, value)),
        1 => (path(), -9_i64..9).prop_map(|(path, seconds)| Operation::Time(path, seconds)),
    ]
}

pub(crate) fn operations(count: usize) -> impl Strategy<Value = Vec<Operation>> {
    prop::collection::vec(operation(), 1..count)
}

/// Stores operations for the process that does them in a directory beside.
pub(crate) fn ask(beside: &Path, operations: &[Operation]) {
    let asked = beside.join("operations.json");
    std::fs::write(asked, serde_json::to_vec(operations).unwrap()).unwrap();
}
