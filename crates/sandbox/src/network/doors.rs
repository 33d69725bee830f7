//! The sockets of a gated network, told apart by what the kernel says of them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketType, getsockname, sockopt};

use super::{Counters, DNS_PORT, Dialer, LED_DNS_PORT, PROXY_PORT, TRANSPARENT_PORT};

/// The doors of one sandbox. A namespace lives as long as one of its sockets: dropping these,
/// after the sandbox has ended, lets it vanish.
#[derive(Debug)]
pub struct Doors {
    /// Listeners at which connections arrive that were meant to leave.
    pub transparent: Vec<OwnedFd>,
    /// Listeners for programs that ask for a proxy.
    pub proxy: Vec<OwnedFd>,
    /// Sockets for questions for names, by datagram.
    pub dns_udp: Vec<OwnedFd>,
    /// Listeners for questions for names.
    pub dns_tcp: Vec<OwnedFd>,
    /// Counts what went nowhere.
    pub counters: Counters,
    /// Reaches servers inside.
    pub dialer: Dialer,
}

impl Doors {
    /// Tells sockets apart that were opened for a sandbox.
    ///
    /// # Errors
    /// When one of them is none of the doors, or one that every sandbox has is missing.
    pub(crate) fn of(sockets: impl IntoIterator<Item = OwnedFd>) -> io::Result<Self> {
        let (mut transparent, mut proxy) = (Vec::new(), Vec::new());
        let (mut dns_udp, mut dns_tcp) = (Vec::new(), Vec::new());
        let mut counters = None;
        for socket in sockets {
            if sockopt::socket_domain(&socket)? == AddressFamily::NETLINK {
                counters = Some(Counters::new(socket));
                continue;
            }
            let datagrams = sockopt::socket_type(&socket)? == SocketType::DGRAM;
            let at = SocketAddr::try_from(getsockname(&socket)?)?;
            let list = match (at.port(), datagrams) {
                (TRANSPARENT_PORT, false) => &mut transparent,
                (PROXY_PORT, false) => &mut proxy,
                (DNS_PORT | LED_DNS_PORT, true) => &mut dns_udp,
                (DNS_PORT | LED_DNS_PORT, false) => &mut dns_tcp,
                _ => return Err(unknown(at.ip())),
            };
            list.push(socket);
        }
        let lists = [&transparent, &proxy, &dns_udp, &dns_tcp];
        let whole = lists.iter().all(|list| !list.is_empty());
        let (Some(counters), Some(door), true) = (counters, proxy.first(), whole) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let dialer = Dialer::new(door.try_clone()?);
        Ok(Self {
            transparent,
            proxy,
            dns_udp,
            dns_tcp,
            counters,
            dialer,
        })
    }
}

fn unknown(address: IpAddr) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("no door is at {address}"),
    )
}
