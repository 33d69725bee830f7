//! Gets a merge ready: the inverse is stored, and everything new is staged beside the workspace's
//! own files, on the same file system, so that putting it in place is a rename.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};

use super::change::{self, Change, DirectoryTime, FileChanges, FileEntry, Manifest};
use super::content::{self, Content, PackWriter};
use super::node::{self, Identity, Node};
use super::plan::Plan;
use super::review::Verdict;
use super::text::RelativePath;
use super::tree::{self, FileTime, NodeKind};

/// More new files than this are made durable by one sync of the whole file system.
pub(crate) const SYNC_EACH_MAX: usize = 32;

/// Something changed while the merge was being prepared.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrepareError {
    /// The workspace is being written to right now.
    #[error("`{0}` is being changed right now")]
    Moving(String),
    /// The file system is missing something.
    #[error("the file system of the workspace cannot exchange two names in one step")]
    NoExchange,
    /// A call failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Stores the inverse of the entries that are to be applied.
pub(crate) fn store_inverse(
    changes: &FileChanges,
    verdicts: &[Verdict],
    root: BorrowedFd<'_>,
    plan: &Plan,
    into: &Path,
) -> Result<FileChanges, PrepareError> {
    let mut manifest = Manifest::new(changes.manifest.workspace.clone());
    let mut pack = PackWriter::new(change::create_pack(into)?);
    for (entry, verdict) in changes.entries().iter().zip(verdicts) {
        if let Verdict::Apply(seen) = verdict {
            manifest
                .entries
                .push(inverse(entry, *seen, root, &mut pack)?);
        }
    }
    manifest.directory_times = plan
        .times
        .iter()
        .map(|(path, time)| directory_time(plan, path, *time))
        .collect();
    manifest.pack_bytes = pack.finish()?;
    Ok(FileChanges::store(manifest, into)?)
}

fn directory_time(plan: &Plan, path: &Option<RelativePath>, set: FileTime) -> DirectoryTime {
    DirectoryTime {
        path: path.clone(),
        seen: plan.merged_at,
        set,
    }
}

fn inverse(
    entry: &FileEntry,
    seen: Option<Identity>,
    root: BorrowedFd<'_>,
    pack: &mut PackWriter,
) -> Result<FileEntry, PrepareError> {
    let hash_only = |content: &Content| Content {
        hash: content.hash.clone(),
        offset: None,
        runs: Vec::new(),
    };
    let after = entry.new.clone().map(|new| Node {
        content: new.content.as_ref().map(hash_only),
        identity: None,
        ..new
    });
    let mut before = node::read_path(root, &entry.path)?;
    let is_directory = before
        .as_ref()
        .is_some_and(|node| node.kind == NodeKind::Directory);
    let is_still = match (seen, before.as_ref().and_then(|node| node.identity)) {
        // Names come and go in a directory; they are judged by themselves.
        (Some(seen), Some(now)) if is_directory => seen.inode == now.inode,
        (seen, now) => seen == now,
    };
    if !is_still {
        return Err(PrepareError::Moving(entry.path.visible()));
    }
    if let Some(node) = before.as_mut().filter(|node| node.kind == NodeKind::File)
        && entry.change() != Change::Attributes
    {
        node.content = Some(pack_live(&entry.path, node, root, pack)?);
    }
    Ok(FileEntry {
        path: entry.path.clone(),
        old: after,
        new: before,
        changed_while_running: false,
    })
}

/// Packs the bytes of a real file, which must not change meanwhile.
fn pack_live(
    path: &RelativePath,
    node: &Node,
    root: BorrowedFd<'_>,
    pack: &mut PackWriter,
) -> Result<Content, PrepareError> {
    let (parent, name) = tree::open_parent(root, path)?;
    let file = tree::open_file(parent.as_fd(), name)?;
    let before = tree::probe_open(&file)?;
    let content = match before.links > 1 {
        true => pack.append_shared(&file, node.size, (before.inode, before.ctime))?,
        false => pack.append(&file, node.size)?,
    };
    let probe = tree::probe_open(&file)?;
    let is_still = node.identity.is_some_and(|identity| {
        (identity.inode, identity.ctime, node.size) == (probe.inode, probe.ctime, probe.size)
    });
    match is_still {
        true => Ok(content),
        false => Err(PrepareError::Moving(path.visible())),
    }
}

