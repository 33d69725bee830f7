//! Records: what is handed in, what is read back, and the canonical bytes between the two.
//!
//! The place of a record (`seq`, `prev`) is known only when it is written. So a draft is encoded
//! by the thread that hands it in, with two holes that the writer fills under the lock.

use belljar_base::bounds::RECORD_BYTES_MAX;
use belljar_base::{AgentName, RunId, Timestamp};
use serde_json::{Map, Value};

use crate::event::Event;
use crate::merkle::Hash;
use crate::{canonical, text};

/// The version of the record, its field `v`.
pub(crate) const VERSION: u64 = 1;

/// Longest texts (bytes) and lists of texts (items) kept, tried in turn until a record fits.
const SHORTER: [(usize, usize); 4] = [(8192, 1024), (2048, 256), (512, 64), (96, 32)];

/// What the holes may grow a record by: 64 digits of `prev`, 20 of `seq`.
const HOLES_BYTES: usize = 84;

/// A record before it has a place in the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// When it happened.
    pub at: Timestamp,
    /// The run it belongs to.
    pub run: Option<RunId>,
    /// Who acted.
    pub agent: Option<AgentName>,
    /// What happened.
    pub event: Event,
}

/// A record as the ledger has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its place, counted from 0.
    pub seq: u64,
    /// When it happened.
    pub at: Timestamp,
    /// The run it belongs to.
    pub run: Option<RunId>,
    /// Who acted.
    pub agent: Option<AgentName>,
    /// What happened.
    pub event: Event,
    /// The leaf hash of the record before; zeros for the first.
    pub prev: Hash,
    /// The SHA-256 of 0x00 and the canonical bytes: its leaf in the tree.
    pub leaf: Hash,
}

/// The record cannot be encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EncodeError {
    /// Longer than the bound even when its texts are cut.
    TooLong(usize),
    /// An event of another version.
    Unknown,
}

/// A record's canonical bytes without `prev` and `seq`.
#[derive(Debug)]
pub(crate) struct Encoded {
    bytes: Vec<u8>,
    prev_at: usize,
    seq_at: usize,
}

impl Encoded {
    /// The canonical bytes of a draft, with two holes.
    pub(crate) fn new(draft: &Draft) -> Result<Self, EncodeError> {
        if matches!(draft.event, Event::Unknown(_)) {
            return Err(EncodeError::Unknown);
        }
        let Ok(Value::Object(event)) = serde_json::to_value(&draft.event) else {
            return Err(EncodeError::Unknown);
        };
        let whole = Self::write(draft, &event);
        let mut length = whole.bytes.len();
        if length + HOLES_BYTES <= RECORD_BYTES_MAX {
            return Ok(whole);
        }
        for (text_max, items_max) in SHORTER {
            let mut value = Value::Object(event.clone());
            text::shorten(&mut value, text_max, items_max);
            if let Value::Object(event) = value {
                let shorter = Self::write(draft, &event);
                length = shorter.bytes.len();
                if length + HOLES_BYTES <= RECORD_BYTES_MAX {
                    return Ok(shorter);
                }
            }
        }
        Err(EncodeError::TooLong(length))
    }

    fn write(draft: &Draft, event: &Map<String, Value>) -> Self {
        let (at, run) = (format_time(draft.at), draft.run.map(|run| run.to_string()));
        let mut fields = Vec::with_capacity(event.len() + 6);
        fields.extend(
            event
                .iter()
                .map(|(key, value)| (key.as_str(), Field::Of(value))),
        );
        fields.push(("at", Field::Text(&at)));
        fields.push(("v", Field::Version));
        fields.push(("prev", Field::Prev));
        fields.push(("seq", Field::Seq));
        if let Some(run) = &run {
            fields.push(("run", Field::Text(run)));
        }
        if let Some(agent) = &draft.agent {
            fields.push(("agent", Field::Text(agent.as_str())));
        }
        // The names of all fields are ASCII, where every order is the same.
        fields.sort_unstable_by_key(|(key, _)| *key);
        let mut bytes = Vec::with_capacity(512);
        let (mut prev_at, mut seq_at) = (0, 0);
        for (nth, (key, field)) in fields.into_iter().enumerate() {
            bytes.push(if nth == 0 { b'{' } else { b',' });
            canonical::write_string(key, &mut bytes);
            bytes.push(b':');
            match field {
                Field::Of(value) => canonical::write(value, &mut bytes),
                Field::Text(text) => canonical::write_string(text, &mut bytes),
                Field::Version => bytes.extend_from_slice(VERSION.to_string().as_bytes()),
                Field::Seq => seq_at = bytes.len(),
                Field::Prev => {
                    bytes.extend_from_slice(b"\"\"");
                    prev_at = bytes.len() - 1;
                }
            }
        }
        bytes.push(b'}');
        Self {
            bytes,
            prev_at,
            seq_at,
        }
    }

