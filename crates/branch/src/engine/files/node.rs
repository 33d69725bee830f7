//! One file, directory, link or pipe, as a change set describes it.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};

use serde::{Deserialize, Serialize};

use super::content::Content;
use super::text::{ByteText, RelativePath};
use super::tree::{self, FileTime, NodeKind, Probe, Xattrs};

/// One file, directory, link or pipe, as it was or is to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// What it is.
    pub kind: NodeKind,
    /// Permission bits, set-id bits and sticky bit.
    pub mode: u32,
    /// User and group id; none: whoever merges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<(u32, u32)>,
    /// Bytes; 0 unless it is a file.
    pub size: u64,
    /// Time of last modification.
    pub mtime: FileTime,
    /// Where a symbolic link leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<ByteText>,
    /// Extended attributes.
    #[serde(default, skip_serializing_if = "Xattrs::is_empty")]
    pub xattrs: Xattrs,
    /// A file's bytes: hash, and place in the pack if they are to be written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Content>,
    /// Which very file it was, and when anything about it last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
}

/// Tells one state of one file from every other: an inode number is not enough, because editors
/// write in place, and times are not enough, because editors also replace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Inode number. (Device numbers are left out: some file systems get another at each mount.)
    pub inode: u64,
    /// Time of the last change of anything about it, which nobody can set.
    pub ctime: FileTime,
}

impl Node {
    /// Whether everything that a change set can say about them is the same, time aside; contents
    /// are compared by hash where both are known.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        let hash = |node: &Self| node.content.as_ref().map(|content| content.hash.clone());
        let differ = matches!((hash(self), hash(other)), (Some(one), Some(two)) if one != two);
        self.has_attributes_of(other)
            && self.size == other.size
            && self.target == other.target
            && !differ
    }

    /// Whether kind, mode, owner and extended attributes are the same.
    pub(crate) fn has_attributes_of(&self, other: &Self) -> bool {
        let owners_differ =
            matches!((self.owner, other.owner), (Some(one), Some(two)) if one != two);
        // The kernel does not keep a mode for links.
        let modes_differ = self.mode != other.mode && self.kind != NodeKind::Symlink;
        self.kind == other.kind && !modes_differ && !owners_differ && self.xattrs == other.xattrs
    }
}

/// Reads what `name` in `directory` is, its content aside.
pub(crate) fn read(directory: BorrowedFd<'_>, name: &[u8], probe: &Probe) -> io::Result<Node> {
    let kind = probe.kind;
    let target = match kind == NodeKind::Symlink {
        true => Some(ByteText(tree::target(directory, name)?)),
        false => None,
    };
    let xattrs = match matches!(kind, NodeKind::File | NodeKind::Directory) {
        true => tree::xattrs(directory, name)?,
        false => Xattrs::new(),
    };
    let size = if kind == NodeKind::File {
        probe.size
    } else {
        0
    };
    Ok(Node {
        kind,
        mode: probe.mode,
        owner: Some(probe.owner),
        size,
        mtime: probe.mtime,
        target,
        xattrs,
        content: None,
        identity: Some(Identity {
            inode: probe.inode,
            ctime: probe.ctime,
        }),
    })
}

/// Reads what is at `path` below `root`, if anything is.
pub(crate) fn read_path(root: BorrowedFd<'_>, path: &RelativePath) -> io::Result<Option<Node>> {
    let (parent, name) = match tree::open_parent(root, path) {
        Ok(found) => found,
        Err(error) if tree::is_elsewhere(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    match tree::probe(&parent, name)? {
        Some(probe) => read(parent.as_fd(), name, &probe).map(Some),
        None => Ok(None),
    }
}
