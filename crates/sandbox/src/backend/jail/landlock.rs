//! Landlock, the second wall: should a mount ever show too much, these rules still say what may
//! be done where. They go with the process and cannot be lifted.

use std::path::Path;

use super::plan::{Deed, PROGRAM, Step, c};
use crate::host::Host;
use crate::spec::Spec;
use crate::template::Template;

const EXECUTE: u64 = 1;
const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const READ_DIR: u64 = 1 << 3;
const MAKE_CHAR: u64 = 1 << 6;
const MAKE_BLOCK: u64 = 1 << 11;
const REFER: u64 = 1 << 13; // ABI 2
const TRUNCATE: u64 = 1 << 14; // ABI 3
const IOCTL_DEV: u64 = 1 << 15; // ABI 5
const SCOPE_ABSTRACT_UNIX_SOCKET: u64 = 1;
const SCOPE_SIGNAL: u64 = 1 << 1;

/// Directories of the root that are written: the overlay makes each of them vanish.
const WRITTEN: [&str; 11] = [
    "/etc", "/home", "/media", "/mnt", "/opt", "/root", "/run", "/srv", "/tmp", "/usr", "/var",
];

/// Appends the step that confines this process and all that follow.
pub(super) fn rules(spec: &Spec, template: &Template, host: &Host, steps: &mut Vec<Step>) {
    let handled = rights(host.landlock_abi);
    let read = EXECUTE | READ_FILE | READ_DIR;
    // Device nodes are made nowhere; nothing but /dev answers a device's ioctl.
    let write = handled & !(MAKE_CHAR | MAKE_BLOCK | IOCTL_DEV);
    // The guest's program lies outside of the tree: it is named by the descriptor that alone
    // leads to it.
    let guest = (c(format!("/proc/self/fd/{PROGRAM}")), EXECUTE | READ_FILE);
    let mut rules = vec![(c("/"), read), guest];
    let mut add = |path: &Path, rights: u64| {
        rules.push((c(path.as_os_str().as_encoded_bytes()), rights & handled));
    };
    for path in WRITTEN {
        add(Path::new(path), write);
    }
    for graft in &template.grafts {
        add(&graft.at, write);
    }
    add(Path::new("/dev"), read | WRITE_FILE | TRUNCATE | IOCTL_DEV);
    add(Path::new("/dev/shm"), write);
    for branch in &spec.branches {
        add(&branch.directory, write);
    }
    for writable in &spec.writes {
        add(&writable.at, write);
    }
    let scoped = if host.landlock_abi >= 6 {
        SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL
    } else {
        0
    };
    steps.push(Step::new(
        "landlock",
        Deed::Landlock {
            handled,
            scoped,
            rules,
        },
    ));
}

/// Every file right that this version of Landlock knows.
fn rights(abi: u32) -> u64 {
    let first = (1 << 13) - 1;
    let refer = if abi >= 2 { REFER } else { 0 };
    let truncate = if abi >= 3 { TRUNCATE } else { 0 };
    let ioctl = if abi >= 5 { IOCTL_DEV } else { 0 };
    first | refer | truncate | ioctl
}