    /// The most bytes it can take.
    pub(crate) fn bytes_max(&self) -> usize {
        self.bytes.len() + HOLES_BYTES
    }

    /// Appends the canonical bytes with the holes filled.
    pub(crate) fn fill(&self, seq: u64, prev: &Hash, out: &mut Vec<u8>) {
        let (head, rest) = self.bytes.split_at(self.prev_at);
        let (middle, tail) = rest.split_at(self.seq_at - self.prev_at);
        out.extend_from_slice(head);
        out.extend_from_slice(&prev.to_hex());
        out.extend_from_slice(middle);
        out.extend_from_slice(seq.to_string().as_bytes());
        out.extend_from_slice(tail);
    }
}

/// What stands behind a field's name.
enum Field<'a> {
    /// A field of the event.
    Of(&'a Value),
    /// A field of the record itself.
    Text(&'a str),
    Version,
    Prev,
    Seq,
}

impl Record {
    /// Reads canonical bytes; nothing when they are not a record.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let Ok(Value::Object(mut fields)) = serde_json::from_slice(bytes) else {
            return None;
        };
        fields.remove("v")?.as_u64()?;
        let seq = fields.remove("seq")?.as_u64()?;
        let at = parse_time(fields.remove("at")?.as_str()?)?;
        let prev = fields.remove("prev")?.as_str()?.parse().ok()?;
        let run = match fields.remove("run") {
            Some(run) => Some(run.as_str()?.parse().ok()?),
            None => None,
        };
        let agent = match fields.remove("agent") {
            Some(agent) => Some(agent.as_str()?.parse().ok()?),
            None => None,
        };
        let event = serde_json::from_value(Value::Object(fields)).ok()?;
        Some(Self {
            seq,
            at,
            run,
            agent,
            event,
            prev,
            leaf: Hash::leaf(bytes),
        })
    }
}

/// RFC 3339 in UTC with all nine digits of the second's fraction, so that text sorts as time.
pub(crate) fn format_time(at: Timestamp) -> String {
    let mut text = at.to_rfc3339();
    text.pop();
    text.push_str(&format!("{:06}Z", at.as_nanos() % 1_000_000));
    text
}

/// The inverse of [`format_time`]; nothing for any other text.
pub(crate) fn parse_time(text: &str) -> Option<Timestamp> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let seconds = ((days_from_civil(year, month, day)? * 24 + hour) * 60 + minute) * 60 + second;
    let nanos = seconds.checked_mul(1_000_000_000)?;
    let at = Timestamp::from_nanos(nanos.checked_add(number(20, 29)?)?);
    (format_time(at) == text).then_some(at)
}

