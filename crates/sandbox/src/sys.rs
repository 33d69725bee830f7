//! Every unsafe call of the room: small safe functions, one operation a block. The child of a
//! clone performs its plan here; between the clone and the guest's first instruction it allocates
//! nothing, because another thread of the parent may have held a lock when it was copied.
#![expect(
    unsafe_code,
    reason = "namespaces, mounts and clone have no safe wrappers"
)]

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use crate::backend::jail::plan::{Deed, Step};

/// Compiled from `filter/jail.json` by the build script.
static FILTER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/jail.bpf"));
/// The guest, a static program.
static GUEST: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/belljar-guest"));

/// The guest finds its channel at this number.
const CHANNEL: RawFd = 3;
/// The child holds the guest's program at this number until it executes it.
const PROGRAM: RawFd = 4;
/// The trees that the parent sends are held from this number on.
const TREES: RawFd = 300;
/// The scratch layer is held at this number until it has been sent.
const SCRATCH: RawFd = 199;
/// The most trees a plan may need.
pub(crate) const TREES_MAX: usize = 64;

/// What the child says when its plan is done; anything else is the number of the failed step.
pub(crate) const DONE: u32 = u32::MAX;
/// The step number of the guest's execution itself.
pub(crate) const EXECUTION: u32 = u32::MAX - 1;

/// A process that was just born.
#[derive(Debug)]
pub(crate) struct Born {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
}

/// What the child is given.
pub(crate) struct Inheritance<'a> {
    pub(crate) steps: &'a [Step],
    pub(crate) trees: usize,
    pub(crate) channel: &'a OwnedFd,
    pub(crate) guest: &'a OwnedFd,
}

/// The guest's program, sealed in memory: it needs no file that somebody could exchange.
pub(crate) fn guest_program() -> io::Result<OwnedFd> {
    let flags = rustix::fs::MemfdFlags::CLOEXEC | rustix::fs::MemfdFlags::ALLOW_SEALING;
    let file = rustix::fs::memfd_create(c"belljar-guest", flags)?;
    let mut rest = GUEST;
    while !rest.is_empty() {
        let count = rustix::io::write(&file, rest)?;
        rest = rest.get(count..).unwrap_or_default();
    }
    let seals = rustix::fs::SealFlags::WRITE
        | rustix::fs::SealFlags::GROW
        | rustix::fs::SealFlags::SHRINK
        | rustix::fs::SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&file, seals)?;
    Ok(file)
}

