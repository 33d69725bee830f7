//! The only place that touches a tree. Every step goes from a directory that is held open, through
//! no symbolic link, no magic link and no mount point, so that hostile content (and a race) cannot
//! lead outside.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use belljar_base::bounds::XATTRS_BYTES_MAX;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, ResolveFlags, Statx, StatxFlags, Timespec,
    Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::text::{ByteText, RelativePath};

/// What kind of thing a name leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A block or character device.
    Device,
}

/// A moment as the file system keeps it: seconds since 1970, and nanoseconds.
pub type FileTime = (i64, u32);

/// What one `statx` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Probe {
    pub(crate) kind: NodeKind,
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) size: u64,
    pub(crate) mtime: FileTime,
    pub(crate) ctime: FileTime,
    pub(crate) inode: u64,
    pub(crate) links: u32,
    /// A whiteout: overlayfs's mark for "deleted", a character device 0:0.
    pub(crate) whiteout: bool,
}

/// Extended attributes by name.
pub(crate) type Xattrs = BTreeMap<ByteText, ByteText>;

const OVERLAY_PREFIX: &[u8] = b"user.overlay.";
pub(crate) const CAPABILITY: &[u8] = b"security.capability";
const NEVER: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// Opens `path` (none: `root` itself, anew) below `root`.
pub(crate) fn open(
    root: BorrowedFd<'_>,
    path: Option<&RelativePath>,
    flags: OFlags,
) -> io::Result<OwnedFd> {
    let path = path.map_or(&b"."[..], RelativePath::as_bytes);
    open_name(root, path, flags)
}

/// Opens the directory `path` for listing.
pub(crate) fn open_directory(
    root: BorrowedFd<'_>,
    path: Option<&RelativePath>,
) -> io::Result<OwnedFd> {
    open(root, path, OFlags::RDONLY | OFlags::DIRECTORY)
}

/// Opens the directory `name` in `directory` for listing.
pub(crate) fn open_directory_at(directory: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    open_name(directory, name, OFlags::RDONLY | OFlags::DIRECTORY)
}

/// Opens the directory that `path` is in, for *at calls only.
pub(crate) fn open_parent<'a>(
    root: BorrowedFd<'_>,
    path: &'a RelativePath,
) -> io::Result<(OwnedFd, &'a [u8])> {
    let (parent, name) = path.split();
    let directory = open(root, parent.as_ref(), OFlags::PATH | OFlags::DIRECTORY)?;
    Ok((directory, name))
}

/// Opens `name` in `directory`; never waits for the other end of a pipe.
pub(crate) fn open_name(
    directory: BorrowedFd<'_>,
    name: &[u8],
    flags: OFlags,
) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let flags = if flags.contains(OFlags::PATH) {
        flags
    } else {
        flags | OFlags::NONBLOCK | OFlags::NOCTTY
    };
    // The kernel answers EAGAIN when a rename races with the walk; nothing is wrong then.
    for _ in 0..64 {
        match rustix::fs::openat2(directory, name, flags, Mode::empty(), NEVER) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
    Err(Errno::AGAIN.into())
}

/// Opens the regular file `name` for reading.
pub(crate) fn open_file(directory: BorrowedFd<'_>, name: &[u8]) -> io::Result<File> {
    Ok(File::from(open_name(directory, name, OFlags::RDONLY)?))
}

/// Creates the regular file `name`, readable by nobody else until its mode is set.
pub(crate) fn create_file(directory: BorrowedFd<'_>, name: &[u8]) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    Ok(File::from(rustix::fs::openat(
        directory, name, flags, mode,
    )?))
}

