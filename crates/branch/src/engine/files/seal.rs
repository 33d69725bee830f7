//! Seals a run's workspace: walks the upper directory of its overlay, and only that, and writes
//! down what differs from the lower one. The upper directory's content is hostile.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use belljar_base::Timestamp;

use super::budget::Budget;
use super::change::{self, FileChanges, FileEntry, Manifest, Skipped};
use super::content::{self, PackWriter, TooLong};
use super::id_shift::IdShift;
use super::node::{self, Node};
use super::renames;
use super::seal_error::{SealError, in_lower, in_upper};
use super::text::{ByteText, RelativePath, visible};
use super::tree::{self, NodeKind, Probe};
use crate::Workspace;

/// What to seal, and where to.
#[derive(Debug)]
pub struct SealRequest<'a> {
    /// The overlay's upper directory.
    pub upper: BorrowedFd<'a>,
    /// The overlay's lower directory: the real one.
    pub lower: &'a Workspace,
    /// A moment before the overlay was mounted; the later, the fewer edits that were made right
    /// before count as made during the run.
    pub started: Timestamp,
    /// How ids in the upper directory are shifted.
    pub ids: IdShift,
    /// The directory for the change set; created if it is missing.
    pub into: &'a Path,
}

/// Makes the change set of a run whose processes have ended, and stores it durably.
///
/// # Errors
/// When either side cannot be read or the change set cannot be written, or when it would be longer
/// than what the run wrote accounts for. Then nothing of it is left on the disk.
pub fn seal(request: &SealRequest<'_>) -> Result<FileChanges, SealError> {
    let budget = Budget::of_layer(request.upper).map_err(|source| in_upper(None, source))?;
    seal_within(request, budget)
}

fn seal_within(request: &SealRequest<'_>, budget: Budget) -> Result<FileChanges, SealError> {
    let sealed = write(request, budget);
    if sealed.is_err() {
        change::forget(request.into);
    }
    sealed
}

fn write(request: &SealRequest<'_>, budget: Budget) -> Result<FileChanges, SealError> {
    let write = |source| SealError::Write {
        path: request.into.to_path_buf(),
        source,
    };
    std::fs::create_dir_all(request.into).map_err(write)?;
    let workspace = ByteText(request.lower.path().as_os_str().as_bytes().to_vec());
    let mut seal = Seal {
        request,
        manifest: Manifest::new(workspace),
        pack: None,
        waiting: vec![Step::whole()],
        gone: Vec::new(),
        running_since: running_since(request.started),
        is_root: rustix::process::geteuid().is_root(),
        budget,
    };
    while let Some(step) = seal.waiting.pop() {
        seal.walk(&step)?;
    }
    while let Some(path) = seal.gone.pop() {
        seal.delete_below(&path)?;
    }
    seal.manifest
        .entries
        .sort_by(|one, other| one.path.cmp(&other.path));
    seal.manifest
        .skipped
        .sort_by(|one, other| one.path.cmp(&other.path));
    seal.manifest.renames = renames::find(&seal.manifest.entries, request.lower);
    if let Some(pack) = seal.pack {
        seal.manifest.pack_bytes = pack.finish().map_err(write)?;
    }
    FileChanges::store(seal.manifest, request.into).map_err(write)
}

/// Change times at or after this count as made during the run. The file system's clock lags behind
/// the real one by up to a tick.
fn running_since(started: Timestamp) -> tree::FileTime {
    let tick = rustix::time::clock_getres(rustix::time::ClockId::RealtimeCoarse);
    let nanos = started
        .as_nanos()
        .saturating_sub(tick.tv_nsec.unsigned_abs());
    let seconds = i64::try_from(nanos / 1_000_000_000).unwrap_or(i64::MAX);
    (seconds, u32::try_from(nanos % 1_000_000_000).unwrap_or(0))
}

/// One directory of the upper tree to look at.
struct Step {
    path: Option<RelativePath>,
    /// Whether the lower tree has a directory there to compare with.
    has_lower: bool,
    /// Whether it hides what the lower one has.
    is_opaque: bool,
}

impl Step {
    const fn whole() -> Self {
        Self {
            path: None,
            has_lower: true,
            is_opaque: false,
        }
    }
}