/// Clones a child into new namespaces of every kind, in `cgroup` if one is given; the child
/// performs its plan and becomes the guest.
pub(crate) fn clone_into_jail(
    inheritance: &Inheritance<'_>,
    cgroup: Option<&OwnedFd>,
) -> io::Result<Born> {
    let mut pidfd: RawFd = -1;
    // SAFETY: clone_args is plain integers, for which zero is the documented default.
    let mut arguments: libc::clone_args = unsafe { MaybeUninit::zeroed().assume_init() };
    let namespaces = libc::CLONE_NEWUSER
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWTIME
        | libc::CLONE_PIDFD;
    arguments.flags = u64::from(namespaces.cast_unsigned());
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

/// Takes ownership of a descriptor that the kernel just made.
fn own(raw: RawFd) -> OwnedFd {
    assert!(raw >= 0, "the kernel gave no descriptor");
    // SAFETY: `raw` is open (checked above) and has no other owner in this process.
    unsafe { OwnedFd::from_raw_fd(raw) }
}

/// The child's whole life before the guest.
fn child(inheritance: &Inheritance<'_>) -> ! {
    place(
        inheritance.channel.as_raw_fd(),
        inheritance.guest.as_raw_fd(),
    );
    // Nothing of the parent's survives the guest's execution.
    // SAFETY: close_range takes integers; close-on-exec is set, nothing is closed now.
    unsafe {
        libc::syscall(
            libc::SYS_close_range,
            4,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    // The parent writes the id maps, then sends the trees; silence means that it died.
    if !await_trees(inheritance.trees) {
        exit(1);
    }
    for (number, step) in (0_u32..).zip(inheritance.steps) {
        if let Err(errno) = perform(&step.deed) {
            report(number, errno);
            exit(1);
        }
    }
    // The parent's death closes the channel; the guest then ends, and the kernel ends every
    // process of its namespace. A death signal would fire when the starting thread ends.
    standard_streams();
    hand_over_scratch();
    let name = c"belljar-guest";
    let arguments = [name.as_ptr(), ptr::null()];
    let environment = [ptr::null::<libc::c_char>()];
    // SAFETY: the program is an open descriptor, both vectors end with a null pointer.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            PROGRAM,
            c"".as_ptr(),
            arguments.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    report(EXECUTION, errno());
    exit(1)
}

fn exit(code: i32) -> ! {
    // SAFETY: _exit takes an integer and runs nothing of the parent's.
    unsafe { libc::_exit(code) }
}

fn errno() -> i32 {
    // SAFETY: the location is this thread's and always valid.
    unsafe { *libc::__errno_location() }
}

/// The error number of a call that failed.
fn checked(answer: libc::c_long) -> Result<libc::c_long, i32> {
    if answer < 0 { Err(errno()) } else { Ok(answer) }
}

/// Puts the channel and the guest's program at their numbers, whatever numbers they had.
fn place(channel: RawFd, program: RawFd) {
    const ASIDE: RawFd = 400;
    // SAFETY: both are numbers; F_DUPFD gives the first free one from `ASIDE` on.
    let channel = unsafe { libc::fcntl(channel, libc::F_DUPFD, ASIDE) };
    // SAFETY: as above.
    let program = unsafe { libc::fcntl(program, libc::F_DUPFD, ASIDE) };
    // SAFETY: both are numbers; the copy stays open at an execution.
    unsafe { libc::dup2(channel, CHANNEL) };
    // SAFETY: as above.
    unsafe { libc::dup2(program, PROGRAM) };
}

/// Ends the standard streams that came from the parent: the guest has none.
fn standard_streams() {
    // SAFETY: the path is a C literal.
    let null = unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) };
    for number in 0..3 {
        // SAFETY: both are numbers; a failure leaves a stream that the next lines cannot use.
        unsafe { libc::dup2(null, number) };
    }
}

/// Tells the parent which step failed, or that all is done.
fn report(step: u32, errno: i32) {
    let mut bytes = [0_u8; 8];
    let (front, back) = bytes.split_at_mut(4);
    front.copy_from_slice(&step.to_le_bytes());
    back.copy_from_slice(&errno.to_le_bytes());
    // SAFETY: the buffer is valid for eight bytes.
    unsafe { libc::send(CHANNEL, bytes.as_ptr().cast(), 8, libc::MSG_NOSIGNAL) };
}

/// A control message of some descriptors, aligned as the kernel wants it.
#[repr(align(8))]
struct Control([u8; 16 + 4 * TREES_MAX]);

/// Receives the trees, placing them at `TREES` and after; one byte comes even without any.
fn await_trees(expected: usize) -> bool {
    let mut received = 0;
    loop {
        let mut byte = 0_u8;
        let mut vector = libc::iovec {
            iov_base: ptr::from_mut(&mut byte).cast(),
            iov_len: 1,
        };
        let mut control = Control([0; 16 + 4 * TREES_MAX]);
        // SAFETY: msghdr is plain integers and pointers, for which zero means absent.
        let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
        message.msg_iov = &raw mut vector;
        message.msg_iovlen = 1;
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = control.0.len();
        // SAFETY: all pointers in the message are valid for their lengths.
        let count = unsafe { libc::recvmsg(CHANNEL, &raw mut message, libc::MSG_CMSG_CLOEXEC) };
        if count != 1 {
            return false;
        }
        // Eight bytes of length, four of level, four of type, then the descriptors.
        let descriptors = message.msg_controllen.saturating_sub(16) / 4;
        for chunk in control
            .0
            .get(16..)
            .unwrap_or_default()
            .chunks_exact(4)
            .take(descriptors)
        {
            let raw = chunk
                .first_chunk::<4>()
                .map_or(-1, |bytes| RawFd::from_ne_bytes(*bytes));
            // SAFETY: both are numbers; the copy closes on exec.
            unsafe { libc::dup3(raw, TREES + received, libc::O_CLOEXEC) };
            received += 1;
        }
        if usize::try_from(received).is_ok_and(|count| count >= expected) {
            return true;
        }
    }
}

/// Sends the scratch layer with the word that the plan is done.
fn hand_over_scratch() {
    let mut bytes = [0_u8; 8];
    bytes.split_at_mut(4).0.copy_from_slice(&DONE.to_le_bytes());
    let mut vector = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: 8,
    };
    let mut control = Control([0; 16 + 4 * TREES_MAX]);
    // SAFETY: msghdr is plain integers and pointers, for which zero means absent.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = 24;
    let header = libc::cmsghdr {
        cmsg_len: 20,
        cmsg_level: libc::SOL_SOCKET,
        cmsg_type: libc::SCM_RIGHTS,
    };
    // SAFETY: the buffer is aligned and longer than the header.
    unsafe { control.0.as_mut_ptr().cast::<libc::cmsghdr>().write(header) };
    if let Some(place) = control.0.get_mut(16..20) {
        place.copy_from_slice(&SCRATCH.to_ne_bytes());
    }
    // SAFETY: all pointers in the message are valid for their lengths.
    unsafe { libc::sendmsg(CHANNEL, &raw const message, libc::MSG_NOSIGNAL) };
}

