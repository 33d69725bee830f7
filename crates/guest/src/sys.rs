//! Every unsafe call of the guest: small safe functions, one operation a block.
#![expect(
    unsafe_code,
    reason = "the guest's only room for system calls without a safe wrapper"
)]

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use crate::channel::CHANNEL;

/// Which descriptors have something to read.
pub(crate) struct Ready {
    pub(crate) channel: bool,
    pub(crate) child: bool,
}

/// What a command starts with.
pub(crate) struct Started<'a> {
    pub(crate) programs: &'a [CString],
    pub(crate) arguments: &'a [CString],
    pub(crate) environment: &'a [CString],
    pub(crate) directory: &'a CString,
    pub(crate) stdio: &'a [OwnedFd; 3],
    pub(crate) terminal: bool,
}

pub(crate) fn refuse_tracing() {
    // SAFETY: PR_SET_DUMPABLE takes plain integers and no pointers.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
}

pub(crate) fn ignore_broken_pipes() {
    // SAFETY: SIG_IGN is a valid disposition; no handler code is installed.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

/// A descriptor that becomes readable when a child dies; SIGCHLD stays blocked in this process.
pub(crate) fn child_descriptor() -> OwnedFd {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `set` is valid for writes of one sigset_t.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: `set` was initialised by sigemptyset.
    unsafe { libc::sigaddset(set.as_mut_ptr(), libc::SIGCHLD) };
    // SAFETY: `set` is initialised; the old mask is not wanted.
    unsafe { libc::sigprocmask(libc::SIG_BLOCK, set.as_ptr(), ptr::null_mut()) };
    // SAFETY: `set` is initialised; -1 asks for a new descriptor.
    let raw = unsafe { libc::signalfd(-1, set.as_ptr(), libc::SFD_NONBLOCK | libc::SFD_CLOEXEC) };
    own(raw)
}

/// The channel that the supervisor left at a known number.
pub(crate) fn inherited_channel() -> OwnedFd {
    // SAFETY: CHANNEL is open; F_SETFD takes an integer. Commands must not inherit it.
    unsafe { libc::fcntl(CHANNEL, libc::F_SETFD, libc::FD_CLOEXEC) };
    own(CHANNEL)
}

fn own(raw: i32) -> OwnedFd {
    assert!(raw >= 0, "the kernel gave no descriptor");
    // SAFETY: `raw` is open (checked above) and has no other owner in this process.
    unsafe { OwnedFd::from_raw_fd(raw) }
}

/// Waits until the channel or the child descriptor has something.
pub(crate) fn wait_readable(channel: BorrowedFd<'_>, children: &OwnedFd) -> io::Result<Ready> {
    let mut watched = [
        PollFd::from_borrowed_fd(channel, PollFlags::IN),
        PollFd::new(children, PollFlags::IN),
    ];
    match poll(&mut watched, None) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let [channel, child] = watched.map(|watch| !watch.revents().is_empty());
    Ok(Ready { channel, child })
}

/// Sends bytes, the descriptor with the first of them.
pub(crate) fn send(socket: &OwnedFd, mut bytes: &[u8], with: Option<&OwnedFd>) -> io::Result<()> {
    let mut with = with;
    while !bytes.is_empty() {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let descriptor = with.take().map(|one| [std::os::fd::AsFd::as_fd(one)]);
        if let Some(one) = &descriptor {
            ancillary.push(SendAncillaryMessage::ScmRights(one));
        }
        let slice = [io::IoSlice::new(bytes)];
        let sent = sendmsg(socket, &slice, &mut ancillary, SendFlags::NOSIGNAL)?;
        bytes = bytes.get(sent..).unwrap_or_default();
    }
    Ok(())
}

/// Receives bytes and the descriptors beside them.
pub(crate) fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(48))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut slice = [io::IoSliceMut::new(buffer)];
    let message = recvmsg(socket, &mut slice, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let mut descriptors = Vec::new();
    for item in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = item {
            descriptors.extend(rights);
        }
    }
    Ok((message.bytes, descriptors))
}

/// Opens a terminal of the sandbox's own devpts: its master, and three copies of its slave.
pub(crate) fn open_terminal(rows: u16, columns: u16) -> io::Result<([OwnedFd; 3], OwnedFd)> {
    let flags = rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY;
    let master = rustix::pty::openpt(flags | rustix::pty::OpenptFlags::CLOEXEC)?;
    rustix::pty::unlockpt(&master)?;
    let name = rustix::pty::ptsname(&master, Vec::new())?;
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
    let slave = rustix::fs::open(name.as_c_str(), flags, rustix::fs::Mode::empty())?;
    let size = rustix::termios::Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    rustix::termios::tcsetwinsize(&slave, size)?;
    Ok(([slave.try_clone()?, slave.try_clone()?, slave], master))
}

