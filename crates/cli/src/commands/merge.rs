//! `belljar merge`, `revert` and `discard`.

use std::process::ExitCode;

use belljar_branch::engine::Conflict;
use belljar_server::SystemClock;
use belljar_server::app::merge::{self, DeedError, Done, MergeOptions};
use serde_json::json;

use super::open;
use crate::arguments::{DeedAsk, MergeAsk};
use crate::failure::Failure;
use crate::report;
use crate::settings::Settings;

pub(crate) fn merge(ask: &MergeAsk, settings: &Settings) -> Result<ExitCode, Failure> {
    let state = open(settings)?;
    let options = MergeOptions {
        allow_privileged: ask.allow_privileged,
        home: settings.home.clone(),
    };
    tell(
        merge::merge(&state, &SystemClock, &ask.run, &options),
        "merged",
        ask.json,
    )
}

pub(crate) fn revert(ask: &DeedAsk, settings: &Settings) -> Result<ExitCode, Failure> {
    let state = open(settings)?;
    let options = MergeOptions {
        allow_privileged: true,
        home: settings.home.clone(),
    };
    tell(
        merge::revert(&state, &SystemClock, &ask.run, &options),
        "reverted",
        ask.json,
    )
}

pub(crate) fn discard(ask: &DeedAsk, settings: &Settings) -> Result<ExitCode, Failure> {
    let state = open(settings)?;
    tell(
        merge::discard(&state, &SystemClock, &ask.run),
        "discarded",
        ask.json,
    )
}

fn tell(outcome: Result<Done, DeedError>, word: &str, as_json: bool) -> Result<ExitCode, Failure> {
    match outcome {
        Ok(done) => {
            let files = done.review.changes.file_counts();
            let id = done.review.record.id;
            if as_json {
                report::json(&json!({
                    "run": id.to_string(),
                    "state": word,
                    "files": {
                        "added": files.added,
                        "modified": files.modified,
                        "deleted": files.deleted,
                    },
                    "databases": done.review.changes.row_counts(),
                    "conflicts": [],
                    "notes": done.report.notes,
                }));
            } else {
                report::say(&format!("{id} {word}"));
                done.report.notes.iter().for_each(|note| report::say(note));
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            let conflicts: Vec<Conflict> = error.conflicts().to_vec();
            let mut failure = Failure::from(error);
            failure.conflicts = conflicts;
            Err(failure)
        }
    }
}
