//! Which pages of two database files may differ: by the physical extents that the file system says
//! they share, or by comparing the bytes.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};

use fiemap::{Fiemap, FiemapExtent, FiemapExtentFlags, FiemapFlags};

use super::btree::PageSet;
use super::diff::DiffError;
use super::image::{Image, ImageError};

/// Bytes compared at a time.
const BLOCK_BYTES: usize = 1 << 20;
const THREADS: u64 = 2;
/// Pages asked for ahead of reading them.
const PREFETCH_PAGES: usize = 2048;

/// A stretch of a file whose bytes may differ from the other file's.
type Range = std::ops::Range<u64>;

/// The pages, present in both, whose bytes differ.
pub(crate) fn pages(base: &Image, work: &Image) -> Result<(PageSet, Vec<u32>), DiffError> {
    let (Some(before), Some(after)) = (base.header(), work.header()) else {
        return Ok((PageSet::new(0), Vec::new()));
    };
    let common = before.pages.min(after.pages);
    let page_size = u64::from(before.page_size);
    let mut candidates = PageSet::new(common);
    let mut list = Vec::new();
    let mut add = |page: u32| {
        if page >= 1 && page <= common && candidates.insert(page) {
            list.push(page);
        }
    };
    base.overlaid().chain(work.overlaid()).for_each(&mut add);
    let end = u64::from(common) * page_size;
    for range in differing(base.main(), work.main(), end)? {
        let first = range.start / page_size + 1;
        let last = range.end.div_ceil(page_size);
        (first..=last)
            .filter_map(|page| u32::try_from(page).ok())
            .for_each(&mut add);
    }
    list.sort_unstable();
    let mut changed = PageSet::new(common);
    let mut different = Vec::new();
    let (mut old, mut new) = (Vec::new(), Vec::new());
    for pages in list.chunks(PREFETCH_PAGES) {
        base.prefetch(pages);
        work.prefetch(pages);
        for page in pages {
            base.page(*page, &mut old).map_err(DiffError::Base)?;
            work.page(*page, &mut new).map_err(DiffError::Work)?;
            if old != new {
                changed.insert(*page);
                different.push(*page);
            }
        }
    }
    Ok((changed, different))
}

/// Stretches below `end` in which the two files may differ.
fn differing(base: &File, work: &File, end: u64) -> Result<Vec<Range>, DiffError> {
    let device = |file: &File| Ok(file.metadata()?.dev());
    let old = device(base).map_err(DiffError::Base)?;
    let same_device = old == device(work).map_err(DiffError::Work)?;
    if same_device && let Some(ranges) = unshared(base, work, end) {
        let bytes: u64 = ranges.iter().map(|range| range.end - range.start).sum();
        // When little is shared the byte comparison, on both cores, is faster than page by page.
        if bytes < end / 2 {
            return Ok(ranges);
        }
    }
    compare(base, work, end)
}

/// One trustworthy stretch: these logical bytes are at that place of the device.
#[derive(Clone, Copy)]
struct Mapped {
    start: u64,
    end: u64,
    /// Physical minus logical, wrapping.
    shift: u64,
}

/// What the two files do not share, or `None` when the file system does not say.
fn unshared(base: &File, work: &File, end: u64) -> Option<Vec<Range>> {
    let (old, new) = (mapped(base)?, mapped(work)?);
    let mut ranges = Vec::new();
    let mut at = 0;
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    while at < end {
        while old.next_if(|extent| extent.end <= at).is_some() {}
        while new.next_if(|extent| extent.end <= at).is_some() {}
        let (left, right) = (old.peek(), new.peek());
        // The stretch from here in which neither file changes from one extent to another.
        let edge = |extent: Option<&&Mapped>| match extent {
            Some(extent) if extent.start > at => extent.start,
            Some(extent) => extent.end,
            None => end,
        };
        let stop = edge(left.copied().as_ref())
            .min(edge(right.copied().as_ref()))
            .min(end);
        let shared = match (left, right) {
            (Some(left), Some(right)) => {
                left.start <= at && right.start <= at && left.shift == right.shift
            }
            (_, _) => false,
        };
        if !shared {
            push(&mut ranges, at..stop);
        }
        at = stop;
    }
    Some(ranges)
}

