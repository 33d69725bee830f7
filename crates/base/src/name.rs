//! Checked names. Outside bytes become one of these at the door, or an error.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The text is not a name of the wanted kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {what}: {rule}")]
pub struct NameError {
    text: String,
    what: &'static str,
    rule: &'static str,
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident($what:literal, $rule:literal, $valid:path);)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                if $valid(text) {
                    return Ok(Self(text.to_owned()));
                }
                let text = text.chars().take(64).collect();
                Err(NameError { text, what: $what, rule: $rule })
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "`{}`", self.0)
            }
        }
    )*};
}

names! {
    /// Who acts. Permissions and budgets are scoped to it.
    AgentName("an agent name", "1 to 63 of a-z, 0-9 and `-`, first a letter", is_agent);
    /// The name a run gives to a database branch; upper-cased it makes `NAME_URL`.
    DatabaseName("a database name", "1 to 31 of a-z, 0-9 and `_`, first a letter", is_database);
    /// The name of an environment variable.
    VariableName("a variable name", "letters, digits and `_`, first not a digit", is_variable);
}

fn is_agent(text: &str) -> bool {
    text.len() <= 63
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn is_database(text: &str) -> bool {
    text.len() <= 31
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

fn is_variable(text: &str) -> bool {
    text.len() <= 255
        && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

impl DatabaseName {
    /// The variable that tells a command where the branch is: `shop` → `SHOP_URL`.
    #[must_use]
    pub fn url_variable(&self) -> String {
        format!("{}_URL", self.0.to_ascii_uppercase())
    }

    /// The variable that holds the branch's plain path: `shop` → `SHOP_PATH`.
    #[must_use]
    pub fn path_variable(&self) -> String {
        format!("{}_PATH", self.0.to_ascii_uppercase())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for good in ["a", "claude-code", "agent-7"] {
            assert!(good.parse::<AgentName>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "A", "a b", "a/..", "7a", "a\0"] {
            assert!(bad.parse::<AgentName>().is_err(), "{bad:?}");
        }
        assert!("shop_2".parse::<DatabaseName>().is_ok());
        assert!("shop-2".parse::<DatabaseName>().is_err());
        assert_eq!(
            "shop".parse::<DatabaseName>().unwrap().url_variable(),
            "SHOP_URL"
        );
        assert!("_X1".parse::<VariableName>().is_ok());
        assert!("1X".parse::<VariableName>().is_err());
        assert!("A=B".parse::<VariableName>().is_err());
    }

    #[test]
    fn refusal_says_the_rule() {
        let error = "Bad Name".parse::<AgentName>().unwrap_err();
        let text = "`Bad Name` is not an agent name: 1 to 63 of a-z, 0-9 and `-`, first a letter";
        assert_eq!(error.to_string(), text);
    }
}
