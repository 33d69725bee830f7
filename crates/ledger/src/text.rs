//! Text as it came from outside: any bytes, kept without loss.
//!
//! Bytes that are UTF-8 are a plain JSON string. Others are `{"escaped": …}` with `\\` for a
//! backslash and `\xNN` for a byte that is no part of a character. What was too long for a record
//! keeps its beginning, its length and its SHA-256.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::merkle::Hash;

/// Text from outside, possibly not UTF-8, possibly cut short by the writer of the record.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text {
    bytes: Vec<u8>,
    cut: Option<Cut>,
}

/// What is missing of a text, or of a list whose last element this is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Cut {
    /// The whole text had this many bytes and this SHA-256.
    Bytes(u64, Hash),
    /// The whole list had this many items; the digest is that of its canonical JSON.
    Items(u64, Hash),
}

impl Text {
    /// The bytes that the record keeps.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether the record keeps all of it.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.cut.is_none()
    }
}

impl From<&[u8]> for Text {
    fn from(bytes: &[u8]) -> Self {
        Self::from(bytes.to_vec())
    }
}

impl From<Vec<u8>> for Text {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, cut: None }
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self::from(text.as_bytes())
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self::from(text.into_bytes())
    }
}

impl From<&OsStr> for Text {
    fn from(text: &OsStr) -> Self {
        Self::from(text.as_bytes())
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match std::str::from_utf8(&self.bytes) {
            Ok(text) => f.write_str(text)?,
            Err(_not_utf8) => f.write_str(&escape(&self.bytes))?,
        }
        match &self.cut {
            None => Ok(()),
            Some(Cut::Bytes(all, _)) => write!(f, "… ({all} bytes)"),
            Some(Cut::Items(all, _)) => write!(f, "… ({all} items)"),
        }
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let plain = std::str::from_utf8(&self.bytes);
        match (&self.cut, plain) {
            (None, Ok(text)) => serializer.serialize_str(text),
            (None, Err(_)) => json!({ "escaped": escape(&self.bytes) }).serialize(serializer),
            (Some(Cut::Bytes(all, digest)), Ok(text)) => {
                json!({ "cut": text, "bytes": all, "sha256": digest }).serialize(serializer)
            }
            (Some(Cut::Bytes(all, digest)), Err(_)) => {
                json!({ "escaped": escape(&self.bytes), "bytes": all, "sha256": digest })
                    .serialize(serializer)
            }
            (Some(Cut::Items(all, digest)), _) => {
                json!({ "items": all, "sha256": digest }).serialize(serializer)
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Wire {
    Plain(String),
    Marked(Marked),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Marked {
    escaped: Option<String>,
    cut: Option<String>,
    bytes: Option<u64>,
    items: Option<u64>,
    sha256: Option<Hash>,
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let marked = match Wire::deserialize(deserializer)? {
            Wire::Plain(text) => return Ok(Self::from(text)),
            Wire::Marked(marked) => marked,
        };
        let bytes = match (marked.escaped, marked.cut) {
            (Some(text), None) => unescape(&text).ok_or_else(|| D::Error::custom("bad escape"))?,
            (None, Some(text)) => text.into_bytes(),
            (None, None) => Vec::new(),
            (Some(_), Some(_)) => return Err(D::Error::custom("both `escaped` and `cut`")),
        };
        let cut = match (marked.bytes, marked.items, marked.sha256) {
            (None, None, None) => None,
            (Some(all), None, Some(digest)) => Some(Cut::Bytes(all, digest)),
            (None, Some(all), Some(digest)) => Some(Cut::Items(all, digest)),
            _other => return Err(D::Error::custom("a cut text without its length or digest")),
        };
        Ok(Self { bytes, cut })
    }
}

/// Bytes as characters: a backslash doubled, a byte that is no part of a character as `\xNN`.
fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 8);
    for chunk in bytes.utf8_chunks() {
        out.push_str(&chunk.valid().replace('\\', "\\\\"));
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

/// The inverse of [`escape`]; nothing when the text could not have come from it.
fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'\\' {
            out.push(*first);
            continue;
        }
        let (kind, after) = rest.split_first()?;
        rest = after;
        match kind {
            b'\\' => out.push(b'\\'),
            b'x' => {
                let (digits, after) = rest.split_at_checked(2)?;
                let digits = std::str::from_utf8(digits).ok()?;
                out.push(u8::from_str_radix(digits, 16).ok()?);
                rest = after;
            }
            _other => return None,
        }
    }
    Some(out)
}

/// Cuts texts longer than `text_max` bytes and lists of texts longer than `items_max`.
/// `text_max` is at least 64, so that the digest of what was cut is never cut itself.
pub(crate) fn shorten(value: &mut Value, text_max: usize, items_max: usize) {
    if let Some(cut) = shorten_text(value, text_max) {
        *value = cut;
        return;
    }
    match value {
        Value::Array(items) => {
            if items.len() > items_max && items.iter().all(is_text) {
                let all = Value::Array(std::mem::take(items));
                let digest = Hash::of(&crate::canonical::to_bytes(&all));
                if let Value::Array(mut whole) = all {
                    let count = whole.len();
                    whole.truncate(items_max);
                    whole.push(json!({ "items": count, "sha256": digest }));
                    *items = whole;
                }
            }
            for item in items {
                shorten(item, text_max, items_max);
            }
        }
        Value::Object(fields) => {
            for field in fields.values_mut() {
                shorten(field, text_max, items_max);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn is_text(value: &Value) -> bool {
    match value {
        Value::String(_) => true,
        Value::Object(fields) => fields.len() == 1 && fields.contains_key("escaped"),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => false,
    }
}

fn shorten_text(value: &Value, text_max: usize) -> Option<Value> {
    if !is_text(value) {
        return None;
    }
    let text = Text::deserialize(value).ok()?;
    if text.bytes.len() <= text_max {
        return None;
    }
    let digest = Hash::from_bytes(Sha256::digest(&text.bytes).into());
    let all = u64::try_from(text.bytes.len()).ok()?;
    let plain = value.as_str();
    let keep = plain.map_or(text_max, |plain| plain.floor_char_boundary(text_max));
    let kept = text.bytes.get(..keep).unwrap_or_default().to_vec();
    let cut = Text {
        bytes: kept,
        cut: Some(Cut::Bytes(all, digest)),
    };
    serde_json::to_value(cut).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn there_and_back(text: &Text) {
        let wire = serde_json::to_string(text).unwrap();
        assert_eq!(
            &serde_json::from_str::<Text>(&wire).unwrap(),
            text,
            "{wire}"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_survive(bytes: Vec<u8>) {
            there_and_back(&Text::from(bytes));
        }

        #[test]
        fn a_cut_text_says_what_is_missing(text in ".{0,200}", max in 64_usize..128) {
            let mut value = json!([text.clone()]);
            shorten(&mut value, max, 8);
            let kept: Vec<Text> = serde_json::from_value(value).unwrap();
            prop_assert!(text.as_bytes().starts_with(kept[0].as_bytes()));
            prop_assert_eq!(kept[0].is_whole(), text.len() <= max);
            there_and_back(&kept[0]);
        }
    }

    #[test]
    fn escapes_read_like_a_shell() {
        let text = Text::from(&b"caf\xe9 \\ \xc3\xa9"[..]);
        assert_eq!(
            serde_json::to_string(&text).unwrap(),
            r#"{"escaped":"caf\\xe9 \\\\ é"}"#
        );
        assert!(serde_json::from_str::<Text>(r#"{"escaped":"\\q"}"#).is_err());
        assert!(serde_json::from_str::<Text>(r#"{"cut":"a"}"#).is_ok());
        assert!(serde_json::from_str::<Text>(r#"{"cut":"a","bytes":7}"#).is_err());
    }

    #[test]
    fn a_long_list_keeps_its_beginning() {
        let mut value = json!({ "command": ["a", "b", "c", "d"], "numbers": [1, 2, 3, 4] });
        shorten(&mut value, 96, 2);
        let command: Vec<Text> = serde_json::from_value(value["command"].clone()).unwrap();
        assert_eq!(command.len(), 3);
        assert_eq!(command[2].to_string(), "… (4 items)");
        assert_eq!(value["numbers"], json!([1, 2, 3, 4]));
    }
}
