//! Makes a prepared merge real by renames alone, and takes it back. Each rename is checked after
//! it was done: what came out must be what the run started from, or it goes back in. So no edit
//! that anybody makes meanwhile is lost.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::change::FileChanges;
use super::node::{self, Node};
use super::plan::{Plan, Replace};
use super::prepare::SYNC_EACH_MAX;
use super::review::Restored;
use super::text::RelativePath;
use super::tree::{self, FileTime, NodeKind};

/// A prepared merge: what the steps work with.
pub(crate) struct Deal<'a> {
    pub(crate) root: BorrowedFd<'a>,
    pub(crate) staging: BorrowedFd<'a>,
    pub(crate) changes: &'a FileChanges,
    pub(crate) inverse: &'a FileChanges,
    pub(crate) plan: &'a Plan,
}

/// A step could not be done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StepError {
    /// Somebody changed the place since the check.
    #[error("`{0}` has been changed since")]
    Conflict(String),
    /// A call failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Prefix of the names in the staging directory that hold somebody's work.
pub(crate) const KEPT: &str = "kept-";

/// How closely a tree must match.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Match {
    /// The very files.
    Identity,
    /// The same attributes and times.
    Attributes,
}

impl Deal<'_> {
    /// Puts one new thing in place, and takes the old one into the staging directory.
    pub(crate) fn replace(&self, number: usize, replace: &Replace) -> Result<(), StepError> {
        let slot = number.to_string();
        if !self.is_done(&slot, replace)? {
            self.swap(&slot, replace)?;
            if replace.takes && !self.is_old(&slot, replace)? {
                self.swap_back(&slot, replace)?;
                return Err(conflict(&replace.path));
            }
        }
        self.finish_top(replace)?;
        Ok(())
    }

    fn swap(&self, slot: &str, replace: &Replace) -> Result<(), StepError> {
        let (parent, name) = tree::open_parent(self.root, &replace.path)
            .map_err(|error| conflict_if_elsewhere(error, &replace.path))?;
        let (inside, staged) = ((parent.as_fd(), name), (self.staging, slot.as_bytes()));
        if replace.takes {
            loosen(parent.as_fd(), name)?;
        }
        let done = match (replace.takes, replace.gives.is_some()) {
            (true, true) => tree::exchange(staged, inside),
            (false, true) => tree::rename_new(staged, inside),
            (true, false) => tree::rename_new(inside, staged),
            (false, false) => Ok(()),
        };
        done.map_err(|error| conflict_if_elsewhere(error, &replace.path))
    }

    /// Whether what the step does has been done: told by what the staging directory holds.
    fn is_done(&self, slot: &str, replace: &Replace) -> io::Result<bool> {
        let probe = tree::probe(self.staging, slot.as_bytes())?;
        Ok(match (replace.gives, probe) {
            (Some(staged), Some(probe)) => probe.inode != staged,
            (Some(_), None) => true,
            (None, found) => found.is_some(),
        })
    }

    /// Whether what came out is what was there when the inverse was stored, to the last file.
    fn is_old(&self, slot: &str, replace: &Replace) -> io::Result<bool> {
        let old = |path: &RelativePath| self.inverse.entry(path)?.new.as_ref();
        let wanted = self.inverse.tree(&replace.path);
        let count = wanted.filter(|entry| entry.new.is_some()).count();
        self.is_tree(slot, &replace.path, &old, count, Match::Identity)
    }

    /// Whether what is staged, or came back, is what the change set made, untouched.
    fn is_new(&self, slot: &str, replace: &Replace) -> io::Result<bool> {
        let new = |path: &RelativePath| self.changes.entry(path)?.new.as_ref();
        let wanted = self.changes.tree(&replace.path);
        let count = wanted.filter(|entry| entry.new.is_some()).count();
        self.is_tree(slot, &replace.path, &new, count, Match::Attributes)
    }

    fn is_tree<'n>(
        &self,
        slot: &str,
        path: &RelativePath,
        wanted: &dyn Fn(&RelativePath) -> Option<&'n Node>,
        count: usize,
        how: Match,
    ) -> io::Result<bool> {
        let mut waiting = vec![(slot.as_bytes().to_vec(), path.clone())];
        let mut seen = 0;
        while let Some((place, path)) = waiting.pop() {
            let Some(wanted) = wanted(&path) else {
                return Ok(false);
            };
            let Some(probe) = tree::probe(self.staging, &place)? else {
                return Ok(false);
            };
            let found = node::read(self.staging, &place, &probe)?;
            if !is_match(wanted, &found, how, seen == 0) {
                return Ok(false);
            }
            seen += 1;
            if probe.kind == NodeKind::Directory {
                let directory = tree::open_directory_at(self.staging, &place)?;
                for name in tree::names(directory.as_fd())? {
                    let Some(below) = path.join(&name) else {
                        return Ok(false);
                    };
                    waiting.push(([&place, b"/".as_slice(), &name].concat(), below));
                }
            }
        }
        Ok(seen == count)
    }

    /// The attributes that a staged directory could not have while it was moved.
    fn finish_top(&self, replace: &Replace) -> io::Result<()> {
        let new = self
            .changes
            .entry(&replace.path)
            .and_then(|entry| entry.new.as_ref());
        let Some(new) = new.filter(|new| new.kind == NodeKind::Directory) else {
            return Ok(());
        };
        let (parent, name) = tree::open_parent(self.root, &replace.path)?;
        let probe = tree::probe(&parent, name)?;
        let is_ours = probe.is_some_and(|probe| Some(probe.inode) == replace.gives);
        match is_ours && new.mode & 0o700 != 0o700 {
            true => tree::set_mode(parent.as_fd(), name, new.mode),
            false => Ok(()),
        }
    }

    /// Whether nobody has written, through a file still held open, to what came out.
    pub(crate) fn verify(&self, number: usize, replace: &Replace) -> Result<(), StepError> {
        match !replace.takes || self.is_old(&number.to_string(), replace)? {
            true => Ok(()),
            false => Err(conflict(&replace.path)),
        }
    }

    /// Puts the old thing back, and takes the new one into the staging directory again. An edit
    /// that was made to the new one meanwhile is kept there under a name of its own.
    pub(crate) fn restore(&self, number: usize, replace: &Replace) -> Result<(), StepError> {
        let slot = number.to_string();
        let kept = format!("{KEPT}{slot}");
        let is_kept = tree::probe(self.staging, kept.as_bytes())?.is_some();
        let is_empty = tree::probe(self.staging, slot.as_bytes())?.is_none();
        // Nothing is left to put back: an earlier attempt got that far, or nothing was taken.
        if is_kept || (is_empty && replace.takes) {
            return Ok(());
        }
        if self.is_done(&slot, replace)? {
            self.swap_back(&slot, replace)?;
        }
        let is_there = tree::probe(self.staging, slot.as_bytes())?.is_some();
        if is_there && (replace.gives.is_none() || !self.is_new(&slot, replace)?) {
            let names = (
                (self.staging, slot.as_bytes()),
                (self.staging, kept.as_bytes()),
            );
            tree::rename_new(names.0, names.1)?;
        }
        Ok(())
    }

    fn swap_back(&self, slot: &str, replace: &Replace) -> Result<(), StepError> {
        let (parent, name) = tree::open_parent(self.root, &replace.path)?;
        let (inside, staged) = ((parent.as_fd(), name), (self.staging, slot.as_bytes()));
        let probe = tree::probe(&parent, name)?;
        let is_ours = probe.is_some_and(|probe| Some(probe.inode) == replace.gives);
        if is_ours {
            loosen(parent.as_fd(), name)?;
        }
        match (replace.takes, probe) {
            (true, Some(_)) => tree::exchange(staged, inside)?,
            (true, None) => tree::rename_new(staged, inside)?,
            (false, _) if is_ours => tree::rename_new(inside, staged)?,
            // Somebody has put something else there, or taken ours away.
            (false, _) => {}
        }
        self.tighten(replace)
    }

    /// Gives a directory that came back the mode it had before it was moved.
    fn tighten(&self, replace: &Replace) -> Result<(), StepError> {
        let old = self
            .inverse
            .entry(&replace.path)
            .and_then(|entry| entry.new.as_ref());
        match old.filter(|old| old.kind == NodeKind::Directory && old.mode & 0o700 != 0o700) {
            Some(old) => {
                let (parent, name) = tree::open_parent(self.root, &replace.path)?;
                Ok(tree::set_mode(parent.as_fd(), name, old.mode)?)
            }
            None => Ok(()),
        }
    }

    /// Gives a file or directory that stays its new attributes.
    pub(crate) fn touch(&self, path: &RelativePath) -> Result<(), StepError> {
        let sides = (self.inverse.entry(path), self.changes.entry(path));
        let sides = (
            sides.0.and_then(|side| side.new.as_ref()),
            sides.1.and_then(|side| side.new.as_ref()),
        );
        let (Some(from), Some(to)) = sides else {
            return Err(conflict(path));
        };
        match self.set_attributes(path, from, to)? {
            true => Ok(()),
            false => Err(conflict(path)),
        }
    }

    /// Gives it its old attributes back; whoever gave it yet others keeps them.
    pub(crate) fn untouch(&self, path: &RelativePath) -> Result<(), StepError> {
        let sides = (self.inverse.entry(path), self.changes.entry(path));
        let sides = (
            sides.0.and_then(|side| side.new.as_ref()),
            sides.1.and_then(|side| side.new.as_ref()),
        );
        if let (Some(from), Some(to)) = sides {
            self.set_attributes(
                path,
                to,
                &Node {
                    identity: from.identity,
                    ..from.clone()
                },
            )?;
        }
        Ok(())
    }

    /// From one state to the other, or on from any point in between; false if it is in neither.
    fn set_attributes(&self, path: &RelativePath, from: &Node, to: &Node) -> io::Result<bool> {
        let (parent, name) = match tree::open_parent(self.root, path) {
            Err(error) if tree::is_elsewhere(&error) => return Ok(false),
            other => other?,
        };
        let Some(probe) = tree::probe(&parent, name)? else {
            return Ok(false);
        };
        let inode = from.identity.or(to.identity).map(|identity| identity.inode);
        let is_between = inode.is_none_or(|inode| inode == probe.inode)
            && (probe.mode == to.mode
                || [0, 0o200, 0o700]
                    .iter()
                    .any(|extra| probe.mode == from.mode | extra))
            && (probe.kind != NodeKind::File || probe.size == to.size)
            && (probe.kind != NodeKind::File
                || probe.mtime == from.mtime
                || probe.mtime == to.mtime);
        if !is_between {
            return Ok(false);
        }
        if let Some(owner) = to.owner.filter(|owner| *owner != probe.owner) {
            tree::set_owner(parent.as_fd(), name, owner)?;
        }
        if tree::xattrs(parent.as_fd(), name)? != to.xattrs {
            if probe.mode & 0o200 == 0 {
                tree::set_mode(parent.as_fd(), name, probe.mode | 0o200)?;
            }
            tree::set_xattrs(parent.as_fd(), name, &to.xattrs)?;
        }
        tree::set_mode(parent.as_fd(), name, to.mode)?;
        if probe.kind == NodeKind::File {
            tree::set_mtime(parent.as_fd(), name, to.mtime)?;
        }
        Ok(true)
    }

    /// Opens the directories that their owner cannot write to, outermost first.
    pub(crate) fn unlock(&self) -> io::Result<()> {
        self.plan
            .locked
            .iter()
            .try_for_each(|(path, mode)| self.lock(path, mode | 0o700))
    }

    /// Gives a directory a mode; one that somebody has moved away keeps what it has.
    pub(crate) fn lock(&self, path: &RelativePath, mode: u32) -> io::Result<()> {
        let set = |(parent, name): (OwnedFd, &[u8])| tree::set_mode(parent.as_fd(), name, mode);
        match tree::open_parent(self.root, path).and_then(set) {
            Err(error) if !tree::is_elsewhere(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Gives every directory in which names came and went the time that `choose` says.
    pub(crate) fn set_times(&self, choose: impl Fn(&Option<RelativePath>, FileTime) -> FileTime) {
        for (path, before) in &self.plan.times {
            let time = choose(path, *before);
            // A directory of somebody else's keeps the time that it got by itself.
            let _done = match path {
                None => tree::set_mtime(self.root, b".", time),
                Some(path) => tree::open_parent(self.root, path)
                    .and_then(|(parent, name)| tree::set_mtime(parent.as_fd(), name, time)),
            };
        }
    }

    /// Everything that an undoing put back, as the kernel knows it now.
    pub(crate) fn restored(&self) -> io::Result<Restored> {
        let mut restored = Restored::new();
        for entry in self.inverse.entries() {
            let Some(before) = &entry.new else { continue };
            let live = node::read_path(self.root, &entry.path)?;
            if let Some((live, identity)) = live.and_then(|live| live.identity.map(|id| (live, id)))
                && is_match(before, &live, Match::Identity, false)
            {
                restored.insert(entry.path.clone(), identity);
            }
        }
        Ok(restored)
    }

    /// Makes all that was done durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        let parents = self.plan.parents();
        if parents.len() + self.plan.touches.len() > SYNC_EACH_MAX {
            return Ok(rustix::fs::syncfs(self.root)?);
        }
        for path in &self.plan.touches {
            // What cannot be opened for reading is made durable with its directory's journal.
            if let Ok(open) = tree::open(self.root, Some(path), OFlags::RDONLY) {
                rustix::fs::fsync(open)?;
            }
        }
        for parent in &parents {
            match tree::open_directory(self.root, parent.as_ref()) {
                Ok(directory) => rustix::fs::fsync(directory)?,
                // Somebody has moved it away, wherever that is.
                Err(error) if tree::is_elsewhere(&error) => rustix::fs::syncfs(self.root)?,
                Err(error) => return Err(error),
            }
        }
        Ok(rustix::fs::fsync(self.staging)?)
    }
}

fn is_match(wanted: &Node, found: &Node, how: Match, is_top: bool) -> bool {
    let is_directory = found.kind == NodeKind::Directory;
    // The mode of a directory that is moved may have been loosened for it.
    let mode = match is_top && is_directory && found.mode == wanted.mode | 0o700 {
        true => wanted.mode,
        false => found.mode,
    };
    let found = Node {
        mode,
        content: None,
        ..found.clone()
    };
    let is_same_one = match (how, wanted.identity, found.identity) {
        (Match::Identity, Some(wanted), Some(found)) => wanted.inode == found.inode,
        _ => true,
    };
    let times = found.kind != NodeKind::File || wanted.mtime == found.mtime;
    is_same_one && times && found.is_like(wanted)
}

/// A directory can be moved by its owner only while the owner may write to it.
fn loosen(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    let probe = tree::probe(parent, name)?;
    let is_tight =
        |probe: &tree::Probe| probe.kind == NodeKind::Directory && probe.mode & 0o700 != 0o700;
    match probe
        .filter(is_tight)
        .filter(|_| !rustix::process::geteuid().is_root())
    {
        Some(probe) => tree::set_mode(parent, name, probe.mode | 0o700),
        None => Ok(()),
    }
}

fn conflict(path: &RelativePath) -> StepError {
    StepError::Conflict(path.visible())
}

fn conflict_if_elsewhere(error: io::Error, path: &RelativePath) -> StepError {
    let is_in_the_way = matches!(
        Errno::from_io_error(&error),
        Some(Errno::EXIST | Errno::NOTEMPTY | Errno::BUSY)
    );
    match is_in_the_way || tree::is_elsewhere(&error) {
        true => conflict(path),
        false => error.into(),
    }
}
