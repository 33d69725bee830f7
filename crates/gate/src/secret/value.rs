//! The bytes of a secret. Nothing prints them.

use std::fmt;
use std::io::{self, Read};

use belljar_base::bounds::{SECRET_VALUE_BYTES_MAX, SECRET_VALUE_BYTES_MIN};
use belljar_base::{HasKind, Kind};

use super::sys::Locked;

/// The bytes of a secret, in memory that is locked, left out of core dumps, and wiped.
pub struct Value(Locked);

/// The bytes cannot be a secret's value. The text says nothing of them.
#[derive(Debug, thiserror::Error)]
pub enum ValueError {
    /// There are none.
    #[error("the value is empty; give it on standard input, or name a source with --from-file")]
    Empty,
    /// Fewer than could be told apart from other text.
    #[error(
        "the value has {0} bytes, too few to be found where an answer repeats it; the least is {SECRET_VALUE_BYTES_MIN}"
    )]
    Short(usize),
    /// More than a header holds.
    #[error("the value is longer than {SECRET_VALUE_BYTES_MAX} bytes, the most a secret can have")]
    Long,
    /// A line break inside: it would begin another header.
    #[error("the value has more than one line; a secret is one line, without a line break")]
    Lines,
    /// A byte that no header can carry.
    #[error("the value has a control byte (0x{0:02x}); a secret is printable text")]
    Control(u8),
    /// Bytes that are no text.
    #[error("the value is not UTF-8 text; encode it first, for example as base64")]
    Text,
    /// It is for request signing and has not its form.
    #[error(
        "the value for --sigv4 is ACCESS_KEY_ID:SECRET_ACCESS_KEY or, with a session, ACCESS_KEY_ID:SECRET_ACCESS_KEY:SESSION_TOKEN"
    )]
    Keys,
    /// Reading failed.
    #[error("cannot read the value")]
    Read(#[source] io::Error),
    /// The kernel locks no memory for it.
    #[error("cannot lock memory for the value; raise the limit of locked memory (`ulimit -l`)")]
    Memory(#[source] io::Error),
}

impl HasKind for ValueError {
    fn kind(&self) -> Kind {
        match self {
            Self::Empty
            | Self::Short(_)
            | Self::Long
            | Self::Lines
            | Self::Control(_)
            | Self::Text
            | Self::Keys => Kind::Invalid,
            Self::Read(_) => Kind::Unavailable,
            Self::Memory(_) => Kind::Exhausted,
        }
    }
}

impl Value {
    /// Reads a value to its end; one line break there is not part of it.
    ///
    /// # Errors
    /// When it cannot be read, or cannot be a value.
    pub fn read(from: &mut dyn Read) -> Result<Self, ValueError> {
        let mut memory = room(SECRET_VALUE_BYTES_MAX + 3)?;
        let mut used = 0;
        // The room ends at a page, so that a value that is too long is seen to be.
        while let Some(left) = memory
            .room()
            .get_mut(used..)
            .filter(|left| !left.is_empty())
        {
            match from.read(left) {
                Ok(0) => break,
                Ok(count) => used += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(ValueError::Read(error)),
            }
        }
        memory.set_used(used);
        Self::checked(memory)
    }

    /// A value from bytes that are already in memory; whoever has them wipes them.
    ///
    /// # Errors
    /// When they cannot be a value.
    pub fn copy(bytes: &[u8]) -> Result<Self, ValueError> {
        Self::read(&mut { bytes })
    }

    /// Takes memory that holds a value.
    pub(super) fn checked(mut memory: Locked) -> Result<Self, ValueError> {
        let bytes = memory.bytes();
        let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let used = line.len();
        check(line)?;
        memory.set_used(used);
        Ok(Self(memory))
    }

    /// The bytes themselves, for the moment of their use.
    pub(super) fn bytes(&self) -> &[u8] {
        self.0.bytes()
    }
}

fn check(line: &[u8]) -> Result<(), ValueError> {
    if line.is_empty() {
        return Err(ValueError::Empty);
    }
    if line.contains(&b'\n') {
        return Err(ValueError::Lines);
    }
    if let Some(byte) = line.iter().find(|byte| byte.is_ascii_control()) {
        return Err(ValueError::Control(*byte));
    }
    if line.len() < SECRET_VALUE_BYTES_MIN {
        return Err(ValueError::Short(line.len()));
    }
    if line.len() > SECRET_VALUE_BYTES_MAX {
        return Err(ValueError::Long);
    }
    // The error would carry nothing of the text, but is not needed either.
    std::str::from_utf8(line)
        .map(drop)
        .map_err(|_no_text| ValueError::Text)
}

/// Locked memory, or why there is none.
pub(super) fn room(bytes: usize) -> Result<Locked, ValueError> {
    Locked::with_room(bytes).map_err(ValueError::Memory)
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Value(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(bytes: &[u8], expected: &Expect) {
        let shown = match Value::copy(bytes) {
            Ok(value) => value.bytes().escape_ascii().to_string(),
            Err(error) => error.to_string(),
        };
        expected.assert_eq(&shown);
    }

    #[test]
    fn values_are_one_line_of_text() {
        check(b"sk-123456", &expect!["sk-123456"]);
        check(b"sk-123456\r\n", &expect!["sk-123456"]);
        check(
            b"",
            &expect![
                "the value is empty; give it on standard input, or name a source with --from-file"
            ],
        );
        check(
            b"\n",
            &expect![
                "the value is empty; give it on standard input, or name a source with --from-file"
            ],
        );
        check(
            b"abc",
            &expect![
                "the value has 3 bytes, too few to be found where an answer repeats it; the least is 6"
            ],
        );
        check(
            b"abcdef\n\n",
            &expect![
                "the value has more than one line; a secret is one line, without a line break"
            ],
        );
        check(
            b"abc\x00def",
            &expect!["the value has a control byte (0x00); a secret is printable text"],
        );
        check(
            b"abcd\xff\xfe",
            &expect!["the value is not UTF-8 text; encode it first, for example as base64"],
        );
        check(
            &[b'a'; 20_000],
            &expect!["the value is longer than 8192 bytes, the most a secret can have"],
        );
    }

    #[test]
    fn nothing_prints_it() {
        let value = Value::copy(b"sk-123456").unwrap();
        assert_eq!(format!("{value:?}"), "Value(hidden)");
    }
}
