//! Names and addresses in one canonical form: whatever notation they came in, what is compared is
//! always the same.
//!
//! A text that any resolver on the way could read as an address is that address here, so that it
//! is judged as one; a text that looks like an address and is none is refused.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::fmt;
use std::str::FromStr;

use belljar_base::bounds::{HOST_NAME_BYTES_MAX, HOST_TEXT_BYTES_MAX};
use idna::AsciiDenyList;
use idna::uts46::{DnsLength, Hyphens, Uts46};
use serde::{Deserialize, Serialize};

/// A host name: ASCII (IDNA ToASCII), lower case, no trailing dot, never an address in any notation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(String);

/// Where something wants to go: a name, or an address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Host {
    /// By name.
    Name(HostName),
    /// By address; an address of version 4 in one of version 6 is one of version 4 here.
    Address(IpAddr),
}

/// The text is no host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a host name or an address")]
pub struct HostError(String);

/// Everything that is ASCII but a letter, a digit, `-`, `.` or `_`. The underscore is no part of a
/// host name by the book, and of many that answer.
const REFUSED: AsciiDenyList = AsciiDenyList::new(true, "!\"#$%&'()*+,/:;<=>?@[\\]^`{|}~");

impl HostName {
    /// The name, as it is compared and resolved.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this name lies below `base`, by whole labels; a name does not lie below itself.
    #[must_use]
    pub fn is_below(&self, base: &Self) -> bool {
        let above = self.0.strip_suffix(base.as_str());
        above.is_some_and(|above| above.len() > 1 && above.ends_with('.'))
    }
}

impl HostError {
    fn of(text: &str) -> Self {
        // What is shown must not move a cursor.
        let clean = |c: char| if c.is_control() { '\u{fffd}' } else { c };
        Self(text.chars().take(64).map(clean).collect())
    }
}

impl FromStr for Host {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        canonical(text).ok_or_else(|| HostError::of(text))
    }
}

fn canonical(text: &str) -> Option<Host> {
    if let Some(address) = version_6(text) {
        return Some(Host::Address(IpAddr::V6(address).to_canonical()));
    }
    if text.is_empty() || text.len() > HOST_TEXT_BYTES_MAX || text.contains(is_refused) {
        return None;
    }
    // The list of names that IDNA maps to nothing (soft hyphen, zero-width joiner) is its own; the
    // checks below look at what it makes of the text, never at the text.
    let ascii = Uts46::new()
        .to_ascii(
            text.as_bytes(),
            REFUSED,
            Hyphens::CheckFirstLast,
            DnsLength::VerifyAllowRootDot,
        )
        .ok()?;
    let name = ascii.strip_suffix('.').unwrap_or(&ascii);
    if ends_in_number(name) {
        return version_4(name).map(|address| Host::Address(IpAddr::V4(address)));
    }
    let fits = (1..=HOST_NAME_BYTES_MAX).contains(&name.len()) && !name.ends_with('.');
    fits.then(|| Host::Name(HostName(name.to_owned())))
}

/// Refused before IDNA could map them away.
fn is_refused(c: char) -> bool {
    c.is_control() || c.is_whitespace()
}

/// An address of version 6, in brackets or bare, without a zone.
fn version_6(text: &str) -> Option<Ipv6Addr> {
    let inside = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    inside.unwrap_or(text).parse().ok()
}

/// Whether the last label would make some resolver try to read an address.
fn ends_in_number(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default();
    let digits = !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit());
    digits || last.starts_with("0x")
}

/// What `inet_aton` makes of a name: one to four numbers, each decimal, octal (`0…`) or hexadecimal
/// (`0x…`), of which the last one fills all bytes that are left.
fn version_4(name: &str) -> Option<Ipv4Addr> {
    let mut parts = name.split('.').map(number).collect::<Option<Vec<u32>>>()?;
    let last = parts.pop()?;
    let given = u32::try_from(parts.len())
        .ok()
        .filter(|given| *given <= 3)?;
    let mut address = 0_u32;
    for part in parts {
        address = (address << 8) | u32::from(u8::try_from(part).ok()?);
    }
    let left = 8 * (4 - given);
    if left < 32 && last >> left != 0 {
        return None;
    }
    let above = address.checked_shl(left).unwrap_or(0);
    Some(Ipv4Addr::from(above | last))
}

fn number(part: &str) -> Option<u32> {
    let (digits, radix) = match (part.strip_prefix("0x"), part.strip_prefix('0')) {
        (Some(hexadecimal), _) => (hexadecimal, 16),
        (None, Some(octal)) if !octal.is_empty() => (octal, 8),
        (None, _) => (part, 10),
    };
    // `from_str_radix` would take a sign.
    let plain = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
    plain
        .then(|| u32::from_str_radix(digits, radix).ok())
        .flatten()
}

impl FromStr for HostName {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse()? {
            Host::Name(name) => Ok(name),
            Host::Address(_) => Err(HostError::of(text)),
        }
    }
}

