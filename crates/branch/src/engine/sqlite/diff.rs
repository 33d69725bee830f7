//! Finds what changed between two images from the pages that changed.
//!
//! A leaf page that is in the same tree on both sides, with the same bytes, holds the same rows on
//! both sides; only the rows on the other leaves are compared. Which leaves a tree has is in its
//! interior pages alone, so the cost follows what changed. One thing escapes: SQLite may rewrite
//! an overflow page without touching the leaf that points to it. So a changed page that nothing
//! accounts for makes the leaves be searched for its owner.

use std::collections::BTreeMap;
use std::io;

use super::btree::{self, PageSet, Tree, page_head};
use super::catalog::{self, Entry, Scratch};
use super::change_set::{SchemaAction, Writer};
use super::changed;
use super::compare;
use super::image::{Image, ImageError, be32};
use super::plan::{self, Plan, TablePlan};

/// Why two images cannot be compared.
#[derive(Debug)]
pub(crate) enum DiffError {
    Base(ImageError),
    Work(ImageError),
    Write(io::Error),
}

/// One of the two images.
#[derive(Debug)]
pub(crate) struct Side<'a> {
    pub(crate) image: &'a Image,
    is_base: bool,
    pub(crate) entries: Vec<Entry>,
    claimed: PageSet,
    pub(crate) scratch: Scratch,
}

impl<'a> Side<'a> {
    fn open(image: &'a Image, is_base: bool) -> Result<Self, DiffError> {
        let at = |error| {
            if is_base {
                DiffError::Base(error)
            } else {
                DiffError::Work(error)
            }
        };
        let mut claimed = PageSet::new(image.pages());
        let entries = catalog::entries(image, &mut claimed).map_err(at)?;
        let scratch = Scratch::new().map_err(at)?;
        Ok(Self {
            image,
            is_base,
            entries,
            claimed,
            scratch,
        })
    }

    /// Says on which side an error happened.
    pub(crate) fn at(&self) -> impl Fn(ImageError) -> DiffError + use<> {
        let is_base = self.is_base;
        move |error| {
            if is_base {
                DiffError::Base(error)
            } else {
                DiffError::Work(error)
            }
        }
    }

    fn tree(&mut self, entry: Option<&Entry>) -> Result<Tree, DiffError> {
        match entry {
            Some(entry) if entry.root != 0 => {
                btree::tree(self.image, entry.root, &mut self.claimed).map_err(self.at())
            }
            Some(_) | None => Ok(Tree::default()),
        }
    }

    /// The trees of SQLite's own tables, so that their pages are accounted for.
    fn claim_internal(&mut self) -> Result<(), DiffError> {
        let internal = |entry: &&Entry| entry.kind == "table" && entry.name.starts_with("sqlite_");
        for entry in self
            .entries
            .iter()
            .filter(internal)
            .cloned()
            .collect::<Vec<_>>()
        {
            self.tree(Some(&entry))?;
        }
        Ok(())
    }
}

/// One table with the pages whose rows must be compared.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) plan: TablePlan,
    base_pages: Vec<u32>,
    work_pages: Vec<u32>,
    /// Pages to compare, before and after.
    pub(crate) base_listed: Vec<u32>,
    pub(crate) work_listed: Vec<u32>,
}

/// Compares the two and writes what it finds.
pub(crate) fn diff(base: &Image, work: &Image, writer: &mut Writer) -> Result<(), DiffError> {
    let (mut old, mut new) = (Side::open(base, true)?, Side::open(work, false)?);
    let plan = plan::plan(&old.entries, &new.entries).map_err(new.at())?;
    define_created(&mut new, &plan)?;
    let same_size = base.header().map(|header| header.page_size)
        == work.header().map(|header| header.page_size);
    let (changed, different) = if same_size {
        changed::pages(base, work)?
    } else {
        (PageSet::new(0), Vec::new())
    };
    let mut jobs = Vec::new();
    for table in plan.tables.iter().filter(|table| has_rows(table)) {
        jobs.push(job(&mut old, &mut new, table)?);
    }
    let untouched = |page: u32| same_size && !changed.contains(page);
    let mut marks = PageSet::new(base.pages().max(work.pages()));
    for job in &mut jobs {
        list(job, &untouched, &mut marks, &PageSet::new(0));
    }
    if !different.is_empty() {
        old.claim_internal()?;
        new.claim_internal()?;
        adopt(
            &mut old, &mut new, &mut jobs, &different, &untouched, &mut marks,
        )?;
    }
    writer.changes.schema = plan.schema;
    note_statistics(&old, &new, &untouched, writer)?;
    compare::settings(&old, &new, writer);
    compare::sequences(&old, &new, writer)?;
    for job in &jobs {
        compare::table(&mut old, &mut new, job, plan.has_virtual, writer)?;
    }
    compare::shadows(&mut old, &mut new, &jobs, writer)
}