/// Makes the staging directory `name` in the workspace, anew.
pub(crate) fn make_staging(root: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, PrepareError> {
    tree::remove_all(root, name.as_bytes())?;
    rustix::fs::mkdirat(root, name, Mode::RWXU).map_err(io::Error::from)?;
    let staging = tree::open_directory_at(root, name.as_bytes())?;
    for name in [b"x", b"y"] {
        drop(tree::create_file(staging.as_fd(), name)?);
    }
    let pair = ((staging.as_fd(), &b"x"[..]), (staging.as_fd(), &b"y"[..]));
    tree::exchange(pair.0, pair.1).map_err(|_no_flag| PrepareError::NoExchange)?;
    for name in [b"x", b"y"] {
        tree::remove_all(staging.as_fd(), name)?;
    }
    Ok(staging)
}

/// Stages everything new, slot by slot, durably, and writes into the plan which is which.
pub(crate) fn stage(
    changes: &FileChanges,
    plan: &mut Plan,
    staging: BorrowedFd<'_>,
) -> io::Result<()> {
    let pack = changes.open_pack().ok();
    let mut made = Vec::new();
    for (number, replace) in plan.replaces.iter_mut().enumerate() {
        if replace.gives.is_none() {
            continue;
        }
        let slot = number.to_string();
        let first = made.len();
        for entry in changes.tree(&replace.path) {
            let Some(new) = &entry.new else { continue };
            let below = entry.path.below(&replace.path);
            let place = below.map_or_else(
                || slot.clone().into_bytes(),
                |below| [slot.as_bytes(), b"/", below].concat(),
            );
            make(staging, &place, new, pack.as_ref())?;
            made.push((place, new));
        }
        // Directories get their attributes last, from the inside out: making names in one changes
        // its times, and it may be one that nobody may write to.
        for (place, new) in made.iter().skip(first).rev() {
            if new.kind == NodeKind::Directory {
                let is_top = place == slot.as_bytes();
                set_attributes(staging, place, new, is_top)?;
            }
        }
        let probe = tree::probe(staging, slot.as_bytes())?.ok_or(io::ErrorKind::NotFound)?;
        replace.gives = Some(probe.inode);
    }
    sync(staging, &made)
}

fn sync(staging: BorrowedFd<'_>, made: &[(Vec<u8>, &Node)]) -> io::Result<()> {
    if made.len() > SYNC_EACH_MAX {
        return Ok(rustix::fs::syncfs(staging)?);
    }
    for (place, node) in made {
        if matches!(node.kind, NodeKind::File | NodeKind::Directory)
            && let Ok(open) = tree::open_name(staging, place, OFlags::RDONLY)
        {
            rustix::fs::fsync(open)?;
        }
    }
    Ok(rustix::fs::fsync(staging)?)
}

fn make(
    staging: BorrowedFd<'_>,
    place: &[u8],
    node: &Node,
    pack: Option<&std::fs::File>,
) -> io::Result<()> {
    match node.kind {
        NodeKind::Directory => Ok(rustix::fs::mkdirat(staging, place, Mode::RWXU)?),
        NodeKind::Symlink => {
            let target = node.target.as_ref().ok_or(io::ErrorKind::InvalidData)?;
            rustix::fs::symlinkat(&target.0, staging, place)?;
            set_owner(staging, place, node)
        }
        NodeKind::Fifo => {
            let mode = Mode::RUSR | Mode::WUSR;
            rustix::fs::mknodat(staging, place, FileType::Fifo, mode, 0)?;
            set_attributes(staging, place, node, false)
        }
        NodeKind::File => {
            let content = node.content.as_ref().ok_or(io::ErrorKind::InvalidData)?;
            let pack = pack.ok_or(io::ErrorKind::NotFound)?;
            let file = tree::create_file(staging, place)?;
            content::unpack(pack, content, node.size, &file)?;
            set_attributes(staging, place, node, false)
        }
        NodeKind::Socket | NodeKind::Device => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn set_attributes(
    staging: BorrowedFd<'_>,
    place: &[u8],
    node: &Node,
    keep_writable: bool,
) -> io::Result<()> {
    // In this order, because giving a file away drops set-id bits and capabilities, and because
    // attributes can be written only while the file can.
    set_owner(staging, place, node)?;
    if matches!(node.kind, NodeKind::File | NodeKind::Directory) {
        tree::set_xattrs(staging, place, &node.xattrs)?;
    }
    // A directory that is not writable cannot be moved by an ordinary user.
    let extra = if keep_writable { 0o700 } else { 0 };
    tree::set_mode(staging, place, node.mode | extra)?;
    tree::set_mtime(staging, place, node.mtime)
}

fn set_owner(staging: BorrowedFd<'_>, place: &[u8], node: &Node) -> io::Result<()> {
    let Some(owner) = node.owner else {
        return Ok(());
    };
    let probe = tree::probe(staging, place)?.ok_or(io::ErrorKind::NotFound)?;
    match probe.owner == owner {
        true => Ok(()),
        false => tree::set_owner(staging, place, owner),
    }
}

/// Fills in what the plan must remember of the directories it works in.
pub(crate) fn note_directories(
    plan: &mut Plan,
    root: BorrowedFd<'_>,
    root_time: FileTime,
) -> io::Result<()> {
    plan.times = vec![(None, root_time)];
    let is_root = rustix::process::geteuid().is_root();
    for parent in plan.parents().into_iter().flatten() {
        let directory = tree::open(root, Some(&parent), OFlags::PATH | OFlags::DIRECTORY)?;
        let probe = tree::probe_open(&directory)?;
        plan.times.push((Some(parent.clone()), probe.mtime));
        if !is_root && probe.mode & 0o300 != 0o300 {
            plan.locked.push((parent, probe.mode));
        }
    }
    Ok(())
}

/// Creates a directory of the run, if it is missing, so that it survives a crash.
pub(crate) fn make_directory(path: &Path) -> io::Result<()> {
    std::fs::create_dir_all(path)?;
    match path.parent() {
        Some(parent) => std::fs::File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}