impl TryFrom<String> for HostName {
    type Error = HostError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl TryFrom<String> for Host {
    type Error = HostError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<HostName> for String {
    fn from(name: HostName) -> Self {
        name.0
    }
}

impl From<Host> for String {
    fn from(host: Host) -> Self {
        host.to_string()
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Address(address) => address.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a text becomes: `name …`, `address …` or `refused`.
    fn read(text: &str) -> String {
        match text.parse() {
            Ok(Host::Name(name)) => format!("name {name}"),
            Ok(Host::Address(address)) => format!("address {address}"),
            Err(_) => "refused".to_owned(),
        }
    }

    fn check(table: &[(&str, &str)]) {
        for (text, wanted) in table {
            assert_eq!(read(text), *wanted, "{text:?}");
        }
    }

    #[test]
    fn names_have_one_form() {
        let long = "a".repeat(63);
        let whole = format!("{long}.{long}.{long}.{}", "a".repeat(61));
        check(&[
            ("example.com", "name example.com"),
            ("EXAMPLE.Com.", "name example.com"),
            ("localhost", "name localhost"),
            ("_sip._tcp.example.com", "name _sip._tcp.example.com"),
            ("my_bucket.example.com", "name my_bucket.example.com"),
            ("r3---sn-a.example.com", "name r3---sn-a.example.com"),
            ("bücher.example", "name xn--bcher-kva.example"),
            ("XN--BCHER-KVA.example", "name xn--bcher-kva.example"),
            ("straße.example", "name xn--strae-oqa.example"),
            ("ｅｘａｍｐｌｅ。ｃｏｍ．", "name example.com"),
            ("ex\u{ad}ample.com", "name example.com"),
            ("1.example", "name 1.example"),
            ("0x7f.example", "name 0x7f.example"),
            ("1e3", "name 1e3"),
            (&long, &format!("name {long}")),
            (&whole, &format!("name {whole}")),
            (&format!("{whole}."), &format!("name {whole}")),
        ]);
    }

    const NO_HOSTS: &[&str] = &[
        "",
        ".",
        "..",
        "a..",
        "a..b",
        ".a",
        "。",
        "a。。b",
        "\u{ad}",
        "\u{200b}",
        "-a.example",
        "a-.example",
        "xn--",
        "xn--a",
        "xn--\u{fc}",
        "a b",
        " a",
        "a ",
        "a\t",
        "a\n",
        "a\r\nb",
        "a\0",
        "a%00",
        "a%41",
        "user@a",
        "a:80",
        "a:",
        "a/",
        "/a",
        "a\\b",
        "a#b",
        "a?b",
        "a,b",
        "a;b",
        "*",
        "*.a",
        "(a)",
        "{a}",
        "a|b",
        "a\"b",
        "a'b",
        "`a`",
        "a$b",
        "a&b",
        "a=b",
        "a+b",
        "a~b",
        "a!b",
        "<a>",
        "^a",
        "a\u{7f}",
        "a\u{85}",
        "a\u{3000}b",
        "a\u{202e}b",
        "a\u{fffd}b",
        "a℀b",
        "[a]",
        "[]",
        "[::1",
        "::1]",
        "[[::1]]",
        "[127.0.0.1]",
        "::1%eth0",
        "[fe80::1%25eth0]",
        "[::1]:80",
        "::1.",
        "::：１",
        "1:2",
        ":::",
        "::ffff:127.1",
        "http://a",
    ];

    #[test]
    fn what_is_no_host_is_refused() {
        let label = "a".repeat(64);
        let whole = "a.".repeat(126) + "aa";
        for text in NO_HOSTS.iter().chain(&[label.as_str(), whole.as_str()]) {
            assert_eq!(read(text), "refused", "{text:?}");
        }
    }

    #[test]
    fn every_notation_of_an_address_is_that_address() {
        check(&[
            ("127.0.0.1", "address 127.0.0.1"),
            ("127.0.0.1.", "address 127.0.0.1"),
            ("2130706433", "address 127.0.0.1"),
            ("017700000001", "address 127.0.0.1"),
            ("0x7f000001", "address 127.0.0.1"),
            ("0X7F000001", "address 127.0.0.1"),
            ("0x7f.1", "address 127.0.0.1"),
            ("0177.0.0.1", "address 127.0.0.1"),
            ("127.1", "address 127.0.0.1"),
            ("127.0.1", "address 127.0.0.1"),
            ("127.0.0.0x1", "address 127.0.0.1"),
            ("000000000000177.0.0.1", "address 127.0.0.1"),
            ("0x00000000000000007f.1", "address 127.0.0.1"),
            ("１２７。０。０。１", "address 127.0.0.1"),
            ("１２７．１", "address 127.0.0.1"),
            ("①②⑦.1", "address 127.0.0.1"),
            ("0ｘ7f.1", "address 127.0.0.1"),
            ("12\u{ad}7.1", "address 127.0.0.1"),
            ("0", "address 0.0.0.0"),
            ("4294967295", "address 255.255.255.255"),
            ("1.16777215", "address 1.255.255.255"),
            ("1.2.65535", "address 1.2.255.255"),
            ("169.254.43518", "address 169.254.169.254"),
            ("::1", "address ::1"),
            ("[::1]", "address ::1"),
            ("0:0:0:0:0:0:0:1", "address ::1"),
            ("2001:DB8::A", "address 2001:db8::a"),
            ("::ffff:127.0.0.1", "address 127.0.0.1"),
            ("[::FFFF:a9fe:a9fe]", "address 169.254.169.254"),
            ("::127.0.0.1", "address ::7f00:1"),
        ]);
    }

    #[test]
    fn what_looks_like_an_address_and_is_none_is_refused() {
        for text in [
            "256.0.0.1",
            "1.2.3.256",
            "1.2.3.4.5",
            "1.2.3.4.5.6",
            "4294967296",
            "1.16777216",
            "1.2.65536",
            "08",
            "1.2.3.08",
            "0x",
            "1.0x",
            "0x1.0x",
            "0x100000000",
            "0xg",
            "a.0xg",
            "a.1",
            "example.123",
            "a.0x1",
            "1..2",
            "1.2.3.",
            "1.2.3..4",
            "+1",
            "-1",
            "1.+2",
            "0x+1",
            "99999999999999999999",
            "1.2.3.4a.5",
            "0b1.1",
            "1_0.1",
        ] {
            // A trailing dot is the root's: `1.2.3.` is `1.2.3`.
            let wanted = if text == "1.2.3." {
                "address 1.2.0.3"
            } else {
                "refused"
            };
            assert_eq!(read(text), wanted, "{text:?}");
        }
    }

    #[test]
    fn below_is_by_whole_labels() {
        let name = |text: &str| text.parse::<HostName>().unwrap();
        let base = name("example.com");
        assert!(name("a.example.com").is_below(&base));
        assert!(name("a.b.example.com").is_below(&base));
        assert!(!name("example.com").is_below(&base));
        assert!(!name("badexample.com").is_below(&base));
        assert!(!name("com").is_below(&base));
    }

    #[test]
    fn an_error_shows_nothing_that_moves_a_cursor() {
        let error = "a\u{1b}[2J\r\nb".parse::<Host>().unwrap_err();
        let text = "`a\u{fffd}[2J\u{fffd}\u{fffd}b` is not a host name or an address";
        assert_eq!(error.to_string(), text);
    }

    /// Texts near the ones that matter.
    fn near() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just(".".to_owned()),
            Just("。".to_owned()),
            "[0-9]{1,4}",
            "0[0-7]{1,4}",
            "0[xX][0-9a-fA-F]{0,5}",
            "[a-z0-9-]{1,8}",
            "xn--[a-z0-9-]{1,8}",
            "[０-９ａ-ｚ①-⑨]{1,3}",
            "[:\\[\\]%@/_ -]",
            "\\PC",
            any::<char>().prop_map(String::from),
        ];
        prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
    }

    fn holds(text: &str) -> Result<(), TestCaseError> {
        let Ok(host) = text.parse::<Host>() else {
            return Ok(());
        };
        let again = host.to_string();
        prop_assert_eq!(again.parse(), Ok(host.clone()));
        if let Host::Name(name) = &host {
            let name = name.as_str();
            prop_assert!((1..=253).contains(&name.len()));
            prop_assert!(name.split('.').all(|label| (1..=63).contains(&label.len())));
            let plain = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.');
            prop_assert!(name.bytes().all(plain));
            prop_assert!(version_4(name).is_none() && !ends_in_number(name));
            prop_assert!(name.parse::<IpAddr>().is_err());
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn one_form_and_never_an_address_as_a_name(text in near()) {
            holds(&text)?;
        }

        #[test]
        fn any_text_has_an_answer(text in any::<String>()) {
            holds(&text)?;
        }

        #[test]
        fn every_address_in_every_notation(bits in any::<u32>(), forms in any::<[u8; 4]>(), parts in 1_usize..=4) {
            let address = Ipv4Addr::from(bits);
            let mut numbers: Vec<u32> = address.octets().iter().take(parts - 1).map(|b| u32::from(*b)).collect();
            let left = 8 * (5 - u32::try_from(parts).unwrap());
            numbers.push(if left == 32 { bits } else { bits & ((1 << left) - 1) });
            let text: Vec<String> = numbers.iter().zip(forms).map(|(number, form)| match form % 4 {
                0 => format!("{number}"),
                1 => format!("0{number:o}"),
                2 => format!("0x{number:x}"),
                _ => format!("0X{number:08X}"),
            }).collect();
            prop_assert_eq!(text.join(".").parse(), Ok(Host::Address(IpAddr::V4(address))));
            let mapped = address.to_ipv6_mapped();
            prop_assert_eq!(format!("[{mapped}]").parse(), Ok(Host::Address(IpAddr::V4(address))));
        }
    }
}