/// A name in both trees: the directories it is in, and what it is.
struct Name<'a> {
    path: RelativePath,
    name: &'a [u8],
    upper: BorrowedFd<'a>,
    probe: Probe,
    lower: Option<(BorrowedFd<'a>, Probe)>,
}

struct Seal<'a> {
    request: &'a SealRequest<'a>,
    manifest: Manifest,
    pack: Option<PackWriter>,
    /// Directories of the upper tree still to look at.
    waiting: Vec<Step>,
    /// Directories of the lower tree that are gone, with all that is in them.
    gone: Vec<RelativePath>,
    running_since: tree::FileTime,
    is_root: bool,
    budget: Budget,
}

impl Seal<'_> {
    fn walk(&mut self, step: &Step) -> Result<(), SealError> {
        let upper = self.open_upper(step.path.as_ref())?;
        let lower = match step.has_lower {
            true => self.open_lower(step.path.as_ref())?,
            false => None,
        };
        let read = |source| in_upper(step.path.as_ref(), source);
        let names = tree::names(upper.as_fd()).map_err(read)?;
        for name in &names {
            let Some(path) = self.join(step.path.as_ref(), name)? else {
                continue;
            };
            let Some(probe) = tree::probe(&upper, name).map_err(read)? else {
                continue;
            };
            let below = |source| in_lower(&path, source);
            let lower = match lower.as_ref() {
                Some(lower) => tree::probe(lower, name)
                    .map_err(below)?
                    .map(|probe| (lower.as_fd(), probe)),
                None => None,
            };
            self.visit(
                &Name {
                    path,
                    name,
                    upper: upper.as_fd(),
                    probe,
                    lower,
                },
                step.is_opaque,
            )?;
        }
        match lower {
            Some(lower) if step.is_opaque => self.delete_hidden(step, lower.as_fd(), &names),
            _ => Ok(()),
        }
    }

    fn visit(&mut self, name: &Name<'_>, is_opaque: bool) -> Result<(), SealError> {
        if name.probe.whiteout {
            return match &name.lower {
                Some((lower, probe)) => self.delete(&name.path, *lower, name.name, probe),
                None => Ok(()),
            };
        }
        match name.probe.kind {
            NodeKind::Socket => {
                self.skip(&name.path, "a socket only means something to its process")?;
            }
            NodeKind::Device => {
                self.skip(&name.path, "device nodes are not taken out of a sandbox")?;
            }
            NodeKind::Directory => self.visit_directory(name, is_opaque)?,
            NodeKind::File | NodeKind::Symlink | NodeKind::Fifo => self.visit_leaf(name)?,
        }
        Ok(())
    }

    fn visit_directory(&mut self, name: &Name<'_>, is_opaque: bool) -> Result<(), SealError> {
        let read = |source| in_upper(Some(&name.path), source);
        let opaque = is_opaque || tree::is_opaque(name.upper, name.name).map_err(read)?;
        let new = self.read_new(name)?;
        let old = self.read_old(name)?;
        let has_lower = old
            .as_ref()
            .is_some_and(|old| old.kind == NodeKind::Directory);
        let is_unchanged = old.as_ref().is_some_and(|old| old.has_attributes_of(&new));
        if !is_unchanged {
            self.record(name.path.clone(), old, Some(new))?;
        }
        self.waiting.push(Step {
            path: Some(name.path.clone()),
            has_lower,
            is_opaque: opaque,
        });
        Ok(())
    }

    fn visit_leaf(&mut self, name: &Name<'_>) -> Result<(), SealError> {
        let mut new = self.read_new(name)?;
        let old = self.read_old(name)?;
        if old
            .as_ref()
            .is_some_and(|old| old.kind == NodeKind::Directory)
        {
            self.gone.push(name.path.clone());
        }
        let same = match &old {
            Some(old) if old.kind == new.kind => self.has_same_content(name, old, &new)?,
            _ => false,
        };
        let times_matter = new.kind == NodeKind::File;
        let is_unchanged = old.as_ref().is_some_and(|old| {
            same && old.has_attributes_of(&new) && (old.mtime == new.mtime || !times_matter)
        });
        if is_unchanged {
            return Ok(());
        }
        // Other names of the real file must keep what they have, so it cannot be changed in place:
        // a file of its own takes this name, as it did in the overlay.
        let is_shared = name.lower.is_some_and(|(_, probe)| probe.links > 1);
        if new.kind == NodeKind::File && (!same || is_shared) {
            self.store_content(name, &mut new)?;
        }
        if new.kind == NodeKind::File && name.probe.links > 1 {
            self.manifest.hard_links += 1;
        }
        self.record(name.path.clone(), old, Some(new))
    }

    fn has_same_content(&self, name: &Name<'_>, old: &Node, new: &Node) -> Result<bool, SealError> {
        if new.kind != NodeKind::File {
            return Ok(old.target == new.target);
        }
        let Some((lower, _)) = name.lower.filter(|_| old.size == new.size) else {
            return Ok(false);
        };
        // A lower file that this user may not read, or that shrinks while it is read, is not the
        // same; the copy is then stored whole.
        let Ok(old_file) = tree::open_file(lower, name.name) else {
            return Ok(false);
        };
        let new_file = self.open_content(name)?;
        content::is_same(&new_file, &old_file, new.size).or(Ok(false))
    }

    fn store_content(&mut self, name: &Name<'_>, new: &mut Node) -> Result<(), SealError> {
        let file = self.open_content(name)?;
        let write = |source| SealError::Write {
            path: self.request.into.to_path_buf(),
            source,
        };
        if self.pack.is_none() {
            let file = change::create_pack(self.request.into).map_err(write)?;
            self.pack = Some(PackWriter::bounded(file, self.budget.pack_bytes));
        }
        let Some(pack) = self.pack.as_mut() else {
            return Ok(());
        };
        // Nothing writes to the upper tree any more, so the number alone tells a file; a mode that was
        // lent to it for reading has moved its time.
        let stored = match name.probe.links > 1 {
            true => pack.append_shared(&file, new.size, (name.probe.inode, (0, 0))),
            false => pack.append(&file, new.size),
        };
        let too_long =
            |error: &io::Error| error.get_ref().is_some_and(|inner| inner.is::<TooLong>());
        new.content = Some(stored.map_err(|error| match too_long(&error) {
            true => SealError::TooLong(self.budget.pack_bytes),
            false => write(error),
        })?);
        Ok(())
    }

    fn open_content(&self, name: &Name<'_>) -> Result<std::fs::File, SealError> {
        let read = |source| in_upper(Some(&name.path), source);
        if !self.is_root && name.probe.mode & 0o400 == 0 {
            tree::set_mode(name.upper, name.name, name.probe.mode | 0o400).map_err(read)?;
        }
        tree::open_file(name.upper, name.name).map_err(read)
    }

    fn read_new(&self, name: &Name<'_>) -> Result<Node, SealError> {
        let read = |source| in_upper(Some(&name.path), source);
        // Extended attributes of the user can be read only where the content can.
        if !self.is_root && name.probe.kind == NodeKind::File && name.probe.mode & 0o400 == 0 {
            tree::set_mode(name.upper, name.name, name.probe.mode | 0o400).map_err(read)?;
        }
        let mut node = node::read(name.upper, name.name, &name.probe).map_err(read)?;
        node.identity = None;
        let shift = self.request.ids;
        let (uid, gid) = name.probe.owner;
        // An ordinary user can give files to nobody, so whatever owner shows here is that user.
        node.owner = match self.is_root {
            true => Some((shift.inside(uid), shift.inside(gid))),
            false => name.lower.map(|(_, probe)| probe.owner),
        };
        Ok(node)
    }

    fn read_old(&self, name: &Name<'_>) -> Result<Option<Node>, SealError> {
        let Some((lower, probe)) = &name.lower else {
            return Ok(None);
        };
        let read = |source| in_lower(&name.path, source);
        node::read(*lower, name.name, probe).map(Some).map_err(read)
    }

    /// What an opaque directory does not show is gone.
    fn delete_hidden(
        &mut self,
        step: &Step,
        lower: BorrowedFd<'_>,
        shown: &[Vec<u8>],
    ) -> Result<(), SealError> {
        let shown = shown.iter().map(Vec::as_slice).collect();
        match &step.path {
            Some(path) => self.delete_all_but(path, lower, &shown),
            None => Ok(()),
        }
    }

    fn delete_all_but(
        &mut self,
        path: &RelativePath,
        lower: BorrowedFd<'_>,
        kept: &BTreeSet<&[u8]>,
    ) -> Result<(), SealError> {
        let names = tree::names(lower).map_err(|source| in_lower(path, source))?;
        for name in names.iter().filter(|name| !kept.contains(name.as_slice())) {
            let Some(below) = self.join(Some(path), name)? else {
                continue;
            };
            let probe = tree::probe(lower, name).map_err(|source| in_lower(&below, source))?;
            if let Some(probe) = probe {
                self.delete(&below, lower, name, &probe)?;
            }
        }
        Ok(())
    }

    /// Records that `name` of the lower tree is gone; what was in it follows later.
    fn delete(
        &mut self,
        path: &RelativePath,
        lower: BorrowedFd<'_>,
        name: &[u8],
        probe: &Probe,
    ) -> Result<(), SealError> {
        let node = node::read(lower, name, probe).map_err(|source| in_lower(path, source))?;
        if node.kind == NodeKind::Directory {
            self.gone.push(path.clone());
        }
        self.record(path.clone(), Some(node), None)
    }

    /// Records everything in a lower directory that is gone.
    fn delete_below(&mut self, path: &RelativePath) -> Result<(), SealError> {
        match self.open_lower(Some(path))? {
            Some(lower) => self.delete_all_but(path, lower.as_fd(), &BTreeSet::new()),
            None => Ok(()),
        }
    }

    fn record(
        &mut self,
        path: RelativePath,
        old: Option<Node>,
        new: Option<Node>,
    ) -> Result<(), SealError> {
        let changed_while_running = old.as_ref().is_some_and(|old| self.is_recent(old));
        let entry = FileEntry {
            path,
            old,
            new,
            changed_while_running,
        };
        self.budget.spend(&entry)?;
        // It may be one of a pair of a rename as well.
        self.budget.spend_bytes(&entry.path)?;
        self.manifest.entries.push(entry);
        Ok(())
    }

    /// Whether somebody changed the real one since the run began. Names that come and go in a
    /// directory set both its times alike, and are judged by themselves.
    fn is_recent(&self, old: &Node) -> bool {
        let ctime = old.identity.map(|identity| identity.ctime);
        let only_names = old.kind == NodeKind::Directory && ctime == Some(old.mtime);
        ctime.is_some_and(|ctime| ctime >= self.running_since) && !only_names
    }

    fn join(
        &mut self,
        parent: Option<&RelativePath>,
        name: &[u8],
    ) -> Result<Option<RelativePath>, SealError> {
        let path = match parent {
            None => RelativePath::new(name.to_vec()),
            Some(parent) => parent.join(name),
        };
        if path.is_none() {
            let place = parent.map(RelativePath::visible).unwrap_or_default();
            let place = format!("{place}/{}", visible(name));
            self.leave_out(place, "the path is too long or too deep")?;
        }
        Ok(path)
    }

    fn skip(&mut self, path: &RelativePath, reason: &str) -> Result<(), SealError> {
        self.leave_out(path.visible(), reason)
    }

    fn leave_out(&mut self, path: String, reason: &str) -> Result<(), SealError> {
        let reason = reason.to_owned();
        let skipped = Skipped { path, reason };
        self.budget.spend(&skipped)?;
        self.manifest.skipped.push(skipped);
        Ok(())
    }

    fn open_upper(&self, path: Option<&RelativePath>) -> Result<OwnedFd, SealError> {
        let read = |source| in_upper(path, source);
        if let Some(path) = path.filter(|_| !self.is_root) {
            let (parent, name) = tree::open_parent(self.request.upper, path).map_err(read)?;
            let probe = tree::probe(&parent, name).map_err(read)?;
            if let Some(probe) = probe.filter(|probe| probe.mode & 0o700 != 0o700) {
                tree::set_mode(parent.as_fd(), name, probe.mode | 0o700).map_err(read)?;
            }
        }
        tree::open_directory(self.request.upper, path).map_err(read)
    }

    fn open_lower(&self, path: Option<&RelativePath>) -> Result<Option<OwnedFd>, SealError> {
        match tree::open_directory(self.request.lower.root(), path) {
            Ok(directory) => Ok(Some(directory)),
            Err(error) if tree::is_elsewhere(&error) => Ok(None),
            Err(source) => Err(SealError::Lower {
                place: path.map(RelativePath::visible).unwrap_or_default(),
                source,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Budget = Budget {
        entries: 1000,
        list_bytes: 100_000,
        pack_bytes: 1_000_000,
    };

    /// Seals what `make` makes in an upper directory, and says which files are left of it.
    fn sealed(make: impl Fn(&Path), budget: Budget) -> (Result<FileChanges, SealError>, usize) {
        let folder = tempfile::tempdir().unwrap();
        let [upper, lower, into] = ["upper", "lower", "into"].map(|name| folder.path().join(name));
        for directory in [&upper, &lower] {
            std::fs::create_dir(directory).unwrap();
        }
        make(&upper);
        let open = std::fs::File::open(&upper).unwrap();
        let request = SealRequest {
            upper: open.as_fd(),
            lower: &Workspace::open(&lower, None).unwrap(),
            started: Timestamp::from_nanos(1),
            ids: IdShift::default(),
            into: &into,
        };
        let sealed = seal_within(&request, budget);
        (sealed, std::fs::read_dir(&into).unwrap().count())
    }

    #[track_caller]
    fn is_refused(make: impl Fn(&Path), budget: Budget, because: &str) {
        let (sealed, _) = sealed(&make, ROOM);
        sealed.unwrap();
        let (refused, left) = self::sealed(make, budget);
        let error = refused.unwrap_err();
        assert!(error.to_string().contains(because), "{error}");
        assert_eq!(left, 0, "files of a change set that is none");
    }

    #[test]
    fn contents_beyond_the_bound_are_refused_and_leave_nothing() {
        let small = Budget {
            pack_bytes: 9999,
            ..ROOM
        };
        let file = |upper: &Path| std::fs::write(upper.join("file"), "x".repeat(10_000)).unwrap();
        is_refused(file, small, "more than its layer explains");
    }

    /// None of these takes a block of a layer in memory, so that its limit would never be reached.
    #[test]
    fn a_list_beyond_the_bound_is_refused_and_leaves_nothing() {
        let small = Budget {
            list_bytes: 20_000,
            ..ROOM
        };
        let refused = |make: fn(&Path)| is_refused(make, small, "the list of them is over");
        refused(|upper| {
            for number in 0..20 {
                let name = format!("{}{number}", "\u{1}".repeat(250));
                std::fs::write(upper.join(name), "").unwrap();
            }
        });
        refused(|upper| {
            for number in 0..100 {
                let socket = upper.join(format!("{}{number}", "\u{1}".repeat(30)));
                std::os::unix::net::UnixListener::bind(socket).unwrap();
            }
        });
        refused(|upper| {
            for number in 0..4 {
                let target = "\u{1}".repeat(1500);
                std::os::unix::fs::symlink(target, upper.join(number.to_string())).unwrap();
            }
        });
        refused(|upper| {
            std::fs::write(upper.join("file"), "").unwrap();
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::lsetxattr(upper.join("file"), "user.a", &[255; 3500], flags).unwrap();
            std::fs::write(upper.join("other"), "").unwrap();
            rustix::fs::lsetxattr(upper.join("other"), "user.a", &[255; 3500], flags).unwrap();
        });
    }

    #[test]
    fn entries_beyond_the_bound_are_refused() {
        let few = Budget { entries: 2, ..ROOM };
        let three = |upper: &Path| {
            for name in ["a", "b", "c"] {
                std::fs::write(upper.join(name), "").unwrap();
            }
        };
        is_refused(three, few, "the run changed more than");
    }

    #[test]
    fn the_clock_of_the_file_system_lags_by_a_tick() {
        let started = Timestamp::from_nanos(5_000_000_000);
        let (seconds, nanos) = running_since(started);
        assert!(seconds == 4 && nanos >= 900_000_000, "{seconds} {nanos}");
    }
}
