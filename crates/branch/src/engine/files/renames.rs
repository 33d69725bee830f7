//! Pairs deleted files with added ones of the same bytes, for people to read.

use std::collections::{HashMap, HashSet, VecDeque};
use std::os::fd::AsFd as _;

use super::change::{Change, FileEntry};
use super::content;
use super::text::RelativePath;
use super::tree;
use crate::Workspace;

/// Each deleted file with an added one of the same bytes, if there is one. Only deleted files of a
/// size that was also added are read.
pub(crate) fn find(entries: &[FileEntry], lower: &Workspace) -> Vec<(RelativePath, RelativePath)> {
    let mut added: HashMap<&str, VecDeque<&RelativePath>> = HashMap::new();
    let mut sizes = HashSet::new();
    for entry in entries {
        let new = entry.new.as_ref().filter(|new| new.size > 0);
        let content = new.and_then(|new| new.content.as_ref());
        if let (Some(new), Some(content), Change::Added) = (new, content, entry.change()) {
            sizes.insert(new.size);
            let same = added.entry(&content.hash).or_default();
            same.push_back(&entry.path);
        }
    }
    let mut pairs = Vec::new();
    for entry in entries {
        let Some(old) = entry.old.as_ref().filter(|_| entry.new.is_none()) else {
            continue;
        };
        if !sizes.contains(&old.size) {
            continue;
        }
        let hash = hash(lower, &entry.path, old.size);
        let same = hash.and_then(|hash| added.get_mut(hash.as_str())?.pop_front());
        if let Some(path) = same {
            pairs.push((entry.path.clone(), path.clone()));
        }
    }
    pairs
}

/// The hash of a real file; none if it cannot be read, which only costs the pairing.
fn hash(lower: &Workspace, path: &RelativePath, size: u64) -> Option<String> {
    let (parent, name) = tree::open_parent(lower.root(), path).ok()?;
    let file = tree::open_file(parent.as_fd(), name).ok()?;
    content::hash(&file, size).ok()
}
