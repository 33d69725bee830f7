//! One step of the child's plan: mounts, files, names. Allocates nothing.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::ptr;

use super::child::{SCRATCH, TREES};
use super::confine::{drop_capabilities, filter, landlock, limit};
use super::{checked, network};
use crate::backend::jail::plan::Deed;

/// Performs one deed; gives the error number if it fails.
pub(super) fn perform(deed: &Deed) -> Result<(), i32> {
    match deed {
        Deed::Identity { user, group } => identity(*user, *group),
        Deed::Private => mount(c"none", c"/", c"", libc::MS_REC | libc::MS_PRIVATE, c""),
        Deed::Mount {
            source,
            target,
            kind,
            flags,
            data,
        } => mount(source, target, kind, *flags, data),
        Deed::Protect {
            target,
            attributes,
            recursive,
        } => protect(target, *attributes, *recursive),
        Deed::Attach { tree, target } => attach(*tree, target),
        Deed::Open { path, number } => open_at(path, *number, libc::O_PATH),
        Deed::KeepScratch { path } => open_at(path, SCRATCH, libc::O_RDONLY | libc::O_DIRECTORY),
        Deed::Folder { path, mode } => folder(path, *mode),
        Deed::File { path } => file(path),
        Deed::Link { path, target } => {
            // SAFETY: both are C strings.
            checked(i64::from(unsafe {
                libc::symlink(target.as_ptr(), path.as_ptr())
            }))
            .map(drop)
        }
        Deed::Pivot { root } => pivot(root),
        Deed::HostName { name } => {
            let bytes = name.as_bytes();
            // SAFETY: the name is valid for its length.
            let answer = unsafe { libc::sethostname(name.as_ptr(), bytes.len()) };
            checked(i64::from(answer)).map(drop)
        }
        Deed::CgroupNamespace => {
            // SAFETY: unshare takes an integer.
            checked(i64::from(unsafe { libc::unshare(libc::CLONE_NEWCGROUP) })).map(drop)
        }
        Deed::Loopback => loopback(),
        Deed::Network { part, number } => match network::furnish(part)? {
            Some(raw) => network::keep(raw, *number),
            None => Ok(()),
        },
        Deed::Limit { resource, value } => limit(*resource, *value),
        Deed::Session => {
            // SAFETY: setsid takes nothing; a leader that already leads is no error here.
            unsafe { libc::setsid() };
            Ok(())
        }
        Deed::DropCapabilities => drop_capabilities(),
        Deed::NoNewPrivileges => {
            // SAFETY: PR_SET_NO_NEW_PRIVS takes integers.
            let answer = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
            checked(i64::from(answer)).map(drop)
        }
        Deed::Landlock {
            handled,
            scoped,
            rules,
        } => landlock(*handled, *scoped, rules),
        Deed::Filter { in_place } => filter(*in_place),
    }
}

fn identity(user: u32, group: u32) -> Result<(), i32> {
    // Groups are dropped where the map allows it: for an ordinary user the kernel forbids it, and
    // the maps leave nobody but that user to be.
    // The C library's own setgroups would wait for the parent's other threads, which do not exist
    // here; the bare call changes this one thread, and there is no other.
    // SAFETY: an empty list needs no pointer.
    unsafe { libc::syscall(libc::SYS_setgroups, 0, ptr::null::<libc::gid_t>()) };
    // SAFETY: setresgid takes integers.
    checked(unsafe { libc::syscall(libc::SYS_setresgid, group, group, group) })?;
    // SAFETY: setresuid takes integers.
    checked(unsafe { libc::syscall(libc::SYS_setresuid, user, user, user) })?;
    Ok(())
}

fn mount(source: &CStr, target: &CStr, kind: &CStr, flags: u64, data: &CStr) -> Result<(), i32> {
    // SAFETY: all are C strings; the data of these file systems is text.
    let answer = unsafe {
        libc::mount(
            source.as_ptr(),
            target.as_ptr(),
            kind.as_ptr(),
            flags,
            data.as_ptr().cast(),
        )
    };
    checked(i64::from(answer)).map(drop)
}

