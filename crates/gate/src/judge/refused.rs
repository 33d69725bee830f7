//! A refusal on its way into the sandbox: a code from a closed list, and the words.

use std::fmt::Write as _;

use belljar_base::Refusal;
use belljar_base::bounds::EGRESS_REFUSAL_BYTES_MAX;
use serde_json::json;

/// The codes that an agent can rely on.
pub(crate) mod code {
    /// No rule lets the host through.
    pub(crate) const HOST_DENIED: &str = "egress.host_denied";
    /// The address is nobody's to dial.
    pub(crate) const IP_DENIED: &str = "egress.ip_denied";
    /// The name inside TLS or HTTP is not the name of the connection.
    pub(crate) const SNI_MISMATCH: &str = "egress.sni_mismatch";
    /// A rule lets the host through, but not on this port.
    pub(crate) const PORT_DENIED: &str = "egress.port_denied";
    /// A rule lets the host through, but not to this path.
    pub(crate) const PATH_DENIED: &str = "egress.path_denied";
    /// A rule lets the host through, but not with this method.
    pub(crate) const METHOD_DENIED: &str = "egress.method_denied";
    /// Not a protocol that the gate can judge, or not spoken as it is written.
    pub(crate) const PROTO_DENIED: &str = "egress.proto_denied";
    /// A quota is used up.
    pub(crate) const QUOTA: &str = "egress.quota";
    /// A secret on its way to a host that it does not belong to.
    pub(crate) const SECRET_SCOPE: &str = "egress.secret_scope";
    /// It was allowed, but the far side has no address or does not answer.
    pub(crate) const UNREACHABLE: &str = "egress.unreachable";
    /// The ledger does not take the record.
    pub(crate) const AUDIT: &str = "audit.unavailable";

    /// All of them.
    pub(crate) const ALL: [&str; 11] = [
        HOST_DENIED,
        IP_DENIED,
        SNI_MISMATCH,
        METHOD_DENIED,
        PORT_DENIED,
        PATH_DENIED,
        PROTO_DENIED,
        QUOTA,
        SECRET_SCOPE,
        UNREACHABLE,
        AUDIT,
    ];
}

/// Something that does not pass, and what the sandbox is told about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    /// From the closed list.
    pub(crate) code: &'static str,
    /// The rule, the reason and the remedy.
    pub(crate) refusal: Refusal,
    /// The record of it, as `RUN/ATTEMPT`; empty before it is written.
    pub(crate) reference: String,
    /// What was said is not just denied but malformed.
    malformed: bool,
}

impl Refused {
    /// A refusal that no rule of policy made.
    pub(crate) fn new(
        code: &'static str,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::by(code, Refusal::new(code, reason, remedy))
    }

    /// A refusal by a rule.
    pub(crate) fn by(code: &'static str, refusal: Refusal) -> Self {
        Self {
            code,
            refusal,
            reference: String::new(),
            malformed: false,
        }
    }

    /// A refusal by policy, whose rule is a code of the list or stands for a host that is denied.
    pub(crate) fn policy(refusal: Refusal) -> Self {
        let known = code::ALL.into_iter().find(|code| *code == refusal.rule);
        Self::by(known.unwrap_or(code::HOST_DENIED), refusal)
    }

    /// What did not keep to the protocol, and how.
    pub(crate) fn protocol(reason: impl Into<String>) -> Self {
        Self::new(
            code::PROTO_DENIED,
            reason,
            "speak HTTP, or TLS with the host's name, or ask for a tcp:// rule",
        )
    }

    /// What is no request at all, and why.
    pub(crate) fn malformed(reason: impl Into<String>) -> Self {
        Self {
            malformed: true,
            ..Self::protocol(reason)
        }
    }

    /// A quota that is used up.
    pub(crate) fn quota(what: &str) -> Self {
        Self::new(
            code::QUOTA,
            format!("the quota of {what} is used up"),
            "do less, or ask for a higher quota",
        )
    }

    /// The status of an HTTP answer.
    pub(crate) fn status(&self) -> u16 {
        match self.code {
            _ if self.malformed => 400,
            code::QUOTA => 429,
            code::UNREACHABLE => 502,
            code::AUDIT => 503,
            _ => 403,
        }
    }

    /// The body of an HTTP answer, as `application/problem+json`; shortened until it is in bounds.
    pub(crate) fn body(&self) -> Vec<u8> {
        let mut room = 160;
        loop {
            let body = self.render(room);
            if body.len() <= EGRESS_REFUSAL_BYTES_MAX || room == 0 {
                return body;
            }
            room /= 2;
        }
    }

    fn render(&self, room: usize) -> Vec<u8> {
        let retry = match self.code {
            code::QUOTA | code::UNREACHABLE | code::AUDIT => "after_ms",
            code::HOST_DENIED
            | code::IP_DENIED
            | code::METHOD_DENIED
            | code::PORT_DENIED
            | code::PATH_DENIED => "with_approval",
            _ => "never",
        };
        json!({
            "type": "about:blank",
            "title": "refused by the gate",
            "status": self.status(),
            "detail": shown(&self.refusal.reason, room),
            "e": self.code,
            "do": shown(&self.refusal.remedy, room),
            "retry": retry,
            "ref": self.reference,
        })
        .to_string()
        .into_bytes()
    }
}

/// Plain text for a machine or a person: no control characters, no more than so many bytes.
fn shown(text: &str, room: usize) -> String {
    let mut shown = String::new();
    for c in text.chars() {
        if shown.len() + c.len_utf8() > room {
            // Writing to a string cannot fail.
            write!(shown, "…").ok();
            break;
        }
        shown.push(if c.is_control() { ' ' } else { c });
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bodies_are_short_and_json(reason in ".{0,600}", remedy in "\\PC{0,600}") {
            let mut refused = Refused::new(code::HOST_DENIED, reason, remedy);
            refused.reference = "run-0123456789abcdef/18446744073709551615".to_owned();
            let body = refused.body();
            prop_assert!(body.len() <= EGRESS_REFUSAL_BYTES_MAX);
            let value: serde_json::Value = serde_json::from_slice(&body).unwrap();
            prop_assert_eq!(&value["e"], "egress.host_denied");
            prop_assert_eq!(&value["status"], 403);
        }
    }

    #[test]
    fn policy_speaks_in_codes() {
        let refused = |rule: &str| Refused::policy(Refusal::new(rule, "", "")).code;
        assert_eq!(refused("egress.method_denied"), "egress.method_denied");
        assert_eq!(refused("deny evil.example"), "egress.host_denied");
    }
}