/// Days since 1970 of a date (the well-known era arithmetic).
fn days_from_civil(year: u64, month: u64, day: u64) -> Option<u64> {
    let year = if month <= 2 {
        year.checked_sub(1)?
    } else {
        year
    };
    let (era, year_of_era) = (year / 400, year % 400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day.checked_sub(1)?;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * 146_097 + day_of_era).checked_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Text;
    use crate::event::{Effect, Ending, FileCounts, Method, RowCounts};
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    fn text() -> impl Strategy<Value = Text> {
        prop_oneof![
            ".{0,20}".prop_map(|text| Text::from(text.as_str())),
            vec(any::<u8>(), 0..20).prop_map(Text::from),
        ]
    }

    fn count() -> impl Strategy<Value = u64> {
        0..=canonical::INTEGER_MAX
    }

    fn ending() -> impl Strategy<Value = Ending> {
        prop_oneof![
            any::<u8>().prop_map(Ending::Code),
            any::<i32>().prop_map(Ending::Signal),
            text().prop_map(Ending::Limit),
            text().prop_map(Ending::Failed),
            Just(Ending::Stopped),
        ]
    }

    fn database() -> impl Strategy<Value = belljar_base::DatabaseName> {
        "[a-z][a-z0-9_]{0,8}".prop_map(|name| name.parse().unwrap())
    }

    fn digest() -> impl Strategy<Value = Hash> {
        any::<[u8; 32]>().prop_map(Hash::from_bytes)
    }

    prop_compose! {
        fn asked()(
            command in vec(text(), 0..5),
            isolation in text(),
            workspace in proptest::option::of(text()),
            databases in btree_map(database(), text(), 0..3),
            network in vec(text(), 0..3),
            secrets in vec(text(), 0..3),
            limits in btree_map("[a-z_]{1,12}", count(), 0..3),
        ) -> Event {
            Event::RunAsked { command, isolation, workspace, databases, network, secrets, limits }
        }
    }

    prop_compose! {
        fn sealed()(
            digest in digest(),
            (added, modified, deleted) in (count(), count(), count()),
            databases in btree_map(database(), count(), 0..3),
        ) -> Event {
            let rows = |inserted| RowCounts { inserted, ..RowCounts::default() };
            Event::ChangeSealed {
                digest,
                files: FileCounts { added, modified, deleted },
                databases: databases.into_iter().map(|(name, n)| (name, rows(n))).collect(),
            }
        }
    }

    fn simple() -> impl Strategy<Value = Event> {
        let texts = || vec(text(), 0..4);
        prop_oneof![
            text().prop_map(|isolation| Event::RunStarted { isolation }),
            (any::<u32>(), texts()).prop_map(|(id, command)| Event::CommandStarted { id, command }),
            (text(), proptest::option::of(count()))
                .prop_map(|(limit, bound)| Event::LimitHit { limit, bound }),
            (ending(), count()).prop_map(|(end, duration_ms)| Event::RunEnded { end, duration_ms }),
            digest().prop_map(|digest| Event::MergeStarted { digest }),
            digest().prop_map(|digest| Event::MergeFinished { digest }),
            texts().prop_map(|conflicts| Event::MergeRefused { conflicts }),
            digest().prop_map(|digest| Event::RevertStarted { digest }),
            digest().prop_map(|digest| Event::RevertFinished { digest }),
            texts().prop_map(|conflicts| Event::RevertRefused { conflicts }),
            Just(Event::Discarded {}),
            text().prop_map(|what| Event::Recovered { what }),
            (database(), text()).prop_map(|(name, source)| Event::SourceAdded { name, source }),
            database().prop_map(|name| Event::SourceRemoved { name }),
        ]
    }

    prop_compose! {
        fn ended()(id: u32, end in ending(), numbers in (count(), count(), count())) -> Event {
            let (duration_ms, stdout_bytes, stderr_bytes) = numbers;
            Event::CommandEnded { id, end, duration_ms, stdout_bytes, stderr_bytes }
        }
    }

    prop_compose! {
        fn decided()(
            [subject, rule, reason] in [text(), text(), text()],
            remedy in proptest::option::of(text()),
            effect in prop_oneof![Just(Effect::Allow), Just(Effect::Hold), Just(Effect::Deny)],
        ) -> Event {
            Event::Decision { subject, effect, rule, reason, remedy }
        }
    }

    prop_compose! {
        fn refused()([wall, reason, remedy] in [text(), text(), text()]) -> Event {
            Event::WallRefused { wall, reason, remedy }
        }
    }

    prop_compose! {
        fn branched()(
            name in database(),
            source in text(),
            method in prop_oneof![Just(Method::Reflink), Just(Method::Copy)],
            bytes in count(),
        ) -> Event {
            Event::BranchCreated { name, source, method, bytes }
        }
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            asked(),
            decided(),
            ended(),
            refused(),
            sealed(),
            branched(),
            simple(),
        ]
    }

    prop_compose! {
        fn draft()(
            at in 0_u64..9_000_000_000_000_000_000,
            run in proptest::option::of((0_u64..1 << 44, any::<u32>())),
            agent in proptest::option::of("[a-z][a-z0-9-]{0,9}"),
            event in event(),
        ) -> Draft {
            Draft {
                at: Timestamp::from_nanos(at),
                run: run.map(|(at, chance)| RunId::new(Timestamp::from_millis(at), chance)),
                agent: agent.map(|name| name.parse().unwrap()),
                event,
            }
        }
    }

    fn fill(draft: &Draft, seq: u64, prev: &Hash) -> Vec<u8> {
        let mut bytes = Vec::new();
        Encoded::new(draft).unwrap().fill(seq, prev, &mut bytes);
        bytes
    }

    proptest! {
        #[test]
        fn canonical_bytes_and_back(draft in draft(), seq: u64, prev in digest()) {
            let bytes = fill(&draft, seq, &prev);
            let record = Record::parse(&bytes).unwrap();
            prop_assert_eq!((record.seq, record.prev), (seq, prev));
            prop_assert_eq!(record.leaf, Hash::leaf(&bytes));
            let again = Draft {
                at: record.at,
                run: record.run,
                agent: record.agent,
                event: record.event,
            };
            prop_assert_eq!(&again, &draft);
            prop_assert_eq!(fill(&again, seq, &prev), bytes);
        }

        #[test]
        fn bytes_are_canonical(draft in draft(), prev in digest()) {
            let bytes = fill(&draft, 7, &prev);
            let value: Value = serde_json::from_slice(&bytes).unwrap();
            prop_assert_eq!(canonical::to_bytes(&value), bytes);
            let Value::Object(fields) = value else { panic!() };
            prop_assert_eq!(fields["event"].as_str(), Some(draft.event.name()));
        }

        #[test]
        fn an_event_names_none_of_the_records_own_fields(event in event()) {
            let value = serde_json::to_value(&event).unwrap();
            for own in ["v", "seq", "at", "run", "agent", "prev"] {
                prop_assert_eq!(value.get(own), None);
            }
        }

    }

    proptest! {
        // Each case encodes up to a megabyte several times.
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn any_record_fits(length in 0_usize..300_000, items in 0_usize..3000, byte: u8) {
            let draft = Draft {
                at: Timestamp::default(),
                run: None,
                agent: None,
                event: Event::RunAsked {
                    command: vec![Text::from(vec![byte; length]); items.min(400_000 / (length + 1))],
                    isolation: Text::from("jail"),
                    workspace: Some(Text::from(vec![byte; length])),
                    databases: [].into(),
                    network: Vec::new(),
                    secrets: Vec::new(),
                    limits: [].into(),
                },
            };
            let bytes = fill(&draft, u64::MAX, &Hash::ZERO);
            prop_assert!(bytes.len() <= RECORD_BYTES_MAX);
            let event = Record::parse(&bytes).unwrap().event;
            prop_assert!(matches!(event, Event::RunAsked { .. }), "{event:?}");
        }
    }

    proptest! {
        #[test]
        fn time_and_back(nanos: u64) {
            let at = Timestamp::from_nanos(nanos);
            prop_assert_eq!(parse_time(&format_time(at)), Some(at));
        }

        #[test]
        fn hostile_bytes_are_an_answer(bytes: Vec<u8>, text in "\\{.{0,60}\\}") {
            Record::parse(&bytes);
            Record::parse(text.as_bytes());
            parse_time(&text);
        }
    }

    #[test]
    fn a_record_as_people_see_it() {
        let draft = Draft {
            at: Timestamp::from_nanos(1_795_132_800_123_456_789),
            run: None,
            agent: Some("claude-code".parse().unwrap()),
            event: Event::CommandEnded {
                id: 1,
                end: Ending::Signal(9),
                duration_ms: 12,
                stdout_bytes: 0,
                stderr_bytes: u64::MAX,
            },
        };
        let text = String::from_utf8(fill(&draft, 3, &Hash::ZERO)).unwrap();
        expect_test::expect![[r#"{"agent":"claude-code","at":"2026-11-20T00:00:00.123456789Z","duration_ms":12,"end":{"signal":9},"event":"command.ended","id":1,"prev":"0000000000000000000000000000000000000000000000000000000000000000","seq":3,"stderr_bytes":9007199254740991,"stdout_bytes":0,"v":1}"#]]
        .assert_eq(&text);
    }

    #[test]
    fn an_event_of_another_version_is_shown_and_not_written() {
        let text = r#"{"at":"2026-11-20T00:00:00.000000000Z","event":"gate.opened","host":"a","prev":"0000000000000000000000000000000000000000000000000000000000000000","seq":0,"v":1}"#;
        let record = Record::parse(text.as_bytes()).unwrap();
        assert_eq!(record.event.name(), "gate.opened");
        let draft = Draft {
            at: record.at,
            run: record.run,
            agent: record.agent,
            event: record.event,
        };
        assert_eq!(Encoded::new(&draft).unwrap_err(), EncodeError::Unknown);
    }
}
