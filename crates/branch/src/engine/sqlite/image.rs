//! A database file as SQLite would see it after recovery, page by page, without writing anything:
//! the main file under the committed frames of its write-ahead log, or under what a hot rollback
//! journal would put back.
//!
//! Nothing is written because the files of a run were written by whoever ran there: letting SQLite
//! recover them would make it trust them, and a diff would change what it looks at.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::Advice;

use super::journal;
use super::regular;
use super::wal;

/// Pages of a database that is compared: 256 GiB at the usual 4 KiB.
pub(crate) const PAGES_MAX: u32 = 1 << 26;
const MAGIC: &[u8] = b"SQLite format 3\0";

/// Why a database cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The file is not what was expected: missing, a link, a pipe, a directory.
    #[error("{0}")]
    NotRegular(String),
    /// The bytes are no database.
    #[error("it is not a SQLite database: {0}")]
    NotDatabase(String),
    /// The database contradicts itself.
    #[error("the database is corrupt: {0}")]
    Corrupt(String),
    /// It is a database, but not one this program can compare.
    #[error("{0}")]
    Unsupported(String),
    /// Reading failed.
    #[error("could not read it")]
    Io(#[from] io::Error),
}

impl ImageError {
    pub(crate) fn corrupt(what: impl Into<String>) -> Self {
        Self::Corrupt(what.into())
    }
}

/// Text encoding of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Utf8,
    Utf16Le,
    Utf16Be,
}

/// What the first page says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) page_size: u32,
    /// Bytes of a page that SQLite uses; the rest is reserved for extensions.
    pub(crate) usable: usize,
    pub(crate) pages: u32,
    pub(crate) freelist_trunk: u32,
    pub(crate) auto_vacuum: bool,
    pub(crate) encoding: Encoding,
    pub(crate) user_version: i32,
    pub(crate) application_id: i32,
    /// Whether the file is in write-ahead mode.
    pub(crate) wal_mode: bool,
}

/// Where the newest committed version of a page is, if not in the main file.
#[derive(Clone, Copy, Debug)]
enum Place {
    Wal(u64),
    Journal(u64),
}

/// One database, read only.
#[derive(Debug)]
pub(crate) struct Image {
    main: File,
    main_bytes: u64,
    wal: Option<File>,
    journal: Option<File>,
    overlay: HashMap<u32, Place>,
    /// Page size of the log or journal that the overlay comes from.
    overlay_page_size: Option<u32>,
    /// `None` for an empty file, which is a database without tables.
    header: Option<Header>,
}

