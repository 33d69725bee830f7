//! A host, as a sandbox writes it: in a query, a CONNECT, a SOCKS request, a TLS hello, a header.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use belljar_policy::egress::{Host, HostName, sort_of};

/// An error shows at most 64 characters of the text, and some of its own.
const ERROR_CHARACTERS_MAX: usize = 200;

pub(crate) fn enter(bytes: &[u8]) -> io::Result<()> {
    let Ok(text) = str::from_utf8(bytes) else {
        return Ok(());
    };
    match text.parse::<Host>() {
        Ok(Host::Name(name)) => named(&name),
        Ok(Host::Address(address)) => addressed(address),
        Err(error) => {
            let shown = error.to_string();
            assert!(shown.chars().count() <= ERROR_CHARACTERS_MAX);
            assert!(!shown.contains(char::is_control), "{shown:?}");
            assert!(text.parse::<HostName>().is_err());
        }
    }
    Ok(())
}

/// A name has one form, and is no address to any resolver.
fn named(name: &HostName) {
    let text = name.as_str();
    assert_eq!(text.parse().as_ref(), Ok(name));
    assert!((1..=253).contains(&text.len()), "{text}");
    for label in text.split('.') {
        assert!((1..=63).contains(&label.len()), "{text}");
        let plain = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
        assert!(label.bytes().all(plain), "{text}");
        assert!(!label.starts_with('-') && !label.ends_with('-'), "{text}");
    }
    let last = text.rsplit('.').next().unwrap_or_default();
    let numeric = last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x");
    assert!(!numeric, "{text} could be an address");
    assert!(!name.is_below(name));
}

/// An address is itself again, and of one sort whether or not it hides in another.
fn addressed(address: IpAddr) {
    assert_eq!(address, address.to_canonical());
    assert_eq!(address.to_string().parse(), Ok(Host::Address(address)));
    if let IpAddr::V4(v4) = address {
        let bits = u32::from(v4);
        assert_eq!(bits.to_string().parse(), Ok(Host::Address(address)));
        let hidden = IpAddr::V6(Ipv4Addr::to_ipv6_mapped(&v4));
        assert_eq!(sort_of(hidden), sort_of(address));
    }
}
