//! A network namespace is furnished: messages to the kernel, and sockets opened. Allocates nothing,
//! for the child of a clone does it too.

use std::ffi::CStr;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use super::{checked, own};
use crate::network::netlink::{Answer, answer};
use crate::network::parts::{Part, Socket};

/// How many connections may wait at a door.
const WAITING: i32 = belljar_base::bounds::DOOR_WAITING_CONNECTIONS_MAX;
/// Room for what the kernel answers at once.
const ANSWER_BYTES_MAX: usize = 8 << 10;

/// Does one thing to this thread's network namespace; gives the socket that came of it, if any.
pub(super) fn furnish(part: &Part) -> Result<Option<RawFd>, i32> {
    match part {
        Part::Netlink {
            protocol,
            messages,
            optional,
        } => match exchange(*protocol, &messages.bytes, messages.answers) {
            Err(errno) if !*optional => Err(errno),
            Ok(()) | Err(_) => Ok(None),
        },
        Part::Door(socket) => match open(socket) {
            // A kernel without IPv6 has nothing that could be reached by it.
            Err(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL) if socket.at.is_ipv6() => Ok(None),
            opened => opened.map(Some),
        },
        Part::Counters => netlink(libc::NETLINK_NETFILTER).map(Some),
        Part::Setting { path, value } => {
            setting(path, value);
            Ok(None)
        }
    }
}

/// Furnishes this thread's network namespace; gives the sockets.
pub(crate) fn furnish_all(parts: &[Part]) -> io::Result<Vec<OwnedFd>> {
    let mut sockets = Vec::new();
    for part in parts {
        let socket = furnish(part).map_err(io::Error::from_raw_os_error)?;
        sockets.extend(socket.map(own));
    }
    Ok(sockets)
}

/// The network namespace that this thread is in.
pub(crate) fn network_here() -> io::Result<OwnedFd> {
    Ok(std::fs::File::open("/proc/thread-self/ns/net")?.into())
}

/// Puts this thread into a network namespace of its own, which has nothing yet.
pub(crate) fn new_network() -> io::Result<OwnedFd> {
    // SAFETY: unshare takes an integer; of this thread alone the namespace changes.
    let answer = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    checked(i64::from(answer)).map_err(io::Error::from_raw_os_error)?;
    network_here()
}

/// Puts this thread into a network namespace.
pub(crate) fn enter_network(namespace: &OwnedFd) -> io::Result<()> {
    // SAFETY: setns takes integers; of this thread alone the namespace changes.
    let answer = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) };
    checked(i64::from(answer))
        .map(drop)
        .map_err(io::Error::from_raw_os_error)
}

/// Opens a socket for messages of a protocol to the kernel.
fn netlink(protocol: i32) -> Result<RawFd, i32> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: socket takes integers.
    let raw = unsafe { libc::socket(libc::AF_NETLINK, kind, protocol) };
    checked(i64::from(raw)).map(|_| raw)
}

/// Sends messages; all of them must be acknowledged.
fn exchange(protocol: i32, messages: &[u8], answers: u32) -> Result<(), i32> {
    let socket = netlink(protocol)?;
    let done = send_and_hear(socket, messages, answers);
    close(socket);
    done
}

fn send_and_hear(socket: RawFd, messages: &[u8], mut answers: u32) -> Result<(), i32> {
    // SAFETY: the messages are valid for their length.
    let sent = unsafe { libc::send(socket, messages.as_ptr().cast(), messages.len(), 0) };
    checked(i64::try_from(sent).unwrap_or(-1))?;
    let mut buffer = [0_u8; ANSWER_BYTES_MAX];
    while answers > 0 {
        // The kernel has answered before the send returns: nothing is waited for.
        let flags = libc::MSG_DONTWAIT;
        // SAFETY: the buffer is valid for its length.
        let count = unsafe { libc::recv(socket, buffer.as_mut_ptr().cast(), buffer.len(), flags) };
        let count = checked(i64::try_from(count).unwrap_or(-1))?;
        let count = usize::try_from(count).unwrap_or(0);
        let mut bytes = buffer.get(..count).unwrap_or_default();
        while let Some((told, rest)) = answer(bytes) {
            bytes = rest;
            match told {
                Answer::Told(0) => answers = answers.saturating_sub(1),
                Answer::Told(errno) => return Err(errno),
                Answer::Done | Answer::Message(..) => {}
            }
        }
    }
    Ok(())
}

