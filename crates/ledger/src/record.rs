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
        let fields = fields_of(draft).ok_or(EncodeError::Unknown)?;
        let whole = Self::write(&fields);
        let mut length = whole.bytes.len();
        if length + HOLES_BYTES <= RECORD_BYTES_MAX {
            return Ok(whole);
        }
        for (text_max, items_max) in SHORTER {
            let mut value = Value::Object(fields.clone());
            text::shorten(&mut value, text_max, items_max);
            if let Value::Object(fields) = value {
                let shorter = Self::write(&fields);
                length = shorter.bytes.len();
                if length + HOLES_BYTES <= RECORD_BYTES_MAX {
                    return Ok(shorter);
                }
            }
        }
        Err(EncodeError::TooLong(length))
    }

    fn write(fields: &Map<String, Value>) -> Self {
        let mut bytes = Vec::with_capacity(512);
        let (mut prev_at, mut seq_at) = (0, 0);
        bytes.push(b'{');
        for (nth, (key, value)) in canonical::sorted(fields).into_iter().enumerate() {
            if nth > 0 {
                bytes.push(b',');
            }
            canonical::write_string(key, &mut bytes);
            bytes.push(b':');
            match key.as_str() {
                "prev" => {
                    bytes.extend_from_slice(b"\"\"");
                    prev_at = bytes.len() - 1;
                }
                "seq" => seq_at = bytes.len(),
                _other => canonical::write(value, &mut bytes),
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

/// The record's fields, with `prev` and `seq` to be filled in.
fn fields_of(draft: &Draft) -> Option<Map<String, Value>> {
    let Ok(Value::Object(mut fields)) = serde_json::to_value(&draft.event) else {
        return None;
    };
    fields.insert("v".to_owned(), Value::from(VERSION));
    fields.insert("at".to_owned(), Value::from(format_time(draft.at)));
    if let Some(run) = draft.run {
        fields.insert("run".to_owned(), Value::from(run.to_string()));
    }
    if let Some(agent) = &draft.agent {
        fields.insert("agent".to_owned(), Value::from(agent.as_str()));
    }
    fields.insert("prev".to_owned(), Value::Null);
    fields.insert("seq".to_owned(), Value::Null);
    Some(fields)
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
