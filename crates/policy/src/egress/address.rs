//! Which addresses are nobody's to dial unless a rule names them.
//!
//! The tables are IANA's registries of special-purpose addresses (RFC 6890 and what came after),
//! and the addresses at which clouds hand out credentials.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// What an address belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// The public network.
    Public,
    /// Everything else; the word says what: `loopback`, `private`, `link-local`, `metadata`, ….
    Reserved(&'static str),
}

/// Where the address of version 4 lies in one of version 6.
#[derive(Clone, Copy)]
enum Inside {
    /// In its last 32 bits.
    Last,
    /// In the 32 bits after the first 16.
    AfterSixteen,
}

/// The most narrow range first: the first that has an address names it.
const VERSION_4: &[(Ipv4Addr, u32, &str)] = &[
    (Ipv4Addr::new(169, 254, 169, 254), 32, "metadata"), // most clouds
    (Ipv4Addr::new(169, 254, 170, 2), 32, "metadata"),   // container credentials
    (Ipv4Addr::new(169, 254, 170, 23), 32, "metadata"),  // pod credentials
    (Ipv4Addr::new(100, 100, 100, 200), 32, "metadata"),
    (Ipv4Addr::new(168, 63, 129, 16), 32, "metadata"),
    (Ipv4Addr::new(192, 0, 0, 192), 32, "metadata"),
    (Ipv4Addr::new(255, 255, 255, 255), 32, "broadcast"),
    (Ipv4Addr::new(0, 0, 0, 0), 8, "this-network"),
    (Ipv4Addr::new(10, 0, 0, 0), 8, "private"),
    (Ipv4Addr::new(100, 64, 0, 0), 10, "shared"), // carriers' address translation
    (Ipv4Addr::new(127, 0, 0, 0), 8, "loopback"),
    (Ipv4Addr::new(169, 254, 0, 0), 16, "link-local"),
    (Ipv4Addr::new(172, 16, 0, 0), 12, "private"),
    (Ipv4Addr::new(192, 0, 0, 0), 24, "protocol"),
    (Ipv4Addr::new(192, 0, 2, 0), 24, "documentation"),
    (Ipv4Addr::new(192, 31, 196, 0), 24, "anycast"),
    (Ipv4Addr::new(192, 52, 193, 0), 24, "anycast"),
    (Ipv4Addr::new(192, 88, 99, 0), 24, "anycast"),
    (Ipv4Addr::new(192, 168, 0, 0), 16, "private"),
    (Ipv4Addr::new(192, 175, 48, 0), 24, "anycast"),
    (Ipv4Addr::new(198, 18, 0, 0), 15, "benchmark"), // the gate's own synthetic answers, too
    (Ipv4Addr::new(198, 51, 100, 0), 24, "documentation"),
    (Ipv4Addr::new(203, 0, 113, 0), 24, "documentation"),
    (Ipv4Addr::new(224, 0, 0, 0), 4, "multicast"),
    (Ipv4Addr::new(240, 0, 0, 0), 4, "future"),
];

const VERSION_6: &[(Ipv6Addr, u32, &str)] = &[
    (Ipv6Addr::UNSPECIFIED, 128, "this-network"),
    (Ipv6Addr::LOCALHOST, 128, "loopback"),
    (v6(0xfd00, 0x0ec2, 0, 0, 0x254), 128, "metadata"),
    (v6(0xfd20, 0x00ce, 0, 0, 0x254), 128, "metadata"),
    (v6(0x64, 0xff9b, 1, 0, 0), 48, "translation"),
    (v6(0x100, 0, 0, 0, 0), 64, "discard"),
    (v6(0x100, 0, 0, 1, 0), 64, "discard"),
    (v6(0x2001, 0, 0, 0, 0), 32, "teredo"),
    (v6(0x2001, 0xdb8, 0, 0, 0), 32, "documentation"),
    (v6(0x2001, 0, 0, 0, 0), 23, "protocol"), // ORCHID, benchmarks and others
    (v6(0x2620, 0x4f, 0x8000, 0, 0), 48, "anycast"),
    (v6(0x3fff, 0, 0, 0, 0), 20, "documentation"),
    (v6(0x5f00, 0, 0, 0, 0), 16, "segments"),
    (v6(0xfc00, 0, 0, 0, 0), 7, "private"),
    (v6(0xfe80, 0, 0, 0, 0), 10, "link-local"),
    (v6(0xfec0, 0, 0, 0, 0), 10, "site-local"),
    (v6(0xff00, 0, 0, 0, 0), 8, "multicast"),
];