/// What `name` in `directory` is, if it exists.
pub(crate) fn probe(directory: impl AsFd, name: &[u8]) -> io::Result<Option<Probe>> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    match rustix::fs::statx(directory, name, flags, StatxFlags::BASIC_STATS) {
        Ok(stat) => Ok(Some(read_probe(&stat))),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What the open `node` is.
pub(crate) fn probe_open(node: impl AsFd) -> io::Result<Probe> {
    let stat = rustix::fs::statx(node, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?;
    Ok(read_probe(&stat))
}

/// What `path` below `root` is; none also when a directory on the way is missing or is a link.
pub(crate) fn probe_path(root: BorrowedFd<'_>, path: &RelativePath) -> io::Result<Option<Probe>> {
    match open_parent(root, path) {
        Ok((parent, name)) => probe(parent, name),
        Err(error) if is_elsewhere(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The way to a path ends early: a directory is missing, is a file, a link or a mount point.
pub(crate) fn is_elsewhere(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV)
    )
}

fn read_probe(stat: &Statx) -> Probe {
    let mode = u32::from(stat.stx_mode);
    let kind = match FileType::from_raw_mode(mode) {
        FileType::RegularFile => NodeKind::File,
        FileType::Directory => NodeKind::Directory,
        FileType::Symlink => NodeKind::Symlink,
        FileType::Fifo => NodeKind::Fifo,
        FileType::Socket => NodeKind::Socket,
        FileType::CharacterDevice | FileType::BlockDevice | FileType::Unknown => NodeKind::Device,
    };
    let whiteout = FileType::from_raw_mode(mode) == FileType::CharacterDevice
        && stat.stx_rdev_major == 0
        && stat.stx_rdev_minor == 0;
    Probe {
        kind,
        mode: mode & 0o7777,
        owner: (stat.stx_uid, stat.stx_gid),
        size: stat.stx_size,
        mtime: (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
        ctime: (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
        inode: stat.stx_ino,
        links: stat.stx_nlink,
        whiteout,
    }
}

/// The names in a directory, sorted, so that what is made from them does not depend on chance.
pub(crate) fn names(directory: BorrowedFd<'_>) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(directory)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// The target of the symbolic link `name`.
pub(crate) fn target(directory: BorrowedFd<'_>, name: &[u8]) -> io::Result<Vec<u8>> {
    Ok(rustix::fs::readlinkat(directory, name, Vec::new())?.into_bytes())
}

/// The extended attributes that belong to a change set: the user's own without overlayfs's, access
/// control lists, and file capabilities.
///
/// # Errors
/// Also when they are longer than any file system on a disk would keep them.
pub(crate) fn xattrs(directory: BorrowedFd<'_>, name: &[u8]) -> io::Result<Xattrs> {
    let path = by_descriptor(directory, name)?;
    let list = grow(|buffer| rustix::fs::llistxattr(&path, buffer))?;
    let mut found = Xattrs::new();
    let mut room = XATTRS_BYTES_MAX;
    for name in list.split(|byte| *byte == 0).filter(|name| is_kept(name)) {
        let value = grow(|buffer| rustix::fs::lgetxattr(&path, name, buffer))?;
        room = room
            .checked_sub(name.len() + value.len())
            .ok_or_else(|| io::Error::other("its extended attributes are too long"))?;
        found.insert(ByteText(name.to_vec()), ByteText(value));
    }
    Ok(found)
}

/// Whether overlayfs marked the directory as hiding everything below it in the lower tree.
pub(crate) fn is_opaque(directory: BorrowedFd<'_>, name: &[u8]) -> io::Result<bool> {
    let path = by_descriptor(directory, name)?;
    let value = grow(|buffer| rustix::fs::lgetxattr(&path, "user.overlay.opaque", buffer))?;
    Ok(value == b"y")
}

fn is_kept(name: &[u8]) -> bool {
    (name.starts_with(b"user.") && !name.starts_with(OVERLAY_PREFIX))
        || name == CAPABILITY
        || name == b"system.posix_acl_access"
        || name == b"system.posix_acl_default"
}

/// Makes the extended attributes of `name` what `wanted` says, those of a change set only.
pub(crate) fn set_xattrs(
    directory: BorrowedFd<'_>,
    name: &[u8],
    wanted: &Xattrs,
) -> io::Result<()> {
    let have = xattrs(directory, name)?;
    let path = by_descriptor(directory, name)?;
    for gone in have.keys().filter(|name| !wanted.contains_key(name)) {
        rustix::fs::lremovexattr(&path, &gone.0)?;
    }
    for (name, value) in wanted
        .iter()
        .filter(|(name, value)| have.get(name) != Some(value))
    {
        rustix::fs::lsetxattr(&path, &name.0, &value.0, XattrFlags::empty())?;
    }
    Ok(())
}

/// The calls for extended attributes take no directory; this path names the held one, and its last
/// component is not followed.
fn by_descriptor(directory: BorrowedFd<'_>, name: &[u8]) -> io::Result<CString> {
    let mut path = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    CString::new(path).map_err(io::Error::other)
}

/// Calls with a buffer that grows until the answer fits. No attribute, and a file system without
/// them, are an empty answer.
fn grow(mut call: impl FnMut(&mut [u8]) -> Result<usize, Errno>) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0_u8; 512];
    loop {
        match call(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            Err(Errno::RANGE) if buffer.len() < 1 << 20 => buffer.resize(buffer.len() * 8, 0),
            Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::PERM) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Sets the mode of the very thing `name` is now, not of what a link leads to.
pub(crate) fn set_mode(directory: BorrowedFd<'_>, name: &[u8], mode: u32) -> io::Result<()> {
    let node = open_name(directory, name, OFlags::PATH)?;
    set_mode_open(node.as_fd(), mode)
}

/// Sets the mode of what is held by `node`, which may be held for its path only.
pub(crate) fn set_mode_open(node: BorrowedFd<'_>, mode: u32) -> io::Result<()> {
    let path = format!("/proc/self/fd/{}", node.as_raw_fd());
    Ok(rustix::fs::chmod(path, Mode::from_raw_mode(mode))?)
}

/// Gives `name` to an owner.
pub(crate) fn set_owner(
    directory: BorrowedFd<'_>,
    name: &[u8],
    (uid, gid): (u32, u32),
) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    Ok(rustix::fs::chownat(
        directory,
        name,
        Some(uid),
        Some(gid),
        flags,
    )?)
}

/// Sets the time of last modification of `name`, not of what a link leads to.
pub(crate) fn set_mtime(
    directory: BorrowedFd<'_>,
    name: &[u8],
    (seconds, nanos): FileTime,
) -> io::Result<()> {
    let omit = Timespec {
        tv_sec: 0,
        tv_nsec: rustix::fs::UTIME_OMIT,
    };
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: i64::from(nanos),
    };
    let times = Timestamps {
        last_access: omit,
        last_modification: time,
    };
    Ok(rustix::fs::utimensat(
        directory,
        name,
        &times,
        AtFlags::SYMLINK_NOFOLLOW,
    )?)
}

/// Renames only if nothing is in the way.
pub(crate) fn rename_new(
    (from, name): (BorrowedFd<'_>, &[u8]),
    (to, new_name): (BorrowedFd<'_>, &[u8]),
) -> io::Result<()> {
    Ok(rustix::fs::renameat_with(
        from,
        name,
        to,
        new_name,
        RenameFlags::NOREPLACE,
    )?)
}

/// Exchanges two names in one step.
pub(crate) fn exchange(
    (from, name): (BorrowedFd<'_>, &[u8]),
    (to, other): (BorrowedFd<'_>, &[u8]),
) -> io::Result<()> {
    Ok(rustix::fs::renameat_with(
        from,
        name,
        to,
        other,
        RenameFlags::EXCHANGE,
    )?)
}

/// Removes `name` and everything in it. What is missing is as good as removed.
pub(crate) fn remove_all(directory: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    let is_directory = match probe(directory, name)? {
        None => return Ok(()),
        Some(probe) => probe.kind == NodeKind::Directory,
    };
    if !is_directory {
        return Ok(rustix::fs::unlinkat(directory, name, AtFlags::empty())?);
    }
    // Directories are opened by their paths, so that depth costs no open files; they are removed
    // last, and an outer one was found before an inner one.
    let mut found = vec![name.to_vec()];
    let mut next = 0;
    while let Some(path) = found.get(next).cloned() {
        for inner in remove_files(enter(directory, &path)?.as_fd())? {
            found.push([&path, b"/".as_slice(), &inner].concat());
        }
        next += 1;
    }
    for path in found.iter().rev() {
        rustix::fs::unlinkat(directory, path, AtFlags::REMOVEDIR)?;
    }
    Ok(())
}

/// Opens a directory that is about to be emptied, whatever its mode.
fn enter(directory: BorrowedFd<'_>, path: &[u8]) -> io::Result<OwnedFd> {
    let held = open_name(directory, path, OFlags::PATH | OFlags::DIRECTORY)?;
    if probe_open(&held)?.mode & 0o700 != 0o700 {
        set_mode_open(held.as_fd(), 0o700)?;
    }
    open_directory_at(directory, path)
}

/// Removes everything but directories, and names those.
fn remove_files(directory: BorrowedFd<'_>) -> io::Result<Vec<Vec<u8>>> {
    let mut directories = Vec::new();
    for name in names(directory)? {
        match rustix::fs::unlinkat(directory, &name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::ISDIR) => directories.push(name),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(directories)
}
