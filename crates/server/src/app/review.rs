//! What a run did: its change set as it was kept, and what stands in the way of a merge now.

use std::io::ErrorKind;
use std::path::PathBuf;

use belljar_base::{HasKind, Kind, RunId};
use belljar_branch::engine::files::{self, FileChanges};
use belljar_branch::engine::{Conflict, DeedKind, sqlite};
use belljar_branch::{BranchState, MergeError};

use super::engines::Parts;
pub use super::facts::Changes;
use crate::record::RunRecord;
use crate::state::{RunName, State, StateError};

/// A run with its change set.
#[derive(Debug)]
pub struct Review {
    /// What is kept of the run.
    pub record: RunRecord,
    /// What has become of its change set.
    pub state: BranchState,
    /// What it changed; empty when the change set is gone.
    pub changes: Changes,
}

/// A run cannot be reviewed.
#[derive(Debug, thiserror::Error)]
pub enum ReviewError {
    /// There is no such run, or it cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// Its file changes cannot be read.
    #[error("cannot read what `{id}` changed in its workspace")]
    Files {
        /// The run.
        id: RunId,
        /// Why.
        source: files::LoadError,
    },
    /// Its row changes cannot be read.
    #[error("cannot read what `{id}` changed in a database")]
    Rows {
        /// The run.
        id: RunId,
        /// Why.
        source: sqlite::LoadError,
    },
    /// What has become of it cannot be read.
    #[error(transparent)]
    Branch(#[from] MergeError),
}

impl HasKind for ReviewError {
    fn kind(&self) -> Kind {
        match self {
            Self::State(error) => error.kind(),
            Self::Files { .. } | Self::Rows { .. } => Kind::Unavailable,
            Self::Branch(error) => error.kind(),
        }
    }
}

/// Loads a run and its change set.
///
/// # Errors
/// When there is no such run, it is under way, or what is kept of it cannot be read.
pub fn review(state: &State, name: &RunName) -> Result<Review, ReviewError> {
    let id = state.find(name)?;
    let record = state.record(id)?;
    let Some(status) = &record.status else {
        let alive = state.is_claimed(id);
        let why = if alive {
            StateError::Alive(id)
        } else {
            StateError::Lost(id)
        };
        return Err(why.into());
    };
    let folder = state.run_folder(id);
    let branch = belljar_branch::merge::state(&folder)?;
    let mut changes = Changes::default();
    if status.changed && branch != BranchState::Discarded {
        if record.workspace.is_some() {
            let loaded = FileChanges::load(&folder.join("changes"));
            changes.files = Some(loaded.map_err(|source| ReviewError::Files { id, source })?);
        }
        for name in record.databases.keys() {
            let loaded = sqlite::ChangeSet::load(&folder.join("db").join(name.as_str()))
                .map_err(|source| ReviewError::Rows { id, source })?;
            changes.databases.insert(name.clone(), loaded.changes);
        }
    }
    Ok(Review {
        record,
        state: branch,
        changes,
    })
}

/// What would be in the way of a merge (or, of a merged run, a revert) now.
///
/// # Errors
/// When the run's change set, or what it worked on, cannot be read.
pub fn conflicts(
    state: &State,
    review: &Review,
    home: Option<PathBuf>,
) -> Result<Vec<Conflict>, MergeError> {
    let parts = Parts::new(&review.record, home, true);
    let kind = match review.state {
        BranchState::Merged => DeedKind::Revert,
        BranchState::Sealed | BranchState::Reverted | BranchState::Discarded => DeedKind::Merge,
    };
    let folder = state.run_folder(review.record.id);
    belljar_branch::merge::conflicts(&folder, kind, &mut |deed| parts.engines(deed))
}

/// Every run that something is kept of, newest first.
#[derive(Debug, Default)]
pub struct Runs {
    /// Each with what became of it, and whether it is under way.
    pub known: Vec<(RunRecord, BranchState, bool)>,
    /// Those whose record cannot be read.
    pub unreadable: Vec<ReviewError>,
}

/// Lists the runs.
///
/// # Errors
/// When the state directory cannot be read.
pub fn runs(state: &State) -> Result<Runs, StateError> {
    let mut ids = state.run_ids()?;
    ids.sort_unstable_by(|a, b| b.cmp(a));
    let mut runs = Runs::default();
    for id in ids {
        let record = match state.record(id) {
            Ok(record) => record,
            // It is only just beginning.
            Err(StateError::Record { source, .. }) if source.kind() == ErrorKind::NotFound => {
                continue;
            }
            Err(error) => {
                runs.unreadable.push(error.into());
                continue;
            }
        };
        match belljar_branch::merge::state(&state.run_folder(id)) {
            Ok(branch) => {
                let underway = record.status.is_none() && state.is_claimed(id);
                runs.known.push((record, branch, underway));
            }
            Err(error) => runs.unreadable.push(error.into()),
        }
    }
    Ok(runs)
}
