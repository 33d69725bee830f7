//! One screen for a person, one object for a script.

use std::time::Duration;

use serde_json::{Value, json};

use super::asked::Asked;
use super::incident::{Incident, Replay};
use crate::report;
use crate::settings::Settings;

/// Where replays are shown.
#[derive(Debug)]
pub(super) struct Screen {
    coloured: bool,
    json: bool,
    /// One incident alone gets every line.
    detailed: bool,
}

const GOOD: &str = "32";
const BAD: &str = "1;31";
const HEAD: &str = "1";
const DIM: &str = "2";
/// Columns of a line of text.
const WIDTH: usize = 96;
/// Columns of the words at the left.
const INDENT: usize = 11;

impl Screen {
    pub(super) fn new(settings: &Settings, json: bool, detailed: bool) -> Self {
        let coloured = report::coloured(settings.plain);
        Self {
            coloured,
            json,
            detailed,
        }
    }

    /// Shows a replay as soon as it is over.
    pub(super) fn replay(&self, replay: &Replay) {
        if self.json {
            return;
        }
        let (word, colour) = if replay.contained() {
            ("contained", GOOD)
        } else {
            ("NOT CONTAINED", BAD)
        };
        let name = self.paint(HEAD, replay.incident.name);
        let verdict = self.paint(colour, word);
        report::say(&format!("{name}  {verdict}  {}", seconds(replay.duration)));
        if self.detailed {
            self.details(replay);
        } else {
            self.summary(replay);
        }
    }

    /// The last line, or the one object.
    pub(super) fn verdict(&self, replays: &[Replay], duration: Duration) {
        let good = replays.iter().filter(|one| one.contained()).count();
        let contained = good == replays.len();
        if self.json {
            let incidents: Vec<Value> = replays.iter().map(object).collect();
            report::json(&json!({ "incidents": incidents, "contained": contained }));
            return;
        }
        let checks: usize = replays.iter().map(|one| one.played.checks.len()).sum();
        let held = replays.iter().flat_map(|one| &one.played.checks);
        let held = held.filter(|check| check.held).count();
        let text = format!(
            "{good} of {} contained, {held} of {checks} checks held, in {}",
            replays.len(),
            seconds(duration)
        );
        report::say(&self.paint(if contained { GOOD } else { BAD }, &text));
        if !self.detailed {
            let text = "belljar demo NAME shows everything that one of them tried and got";
            report::say(&self.paint(DIM, text));
        }
    }

    /// Four lines, and one more for each thing that a person must not miss.
    fn summary(&self, replay: &Replay) {
        let (incident, played) = (replay.incident, &replay.played);
        self.line("tried", incident.attack);
        let shown = if replay.contained() {
            format!("{} checks held", played.checks.len())
        } else {
            "see below".to_owned()
        };
        let first = played.checks.iter().find(|check| check.held);
        let intact = first.map_or(shown.clone(), |check| {
            format!("{}: {}; {shown}", check.what, check.found)
        });
        self.line("intact", &intact);
        for check in played.checks.iter().filter(|check| !check.held) {
            let text = format!(
                "{}: expected {}, found {}",
                check.what, check.expected, check.found
            );
            self.line(&self.paint(BAD, "NOT HELD"), &text);
        }
        self.asked(played.asked.as_ref());
        played.notes.iter().for_each(|note| self.line("note", note));
    }

    fn details(&self, replay: &Replay) {
        let (incident, played) = (replay.incident, &replay.played);
        self.line("happened", &format!("{}: {}", incident.year, incident.happened));
        for (place, tried) in played.tried.iter().enumerate() {
            let word = if place == 0 { "tried" } else { "" };
            self.line(word, &format!("{}  →  {}", tried.what, tried.got));
        }
        for (place, check) in played.checks.iter().enumerate() {
            let word = if place == 0 { "checked" } else { "" };
            let text = if check.held {
                format!("{} {}: {}", self.paint(GOOD, "✓"), check.what, check.found)
            } else {
                format!(
                    "{} {}: expected {}, found {}",
                    self.paint(BAD, "✗"),
                    check.what,
                    check.expected,
                    check.found
                )
            };
            self.line(word, &text);
        }
        self.asked(played.asked.as_ref());
        played.notes.iter().for_each(|note| self.line("note", note));
    }

    fn asked(&self, asked: Option<&Asked>) {
        let Some(asked) = asked else {
            self.line("merge", "nothing to merge: the run left no change");
            return;
        };
        let decision = match asked.effect {
            "allow" => "happens only if a person asks for it".to_owned(),
            other => format!("policy says {other}: {}", asked.reason),
        };
        let conflicts = match asked.conflicts {
            0 => String::new(),
            1 => "; 1 conflict".to_owned(),
            count => format!("; {count} conflicts"),
        };
        let text = format!(
            "would ask for {}{conflicts}; {decision} ({})",
            asked.counts(),
            asked.rule
        );
        self.line("merge", &text);
        for danger in &asked.dangers {
            self.line("", &format!("danger: {danger}"));
        }
    }

    /// A word at the left, and text that wraps beside it.
    fn line(&self, word: &str, text: &str) {
        let mut word = word.to_owned();
        for part in wrap(text, WIDTH - INDENT) {
            let visible = if word.contains('\x1b') {
                "NOT HELD".len()
            } else {
                word.len()
            };
            let gap = " ".repeat(INDENT.saturating_sub(visible + 2));
            report::say(&format!("  {}{gap}{part}", self.paint(DIM, &word)));
            word.clear();
        }
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.coloured && !text.is_empty() {
            format!("\x1b[{colour}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// The incidents, a line each.
pub(super) fn list(incidents: &[&Incident], as_json: bool) {
    if as_json {
        let all: Vec<Value> = incidents
            .iter()
            .map(|one| {
                json!({
                    "name": one.name,
                    "year": one.year,
                    "happened": one.happened,
                    "attack": one.attack,
                })
            })
            .collect();
        report::json(&json!({ "incidents": all }));
        return;
    }
    let rows: Vec<Vec<String>> = incidents
        .iter()
        .map(|one| vec![one.name.to_owned(), one.year.to_string(), one.attack.to_owned()])
        .collect();
    report::table(&rows);
}

fn object(replay: &Replay) -> Value {
    let played = &replay.played;
    let tried: Vec<Value> = played
        .tried
        .iter()
        .map(|one| json!({ "what": one.what, "got": one.got }))
        .collect();
    json!({
        "name": replay.incident.name,
        "tried": tried,
        "contained": replay.contained(),
        "checks": played.checks,
        "merge_would_ask": played.asked.as_ref().map(Asked::json),
        "notes": played.notes,
        "duration_ms": u64::try_from(replay.duration.as_millis()).unwrap_or(u64::MAX),
    })
}

/// A time as a person reads it.
pub(super) fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}

/// Breaks a text at its blanks.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split(' ') {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line += word;
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_broken_at_blanks() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("unbreakable", 3), ["unbreakable"]);
        assert_eq!(wrap("", 3), [""]);
    }
}
