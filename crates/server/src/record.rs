//! What is kept of a run, as `run.json` in its directory.

use std::collections::BTreeMap;
use std::path::PathBuf;

use belljar_base::{AgentName, DatabaseName, RunId, Timestamp};
use belljar_branch::engine::files::ByteText;
use belljar_policy::Isolation;
use serde::{Deserialize, Serialize};

/// A run, as far as it has got.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunRecord {
    /// Version of this format.
    pub version: u32,
    /// The run.
    pub id: RunId,
    /// Who acted.
    pub agent: AgentName,
    /// The program and its arguments.
    pub command: Vec<ByteText>,
    /// How it was enclosed.
    pub isolation: Isolation,
    /// The directory that was branched, in bytes that need not be UTF-8.
    pub workspace: Option<ByteText>,
    /// The databases that were branched.
    pub databases: BTreeMap<DatabaseName, ByteText>,
    /// When it was asked for.
    pub asked: Timestamp,
    /// How it ended; absent while it runs, and after a crash of Belljar itself.
    pub status: Option<Status>,
}

/// How a run ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// The exit code that `belljar run` gave.
    pub exit_code: u8,
    /// From asking to clean-up, in milliseconds.
    pub duration_ms: u64,
    /// Limits that were reached.
    pub limits_hit: Vec<String>,
    /// Whether there is something to merge.
    pub changed: bool,
    /// Present when Belljar was interrupted and the run's changes are lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interrupted: Option<String>,
}

/// Version of `run.json`.
pub(crate) const VERSION: u32 = 1;

/// A path as it is kept.
pub(crate) fn path_of(text: &ByteText) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    PathBuf::from(std::ffi::OsString::from_vec(text.0.clone()))
}
