//! Reads a write-ahead log: which page versions a recovery would find committed.
//! Layout: <https://sqlite.org/fileformat2.html#the_write_ahead_log>.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};

use super::image::{ImageError, be32};

const HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;

/// The committed part of a log.
#[derive(Debug)]
pub(crate) struct Log {
    /// Page number → offset of its newest committed version in the log.
    pub(crate) pages: HashMap<u32, u64>,
    /// Pages of the database after the last commit.
    pub(crate) page_count: u32,
    /// Bytes of a page, which must be the database's own.
    pub(crate) page_size: u32,
}

/// Running checksum over 8-byte steps, in the byte order the log's magic names.
#[derive(Clone, Copy)]
struct Checksum {
    big_endian: bool,
    sums: (u32, u32),
}

impl Checksum {
    fn add(&mut self, bytes: &[u8]) {
        let (mut first, mut second) = self.sums;
        for pair in bytes.chunks_exact(8) {
            let (left, right) = pair.split_at(4);
            first = first.wrapping_add(self.word(left)).wrapping_add(second);
            second = second.wrapping_add(self.word(right)).wrapping_add(first);
        }
        self.sums = (first, second);
    }

    fn word(self, bytes: &[u8]) -> u32 {
        let bytes = <[u8; 4]>::try_from(bytes).unwrap_or_default();
        if self.big_endian {
            u32::from_be_bytes(bytes)
        } else {
            u32::from_le_bytes(bytes)
        }
    }
}

/// Reads the log; `None` when it holds nothing committed, as when SQLite would ignore it.
pub(crate) fn read(file: &File) -> Result<Option<Log>, ImageError> {
    let mut input = io::BufReader::with_capacity(1 << 18, file);
    let mut header = [0_u8; HEADER_BYTES];
    if !read_whole(&mut input, &mut header)? {
        return Ok(None);
    }
    let word = |at| be32(&header, at).unwrap_or(0);
    let magic = word(0);
    let page_size = word(8);
    let size_valid = page_size.is_power_of_two() && (512..=65_536).contains(&page_size);
    if magic & !1 != 0x377f_0682 || word(4) != 3_007_000 || !size_valid {
        return Ok(None);
    }
    let mut sum = Checksum {
        big_endian: magic & 1 == 1,
        sums: (0, 0),
    };
    sum.add(header.get(..24).unwrap_or_default());
    if sum.sums != (word(24), word(28)) {
        return Ok(None);
    }
    let salts = (word(16), word(20));
    frames(&mut input, page_size, salts, sum)
}

fn frames(
    input: &mut impl Read,
    page_size: u32,
    salts: (u32, u32),
    mut sum: Checksum,
) -> Result<Option<Log>, ImageError> {
    let page_bytes = usize::try_from(page_size).unwrap_or(0);
    let mut frame = vec![0_u8; FRAME_HEADER_BYTES + page_bytes];
    let frame_bytes = u64::from(page_size) + 24;
    let mut at = 32_u64;
    let mut pending = Vec::new();
    let mut log: Option<Log> = None;
    while read_whole(input, &mut frame)? {
        let word = |at| be32(&frame, at).unwrap_or(0);
        let (page, commit) = (word(0), word(4));
        sum.add(frame.get(..8).unwrap_or_default());
        sum.add(frame.get(FRAME_HEADER_BYTES..).unwrap_or_default());
        if (word(8), word(12)) != salts || sum.sums != (word(16), word(20)) || page == 0 {
            break;
        }
        pending.push((page, at + 24));
        if commit != 0 {
            let log = log.get_or_insert_with(|| Log {
                pages: HashMap::new(),
                page_count: 0,
                page_size,
            });
            log.pages.extend(pending.drain(..));
            log.page_count = commit;
        }
        at += frame_bytes;
    }
    Ok(log)
}

/// Fills `buffer`, or answers `false` when the input ends before.
fn read_whole(input: &mut impl Read, buffer: &mut [u8]) -> Result<bool, ImageError> {
    match input.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error.into()),
    }
}
