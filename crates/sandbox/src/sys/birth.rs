//! The parent's side of a birth: the guest's program, the clone, the trees that the child is sent.

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr;

use super::child::child;
use super::deeds::set_attributes;
use super::network::enter_network;
use super::{checked, own};
use crate::backend::jail::plan::Step;

/// The guest, a static program.
pub(crate) static GUEST: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/belljar-guest"));

/// A process that was just born.
#[derive(Debug)]
pub(crate) struct Born {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
}

/// What the child is given.
pub(crate) struct Inheritance<'a> {
    /// The plan.
    pub(crate) steps: &'a [Step],
    /// How many trees the parent sends.
    pub(crate) trees: usize,
    /// Its end of the channel.
    pub(crate) channel: &'a OwnedFd,
    /// Control groups of version 1 to enter, each by its open `tasks`.
    pub(crate) entrances: &'a [OwnedFd],
    /// The guest's program.
    pub(crate) guest: &'a OwnedFd,
}

/// Clones a child into new namespaces of every kind, in `cgroup` if one is given, and in a network
/// that was kept ready if one is; the child performs its plan and becomes the guest.
pub(crate) fn clone_into_jail(
    inheritance: &Inheritance<'_>,
    cgroup: Option<&OwnedFd>,
    network: Option<&OwnedFd>,
) -> io::Result<Born> {
    let Some(network) = network else {
        return clone_here(inheritance, cgroup, libc::CLONE_NEWNET);
    };
    // A thread for this alone: nothing of the supervisor's is ever left in another network.
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("birth".to_owned())
            .spawn_scoped(scope, || {
                enter_network(network)?;
                clone_here(inheritance, cgroup, 0)
            })?;
        let panicked = |_panic| io::Error::other("the thread of the clone panicked");
        thread.join().map_err(panicked)?
    })
}

fn clone_here(
    inheritance: &Inheritance<'_>,
    cgroup: Option<&OwnedFd>,
    network: i32,
) -> io::Result<Born> {
    let mut pidfd: RawFd = -1;
    // SAFETY: clone_args is plain integers, for which zero is the documented default.
    let mut arguments: libc::clone_args = unsafe { MaybeUninit::zeroed().assume_init() };
    let namespaces = network
        | libc::CLONE_NEWUSER
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWTIME
        | libc::CLONE_PIDFD;
    // The child has no use for the parent's signal handlers, whose descriptors it closes.
    const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
    arguments.flags = u64::from(namespaces.cast_unsigned()) | CLONE_CLEAR_SIGHAND;
    arguments.pidfd = ptr::from_mut(&mut pidfd).addr() as u64;
    arguments.exit_signal = u64::from(libc::SIGCHLD.cast_unsigned());
    if let Some(group) = cgroup {
        const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = u64::from(group.as_raw_fd().cast_unsigned());
    }
    // SAFETY: the arguments are initialised and of the size given; without CLONE_VM the child
    // has a copy of this address space and stack, and runs only `child`, which allocates nothing.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw mut arguments,
            size_of::<libc::clone_args>(),
        )
    };
    match i32::try_from(pid) {
        Ok(0) => child(inheritance),
        Ok(pid) if pid > 0 => Ok(Born {
            pid,
            pidfd: own(pidfd),
        }),
        Ok(_) | Err(_) => Err(io::Error::last_os_error()),
    }
}

/// Clones a tree of the host so that it shows the ids of a user namespace.
pub(crate) fn shifted_tree(
    path: &CStr,
    recursive: bool,
    read_only: bool,
    namespace: &OwnedFd,
) -> io::Result<OwnedFd> {
    let recursion = if recursive { libc::AT_RECURSIVE } else { 0 };
    let flags = 1 | libc::O_CLOEXEC | recursion; // OPEN_TREE_CLONE
    // SAFETY: the path is a C string.
    let raw = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
    let raw = checked(raw).map_err(io::Error::from_raw_os_error)?;
    let tree = own(RawFd::try_from(raw).unwrap_or(-1));
    let quiet = libc::MOUNT_ATTR_IDMAP | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    let change = libc::mount_attr {
        attr_set: if read_only {
            quiet | libc::MOUNT_ATTR_RDONLY
        } else {
            quiet
        },
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: u64::from(namespace.as_raw_fd().cast_unsigned()),
    };
    set_attributes(
        tree.as_raw_fd(),
        c"",
        libc::AT_EMPTY_PATH | recursion,
        &change,
    )
    .map_err(io::Error::from_raw_os_error)?;
    Ok(tree)
}
