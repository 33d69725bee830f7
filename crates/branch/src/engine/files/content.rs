//! The contents of files: hashed block by block, stored page by page. Zeros are as good as a hole:
//! a block of them is not hashed, and a page of them is neither stored nor written. So a sparse file
//! costs what its data costs, and a hash does not depend on how a file system laid the file out.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use rustix::fs::SeekFrom;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::tree::FileTime;

/// Files are read, compared and hashed in blocks of this many bytes.
pub(crate) const BLOCK_BYTES: u64 = 64 << 10;
const BLOCK: usize = 64 << 10;
static ZEROS: [u8; BLOCK] = [0; BLOCK];
/// What is stored is told apart from zeros in pages of this many bytes: the least that a file takes
/// of the layer that a run writes to, so that no byte of it becomes many in a pack. Contents of a
/// block or more also start at a multiple of it in a pack, as reflinks would need.
const PAGE_BYTES: u64 = 4096;
const PAGE: usize = 4096;

/// Where the bytes of a file are in a pack, and what they must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Content {
    /// BLAKE3 over each block that is not all zeros, as its number (64 bits, little-endian) and
    /// its bytes, and at the end the size (64 bits, little-endian). In hexadecimal.
    pub hash: String,
    /// Where the stored runs start in the pack; none when only the hash is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// The runs that are stored, one after the other: offset in the file and length, in bytes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<(u64, u64)>,
}

impl Content {
    /// Bytes that are stored of it.
    pub(crate) fn stored_bytes(&self) -> u64 {
        let lengths = self.runs.iter().map(|(_, length)| *length);
        lengths.fold(0, u64::saturating_add)
    }
}

/// Reads the blocks of a file that are not all zeros, in order.
pub(crate) struct Blocks<'a> {
    file: &'a File,
    size: u64,
    next: u64,
    data_end: u64,
    buffer: Vec<u8>,
}

impl<'a> Blocks<'a> {
    /// The blocks of the first `size` bytes of `file`.
    pub(crate) fn new(file: &'a File, size: u64) -> Self {
        let sparse_pays = size > BLOCK_BYTES;
        let data_end = if sparse_pays { 0 } else { size };
        let length = usize::try_from(size.min(BLOCK_BYTES)).unwrap_or(BLOCK);
        Self {
            file,
            size,
            next: 0,
            data_end,
            buffer: vec![0; length],
        }
    }

    /// The number and bytes of the next block.
    pub(crate) fn next(&mut self) -> io::Result<Option<(u64, &[u8])>> {
        while self.next < self.size {
            if self.next >= self.data_end && !self.find_data()? {
                return Ok(None);
            }
            let start = self.next;
            let length = usize::try_from((self.size - start).min(BLOCK_BYTES)).unwrap_or(BLOCK);
            self.next = start.saturating_add(BLOCK_BYTES);
            let Some(block) = self.buffer.get_mut(..length) else {
                return Ok(None);
            };
            self.file.read_exact_at(block, start)?;
            if ZEROS.get(..length) != Some(&*block) {
                return Ok(self
                    .buffer
                    .get(..length)
                    .map(|block| (start / BLOCK_BYTES, block)));
            }
        }
        Ok(None)
    }

    /// Moves on to the next block with data in it, as the file system knows it.
    fn find_data(&mut self) -> io::Result<bool> {
        let start = match rustix::fs::seek(self.file, SeekFrom::Data(self.next)) {
            Ok(start) => start,
            Err(Errno::NXIO) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let end = rustix::fs::seek(self.file, SeekFrom::Hole(start))?;
        self.next = self.next.max(start - start % BLOCK_BYTES);
        self.data_end = end.max(self.next + 1);
        Ok(self.next < self.size)
    }
}

/// Hashes blocks as [`Content::hash`] says.
struct Hash(blake3::Hasher);

impl Hash {
    fn block(&mut self, number: u64, block: &[u8]) {
        self.0.update(&number.to_le_bytes());
        self.0.update(block);
    }

