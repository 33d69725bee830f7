//! Makes a change set real, takes it back, or throws it away. Each is decided, written, done, and
//! written again.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use belljar_base::{Clock, HasKind, Kind, Refusal, RunId};
use belljar_branch::engine::files::RelativePath;
use belljar_branch::engine::{Conflict, DeedKind, Steps};
use belljar_branch::{BranchState, MergeError, MergeReport};
use belljar_ledger::error::AppendError;
use belljar_ledger::event::Effect;
use belljar_ledger::merkle::Hash;
use belljar_ledger::{Draft, Event, Text};
use belljar_policy::{Decision, decide_merge};

use super::engines::Parts;
use super::review::{Review, ReviewError, review};
use super::run::decided;
use crate::record::path_of;
use crate::state::{Claim, RunName, State, StateError};

/// What a merge may do beyond the ordinary, and what it needs to know.
#[derive(Clone, Debug, Default)]
pub struct MergeOptions {
    /// Let files get set-user-id or set-group-id bits and capabilities.
    pub allow_privileged: bool,
    /// The user's home directory.
    pub home: Option<PathBuf>,
}

/// A merge, revert or discard that was done.
#[derive(Debug)]
pub struct Done {
    /// The run, as it was before.
    pub review: Review,
    /// What a person must know.
    pub report: MergeReport,
}

