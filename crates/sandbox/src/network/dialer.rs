//! Connections the other way: from the supervisor to a server inside.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use belljar_base::bounds::DIAL_INSIDE_MILLIS_MAX;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt;

use super::{DNS_PORT, LED_DNS_PORT, PROXY_PORT, TRANSPARENT_PORT};
use crate::sys;

/// Makes sockets in a sandbox's network namespace. They come from a helper process of the
/// supervisor's own and were never held by anything inside, which could else read from them first
/// and leave a reader waiting.
#[derive(Debug)]
pub struct Dialer {
    /// One of the sandbox's doors: it leads to the namespace.
    door: OwnedFd,
    /// Opened and not yet used, of IPv4 and of IPv6.
    spare: [Mutex<Vec<OwnedFd>>; 2],
}

impl Dialer {
    pub(super) fn new(door: OwnedFd) -> Self {
        let spare = [const { Mutex::new(Vec::new()) }; 2];
        Self { door, spare }
    }

    /// An unconnected socket of TCP over IPv4, which does not wait.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    pub fn socket(&self) -> io::Result<OwnedFd> {
        self.take(false)
    }

    /// A connection to a server inside, at 127.0.0.1 or else at ::1; it waits.
    ///
    /// # Errors
    /// When no server listens there, or it does not answer, or the port is one of the gate's doors.
    pub fn connect(&self, port: u16) -> io::Result<TcpStream> {
        if matches!(
            port,
            0 | DNS_PORT | LED_DNS_PORT | PROXY_PORT | TRANSPARENT_PORT
        ) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let to = |address: IpAddr| SocketAddr::new(address, port);
        match connect(self.take(false)?, to(Ipv4Addr::LOCALHOST.into())) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                // Without IPv6 the first answer is the one that says what is wrong.
                let Ok(six) = self.take(true) else {
                    return Err(error);
                };
                connect(six, to(Ipv6Addr::LOCALHOST.into()))
            }
            done => done,
        }
    }

    fn take(&self, six: bool) -> io::Result<OwnedFd> {
        let [four, other] = &self.spare;
        let spare = if six { other } else { four };
        let mut spare = spare.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(socket) = spare.pop() {
            return Ok(socket);
        }
        let namespace = sys::namespace_of(&self.door)?;
        let owner = sys::owner_of(&namespace)?;
        let made = sys::sockets_within(&namespace, &owner, six)?;
        let expected = sys::namespace_number(&self.door)?;
        for socket in &made {
            // A socket of the host's own namespace would reach the host's own servers.
            if sys::namespace_number(socket)? != expected {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
        spare.extend(made);
        spare.pop().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

fn connect(socket: OwnedFd, to: SocketAddr) -> io::Result<TcpStream> {
    match rustix::net::connect(&socket, &to) {
        Ok(()) => {}
        Err(rustix::io::Errno::INPROGRESS) => connected(&socket)?,
        Err(error) => return Err(error.into()),
    }
    let stream = TcpStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// Waits until a connection is made or refused.
fn connected(socket: &OwnedFd) -> io::Result<()> {
    let mut watched = [PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::OUT)];
    let patience = Duration::from_millis(DIAL_INSIDE_MILLIS_MAX);
    let patience = Timespec::try_from(patience).map_err(io::Error::other)?;
    if rustix::io::retry_on_intr(|| poll(&mut watched, Some(&patience)))? == 0 {
        return Err(io::ErrorKind::TimedOut.into());
    }
    sockopt::socket_error(socket)?.map_err(io::Error::from)
}