    fn finish(mut self, size: u64) -> String {
        self.0.update(&size.to_le_bytes());
        self.0.finalize().to_hex().to_string()
    }
}

/// The hash of the first `size` bytes of a file.
pub(crate) fn hash(file: &File, size: u64) -> io::Result<String> {
    let mut hash = Hash(blake3::Hasher::new());
    let mut blocks = Blocks::new(file, size);
    while let Some((number, block)) = blocks.next()? {
        hash.block(number, block);
    }
    Ok(hash.finish(size))
}

/// Whether the first `size` bytes of both files are the same.
pub(crate) fn is_same(one: &File, other: &File, size: u64) -> io::Result<bool> {
    let (mut one, mut other) = (Blocks::new(one, size), Blocks::new(other, size));
    loop {
        match (one.next()?, other.next()?) {
            (None, None) => return Ok(true),
            (left, right) if left == right => {}
            _ => return Ok(false),
        }
    }
}

/// A file with several names, in one state: its inode number, and when it was last changed.
pub(crate) type Shared = (u64, FileTime);

/// The contents are longer than the files that they come from can account for.
#[derive(Debug, thiserror::Error)]
#[error("the contents are longer than {0} bytes")]
pub(crate) struct TooLong(pub(crate) u64);

/// Appends contents to a pack.
pub(crate) struct PackWriter {
    file: File,
    end: u64,
    bytes_max: u64,
    buffered: Vec<u8>,
    known: HashMap<Shared, Content>,
}

const BUFFER_BYTES: usize = 1 << 20;

impl PackWriter {
    /// A pack that is written to the empty `file`.
    pub(crate) fn new(file: File) -> Self {
        Self {
            file,
            end: 0,
            bytes_max: u64::MAX,
            buffered: Vec::new(),
            known: HashMap::new(),
        }
    }

    /// The same, refusing contents beyond so many bytes with [`TooLong`].
    pub(crate) fn bounded(file: File, bytes_max: u64) -> Self {
        Self {
            bytes_max,
            ..Self::new(file)
        }
    }

    /// As [`append`](Self::append), of a file with other names: appended once, however many of them
    /// come by.
    pub(crate) fn append_shared(
        &mut self,
        file: &File,
        size: u64,
        shared: Shared,
    ) -> io::Result<Content> {
        if let Some(known) = self.known.get(&shared) {
            return Ok(known.clone());
        }
        let content = self.append(file, size)?;
        self.known.insert(shared, content.clone());
        Ok(content)
    }

    /// Appends the first `size` bytes of `file`.
    pub(crate) fn append(&mut self, file: &File, size: u64) -> io::Result<Content> {
        if size >= BLOCK_BYTES {
            let gap = self.end.next_multiple_of(PAGE_BYTES) - self.end;
            let gap = usize::try_from(gap).unwrap_or(0);
            self.write(ZEROS.get(..gap).unwrap_or_default())?;
        }
        let offset = self.end;
        let mut runs: Vec<(u64, u64)> = Vec::new();
        let mut hash = Hash(blake3::Hasher::new());
        let mut blocks = Blocks::new(file, size);
        while let Some((number, block)) = blocks.next()? {
            hash.block(number, block);
            let mut start = number * BLOCK_BYTES;
            for page in block.chunks(PAGE) {
                let length = u64::try_from(page.len()).unwrap_or(0);
                if ZEROS.get(..page.len()) != Some(page) {
                    self.write(page)?;
                    match runs.last_mut() {
                        Some(last) if last.0 + last.1 == start => last.1 += length,
                        _ => runs.push((start, length)),
                    }
                }
                start += length;
            }
        }
        let hash = hash.finish(size);
        Ok(Content {
            hash,
            offset: Some(offset),
            runs,
        })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let end = self
            .end
            .saturating_add(u64::try_from(bytes.len()).unwrap_or(0));
        if end > self.bytes_max {
            return Err(io::Error::other(TooLong(self.bytes_max)));
        }
        if self.buffered.len() + bytes.len() > BUFFER_BYTES {
            self.flush()?;
        }
        self.buffered.extend_from_slice(bytes);
        self.end = end;
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let written = self.end - u64::try_from(self.buffered.len()).unwrap_or(0);
        self.file.write_all_at(&self.buffered, written)?;
        self.buffered.clear();
        Ok(())
    }

