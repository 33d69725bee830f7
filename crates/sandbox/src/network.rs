//! The network of a sandbox whose only way out is the gate: a network namespace without any device
//! but loopback, to which every address leads, and the doors in it: sockets that the supervisor
//! holds and at which arrives whatever was meant to leave.
//!
//! The original destination of a connection at a transparent door is what
//! `getsockopt(SOL_IP, SO_ORIGINAL_DST)` says, or `SOL_IPV6` for IPv6.

pub(crate) mod netlink; // messages as bytes
pub(crate) mod rules; // which messages make the network
pub(crate) mod parts; // what a network namespace is made of
pub(crate) mod pool; // network namespaces that are kept ready
mod counters; // what went nowhere
mod doors; // the sockets, told apart
mod dialer; // connections the other way

use std::net::Ipv4Addr;

pub use counters::{Counters, Dropped};
pub use dialer::Dialer;
pub use doors::Doors;

/// At this port of the loopback addresses arrive connections that were meant to leave.
pub const TRANSPARENT_PORT: u16 = 1020;
/// At this port of 127.0.0.1 programs find the gate when they ask for a proxy.
pub const PROXY_PORT: u16 = 1021;
/// At this port of 127.0.0.1 the gate answers questions for names.
pub const DNS_PORT: u16 = 53;
/// At this port of the loopback addresses arrive questions that were meant for other servers.
const LED_DNS_PORT: u16 = 1022;
/// The address that a gated sandbox has beside the loopback addresses (RFC 7335).
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 2);

/// What a sandbox reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// Its own loopback addresses.
    #[default]
    None,
    /// The gate's doors, and its own addresses.
    Gated,
}
