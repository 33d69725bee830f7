//! What an interrupted Belljar left: runs whose supervisor died are cleaned up, merges that were
//! cut short are finished or undone. Every command does this first; it costs one directory
//! listing when there is nothing to do.

use std::path::PathBuf;

use belljar_base::{Clock, EXIT_FAILED, RunId};
use belljar_branch::engine::{DeedKind, Steps};
use belljar_branch::{MergeError, Recovery};
use belljar_ledger::{Draft, Event, Text};
use belljar_sandbox::Host;
use std::sync::Arc;

use super::engines::Parts;
use super::run::{RunError, Runner};
use crate::record::Status;
use crate::state::{Claim, State, StateError};

/// Cleans up after dead commands; a sentence about each thing done or not possible.
///
/// # Errors
/// When the state directory or the ledger cannot be used.
pub fn recover(
    state: &State,
    clock: &dyn Clock,
    home: Option<&PathBuf>,
) -> Result<Vec<String>, RunError> {
    let claimed = state.claimed()?;
    if claimed.is_empty() {
        return Ok(Vec::new());
    }
    let mut told = Vec::new();
    for id in claimed {
        let failed = |source| StateError::Record { id, source };
        // Somebody alive holds it.
        let Some(claim) = state.claim(id).map_err(failed)? else {
            continue;
        };
        match recover_one(state, clock, id, claim, home)? {
            Ok(what) => {
                let event = Event::Recovered {
                    what: Text::from(what.as_str()),
                };
                let draft = Draft {
                    at: clock.now(),
                    run: Some(id),
                    agent: None,
                    event,
                };
                state.ledger.append(&[draft])?;
                told.push(format!("{id}: {what}"));
            }
            Err(why) => told.push(format!("{id}: cannot be recovered now: {why}")),
        }
    }
    Ok(told)
}

fn recover_one(
    state: &State,
    clock: &dyn Clock,
    id: RunId,
    claim: Claim,
    home: Option<&PathBuf>,
) -> Result<Result<String, String>, RunError> {
    let failed = |source| StateError::Record { id, source };
    let host = Host::probe().map_err(RunError::Sandbox)?;
    let runner = Runner::new(state, clock, Arc::new(host))?;
    if let Err(error) = runner.jail().reap(id) {
        return Ok(Err(format!("its control groups are busy ({error})")));
    }
    let Ok(mut record) = state.record(id) else {
        // Killed between the claim and the record: nothing else exists.
        claim.release().map_err(failed)?;
        return Ok(Ok("the run was interrupted before it began".to_owned()));
    };
    let folder = state.run_folder(id);
    if record.status.is_some() {
        let parts = Parts::new(&record, home.cloned(), true);
        let outcome = belljar_branch::merge::recover(
            &folder,
            &mut |deed| parts.engines(deed),
            &mut Steps::unwatched(),
        );
        return match outcome {
            Ok(recovery) => {
                claim.release().map_err(failed)?;
                Ok(Ok(describe(&recovery)))
            }
            Err(error) => Ok(Err(chain(&error))),
        };
    }
    for name in ["changes", "db"] {
        match std::fs::remove_dir_all(folder.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Ok(Err(error.to_string()));
            }
            Ok(()) | Err(_) => {}
        }
    }
    let what = "the run was interrupted; what it had changed is discarded".to_owned();
    record.status = Some(Status {
        exit_code: EXIT_FAILED,
        duration_ms: 0,
        limits_hit: Vec::new(),
        changed: false,
        interrupted: Some(what.clone()),
    });
    state.keep(&record, false)?;
    claim.release().map_err(failed)?;
    Ok(Ok(what))
}

fn describe(recovery: &Recovery) -> String {
    let word = |kind: &DeedKind| match kind {
        DeedKind::Merge => "merge",
        DeedKind::Revert => "revert",
    };
    match recovery {
        Recovery::Nothing => "an interrupted command had left nothing to finish".to_owned(),
        Recovery::Finished(kind, _) => format!("an interrupted {} was finished", word(kind)),
        Recovery::Undone(kind, _) => format!("an interrupted {} was undone", word(kind)),
    }
}

fn chain(error: &MergeError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}