/// Performs one deed; gives the error number if it fails.
fn perform(deed: &Deed) -> Result<(), i32> {
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
        Deed::Filter => filter(),
    }
}

/// Sets a limit, soft and hard, never above the one that is inherited: a hard limit can only sink.
fn limit(resource: u32, value: u64) -> Result<(), i32> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the limit is valid for one write.
    checked(i64::from(unsafe {
        libc::getrlimit(resource, &raw mut limit)
    }))?;
    limit.rlim_max = limit.rlim_max.min(value);
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the limit is a valid struct.
    checked(i64::from(unsafe {
        libc::setrlimit(resource, &raw const limit)
    }))
    .map(drop)
}

fn identity(user: u32, group: u32) -> Result<(), i32> {
    // Groups are dropped where the map allows it: for an ordinary user the kernel forbids it, and
    // the maps leave nobody but that user to be.
    // SAFETY: an empty list needs no pointer.
    unsafe { libc::setgroups(0, ptr::null()) };
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

fn set_attributes(
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
    checked(i64::from(unsafe {
        libc::dup3(raw, number, libc::O_CLOEXEC)
    }))?;
    Ok(())
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
    let flags = libc::O_CREAT | libc::O_WRONLY | libc::O_CLOEXEC | libc::O_NOFOLLOW;
    // SAFETY: the path is a C string.
    let raw = unsafe { libc::open(path.as_ptr(), flags, 0o644) };
    checked(i64::from(raw))?;
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

/// `capset(2)`'s header and data, version 3.
#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

fn drop_capabilities() -> Result<(), i32> {
    // Root inside is a name, not a power: an executed program gains nothing from user id 0.
    let bits = 0b10_1111; // NOROOT, NO_SETUID_FIXUP, each with its lock, and KEEP_CAPS locked off
    // SAFETY: PR_SET_SECUREBITS takes integers.
    checked(i64::from(unsafe {
        libc::prctl(libc::PR_SET_SECUREBITS, bits, 0, 0, 0)
    }))?;
    for capability in 0..64 {
        // SAFETY: PR_CAPBSET_DROP takes integers; EINVAL marks the end of the known ones.
        let answer = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        if answer != 0 {
            break;
        }
    }
    let header = CapabilityHeader {
        version: 0x2008_0522,
        pid: 0,
    };
    let none = [0_u32; 6];
    // SAFETY: the header and two sets of three words are what version 3 reads.
    let answer = unsafe { libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) };
    checked(answer).map(drop)
}

/// `landlock_ruleset_attr`, version 6.
#[repr(C)]
struct Ruleset {
    files: u64,
    network: u64,
    scoped: u64,
}

/// `landlock_path_beneath_attr`.
#[repr(C, packed)]
struct Beneath {
    rights: u64,
    parent: i32,
}

fn landlock(handled: u64, scoped: u64, rules: &[(CString, u64)]) -> Result<(), i32> {
    let attributes = Ruleset {
        files: handled,
        network: 0,
        scoped,
    };
    // Older kernels know a shorter struct; its tail is then zero and may be left out.
    let size = if scoped == 0 { 8 } else { size_of::<Ruleset>() };
    // SAFETY: the struct is valid for the size given.
    let ruleset = checked(unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            &raw const attributes,
            size,
            0,
        )
    })?;
    for (path, rights) in rules {
        // SAFETY: the path is a C string.
        let parent = unsafe { libc::open(path.as_ptr(), libc::O_PATH | libc::O_CLOEXEC) };
        if parent < 0 {
            // A template without that directory needs no rule for it.
            continue;
        }
        let beneath = Beneath {
            rights: *rights,
            parent,
        };
        // SAFETY: the struct is valid; 1 is LANDLOCK_RULE_PATH_BENEATH.
        let added = checked(unsafe {
            libc::syscall(
                libc::SYS_landlock_add_rule,
                ruleset,
                1,
                &raw const beneath,
                0,
            )
        });
        // SAFETY: the descriptor was just opened and is used nowhere else.
        unsafe { libc::close(parent) };
        added?;
    }
    // SAFETY: the ruleset is an open descriptor; no flags.
    checked(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset, 0) }).map(drop)
}

