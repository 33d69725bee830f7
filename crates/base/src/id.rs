//! Typed ids. A run id sorts by time of creation and is safe as a file name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// The id of a run: `run-` and 16 characters of lower-case Crockford base 32, 48 bits of
/// milliseconds since 1970 and 32 bits of chance. Sorts by time as text and as a value.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunId(u128);

const PREFIX: &str = "run-";
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const DIGIT_COUNT: usize = 16;

/// The text is not a run id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a run id (`run-` and 16 letters or digits; `belljar runs` lists them)")]
pub struct ParseRunIdError(String);

impl RunId {
    /// Makes an id from a moment and 32 bits of chance.
    #[must_use]
    pub fn new(at: Timestamp, chance: u32) -> Self {
        let millis = u128::from(at.as_millis()) & 0xffff_ffff_ffff;
        Self((millis << 32) | u128::from(chance))
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        for place in (0..DIGIT_COUNT).rev() {
            let digit = usize::try_from((self.0 >> (place * 5)) & 31).unwrap_or(0);
            let byte = DIGITS.get(digit).copied().unwrap_or(b'0');
            write!(f, "{}", char::from(byte))?;
        }
        Ok(())
    }
}

impl fmt::Debug for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for RunId {
    type Err = ParseRunIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || ParseRunIdError(text.chars().take(64).collect());
        let digits = text.strip_prefix(PREFIX).ok_or_else(refuse)?;
        if digits.len() != DIGIT_COUNT {
            return Err(refuse());
        }
        let mut value = 0_u128;
        for byte in digits.bytes() {
            let digit = DIGITS
                .iter()
                .position(|known| *known == byte)
                .ok_or_else(refuse)?;
            value = (value << 5) | u128::try_from(digit).unwrap_or(0);
        }
        Ok(Self(value))
    }
}

impl TryFrom<String> for RunId {
    type Error = ParseRunIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<RunId> for String {
    fn from(id: RunId) -> Self {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn text_and_back(millis in 0_u64..(1 << 44), chance: u32) {
            let id = RunId::new(Timestamp::from_millis(millis), chance);
            prop_assert_eq!(id.to_string().parse::<RunId>().unwrap(), id);
        }

        #[test]
        fn sorts_by_time(a in 0_u64..(1 << 43), gap in 1_u64..1000, x: u32, y: u32) {
            let first = RunId::new(Timestamp::from_millis(a), x);
            let second = RunId::new(Timestamp::from_millis(a + gap), y);
            prop_assert!(first < second);
            prop_assert!(first.to_string() < second.to_string());
        }

        #[test]
        fn any_text_is_an_answer(text in ".{0,40}") {
            if let Ok(id) = text.parse::<RunId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }
}
