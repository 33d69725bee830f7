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
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use belljar_base::Refusal;
use belljar_policy::egress::HostName;
use hickory_proto::rr::RecordType;

use crate::judge::{Attempt, Judge, Refused, code};
use answer::Saying;
use question::{Reading, Subject};

pub(crate) use names::Names;
pub(crate) use serve::Dns;

/// What a sandbox is told that asks this, when every name is allowed or every name denied; nothing
/// for what is no question.
#[must_use]
pub fn answer(message: &[u8], allowed: bool) -> Option<Vec<u8>> {
    let responder = Responder::new(Arc::new(Everything { allowed }), Arc::default());
    let answering = pin!(responder.answer(message));
    // Such a judge is never waited for.
    match answering.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => None,
    }
}

/// Who decides whether a name may be resolved.
pub(crate) trait NameJudge: Send + Sync + 'static {
    /// May this name be resolved? The decision is written before it is told.
    fn name(&self, name: &HostName) -> impl Future<Output = Result<(), NameRefused>> + Send;

    /// Writes that something was asked for that no rule can allow, and says how it is refused.
    fn no_host(
        &self,
        written: &str,
        reason: &'static str,
    ) -> impl Future<Output = NameRefused> + Send;
}

/// Where names are asked for.
const PORT: u16 = 53;

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
        Self::name(self, name).await.map_err(NameRefused::from)
    }

    async fn no_host(&self, written: &str, reason: &'static str) -> NameRefused {
        let attempt = Attempt::to("dns", written.to_owned(), PORT);
        self.refuse(attempt, no_host(reason)).await.into()
    }
}

impl From<Refused> for NameRefused {
    fn from(refused: Refused) -> Self {
        if refused.code == code::AUDIT {
            Self::Undecided(refused.refusal)
        } else {
            Self::Denied(refused.refusal)
        }
    }
}

fn no_host(reason: &'static str) -> Refused {
    Refused::new(code::HOST_DENIED, reason, "ask for a host by its name")
}

/// Makes no difference between names.
#[derive(Debug)]
struct Everything {
    allowed: bool,
}

impl NameJudge for Everything {
    async fn name(&self, name: &HostName) -> Result<(), NameRefused> {
        if self.allowed {
            return Ok(());
        }
        let (reason, remedy) = (format!("`{name}` is denied"), "ask for a rule");
        Err(Refused::new(code::HOST_DENIED, reason, remedy).into())
    }

    async fn no_host(&self, _written: &str, reason: &'static str) -> NameRefused {
        no_host(reason).into()
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
        let (heard, subject) = match question::read(message) {
            Reading::Nothing => return None,
            Reading::Refused(heard, code) => {
                return answer::write(&heard, &Saying::Refused(code));
            }
            Reading::Asked(heard, subject) => (heard, subject),
        };
        let wanted = heard.query.as_ref().map(|query| query.query_type);
        let saying = self.say(wanted, &subject).await;
        answer::write(&heard, &saying.unwrap_or_else(refused))
    }

    async fn say(
        &self,
        wanted: Option<RecordType>,
        subject: &Subject,
    ) -> Result<Saying, NameRefused> {
        let saying = match subject {
            Subject::Name(name) => {
                self.judge.name(name).await?;
                self.say_of_name(wanted, name)
            }
            Subject::Service(host) => {
                self.judge.name(host).await?;
                Saying::Empty
            }
            Subject::Localhost => match wanted {
                Some(RecordType::A) => Saying::Address(IpAddr::V4(Ipv4Addr::LOCALHOST)),
                Some(RecordType::AAAA) => Saying::Address(IpAddr::V6(Ipv6Addr::LOCALHOST)),
                _ => Saying::Empty,
            },
            Subject::Reverse(address, written) => {
                let name = address.and_then(|address| self.names.name_of(address));
                let Some(name) = name else {
                    let reason = "addresses outside have no names here";
                    return Err(self.judge.no_host(written, reason).await);
                };
                if wanted == Some(RecordType::PTR) {
                    Saying::Pointer(name)
                } else {
                    Saying::Empty
                }
            }
            Subject::NoHost(written) => {
                let reason = "no host has such a name";
                return Err(self.judge.no_host(written, reason).await);
            }
        };
        Ok(saying)
    }

    fn say_of_name(&self, wanted: Option<RecordType>, name: &HostName) -> Saying {
        if wanted != Some(RecordType::A) {
            return Saying::Empty;
        }
        match self.names.address_of(name) {
            Some(address) => Saying::Address(IpAddr::V4(address)),
            None => Saying::Failed("this run has resolved too many names".to_owned()),
        }
    }
}