/// Forks and executes. `Ok((pid, None))` runs; `Ok((pid, Some(step, errno)))` failed in the child.
pub(crate) fn start(command: &Started<'_>) -> io::Result<(i32, Option<(&'static str, i32)>)> {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings
            .iter()
            .map(|s| s.as_ptr())
            .chain([ptr::null()])
            .collect()
    };
    let (arguments, environment) = (pointers(command.arguments), pointers(command.environment));
    let (report_read, report_write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    // SAFETY: this process has one thread, so the child may run ordinary code until it executes.
    let process = unsafe { libc::fork() };
    if process < 0 {
        return Err(io::Error::last_os_error());
    }
    if process == 0 {
        let (step, errno) = become_command(command, &arguments, &environment);
        let report = [step, u8::try_from(errno).unwrap_or(u8::MAX)];
        // If even this fails, the exit code alone tells that nothing was executed.
        let code = if rustix::io::write(&report_write, &report).is_ok() {
            127
        } else {
            126
        };
        // SAFETY: _exit takes an integer and runs no destructors.
        unsafe { libc::_exit(code) };
    }
    drop(report_write);
    let mut report = [0_u8; 2];
    let count = rustix::io::retry_on_intr(|| rustix::io::read(&report_read, &mut report))?;
    let [step, errno] = report;
    let step = match step {
        0 => "enter the directory",
        1 => "take the terminal",
        _ => "execute",
    };
    Ok((process, (count == 2).then_some((step, i32::from(errno)))))
}

/// Runs in the child; returns only on failure, with the number of the step.
fn become_command(
    command: &Started<'_>,
    arguments: &[*const libc::c_char],
    environment: &[*const libc::c_char],
) -> (u8, i32) {
    let errno = || {
        io::Error::last_os_error()
            .raw_os_error()
            .unwrap_or(libc::EIO)
    };
    unblock_signals();
    // SAFETY: setsid takes nothing.
    unsafe { libc::setsid() };
    for (target, descriptor) in (0..).zip(command.stdio) {
        // SAFETY: both numbers are open descriptors; dup2 clears close-on-exec on the copy.
        unsafe { libc::dup2(descriptor.as_raw_fd(), target) };
    }
    if command.terminal {
        // SAFETY: descriptor 0 is a terminal; TIOCSCTTY takes an integer.
        let taken = unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) };
        if taken != 0 {
            return (1, errno());
        }
    }
    // SAFETY: `directory` is a valid C string.
    let entered = unsafe { libc::chdir(command.directory.as_ptr()) };
    if entered != 0 {
        return (0, errno());
    }
    let mut worst = libc::ENOENT;
    for program in command.programs {
        // SAFETY: the program is a C string and both vectors end with a null pointer.
        unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
        // As execvp: a permission problem is remembered, a missing file is not.
        match errno() {
            libc::ENOENT | libc::ENOTDIR => {}
            other => worst = other,
        }
    }
    (2, worst)
}

fn unblock_signals() {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `set` is valid for writes of one sigset_t.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: `set` was initialised by sigemptyset.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, set.as_ptr(), ptr::null_mut()) };
    // What Belljar's own caller ignores (as `nohup` does) a command inside must still be able to
    // hear. The kernel refuses the two signals that cannot be set.
    for number in 1..=LAST_SIGNAL {
        // SAFETY: SIG_DFL is a valid disposition.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
}

/// The highest signal number of Linux.
const LAST_SIGNAL: i32 = 64;

pub(crate) fn signal_group(process: i32, signal: i32) {
    // SAFETY: kill takes integers; the group is one that this process made with setsid.
    unsafe { libc::kill(-process, signal) };
}

pub(crate) fn drain(children: &OwnedFd) {
    let mut buffer = [0_u8; 1024];
    while rustix::io::read(children, &mut buffer).is_ok_and(|count| count > 0) {}
}

/// One dead child, if there is one.
pub(crate) fn reap_one() -> Option<(i32, i32)> {
    let mut status = 0;
    // SAFETY: `status` is valid for one write; -1 means any child.
    let process = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
    (process > 0).then_some((process, status))
}

pub(crate) fn mount_is_refused() -> bool {
    // SAFETY: all three strings are C literals and the data pointer may be null.
    let answer = unsafe {
        libc::mount(
            c"tmpfs".as_ptr(),
            c"/tmp".as_ptr(),
            c"tmpfs".as_ptr(),
            0,
            ptr::null(),
        )
    };
    answer != 0
}

pub(crate) fn namespaces_are_refused() -> bool {
    // SAFETY: unshare takes an integer.
    unsafe { libc::unshare(libc::CLONE_NEWUSER) != 0 }
}

pub(crate) fn keyrings_are_refused() -> bool {
    // SAFETY: KEYCTL_GET_KEYRING_ID (0) of the session keyring (-3) takes integers.
    unsafe { libc::syscall(libc::SYS_keyctl, 0, -3, 1) < 0 }
}

pub(crate) fn device_nodes_are_refused() -> bool {
    let path = c"/tmp/.belljar-probe";
    // SAFETY: `path` is a C literal; the rest are integers (a block device, 254:0).
    let made = unsafe { libc::mknod(path.as_ptr(), libc::S_IFBLK | 0o600, libc::makedev(254, 0)) };
    if made == 0 {
        // SAFETY: `path` is a C literal.
        unsafe { libc::unlink(path.as_ptr()) };
    }
    made != 0
}
