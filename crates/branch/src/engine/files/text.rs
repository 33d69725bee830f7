//! Bytes as the file system has them, and their lossless text form: UTF-8 stays as it is, every
//! other byte and `%` become `%HH`.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::fmt::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Longest path in a change set, in bytes: what one system call takes, less some for a prefix.
pub(crate) const PATH_BYTES_MAX: usize = 4000;

/// Any bytes: the target of a link, the name or value of an extended attribute.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ByteText(pub Vec<u8>);

/// A path below a workspace: not empty, no `.` or `..` or empty component, bounded.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RelativePath(Vec<u8>);

/// The text is not the escaped form of what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {what}")]
pub struct TextError {
    text: String,
    what: &'static str,
}

impl RelativePath {
    /// A path below a workspace from its bytes; none if it could lead anywhere else.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Option<Self> {
        let bad = |part: &[u8]| matches!(part, b"" | b"." | b"..") || part.len() > 255;
        let depth = bytes.iter().filter(|byte| **byte == b'/').count();
        let fits = bytes.len() <= PATH_BYTES_MAX
            && depth < belljar_base::bounds::PATH_DEPTH_MAX
            && !bytes.contains(&0);
        let good = fits && !bytes.split(|byte| *byte == b'/').any(bad);
        good.then_some(Self(bytes))
    }

    /// The path's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// As the standard library's path.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// `self/name`; none when that is too long or too deep.
    #[must_use]
    pub fn join(&self, name: &[u8]) -> Option<Self> {
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + name.len());
        bytes.extend_from_slice(&self.0);
        bytes.push(b'/');
        bytes.extend_from_slice(name);
        Self::new(bytes)
    }

    /// The directory it is in, if that is not the workspace itself, and its name there.
    #[must_use]
    pub fn split(&self) -> (Option<Self>, &[u8]) {
        match self.0.iter().rposition(|byte| *byte == b'/') {
            None => (None, &self.0),
            Some(at) => {
                let (parent, rest) = self.0.split_at(at);
                (Some(Self(parent.to_vec())), rest.get(1..).unwrap_or(rest))
            }
        }
    }

    /// What is left of this path below `directory`; none if it is not below it.
    #[must_use]
    pub fn below(&self, directory: &Self) -> Option<&[u8]> {
        self.0
            .strip_prefix(directory.as_bytes())?
            .strip_prefix(b"/")
    }

    /// For people: control characters and invalid bytes made visible.
    #[must_use]
    pub fn visible(&self) -> String {
        visible(&self.0)
    }
}

impl Ord for RelativePath {
    /// A directory comes right before what is in it.
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |byte: &u8| {
            if *byte == b'/' {
                0
            } else {
                u16::from(*byte) + 1
            }
        };
        self.0.iter().map(key).cmp(other.0.iter().map(key))
    }
}

impl PartialOrd for RelativePath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Bytes for people: printable UTF-8 as it is, control characters (also those that reorder text)
/// and invalid bytes as `\n`, `\x1b`, `\u{202e}`.
#[must_use]
pub fn visible(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for char in chunk.valid().chars() {
            match char {
                '\t' => out.push_str("\\t"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                hidden if must_hide(hidden) => push_hidden(&mut out, hidden),
                plain => out.push(plain),
            }
        }
        for byte in chunk.invalid() {
            // Writing to a string does not fail.
            let _ok = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

/// Characters that a terminal acts on, or that make text look like other text.
pub(crate) fn must_hide(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

fn push_hidden(out: &mut String, char: char) {
    let _ok = if char.is_ascii() {
        write!(out, "\\x{:02x}", u32::from(char))
    } else {
        write!(out, "\\u{{{:x}}}", u32::from(char))
    };
}

fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for char in chunk.valid().chars() {
            match char {
                '%' => out.push_str("%25"),
                plain => out.push(plain),
            }
        }
        for byte in chunk.invalid() {
            let _ok = write!(out, "%{byte:02X}");
        }
    }
    out
}

fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut parts = text.as_bytes().split(|byte| *byte == b'%');
    let mut out = parts.next().unwrap_or_default().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        let digits = str::from_utf8(digits).ok()?;
        if digits.contains('+') {
            return None;
        }
        out.push(u8::from_str_radix(digits, 16).ok()?);
        out.extend_from_slice(rest);
    }
    Some(out)
}

impl From<ByteText> for String {
    fn from(text: ByteText) -> Self {
        escape(&text.0)
    }
}

impl TryFrom<String> for ByteText {
    type Error = TextError;

    fn try_from(text: String) -> Result<Self, TextError> {
        let what = "bytes in their escaped form";
        unescape(&text).map(Self).ok_or(TextError { text, what })
    }
}

impl From<RelativePath> for String {
    fn from(path: RelativePath) -> Self {
        escape(&path.0)
    }
}

impl TryFrom<String> for RelativePath {
    type Error = TextError;

    fn try_from(text: String) -> Result<Self, TextError> {
        let what = "a path below a workspace";
        unescape(&text)
            .and_then(Self::new)
            .ok_or(TextError { text, what })
    }
}

impl fmt::Debug for ByteText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", visible(&self.0))
    }
}

impl fmt::Debug for RelativePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.visible())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_there_and_back(bytes: Vec<u8>) {
            let text = String::from(ByteText(bytes.clone()));
            prop_assert_eq!(ByteText::try_from(text).unwrap().0, bytes);
        }

        #[test]
        fn any_text_is_an_answer(text in ".{0,20}|[%/.a0-9+]{0,9}") {
            if let Ok(path) = RelativePath::try_from(text) {
                prop_assert!(!path.as_path().is_absolute());
                prop_assert!(!path.as_path().components().any(|part| part.as_os_str() == ".."));
            }
        }

        #[test]
        fn nothing_visible_acts_on_a_terminal(bytes: Vec<u8>) {
            prop_assert!(!visible(&bytes).chars().any(must_hide));
        }
    }

    #[test]
    fn paths_that_lead_elsewhere_are_refused() {
        for bad in [
            "", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "a/.", "a%00", "%2", "%+1",
        ] {
            assert!(RelativePath::try_from(bad.to_owned()).is_err(), "{bad}");
        }
        for good in ["a", "a/b", "...", "a%25%FF", "a b\n"] {
            let path = RelativePath::try_from(good.to_owned()).unwrap();
            assert_eq!(String::from(path), good);
        }
    }

    #[test]
    fn a_directory_comes_right_before_what_is_in_it() {
        let mut paths = ["a-b", "a/z", "a", "a/b/c", "b", "a/b"]
            .map(|text| RelativePath::try_from(text.to_owned()).unwrap());
        paths.sort();
        let texts = paths.map(String::from);
        assert_eq!(texts, ["a", "a/b", "a/b/c", "a/z", "a-b", "b"]);
    }

    #[test]
    fn escapes_are_shown() {
        assert_eq!(
            visible(b"a\x1b[31m\n\xff\xe2\x80\xaeb"),
            "a\\x1b[31m\\n\\xff\\u{202e}b"
        );
    }
}
