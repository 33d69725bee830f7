//! A secret where it does not belong.

use belljar_base::Refusal;
use belljar_ledger::{Event, Text};

use super::name::SecretName;

/// The word for machines: what a refusal of this sort is called.
const CODE: &str = "egress.secret_scope";

/// Why something with a secret in it does not pass.
#[derive(Clone, Debug)]
pub(crate) struct Misuse {
    /// Whose placeholder it is.
    pub(crate) secret: SecretName,
    /// Where it was going.
    pub(crate) host: Box<str>,
    /// What the sandbox is told; it names no value and no placeholder.
    pub(crate) refusal: Refusal,
    /// Whether it is an incident: a placeholder went where it does not belong. Else something could
    /// not be looked through, which happens to the honest as well.
    pub(crate) is_incident: bool,
}

impl Misuse {
    pub(super) fn stray(secret: &SecretName, host: &str, belongs: &str) -> Self {
        Self {
            secret: secret.clone(),
            host: host.into(),
            refusal: Refusal::new(
                CODE,
                format!(
                    "the placeholder of the secret `{secret}` was on its way to a place it is not for"
                ),
                format!("send it only {belongs}"),
            ),
            is_incident: true,
        }
    }

    pub(super) fn unusable(secret: &SecretName, host: &str, reason: String, remedy: &str) -> Self {
        Self {
            secret: secret.clone(),
            host: host.into(),
            refusal: Refusal::new(CODE, reason, remedy),
            is_incident: false,
        }
    }

    /// The record of an incident.
    pub(crate) fn event(&self) -> Option<Event> {
        self.is_incident.then(|| Event::SecretMisused {
            name: Text::from(self.secret.as_str()),
            host: Text::from(&*self.host),
        })
    }
}
