//! Measures every number that `docs/specification.md` promises, in one go, ours beside a peer's.
//!
//! What cannot be measured here says why and prints no number. Everything is built in the release
//! profile first. A package measures its own insides in an example named `measure` or `measure_*`
//! that takes a directory and prints one JSON object; `bench/examples.rs` says which of its numbers
//! are promised. A text in place of a number is why it could not be measured.

mod commands; // whole programs against their peers
mod examples; // what a package measures of its own insides
mod gate; // the gate beside squid and mitmproxy
mod place; // a directory for measurements, and the programs built

use std::collections::BTreeMap;

use crate::shell::{Failure, say};

/// A promised number.
#[derive(Debug)]
pub(crate) struct Promise {
    /// The measurement's id.
    pub(crate) id: &'static str,
    /// What is measured.
    pub(crate) what: &'static str,
    /// The unit; `×` when ours is judged as a multiple of the peer's milliseconds.
    unit: &'static str,
    /// Which side of the bound is good.
    good: Good,
    /// The bound that must hold.
    least: f64,
    /// The bound to reach for.
    goal: f64,
}

/// Which side of a bound is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Good {
    Below,
    Above,
}

const RATIO: &str = "×";
/// The unit of what is judged as a multiple of the peer's rate.
const RATE: &str = "× the rate";

/// A promise that what is measured stays below.
const fn below(
    id: &'static str,
    what: &'static str,
    unit: &'static str,
    (least, goal): (f64, f64),
) -> Promise {
    let good = Good::Below;
    Promise {
        id,
        what,
        unit,
        good,
        least,
        goal,
    }
}

/// A promise that what is measured stays above.
const fn above(
    id: &'static str,
    what: &'static str,
    unit: &'static str,
    (least, goal): (f64, f64),
) -> Promise {
    let good = Good::Above;
    Promise {
        id,
        what,
        unit,
        good,
        least,
        goal,
    }
}

/// Every promise, in the order of the specification.
pub(crate) const PROMISES: &[Promise] = &[
    below(
        "run_true",
        "`belljar run -- /bin/true`, ledger durable, against `bwrap`",
        RATIO,
        (2.0, 1.0),
    ),
    below(
        "create_destroy",
        "in-process create, first byte, destroyed; median",
        "ms",
        (4.0, 1.5),
    ),
    below(
        "idle_memory",
        "memory of an idle sandbox beyond its command",
        "MiB",
        (2.0, 0.7),
    ),
    above(
        "alive_sandboxes",
        "sandboxes alive at once, each answering",
        "sandboxes",
        (500.0, 2000.0),
    ),
    below(
        "network_create",
        "a start with a network that was kept ready, beyond one without; median",
        "ms",
        (1.0, 0.2),
    ),
    below(
        "workspace_build",
        "a build in the workspace against the host",
        RATIO,
        (1.1, 1.03),
    ),
    below(
        "file_diff",
        "diff of 5 changes in a tree of 200,000 files",
        "ms",
        (50.0, 50.0),
    ),
    below(
        "sqlite_branch",
        "branch of a 1 GB database by reflink",
        "ms",
        (5.0, 5.0),
    ),
    below(
        "sqlite_diff",
        "diff of 1,000 changed rows in 1 GB",
        "ms",
        (300.0, 50.0),
    ),
    below(
        "sqlite_merge",
        "merge of 200,000 changed rows",
        "s",
        (10.0, 2.0),
    ),
    below(
        "sqlite_revert",
        "revert of 200,000 changed rows",
        "s",
        (10.0, 2.0),
    ),
    above(
        "ledger_append",
        "durable records per second, 64 writers",
        "/s",
        (20_000.0, 100_000.0),
    ),
    below(
        "ledger_verify",
        "verification of 1,000,000 records",
        "s",
        (10.0, 2.0),
    ),
    below(
        "gate_added_passed",
        "added to a new HTTPS connection that is passed through; median",
        "ms",
        (1.0, 0.3),
    ),
    below(
        "gate_added_terminated",
        "added to a new HTTPS connection that is terminated; median",
        "ms",
        (3.0, 1.0),
    ),
    above(
        "gate_download_passed",
        "a download of 1 GiB, passed through, against a direct one",
        "of direct",
        (0.7, 0.9),
    ),
    above(
        "gate_download_terminated",
        "a download of 1 GiB, terminated, against a direct one",
        "of direct",
        (0.4, 0.6),
    ),
    above(
        "gate_requests_mitmproxy",
        "requests, 64 connections, terminated, against mitmproxy",
        RATE,
        (2.0, 2.0),
    ),
    above(
        "gate_requests_squid",
        "requests, 64 connections, terminated, against squid",
        RATE,
        (0.8, 1.0),
    ),
    below(
        "gate_idle_tunnels",
        "memory of 10,000 idle tunnels",
        "MiB",
        (300.0, 100.0),
    ),
];