/// A merge, revert or discard that was not done; nothing real has changed.
#[derive(Debug, thiserror::Error)]
pub enum DeedError {
    /// The run cannot be read.
    #[error(transparent)]
    Review(#[from] ReviewError),
    /// Policy refuses it.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// The run changed nothing.
    #[error("`{0}` changed nothing, so there is nothing to {1}")]
    Nothing(RunId, &'static str),
    /// Something is in the way, or failed.
    #[error(transparent)]
    Merge(#[from] MergeError),
    /// The ledger does not take a record, so nothing may happen.
    #[error("cannot write to the ledger, so nothing may change")]
    Ledger(#[from] AppendError),
    /// It was done, but the ledger took no record of its end.
    #[error("it was done, but the ledger has no record of that")]
    Unrecorded(#[source] AppendError),
    /// The state directory fails.
    #[error(transparent)]
    State(#[from] StateError),
}

impl HasKind for DeedError {
    fn kind(&self) -> Kind {
        match self {
            Self::Review(error) => error.kind(),
            Self::Refused(_) => Kind::Denied,
            Self::Nothing(..) => Kind::Conflict,
            Self::Merge(error) => error.kind(),
            Self::Ledger(error) | Self::Unrecorded(error) => error.kind(),
            Self::State(error) => error.kind(),
        }
    }
}

impl DeedError {
    /// What is in the way, if that is why.
    #[must_use]
    pub fn conflicts(&self) -> &[Conflict] {
        match self {
            Self::Merge(MergeError::Conflicts(conflicts)) => conflicts,
            Self::Review(_)
            | Self::Refused(_)
            | Self::Nothing(..)
            | Self::Merge(_)
            | Self::Ledger(_)
            | Self::Unrecorded(_)
            | Self::State(_) => &[],
        }
    }
}

/// Makes a run's change set real.
///
/// # Errors
/// When policy refuses it or something is in the way; nothing real has changed then.
pub fn merge(
    state: &State,
    clock: &dyn Clock,
    name: &RunName,
    options: &MergeOptions,
) -> Result<Done, DeedError> {
    let review = review(state, name)?;
    let id = review.record.id;
    if review.state == BranchState::Sealed && review.changes.is_empty() {
        return Err(DeedError::Nothing(id, "merge"));
    }
    let facts = review.changes.merge_facts(options.allow_privileged);
    let decision = match twice(&review) {
        Some(refusal) => Decision::Deny(refusal),
        None => decide_merge(&facts),
    };
    let digest = review.changes.digest();
    if let Decision::Hold(refusal) | Decision::Deny(refusal) = &decision {
        write(
            state,
            clock,
            &review,
            vec![decided("merge", Effect::Deny, &decision)],
        )?;
        return Err(DeedError::Refused(refusal.clone()));
    }
    let started = Event::MergeStarted { digest };
    let events = vec![decided("merge", Effect::Allow, &decision), started];
    let claim = begin(state, clock, &review, events)?;
    perform(state, clock, review, options, claim, DeedKind::Merge)
}

/// Takes a run's merge back.
///
/// # Errors
/// When something is in the way; nothing real has changed then.
pub fn revert(
    state: &State,
    clock: &dyn Clock,
    name: &RunName,
    options: &MergeOptions,
) -> Result<Done, DeedError> {
    let review = review(state, name)?;
    let digest = review.changes.digest();
    let events = vec![Event::RevertStarted { digest }];
    let claim = begin(state, clock, &review, events)?;
    perform(state, clock, review, options, claim, DeedKind::Revert)
}

/// Throws a run's change set away.
///
/// # Errors
/// When it has been merged, or cannot be removed.
pub fn discard(state: &State, clock: &dyn Clock, name: &RunName) -> Result<Done, DeedError> {
    let review = review(state, name)?;
    let id = review.record.id;
    let folder = state.run_folder(id);
    let sealed = review.state == BranchState::Sealed;
    let events = Vec::from_iter(sealed.then_some(Event::Discarded {}));
    let claim = begin(state, clock, &review, events)?;
    let outcome = belljar_branch::merge::discard(&folder);
    release(claim, state, id)?;
    outcome?;
    Ok(Done {
        review,
        report: MergeReport::default(),
    })
}

/// Refuses a database that a run changed as a file of its workspace, beside the branch of it: the
/// one would overwrite what is merged into the other. Its log and its journal count as the file.
fn twice(review: &Review) -> Option<Refusal> {
    let workspace = path_of(review.record.workspace.as_ref()?);
    let files = review.changes.files.as_ref()?;
    for (name, source) in &review.record.databases {
        let source = path_of(source);
        let Ok(below) = source.strip_prefix(&workspace) else {
            continue;
        };
        for suffix in ["", "-wal", "-shm", "-journal"] {
            let path = [below.as_os_str().as_bytes(), suffix.as_bytes()].concat();
            let Some(path) = RelativePath::new(path).filter(|path| files.entry(path).is_some())
            else {
                continue;
            };
            return Some(Refusal::new(
                "merge.database-as-file",
                format!(
                    "`{}` belongs to the database `{name}`, and was changed as a file beside its branch",
                    path.visible()
                ),
                "run it again and use the database by its variable alone, or without --db",
            ));
        }
    }
    None
}

/// Claims the run, which tells the next command to look here should this one be killed, and
/// writes what is about to happen.
fn begin(
    state: &State,
    clock: &dyn Clock,
    review: &Review,
    events: Vec<Event>,
) -> Result<Claim, DeedError> {
    let id = review.record.id;
    let failed = |source| StateError::Record { id, source };
    let claim = state.claim(id).map_err(failed)?;
    let claim = claim.ok_or(MergeError::Busy)?;
    match write(state, clock, review, events) {
        Ok(()) => Ok(claim),
        Err(error) => {
            release(claim, state, id)?;
            Err(error.into())
        }
    }
}

/// Gives a claim up, unless there is something left to recover.
fn release(claim: Claim, state: &State, id: RunId) -> Result<(), DeedError> {
    if !belljar_branch::merge::is_interrupted(&state.run_folder(id))? {
        let failed = |source| StateError::Record { id, source };
        claim.release().map_err(failed)?;
    }
    Ok(())
}

fn perform(
    state: &State,
    clock: &dyn Clock,
    review: Review,
    options: &MergeOptions,
    claim: Claim,
    kind: DeedKind,
) -> Result<Done, DeedError> {
    let digest = review.changes.digest();
    let id = review.record.id;
    let folder = state.run_folder(id);
    let parts = Parts::new(
        &review.record,
        options.home.clone(),
        options.allow_privileged,
    );
    let mut engines = |deed: &belljar_branch::engine::Deed| parts.engines(deed);
    let mut steps = Steps::unwatched();
    let outcome = match kind {
        DeedKind::Merge => belljar_branch::merge::merge(&folder, &mut engines, &mut steps),
        DeedKind::Revert => belljar_branch::merge::revert(&folder, &mut engines, &mut steps),
    };
    let event = match &outcome {
        Ok(_) => finished(kind, digest),
        Err(error) => refused(kind, error),
    };
    let wrote = write(state, clock, &review, vec![event]);
    let released = release(claim, state, id);
    let report = outcome?;
    wrote.map_err(DeedError::Unrecorded)?;
    released?;
    Ok(Done { review, report })
}

pub(crate) fn finished(kind: DeedKind, digest: Hash) -> Event {
    match kind {
        DeedKind::Merge => Event::MergeFinished { digest },
        DeedKind::Revert => Event::RevertFinished { digest },
    }
}

fn refused(kind: DeedKind, error: &MergeError) -> Event {
    let conflicts = if let MergeError::Conflicts(all) = error {
        let line = |one: &Conflict| format!("{}: {}: {}", one.engine, one.place, one.reason);
        all.iter().map(|one| Text::from(line(one))).collect()
    } else {
        vec![Text::from(error.to_string())]
    };
    match kind {
        DeedKind::Merge => Event::MergeRefused { conflicts },
        DeedKind::Revert => Event::RevertRefused { conflicts },
    }
}

fn write(
    state: &State,
    clock: &dyn Clock,
    review: &Review,
    events: Vec<Event>,
) -> Result<(), AppendError> {
    let (run, agent) = (Some(review.record.id), Some(review.record.agent.clone()));
    let draft = |event| Draft {
        at: clock.now(),
        run,
        agent: agent.clone(),
        event,
    };
    let drafts: Vec<Draft> = events.into_iter().map(draft).collect();
    if drafts.is_empty() {
        return Ok(());
    }
    state.ledger.append(&drafts).map(drop)
}
