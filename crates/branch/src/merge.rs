//! Makes a run's change set real, all-or-nothing over files and several databases, and takes it
//! back. A journal in the run's directory says how far a deed has got, so that whoever comes after
//! a crash can finish or undo it.

use std::error::Error;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use belljar_base::{HasKind, Kind};

use crate::engine::{Conflict, Deed, DeedKind, Engine, EngineError, Steps};
use crate::journal::{Journal, Phase};
use crate::lock::Lock;

pub use crate::journal::BranchState;

/// Makes the engines for a deed: the same ones each time, in the same order.
pub type Engines<'a> =
    dyn FnMut(&Deed) -> Result<Vec<Box<dyn Engine>>, Box<dyn Error + Send + Sync>> + 'a;

/// What a merge or revert did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MergeReport {
    /// The engines that took part.
    pub engines: Vec<String>,
    /// What a person must know: edits that were kept aside, one sentence each.
    pub notes: Vec<String>,
}

/// What was found after a crash, and done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// No deed was interrupted.
    Nothing,
    /// The interrupted deed was finished.
    Finished(DeedKind, MergeReport),
    /// The interrupted deed was undone: everything is as it was before.
    Undone(DeedKind, MergeReport),
}

/// A merge, revert, discard or recovery did not happen. Unless it says otherwise, nothing real has
/// changed.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// Something is in the way.
    #[error("{} in the way; nothing was changed", places(.0.len()))]
    Conflicts(Vec<Conflict>),
    /// The change set is not in a state for it.
    #[error("the run is {found}, and only a run that is {wanted} can be {deed}")]
    State {
        /// What it is.
        found: BranchState,
        /// What it would have to be.
        wanted: BranchState,
        /// What was asked for.
        deed: &'static str,
    },
    /// A crash has interrupted an earlier deed.
    #[error("an earlier deed on this run was interrupted; it must be recovered first")]
    Interrupted,
    /// Another process is at it.
    #[error("another merge, revert or discard of this run is under way; try again later")]
    Busy,
    /// The engines could not be made.
    #[error("could not open what the run worked on")]
    Open(#[source] Box<dyn Error + Send + Sync>),
    /// An engine failed; whatever it and the others had done was undone.
    #[error("`{engine}` failed; nothing was changed")]
    Engine {
        /// Which one.
        engine: String,
        /// Why.
        #[source]
        source: EngineError,
    },
    /// An engine could not put things back, or not drop what it had staged. It will be tried again
    /// by a recovery; all that is needed for it is kept.
    #[error("`{engine}` could not finish; a recovery will try again")]
    Unfinished {
        /// Which one.
        engine: String,
        /// Why.
        #[source]
        source: EngineError,
    },
    /// The journal cannot be read or written.
    #[error("could not keep the journal of the run in `{}`", path.display())]
    Journal {
        /// The run's directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl HasKind for MergeError {
    fn kind(&self) -> Kind {
        match self {
            Self::Conflicts(_) | Self::State { .. } | Self::Interrupted => Kind::Conflict,
            Self::Busy | Self::Open(_) => Kind::Unavailable,
            Self::Engine { source, .. } | Self::Unfinished { source, .. } => source.kind(),
            Self::Journal { source, .. } => crate::engine::files::kind_of(source),
        }
    }
}

fn places(count: usize) -> String {
    match count {
        1 => "1 conflict is".to_owned(),
        many => format!("{many} conflicts are"),
    }
}

/// Makes the change set of the run in `run` real.
///
/// # Errors
/// When something is in the way or fails; nothing real has changed then.
pub fn merge(
    run: &Path,
    engines: &mut Engines<'_>,
    steps: &mut Steps<'_>,
) -> Result<MergeReport, MergeError> {
    Held::take(run)?.perform(DeedKind::Merge, engines, steps)
}

/// Takes a merge back: makes the inverse that the merge stored real, by the same rules.
///
/// # Errors
/// When something is in the way or fails; nothing real has changed then.
pub fn revert(
    run: &Path,
    engines: &mut Engines<'_>,
    steps: &mut Steps<'_>,
) -> Result<MergeReport, MergeError> {
    Held::take(run)?.perform(DeedKind::Revert, engines, steps)
}

/// Finishes or undoes whatever a crash interrupted. Cheap when nothing was.
///
/// # Errors
/// When it can be neither finished nor undone now; it can be tried again.
pub fn recover(
    run: &Path,
    engines: &mut Engines<'_>,
    steps: &mut Steps<'_>,
) -> Result<Recovery, MergeError> {
    if !is_interrupted(run)? {
        return Ok(Recovery::Nothing);
    }
    Held::take(run)?.recover(engines, steps)
}

/// Throws the change set away, with everything that was kept for it. Called again after a crash,
/// it removes what was left.
///
/// # Errors
/// When it has been merged, or its data cannot be removed.
pub fn discard(run: &Path) -> Result<(), MergeError> {
    let mut held = Held::take(run)?;
    if held.journal.state != BranchState::Discarded {
        held.expect(BranchState::Sealed, "discarded")?;
        held.write(None, BranchState::Discarded)?;
    }
    for name in ["changes", "db", "merge"] {
        match std::fs::remove_dir_all(run.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(in_journal(run)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// What would be in the way of a deed on the run now.
///
/// # Errors
/// When the run is not in a state for it, or something cannot be read.
pub fn conflicts(
    run: &Path,
    kind: DeedKind,
    engines: &mut Engines<'_>,
) -> Result<Vec<Conflict>, MergeError> {
    let held = Held::take(run)?;
    held.expect_for(kind)?;
    let mut engines = engines(&Deed::new(kind, run)).map_err(MergeError::Open)?;
    all_conflicts(&mut engines)
}

/// What has become of the run's change set.
///
/// # Errors
/// When the journal cannot be read.
pub fn state(run: &Path) -> Result<BranchState, MergeError> {
    Ok(Journal::read(run).map_err(in_journal(run))?.state)
}

/// Whether a crash has interrupted a deed on the run (or one is under way right now).
///
/// # Errors
/// When the journal cannot be read.
pub fn is_interrupted(run: &Path) -> Result<bool, MergeError> {
    Ok(Journal::read(run).map_err(in_journal(run))?.deed.is_some())
}

/// A run's journal, held against everybody else.
struct Held {
    run: PathBuf,
    journal: Journal,
    _lock: Lock,
}

impl Held {
    fn take(run: &Path) -> Result<Self, MergeError> {
        let lock = File::open(run)
            .and_then(Lock::take)
            .map_err(in_journal(run))?;
        let lock = lock.ok_or(MergeError::Busy)?;
        Ok(Self {
            run: run.to_path_buf(),
            journal: Journal::read(run).map_err(in_journal(run))?,
            _lock: lock,
        })
    }

    fn expect(&self, wanted: BranchState, deed: &'static str) -> Result<(), MergeError> {
        let found = self.journal.state;
        match self.journal.deed {
            Some(_) => Err(MergeError::Interrupted),
            None if found != wanted => Err(MergeError::State {
                found,
                wanted,
                deed,
            }),
            None => Ok(()),
        }
    }

    fn expect_for(&self, kind: DeedKind) -> Result<(), MergeError> {
        match kind {
            DeedKind::Merge => self.expect(BranchState::Sealed, "merged"),
            DeedKind::Revert => self.expect(BranchState::Merged, "reverted"),
        }
    }

    fn perform(
        mut self,
        kind: DeedKind,
        engines: &mut Engines<'_>,
        steps: &mut Steps<'_>,
    ) -> Result<MergeReport, MergeError> {
        self.expect_for(kind)?;
        let deed = Deed::new(kind, &self.run);
        let mut engines = engines(&deed).map_err(MergeError::Open)?;
        let conflicts = all_conflicts(&mut engines)?;
        if !conflicts.is_empty() {
            return Err(MergeError::Conflicts(conflicts));
        }
        self.reach(kind, Phase::Preparing, steps)?;
        if let Err(error) = each(&mut engines, |engine| engine.prepare(steps)) {
            return Err(self.give_up(kind, &mut engines, steps, error));
        }
        self.reach(kind, Phase::Committing, steps)?;
        if let Err(error) = each(&mut engines, |engine| engine.apply(steps)) {
            return Err(self.give_up(kind, &mut engines, steps, error));
        }
        self.reach(kind, Phase::Finishing, steps)?;
        self.finish(&mut engines, steps, after(kind))
    }

    fn recover(
        mut self,
        engines: &mut Engines<'_>,
        steps: &mut Steps<'_>,
    ) -> Result<Recovery, MergeError> {
        let Some((kind, phase)) = self.journal.deed else {
            return Ok(Recovery::Nothing);
        };
        let mut engines = engines(&Deed::new(kind, &self.run)).map_err(MergeError::Open)?;
        let is_done = match phase {
            Phase::Finishing => true,
            Phase::Preparing | Phase::Undoing => false,
            Phase::Committing => match each(&mut engines, |engine| engine.apply(steps)) {
                Ok(()) => true,
                Err(stopped) if stopped.is_stop() => return Err(stopped.into_error()),
                Err(_cannot_go_on) => false,
            },
        };
        if is_done {
            self.reach(kind, Phase::Finishing, steps)?;
            let report = self.finish(&mut engines, steps, after(kind))?;
            return Ok(Recovery::Finished(kind, report));
        }
        let report = self.undo(kind, &mut engines, steps)?;
        Ok(Recovery::Undone(kind, report))
    }

    /// Undoes everything because of an error, and says which.
    fn give_up(
        &mut self,
        kind: DeedKind,
        engines: &mut [Box<dyn Engine>],
        steps: &mut Steps<'_>,
        failure: Failure,
    ) -> MergeError {
        if failure.is_stop() {
            return failure.into_error();
        }
        match self.undo(kind, engines, steps) {
            Ok(_) => failure.into_error(),
            Err(worse) => worse,
        }
    }

    fn undo(
        &mut self,
        kind: DeedKind,
        engines: &mut [Box<dyn Engine>],
        steps: &mut Steps<'_>,
    ) -> Result<MergeReport, MergeError> {
        self.reach(kind, Phase::Undoing, steps)?;
        engines.reverse();
        each(engines, |engine| engine.undo(steps)).map_err(Failure::into_unfinished)?;
        self.finish(engines, steps, self.journal.state)
    }

    fn finish(
        &mut self,
        engines: &mut [Box<dyn Engine>],
        steps: &mut Steps<'_>,
        state: BranchState,
    ) -> Result<MergeReport, MergeError> {
        let mut notes = Vec::new();
        each(engines, |engine| {
            notes.extend(engine.finish(steps)?);
            Ok(())
        })
        .map_err(Failure::into_unfinished)?;
        self.write(None, state)?;
        let engines = engines
            .iter()
            .map(|engine| engine.name().to_owned())
            .collect();
        Ok(MergeReport { engines, notes })
    }

    fn reach(
        &mut self,
        kind: DeedKind,
        phase: Phase,
        steps: &mut Steps<'_>,
    ) -> Result<(), MergeError> {
        self.write(Some((kind, phase)), self.journal.state)?;
        let stopped = |source| MergeError::Engine {
            engine: "journal".to_owned(),
            source,
        };
        steps.reached("journal written").map_err(stopped)
    }

    fn write(
        &mut self,
        deed: Option<(DeedKind, Phase)>,
        state: BranchState,
    ) -> Result<(), MergeError> {
        self.journal.deed = deed;
        self.journal.state = state;
        self.journal.write(&self.run).map_err(in_journal(&self.run))
    }
}

/// The state after a deed.
const fn after(kind: DeedKind) -> BranchState {
    match kind {
        DeedKind::Merge => BranchState::Merged,
        DeedKind::Revert => BranchState::Reverted,
    }
}

/// An engine that failed.
struct Failure {
    engine: String,
    source: EngineError,
}

impl Failure {
    const fn is_stop(&self) -> bool {
        matches!(self.source, EngineError::Stopped(_))
    }

    fn into_error(self) -> MergeError {
        match self.source {
            EngineError::Conflicts(conflicts) => MergeError::Conflicts(conflicts),
            source @ (EngineError::Refused(_)
            | EngineError::Failed { .. }
            | EngineError::Stopped(_)) => MergeError::Engine {
                engine: self.engine,
                source,
            },
        }
    }

    fn into_unfinished(self) -> MergeError {
        MergeError::Unfinished {
            engine: self.engine,
            source: self.source,
        }
    }
}

fn each(
    engines: &mut [Box<dyn Engine>],
    mut act: impl FnMut(&mut dyn Engine) -> Result<(), EngineError>,
) -> Result<(), Failure> {
    for engine in engines {
        act(engine.as_mut()).map_err(|source| Failure {
            engine: engine.name().to_owned(),
            source,
        })?;
    }
    Ok(())
}

fn all_conflicts(engines: &mut [Box<dyn Engine>]) -> Result<Vec<Conflict>, MergeError> {
    let mut conflicts = Vec::new();
    each(engines, |engine| {
        conflicts.extend(engine.conflicts()?);
        Ok(())
    })
    .map_err(Failure::into_error)?;
    Ok(conflicts)
}

fn in_journal(run: &Path) -> impl Fn(io::Error) -> MergeError {
    let path = run.to_path_buf();
    move |source| MergeError::Journal {
        path: path.clone(),
        source,
    }
}