/// `path` with `suffix` appended to its last component, as SQLite names its companions.
pub(crate) fn companion(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

impl Image {
    /// Opens the database at `path` with its `-wal` or hot `-journal`, each a regular file.
    pub(crate) fn open(path: &Path) -> Result<Self, ImageError> {
        Self::open_with(path, path)
    }

    /// As `open`, with the `-wal` and `-journal` of another path.
    pub(crate) fn open_with(path: &Path, companions: &Path) -> Result<Self, ImageError> {
        let main = regular::open(path)?;
        let main_bytes = main.metadata()?.len();
        let mut image = Self {
            main,
            main_bytes,
            wal: None,
            journal: None,
            overlay: HashMap::new(),
            overlay_page_size: None,
            header: None,
        };
        let restored = image.roll_back(&companion(companions, "-journal"))?;
        let logged = image.replay(&companion(companions, "-wal"))?;
        image.header = image.read_header(logged.or(restored))?;
        Ok(image)
    }

    /// Puts the pages of a hot rollback journal over the file; answers the page count it restores.
    fn roll_back(&mut self, path: &Path) -> Result<Option<u32>, ImageError> {
        if self.main_bytes == 0 {
            return Ok(None);
        }
        let Some(file) = regular::open_if_present(path)? else {
            return Ok(None);
        };
        let Some(hot) = journal::read(&file)? else {
            return Ok(None);
        };
        for (page, offset) in hot.pages {
            self.overlay.insert(page, Place::Journal(offset));
        }
        self.overlay_page_size = Some(hot.page_size);
        self.journal = Some(file);
        Ok(Some(hot.page_count))
    }

    /// Puts the committed frames of a write-ahead log over the file; answers its page count.
    fn replay(&mut self, path: &Path) -> Result<Option<u32>, ImageError> {
        let Some(file) = regular::open_if_present(path)? else {
            return Ok(None);
        };
        let Some(log) = wal::read(&file)? else {
            return Ok(None);
        };
        for (page, offset) in log.pages {
            self.overlay.insert(page, Place::Wal(offset));
        }
        if self
            .overlay_page_size
            .replace(log.page_size)
            .is_some_and(|size| size != log.page_size)
        {
            return Err(ImageError::corrupt(
                "its journals disagree on the page size",
            ));
        }
        self.wal = Some(file);
        Ok(Some(log.page_count))
    }

    fn read_header(&self, page_count: Option<u32>) -> Result<Option<Header>, ImageError> {
        if self.main_bytes == 0 && self.overlay.is_empty() {
            return Ok(None);
        }
        let mut bytes = [0_u8; 100];
        match self.read_at(1, 0, &mut bytes) {
            Err(ImageError::Io(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(ImageError::NotDatabase(
                    "it is shorter than a header".into(),
                ));
            }
            other => other?,
        }
        let mut header = Header::parse(&bytes)?;
        if self
            .overlay_page_size
            .is_some_and(|size| size != header.page_size)
        {
            return Err(ImageError::corrupt("its journal has another page size"));
        }
        let by_size = self.main_bytes / u64::from(header.page_size);
        let by_size = u32::try_from(by_size).unwrap_or(u32::MAX);
        header.pages = match page_count {
            Some(count) => count,
            None if header.pages == 0 => by_size,
            None if header.pages > by_size => {
                return Err(ImageError::corrupt(
                    "the file is shorter than its header says",
                ));
            }
            None => header.pages,
        };
        if header.pages > PAGES_MAX {
            return Err(ImageError::Unsupported(format!(
                "it has {} pages, more than the {PAGES_MAX} that can be compared",
                header.pages
            )));
        }
        Ok(Some(header))
    }

    /// `None` for an empty file.
    pub(crate) const fn header(&self) -> Option<&Header> {
        self.header.as_ref()
    }

    pub(crate) fn pages(&self) -> u32 {
        self.header.as_ref().map_or(0, |header| header.pages)
    }

    /// Bytes of all its pages.
    pub(crate) fn bytes(&self) -> u64 {
        let of_page = |header: &Header| u64::from(header.pages) * u64::from(header.page_size);
        self.header.as_ref().map_or(0, of_page)
    }

    /// The main file, for comparing extents.
    pub(crate) const fn main(&self) -> &File {
        &self.main
    }

    /// Pages whose newest version is outside the main file.
    pub(crate) fn overlaid(&self) -> impl Iterator<Item = u32> + '_ {
        self.overlay.keys().copied()
    }

    fn read_at(&self, page: u32, offset: u64, into: &mut [u8]) -> Result<(), ImageError> {
        match (self.overlay.get(&page), &self.wal, &self.journal) {
            (Some(Place::Wal(at)), Some(wal), _) => wal.read_exact_at(into, at + offset)?,
            (Some(Place::Journal(at)), _, Some(journal)) => {
                journal.read_exact_at(into, at + offset)?;
            }
            (_, _, _) => self.main.read_exact_at(into, offset)?,
        }
        Ok(())
    }

    /// Tells the kernel which pages will be read, so that it fetches them side by side.
    pub(crate) fn prefetch(&self, pages: &[u32]) {
        let Some(header) = &self.header else {
            return;
        };
        let page_size = u64::from(header.page_size);
        let mut pages = pages
            .iter()
            .filter(|page| !self.overlay.contains_key(page))
            .peekable();
        while let Some(first) = pages.next() {
            let mut next = first.saturating_add(1);
            while pages.next_if(|page| **page == next).is_some() {
                next = next.saturating_add(1);
            }
            let start = u64::from(first.saturating_sub(1)) * page_size;
            let bytes = NonZeroU64::new(u64::from(next - first) * page_size);
            // Only a hint: without it the pages are read one by one.
            if rustix::fs::fadvise(&self.main, start, bytes, Advice::WillNeed).is_err() {
                return;
            }
        }
    }

    /// Reads page `page` (from 1) into `buffer`, which is resized to the page size.
    pub(crate) fn page(&self, page: u32, buffer: &mut Vec<u8>) -> Result<(), ImageError> {
        let Some(header) = &self.header else {
            return Err(ImageError::corrupt("an empty database has no pages"));
        };
        if page == 0 || page > header.pages {
            return Err(ImageError::Corrupt(format!("page {page} does not exist")));
        }
        buffer.resize(usize::try_from(header.page_size).unwrap_or(0), 0);
        match (self.overlay.get(&page), &self.wal, &self.journal) {
            (Some(Place::Wal(at)), Some(wal), _) => wal.read_exact_at(buffer, *at)?,
            (Some(Place::Journal(at)), _, Some(journal)) => journal.read_exact_at(buffer, *at)?,
            (_, _, _) => {
                let at = u64::from(page - 1) * u64::from(header.page_size);
                self.main.read_exact_at(buffer, at)?;
            }
        }
        Ok(())
    }
}

impl Header {
    /// Parses the first 100 bytes of a database.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, ImageError> {
        if !bytes.starts_with(MAGIC) {
            let reason = "its first bytes are not `SQLite format 3` (encrypted, or another format)";
            return Err(ImageError::NotDatabase(reason.into()));
        }
        let page_size = match be16(bytes, 16) {
            Some(1) => 65_536,
            Some(size) if size.is_power_of_two() && size >= 512 => u32::from(size),
            _ => return Err(ImageError::corrupt("the header has no valid page size")),
        };
        let reserved = usize::from(bytes.get(20).copied().unwrap_or(0));
        let usable = usize::try_from(page_size)
            .unwrap_or(0)
            .saturating_sub(reserved);
        let wal_mode = match bytes.get(18..20) {
            Some([1, 1]) => false,
            Some([2, 2] | [1, 2] | [2, 1]) => true,
            _ => {
                return Err(ImageError::Unsupported(
                    "its file format version is newer than this program knows".into(),
                ));
            }
        };
        if usable < 480 || bytes.get(21..24) != Some(&[64, 32, 32]) {
            return Err(ImageError::corrupt("the header has impossible settings"));
        }
        let word = |at| be32(bytes, at).unwrap_or(0);
        let encoding = match word(56) {
            0 | 1 => Encoding::Utf8,
            2 => Encoding::Utf16Le,
            3 => Encoding::Utf16Be,
            _ => {
                return Err(ImageError::corrupt(
                    "the header names no known text encoding",
                ));
            }
        };
        // The page count counts only when the last writer knew to keep it.
        let pages = if word(24) == word(92) { word(28) } else { 0 };
        Ok(Self {
            page_size,
            usable,
            pages,
            freelist_trunk: word(32),
            auto_vacuum: word(52) != 0,
            encoding,
            user_version: word(60).cast_signed(),
            application_id: word(68).cast_signed(),
            wal_mode,
        })
    }

    /// The page that holds the lock bytes; SQLite never uses it.
    pub(crate) const fn lock_page(&self) -> u32 {
        (1 << 30) / self.page_size + 1
    }
}

/// A big-endian 16-bit number at `at`.
pub(crate) fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    let field = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_be_bytes(field.try_into().ok()?))
}

/// A big-endian 32-bit number at `at`.
pub(crate) fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    let field = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(field.try_into().ok()?))
}
