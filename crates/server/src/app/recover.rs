//! What an interrupted Belljar left: runs whose supervisor died are cleaned up, merges that were
//! cut short are finished or undone. Every command does this first; it costs one directory
//! listing when there is nothing to do.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use belljar_base::{Clock, EXIT_FAILED, RunId};
use belljar_branch::engine::{DeedKind, Steps};
use belljar_branch::{BranchState, Recovery};
use belljar_ledger::error::AppendError;
use belljar_ledger::{Draft, Event, Text};
use belljar_sandbox::Host;

use super::engines::Parts;
use super::network;
use super::run::{RunError, Runner};
use crate::record::{RunRecord, Status};
use crate::state::{State, StateError};

/// Cleans up after dead commands; a sentence about each thing done or not possible.
///
/// # Errors
/// When the state directory or the ledger cannot be used.
pub fn recover(
    state: &State,
    clock: &dyn Clock,
    home: Option<&PathBuf>,
) -> Result<Vec<String>, RunError> {
    let mut told = torn(state, clock)?;
    for id in state.claimed()? {
        // Somebody alive holds it, or has just given it up.
        let Some(claim) = state.adopt(id).map_err(in_record(id))? else {
            continue;
        };
        match recover_one(state, clock, id, home) {
            Ok(what) => {
                write(state, clock, Some(id), &what)?;
                claim.release().map_err(in_record(id))?;
                told.push(format!("{id}: {what}"));
            }
            Err(why) => told.push(format!("{id}: cannot be recovered now: {why}")),
        }
    }
    Ok(told)
}

/// Writes down what of the ledger itself was cut off when it was opened.
fn torn(state: &State, clock: &dyn Clock) -> Result<Vec<String>, RunError> {
    let mut told = Vec::new();
    for torn in state.ledger.torn() {
        let what = format!(
            "the last write to the ledger was interrupted, and {} bytes of it were cut off at {}",
            torn.bytes, torn.place
        );
        write(state, clock, None, &what)?;
        told.push(what);
    }
    Ok(told)
}

fn write(
    state: &State,
    clock: &dyn Clock,
    run: Option<RunId>,
    what: &str,
) -> Result<(), AppendError> {
    let event = Event::Recovered {
        what: Text::from(what),
    };
    let draft = Draft {
        at: clock.now(),
        run,
        agent: None,
        event,
    };
    state.ledger.append(&[draft]).map(drop)
}

fn in_record(id: RunId) -> impl Fn(io::Error) -> StateError {
    move |source| StateError::Record { id, source }
}

/// Cleans up after one dead command; says what it did, or why it cannot.
fn recover_one(
    state: &State,
    clock: &dyn Clock,
    id: RunId,
    home: Option<&PathBuf>,
) -> Result<String, String> {
    let host = Host::probe().map_err(|error| error.to_string())?;
    let runner = Runner::new(state, clock, Arc::new(host)).map_err(|error| chain(&error))?;
    if let Err(error) = runner.jail().reap(id) {
        return Err(format!("its control groups are busy ({error})"));
    }
    let folder = state.run_folder(id);
    let record = match state.record(id) {
        Ok(record) => record,
        Err(StateError::Record { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            // Killed between the claim and the record: nothing else exists.
            remove(&folder).map_err(|error| error.to_string())?;
            return Ok("the run was interrupted before it began".to_owned());
        }
        Err(error) => {
            // A merge that was cut short must not be forgotten with the record it needs.
            return match belljar_branch::merge::is_interrupted(&folder) {
                Ok(false) => Ok(chain(&error)),
                Ok(true) | Err(_) => Err(chain(&error)),
            };
        }
    };
    match &record.status {
        Some(_) => finish(state, &record, home),
        None => abandon(state, record),
    }
}

/// Finishes or undoes what was done to a run's change set.
fn finish(state: &State, record: &RunRecord, home: Option<&PathBuf>) -> Result<String, String> {
    let folder = state.run_folder(record.id);
    let parts = Parts::new(record, home.cloned(), true);
    let recovery = belljar_branch::merge::recover(
        &folder,
        &mut |deed| parts.engines(deed),
        &mut Steps::unwatched(),
    );
    let recovery = recovery.map_err(|error| chain(&error))?;
    let branch = belljar_branch::merge::state(&folder).map_err(|error| chain(&error))?;
    if recovery == Recovery::Nothing && branch != BranchState::Merged {
        let records = state.ledger.of_run(record.id);
        let records = records.map_err(|error| chain(&error))?;
        if matches!(
            records.last().map(|last| &last.event),
            Some(Event::Discarded {})
        ) {
            belljar_branch::merge::discard(&folder).map_err(|error| chain(&error))?;
            return Ok("an interrupted discard was finished".to_owned());
        }
    }
    let interrupted = record.status.as_ref();
    let interrupted = interrupted.and_then(|status| status.interrupted.clone());
    Ok(match recovery {
        Recovery::Nothing => interrupted.unwrap_or_else(|| describe(&recovery)),
        Recovery::Finished(..) | Recovery::Undone(..) => describe(&recovery),
    })
}

/// Gives a run up whose supervisor died: what it had changed was not sealed.
fn abandon(state: &State, mut record: RunRecord) -> Result<String, String> {
    let folder = state.run_folder(record.id);
    for name in ["changes", "db"] {
        remove(&folder.join(name)).map_err(|error| error.to_string())?;
    }
    network::forget(&folder).map_err(|error| error.to_string())?;
    let what = "the run was interrupted; what it had changed is discarded".to_owned();
    record.status = Some(Status {
        exit_code: EXIT_FAILED,
        duration_ms: 0,
        limits_hit: Vec::new(),
        changed: false,
        interrupted: Some(what.clone()),
    });
    let kept = state.keep(&record, false);
    kept.map_err(|error| chain(&error)).map(|()| what)
}

fn remove(folder: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
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

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}
