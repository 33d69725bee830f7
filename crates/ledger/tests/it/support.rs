//! A ledger in a directory of its own.

use std::path::PathBuf;

use belljar_base::{RunId, Timestamp};
use belljar_ledger::{Draft, Event, Ledger, Options, Text};

/// A state directory that is removed at the end.
pub(crate) struct Place {
    pub(crate) state: tempfile::TempDir,
    pub(crate) options: Options,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self::with_segments(64 << 20)
    }

    pub(crate) fn with_segments(bytes: u64) -> Self {
        let options = Options {
            segment_bytes: Some(bytes),
            ..Options::default()
        };
        let state = tempfile::tempdir().unwrap();
        Self { state, options }
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.state.path().join("ledger")
    }

    pub(crate) fn open(&self) -> Ledger {
        Ledger::open(&self.dir(), &self.options).unwrap()
    }
}

pub(crate) fn run(number: u32) -> RunId {
    RunId::new(Timestamp::from_millis(1_795_132_800_000), number)
}

/// A record that says `text`.
pub(crate) fn draft(text: &str) -> Draft {
    Draft {
        at: Timestamp::from_nanos(1_795_132_800_123_456_789),
        run: Some(run(1)),
        agent: Some("claude-code".parse().unwrap()),
        event: Event::Recovered {
            what: Text::from(text),
        },
    }
}

/// What a record made by [`draft`] says.
pub(crate) fn said(event: &Event) -> String {
    let Event::Recovered { what } = event else {
        panic!("{event:?}");
    };
    what.to_string()
}

/// Appends `count` records, one commit each for the first and the last, more at once between.
pub(crate) fn fill(ledger: &Ledger, count: u64) {
    let drafts: Vec<_> = (0..count).map(|n| draft(&format!("number {n}"))).collect();
    let Some((first, rest)) = drafts.split_first() else {
        return;
    };
    ledger.append(std::slice::from_ref(first)).unwrap();
    let Some((last, middle)) = rest.split_last() else {
        return;
    };
    for batch in middle.chunks(7) {
        ledger.append(batch).unwrap();
    }
    ledger.append(std::slice::from_ref(last)).unwrap();
}
