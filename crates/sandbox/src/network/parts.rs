//! What a gated network namespace is made of, in order. Performed by the first process of a sandbox
//! in its own namespace, or by a thread of the supervisor in one that is kept ready.

use std::ffi::CString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::netlink::Messages;
use super::{DNS_PORT, LED_DNS_PORT, PROXY_PORT, TRANSPARENT_PORT, rules};

/// One thing that is done to a network namespace.
#[derive(Clone, Debug)]
pub(crate) enum Part {
    /// Messages to the kernel.
    Netlink {
        protocol: i32,
        messages: Messages,
        /// Whether a kernel that refuses them does no harm.
        optional: bool,
    },
    /// A door; one of IPv6 only where the kernel has it.
    Door(Socket),
    /// The socket by which the supervisor reads what went nowhere.
    Counters,
    /// A value for a file of the kernel's settings, if it can be written.
    Setting { path: CString, value: CString },
}

/// A socket to open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Socket {
    /// Where it is bound.
    pub(crate) at: SocketAddr,
    /// Whether it is for datagrams; otherwise it listens for connections.
    pub(crate) datagrams: bool,
}

/// Rules, routes and doors.
pub(crate) fn parts() -> Vec<Part> {
    let route = libc::NETLINK_ROUTE;
    let netlink = |protocol, messages, optional| Part::Netlink {
        protocol,
        messages,
        optional,
    };
    let mut parts = vec![
        netlink(libc::NETLINK_NETFILTER, rules::table(), false),
        netlink(route, rules::routes(), false),
        // A kernel without IPv6 has nothing that could be reached by it.
        netlink(route, rules::routes6(), true),
    ];
    parts.extend(sockets().map(Part::Door));
    parts.push(Part::Counters);
    parts
}

/// The doors of every gated sandbox. Their ports are below 1024, where nothing of a run can bind.
fn sockets() -> [Socket; 9] {
    let four = IpAddr::from(Ipv4Addr::LOCALHOST);
    let six = IpAddr::from(Ipv6Addr::LOCALHOST);
    [
        (four, TRANSPARENT_PORT, false),
        (six, TRANSPARENT_PORT, false),
        (four, PROXY_PORT, false),
        (four, DNS_PORT, true),
        (four, LED_DNS_PORT, true),
        (six, LED_DNS_PORT, true),
        (four, DNS_PORT, false),
        (four, LED_DNS_PORT, false),
        (six, LED_DNS_PORT, false),
    ]
    .map(|(address, port, datagrams)| Socket {
        at: SocketAddr::new(address, port),
        datagrams,
    })
}

/// How long the table of connections keeps what is over, in seconds: the table is the kernel's, and
/// what one run has in it is charged to nobody. Only a kernel that lets the namespace's owner say
/// so is told; the rate at which entries are made bounds them everywhere.
const KEPT_SECONDS: [(&str, &str); 6] = [
    ("tcp_timeout_syn_sent", "5"),
    ("tcp_timeout_syn_recv", "5"),
    ("tcp_timeout_time_wait", "2"),
    ("tcp_timeout_close", "2"),
    ("udp_timeout", "10"),
    ("udp_timeout_stream", "10"),
];

/// The settings, below a root that has a `/proc` that can be written.
pub(crate) fn settings(root: &str) -> impl Iterator<Item = Part> {
    KEPT_SECONDS.iter().map(move |(name, value)| {
        let path = format!("{root}/proc/sys/net/netfilter/nf_conntrack_{name}");
        Part::Setting {
            path: CString::new(path).unwrap_or_default(),
            value: CString::new(*value).unwrap_or_default(),
        }
    })
}
