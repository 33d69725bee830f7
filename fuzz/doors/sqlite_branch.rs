//! A branch as a run left it: the first byte says which files are there and how the others are to
//! be read. `seal` must give an answer, and what it wrote must read back.

use std::fs;
use std::io;
use std::path::Path;

use belljar_branch::engine::sqlite::{Bounds, ChangeSet, seal};

use super::{patch, scratch};

const BASE: &[u8] = include_bytes!("../fixtures/base.db");
const WORK: &[u8] = include_bytes!("../fixtures/work.db");
const LOG: &[u8] = include_bytes!("../fixtures/work.db-wal");
const JOURNAL: &[u8] = include_bytes!("../fixtures/work.db-journal");

/// There is a write-ahead log.
const HAS_LOG: u8 = 1;
/// There is a rollback journal.
const HAS_JOURNAL: u8 = 2;
/// The checksums of both are made right, as whoever writes them would.
const CHECKED: u8 = 4;
/// What follows is two lengths of 16 bits, the database, the log and the journal; not patches.
const WHOLE: u8 = 8;

pub(crate) fn enter(bytes: &[u8]) -> io::Result<()> {
    let Some((flags, rest)) = bytes.split_first() else {
        return Ok(());
    };
    let mut files = if flags & WHOLE != 0 {
        split(rest)
    } else {
        let mut files = vec![WORK.to_vec(), LOG.to_vec(), JOURNAL.to_vec()];
        patch::apply(&mut files, rest);
        files
    };
    let [work, log, journal] = files.as_mut_slice() else {
        return Ok(());
    };
    if flags & CHECKED != 0 {
        check_log(log);
        check_journal(journal);
    }
    let directory = scratch::directory()?;
    let at = |name: &str| directory.path().join(name);
    fs::create_dir(at("work"))?;
    fs::write(at("base.db"), BASE)?;
    fs::write(at("work/work.db"), work)?;
    if flags & HAS_LOG != 0 {
        fs::write(at("work/work.db-wal"), log)?;
    }
    if flags & HAS_JOURNAL != 0 {
        fs::write(at("work/work.db-journal"), journal)?;
    }
    look(directory.path());
    Ok(())
}

fn split(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = bytes;
    let lengths: Vec<usize> = (0..2)
        .filter_map(|_| {
            let (length, after) = rest.split_first_chunk()?;
            rest = after;
            Some(usize::from(u16::from_le_bytes(*length)))
        })
        .collect();
    let mut files = Vec::new();
    for length in lengths {
        let (file, after) = rest.split_at(length.min(rest.len()));
        rest = after;
        files.push(file.to_vec());
    }
    files.push(rest.to_vec());
    files
}

/// Whatever is there, sealing answers, and what was sealed is whole.
fn look(directory: &Path) {
    let sealed = seal(directory);
    let Ok(changes) = &sealed else {
        assert!(sealed.is_ok(), "{sealed:?}");
        return;
    };
    let loaded = ChangeSet::load(directory);
    let Ok(set) = &loaded else {
        assert!(loaded.is_ok(), "{loaded:?}");
        return;
    };
    assert_eq!(&set.changes, changes);
    for table in &changes.tables {
        let rows = set
            .rows(table)
            .map(|rows| rows.filter(Result::is_ok).count());
        let rows = rows.ok().and_then(|rows| u64::try_from(rows).ok());
        assert_eq!(rows, Some(table.rows()), "{table:?}");
    }
    let text = set.text(Bounds::default()).unwrap_or_default();
    let acts = |c: char| c.is_control() && c != '\n';
    assert!(!text.is_empty() || changes.is_empty());
    assert!(!text.contains(acts), "{text:?}");
    assert!(set.json(Bounds::default()).is_ok());
}

fn be32(bytes: &[u8], at: usize) -> usize {
    let field = bytes.get(at..).and_then(<[u8]>::first_chunk);
    field.map_or(0, |field| {
        usize::try_from(u32::from_be_bytes(*field)).unwrap_or(0)
    })
}

fn put(bytes: &mut [u8], at: usize, word: u32) {
    let field = bytes.get_mut(at..).and_then(<[u8]>::first_chunk_mut);
    if let Some(field) = field {
        *field = word.to_be_bytes();
    }
}

/// Bytes of a page, where that is possible at all.
fn page_bytes(bytes: &[u8], at: usize) -> Option<usize> {
    let size = be32(bytes, at);
    ((512..=65_536).contains(&size) && size.is_power_of_two()).then_some(size)
}

/// <https://sqlite.org/fileformat2.html#checksum_algorithm>
fn check_log(log: &mut [u8]) {
    let Some(page) = page_bytes(log, 8) else {
        return;
    };
    let is_big = be32(log, 0) & 1 == 1;
    let Some((header, mut rest)) = log.split_at_mut_checked(32) else {
        return;
    };
    let mut sums = sum(is_big, (0, 0), header.get(..24).unwrap_or_default());
    put(header, 24, sums.0);
    put(header, 28, sums.1);
    let salts = header.get(16..24).unwrap_or_default();
    while let Some((frame, after)) = rest.split_at_mut_checked(24 + page) {
        rest = after;
        if let Some(place) = frame.get_mut(8..16) {
            place.copy_from_slice(salts);
        }
        sums = sum(is_big, sums, frame.get(..8).unwrap_or_default());
        sums = sum(is_big, sums, frame.get(24..).unwrap_or_default());
        put(frame, 16, sums.0);
        put(frame, 20, sums.1);
    }
}

fn sum(is_big: bool, start: (u32, u32), bytes: &[u8]) -> (u32, u32) {
    let word = |word: [u8; 4]| match is_big {
        true => u32::from_be_bytes(word),
        false => u32::from_le_bytes(word),
    };
    bytes.as_chunks::<4>().0.as_chunks::<2>().0.iter().fold(
        start,
        |(first, second), [left, right]| {
            let first = first.wrapping_add(word(*left)).wrapping_add(second);
            (first, second.wrapping_add(word(*right)).wrapping_add(first))
        },
    )
}

/// <https://sqlite.org/fileformat2.html#the_rollback_journal>: the records of the first segment.
fn check_journal(journal: &mut [u8]) {
    let Some(page) = page_bytes(journal, 24) else {
        return;
    };
    let nonce = u32::try_from(be32(journal, 12)).unwrap_or(0);
    let sector = be32(journal, 20);
    let Some(records) = journal.get_mut(sector..) else {
        return;
    };
    for record in records.chunks_exact_mut(page + 8) {
        let data = record.get(4..4 + page).unwrap_or_default();
        let picked = (1..).map_while(|nth| page.checked_sub(nth * 200));
        let sum = picked
            .filter(|at| *at > 0)
            .filter_map(|at| data.get(at))
            .fold(nonce, |sum, byte| sum.wrapping_add(u32::from(*byte)));
        put(record, 4 + page, sum);
    }
}
