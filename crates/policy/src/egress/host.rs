//! Names and addresses in one canonical form: whatever notation they came in, what is compared is
//! always the same.
//!
//! A text that any resolver on the way could read as an address is that address here, so that it
//! is judged as one; a text that looks like an address and is none is refused.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::fmt;
use std::str::FromStr;

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
/// Longer texts are refused unread: no name of 253 bytes is written in so many.
const TEXT_BYTES_MAX: usize = 1024;
const NAME_BYTES_MAX: usize = 253;

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
    if text.is_empty() || text.len() > TEXT_BYTES_MAX || text.contains(is_refused) {
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
    let fits = (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.ends_with('.');
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