fn protect(target: &CStr, attributes: u64, recursive: bool) -> Result<(), i32> {
    let change = libc::mount_attr {
        attr_set: attributes,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    set_attributes(
        libc::AT_FDCWD,
        target,
        if recursive { libc::AT_RECURSIVE } else { 0 },
        &change,
    )
}

pub(super) fn set_attributes(
    from: RawFd,
    target: &CStr,
    flags: i32,
    change: &libc::mount_attr,
) -> Result<(), i32> {
    // SAFETY: the target is a C string and the change a valid struct of the size given.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            from,
            target.as_ptr(),
            flags,
            ptr::from_ref(change),
            size_of::<libc::mount_attr>(),
        )
    };
    checked(answer).map(drop)
}

const MOVE_MOUNT_F_EMPTY_PATH: u32 = 4;

fn attach(tree: usize, target: &CStr) -> Result<(), i32> {
    let from = TREES + RawFd::try_from(tree).unwrap_or(RawFd::MAX - TREES);
    // SAFETY: both paths are C strings.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            from,
            c"".as_ptr(),
            libc::AT_FDCWD,
            target.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    checked(answer).map(drop)
}

fn open_at(path: &CStr, number: RawFd, flags: i32) -> Result<(), i32> {
    // SAFETY: the path is a C string.
    let raw = unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC) };
    checked(i64::from(raw))?;
    // SAFETY: both are numbers; the copy closes on exec.
    let copied = checked(i64::from(unsafe {
        libc::dup3(raw, number, libc::O_CLOEXEC)
    }));
    // SAFETY: the descriptor was just opened and is used nowhere else.
    unsafe { libc::close(raw) };
    copied.map(drop)
}

fn folder(path: &CStr, mode: u32) -> Result<(), i32> {
    // SAFETY: the path is a C string.
    let made = checked(i64::from(unsafe { libc::mkdir(path.as_ptr(), mode) }));
    match made {
        Err(libc::EEXIST) => Ok(()),
        Err(other) => Err(other),
        Ok(_) if mode > 0o777 => {
            // mkdir takes no sticky bit from everyone.
            // SAFETY: the path is a C string.
            checked(i64::from(unsafe { libc::chmod(path.as_ptr(), mode) })).map(drop)
        }
        Ok(_) => Ok(()),
    }
}

fn file(path: &CStr) -> Result<(), i32> {
    let flags = libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY | libc::O_CLOEXEC;
    // SAFETY: the path is a C string.
    let raw = unsafe { libc::open(path.as_ptr(), flags, 0o644) };
    match checked(i64::from(raw)) {
        // What is there already, perhaps somebody else's, can be mounted over as it is.
        Err(libc::EEXIST) => return Ok(()),
        other => other?,
    };
    // SAFETY: the descriptor was just opened and is used nowhere else.
    unsafe { libc::close(raw) };
    Ok(())
}

fn pivot(root: &CStr) -> Result<(), i32> {
    // SAFETY: the path is a C string.
    checked(i64::from(unsafe { libc::chdir(root.as_ptr()) }))?;
    // The old root lands on top of the new one, and is let go there.
    // SAFETY: both paths are C literals.
    checked(unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) })?;
    // SAFETY: the path is a C literal.
    checked(i64::from(unsafe {
        libc::umount2(c".".as_ptr(), libc::MNT_DETACH)
    }))?;
    // SAFETY: the path is a C literal.
    checked(i64::from(unsafe { libc::chdir(c"/".as_ptr()) }))?;
    Ok(())
}

fn loopback() -> Result<(), i32> {
    // SAFETY: socket takes integers.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    checked(i64::from(socket))?;
    // SAFETY: ifreq is plain bytes and integers, for which zero is empty.
    let mut request: libc::ifreq = unsafe { MaybeUninit::zeroed().assume_init() };
    for (place, byte) in request.ifr_name.iter_mut().zip(b"lo") {
        *place = byte.cast_signed();
    }
    request.ifr_ifru.ifru_flags = 1; // IFF_UP
    // SAFETY: the request is a valid struct.
    let answer = unsafe { libc::ioctl(socket, libc::SIOCSIFFLAGS, &raw const request) };
    let answer = checked(i64::from(answer));
    // SAFETY: the descriptor was just opened and is used nowhere else.
    unsafe { libc::close(socket) };
    answer.map(drop)
}