fn refused(refused: NameRefused) -> Saying {
    match refused {
        NameRefused::Denied(refusal) => Saying::Denied(told(&refusal)),
        NameRefused::Undecided(refusal) => Saying::Failed(told(&refusal)),
    }
}

fn told(refusal: &Refusal) -> String {
    format!("{}; {}", refusal.reason, refusal.remedy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use belljar_base::bounds::{DNS_ANSWER_BYTES_MAX, DNS_NAMES_MAX};
    use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
    use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
    use hickory_proto::rr::{DNSClass, Name, RData, Record};
    use proptest::prelude::*;

    /// Allows what is below `example.com`, and `db`; cannot decide about `undecided`.
    #[derive(Debug)]
    struct Below;

    impl NameJudge for Below {
        async fn name(&self, name: &HostName) -> Result<(), NameRefused> {
            match name.as_str() {
                "db" => Ok(()),
                "undecided" => Err(NameRefused::Undecided(Refusal::new("r", "later", "wait"))),
                name if name.ends_with(".example.com") => Ok(()),
                name => {
                    let reason = format!("no rule allows {name}");
                    let remedy = format!("ask for --allow {name}");
                    Err(NameRefused::Denied(Refusal::new("r", reason, remedy)))
                }
            }
        }

        async fn no_host(&self, written: &str, reason: &'static str) -> NameRefused {
            NameRefused::Denied(Refusal::new("r", format!("{written}: {reason}"), "name it"))
        }
    }

    fn responder() -> Responder<Below> {
        Responder::new(Arc::new(Below), Arc::default())
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(future)
    }

    /// A question for a name whose labels are sent byte for byte, however odd they are; `\\` stands
    /// for a dot that is part of a label.
    fn question(name: &str, kind: RecordType) -> Message {
        let labels = name.split('.').filter(|label| !label.is_empty());
        let raw = labels.map(|label| label.replace('\\', ".").into_bytes());
        let raw: Vec<_> = raw.collect();
        let name = Name::from_labels(raw.iter().map(Vec::as_slice)).unwrap();
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(name, kind));
        message.set_edns(Edns::new());
        message
    }

    fn ask(responder: &Responder<Below>, message: &Message) -> Message {
        let answer = run(responder.answer(&message.to_vec().unwrap())).unwrap();
        assert!(answer.len() <= DNS_ANSWER_BYTES_MAX, "{}", answer.len());
        Message::from_vec(&answer).unwrap()
    }

    /// What an answer says, in words: code, answers, whether it can be kept, reason.
    fn words(answer: &Message) -> String {
        let mut words = vec![format!("{:?}", answer.metadata.response_code)];
        let records = answer.answers.iter();
        words.extend(records.map(|record| format!("{} {}", record.data, record.ttl)));
        if !answer.authorities.is_empty() {
            words.push("absent".to_owned());
        }
        let edns = answer.edns.as_ref();
        let option = edns.and_then(|edns| edns.option(EdnsCode::Unknown(15)).cloned());
        if let Some(EdnsOption::Unknown(_, bytes)) = option {
            let code = u16::from_be_bytes([bytes[0], bytes[1]]);
            let reason = String::from_utf8(bytes[2..].to_vec()).unwrap();
            words.push(format!("{code} {reason}"));
        }
        words.join(" | ")
    }

    fn check(name: &str, kind: RecordType, expected: &str) {
        let (responder, question) = (responder(), question(name, kind));
        let answer = ask(&responder, &question);
        assert_eq!(words(&answer), expected, "{name} {kind}");
        assert_eq!(answer.metadata.id, 7);
        assert_eq!(answer.queries, question.queries);
        assert!(answer.metadata.recursion_available && !answer.metadata.truncation);
    }

    #[test]
    fn an_allowed_name_has_a_synthetic_address_and_nothing_else() {
        check("a.example.com", RecordType::A, "NoError | 198.18.0.1 60");
        check("db", RecordType::A, "NoError | 198.18.0.1 60");
        let others = [
            RecordType::AAAA,
            RecordType::ANY,
            RecordType::CNAME,
            RecordType::HTTPS,
            RecordType::MX,
            RecordType::NS,
            RecordType::NULL,
            RecordType::SOA,
            RecordType::SRV,
            RecordType::SVCB,
            RecordType::TXT,
            RecordType::Unknown(65_280),
        ];
        for kind in others {
            check("a.example.com", kind, "NoError | absent");
        }
    }

    #[test]
    fn a_denied_name_does_not_exist_and_is_told_why() {
        let told =
            "NXDomain | absent | 15 no rule allows a.example.net; ask for --allow a.example.net";
        for kind in [
            RecordType::A,
            RecordType::AAAA,
            RecordType::TXT,
            RecordType::ANY,
        ] {
            check("a.example.net", kind, told);
        }
        check(
            "intranet",
            RecordType::A,
            "NXDomain | absent | 15 no rule allows intranet; ask for --allow intranet",
        );
        check("undecided", RecordType::A, "ServFail | 0 later; wait");
    }

    #[test]
    fn what_no_host_is_called_does_not_exist() {
        let long = "x".repeat(63);
        let labels = format!("{long}.{long}.{long}.evil.example.com");
        check(&labels, RecordType::A, "NoError | 198.18.0.1 60");
        let names = [
            ("a_b.example.com", "a_b.example.com"),
            ("_a.b_c.example.com", "_a.b_c.example.com"),
            ("_a", "_a"),
            ("127.1", "127.1"),
            ("0x7f000001", "0x7f000001"),
            ("2130706433", "2130706433"),
            ("169.254.169.254", "169.254.169.254"),
            ("-a.example.com", r"\-a.example.com"),
            ("a-.example.com", "a-.example.com"),
            (r"a\b.example.com", r"a\.b.example.com"),
            ("a\0b.example.com", r"a\000b.example.com"),
            ("a b.example.com", r"a\040b.example.com"),
            ("a/b.example.com", r"a\/b.example.com"),
            ("a@b.example.com", r"a\@b.example.com"),
            ("ä.example.com", r"\303\244.example.com"),
            ("xn--a.example.com", "xn--a.example.com"),
        ];
        for (name, written) in names {
            let told =
                format!("NXDomain | absent | 15 {written}: no host has such a name; name it");
            check(name, RecordType::A, &told);
            check(name, RecordType::TXT, &told);
        }
    }

    #[test]
    fn what_a_host_offers_is_judged_as_the_host_is() {
        for kind in [RecordType::SRV, RecordType::TXT, RecordType::A] {
            check("_https._tcp.a.example.com", kind, "NoError | absent");
            check(
                "_data.a.example.net",
                kind,
                "NXDomain | absent | 15 no rule allows a.example.net; ask for --allow a.example.net",
            );
        }
    }

    #[test]
    fn the_sandbox_itself_is_at_home() {
        for name in ["localhost", "LOCALHOST", "a.localhost"] {
            check(name, RecordType::A, "NoError | 127.0.0.1 60");
            check(name, RecordType::AAAA, "NoError | ::1 60");
            check(name, RecordType::TXT, "NoError | absent");
        }
    }

    #[test]
    fn a_synthetic_address_leads_back_to_its_name() {
        let responder = responder();
        ask(&responder, &question("a.example.com", RecordType::A));
        let reverse = |name: &str, kind| words(&ask(&responder, &question(name, kind)));
        let ours = "1.0.18.198.in-addr.arpa";
        assert_eq!(
            reverse(ours, RecordType::PTR),
            "NoError | a.example.com. 60"
        );
        assert_eq!(reverse(ours, RecordType::A), "NoError | absent");
        let others = [
            "2.0.18.198.in-addr.arpa",
            "254.169.254.169.in-addr.arpa",
            "01.0.18.198.in-addr.arpa",
            "1.1.0.18.198.in-addr.arpa",
            "0.18.198.in-addr.arpa",
            "x.in-addr.arpa",
            "8.b.d.0.1.0.0.2.ip6.arpa",
        ];
        for name in others {
            let told = format!("15 {name}: addresses outside have no names here; name it");
            let said = reverse(name, RecordType::PTR);
            assert_eq!(said, format!("NXDomain | absent | {told}"));
        }
    }

    #[test]
    fn the_case_of_a_question_comes_back_and_does_not_matter() {
        let responder = responder();
        for name in ["a.ExAmPlE.cOm", "A.eXaMpLe.CoM"] {
            let question = question(name, RecordType::A);
            let asked = question.to_vec().unwrap();
            let answer = run(responder.answer(&asked)).unwrap();
            let echoed = 12..12 + name.len() + 2 + 4;
            assert_eq!(answer[echoed.clone()], asked[echoed]);
            let words = words(&Message::from_vec(&answer).unwrap());
            assert_eq!(words, "NoError | 198.18.0.1 60");
        }
    }

    #[test]
    fn a_full_table_refuses_new_names_and_keeps_the_old() {
        let responder = responder();
        for at in 0..DNS_NAMES_MAX {
            let name = format!("n{at}.example.com").parse().unwrap();
            responder.names.address_of(&name).unwrap();
        }
        let say = |name: &str| words(&ask(&responder, &question(name, RecordType::A)));
        let told = "ServFail | 0 this run has resolved too many names";
        assert_eq!(say("late.example.com"), told);
        assert_eq!(say("n0.example.com"), "NoError | 198.18.0.1 60");
    }

    #[test]
    fn what_is_not_one_plain_question_is_turned_away() {
        let refused = |change: fn(&mut Message)| {
            let mut message = question("a.example.com", RecordType::A);
            change(&mut message);
            ask(&responder(), &message).metadata.response_code
        };
        let form = ResponseCode::FormErr;
        let record = || Record::from_rdata(Name::root(), 1, RData::A(Ipv4Addr::LOCALHOST.into()));
        assert_eq!(refused(|m| m.queries.clear()), form);
        assert_eq!(refused(|m| m.queries.push(m.queries[0].clone())), form);
        assert_eq!(refused(|m| m.metadata.truncation = true), form);
        let with_record: [fn(&mut Message, Record); 3] = [
            |m, record| m.answers.push(record),
            |m, record| m.authorities.push(record),
            |m, record| m.additionals.push(record),
        ];
        for add in with_record {
            let mut message = question("a.example.com", RecordType::A);
            add(&mut message, record());
            let answer = ask(&responder(), &message);
            assert_eq!(answer.metadata.response_code, form);
        }
        let mut message = question("a.example.com", RecordType::A);
        message.edns = None;
        message.additionals.push(record());
        assert_eq!(ask(&responder(), &message).metadata.response_code, form);

        for code in [1, 2, 4, 5, 6, 15] {
            let mut message = question("a.example.com", RecordType::A);
            message.metadata.op_code = OpCode::from_u8(code);
            let answer = ask(&responder(), &message);
            assert_eq!(answer.metadata.response_code, ResponseCode::NotImp);
            assert_eq!(answer.metadata.op_code, OpCode::from_u8(code));
        }
        for class in [DNSClass::CH, DNSClass::HS, DNSClass::ANY, DNSClass::NONE] {
            let mut message = question("a.example.com", RecordType::A);
            message.queries[0].query_class = class;
            let answer = ask(&responder(), &message);
            assert_eq!(answer.metadata.response_code, ResponseCode::Refused);
        }
        for (name, kind) in [
            (".", RecordType::NS),
            ("a.example.com", RecordType::AXFR),
            ("a.example.com", RecordType::IXFR),
        ] {
            let answer = ask(&responder(), &question(name, kind));
            assert_eq!(answer.metadata.response_code, ResponseCode::Refused);
        }
        let mut message = question("a.example.com", RecordType::A);
        message.edns.as_mut().unwrap().set_version(1);
        let answer = ask(&responder(), &message);
        // BADVERS, which shares its number with BADSIG.
        assert_eq!(u16::from(answer.metadata.response_code), 16);
    }

    #[test]
    fn bytes_that_are_no_message_are_not_answered() {
        let plain = question("a.example.com", RecordType::A).to_vec().unwrap();
        let silent = |bytes: &[u8]| assert_eq!(run(responder().answer(bytes)), None);
        silent(&[]);
        silent(&plain[..11]);
        let mut answer = plain.clone();
        answer[2] |= 0x80;
        silent(&answer);

        let code = |bytes: &[u8]| {
            let answer = run(responder().answer(bytes)).unwrap();
            Message::from_vec(&answer).unwrap().metadata.response_code
        };
        assert_eq!(code(&plain[..20]), ResponseCode::FormErr);
        assert_eq!(code(&[&plain[..], &[0]].concat()), ResponseCode::FormErr);
        // A name that is a pointer into the header.
        let header = [0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        let pointer = [0xC0, 0x04, 0, 1, 0, 1];
        assert_eq!(
            code(&[&header[..], &pointer].concat()),
            ResponseCode::FormErr
        );
    }

    #[test]
    fn without_edns_there_is_none_in_the_answer() {
        let mut message = question("a.example.net", RecordType::A);
        message.edns = None;
        let answer = ask(&responder(), &message);
        assert_eq!(words(&answer), "NXDomain | absent");
        assert!(answer.edns.is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_get_a_short_answer_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            holds(&bytes);
        }

        #[test]
        fn questions_with_changed_bytes_get_a_short_answer_or_none(
            name in "[a-zA-Z0-9_-]{1,63}(\\.[a-z0-9]{1,63}){0,3}",
            kind in any::<u16>(),
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        ) {
            let mut bytes = question(&name, RecordType::from(kind)).to_vec().unwrap();
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            holds(&bytes);
        }
    }

    fn holds(bytes: &[u8]) {
        let Some(answer) = run(responder().answer(bytes)) else {
            return;
        };
        assert!(answer.len() <= DNS_ANSWER_BYTES_MAX, "{}", answer.len());
        assert_eq!(answer[..2], bytes[..2]);
        assert_eq!(answer[2] & 0xF8, 0x80 | (bytes[2] & 0x78));
        Message::from_vec(&answer).unwrap();
    }
}
