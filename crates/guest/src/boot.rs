//! What is done once, before the first command.

use std::os::fd::OwnedFd;

use crate::sys;

/// Makes this process a quiet init: unreadable to others inside, deaf to signals sent from inside,
/// and told of dead children through a descriptor.
pub(crate) fn settle() -> OwnedFd {
    // Others inside have the same user; without this they could trace the first process and lie
    // through its channel.
    sys::refuse_tracing();
    sys::ignore_broken_pipes();
    sys::child_descriptor()
}