/// What a measurement found.
#[derive(Clone, Debug, PartialEq)]
enum Outcome {
    /// A number, and the peer's when there is one.
    Measured { ours: f64, peer: Option<f64> },
    /// None, and why.
    Missing(String),
}

/// Outcomes by the id of their promise.
type Outcomes = BTreeMap<String, Outcome>;

impl Promise {
    /// The bound that must hold, in words.
    pub(crate) fn at_least(&self) -> String {
        self.bound(self.least)
    }

    /// The bound to reach for, in words.
    pub(crate) fn aim(&self) -> String {
        self.bound(self.goal)
    }

    fn bound(&self, value: f64) -> String {
        let sign = match self.good {
            Good::Below => "≤",
            Good::Above => "≥",
        };
        format!("{sign} {} {}", number(value), self.unit)
    }

    /// The number that is judged.
    fn judged(&self, ours: f64, peer: Option<f64>) -> Option<f64> {
        if self.unit == RATIO || self.unit == RATE {
            return peer.filter(|peer| *peer > 0.0).map(|peer| ours / peer);
        }
        Some(ours)
    }

    fn verdict(&self, outcome: &Outcome) -> String {
        let (ours, peer) = match outcome {
            Outcome::Missing(why) => return format!("not measured: {why}"),
            Outcome::Measured { ours, peer } => (*ours, *peer),
        };
        let Some(value) = self.judged(ours, peer) else {
            return "not measured: no peer".to_owned();
        };
        let holds = |bound: f64| match self.good {
            Good::Below => value <= bound,
            Good::Above => value >= bound,
        };
        match (holds(self.goal), holds(self.least)) {
            (true, _) => "aim reached".to_owned(),
            (false, true) => "holds".to_owned(),
            (false, false) => "MISSED".to_owned(),
        }
    }
}

/// Measures everything, or what is named.
///
/// # Errors
/// When a name is unknown, the build fails, or a measured number misses its bound.
pub(crate) fn run(arguments: &[&str]) -> Result<(), Failure> {
    let json = arguments.contains(&"--json");
    let named: Vec<&str> = arguments
        .iter()
        .copied()
        .filter(|argument| *argument != "--json")
        .collect();
    if let Some(unknown) = named
        .iter()
        .find(|id| PROMISES.iter().all(|p| p.id != **id))
    {
        let ids: Vec<_> = PROMISES.iter().map(|promise| promise.id).collect();
        let list = ids.join(", ");
        return Err(Failure::new(format!(
            "`{unknown}` is no measurement; there are {list}"
        )));
    }
    let wanted = |id: &str| named.is_empty() || named.contains(&id);
    let place = place::Place::new()?;
    let mut outcomes = commands::measure(&place, &wanted);
    outcomes.append(&mut examples::measure(&place, &wanted));
    outcomes.append(&mut gate::measure(&place, &wanted));
    let missing = Outcome::Missing("nothing measures it yet".to_owned());
    let mut missed = Vec::new();
    let mut rows = Vec::new();
    for promise in PROMISES.iter().filter(|promise| wanted(promise.id)) {
        let outcome = outcomes.get(promise.id).unwrap_or(&missing);
        if promise.verdict(outcome) == "MISSED" {
            missed.push(promise.id);
        }
        rows.push((promise, outcome));
    }
    if json {
        say(as_json(&rows));
    } else {
        as_table(&rows);
    }
    if missed.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!("missed: {}", missed.join(", "))))
}

