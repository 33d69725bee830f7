//! Reads a rollback journal: which pages a recovery would put back.
//! Layout: <https://sqlite.org/fileformat2.html#the_rollback_journal>.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

use super::image::{ImageError, be32};

const MAGIC: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];

/// What a hot journal would put back.
#[derive(Debug)]
pub(crate) struct Hot {
    /// Page number → offset of its old version in the journal.
    pub(crate) pages: HashMap<u32, u64>,
    /// Pages of the database before the transaction.
    pub(crate) page_count: u32,
    /// Bytes of a page, which must be the database's own.
    pub(crate) page_size: u32,
}

/// One segment of a journal: records written between two syncs.
struct Segment {
    records: u32,
    nonce: u32,
    page_count: u32,
    sector: u64,
    page_size: u32,
}

/// Reads the journal; `None` when it is not hot.
pub(crate) fn read(file: &File) -> Result<Option<Hot>, ImageError> {
    let bytes = file.metadata()?.len();
    let Some(first) = segment(file, 0, bytes)? else {
        return Ok(None);
    };
    if names_super_journal(file, bytes)? {
        return Err(ImageError::Unsupported(
            "it was left in the middle of a transaction over several databases".into(),
        ));
    }
    let mut hot = Hot {
        pages: HashMap::new(),
        page_count: first.page_count,
        page_size: first.page_size,
    };
    let mut next = Some(first);
    let mut start = 0;
    while let Some(segment) = next.take() {
        let Some(end) = records(file, &segment, start, bytes, &mut hot)? else {
            break;
        };
        start = end.next_multiple_of(segment.sector);
        next = self::segment(file, start, bytes)?;
    }
    hot.pages.retain(|page, _| *page <= hot.page_count);
    Ok(Some(hot))
}

/// The segment header at `start`, unless there is none.
fn segment(file: &File, start: u64, bytes: u64) -> Result<Option<Segment>, ImageError> {
    let mut header = [0_u8; 28];
    if start.saturating_add(28) > bytes {
        return Ok(None);
    }
    file.read_exact_at(&mut header, start)?;
    if !header.starts_with(&MAGIC) {
        return Ok(None);
    }
    let word = |at| be32(&header, at).unwrap_or(0);
    let (sector, page_size) = (word(20), word(24));
    let valid = |size: u32, least: u32| size.is_power_of_two() && (least..=65_536).contains(&size);
    if !valid(sector, 32) || !valid(page_size, 512) {
        return Ok(None);
    }
    Ok(Some(Segment {
        records: word(8),
        nonce: word(12),
        page_count: word(16),
        sector: u64::from(sector),
        page_size,
    }))
}

/// Adds the records of one segment; answers where they end, or `None` when one is not whole.
fn records(
    file: &File,
    segment: &Segment,
    start: u64,
    bytes: u64,
    hot: &mut Hot,
) -> Result<Option<u64>, ImageError> {
    let record_bytes = u64::from(segment.page_size) + 8;
    let mut at = start + segment.sector;
    let room = bytes.saturating_sub(at) / record_bytes;
    // Without syncs SQLite does not go back to count: all that is there counts.
    let count = match segment.records {
        u32::MAX => room,
        records => u64::from(records),
    };
    let mut record = vec![0_u8; usize::try_from(record_bytes).unwrap_or(0)];
    for index in 0..count {
        if index >= room {
            return Ok(None);
        }
        file.read_exact_at(&mut record, at)?;
        let page = be32(&record, 0).unwrap_or(0);
        let stored = be32(&record, record.len().saturating_sub(4)).unwrap_or(0);
        let data = record.get(4..record.len() - 4).unwrap_or_default();
        if page == 0 || checksum(segment.nonce, data) != stored {
            return Ok(None);
        }
        hot.pages.entry(page).or_insert(at + 4);
        at += record_bytes;
    }
    Ok(Some(at))
}

/// Every 200th byte from the end, added to the nonce.
fn checksum(nonce: u32, page: &[u8]) -> u32 {
    let mut sum = nonce;
    let mut at = page.len().saturating_sub(200);
    while at > 0 {
        sum = sum.wrapping_add(u32::from(page.get(at).copied().unwrap_or(0)));
        at = at.saturating_sub(200);
    }
    sum
}

/// A transaction over several attached databases ends its journals with the name of a file that
/// decides for all of them.
fn names_super_journal(file: &File, bytes: u64) -> Result<bool, ImageError> {
    let mut tail = [0_u8; 8];
    if bytes < 16 {
        return Ok(false);
    }
    file.read_exact_at(&mut tail, bytes - 8)?;
    Ok(tail == MAGIC)
}
