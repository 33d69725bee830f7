//! What a secret is called, and the variable that its placeholder is in.

use std::fmt;
use std::str::FromStr;

use belljar_base::{HasKind, Kind};
use serde::{Deserialize, Serialize};

/// The name of a secret. Upper-cased it is the variable that holds the placeholder inside a sandbox.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SecretName(String);

/// The text is no name of a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a secret's name: {reason}; write for example `{nearest}`")]
pub struct SecretNameError {
    text: String,
    reason: &'static str,
    nearest: String,
}

impl HasKind for SecretNameError {
    fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

const CHARS_MAX: usize = 63;
/// Variables that programs and the sandbox itself rely on.
const TAKEN: &[&str] = &[
    "HOME",
    "IFS",
    "LANG",
    "LOGNAME",
    "PATH",
    "PWD",
    "SHELL",
    "TERM",
    "TMPDIR",
    "USER",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];
const TAKEN_BEGINNINGS: &[&str] = &["BELLJAR_", "LD_"];

impl SecretName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The variable that holds the placeholder: `github-token` → `GITHUB_TOKEN`.
    #[must_use]
    pub fn variable(&self) -> String {
        self.0.to_ascii_uppercase().replace('-', "_")
    }

    /// The name as a host name could carry it.
    pub(super) fn label(&self) -> String {
        self.0.to_ascii_lowercase().replace('_', "-")
    }

    /// The nearest of some names, if one is near.
    #[must_use]
    pub fn nearest<'a>(text: &str, of: &'a [Self]) -> Option<&'a Self> {
        let likeness = |name: &&Self| {
            let (one, other) = (text.to_ascii_lowercase(), name.0.to_ascii_lowercase());
            // Jaro-Winkler lies between 0 and 1; what is below 0.7 is another word.
            strsim::jaro_winkler(&one, &other)
        };
        of.iter()
            .map(|name| (likeness(&name), name))
            .filter(|(likeness, _)| *likeness >= 0.7)
            .max_by(|one, other| one.0.total_cmp(&other.0))
            .map(|(_, name)| name)
    }
}

fn fault(text: &str) -> Option<&'static str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if !text.starts_with(|c: char| c.is_ascii_alphabetic())
        || text.len() > CHARS_MAX
        || !text.bytes().all(plain)
    {
        return Some("1 to 63 letters, digits, `_` and `-`, first a letter");
    }
    let variable = text.to_ascii_uppercase().replace('-', "_");
    let taken = TAKEN.contains(&variable.as_str())
        || TAKEN_BEGINNINGS
            .iter()
            .any(|begin| variable.starts_with(begin));
    taken.then_some("its variable means something else to programs")
}

/// What is nearest to a text and is a name.
fn nearest(text: &str) -> String {
    let plain = |c: char| match c {
        _ if c.is_ascii_alphanumeric() || c == '_' || c == '-' => Some(c),
        ' ' | '.' | '/' | ':' => Some('_'),
        _ => None,
    };
    let kept: String = text.chars().filter_map(plain).take(CHARS_MAX - 6).collect();
    let kept = kept.trim_start_matches(|c: char| !c.is_ascii_alphabetic());
    let whole = match kept {
        "" => "API_TOKEN".to_owned(),
        _ => kept.to_owned(),
    };
    match fault(&whole) {
        Some(_) => format!("MY_{whole}"),
        None => whole,
    }
}

impl FromStr for SecretName {
    type Err = SecretNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some(reason) = fault(text) else {
            return Ok(Self(text.to_owned()));
        };
        Err(SecretNameError {
            text: text.chars().take(64).collect(),
            reason,
            nearest: nearest(text),
        })
    }
}

impl TryFrom<String> for SecretName {
    type Error = SecretNameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<SecretName> for String {
    fn from(name: SecretName) -> Self {
        name.0
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(text: &str, expected: &Expect) {
        let shown = match text.parse::<SecretName>() {
            Ok(name) => format!("{name} in {}", name.variable()),
            Err(error) => error.to_string(),
        };
        expected.assert_eq(&shown);
    }

    #[test]
    fn names_are_checked() {
        check("GITHUB_TOKEN", &expect!["GITHUB_TOKEN in GITHUB_TOKEN"]);
        check("github-token", &expect!["github-token in GITHUB_TOKEN"]);
        check(
            "my token",
            &expect![
                "`my token` is not a secret's name: 1 to 63 letters, digits, `_` and `-`, first a letter; write for example `my_token`"
            ],
        );
        check(
            "../x",
            &expect![
                "`../x` is not a secret's name: 1 to 63 letters, digits, `_` and `-`, first a letter; write for example `x`"
            ],
        );
        check(
            "",
            &expect![
                "`` is not a secret's name: 1 to 63 letters, digits, `_` and `-`, first a letter; write for example `API_TOKEN`"
            ],
        );
        check(
            "path",
            &expect![
                "`path` is not a secret's name: its variable means something else to programs; write for example `MY_path`"
            ],
        );
    }

    #[test]
    fn the_nearest_is_near() {
        let names: Vec<SecretName> = ["GITHUB_TOKEN", "STRIPE_KEY"]
            .map(|name| name.parse().unwrap())
            .into();
        let nearest = |text| SecretName::nearest(text, &names).map(SecretName::as_str);
        assert_eq!(nearest("GITHUB_TOKN"), Some("GITHUB_TOKEN"));
        assert_eq!(nearest("stripe"), Some("STRIPE_KEY"));
        assert_eq!(nearest("zzz"), None);
    }
}
