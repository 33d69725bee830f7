//! What a package measures of its own insides, in an example of its own.

use serde_json::Value;

use super::place::{Place, progress};
use super::{Outcome, Outcomes};
use crate::shell::{Failure, capture, program};

/// A number that an example prints: the promise it is for, its name there, and what one of the
/// promise's units is in it.
type Reading = (&'static str, &'static str, f64);

/// What each package's example prints, in one JSON object.
const READINGS: &[(&str, &[Reading])] = &[
    ("belljar-sandbox", ENCLOSING),
    ("belljar-server", ENCLOSING),
    (
        "belljar-ledger",
        &[
            ("ledger_append", "durable_records_per_s", 1.0),
            ("ledger_verify", "verify_ms", 1000.0),
        ],
    ),
    (
        "belljar-branch",
        &[
            ("sqlite_branch", "branch_us", 1000.0),
            ("sqlite_diff", "diff_ms", 1.0),
            ("sqlite_merge", "merge_ms", 1000.0),
            ("sqlite_revert", "revert_ms", 1000.0),
        ],
    ),
];
const ENCLOSING: &[Reading] = &[
    ("create_destroy", "create_destroy_p50_us", 1000.0),
    ("idle_memory", "idle_memory_kib", 1024.0),
    ("alive_sandboxes", "alive_sandboxes", 1.0),
    ("network_create", "ready_network_added_p50_us", 1000.0),
];

/// Runs the examples that measure something wanted.
pub(super) fn measure(place: &Place, wanted: &dyn Fn(&str) -> bool) -> Outcomes {
    let mut outcomes = Outcomes::new();
    for (package, example) in place.examples() {
        let readings = READINGS.iter().find(|(by, _)| *by == package);
        let readings = readings.map(|(_, readings)| *readings).unwrap_or_default();
        if !readings.iter().any(|(id, ..)| wanted(id)) {
            continue;
        }
        progress(&format!("{package}, example {example}"));
        let answer = run(place, package, example);
        for (id, name, per_unit) in readings {
            let outcome = match &answer {
                Ok(answer) => read(answer, name, *per_unit),
                Err(failure) => Outcome::Missing(failure.to_string()),
            };
            // Of two examples the one that has a number speaks.
            let known = outcomes.get(*id);
            if !matches!(known, Some(Outcome::Measured { .. })) {
                outcomes.insert((*id).to_owned(), outcome);
            }
        }
    }
    outcomes
}

/// What an example prints, measuring in a directory of its own on the repository's disk.
fn run(place: &Place, package: &str, example: &str) -> Result<Value, Failure> {
    let built = place.example(package, example)?;
    let directory = place.path().join(format!("{package}-{example}.d"));
    std::fs::create_dir(&directory)
        .map_err(|error| Failure::new(format!("cannot make a directory: {error}")))?;
    let mut command = program(&built.to_string_lossy(), &[]);
    command.arg(&directory).current_dir(&directory);
    let printed = capture(&mut command)?;
    let not_json = |error| Failure::new(format!("`{example}` does not print JSON: {error}"));
    let lines: Result<Vec<Value>, _> = printed.lines().map(serde_json::from_str).collect();
    let mut lines = lines.map_err(not_json)?;
    Ok(match lines.len() {
        1 => lines.remove(0),
        _ => of_databases(&lines),
    })
}

/// The medians of an example that prints one line per measurement of a database.
fn of_databases(lines: &[Value]) -> Value {
    let median = |measure: &str, rows: Option<u64>| -> Option<f64> {
        let same = |line: &&Value| {
            let is = |name: &str, wanted: Value| line.get(name) == Some(&wanted);
            // Changes that lie side by side: those that lie on every page are told in the notes.
            is("measure", measure.into())
                && rows.is_none_or(|rows| is("rows", rows.into()))
                && (rows != Some(200_000) || !is("spread", true.into()))
        };
        let times = lines.iter().filter(same);
        let mut times: Vec<f64> = times
            .filter_map(|line| line.get("milliseconds")?.as_f64())
            .collect();
        times.sort_by(f64::total_cmp);
        times.get(times.len() / 2).copied()
    };
    let copied = lines
        .iter()
        .any(|line| line.get("method") == Some(&"Copy".into()));
    let branch = match median("sqlite_branch", None) {
        Some(_) if copied => Value::from("the file system here shares no blocks, so it was copied"),
        Some(milliseconds) => Value::from(milliseconds * 1000.0),
        None => Value::Null,
    };
    serde_json::json!({
        "branch_us": branch,
        "diff_ms": median("sqlite_diff", Some(1000)),
        "merge_ms": median("sqlite_merge", Some(200_000)),
        "revert_ms": median("sqlite_revert", Some(200_000)),
    })
}

/// The number of that name; where it is text, the text says why it could not be measured.
fn read(answer: &Value, name: &str, per_unit: f64) -> Outcome {
    match answer.get(name) {
        Some(Value::String(why)) => Outcome::Missing(why.clone()),
        Some(value) => value.as_f64().map_or_else(
            || Outcome::Missing(format!("`{name}` is no number")),
            |value| Outcome::Measured {
                ours: value / per_unit,
                peer: None,
            },
        ),
        None => Outcome::Missing(format!("the example does not print `{name}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::PROMISES;

    #[test]
    fn lines_about_databases_become_medians() {
        let line = |measure: &str, milliseconds: f64, rows: u64| serde_json::json!({ "measure": measure, "milliseconds": milliseconds, "rows": rows });
        let lines = [
            line("sqlite_diff", 9.0, 1000),
            line("sqlite_diff", 1.0, 1000),
            line("sqlite_diff", 2.0, 1000),
            line("sqlite_diff", 70.0, 200_000),
            line("sqlite_merge", 5.0, 200_000),
        ];
        let answer = of_databases(&lines);
        assert_eq!(answer["diff_ms"], 2.0);
        assert_eq!(answer["merge_ms"], 5.0);
        assert!(answer["revert_ms"].is_null());
    }

    #[test]
    fn an_answer_becomes_outcomes() {
        let answer = serde_json::json!({ "diff_ms": 120, "branch_us": "no reflinks here" });
        let ours = Outcome::Measured {
            ours: 0.12,
            peer: None,
        };
        assert_eq!(read(&answer, "diff_ms", 1000.0), ours);
        let missing = |text: &str| Outcome::Missing(text.to_owned());
        assert_eq!(read(&answer, "branch_us", 1.0), missing("no reflinks here"));
        let none = missing("the example does not print `merge_ms`");
        assert_eq!(read(&answer, "merge_ms", 1.0), none);
    }

    #[test]
    fn every_reading_is_for_a_promise() {
        for (id, ..) in READINGS.iter().flat_map(|(_, readings)| *readings) {
            assert!(PROMISES.iter().any(|promise| promise.id == *id), "{id}");
        }
    }
}
