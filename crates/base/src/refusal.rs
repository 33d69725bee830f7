//! A refusal is a value, not an error: it names the rule, the reason and the remedy.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why something was not allowed, in words a person or an agent can act on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The rule that decided, as `room.rule`.
    pub rule: String,
    /// Why it applies here.
    pub reason: String,
    /// What to do instead.
    pub remedy: String,
}

impl Refusal {
    /// A refusal by `rule`, because of `reason`, that `remedy` would lift.
    pub fn new(
        rule: impl Into<String>,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            rule: rule.into(),
            reason: reason.into(),
            remedy: remedy.into(),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}); {}", self.reason, self.rule, self.remedy)
    }
}