    /// Makes the pack durable and says how long it is.
    pub(crate) fn finish(mut self) -> io::Result<u64> {
        self.flush()?;
        self.file.sync_data()?;
        Ok(self.end)
    }
}

/// Writes a stored content of `size` bytes into the empty file `to`.
///
/// # Errors
/// Also when the pack does not hold what the change set says.
pub(crate) fn unpack(pack: &File, content: &Content, size: u64, to: &File) -> io::Result<()> {
    let mut blocks = Assembled::new(size);
    each_piece(pack, content, |start, piece| {
        blocks.piece(start, piece)?;
        to.write_all_at(piece, start)
    })?;
    to.set_len(size)?;
    if blocks.finish() == content.hash {
        return Ok(());
    }
    Err(not_said())
}

/// Blocks put together again from what is stored of them, for their hash.
struct Assembled {
    hash: Hash,
    size: u64,
    number: u64,
    block: Vec<u8>,
    is_empty: bool,
}

impl Assembled {
    fn new(size: u64) -> Self {
        let length = usize::try_from(size.min(BLOCK_BYTES)).unwrap_or(BLOCK);
        Self {
            hash: Hash(blake3::Hasher::new()),
            size,
            number: 0,
            block: vec![0; length],
            is_empty: true,
        }
    }

    /// Takes a piece that is within one block.
    fn piece(&mut self, start: u64, piece: &[u8]) -> io::Result<()> {
        let number = start / BLOCK_BYTES;
        if number != self.number {
            self.flush();
            self.number = number;
        }
        let at = usize::try_from(start % BLOCK_BYTES).unwrap_or(BLOCK);
        let place = self.block.get_mut(at..at.saturating_add(piece.len()));
        place.ok_or_else(not_said)?.copy_from_slice(piece);
        self.is_empty = false;
        Ok(())
    }

    fn flush(&mut self) {
        let start = self.number.saturating_mul(BLOCK_BYTES);
        let length = self.size.saturating_sub(start).min(BLOCK_BYTES);
        let length = usize::try_from(length).unwrap_or(BLOCK);
        if let Some(block) = self.block.get(..length).filter(|_| !self.is_empty) {
            self.hash.block(self.number, block);
        }
        self.block.fill(0);
        self.is_empty = true;
    }

    fn finish(mut self) -> String {
        self.flush();
        self.hash.finish(self.size)
    }
}

fn not_said() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the pack does not hold what the change set says",
    )
}

/// A stored content of at most `size` bytes in memory; for showing it.
pub(crate) fn unpack_to_memory(pack: &File, content: &Content, size: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; size];
    each_piece(pack, content, |start, piece| {
        let start = usize::try_from(start).unwrap_or(usize::MAX);
        let place = bytes.get_mut(start..start.saturating_add(piece.len()));
        place
            .ok_or(io::ErrorKind::InvalidData)?
            .copy_from_slice(piece);
        Ok(())
    })?;
    Ok(bytes)
}

