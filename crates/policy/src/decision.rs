//! A decision: allow, hold or deny. A refusal is a value that names the rule, the reason and the
//! remedy.

use belljar_base::Refusal;

/// What policy says to something that is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It may happen.
    Allow {
        /// The rule that allows it.
        rule: String,
        /// Why the rule applies.
        reason: String,
    },
    /// It waits until a person agrees.
    Hold(Refusal),
    /// It may not happen.
    Deny(Refusal),
}

impl Decision {
    /// Allowed by a rule, for a reason.
    pub(crate) fn allow(rule: &str, reason: impl Into<String>) -> Self {
        Self::Allow {
            rule: rule.to_owned(),
            reason: reason.into(),
        }
    }
}