fn as_json(rows: &[(&Promise, &Outcome)]) -> String {
    let rows: Vec<serde_json::Value> = rows
        .iter()
        .map(|(promise, outcome)| {
            let (ours, peer, why) = match outcome {
                Outcome::Measured { ours, peer } => (Some(*ours), *peer, None),
                Outcome::Missing(why) => (None, None, Some(why)),
            };
            let ratio = ours.zip(peer).map(|(ours, peer)| ours / peer);
            serde_json::json!({
                "id": promise.id, "what": promise.what, "unit": promise.unit,
                "ours": ours, "peer": peer, "ratio": ratio,
                "at_least": promise.at_least(), "aim": promise.aim(),
                "verdict": promise.verdict(outcome), "not_measured": why,
            })
        })
        .collect();
    serde_json::json!({ "measurements": rows }).to_string()
}

fn as_table(rows: &[(&Promise, &Outcome)]) {
    let head = [
        "what", "ours", "peer", "ratio", "at least", "aim", "verdict",
    ];
    let mut table = vec![head.map(str::to_owned)];
    for (promise, outcome) in rows {
        let (ours, peer) = match outcome {
            Outcome::Measured { ours, peer } => (Some(*ours), *peer),
            Outcome::Missing(_) => (None, None),
        };
        // A ratio compares times in milliseconds, or rates.
        let unit = match promise.unit {
            RATIO => "ms",
            RATE => "/s",
            unit => unit,
        };
        let shown = |value: Option<f64>, unit: &str| {
            value.map_or_else(
                || "-".to_owned(),
                |value| format!("{} {unit}", number(value)),
            )
        };
        table.push([
            promise.what.to_owned(),
            shown(ours, unit),
            shown(peer, unit),
            shown(ours.zip(peer).map(|(ours, peer)| ours / peer), RATIO),
            promise.at_least(),
            promise.aim(),
            promise.verdict(outcome),
        ]);
    }
    let mut widths = [0; 7];
    for row in &table {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    for row in table {
        let cells = row.iter().zip(widths);
        let cells: Vec<_> = cells
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        say(cells.join(" | ").trim_end());
    }
}

/// Three significant digits, thousands divided by commas.
fn number(value: f64) -> String {
    if value >= 1000.0 {
        let digits = format!("{value:.0}");
        let mut text = String::new();
        for (at, digit) in digits.chars().enumerate() {
            if at > 0 && (digits.len() - at).is_multiple_of(3) {
                text.push(',');
            }
            text.push(digit);
        }
        return text;
    }
    let decimals = match value {
        value if value >= 100.0 => 0,
        value if value >= 10.0 => 1,
        value if value >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.decimals$}");
    if text.contains('.') {
        return text.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (value, text) in [
            (0.7, "0.7"),
            (1.0, "1"),
            (1.034, "1.03"),
            (12.34, "12.3"),
            (300.0, "300"),
            (123_456.0, "123,456"),
            (1000.0, "1,000"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn verdicts_follow_the_bounds() {
        let ratio = below("x", "x", RATIO, (2.0, 1.0));
        let rate = above("y", "y", "/s", (20_000.0, 100_000.0));
        let measured = |ours, peer| Outcome::Measured { ours, peer };
        for (promise, outcome, wanted) in [
            (&ratio, measured(9.0, Some(10.0)), "aim reached"),
            (&ratio, measured(15.0, Some(10.0)), "holds"),
            (&ratio, measured(21.0, Some(10.0)), "MISSED"),
            (&ratio, measured(21.0, None), "not measured: no peer"),
            (&rate, measured(30_000.0, None), "holds"),
            (&rate, measured(3.0, None), "MISSED"),
            (
                &rate,
                Outcome::Missing("no disk".to_owned()),
                "not measured: no disk",
            ),
        ] {
            assert_eq!(promise.verdict(&outcome), wanted);
        }
        assert_eq!(ratio.at_least(), "≤ 2 ×");
        assert_eq!(rate.aim(), "≥ 100,000 /s");
    }

    #[test]
    fn a_missing_measurement_is_never_a_number() {
        let missing = Outcome::Missing("why".to_owned());
        let json = as_json(&[(&PROMISES[0], &missing)]);
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert!(value["measurements"][0]["ours"].is_null());
        assert_eq!(value["measurements"][0]["not_measured"], "why");
    }
}