fn push(ranges: &mut Vec<Range>, range: Range) {
    match ranges.last_mut() {
        Some(last) if last.end == range.start => last.end = range.end,
        Some(_) | None => ranges.push(range),
    }
}

/// The extents of a file whose place on the device says what they hold.
fn mapped(file: &File) -> Option<Vec<Mapped>> {
    // Data that has no place yet would be reported as such, and then compared.
    rustix::fs::fdatasync(file).ok()?;
    let mut extents = Vec::new();
    for extent in Fiemap::with_flags(file, FiemapFlags::empty()) {
        let extent: FiemapExtent = extent.ok()?;
        let doubtful = FiemapExtentFlags::UNKNOWN
            | FiemapExtentFlags::DELALLOC
            | FiemapExtentFlags::ENCODED
            | FiemapExtentFlags::DATA_ENCRYPTED
            | FiemapExtentFlags::NOT_ALIGNED
            | FiemapExtentFlags::DATA_INLINE
            | FiemapExtentFlags::DATA_TAIL
            | FiemapExtentFlags::UNWRITTEN;
        if !extent.fe_flags.intersects(doubtful) {
            extents.push(Mapped {
                start: extent.fe_logical,
                end: extent.fe_logical.saturating_add(extent.fe_length),
                shift: extent.fe_physical.wrapping_sub(extent.fe_logical),
            });
        }
    }
    Some(extents)
}

/// Compares the bytes, each thread its share.
fn compare(base: &File, work: &File, end: u64) -> Result<Vec<Range>, DiffError> {
    let share = end.div_ceil(THREADS).next_multiple_of(BLOCK_BYTES as u64);
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for index in 0..THREADS {
            let range = (index * share).min(end)..((index + 1) * share).min(end);
            threads.push(scope.spawn(move || compare_range(base, work, range)));
        }
        let mut ranges = Vec::new();
        for thread in threads {
            let found = thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            ranges.extend(found);
        }
        Ok(ranges)
    })
}

fn compare_range(base: &File, work: &File, range: Range) -> Result<Vec<Range>, DiffError> {
    // 512 bytes is the smallest page there is.
    const STEP: usize = 512;
    let (mut old, mut new) = (vec![0_u8; BLOCK_BYTES], vec![0_u8; BLOCK_BYTES]);
    let mut ranges = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let want = usize::try_from(range.end - at)
            .unwrap_or(BLOCK_BYTES)
            .min(BLOCK_BYTES);
        let (old, new) = (old.get_mut(..want), new.get_mut(..want));
        let (old, new) = (old.unwrap_or_default(), new.unwrap_or_default());
        let filled = fill(base, old, at).map_err(DiffError::Base)?;
        let filled = filled.min(fill(work, new, at).map_err(DiffError::Work)?);
        if old.get(..filled) != new.get(..filled) {
            let steps = old.chunks(STEP).zip(new.chunks(STEP));
            for ((old, new), step) in steps.zip((at..).step_by(STEP)) {
                if old != new {
                    push(&mut ranges, step..step + STEP as u64);
                }
            }
        }
        // What only one of the files has is read through the log, or found too short there.
        if filled < want {
            push(&mut ranges, at + filled as u64..range.end);
            break;
        }
        at += want as u64;
    }
    Ok(ranges)
}

/// Reads as much as there is.
fn fill(file: &File, buffer: &mut [u8], at: u64) -> Result<usize, ImageError> {
    let mut filled = 0;
    while filled < buffer.len() {
        let rest = buffer.get_mut(filled..).unwrap_or_default();
        match file.read_at(rest, at + filled as u64)? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}
