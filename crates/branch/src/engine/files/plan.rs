//! What a merge is going to do to the workspace, step by step; on disk before the first step, so
//! that another process can go on or go back.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::change::{Change, FileChanges};
use super::review::Verdict;
use super::text::RelativePath;
use super::tree::{FileTime, NodeKind};

const NAME: &str = "plan.json";

/// The steps of a merge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Plan {
    /// Whole files or trees to put in place, take away or exchange.
    pub(crate) replaces: Vec<Replace>,
    /// Files and directories that stay and get other attributes.
    pub(crate) touches: Vec<RelativePath>,
    /// Directories in which names come and go: time of last modification before. The workspace
    /// itself is always among them, because the staging directory comes and goes in it.
    pub(crate) times: Vec<(Option<RelativePath>, FileTime)>,
    /// Directories that their owner cannot write to, with their modes; opened for the merge.
    pub(crate) locked: Vec<(RelativePath, u32)>,
    /// The time of last modification that those directories get.
    pub(crate) merged_at: FileTime,
}

/// One exchange between the staging directory and the workspace. Whether it has been done can be
/// told from the staging directory alone, whatever others do in the workspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Replace {
    /// The place in the workspace.
    pub(crate) path: RelativePath,
    /// Whether something is there before.
    pub(crate) takes: bool,
    /// The inode number of what is staged to be there after.
    pub(crate) gives: Option<u64>,
}

impl Plan {
    /// The plan for the entries that are to be applied. What is inside a tree that comes or goes
    /// as a whole needs no step of its own.
    pub(crate) fn new(changes: &FileChanges, verdicts: &[Verdict]) -> Self {
        let mut plan = Self {
            replaces: Vec::new(),
            touches: Vec::new(),
            times: Vec::new(),
            locked: Vec::new(),
            merged_at: (0, 0),
        };
        let mut whole: Option<&RelativePath> = None;
        for (entry, verdict) in changes.entries().iter().zip(verdicts) {
            let is_inside = whole.is_some_and(|whole| entry.path.below(whole).is_some());
            if !verdict.is_apply() || is_inside {
                continue;
            }
            let sides = || entry.old.iter().chain(&entry.new);
            let stays = |kind| matches!(kind, NodeKind::File | NodeKind::Directory);
            if entry.change() == Change::Attributes && sides().all(|node| stays(node.kind)) {
                plan.touches.push(entry.path.clone());
                continue;
            }
            if sides().any(|node| node.kind == NodeKind::Directory) {
                whole = Some(&entry.path);
            }
            plan.replaces.push(Replace {
                path: entry.path.clone(),
                takes: entry.old.is_some(),
                gives: entry.new.as_ref().map(|_| 0),
            });
        }
        plan
    }

    /// The directories in which names come and go.
    pub(crate) fn parents(&self) -> BTreeSet<Option<RelativePath>> {
        self.replaces
            .iter()
            .map(|replace| replace.path.split().0)
            .collect()
    }

    /// Reads the plan in `directory`, if one was stored.
    pub(crate) fn load(directory: &Path) -> io::Result<Option<Self>> {
        match std::fs::read(directory.join(NAME)) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Stores the plan durably, all or nothing.
    pub(crate) fn store(&self, directory: &Path) -> io::Result<()> {
        let draft = directory.join("plan.draft");
        let mut file = File::create(&draft)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_data()?;
        std::fs::rename(draft, directory.join(NAME))?;
        File::open(directory)?.sync_all()
    }

    /// Forgets the plan in `directory`.
    pub(crate) fn forget(directory: &Path) -> io::Result<()> {
        match std::fs::remove_file(directory.join(NAME)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}
