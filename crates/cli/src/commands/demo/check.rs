//! What was expected, what was found, and whether it held. The verdict is computed from these
//! alone.

use std::fmt::Display;

use serde::Serialize;

/// One thing that was looked at, from outside, after a replay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    /// What was looked at.
    pub(super) what: String,
    /// What it had to be.
    pub(super) expected: String,
    /// What it is.
    pub(super) found: String,
    /// Whether that is good enough.
    pub(super) held: bool,
}

impl Check {
    /// What must be exactly as expected.
    pub(super) fn same(what: &str, expected: impl Display, found: impl Display) -> Self {
        let (expected, found) = (expected.to_string(), found.to_string());
        let held = expected == found;
        Self {
            what: what.to_owned(),
            expected,
            found,
            held,
        }
    }

    /// What must differ: it proves that the program inside really did something.
    pub(super) fn differs(what: &str, from: impl Display, found: impl Display) -> Self {
        let (from, found) = (from.to_string(), found.to_string());
        let held = from != found;
        Self {
            what: what.to_owned(),
            expected: format!("not {from}"),
            found,
            held,
        }
    }

    /// What a condition decides.
    pub(super) fn holds(
        what: &str,
        expected: impl Display,
        found: impl Display,
        held: bool,
    ) -> Self {
        Self {
            what: what.to_owned(),
            expected: expected.to_string(),
            found: found.to_string(),
            held,
        }
    }
}

/// The verdict: every check held, and there was something to check.
pub(super) fn contained(checks: &[Check]) -> bool {
    !checks.is_empty() && checks.iter().all(|check| check.held)
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::Snapshot;
    use super::*;

    #[test]
    fn one_changed_byte_is_not_contained() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sub/letter.txt");
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        std::fs::write(&file, "dear friend").unwrap();
        let before = Snapshot::of(folder.path()).unwrap();
        let unchanged = Snapshot::of(folder.path()).unwrap();
        assert!(contained(&[before.intact("the letter", &unchanged)]));
        let times = std::fs::metadata(&file).unwrap().modified().unwrap();
        std::fs::write(&file, "dear fiend!").unwrap();
        let opened = std::fs::File::options().write(true).open(&file).unwrap();
        opened.set_modified(times).unwrap();
        let after = Snapshot::of(folder.path()).unwrap();
        let check = before.intact("the letter", &after);
        assert!(!check.held);
        assert!(!contained(&[check]));
    }

    #[test]
    fn one_failed_check_among_many_decides() {
        let good = Check::same("a", 1, 1);
        let bad = Check::same("b", 1, 2);
        assert!(contained(std::slice::from_ref(&good)));
        assert!(!contained(&[good.clone(), bad, good]));
    }

    #[test]
    fn nothing_looked_at_is_not_contained() {
        assert!(!contained(&[]));
    }
}
