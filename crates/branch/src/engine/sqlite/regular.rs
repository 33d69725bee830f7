//! Opens files that someone else may have put there: a regular file or nothing.

use std::fs::File;
use std::io;
use std::path::Path;

use belljar_base::Kind;
use rustix::fs::{FileType, Mode, OFlags};

use super::image::ImageError;

/// The kind of a failure to read or write.
pub(crate) fn kind(error: &io::Error) -> Kind {
    if matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    ) {
        Kind::Exhausted
    } else {
        Kind::Unavailable
    }
}

/// Opens `path` for reading if it is a regular file: a link is not followed, a pipe not waited for.
pub(crate) fn open(path: &Path) -> Result<File, ImageError> {
    open_if_present(path)?.ok_or_else(|| ImageError::NotRegular("the file is gone".into()))
}

/// Whether the path is an overlay's mark that something below was removed.
fn is_whiteout(path: &Path) -> bool {
    rustix::fs::lstat(path).is_ok_and(|data| {
        FileType::from_raw_mode(data.st_mode) == FileType::CharacterDevice && data.st_rdev == 0
    })
}

/// As [`open`], `None` when nothing is there.
pub(crate) fn open_if_present(path: &Path) -> Result<Option<File>, ImageError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags | OFlags::NOCTTY, Mode::empty()) {
        Ok(file) => file,
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(rustix::io::Errno::LOOP) => {
            return Err(ImageError::NotRegular(
                "it was replaced by a symbolic link".into(),
            ));
        }
        Err(rustix::io::Errno::NXIO | rustix::io::Errno::ACCESS) if is_whiteout(path) => {
            return Ok(None);
        }
        Err(rustix::io::Errno::NXIO) => {
            return Err(ImageError::NotRegular(
                "it was replaced by a socket or pipe".into(),
            ));
        }
        Err(error) => return Err(io::Error::from(error).into()),
    };
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&file).map_err(io::Error::from)?.st_mode);
    if kind == FileType::RegularFile {
        return Ok(Some(File::from(file)));
    }
    let what = match kind {
        FileType::Directory => "a directory",
        FileType::Fifo => "a pipe",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        FileType::Socket | FileType::Symlink | FileType::RegularFile | FileType::Unknown => {
            "something that is not a file"
        }
    };
    Err(ImageError::NotRegular(format!("it was replaced by {what}")))
}
