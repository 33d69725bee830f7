//! What is asked for, what comes of it, and what can go wrong.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use belljar_base::{AgentName, DatabaseName, HasKind, Kind, Refusal, RunId, VariableName};
use belljar_branch::WorkspaceError;
use belljar_branch::engine::{files, sqlite};
use belljar_ledger::error::AppendError;
use belljar_policy::Isolation;
use belljar_sandbox::{LimitHit, Limits, StartError, TemplateError};

use crate::app::facts::Changes;
use crate::app::network::{NetworkError, NetworkRequest, Traffic};
use crate::state::StateError;

/// What is asked for.
#[derive(Debug)]
pub struct RunRequest {
    /// Who acts.
    pub agent: AgentName,
    /// The isolation class, if one is demanded.
    pub isolation: Option<Isolation>,
    /// The program and its arguments.
    pub command: Vec<OsString>,
    /// The directory to branch.
    pub workspace: Option<PathBuf>,
    /// Where the command starts, if that is inside the workspace.
    pub directory: Option<PathBuf>,
    /// The databases to branch: SQLite files.
    pub databases: BTreeMap<DatabaseName, PathBuf>,
    /// Files and directories to show read-only.
    pub reads: Vec<PathBuf>,
    /// Variables to set.
    pub environment: Vec<(VariableName, OsString)>,
    /// What it may use.
    pub limits: Limits,
    /// What it may reach; none is nothing.
    pub network: Option<NetworkRequest>,
    /// Rows and columns of a terminal, if it gets one.
    pub terminal: Option<(u16, u16)>,
    /// The key that secrets are sealed with: never shown.
    pub key: Option<PathBuf>,
    /// The user's home directory: never a workspace.
    pub home: Option<PathBuf>,
}

/// How a run went.
#[derive(Debug)]
pub struct RunReport {
    /// The run.
    pub id: RunId,
    /// What `belljar run` exits with.
    pub exit_code: u8,
    /// The class that enclosed it.
    pub isolation: Isolation,
    /// From asking to clean-up, in milliseconds.
    pub duration_ms: u64,
    /// What it changed.
    pub changes: Changes,
    /// Limits that were reached.
    pub limits_hit: Vec<LimitHit>,
    /// How each database was branched.
    pub methods: BTreeMap<DatabaseName, sqlite::Method>,
    /// What it sent out.
    pub traffic: Traffic,
    /// The first and the last of its records.
    pub ledger: (u64, u64),
    /// What a person should know, a sentence each.
    pub notes: Vec<String>,
    /// Bytes it wrote to its output and its error output.
    pub written: [u64; 2],
    /// What was kept of its output and error output, where that was asked for.
    pub kept: [Vec<u8>; 2],
}

/// A run did not happen, or could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Policy refuses it.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// There is no command.
    #[error("there is no command to run; write it after `--`")]
    NoCommand,
    /// Something named cannot be used.
    #[error("cannot use `{path}`: {reason}")]
    Path {
        /// What was named.
        path: String,
        /// Why not, with the remedy.
        reason: String,
    },
    /// The workspace cannot be used.
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    /// A database cannot be branched.
    #[error("cannot branch the database `{name}`")]
    Database {
        /// Its name in the run.
        name: DatabaseName,
        /// Why.
        source: sqlite::BranchError,
    },
    /// The state directory fails.
    #[error(transparent)]
    State(#[from] StateError),
    /// The ledger does not take a record, so nothing may happen.
    #[error("cannot write to the ledger, so nothing may run")]
    Ledger(#[from] AppendError),
    /// The ledger does not take the record of what the run did.
    #[error("cannot write to the ledger what the run did, so that its changes are discarded")]
    Unrecorded(#[source] AppendError),
    /// The template cannot be made.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The sandbox cannot be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Its way out cannot be opened.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The command cannot be started.
    #[error("cannot {step} `{program}` inside the sandbox")]
    Command {
        /// The program.
        program: String,
        /// The step that failed.
        step: String,
        /// Why.
        source: std::io::Error,
    },
    /// The sandbox failed while it ran.
    #[error("the sandbox failed")]
    Sandbox(#[source] std::io::Error),
    /// What the run did to its workspace cannot be kept.
    #[error("cannot keep what the run changed in its workspace")]
    Files(#[source] files::SealError),
    /// What the run did to a database cannot be kept.
    #[error("cannot keep what the run changed in `{name}`")]
    Rows {
        /// The database.
        name: DatabaseName,
        /// Why.
        source: sqlite::SealError,
    },
}

impl HasKind for RunError {
    fn kind(&self) -> Kind {
        match self {
            Self::Refused(_) => Kind::Denied,
            Self::NoCommand | Self::Path { .. } => Kind::Invalid,
            Self::Workspace(error) => error.kind(),
            Self::Database { source, .. } => source.kind(),
            Self::State(error) => error.kind(),
            Self::Ledger(error) | Self::Unrecorded(error) => error.kind(),
            Self::Template(error) => error.kind(),
            Self::Start(error) => error.kind(),
            Self::Network(error) => error.kind(),
            Self::Command { .. } => Kind::NotFound,
            Self::Sandbox(_) => Kind::Unavailable,
            Self::Files(error) => error.kind(),
            Self::Rows { source, .. } => source.kind(),
        }
    }
}