/// What ANALYZE gathered is about the run's own file.
fn note_statistics(
    old: &Side<'_>,
    new: &Side<'_>,
    untouched: &impl Fn(u32) -> bool,
    writer: &mut Writer,
) -> Result<(), DiffError> {
    let statistics = |entry: &&Entry| entry.name.starts_with("sqlite_stat") && entry.root != 0;
    let mut changed = old.entries.iter().filter(statistics).count()
        != new.entries.iter().filter(statistics).count();
    for entry in new.entries.iter().filter(statistics) {
        let mut pages = PageSet::new(new.image.pages());
        let tree = btree::tree(new.image, entry.root, &mut pages).map_err(new.at())?;
        changed |= !tree.leaves.into_iter().all(untouched);
    }
    if changed {
        let note = "the statistics of ANALYZE were changed; a merge leaves them as they are";
        writer.changes.notes.push(note.to_owned());
    }
    Ok(())
}

fn has_rows(table: &TablePlan) -> bool {
    [&table.base, &table.work]
        .into_iter()
        .flatten()
        .any(Entry::is_stored_table)
}

/// Tries every new definition, so that a change set holds none that is not what it seems.
fn define_created(side: &mut Side<'_>, plan: &Plan) -> Result<(), DiffError> {
    let at = side.at();
    for change in plan
        .schema
        .iter()
        .filter(|change| change.action == SchemaAction::Create)
    {
        let find = |kind: &str, name: &str| {
            let matches = |entry: &&Entry| entry.kind == kind && entry.name == name;
            side.entries.iter().find(matches)
        };
        let Some(entry) = find(&change.kind, &change.name) else {
            continue;
        };
        // A fresh database each, because a virtual table makes its stored parts by itself.
        let scratch = Scratch::new().map_err(&at)?;
        if change.kind != "table" && change.kind != "view" {
            let owner = find("table", &entry.table).or_else(|| find("view", &entry.table));
            if let Some(owner) = owner {
                scratch.define(owner).map_err(&at)?;
            }
        }
        scratch.define(entry).map_err(&at)?;
    }
    Ok(())
}

fn job(old: &mut Side<'_>, new: &mut Side<'_>, table: &TablePlan) -> Result<Job, DiffError> {
    Ok(Job {
        base_pages: row_pages(old, table.base.as_ref())?,
        work_pages: row_pages(new, table.work.as_ref())?,
        plan: table.clone(),
        base_listed: Vec::new(),
        work_listed: Vec::new(),
    })
}

/// The pages that carry rows: leaves, and where rows are index entries the interior pages too.
fn row_pages(side: &mut Side<'_>, entry: Option<&Entry>) -> Result<Vec<u32>, DiffError> {
    let tree = side.tree(entry)?;
    let mut pages = tree.leaves;
    if let Some(first) = tree.interior.first() {
        let mut page = Vec::new();
        side.image.page(*first, &mut page).map_err(side.at())?;
        let head = page_head(*first, &page).map_err(side.at())?;
        if head.kind == btree::PageKind::IndexInterior {
            pages.extend(tree.interior);
        }
    }
    Ok(pages)
}

/// Lists the pages of one table that are not the same page of the same tree on both sides.
fn list(job: &mut Job, untouched: &impl Fn(u32) -> bool, marks: &mut PageSet, forced: &PageSet) {
    let listed = |own: &[u32], other: &[u32], marks: &mut PageSet| {
        for page in other {
            marks.insert(*page);
        }
        let differs =
            |page: &&u32| !untouched(**page) || !marks.contains(**page) || forced.contains(**page);
        let listed = own.iter().filter(differs).copied().collect();
        for page in other {
            marks.remove(*page);
        }
        listed
    };
    job.base_listed = listed(&job.base_pages, &job.work_pages, marks);
    job.work_listed = listed(&job.work_pages, &job.base_pages, marks);
}

/// Finds the rows whose overflow pages changed under a leaf that did not.
fn adopt(
    old: &mut Side<'_>,
    new: &mut Side<'_>,
    jobs: &mut [Job],
    different: &[u32],
    untouched: &impl Fn(u32) -> bool,
    marks: &mut PageSet,
) -> Result<(), DiffError> {
    let lock_page = old
        .image
        .header()
        .map_or(0, super::image::Header::lock_page);
    let mut orphans: Vec<u32> = different
        .iter()
        .copied()
        .filter(|page| *page != lock_page)
        .collect();
    let unclaimed = |orphans: &mut Vec<u32>, old: &Side<'_>, new: &Side<'_>| {
        orphans.retain(|page| !old.claimed.contains(*page) && !new.claimed.contains(*page));
        !orphans.is_empty()
    };
    if !unclaimed(&mut orphans, old, new) {
        return Ok(());
    }
    claim_rest(old, untouched)?;
    claim_rest(new, untouched)?;
    if !unclaimed(&mut orphans, old, new) {
        return Ok(());
    }
    for job in &*jobs {
        claim_overflow(old, &job.base_listed)?;
        claim_overflow(new, &job.work_listed)?;
    }
    if !unclaimed(&mut orphans, old, new) {
        return Ok(());
    }
    let mut wanted = PageSet::new(old.image.pages());
    for page in orphans {
        wanted.insert(page);
    }
    for job in jobs {
        let (forced, any) = owners(old, job, &wanted)?;
        if any {
            list(job, untouched, marks, &forced);
        }
    }
    Ok(())
}

