//! Every unsafe call of the room: small safe functions, one operation a block.
#![expect(
    unsafe_code,
    reason = "namespaces, mounts and clone have no safe wrappers"
)]

mod birth; // the parent's side: the clone into new namespaces
mod child; // the child's life from the clone to the guest's first instruction
mod deeds; // one step of the child's plan
mod network; // messages to the kernel and sockets that furnish a network namespace
mod lend; // sockets of another network namespace
mod confine; // what the child gives up: capabilities, paths, calls
mod signal; // ending a process, and hearing that we shall end

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

pub(crate) use birth::{Born, GUEST, Inheritance, clone_into_jail, shifted_tree};
pub(crate) use child::{DONE, ENTRANCE, EXECUTION};
pub(crate) use confine::landlock_abi;
pub(crate) use lend::{namespace_number, namespace_of, owner_of, sockets_within};
pub(crate) use network::{enter_network, furnish_all, network_here, new_network};
pub(crate) use signal::{kill, signals, take_signals};

/// The most trees a plan may need; one control message carries them all.
pub(crate) const TREES_MAX: usize = 160;

/// Takes ownership of a descriptor that the kernel just made.
pub(super) fn own(raw: RawFd) -> OwnedFd {
    assert!(raw >= 0, "the kernel gave no descriptor");
    // SAFETY: `raw` is open (checked above) and has no other owner in this process.
    unsafe { OwnedFd::from_raw_fd(raw) }
}

fn errno() -> i32 {
    // SAFETY: the location is this thread's.
    let location = unsafe { libc::__errno_location() };
    // SAFETY: the location is valid as long as the thread lives.
    unsafe { *location }
}

/// The error number of a call that failed.
fn checked(answer: libc::c_long) -> Result<libc::c_long, i32> {
    if answer < 0 { Err(errno()) } else { Ok(answer) }
}
