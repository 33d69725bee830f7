//! Files of the host that are written: where they are in the scratch layer, how far they may grow,
//! and what became of them.
//!
//! A file that is written in place takes room on the host's disk, where the kernel gives an ordinary
//! user no bound but one: the size of each file (RLIMIT_FSIZE). So the file is the only inode of the
//! host that can be written, and what would take room beyond its size is refused (`in-place.json`).
//! A file on a file system that takes more room than a file's size is copied to the scratch layer.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::backend::{Left, StartError};
use crate::spec::{Spec, Writable};

/// The folder of the scratch layer with the directories in which files that are written in place
/// are named.
pub(super) const NAMED: &str = "d";
/// The folder with the directories in which they are, and what is made beside them.
pub(super) const BESIDE: &str = "f";
/// The directory with the file itself, inside the one in which it is named.
pub(super) const IN_PLACE: &str = "in-place";

/// Bytes that a file may grow beyond the limit: one that is as big as the scratch layer then gets
/// the layer's answer, ENOSPC, first.
pub(super) const SLACK_BYTES: u64 = 1 << 20;
/// A file so close to its bound had a write refused: no page of a database is bigger.
const NEAR_BYTES: u64 = 64 << 10;

/// The files of one sandbox.
#[derive(Debug, Default)]
pub(super) struct Written {
    files: Vec<Writable>,
    bytes_max: Option<u64>,
}

impl Written {
    /// Looks how big the files are.
    pub(super) fn of(spec: &Spec) -> Result<Self, StartError> {
        let (mut largest, mut copied) = (None, 0_u64);
        for file in &spec.writes {
            let refuse = |reason: String| StartError::Path {
                path: file.source.display().to_string(),
                reason,
            };
            let bytes = fs::metadata(&file.source).map_err(|error| refuse(error.to_string()))?;
            let bytes = bytes.len();
            if file.in_place {
                largest = largest.max(Some(bytes));
                continue;
            }
            copied = copied.saturating_add(bytes);
            if copied > spec.limits.disk_bytes {
                return Err(refuse(format!(
                    "its file system bounds no file's room, so that it is worked on in memory, \
                     where it has no room; raise the limits (`--limit memory=,disk=`, at least \
                     {copied} bytes more than the run writes), or keep Belljar's state on ext4 or \
                     XFS (BELLJAR_STATE)"
                )));
            }
        }
        let may_grow = spec.limits.disk_bytes.saturating_add(SLACK_BYTES);
        Ok(Self {
            files: spec.writes.clone(),
            bytes_max: largest.map(|bytes: u64| bytes.saturating_add(may_grow)),
        })
    }

    /// How big a file may get, when there is one that is written in place. There is one bound for
    /// all files of a process, so it is that of the biggest.
    pub(super) const fn bytes_max(&self) -> Option<u64> {
        self.bytes_max
    }

    /// Whether one of them got as big as it may.
    pub(super) fn is_full(&self) -> bool {
        let Some(most) = self.bytes_max else {
            return false;
        };
        self.files.iter().filter(|file| file.in_place).any(|file| {
            let bytes = fs::metadata(&file.source).map_or(0, |data| data.len());
            bytes.saturating_add(NEAR_BYTES) > most
        })
    }

    /// What became of a file. Nothing of it can be renamed away inside: the directories opened here
    /// are not in the tree, or have a mount on them.
    pub(super) fn left(&self, scratch: &OwnedFd, number: usize) -> io::Result<Left> {
        let file = self.files.get(number).ok_or(io::ErrorKind::NotFound)?;
        let open = |path: String| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(scratch, path, flags, Mode::empty())
        };
        let (name, target) = link(file);
        let name = name.file_name().unwrap_or_default();
        if !file.in_place {
            let beside = open(format!("u/{}", layer(number)))?;
            // Nothing has the name in the upper layer: the file was never opened for writing.
            let absent = rustix::fs::statat(&beside, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW);
            let in_place = absent.err() == Some(rustix::io::Errno::NOENT);
            return Ok(Left { beside, in_place });
        }
        let named = open(format!("{NAMED}/{number}"))?;
        let now = rustix::fs::readlinkat(&named, name, Vec::new());
        let in_place = now.is_ok_and(|now| now.as_bytes() == target.as_os_str().as_encoded_bytes());
        let beside = if in_place {
            open(format!("{BESIDE}/{number}"))?
        } else {
            named
        };
        Ok(Left { beside, in_place })
    }
}

/// The overlay layer of a file that is written in the scratch layer.
pub(super) fn layer(number: usize) -> String {
    format!("writable{number}")
}

/// The link by which a file that is written in place is found, and where it leads.
pub(super) fn link(file: &Writable) -> (PathBuf, PathBuf) {
    let name = Path::new(file.source.file_name().unwrap_or_default());
    (file.at.join(name), file.at.join(IN_PLACE).join(name))
}
