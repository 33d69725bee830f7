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
    /// Columns of a line.
    width: usize,
}

const GOOD: &str = "32";
const BAD: &str = "1;31";
const HEAD: &str = "1";
const DIM: &str = "2";
/// Columns of a line where there is no terminal, and at most where there is one.
const WIDTH: usize = 96;
const WIDTH_MAX: usize = 140;
/// Columns of the words at the left.
const INDENT: usize = 11;

impl Screen {
    pub(super) fn new(settings: &Settings, json: bool, detailed: bool) -> Self {
        let coloured = report::coloured(settings.plain);
        let terminal = rustix::termios::tcgetwinsize(rustix::stdio::stdout()).ok();
        let columns = terminal.map(|size| usize::from(size.ws_col));
        let columns = columns.filter(|columns| *columns > 0).unwrap_or(WIDTH);
        Self {
            coloured,
            json,
            detailed,
            width: columns.clamp(60, WIDTH_MAX),
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
        let name = self.paint(HEAD, &format!("{:<20}", replay.incident.name));
        let verdict = self.paint(colour, word);
        let took = seconds(replay.duration);
        report::say(format!("{name}  {verdict}  {took}").trim_end());
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

    /// Three short paragraphs, and one more for each thing that a person must not miss.
    fn summary(&self, replay: &Replay) {
        let (incident, played) = (replay.incident, &replay.played);
        self.line("tried", incident.attack);
        let all = played.checks.len();
        let held = played.checks.iter().filter(|check| check.held).count();
        let first = played.checks.first().filter(|check| check.held);
        let first = first.map_or(String::new(), |check| {
            format!("{}: {}; ", check.what, check.found)
        });
        self.line("intact", &format!("{first}{held} of {all} checks held"));
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
        self.line(
            "happened",
            &format!("{}: {}", incident.when, incident.happened),
        );
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
            "allow" => "a person decides".to_owned(),
            other => format!("policy says {other}: {}", asked.reason),
        };
        let conflicts = match asked.conflicts {
            0 => String::new(),
            1 => "; 1 conflict".to_owned(),
            count => format!("; {count} conflicts"),
        };
        let text = format!(
            "would change {}{conflicts}; {decision} ({})",
            asked.counts(),
            asked.rule
        );
        self.line("merge", &text);
        if !asked.dangers.is_empty() {
            self.line("danger", &asked.dangers.join("; "));
        }
    }

    /// A word at the left, and text that wraps beside it.
    fn line(&self, word: &str, text: &str) {
        let mut word = word.to_owned();
        for part in wrap(text, self.width - INDENT) {
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
                    "when": one.when,
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
        .map(|one| {
            vec![
                one.name.to_owned(),
                one.when.to_owned(),
                one.attack.to_owned(),
            ]
        })
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
