//! The isolation classes, weakest first.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How strong the wall around a sandbox is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// An interpreter that calls capabilities and nothing else.
    Isolate,
    /// Namespaces, filters and limits on the host's kernel.
    Jail,
    /// A kernel in user space.
    Gvisor,
    /// A kernel of its own.
    Microvm,
}

/// The text names no isolation class.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an isolation class; the classes are isolate, jail, gvisor and microvm")]
pub struct ParseIsolationError(String);

impl Isolation {
    /// Every class, weakest first.
    pub const ALL: [Self; 4] = [Self::Isolate, Self::Jail, Self::Gvisor, Self::Microvm];

    /// The word that the command line, records and reports use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Isolate => "isolate",
            Self::Jail => "jail",
            Self::Gvisor => "gvisor",
            Self::Microvm => "microvm",
        }
    }
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Isolation {
    type Err = ParseIsolationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|class| class.as_str() == text);
        found.ok_or_else(|| ParseIsolationError(text.chars().take(64).collect()))
    }
}
