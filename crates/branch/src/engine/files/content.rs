//! The contents of files, block by block. A block of zeros is as good as a hole: it is not stored,
//! not hashed and not written, so a sparse file costs what its data costs, and a hash does not
//! depend on how a file system laid the file out.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use rustix::fs::SeekFrom;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// Files are read, compared, hashed and stored in blocks of this many bytes.
pub(crate) const BLOCK_BYTES: u64 = 64 << 10;
const BLOCK: usize = 64 << 10;
static ZEROS: [u8; BLOCK] = [0; BLOCK];
/// Contents of a block or more start at a multiple of this in a pack, as reflinks would need.
const ALIGN_BYTES: u64 = 4096;

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

/// Appends contents to a pack.
pub(crate) struct PackWriter {
    file: File,
    end: u64,
    buffered: Vec<u8>,
}

const BUFFER_BYTES: usize = 1 << 20;

impl PackWriter {
    /// A pack that is written to the empty `file`.
    pub(crate) const fn new(file: File) -> Self {
        let buffered = Vec::new();
        Self {
            file,
            end: 0,
            buffered,
        }
    }

    /// Appends the first `size` bytes of `file`.
    pub(crate) fn append(&mut self, file: &File, size: u64) -> io::Result<Content> {
        if size >= BLOCK_BYTES {
            let gap = self.end.next_multiple_of(ALIGN_BYTES) - self.end;
            let gap = usize::try_from(gap).unwrap_or(0);
            self.write(ZEROS.get(..gap).unwrap_or_default())?;
        }
        let offset = self.end;
        let mut runs: Vec<(u64, u64)> = Vec::new();
        let mut hash = Hash(blake3::Hasher::new());
        let mut blocks = Blocks::new(file, size);
        while let Some((number, block)) = blocks.next()? {
            hash.block(number, block);
            self.write(block)?;
            let (start, length) = (
                number * BLOCK_BYTES,
                u64::try_from(block.len()).unwrap_or(0),
            );
            match runs.last_mut() {
                Some(last) if last.0 + last.1 == start => last.1 += length,
                _ => runs.push((start, length)),
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
        if self.buffered.len() + bytes.len() > BUFFER_BYTES {
            self.flush()?;
        }
        self.buffered.extend_from_slice(bytes);
        self.end += u64::try_from(bytes.len()).unwrap_or(0);
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
    let mut hash = Hash(blake3::Hasher::new());
    each_block(pack, content, |start, block| {
        hash.block(start / BLOCK_BYTES, block);
        to.write_all_at(block, start)
    })?;
    to.set_len(size)?;
    if hash.finish(size) == content.hash {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidData,
        "the pack does not hold what the change set says",
    ))
}

/// A stored content of at most `size` bytes in memory; for showing it.
pub(crate) fn unpack_to_memory(pack: &File, content: &Content, size: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; size];
    each_block(pack, content, |start, block| {
        let start = usize::try_from(start).unwrap_or(usize::MAX);
        let place = bytes.get_mut(start..start.saturating_add(block.len()));
        place
            .ok_or(io::ErrorKind::InvalidData)?
            .copy_from_slice(block);
        Ok(())
    })?;
    Ok(bytes)
}

fn each_block(
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
            let piece = (length - done).min(BLOCK_BYTES);
            let wanted = usize::try_from(piece).unwrap_or(BLOCK);
            let Some(block) = buffer.get_mut(..wanted) else {
                return Err(io::ErrorKind::InvalidData.into());
            };
            pack.read_exact_at(block, offset)?;
            act(start.saturating_add(done), block)?;
            offset = offset.saturating_add(piece);
            done += piece;
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
        assert_eq!(content.runs, [(1 << 39, BLOCK_BYTES)]);
        assert_eq!(content.hash, hash(&file, size).unwrap());
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
