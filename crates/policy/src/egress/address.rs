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
    (v6(0xfd00, 0x0ec2, 0, 0, 0x23), 128, "metadata"),
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

/// Whether anybody may dial an address: it is public and none of this host's own.
pub(super) fn is_public(address: IpAddr, own: &[IpAddr]) -> bool {
    sort_of(address) == Sort::Public && !is_own(address, own)
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
    if is_own(address, own) && sort != Sort::Reserved("loopback") {
        return net.prefix_len() == net.max_prefix_len();
    }
    sort == Sort::Public || (sort_of(net.network()) == sort && sort_of(net.broadcast()) == sort)
}

/// Whether an address, or one that hides in it, lies within the net of a denying rule.
pub(super) fn is_within(address: IpAddr, net: &IpNet) -> bool {
    faces(address).any(|face| net.contains(&face))
}

fn is_own(address: IpAddr, own: &[IpAddr]) -> bool {
    faces(address).any(|face| own.iter().any(|own| own.to_canonical() == face))
}

/// An address, and those that hide in it.
fn faces(address: IpAddr) -> impl Iterator<Item = IpAddr> {
    let address = address.to_canonical();
    let (hidden, isatap) = match address {
        IpAddr::V4(_) => (None, None),
        IpAddr::V6(v6) => (hidden(v6), isatap(v6)),
    };
    let inside = [hidden, isatap].into_iter().flatten().map(IpAddr::V4);
    std::iter::once(address).chain(inside)
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(word: &'static str, texts: &[&str]) {
        for text in texts {
            let wanted = match word {
                "public" => Sort::Public,
                word => Sort::Reserved(word),
            };
            assert_eq!(sort_of(text.parse().unwrap()), wanted, "{text}");
        }
    }

    #[test]
    fn every_range_of_version_4() {
        check("this-network", &["0.0.0.0", "0.0.0.1", "0.255.255.255"]);
        check(
            "private",
            &["10.0.0.0", "10.255.255.255", "172.16.0.0", "172.31.255.255"],
        );
        check("private", &["192.168.0.0", "192.168.255.255"]);
        check(
            "shared",
            &["100.64.0.0", "100.100.100.199", "100.127.255.255"],
        );
        check("loopback", &["127.0.0.0", "127.0.0.1", "127.255.255.255"]);
        check(
            "link-local",
            &["169.254.0.0", "169.254.169.253", "169.254.255.255"],
        );
        check(
            "metadata",
            &["169.254.169.254", "169.254.170.2", "169.254.170.23"],
        );
        check(
            "metadata",
            &["100.100.100.200", "168.63.129.16", "192.0.0.192"],
        );
        check(
            "protocol",
            &["192.0.0.0", "192.0.0.9", "192.0.0.170", "192.0.0.255"],
        );
        check(
            "documentation",
            &["192.0.2.0", "192.0.2.255", "198.51.100.0", "198.51.100.255"],
        );
        check("documentation", &["203.0.113.0", "203.0.113.255"]);
        check(
            "anycast",
            &[
                "192.31.196.1",
                "192.52.193.1",
                "192.88.99.1",
                "192.175.48.1",
            ],
        );
        check("benchmark", &["198.18.0.0", "198.19.255.255"]);
        check("multicast", &["224.0.0.0", "239.255.255.255"]);
        check("future", &["240.0.0.0", "255.255.255.254"]);
        check("broadcast", &["255.255.255.255"]);
    }

    #[test]
    fn beside_every_range_of_version_4() {
        check(
            "public",
            &[
                "1.0.0.0",
                "9.255.255.255",
                "11.0.0.0",
                "100.63.255.255",
                "100.128.0.0",
            ],
        );
        check(
            "public",
            &[
                "126.255.255.255",
                "128.0.0.0",
                "169.253.255.255",
                "169.255.0.0",
            ],
        );
        check(
            "public",
            &[
                "172.15.255.255",
                "172.32.0.0",
                "192.167.255.255",
                "192.169.0.0",
            ],
        );
        check(
            "public",
            &[
                "191.255.255.255",
                "192.0.1.0",
                "192.0.3.0",
                "198.17.255.255",
                "198.20.0.0",
            ],
        );
        check(
            "public",
            &[
                "198.51.99.255",
                "198.51.101.0",
                "203.0.112.255",
                "203.0.114.0",
            ],
        );
        check(
            "public",
            &[
                "223.255.255.255",
                "168.63.129.15",
                "168.63.129.17",
                "8.8.8.8",
            ],
        );
    }

    #[test]
    fn every_range_of_version_6() {
        check("this-network", &["::"]);
        check("loopback", &["::1"]);
        check(
            "metadata",
            &["fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254"],
        );
        check("translation", &["64:ff9b:1::", "64:ff9b:1:ffff::808:808"]);
        check(
            "discard",
            &["100::", "100::ffff:ffff:ffff:ffff", "100:0:0:1::"],
        );
        check("teredo", &["2001::", "2001:0:ffff::1"]);
        check(
            "protocol",
            &[
                "2001:1::1",
                "2001:2::",
                "2001:10::",
                "2001:20::1",
                "2001:1ff:ffff::",
            ],
        );
        check(
            "documentation",
            &["2001:db8::", "2001:db8:ffff::1", "3fff::", "3fff:fff::1"],
        );
        check("anycast", &["2620:4f:8000::1"]);
        check("segments", &["5f00::", "5f00:ffff::"]);
        check("private", &["fc00::", "fd00:ec2::253", "fdff:ffff::1"]);
        check("link-local", &["fe80::1", "febf:ffff::1"]);
        check("site-local", &["fec0::1", "feff:ffff::1"]);
        check("multicast", &["ff00::", "ff02::1", "ffff::1"]);
        check(
            "future",
            &[
                "::1:0:0:0",
                "::ffff:0:8.8.8.8",
                "100:0:0:2::",
                "1fff::1",
                "4000::1",
                "fe00::1",
            ],
        );
        check(
            "public",
            &[
                "2001:200::1",
                "2001:db7::1",
                "2001:db9::1",
                "2606:4700::1111",
                "3fff:1000::1",
            ],
        );
    }

    #[test]
    fn what_hides_is_found() {
        check(
            "metadata",
            &[
                "::ffff:169.254.169.254",
                "::169.254.169.254",
                "64:ff9b::169.254.169.254",
            ],
        );
        check(
            "metadata",
            &["2002:a9fe:a9fe::1", "2606:4700::5efe:a9fe:a9fe"],
        );
        check(
            "private",
            &[
                "64:ff9b::10.0.0.1",
                "2002:c0a8:101::",
                "2606:4700::200:5efe:10.0.0.1",
            ],
        );
        check(
            "loopback",
            &["::127.0.0.1", "2002:7f00:1::", "64:ff9b::127.0.0.1"],
        );
        check(
            "public",
            &["::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1"],
        );
        check(
            "public",
            &["2606:4700::5efe:8.8.8.8", "2606:4700::100:5efe:10.0.0.1"],
        );
    }

    #[test]
    fn what_is_reserved_is_meant_only_by_its_own_sort() {
        let named = |address: &str, net: &str| {
            is_named_by(
                address.parse().unwrap(),
                &net.parse().unwrap(),
                &["10.9.9.9".parse().unwrap(), "9.9.9.9".parse().unwrap()],
            )
        };
        assert!(named("10.1.2.3", "10.0.0.0/8"));
        assert!(named("10.1.2.3", "10.1.2.3/32"));
        assert!(!named("10.1.2.3", "10.0.0.0/7") && !named("10.1.2.3", "0.0.0.0/0"));
        assert!(!named("169.254.169.254", "169.254.0.0/16"));
        assert!(!named("100.100.100.200", "100.64.0.0/10"));
        assert!(named("169.254.169.254", "169.254.169.254/32"));
        assert!(named("8.8.8.8", "8.0.0.0/8") && !named("7.8.8.8", "8.0.0.0/8"));
        assert!(named("fd00::1", "fc00::/7") && !named("fd00::1", "::/0"));
        assert!(!named("fd00:ec2::254", "fd00::/8"));
        assert!(named("::ffff:10.1.2.3", "10.0.0.0/8"));
        assert!(!named("64:ff9b::10.1.2.3", "10.0.0.0/8"));
        // The host's own addresses: private or public, by themselves alone.
        assert!(!named("10.9.9.9", "10.0.0.0/8") && named("10.9.9.9", "10.9.9.9/32"));
        assert!(!named("9.9.9.9", "9.9.9.0/24") && named("9.9.9.9", "9.9.9.9/32"));
        assert!(!named("64:ff9b::9.9.9.9", "64:ff9b::/96"));
    }

    proptest! {
        #[test]
        fn version_4_is_the_same_in_every_disguise(bits in any::<u32>()) {
            let v4 = Ipv4Addr::from(bits);
            let sort = sort_of(IpAddr::V4(v4));
            let [a, b, c, d] = v4.octets().map(u16::from);
            let (high, low) = (a << 8 | b, c << 8 | d);
            let mapped = v4.to_ipv6_mapped();
            prop_assert_eq!(sort_of(IpAddr::V6(mapped)), sort);
            for disguise in [
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
                Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
                Ipv6Addr::new(0x2606, 0x4700, 0, 1, 0, 0x5efe, high, low),
            ] {
                prop_assert_eq!(sort_of(IpAddr::V6(disguise)), sort);
                prop_assert!(is_own(IpAddr::V6(disguise), &[IpAddr::V4(v4)]));
            }
        }

        #[test]
        fn what_the_standard_library_reserves_is_reserved(bits in any::<u32>(), low in any::<u8>()) {
            // Half of the cases near the ends of ranges.
            for v4 in [Ipv4Addr::from(bits), Ipv4Addr::from(u32::from(low) << 24 | bits >> 31)] {
                let reserved = v4.is_private() || v4.is_loopback() || v4.is_link_local()
                    || v4.is_broadcast() || v4.is_documentation() || v4.is_multicast() || v4.is_unspecified();
                prop_assert!(!reserved || sort_of(IpAddr::V4(v4)) != Sort::Public);
            }
        }
    }
}