/// Reads what is stored, in pieces that are each within one block of the file.
fn each_piece(
    pack: &File,
    content: &Content,
    mut act: impl FnMut(u64, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let Some(mut offset) = content.offset else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let mut buffer = vec![0_u8; BLOCK];
    for (start, length) in &content.runs {
        let mut done = 0;
        while done < *length {
            let at = start.checked_add(done).ok_or_else(not_said)?;
            let rest_of_block = BLOCK_BYTES - at % BLOCK_BYTES;
            let length = (length - done).min(rest_of_block);
            let wanted = usize::try_from(length).unwrap_or(BLOCK);
            let piece = buffer.get_mut(..wanted).ok_or_else(not_said)?;
            pack.read_exact_at(piece, offset)?;
            act(at, piece)?;
            offset = offset.saturating_add(length);
            done += length;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file_of(pieces: &[(u64, Vec<u8>)], size: u64) -> File {
        let file = tempfile::tempfile().unwrap();
        for (start, bytes) in pieces {
            file.write_all_at(bytes, *start).unwrap();
        }
        file.set_len(size).unwrap();
        file
    }

    #[test]
    fn a_terabyte_of_nothing_costs_nothing() {
        let size = 1 << 40;
        let file = file_of(&[(1 << 39, b"here".to_vec())], size);
        let mut pack = PackWriter::new(tempfile::tempfile().unwrap());
        let content = pack.append(&file, size).unwrap();
        assert_eq!(content.runs, [(1 << 39, PAGE_BYTES)]);
        assert_eq!(content.hash, hash(&file, size).unwrap());
    }

    #[test]
    fn a_byte_in_each_block_costs_a_page_each() {
        let pieces: Vec<_> = (0..64).map(|block| (block << 16, vec![1])).collect();
        let file = file_of(&pieces, 64 << 16);
        let packed = tempfile::tempfile().unwrap();
        let mut pack = PackWriter::new(packed.try_clone().unwrap());
        let content = pack.append(&file, 64 << 16).unwrap();
        assert_eq!(pack.finish().unwrap(), 64 * PAGE_BYTES);
        assert_eq!(content.runs.len(), 64);
        let back = tempfile::tempfile().unwrap();
        unpack(&packed, &content, 64 << 16, &back).unwrap();
        assert!(is_same(&file, &back, 64 << 16).unwrap());
    }

    /// As version 1 wrote them: whole blocks.
    #[test]
    fn runs_of_whole_blocks_are_read() {
        let size = 3 * BLOCK_BYTES - 5;
        let file = file_of(&[(2 * BLOCK_BYTES + 9, vec![7])], size);
        let content = Content {
            hash: hash(&file, size).unwrap(),
            offset: Some(0),
            runs: vec![(2 * BLOCK_BYTES, BLOCK_BYTES - 5)],
        };
        let mut packed = vec![0; BLOCK - 5];
        packed[9] = 7;
        let pack = file_of(&[(0, packed)], BLOCK_BYTES - 5);
        let back = tempfile::tempfile().unwrap();
        unpack(&pack, &content, size, &back).unwrap();
        assert!(is_same(&file, &back, size).unwrap());
    }

    #[test]
    fn a_bounded_pack_refuses_what_is_longer() {
        let mut pack = PackWriter::bounded(tempfile::tempfile().unwrap(), 6);
        pack.append(&file_of(&[(0, vec![1; 6])], 6), 6).unwrap();
        let error = pack.append(&file_of(&[(0, vec![1])], 1), 1).unwrap_err();
        assert_eq!(error.to_string(), "the contents are longer than 6 bytes");
        assert_eq!(pack.finish().unwrap(), 6);
    }

    #[test]
    fn a_file_with_many_names_is_stored_once() {
        let file = file_of(&[(0, vec![1; 9])], 9);
        let mut pack = PackWriter::new(tempfile::tempfile().unwrap());
        let one = pack.append_shared(&file, 9, (5, (1, 1))).unwrap();
        let same = pack.append_shared(&file, 9, (5, (1, 1))).unwrap();
        let changed = pack.append_shared(&file, 9, (5, (1, 2))).unwrap();
        assert_eq!(one, same);
        assert_eq!((one.offset, changed.offset), (Some(0), Some(9)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn packed_and_back(
            pieces in prop::collection::vec((0_u64..400_000, prop::collection::vec(any::<u8>(), 0..70_000)), 0..4),
            size in 0_u64..500_000,
        ) {
            let file = file_of(&pieces, size);
            let packed = tempfile::tempfile().unwrap();
            let mut pack = PackWriter::new(packed.try_clone().unwrap());
            pack.append(&file_of(&[(0, vec![1; 7])], 7), 7).unwrap();
            let content = pack.append(&file, size).unwrap();
            pack.finish().unwrap();
            let back = tempfile::tempfile().unwrap();
            unpack(&packed, &content, size, &back).unwrap();
            prop_assert!(is_same(&file, &back, size).unwrap());
            prop_assert_eq!(hash(&back, size).unwrap(), content.hash.clone());
            let memory = unpack_to_memory(&packed, &content, usize::try_from(size).unwrap()).unwrap();
            let mut plain = vec![0; memory.len()];
            file.read_exact_at(&mut plain, 0).unwrap();
            prop_assert_eq!(memory, plain);
        }
    }
}