/// All that is not a table: free pages, pointer maps, indexes.
fn claim_rest(side: &mut Side<'_>, untouched: &impl Fn(u32) -> bool) -> Result<(), DiffError> {
    claim_free(side)?;
    claim_pointer_maps(side);
    claim_indexes(side, untouched)
}

/// The free pages. Those in use for nothing may say anything.
fn claim_free(side: &mut Side<'_>) -> Result<(), DiffError> {
    let mut page = Vec::new();
    let mut trunk = side
        .image
        .header()
        .map_or(0, |header| header.freelist_trunk);
    let mut left = side.image.pages();
    while trunk != 0 && left > 0 {
        left -= 1;
        side.image.page(trunk, &mut page).map_err(side.at())?;
        side.claimed.insert(trunk);
        let count = be32(&page, 4)
            .and_then(|count| usize::try_from(count).ok())
            .unwrap_or(0);
        for leaf in page
            .get(8..)
            .unwrap_or_default()
            .chunks_exact(4)
            .take(count)
        {
            side.claimed.insert(be32(leaf, 0).unwrap_or(0));
        }
        trunk = be32(&page, 0).unwrap_or(0);
    }
    Ok(())
}

/// With auto-vacuum one page in every so many says who owns the pages after it.
fn claim_pointer_maps(side: &mut Side<'_>) {
    let Some(header) = side.image.header().filter(|header| header.auto_vacuum) else {
        return;
    };
    let apart = u32::try_from(header.usable / 5 + 1).unwrap_or(u32::MAX);
    let mut page = 2;
    while page <= header.pages {
        // The map moves on by one where the lock page is in its place.
        let at = if page == header.lock_page() {
            page + 1
        } else {
            page
        };
        side.claimed.insert(at);
        page = page.saturating_add(apart);
    }
}

fn claim_indexes(side: &mut Side<'_>, untouched: &impl Fn(u32) -> bool) -> Result<(), DiffError> {
    let is_index = |entry: &&Entry| entry.kind == "index" && entry.root != 0;
    // The index of a table without rowid is the table itself, and has no root of its own.
    for entry in side
        .entries
        .iter()
        .filter(is_index)
        .cloned()
        .collect::<Vec<_>>()
    {
        let tree = side.tree(Some(&entry))?;
        let changed: Vec<u32> = tree
            .leaves
            .into_iter()
            .chain(tree.interior)
            .filter(|page| !untouched(*page))
            .collect();
        claim_overflow(side, &changed)?;
    }
    Ok(())
}

fn claim_overflow(side: &mut Side<'_>, pages: &[u32]) -> Result<(), DiffError> {
    let at = side.at();
    let mut found = Vec::new();
    for number in pages {
        each_overflow(side.image, *number, &mut |page| found.push(page)).map_err(&at)?;
    }
    for page in found {
        side.claimed.insert(page);
    }
    Ok(())
}

/// Calls `each` with every overflow page of every row on page `number`.
fn each_overflow(image: &Image, number: u32, each: &mut impl FnMut(u32)) -> Result<(), ImageError> {
    let (mut page, mut scratch) = (Vec::new(), Vec::new());
    image.page(number, &mut page)?;
    let head = page_head(number, &page)?;
    if head.kind == btree::PageKind::TableInterior {
        return Ok(());
    }
    let usable = image.header().map_or(0, |header| header.usable);
    let mut left = u64::from(image.pages());
    for index in 0..head.cells() {
        let cell = head.cell(number, &page, usable, index)?;
        if cell.overflow != 0 {
            cell.overflow_pages(image, &mut scratch, &mut |number, _| {
                left = left
                    .checked_sub(1)
                    .ok_or_else(|| ImageError::corrupt("rows share overflow pages"))?;
                each(number);
                Ok(())
            })?;
        }
    }
    Ok(())
}

/// The pages of one table, the same on both sides, whose rows overflow into a wanted page.
fn owners(old: &Side<'_>, job: &Job, wanted: &PageSet) -> Result<(PageSet, bool), DiffError> {
    let mut forced = PageSet::new(old.image.pages());
    let mut any = false;
    let listed: BTreeMap<u32, ()> = job.base_listed.iter().map(|page| (*page, ())).collect();
    for number in job
        .base_pages
        .iter()
        .filter(|page| !listed.contains_key(page))
    {
        let mut hit = false;
        each_overflow(old.image, *number, &mut |page| hit |= wanted.contains(page))
            .map_err(old.at())?;
        if hit {
            forced.insert(*number);
            any = true;
        }
    }
    Ok((forced, any))
}
