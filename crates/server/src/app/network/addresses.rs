//! The addresses of this host itself, as the kernel's tables have them.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Every address that leads to this host. A table that cannot be read adds none: loopback and
/// private addresses are refused without it.
pub(super) fn own() -> Vec<IpAddr> {
    let v4 = std::fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
    let v6 = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    let found: BTreeSet<IpAddr> = local_v4(&v4).chain(local_v6(&v6)).collect();
    found.into_iter().collect()
}

/// A leaf of the table is an address and, on the next line, what it is.
fn local_v4(table: &str) -> impl Iterator<Item = IpAddr> + '_ {
    let lines = table.lines().zip(table.lines().skip(1));
    lines
        .filter(|(_, next)| next.contains("/32 host LOCAL"))
        .filter_map(|(leaf, _)| leaf.split_whitespace().last()?.parse::<Ipv4Addr>().ok())
        .map(IpAddr::V4)
}

/// The first word of each line is the address in 32 hexadecimal digits.
fn local_v6(table: &str) -> impl Iterator<Item = IpAddr> + '_ {
    table.lines().filter_map(|line| {
        let digits = line.split_whitespace().next()?;
        let bits = u128::from_str_radix(digits, 16).ok()?;
        Some(IpAddr::V6(Ipv6Addr::from_bits(bits)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_read() {
        let v4 = "Main:\n  +-- 10.0.0.0/8 2 0 2\n     |-- 10.1.2.3\n        /32 host LOCAL\n     \
                  |-- 10.255.255.255\n        /32 link BROADCAST\n";
        let found: Vec<IpAddr> = local_v4(v4).collect();
        assert_eq!(found, [IpAddr::from([10, 1, 2, 3])]);
        let v6 = "00000000000000000000000000000001 01 80 10 80       lo\nnot an address\n";
        let found: Vec<IpAddr> = local_v6(v6).collect();
        assert_eq!(found, [IpAddr::V6(Ipv6Addr::LOCALHOST)]);
    }

    #[test]
    fn this_host_has_loopback() {
        assert!(own().contains(&IpAddr::V4(Ipv4Addr::LOCALHOST)));
    }
}