fn filter() -> Result<(), i32> {
    let count = u16::try_from(FILTER.len() / size_of::<libc::sock_filter>());
    let program = libc::sock_fprog {
        len: count.unwrap_or(0),
        filter: FILTER.as_ptr().cast::<libc::sock_filter>().cast_mut(),
    };
    // SAFETY: the program's bytes were laid out as sock_filter by the build script; the kernel
    // copies them and tolerates any alignment.
    let answer = unsafe { libc::syscall(libc::SYS_seccomp, 1, 0, &raw const program) };
    checked(answer).map(drop)
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

/// The version of Landlock that the kernel offers; 0 if none.
pub(crate) fn landlock_abi() -> u32 {
    // SAFETY: no struct and no size, with the version flag.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            ptr::null::<Ruleset>(),
            0,
            1,
        )
    };
    u32::try_from(answer).unwrap_or(0)
}

/// Ends a process, by the descriptor that cannot mean another one.
pub(crate) fn kill(process: &OwnedFd) -> io::Result<()> {
    // SAFETY: the descriptor is a pidfd; no siginfo is given.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            process.as_raw_fd(),
            libc::SIGKILL,
            ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    checked(answer)
        .map(drop)
        .map_err(io::Error::from_raw_os_error)
}

/// Blocks the signals that ask a program to end, and gives a descriptor that tells of them.
pub(crate) fn signals() -> io::Result<OwnedFd> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `set` is valid for writes of one sigset_t.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    for signal in [
        libc::SIGINT,
        libc::SIGTERM,
        libc::SIGHUP,
        libc::SIGQUIT,
        libc::SIGWINCH,
    ] {
        // SAFETY: `set` was initialised by sigemptyset.
        unsafe { libc::sigaddset(set.as_mut_ptr(), signal) };
    }
    // SAFETY: `set` is initialised; the old mask is not wanted.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), ptr::null_mut()) };
    // SAFETY: `set` is initialised; -1 asks for a new descriptor.
    let raw = unsafe { libc::signalfd(-1, set.as_ptr(), libc::SFD_NONBLOCK | libc::SFD_CLOEXEC) };
    checked(i64::from(raw)).map_err(io::Error::from_raw_os_error)?;
    Ok(own(raw))
}

/// The signals that a descriptor of `signals` tells of.
pub(crate) fn take_signals(signals: &OwnedFd) -> io::Result<Vec<i32>> {
    let mut found = Vec::new();
    // One `signalfd_siginfo` is 128 bytes and begins with the signal's number.
    let mut record = [0_u8; 128];
    loop {
        match rustix::io::read(signals, &mut record) {
            Ok(128) => {
                let number = record
                    .first_chunk::<4>()
                    .map_or(0, |four| u32::from_ne_bytes(*four));
                found.extend(i32::try_from(number));
            }
            Ok(_) | Err(rustix::io::Errno::AGAIN) => return Ok(found),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
