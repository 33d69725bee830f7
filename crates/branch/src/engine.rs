//! One engine per kind of thing that is branched; all answer the same questions, so that `merge`
//! can make a change set over files and several databases real all-or-nothing.
//!
//! The life of an engine is `conflicts` → `prepare` → `apply` → `finish`, or `undo` → `finish`. A
//! crash may fall between any two instructions: then a new engine, made from the same directories
//! by another process, gets `apply` or `undo` and then `finish`, without `conflicts` or `prepare`.
//! So whatever `apply` and `undo` need to know is on disk when `prepare` returns.

use std::error::Error;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use belljar_base::{HasKind, Kind, Refusal};
use serde::{Deserialize, Serialize};

pub mod files; // a directory
pub mod sqlite; // a SQLite database

/// Makes one change set real on one real thing, and takes it back.
pub trait Engine {
    /// `files`, or `db-` and the database's name: unique in a merge, safe as a file name.
    fn name(&self) -> &str;

    /// Everything that stands in the way, as it is now. Reads only; may take the lock that keeps a
    /// second merge of the same thing out, which is then held until the engine is dropped.
    ///
    /// # Errors
    /// When the change set or the real thing cannot be read.
    fn conflicts(&mut self) -> Result<Vec<Conflict>, EngineError>;

    /// Stores the inverse durably at [`Deed::inverse`], and stages what `apply` needs. Nothing
    /// real has changed when this returns, and nothing is left to run out of (disk, above all).
    ///
    /// # Errors
    /// When something cannot be written; `undo` and `finish` then clean up.
    fn prepare(&mut self, steps: &mut Steps<'_>) -> Result<(), EngineError>;

    /// Makes the change set real. Idempotent: called again after a crash at any point of an
    /// earlier `apply`, it does what is left.
    ///
    /// # Errors
    /// [`EngineError::Conflicts`] when something changed since `conflicts`; the coordinator then
    /// calls `undo` on every engine.
    fn apply(&mut self, steps: &mut Steps<'_>) -> Result<(), EngineError>;

    /// Puts everything back as it was before `apply`, however far `prepare` or `apply` got.
    /// Idempotent; does nothing when nothing was done.
    ///
    /// # Errors
    /// When something cannot be put back; what is on disk stays, so that it can be tried again.
    fn undo(&mut self, steps: &mut Steps<'_>) -> Result<(), EngineError>;

    /// Drops what was staged; the inverse stays. Idempotent. Returns what could not be dropped
    /// because it is somebody's work (an edit made while a merge was being undone), one sentence
    /// each.
    ///
    /// # Errors
    /// When staged data cannot be removed; nothing real is at risk then.
    fn finish(&mut self, steps: &mut Steps<'_>) -> Result<Vec<String>, EngineError>;
}

/// One thing that stands in the way of a merge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflict {
    /// The engine that found it: `files`, or `db-` and the database's name.
    pub engine: String,
    /// Where: a path, or a table and key. Printable: control characters are escaped.
    pub place: String,
    /// What is in the way, and what to do about it where that is not plain.
    pub reason: String,
}

/// Why an engine could not do its part.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Something changed underneath.
    #[error("{} places changed underneath", .0.len())]
    Conflicts(Vec<Conflict>),
    /// It is not allowed, or not possible without losing something.
    #[error("{0}")]
    Refused(Refusal),
    /// A step failed.
    #[error("could not {doing}")]
    Failed {
        /// The step, to follow "could not": `stage the new files`.
        doing: String,
        /// Its kind.
        kind: Kind,
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// A test asked to stop here, as a crash would.
    #[error("stopped at `{0}`")]
    Stopped(String),
}

impl HasKind for EngineError {
    fn kind(&self) -> Kind {
        match self {
            Self::Conflicts(_) => Kind::Conflict,
            Self::Refused(_) => Kind::Denied,
            Self::Failed { kind, .. } => *kind,
            Self::Stopped(_) => Kind::Bug,
        }
    }
}

impl EngineError {
    /// A step that failed.
    pub fn failed(
        doing: impl Into<String>,
        kind: Kind,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self::Failed {
            doing: doing.into(),
            kind,
            source: source.into(),
        }
    }
}

/// Told of every step; a test's answer may be to stop right there, as a crash would.
#[expect(
    missing_debug_implementations,
    reason = "a closure has nothing to show"
)]
pub struct Steps<'a>(Option<&'a mut Watch<'a>>);

/// What a test answers at a step.
type Watch<'a> = dyn FnMut(&str) -> ControlFlow<()> + 'a;

impl<'a> Steps<'a> {
    /// Never stops: the real thing.
    #[must_use]
    pub const fn unwatched() -> Self {
        Self(None)
    }

    /// Asks `watch` at each step.
    pub fn watched(watch: &'a mut (dyn FnMut(&str) -> ControlFlow<()> + 'a)) -> Self {
        Self(Some(watch))
    }

    /// The step `name` has been reached: what was written before it is on disk as far as it will
    /// be. Whoever gets the error returns it at once and cleans nothing up.
    ///
    /// # Errors
    /// [`EngineError::Stopped`] when a test wants a crash here.
    pub fn reached(&mut self, name: &str) -> Result<(), EngineError> {
        match self.0.as_mut().map(|watch| watch(name)) {
            Some(ControlFlow::Break(())) => Err(EngineError::Stopped(name.to_owned())),
            Some(ControlFlow::Continue(())) | None => Ok(()),
        }
    }
}

/// What is being done to a run's change set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeedKind {
    /// Make the change set real.
    Merge,
    /// Make the stored inverse real.
    Revert,
}

/// A deed on one run, and where its parts are on disk. An engine is made from it, and need not
/// know whether it merges or reverts: it makes `changes` real and writes `inverse`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deed {
    run: PathBuf,
    kind: DeedKind,
}

impl Deed {
    /// A deed on the run whose directory is `run`.
    #[must_use]
    pub fn new(kind: DeedKind, run: impl Into<PathBuf>) -> Self {
        Self {
            run: run.into(),
            kind,
        }
    }

    /// Merge or revert.
    #[must_use]
    pub const fn kind(&self) -> DeedKind {
        self.kind
    }

    /// The run's directory.
    #[must_use]
    pub fn run(&self) -> &Path {
        &self.run
    }

    /// Where the journal of this deed and all it keeps is: `merge/` or `revert/` in the run.
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        self.run.join(match self.kind {
            DeedKind::Merge => "merge",
            DeedKind::Revert => "revert",
        })
    }

    /// The change set that `engine` makes real. A merge reads what was sealed (`changes/` for
    /// files, `db/NAME/` for the database `db-NAME`), a revert what the merge stored.
    #[must_use]
    pub fn changes(&self, engine: &str) -> PathBuf {
        match (self.kind, engine.strip_prefix("db-")) {
            (DeedKind::Merge, None) => self.run.join("changes"),
            (DeedKind::Merge, Some(database)) => self.run.join("db").join(database),
            (DeedKind::Revert, _) => self.run.join("merge").join(engine),
        }
    }

    /// The directory in which `engine` stores the inverse and whatever it needs to remember; the
    /// engine creates it in `prepare`.
    #[must_use]
    pub fn inverse(&self, engine: &str) -> PathBuf {
        self.directory().join(engine)
    }
}
