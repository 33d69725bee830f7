//! The steps that furnish a jail's network namespace.

use super::plan::{DOORS, Deed, Step};
use crate::network::Network;
use crate::network::parts::{self, Part};

const WALL: &str = "network namespace";

/// Where the network comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The child makes it.
    Own(Network),
    /// The child is born in one that was kept ready.
    Ready,
}

/// Appends what makes a network.
pub(super) fn steps(origin: Origin, steps: &mut Vec<Step>) {
    match origin {
        Origin::Own(Network::None) => steps.push(Step::new(WALL, Deed::Loopback)),
        Origin::Own(Network::Gated) => {
            for (number, part) in (DOORS..).zip(parts::parts()) {
                steps.push(Step::new(WALL, Deed::Network { part, number }));
            }
        }
        Origin::Ready => {}
    }
}

/// The steps that set a network's settings, below a root that has a fresh `/proc`.
pub(super) fn settings(origin: Origin, root: &str) -> Vec<Step> {
    let step = |part: Part| {
        let number = DOORS;
        Step::new(WALL, Deed::Network { part, number })
    };
    match origin {
        Origin::Own(Network::Gated) => parts::settings(root).map(step).collect(),
        Origin::Own(Network::None) | Origin::Ready => Vec::new(),
    }
}
