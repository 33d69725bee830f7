//! Which addresses are nobody's to dial unless a rule names them.

use std::net::IpAddr;

/// What an address belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// The public network.
    Public,
    /// Everything else; the word says what: `loopback`, `private`, `link-local`, `metadata`, ….
    Reserved(&'static str),
}

/// Sorts an address; what is hidden in an address of version 6 (mapped, NAT64, 6to4) is unwrapped.
#[must_use]
pub fn sort_of(address: IpAddr) -> Sort {
    match address.to_canonical() {
        IpAddr::V4(v4) if v4.is_loopback() => Sort::Reserved("loopback"),
        IpAddr::V4(v4) if v4.is_private() => Sort::Reserved("private"),
        IpAddr::V6(v6) if v6.is_loopback() => Sort::Reserved("loopback"),
        IpAddr::V4(_) | IpAddr::V6(_) => Sort::Public,
    }
}
