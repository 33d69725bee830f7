//! The name server of one sandbox. An allowed name gets a synthetic address that stands for it as long
//! as the run lives; a denied one does not exist, and the answer says why. Everything else is empty.
//!
//! **Invariant:** nothing a sandbox asks is asked of anybody else (held by
//! `nothing_that_is_asked_is_asked_again`). The real address is looked up when a connection is made,
//! for the name of its rule; a name that is allowed and does not exist therefore has an address
//! here, and the connection to it fails with the reason.

mod names; // synthetic address ↔ name
mod question; // one message in
mod answer; // one message out
mod serve; // the sockets

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use belljar_base::Refusal;
use belljar_policy::egress::HostName;
use hickory_proto::rr::RecordType;

use crate::judge::{Judge, code};
use answer::Saying;
use question::{Heard, Reading, Subject};

pub(crate) use names::Names;
pub(crate) use serve::Dns;

/// Who decides whether a name may be resolved.
pub(crate) trait NameJudge: Send + Sync + 'static {
    /// May this name be resolved? The decision is written before it is told.
    fn name(&self, name: &HostName) -> impl Future<Output = Result<(), NameRefused>> + Send;
}

/// Why a name has no address.
#[derive(Clone, Debug)]
pub(crate) enum NameRefused {
    /// Rules deny it.
    Denied(Refusal),
    /// It could not be decided or written now.
    Undecided(Refusal),
}

impl NameJudge for Judge {
    async fn name(&self, name: &HostName) -> Result<(), NameRefused> {
        Self::name(self, name).await.map_err(|refused| {
            if refused.code == code::AUDIT {
                NameRefused::Undecided(refused.refusal)
            } else {
                NameRefused::Denied(refused.refusal)
            }
        })
    }
}

/// Answers messages, whichever way they came.
#[derive(Debug)]
pub(crate) struct Responder<J> {
    judge: Arc<J>,
    names: Arc<Names>,
}

impl<J: NameJudge> Responder<J> {
    /// A responder for one run.
    pub(crate) fn new(judge: Arc<J>, names: Arc<Names>) -> Self {
        Self { judge, names }
    }

    /// The answer to a message; nothing for what is no question.
    pub(crate) async fn answer(&self, message: &[u8]) -> Option<Vec<u8>> {
        let (heard, saying) = match question::read(message) {
            Reading::Nothing => return None,
            Reading::Refused(heard, code) => (heard, Saying::Refused(code)),
            Reading::Asked(heard, subject) => {
                let saying = self.say(&heard, &subject).await;
                (heard, saying)
            }
        };
        answer::write(&heard, &saying)
    }

    async fn say(&self, heard: &Heard, subject: &Subject) -> Saying {
        let wanted = heard.query.as_ref().map(|query| query.query_type);
        match subject {
            Subject::Name(name) => match self.judge.name(name).await {
                Ok(()) if wanted == Some(RecordType::A) => self.address(name),
                Ok(()) => Saying::Empty,
                Err(NameRefused::Denied(refusal)) => Saying::Denied(told(&refusal)),
                Err(NameRefused::Undecided(refusal)) => Saying::Failed(told(&refusal)),
            },
            Subject::Localhost => match wanted {
                Some(RecordType::A) => Saying::Address(IpAddr::V4(Ipv4Addr::LOCALHOST)),
                Some(RecordType::AAAA) => Saying::Address(IpAddr::V6(Ipv6Addr::LOCALHOST)),
                _ => Saying::Empty,
            },
            Subject::Reverse(address) => {
                match address.and_then(|address| self.names.name_of(address)) {
                    Some(name) if wanted == Some(RecordType::PTR) => Saying::Pointer(name),
                    Some(_) => Saying::Empty,
                    None => Saying::Missing,
                }
            }
            Subject::NoHost => Saying::Denied("no host has such a name".to_owned()),
        }
    }

    fn address(&self, name: &HostName) -> Saying {
        match self.names.address_of(name) {
            Some(address) => Saying::Address(IpAddr::V4(address)),
            None => Saying::Failed("this run has resolved too many names".to_owned()),
        }
    }
}

fn told(refusal: &Refusal) -> String {
    format!("{}; {}", refusal.reason, refusal.remedy)
}
