//! Compares a change set with the workspace as it is now: what can be applied, what is so already,
//! and what is in the way.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};

use super::change::{Change, FileChanges, FileEntry};
use super::content;
use super::node::{self, Identity, Node};
use super::text::{RelativePath, visible};
use super::tree::{self, NodeKind};

/// What is to be done about one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The real one is what the run started from: apply. With what was seen there, if anything.
    Apply(Option<Identity>),
    /// The real one is what the run made of it already.
    Already,
    /// Something is in the way: place and reason.
    Conflict(String, String),
}

impl Verdict {
    /// Whether the entry is to be applied.
    pub(crate) const fn is_apply(&self) -> bool {
        matches!(self, Self::Apply(_))
    }
}

/// What an earlier merge took out and put back: the very same files, but the kernel has noted that.
pub(crate) type Restored = HashMap<RelativePath, Identity>;

/// Judges every entry, in order.
pub(crate) fn review(
    changes: &FileChanges,
    root: BorrowedFd<'_>,
    restored: &Restored,
    allow_privileged: bool,
) -> io::Result<Vec<Verdict>> {
    let mut verdicts = Vec::with_capacity(changes.entries().len());
    for entry in changes.entries() {
        let live = node::read_path(root, &entry.path)?;
        let mut verdict = judge(entry, live.as_ref(), restored, root)?;
        if verdict.is_apply() {
            let reason = danger(entry, allow_privileged)
                .or(parent_is_gone(changes, entry, root)?)
                .or(owner_is_other(entry));
            if let Some(reason) = reason {
                verdict = Verdict::Conflict(entry.path.visible(), reason);
            }
        }
        if verdict.is_apply()
            && let Some(unseen) = unseen(changes, entry, root)?
        {
            verdict = unseen;
        }
        verdicts.push(verdict);
    }
    Ok(verdicts)
}

fn judge(
    entry: &FileEntry,
    live: Option<&Node>,
    restored: &Restored,
    root: BorrowedFd<'_>,
) -> io::Result<Verdict> {
    if is_result(entry, live, root)? {
        return Ok(Verdict::Already);
    }
    let conflict = |reason: &str| Ok(Verdict::Conflict(entry.path.visible(), reason.to_owned()));
    if entry.changed_while_running {
        return conflict("it was changed while the run was working on its copy");
    }
    match (&entry.old, live) {
        (None, None) => Ok(Verdict::Apply(None)),
        (None, Some(_)) => conflict("something else has been created there since"),
        (Some(_), None) => conflict("it has been removed since"),
        (Some(old), Some(live)) if old.kind != live.kind => {
            conflict("another kind of thing has taken its place since")
        }
        (Some(old), Some(live)) if is_base(&entry.path, old, live, restored, root)? => {
            Ok(Verdict::Apply(live.identity))
        }
        (Some(_), Some(_)) => conflict("it has been changed since"),
    }
}

/// Whether the real one is what the entry would make of it.
fn is_result(entry: &FileEntry, live: Option<&Node>, root: BorrowedFd<'_>) -> io::Result<bool> {
    let (new, live) = match (&entry.new, live) {
        (None, None) => return Ok(true),
        (Some(new), Some(live)) => (new, live),
        (None, Some(_)) | (Some(_), None) => return Ok(false),
    };
    if !live.is_like(new) {
        return Ok(false);
    }
    match (new.kind, entry.change()) {
        (NodeKind::File, Change::Attributes) => Ok(live.mtime == new.mtime),
        (NodeKind::File, _) => has_content(&entry.path, new, root),
        _ => Ok(true),
    }
}

/// Whether the real one is what the run started from.
fn is_base(
    path: &RelativePath,
    old: &Node,
    live: &Node,
    restored: &Restored,
    root: BorrowedFd<'_>,
) -> io::Result<bool> {
    if old.kind == NodeKind::Directory {
        // Names that came and went in it are judged by themselves.
        let is_same_one = match (old.identity, live.identity) {
            (Some(old), Some(live)) => old.inode == live.inode,
            _ => true,
        };
        return Ok(is_same_one && live.has_attributes_of(old));
    }
    if old.identity.is_some() {
        let is_same_one =
            old.identity == live.identity || restored.get(path).copied() == live.identity;
        return Ok(is_same_one && live.is_like(old) && old.mtime == live.mtime);
    }
    // An inverse was stored before the merge made the file, so it does not know which very file
    // that was; it knows the bytes.
    let is_alike = live.is_like(old) && (old.mtime == live.mtime || old.kind != NodeKind::File);
    match is_alike && old.content.is_some() {
        true => has_content(path, old, root),
        false => Ok(is_alike),
    }
}

fn has_content(path: &RelativePath, wanted: &Node, root: BorrowedFd<'_>) -> io::Result<bool> {
    let Some(content) = &wanted.content else {
        return Ok(false);
    };
    let (parent, name) = tree::open_parent(root, path)?;
    let file = tree::open_file(parent.as_fd(), name)?;
    Ok(content::hash(&file, wanted.size)? == content.hash)
}

fn danger(entry: &FileEntry, allowed: bool) -> Option<String> {
    let danger = entry.danger().filter(|_| !allowed)?;
    Some(format!("{danger}; allow privileged files if that is meant"))
}

/// A directory that the run did not make must be there to put things into.
fn parent_is_gone(
    changes: &FileChanges,
    entry: &FileEntry,
    root: BorrowedFd<'_>,
) -> io::Result<Option<String>> {
    let (Some(parent), Some(_)) = (entry.path.split().0, &entry.new) else {
        return Ok(None);
    };
    let is_directory = |node: &Node| node.kind == NodeKind::Directory;
    let made = changes.entry(&parent).and_then(|entry| entry.new.as_ref());
    if made.is_some_and(is_directory) {
        return Ok(None);
    }
    let probe = tree::probe_path(root, &parent)?;
    let is_there = probe.is_some_and(|probe| probe.kind == NodeKind::Directory);
    Ok((!is_there).then(|| {
        let parent = parent.visible();
        format!("its directory `{parent}` has been removed or replaced since")
    }))
}

/// Whoever is not root can only make files of their own.
fn owner_is_other(entry: &FileEntry) -> Option<String> {
    let user = rustix::process::geteuid();
    let (uid, _) = entry.new.as_ref()?.owner?;
    let is_other = !user.is_root() && uid != user.as_raw();
    is_other.then(|| format!("it belongs to user {uid}; merge as that user or as root"))
}

/// The first thing in a directory that the run deleted which was not there when it did.
fn unseen(
    changes: &FileChanges,
    entry: &FileEntry,
    root: BorrowedFd<'_>,
) -> io::Result<Option<Verdict>> {
    let is_directory = |node: &Option<Node>| {
        node.as_ref()
            .is_some_and(|node| node.kind == NodeKind::Directory)
    };
    if !is_directory(&entry.old) || is_directory(&entry.new) {
        return Ok(None);
    }
    let directory = match tree::open_directory(root, Some(&entry.path)) {
        Ok(directory) => directory,
        Err(error) if tree::is_elsewhere(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    for name in tree::names(directory.as_fd())? {
        let path = entry.path.join(&name);
        if path.is_none_or(|path| changes.entry(&path).is_none()) {
            let place = format!("{}/{}", entry.path.visible(), visible(&name));
            let reason = "it has been created since in a directory that the run removed";
            return Ok(Some(Verdict::Conflict(place, reason.to_owned())));
        }
    }
    Ok(None)
}
