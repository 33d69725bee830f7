//! What an incident is, and what a replay of it gives.

use std::time::Duration;

use super::asked::Asked;
use super::check::{Check, contained};
use super::stage::Stage;
use crate::failure::Failure;

/// Something that really happened.
#[derive(Debug)]
pub(super) struct Incident {
    /// What `belljar demo` calls it.
    pub(super) name: &'static str,
    /// When it happened, year and month as far as they are known.
    pub(super) when: &'static str,
    /// What happened, in two sentences.
    pub(super) happened: &'static str,
    /// What the replay does, in a few words.
    pub(super) attack: &'static str,
    /// Replays it.
    pub(super) play: fn(&Stage<'_>) -> Result<Played, Failure>,
}

/// What a replay tried, and what came of it.
#[derive(Debug, Default)]
pub(super) struct Played {
    /// What the program inside did, in its own words.
    pub(super) tried: Vec<Tried>,
    /// What was looked at afterwards, from outside.
    pub(super) checks: Vec<Check>,
    /// What a merge would have asked; none where the run left nothing to merge.
    pub(super) asked: Option<Asked>,
    /// What else a person should know, a sentence each.
    pub(super) notes: Vec<String>,
}

/// One thing that a program inside tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tried {
    /// What.
    pub(super) what: String,
    /// What it got, as seen from inside.
    pub(super) got: String,
}

/// A replay that is over.
#[derive(Debug)]
pub(super) struct Replay {
    pub(super) incident: &'static Incident,
    pub(super) played: Played,
    pub(super) duration: Duration,
}

impl Replay {
    /// Whether everything that was looked at is as it must be.
    pub(super) fn contained(&self) -> bool {
        contained(&self.played.checks)
    }
}

/// The lines `what<TAB>got` that a program inside wrote.
pub(super) fn tried(output: &[u8]) -> Vec<Tried> {
    let text = String::from_utf8_lossy(output);
    let pairs = text.lines().filter_map(|line| line.split_once('\t'));
    // What comes from inside is printed on a terminal outside.
    let plain = |text: &str| -> String {
        let printable = |c: char| if c.is_control() { '?' } else { c };
        text.chars().map(printable).take(200).collect()
    };
    pairs
        .map(|(what, got)| Tried {
            what: plain(what),
            got: plain(got),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_wrote_cannot_steer_a_terminal() {
        let found = tried(b"noise\nrm -rf ~/\texit \x1b[31m1\n");
        let expected = [Tried {
            what: "rm -rf ~/".into(),
            got: "exit ?[31m1".into(),
        }];
        assert_eq!(found, expected);
    }
}