/// Opens a socket, bound and listening.
fn open(socket: &Socket) -> Result<RawFd, i32> {
    let family = match socket.at {
        SocketAddr::V4(_) => libc::AF_INET,
        SocketAddr::V6(_) => libc::AF_INET6,
    };
    let kind = if socket.datagrams {
        libc::SOCK_DGRAM
    } else {
        libc::SOCK_STREAM
    };
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: socket takes integers.
    let raw = unsafe { libc::socket(family, kind | flags, 0) };
    checked(i64::from(raw))?;
    let listening = bind(raw, &socket.at).and_then(|()| match socket.datagrams {
        true => Ok(()),
        // SAFETY: listen takes integers.
        false => checked(i64::from(unsafe { libc::listen(raw, WAITING) })).map(drop),
    });
    if let Err(errno) = listening {
        close(raw);
        return Err(errno);
    }
    Ok(raw)
}

fn bind(socket: RawFd, at: &SocketAddr) -> Result<(), i32> {
    let answer = match at {
        SocketAddr::V4(at) => {
            let address = libc::sockaddr_in {
                sin_family: libc::sa_family_t::try_from(libc::AF_INET).unwrap_or_default(),
                sin_port: at.port().to_be(),
                sin_addr: libc::in_addr {
                    s_addr: u32::from_ne_bytes(at.ip().octets()),
                },
                sin_zero: [0; 8],
            };
            // SAFETY: the address is a valid struct of the size given.
            unsafe { libc::bind(socket, (&raw const address).cast(), length(&address)) }
        }
        SocketAddr::V6(at) => {
            let address = libc::sockaddr_in6 {
                sin6_family: libc::sa_family_t::try_from(libc::AF_INET6).unwrap_or_default(),
                sin6_port: at.port().to_be(),
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr {
                    s6_addr: at.ip().octets(),
                },
                sin6_scope_id: 0,
            };
            // SAFETY: the address is a valid struct of the size given.
            unsafe { libc::bind(socket, (&raw const address).cast(), length(&address)) }
        }
    };
    checked(i64::from(answer)).map(drop)
}

fn length<T>(address: &T) -> libc::socklen_t {
    libc::socklen_t::try_from(size_of_val(address)).unwrap_or(0)
}

fn setting(path: &CStr, value: &CStr) {
    let flags = libc::O_WRONLY | libc::O_CLOEXEC;
    // SAFETY: the path is a C string.
    let raw = unsafe { libc::open(path.as_ptr(), flags) };
    let bytes = value.to_bytes();
    // SAFETY: the bytes are valid for their length; a write to no descriptor is refused.
    unsafe { libc::write(raw, bytes.as_ptr().cast(), bytes.len()) };
    // SAFETY: the descriptor was just opened, if it was, and is used nowhere else.
    unsafe { libc::close(raw) };
}

fn close(raw: RawFd) {
    // SAFETY: the descriptor was just opened here and is used nowhere else.
    unsafe { libc::close(raw) };
}

/// Puts a descriptor at a number.
pub(super) fn keep(raw: RawFd, number: RawFd) -> Result<(), i32> {
    // SAFETY: both are numbers; the copy closes on exec.
    let copied = checked(i64::from(unsafe {
        libc::dup3(raw, number, libc::O_CLOEXEC)
    }));
    close(raw);
    copied.map(drop)
}
