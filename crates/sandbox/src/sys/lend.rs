//! Sockets of another network namespace, for a process that cannot enter it: a helper process does,
//! opens them and sends them back. It is a copy of ours that runs nothing but this file, so that no
//! descriptor comes from a guest, which could keep a hand on it.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::ptr;
use std::time::Duration;

use super::{checked, own};
use crate::wire;

/// How many sockets are opened at once: one control message carries them.
const SOCKETS: usize = 14;
/// How long the helper may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The network namespace of a socket.
pub(crate) fn namespace_of(socket: &OwnedFd) -> io::Result<OwnedFd> {
    const SIOCGSKNS: libc::Ioctl = 0x894c;
    // SAFETY: the request takes no argument and gives a new descriptor.
    let raw = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCGSKNS) };
    checked(i64::from(raw)).map_err(io::Error::from_raw_os_error)?;
    Ok(own(raw))
}

/// The user namespace that has power over a namespace.
pub(crate) fn owner_of(namespace: &OwnedFd) -> io::Result<OwnedFd> {
    // SAFETY: the request takes no argument and gives a new descriptor.
    let raw = unsafe { libc::ioctl(namespace.as_raw_fd(), libc::NS_GET_USERNS) };
    checked(i64::from(raw)).map_err(io::Error::from_raw_os_error)?;
    Ok(own(raw))
}

/// A number that only sockets of one network namespace have.
pub(crate) fn namespace_number(socket: &OwnedFd) -> io::Result<u64> {
    const SO_NETNS_COOKIE: i32 = 71;
    let mut number = 0_u64;
    let mut length = libc::socklen_t::try_from(size_of::<u64>()).unwrap_or(0);
    // SAFETY: the number is valid for a write of the length given.
    let answer = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut number).cast(),
            &raw mut length,
        )
    };
    checked(i64::from(answer)).map_err(io::Error::from_raw_os_error)?;
    Ok(number)
}

/// Opens sockets of TCP in a network namespace: of IPv4, or of IPv6.
pub(crate) fn sockets_within(
    namespace: &OwnedFd,
    owner: &OwnedFd,
    six: bool,
) -> io::Result<Vec<OwnedFd>> {
    let (ours, theirs) = rustix::net::socketpair(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::STREAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?;
    let mut pidfd: RawFd = -1;
    // SAFETY: clone_args is plain integers, for which zero is the documented default.
    let mut arguments: libc::clone_args = unsafe { MaybeUninit::zeroed().assume_init() };
    const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
    arguments.flags = u64::from(libc::CLONE_PIDFD.cast_unsigned()) | CLONE_CLEAR_SIGHAND;
    arguments.pidfd = ptr::from_mut(&mut pidfd).addr() as u64;
    arguments.exit_signal = u64::from(libc::SIGCHLD.cast_unsigned());
    // SAFETY: the arguments are initialised and of the size given; without CLONE_VM the child has a
    // copy of this address space and stack, and runs only `helper`, which allocates nothing.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw mut arguments,
            size_of::<libc::clone_args>(),
        )
    };
    if pid == 0 {
        helper(namespace, owner, six, &theirs);
    }
    checked(pid).map_err(io::Error::from_raw_os_error)?;
    let pidfd = own(pidfd);
    drop(theirs);
    let heard = hear(&ours);
    super::kill(&pidfd).ok();
    let id = rustix::process::WaitId::PidFd(pidfd.as_fd());
    let options = rustix::process::WaitIdOptions::EXITED;
    match rustix::io::retry_on_intr(|| rustix::process::waitid(id.clone(), options)) {
        // A process that ignores its dead children has the kernel reap them.
        Ok(_) | Err(rustix::io::Errno::CHILD) => {}
        Err(error) => return Err(error.into()),
    }
    heard
}

fn hear(channel: &OwnedFd) -> io::Result<Vec<OwnedFd>> {
    if !wire::readable(channel, PATIENCE)? {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let (bytes, sockets) = wire::receive(channel)?;
    let told = bytes
        .first_chunk::<4>()
        .map(|four| i32::from_ne_bytes(*four));
    match told {
        Some(0) if !sockets.is_empty() => Ok(sockets),
        Some(errno) if errno != 0 => Err(io::Error::from_raw_os_error(errno)),
        Some(_) | None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// The helper's whole life.
fn helper(namespace: &OwnedFd, owner: &OwnedFd, six: bool, channel: &OwnedFd) -> ! {
    let mut sockets = [-1; SOCKETS];
    let told = open(namespace, owner, six, &mut sockets);
    send(channel.as_raw_fd(), told.err().unwrap_or(0), &sockets);
    // SAFETY: _exit takes an integer and runs nothing of the parent's.
    unsafe { libc::_exit(0) }
}

fn open(
    namespace: &OwnedFd,
    owner: &OwnedFd,
    six: bool,
    sockets: &mut [RawFd; SOCKETS],
) -> Result<(), i32> {
    if enter(namespace, libc::CLONE_NEWNET).is_err() {
        // Power over the namespace comes from the user namespace that owns it.
        enter(owner, libc::CLONE_NEWUSER)?;
        enter(namespace, libc::CLONE_NEWNET)?;
    }
    let family = if six { libc::AF_INET6 } else { libc::AF_INET };
    for place in sockets {
        let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: socket takes integers.
        *place = unsafe { libc::socket(family, kind, 0) };
        checked(i64::from(*place))?;
    }
    Ok(())
}

fn enter(namespace: &OwnedFd, kind: i32) -> Result<(), i32> {
    // SAFETY: setns takes integers.
    checked(i64::from(unsafe {
        libc::setns(namespace.as_raw_fd(), kind)
    }))
    .map(drop)
}

/// A control message of some descriptors, aligned as the kernel wants it.
#[repr(align(8))]
struct Control([u8; 16 + 4 * SOCKETS]);

fn send(channel: RawFd, errno: i32, sockets: &[RawFd; SOCKETS]) {
    let mut bytes = errno.to_ne_bytes();
    let mut vector = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    };
    let mut control = Control([0; 16 + 4 * SOCKETS]);
    let places = control.0.get_mut(16..).unwrap_or_default();
    for (place, socket) in places.chunks_exact_mut(4).zip(sockets) {
        place.copy_from_slice(&socket.to_ne_bytes());
    }
    let header = libc::cmsghdr {
        cmsg_len: size_of::<Control>(),
        cmsg_level: libc::SOL_SOCKET,
        cmsg_type: libc::SCM_RIGHTS,
    };
    // SAFETY: the buffer is aligned and longer than the header.
    unsafe { control.0.as_mut_ptr().cast::<libc::cmsghdr>().write(header) };
    // SAFETY: msghdr is plain integers and pointers, for which zero means absent.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    if errno == 0 {
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = control.0.len();
    }
    // SAFETY: all pointers in the message are valid for their lengths.
    unsafe { libc::sendmsg(channel, &raw const message, libc::MSG_NOSIGNAL) };
}
