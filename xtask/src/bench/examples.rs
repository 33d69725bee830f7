//! What a package measures of its own insides, in an example of its own.

use std::process::{ExitStatus, Stdio};

use serde::Deserialize;

use super::place::{Place, progress};
use super::{Outcome, Outcomes, PROMISES};
use crate::shell::{Failure, program};

/// A line of an example.
#[derive(Debug, Deserialize)]
struct Line {
    id: String,
    value: Option<f64>,
    peer: Option<f64>,
    skipped: Option<String>,
}

/// Which package measures what.
const MEASURED_BY: &[(&str, &[&str])] = &[
    (
        "belljar-sandbox",
        &["create_destroy", "idle_memory", "alive_sandboxes"],
    ),
    (
        "belljar-server",
        &["create_destroy", "idle_memory", "alive_sandboxes"],
    ),
    ("belljar-ledger", &["ledger_append", "ledger_verify"]),
    (
        "belljar-branch",
        &[
            "sqlite_branch",
            "sqlite_diff",
            "sqlite_merge",
            "sqlite_revert",
            "file_diff",
        ],
    ),
];

/// Runs the examples that measure something wanted.
pub(super) fn measure(place: &Place, wanted: &dyn Fn(&str) -> bool) -> Outcomes {
    let mut outcomes = Outcomes::new();
    for (package, example) in place.examples() {
        let measures = MEASURED_BY.iter().find(|(by, _)| *by == package);
        let ids = measures.map(|(_, ids)| *ids).unwrap_or_default();
        if !ids.iter().any(|id| wanted(id)) {
            continue;
        }
        progress(&format!("{package}, example {example}"));
        let why = match run(place, package, example) {
            Ok((printed, end)) => {
                outcomes.append(&mut read(&printed));
                format!("the example of `{package}` did not print it and ended with {end}")
            }
            Err(failure) => failure.to_string(),
        };
        for id in ids {
            let missing = || Outcome::Missing(why.clone());
            outcomes.entry((*id).to_owned()).or_insert_with(missing);
        }
    }
    outcomes
}

/// What an example prints, and how it ends.
fn run(place: &Place, package: &str, example: &str) -> Result<(String, ExitStatus), Failure> {
    let built = place.example(package, example)?;
    let output = program(&built.to_string_lossy(), &[])
        .current_dir(place.path())
        .env("TMPDIR", place.path())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| Failure::new(format!("cannot start `{example}`: {error}")))?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok((printed, output.status))
}

/// The outcomes in what an example printed; lines that are not one are for people.
fn read(text: &str) -> Outcomes {
    let lines = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Line>(line).ok());
    let known = lines.filter(|line| PROMISES.iter().any(|promise| promise.id == line.id));
    known
        .map(|line| {
            let outcome = match line.value {
                Some(ours) if line.skipped.is_none() => Outcome::Measured {
                    ours,
                    peer: line.peer,
                },
                _ => Outcome::Missing(line.skipped.unwrap_or_else(|| "no value".to_owned())),
            };
            (line.id, outcome)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_outcomes() {
        let text = "for people\n{\"id\": \"ledger_append\", \"value\": 5.0}\n\
                    {\"id\": \"sqlite_branch\", \"skipped\": \"no reflinks here\"}\n\
                    {\"id\": \"unknown\", \"value\": 1}\n{\"id\": \"ledger_verify\"}\n";
        let outcomes = read(text);
        let ours = Outcome::Measured {
            ours: 5.0,
            peer: None,
        };
        assert_eq!(outcomes.len(), 3);
        assert_eq!(outcomes["ledger_append"], ours);
        let why = |text: &str| Outcome::Missing(text.to_owned());
        assert_eq!(outcomes["sqlite_branch"], why("no reflinks here"));
        assert_eq!(outcomes["ledger_verify"], why("no value"));
    }
}
