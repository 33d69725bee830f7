//! Remembers which denials have a record, so that a hostile loop fills a counter and not the ledger.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use belljar_base::bounds::EGRESS_DENIALS_MAX;

/// The denials of a run.
#[derive(Default)]
pub(crate) struct Denials {
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// What was denied → the attempt that is on record.
    first: HashMap<String, u64>,
    /// Repetitions that have no record of their own.
    repeated: u64,
    /// When the last one past the bound was recorded.
    late: Option<Instant>,
}

/// What to do about a denial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Note {
    /// Write it: nothing like it is on record.
    Write,
    /// This attempt is on record and like it.
    Known(u64),
    /// Count it: too many different ones came already.
    Count,
}

impl Denials {
    /// What to do about a denial that is the same as others with the same key.
    pub(crate) fn note(&self, key: String, id: u64) -> Note {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(first) = known.first.get(&key).copied() {
            known.repeated += 1;
            return Note::Known(first);
        }
        if known.first.len() < EGRESS_DENIALS_MAX {
            known.first.insert(key, id);
            return Note::Write;
        }
        // Past the bound one a second is written, so that what comes late is still seen.
        if known.late.is_none_or(|last| last.elapsed().as_secs() >= 1) {
            known.late = Some(Instant::now());
            return Note::Write;
        }
        known.repeated += 1;
        Note::Count
    }

    /// How many denials have no record of their own.
    pub(crate) fn repeated(&self) -> u64 {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.repeated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_is_counted() {
        let denials = Denials::default();
        assert_eq!(denials.note("a".to_owned(), 1), Note::Write);
        assert_eq!(denials.note("a".to_owned(), 2), Note::Known(1));
        let bound = u64::try_from(EGRESS_DENIALS_MAX).unwrap();
        let written = (10..10 + 2 * bound)
            .filter(|id| denials.note(id.to_string(), *id) == Note::Write)
            .count();
        assert!(written <= EGRESS_DENIALS_MAX + 10);
        assert!(denials.repeated() > bound / 2);
    }
}
