//! What has become of a run's change set, in one small file that is replaced all or nothing.

use std::fmt;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::engine::DeedKind;

const VERSION: u32 = 1;
const NAME: &str = "branch.json";

/// What has become of a run's change set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BranchState {
    /// It waits to be merged or discarded.
    Sealed,
    /// It has been made real.
    Merged,
    /// It was made real and taken back.
    Reverted,
    /// It has been thrown away.
    Discarded,
}

impl fmt::Display for BranchState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sealed => "sealed",
            Self::Merged => "merged",
            Self::Reverted => "reverted",
            Self::Discarded => "discarded",
        })
    }
}

/// How far a deed has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    /// Nothing real has changed.
    Preparing,
    /// Everything is staged; real things are changing.
    Committing,
    /// Real things are being put back.
    Undoing,
    /// It is done; what was staged is being dropped.
    Finishing,
}

/// How far the deeds on a run have got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Journal {
    version: u32,
    pub(crate) state: BranchState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) deed: Option<(DeedKind, Phase)>,
}

impl Journal {
    /// The journal of the run in `run`.
    pub(crate) fn read(run: &Path) -> io::Result<Self> {
        let bytes = match std::fs::read(run.join(NAME)) {
            Ok(bytes) => bytes,
            // Nothing has been done to the change set yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self {
                    version: VERSION,
                    state: BranchState::Sealed,
                    deed: None,
                });
            }
            Err(error) => return Err(error),
        };
        let journal: Self = serde_json::from_slice(&bytes)?;
        match journal.version {
            VERSION => Ok(journal),
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "its version is unknown",
            )),
        }
    }

    /// Replaces the journal durably, all or nothing.
    pub(crate) fn write(&self, run: &Path) -> io::Result<()> {
        let draft = run.join("branch.draft");
        let mut file = File::create(&draft)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_data()?;
        std::fs::rename(draft, run.join(NAME))?;
        File::open(run)?.sync_all()
    }
}
