//! Segments: the files that hold the frames, and the header each begins with.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::error::Place;
use crate::merkle::{Frontier, Hash};
use crate::note::{Checkpoint, Signer, Verifier};

/// How long a segment's header is.
pub(crate) const HEADER_BYTES: usize = 4096;
/// Where the first frame begins.
pub(crate) const FIRST_FRAME: u64 = 4096;
const MAGIC: [u8; 8] = *b"\xffBELLJAR";
const VERSION: u32 = 1;
const CHECKED_BYTES: usize = HEADER_BYTES - 32;
const PEAKS_MAX: usize = 64;
const ORIGIN_BYTES_MAX: usize = 256;
const EXTENSION: &str = "segment";

/// Where the log is up to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    /// The segment's number.
    pub(crate) segment: u32,
    /// Where the next frame begins.
    pub(crate) offset: u64,
    /// The length of the frame before, 0 when there is none in this segment.
    pub(crate) back: u32,
    /// The leaf hash of the last record.
    pub(crate) last: Hash,
    /// The tree of all records so far.
    pub(crate) frontier: Frontier,
}

impl Position {
    /// The place of the next record.
    pub(crate) const fn seq(&self) -> u64 {
        self.frontier.size()
    }

    pub(crate) const fn place(&self) -> Place {
        Place {
            segment: self.segment,
            offset: self.offset,
            seq: self.frontier.size(),
        }
    }

    /// Passes over a frame with these leaves.
    pub(crate) fn advance(&mut self, frame_bytes: u32, leaves: &[Hash]) {
        self.offset += u64::from(frame_bytes);
        self.back = frame_bytes;
        for leaf in leaves {
            self.frontier.push(*leaf);
            self.last = *leaf;
        }
    }
}

/// What a segment begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// The segment is full when its next frame would begin here or later.
    pub(crate) bound: u64,
    /// Where the segment before ended: its offset and its last frame's length.
    pub(crate) before: (u64, u32),
    /// Where this one begins.
    pub(crate) start: Position,
    /// The log's name.
    pub(crate) origin: String,
    /// The key's public half.
    pub(crate) public_key: [u8; 32],
    /// Its signature over the checkpoint of all records before this segment.
    pub(crate) signature: [u8; 64],
}

impl Header {
    /// The header of the segment that continues after `end`, or of the very first one.
    pub(crate) fn next(end: Option<&Position>, bound: u64, signer: &Signer) -> Self {
        let (segment, before) = match end {
            Some(end) => (end.segment.saturating_add(1), (end.offset, end.back)),
            None => (0, (0, 0)),
        };
        let start = Position {
            segment,
            offset: FIRST_FRAME,
            back: 0,
            last: end.map_or(Hash::ZERO, |end| end.last),
            frontier: end.map(|end| end.frontier.clone()).unwrap_or_default(),
        };
        let mut header = Self {
            bound,
            before,
            start,
            origin: signer.verifier().name().to_owned(),
            public_key: *signer.verifier().public_key(),
            signature: [0; 64],
        };
        header.signature = signer.sign_text(&header.checkpoint());
        header
    }

    fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            origin: self.origin.clone(),
            size: self.start.seq(),
            root: self.start.frontier.root(),
        }
    }

    /// Whether `key` signed it.
    pub(crate) fn signed_by(&self, key: &Verifier) -> bool {
        self.origin == key.name()
            && self.public_key == *key.public_key()
            && key.holds(&self.checkpoint().text(), &self.signature)
    }

    /// The bytes of the file's beginning.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&self.start.segment.to_le_bytes());
        bytes.extend_from_slice(&self.start.seq().to_le_bytes());
        bytes.extend_from_slice(&self.bound.to_le_bytes());
        bytes.extend_from_slice(&self.before.0.to_le_bytes());
        bytes.extend_from_slice(&self.before.1.to_le_bytes());
        bytes.extend_from_slice(self.start.last.as_bytes());
        bytes.extend_from_slice(&self.public_key);
        bytes.extend_from_slice(&self.signature);
        let origin = self.origin.as_bytes();
        let length = u16::try_from(origin.len()).unwrap_or(u16::MAX);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(origin);
        for peak in self.start.frontier.peaks() {
            bytes.extend_from_slice(peak.as_bytes());
        }
        bytes.resize(CHECKED_BYTES, 0);
        let check = Hash::of(&bytes);
        bytes.extend_from_slice(check.as_bytes());
        bytes
    }

    /// Reads a header; nothing when it is none, damaged, or of another version.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let (checked, check) = bytes.split_at_checked(CHECKED_BYTES)?;
        if Hash::of(checked).as_bytes() != check {
            return None;
        }
        let mut rest = checked;
        let magic = take::<8>(&mut rest)?;
        let version = u32::from_le_bytes(take(&mut rest)?);
        let segment = u32::from_le_bytes(take(&mut rest)?);
        let size = u64::from_le_bytes(take(&mut rest)?);
        let bound = u64::from_le_bytes(take(&mut rest)?);
        let before = (
            u64::from_le_bytes(take(&mut rest)?),
            u32::from_le_bytes(take(&mut rest)?),
        );
        let last = Hash::from_bytes(take(&mut rest)?);
        let public_key = take(&mut rest)?;
        let signature = take(&mut rest)?;
        let length = usize::from(u16::from_le_bytes(take(&mut rest)?));
        if magic != MAGIC || version != VERSION || length > ORIGIN_BYTES_MAX {
            return None;
        }
        let (origin, mut rest) = rest.split_at_checked(length)?;
        let frontier = take_frontier(&mut rest, size)?;
        let clean = rest.iter().all(|byte| *byte == 0);
        let start = Position {
            segment,
            offset: FIRST_FRAME,
            back: 0,
            last,
            frontier,
        };
        clean.then_some(Self {
            bound,
            before,
            start,
            origin: String::from_utf8(origin.to_vec()).ok()?,
            public_key,
            signature,
        })
    }

    /// Reads the header of an open segment.
    pub(crate) fn read(file: &File) -> io::Result<Option<Self>> {
        let mut bytes = vec![0; HEADER_BYTES];
        match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => Ok(Self::parse(&bytes)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Takes the next bytes of fixed length.
pub(crate) fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (chunk, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(*chunk)
}

/// Takes as many peaks as a tree of this size has.
pub(crate) fn take_frontier(rest: &mut &[u8], size: u64) -> Option<Frontier> {
    let count = usize::try_from(size.count_ones()).ok()?.min(PEAKS_MAX);
    let mut peaks = Vec::with_capacity(count);
    for _ in 0..count {
        peaks.push(Hash::from_bytes(take(rest)?));
    }
    Frontier::from_parts(size, peaks)
}

/// The path of a segment.
pub(crate) fn path(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{number:08}.{EXTENSION}"))
}

/// The numbers of the segments in a directory, ascending.
pub(crate) fn list(dir: &Path) -> io::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        if let Some(name) = name.to_str()
            && let Some((number, EXTENSION)) = name.split_once('.')
            && number.len() == 8
            && let Ok(number) = number.parse()
        {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Makes a segment that is there whole or not at all, durable, with `zeros` bytes of room.
pub(crate) fn create(dir: &Path, header: &Header, zeros: usize) -> io::Result<File> {
    let path = path(dir, header.start.segment);
    let new = path.with_extension("segment.new");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(&header.to_bytes())?;
    file.write_all(&vec![0; zeros])?;
    file.sync_all()?;
    fs::rename(&new, &path)?;
    File::open(dir)?.sync_all()?;
    Ok(file)
}

/// Opens a segment to read and write.
pub(crate) fn open(dir: &Path, number: u32) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path(dir, number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        let signer = Signer::generate([1; 32]);
        let mut end = Header::next(None, 1 << 20, &signer).start;
        end.advance(100, &[Hash::of(b"a"), Hash::of(b"b"), Hash::of(b"c")]);
        Header::next(Some(&end), 1 << 20, &signer)
    }

    #[test]
    fn a_header_reads_back() {
        let header = header();
        let bytes = header.to_bytes();
        assert_eq!(bytes.len(), HEADER_BYTES);
        assert_eq!(Header::parse(&bytes).unwrap(), header);
        assert!(header.signed_by(Signer::generate([1; 32]).verifier()));
        assert!(!header.signed_by(Signer::generate([2; 32]).verifier()));
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let bytes = header().to_bytes();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::parse(&changed), None, "bit {bit}");
        }
    }
}
