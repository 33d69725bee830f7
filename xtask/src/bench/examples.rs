//! What a package measures of its own insides, in an example of its own.

use std::process::Stdio;

use serde::Deserialize;

use super::place::{Place, progress};
use super::{Outcome, Outcomes, PROMISES};
use crate::shell::program;

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
        progress(&format!("{package}, {}", example.display()));
        let output = program(&example.to_string_lossy(), &[])
            .current_dir(place.path())
            .env("TMPDIR", place.path())
            .stderr(Stdio::inherit())
            .output();
        let why = match output {
            Ok(output) => {
                outcomes.append(&mut read(&String::from_utf8_lossy(&output.stdout)));
                format!(
                    "`{package}` does not print it, and ended with {}",
                    output.status
                )
            }
            Err(error) => format!("cannot start `{}`: {error}", example.display()),
        };
        for id in ids {
            let missing = || Outcome::Missing(why.clone());
            outcomes.entry((*id).to_owned()).or_insert_with(missing);
        }
    }
    outcomes
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
