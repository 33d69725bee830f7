//! A network namespace is furnished: messages to the kernel, and sockets opened. Allocates nothing,
//! for the child of a clone does it too.

use std::net::SocketAddr;
use std::os::fd::RawFd;

use super::checked;
use crate::network::Socket;
use crate::network::netlink::{Answer, answer};

/// How many connections may wait at a door.
const WAITING: i32 = belljar_base::bounds::DOOR_WAITING_CONNECTIONS_MAX;
/// Room for what the kernel answers at once.
const ANSWER_BYTES_MAX: usize = 8 << 10;

/// Opens a socket for messages of a protocol to the kernel.
pub(super) fn netlink(protocol: i32) -> Result<RawFd, i32> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: socket takes integers.
    let raw = unsafe { libc::socket(libc::AF_NETLINK, kind, protocol) };
    checked(i64::from(raw)).map(|_| raw)
}

/// Sends messages; all of them must be acknowledged.
pub(super) fn exchange(protocol: i32, messages: &[u8], answers: u32) -> Result<(), i32> {
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
pub(super) fn open(socket: &Socket) -> Result<RawFd, i32> {
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
