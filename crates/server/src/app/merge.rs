//! Makes a change set real, takes it back, or throws it away. Each is decided, written, done, and
//! written again.

use std::path::PathBuf;

use belljar_base::{Clock, HasKind, Kind, Refusal, RunId};
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
use crate::state::{RunName, State, StateError};

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
            Self::Ledger(error) => error.kind(),
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
    let decision = decide_merge(&review.changes.merge_facts(options.allow_privileged));
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
    write(
        state,
        clock,
        &review,
        vec![decided("merge", Effect::Allow, &decision), started],
    )?;
    perform(state, clock, review, options, DeedKind::Merge, digest)
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
    write(state, clock, &review, vec![Event::RevertStarted { digest }])?;
    perform(state, clock, review, options, DeedKind::Revert, digest)
}

/// Throws a run's change set away.
///
/// # Errors
/// When it has been merged, or cannot be removed.
pub fn discard(state: &State, clock: &dyn Clock, name: &RunName) -> Result<Done, DeedError> {
    let review = review(state, name)?;
    belljar_branch::merge::discard(&state.run_folder(review.record.id))?;
    write(state, clock, &review, vec![Event::Discarded {}])?;
    Ok(Done {
        review,
        report: MergeReport::default(),
    })
}

fn perform(
    state: &State,
    clock: &dyn Clock,
    review: Review,
    options: &MergeOptions,
    kind: DeedKind,
    digest: Hash,
) -> Result<Done, DeedError> {
    let id = review.record.id;
    let folder = state.run_folder(id);
    let parts = Parts::new(
        &review.record,
        options.home.clone(),
        options.allow_privileged,
    );
    // A claim tells the next command to look here, should this one be killed.
    let failed = |source| StateError::Record { id, source };
    let claim = state
        .claim(id)
        .map_err(failed)?
        .ok_or(StateError::Alive(id))?;
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
    if !belljar_branch::merge::is_interrupted(&folder)? {
        claim.release().map_err(failed)?;
    }
    let report = outcome?;
    wrote?;
    Ok(Done { review, report })
}

pub(crate) fn finished(kind: DeedKind, digest: Hash) -> Event {
    match kind {
        DeedKind::Merge => Event::MergeFinished { digest },
        DeedKind::Revert => Event::RevertFinished { digest },
    }
}

fn refused(kind: DeedKind, error: &MergeError) -> Event {
    let conflicts = match error {
        MergeError::Conflicts(all) => all
            .iter()
            .map(|one| Text::from(format!("{}: {}: {}", one.engine, one.place, one.reason)))
            .collect(),
        other => vec![Text::from(other.to_string())],
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
    state.ledger.append(&drafts).map(drop)
}
