//! The steps that furnish a jail's network namespace.

use super::plan::{DOORS, Deed, Step};
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
