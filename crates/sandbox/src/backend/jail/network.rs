//! The steps that furnish a jail's network namespace.

use super::plan::{DOORS, Deed, Step, c};
use crate::network::{self, Network, rules};

const WALL: &str = "network namespace";

/// Appends what makes a network of the wanted kind.
pub(super) fn steps(network: Network, steps: &mut Vec<Step>) {
    let mut push = |deed| steps.push(Step::new(WALL, deed));
    match network {
        Network::None => push(Deed::Loopback),
        Network::Gated => {
            push(Deed::Netlink {
                protocol: libc::NETLINK_NETFILTER,
                messages: rules::table(),
                optional: false,
            });
            push(Deed::Netlink {
                protocol: libc::NETLINK_ROUTE,
                messages: rules::routes(),
                optional: false,
            });
            // A kernel without IPv6 has nothing that could be reached by it.
            push(Deed::Netlink {
                protocol: libc::NETLINK_ROUTE,
                messages: rules::routes6(),
                optional: true,
            });
            for (number, socket) in (DOORS..).zip(network::sockets()) {
                push(Deed::Door { socket, number });
            }
            let number = DOORS + i32::try_from(network::sockets().len()).unwrap_or(0);
            push(Deed::Counters { number });
        }
    }
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

/// The steps that set the namespace's settings, below a root that has a fresh `/proc`.
pub(super) fn settings(network: Network, root: &str) -> impl Iterator<Item = Step> {
    let wanted = match network {
        Network::None => &[][..],
        Network::Gated => &KEPT_SECONDS[..],
    };
    wanted.iter().map(move |(name, value)| {
        let path = c(format!("{root}/proc/sys/net/netfilter/nf_conntrack_{name}"));
        let value = c(value);
        Step::new(WALL, Deed::Setting { path, value })
    })
}