/// Ranges in which an address of version 4 hides: it is judged as that address.
const HIDING: &[(Ipv6Addr, u32, Inside)] = &[
    (v6(0, 0, 0, 0, 0), 96, Inside::Last), // compatible, never used
    (v6(0x64, 0xff9b, 0, 0, 0), 96, Inside::Last), // NAT64
    (v6(0x2002, 0, 0, 0, 0), 16, Inside::AfterSixteen), // 6to4
];

const fn v6(a: u16, b: u16, c: u16, d: u16, last: u16) -> Ipv6Addr {
    Ipv6Addr::new(a, b, c, d, 0, 0, 0, last)
}

/// Sorts an address; what is hidden in an address of version 6 (mapped, NAT64, 6to4) is unwrapped.
#[must_use]
pub fn sort_of(address: IpAddr) -> Sort {
    match address.to_canonical() {
        IpAddr::V4(v4) => sort_of_4(v4),
        IpAddr::V6(v6) => sort_of_6(v6),
    }
}

/// Whether an allowing rule for `net` lets an address be dialled. An address that is not public is
/// meant only by a net of addresses of its own sort, so that a wide net of public ones, or a
/// private one around a metadata address, does not take it in; one of the host's own only by
/// itself.
pub(super) fn is_named_by(address: IpAddr, net: &IpNet, own: &[IpAddr]) -> bool {
    let (address, sort) = (address.to_canonical(), sort_of(address));
    if !net.contains(&address) {
        return false;
    }
    let loopback = sort == Sort::Reserved("loopback");
    if own.contains(&address) && !loopback {
        return net.prefix_len() == net.max_prefix_len();
    }
    sort == Sort::Public || (sort_of(net.network()) == sort && sort_of(net.broadcast()) == sort)
}

/// Whether an address, or one that hides in it, lies within the net of a denying rule.
pub(super) fn is_within(address: IpAddr, net: &IpNet) -> bool {
    let address = address.to_canonical();
    let hidden = match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(v6) => hidden(v6).or_else(|| isatap(v6)),
    };
    net.contains(&address) || hidden.is_some_and(|v4| net.contains(&IpAddr::V4(v4)))
}

fn sort_of_4(address: Ipv4Addr) -> Sort {
    let within = |(base, bits, _): &&(Ipv4Addr, u32, &'static str)| {
        let differs = address.to_bits() ^ base.to_bits();
        differs.checked_shr(32 - bits).unwrap_or(0) == 0
    };
    let found = VERSION_4.iter().find(within);
    found.map_or(Sort::Public, |(_, _, word)| Sort::Reserved(word))
}

fn sort_of_6(address: Ipv6Addr) -> Sort {
    let found = VERSION_6
        .iter()
        .find(|(base, bits, _)| shares(address, *base, *bits));
    match (found, hidden(address), isatap(address)) {
        (Some((_, _, word)), _, _) => Sort::Reserved(word),
        (None, Some(v4), _) | (None, None, Some(v4)) => sort_of_4(v4),
        // What is not handed out is nobody's.
        (None, None, None) if !shares(address, v6(0x2000, 0, 0, 0, 0), 3) => {
            Sort::Reserved("future")
        }
        (None, None, None) => Sort::Public,
    }
}

fn shares(address: Ipv6Addr, base: Ipv6Addr, bits: u32) -> bool {
    let differs = address.to_bits() ^ base.to_bits();
    differs.checked_shr(128 - bits).unwrap_or(0) == 0
}

fn hidden(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let (_, _, inside) = HIDING
        .iter()
        .find(|(base, bits, _)| shares(address, *base, *bits))?;
    let [_, _, a, b, c, d, .., e, f, g, h] = address.octets();
    Some(match inside {
        Inside::Last => Ipv4Addr::new(e, f, g, h),
        Inside::AfterSixteen => Ipv4Addr::new(a, b, c, d),
    })
}

/// The address of version 4 in an interface identifier of ISATAP, in any network.
fn isatap(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [.., 0x00 | 0x02, 0x00, 0x5e, 0xfe, e, f, g, h] = address.octets() else {
        return None;
    };
    Some(Ipv4Addr::new(e, f, g, h))
}
