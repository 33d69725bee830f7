//! Compares the rows that may differ, table by table, and writes those that do.

use std::collections::{BTreeMap, BTreeSet};

use super::btree;
use super::catalog::{Entry, Table};
use super::change_set::{
    RowChange, SequenceChange, SettingChange, ShadowDigest, TableChanges, Writer,
};
use super::diff::{DiffError, Job, Side};
use super::image::{Encoding, ImageError};
use super::rows::{Stored, Stream};
use super::value::{Value, decode_row, encode_row};

/// How to read the rows of one table on one side.
struct Reader {
    table: Table,
    defaults: Vec<Value>,
    encoding: Encoding,
}

impl Reader {
    fn new(side: &mut Side<'_>, entry: &Entry) -> Result<Self, DiffError> {
        let at = side.at();
        if side.scratch.table(&entry.name).is_err() {
            side.scratch.define(entry).map_err(&at)?;
        }
        let table = side.scratch.table(&entry.name).map_err(&at)?;
        let defaults = side.scratch.defaults(&table).map_err(&at)?;
        let encoding = side
            .image
            .header()
            .map_or(Encoding::Utf8, |header| header.encoding);
        Ok(Self {
            table,
            defaults,
            encoding,
        })
    }

    fn row(&self, stored: &Stored) -> Result<Vec<Value>, ImageError> {
        let values = btree::record(&stored.payload, self.encoding)?;
        self.table.row(stored.rowid, values, &self.defaults)
    }

    fn head(&self, job: &Job) -> TableChanges {
        TableChanges {
            name: self.table.name.clone(),
            columns: self
                .table
                .columns
                .iter()
                .map(|column| column.name.clone())
                .collect(),
            key: match self.table.rowid_alias {
                Some(alias) => vec![alias],
                None => self.table.key.clone(),
            },
            rowid: !self.table.without_rowid,
            shadow: job.plan.shadow_of.is_some(),
            before: job.plan.base.as_ref().map(|entry| entry.sql.clone()),
            after: job.plan.work.as_ref().map(|entry| entry.sql.clone()),
            ..TableChanges::default()
        }
    }
}

/// Writes the row changes of one table.
pub(crate) fn table(
    old: &mut Side<'_>,
    new: &mut Side<'_>,
    job: &Job,
    keep_moves: bool,
    writer: &mut Writer,
) -> Result<(), DiffError> {
    if job.base_listed.is_empty() && job.work_listed.is_empty() {
        return Ok(());
    }
    match (&job.plan.base, &job.plan.work) {
        (Some(base), Some(work)) => {
            let readers = (Reader::new(old, base)?, Reader::new(new, work)?);
            writer.begin(readers.1.head(job));
            let mut merge = Merge {
                old,
                new,
                job,
                readers: &readers,
                same_sql: base.sql == work.sql,
                writer,
            };
            if readers.1.table.without_rowid {
                merge.by_key()?;
            } else {
                merge.by_rowid(keep_moves)?;
            }
        }
        (Some(base), None) => all(old, base, &job.base_listed, job, writer, true)?,
        (None, Some(work)) => all(new, work, &job.work_listed, job, writer, false)?,
        (None, None) => {}
    }
    writer.end();
    Ok(())
}

/// Every row of a table that came or went.
fn all(
    side: &mut Side<'_>,
    entry: &Entry,
    pages: &[u32],
    job: &Job,
    writer: &mut Writer,
    gone: bool,
) -> Result<(), DiffError> {
    let reader = Reader::new(side, entry)?;
    writer.begin(reader.head(job));
    let mut stream = Stream::new(side.image, pages, !reader.table.without_rowid);
    while let Some(stored) = stream.next().map_err(side.at())? {
        let row = Some(reader.row(&stored).map_err(side.at())?);
        let (before, after) = if gone { (row, None) } else { (None, row) };
        let change = RowChange {
            rowid: stored.rowid,
            new_rowid: stored.rowid,
            old: before,
            new: after,
        };
        writer.row(&change).map_err(DiffError::Write)?;
    }
    Ok(())
}

/// Rows that wait for their other half: encoded key → where they were, and what they said.
type Waiting = BTreeMap<Vec<u8>, Vec<(i64, Vec<Value>)>>;

struct Merge<'a, 'b> {
    old: &'a Side<'b>,
    new: &'a Side<'b>,
    job: &'a Job,
    readers: &'a (Reader, Reader),
    same_sql: bool,
    writer: &'a mut Writer,
}

impl Merge<'_, '_> {
    /// The row before, as the definition after would show it.
    fn before(&self, stored: &Stored) -> Result<Vec<Value>, DiffError> {
        let mut row = self.readers.0.row(stored).map_err(self.old.at())?;
        let added = self.readers.1.defaults.get(row.len()..).unwrap_or_default();
        row.extend_from_slice(added);
        Ok(row)
    }

    fn after(&self, stored: &Stored) -> Result<Vec<Value>, DiffError> {
        self.readers.1.row(stored).map_err(self.new.at())
    }

    fn write(
        &mut self,
        rowids: (i64, i64),
        old: Option<Vec<Value>>,
        new: Option<Vec<Value>>,
    ) -> Result<(), DiffError> {
        let change = RowChange {
            rowid: rowids.0,
            new_rowid: rowids.1,
            old,
            new,
        };
        self.writer.row(&change).map_err(DiffError::Write)
    }

    /// Walks both sides in rowid order.
    fn by_rowid(&mut self, keep_moves: bool) -> Result<(), DiffError> {
        let (base, work) = (self.old.image, self.new.image);
        let mut before = Stream::new(base, &self.job.base_listed, true);
        let mut after = Stream::new(work, &self.job.work_listed, true);
        let mut left = before.next().map_err(self.old.at())?;
        let mut right = after.next().map_err(self.new.at())?;
        let (mut gone, mut came) = (Waiting::new(), Waiting::new());
        loop {
            let order = match (&left, &right) {
                (None, None) => break,
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some(left), Some(right)) => left.rowid.cmp(&right.rowid),
            };
            let stored_left = if order.is_le() { left.take() } else { None };
            let stored_right = if order.is_ge() { right.take() } else { None };
            if stored_left.is_some() {
                left = before.next().map_err(self.old.at())?;
            }
            if stored_right.is_some() {
                right = after.next().map_err(self.new.at())?;
            }
            self.pair(stored_left, stored_right, &mut gone, &mut came)?;
        }
        self.settle(gone, came, keep_moves)
    }

    /// Handles what is at one rowid on either side.
    fn pair(
        &mut self,
        left: Option<Stored>,
        right: Option<Stored>,
        gone: &mut Waiting,
        came: &mut Waiting,
    ) -> Result<(), DiffError> {
        if let (Some(left), Some(right)) = (&left, &right)
            && left.payload == right.payload
            && self.same_sql
        {
            return Ok(());
        }
        let rowid = left
            .as_ref()
            .or(right.as_ref())
            .map_or(0, |stored| stored.rowid);
        let old = left.map(|stored| self.before(&stored)).transpose()?;
        let new = right.map(|stored| self.after(&stored)).transpose()?;
        if old == new {
            return Ok(());
        }
        let table = &self.readers.1.table;
        if table.rowid_alias.is_some() {
            return self.write((rowid, rowid), old, new);
        }
        if let (Some(before), Some(after)) = (&old, &new)
            && table.key_of(before) == table.key_of(after)
        {
            return self.write((rowid, rowid), old, new);
        }
        for (row, waiting) in [(old, gone), (new, came)] {
            if let Some(row) = row {
                waiting
                    .entry(identity(table, &row))
                    .or_default()
                    .push((rowid, row));
            }
        }
        Ok(())
    }

    /// Matches rows that went at one rowid with rows that came at another.
    fn settle(
        &mut self,
        mut gone: Waiting,
        came: Waiting,
        keep_moves: bool,
    ) -> Result<(), DiffError> {
        for (key, came) in came {
            let mut before = gone.remove(&key).unwrap_or_default().into_iter();
            for (rowid, new) in came {
                match before.next() {
                    Some((_, old)) if old == new && !keep_moves => {}
                    Some((from, old)) => self.write((from, rowid), Some(old), Some(new))?,
                    None => self.write((rowid, rowid), None, Some(new))?,
                }
            }
            for (rowid, old) in before {
                self.write((rowid, rowid), Some(old), None)?;
            }
        }
        for (rowid, old) in gone.into_values().flatten() {
            self.write((rowid, rowid), Some(old), None)?;
        }
        Ok(())
    }

    /// Tables without rowid: matches rows by the bytes of their primary key.
    fn by_key(&mut self) -> Result<(), DiffError> {
        let (base, work) = (self.old.image, self.new.image);
        let mut before: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        let mut stream = Stream::new(base, &self.job.base_listed, false);
        while let Some(stored) = stream.next().map_err(self.old.at())? {
            let row = self.before(&stored)?;
            before.insert(identity(&self.readers.1.table, &row), encode_row(&row));
        }
        let mut seen = BTreeSet::new();
        let mut stream = Stream::new(work, &self.job.work_listed, false);
        while let Some(stored) = stream.next().map_err(self.new.at())? {
            let row = self.after(&stored)?;
            let key = identity(&self.readers.1.table, &row);
            let old = before.remove(&key);
            if !seen.insert(key) {
                let error = ImageError::corrupt("two rows have one primary key");
                return Err(self.new.at()(error));
            }
            if old.as_ref().is_some_and(|old| *old == encode_row(&row)) {
                continue;
            }
            self.write((0, 0), old.and_then(|old| decode_row(&old)), Some(row))?;
        }
        for old in before.into_values() {
            self.write((0, 0), decode_row(&old), None)?;
        }
        Ok(())
    }
}

/// What a row is known by: its primary key, or where that names nothing, all of it.
fn identity(table: &Table, row: &[Value]) -> Vec<u8> {
    match table.key_of(row) {
        Some(key) => {
            let mut bytes = vec![1];
            bytes.extend(encode_row(key));
            bytes
        }
        None => encode_row(row),
    }
}

/// The numbers of the header that programs use.
pub(crate) fn settings(old: &Side<'_>, new: &Side<'_>, writer: &mut Writer) {
    let of = |side: &Side<'_>| {
        side.image.header().map_or((0, 0), |header| {
            (header.user_version, header.application_id)
        })
    };
    let (before, after) = (of(old), of(new));
    let pairs = [
        ("user_version", before.0, after.0),
        ("application_id", before.1, after.1),
    ];
    for (name, before, after) in pairs
        .into_iter()
        .filter(|(_, before, after)| before != after)
    {
        writer.changes.settings.push(SettingChange {
            name: name.to_owned(),
            before,
            after,
        });
    }
    if let (Some(before), Some(after)) = (old.image.header(), new.image.header()) {
        let kept = [
            ("page size", before.page_size != after.page_size),
            (
                "auto-vacuum setting",
                before.auto_vacuum != after.auto_vacuum,
            ),
            ("journal mode", before.wal_mode != after.wal_mode),
            ("text encoding", before.encoding != after.encoding),
        ];
        for (what, _) in kept.into_iter().filter(|(_, changed)| *changed) {
            let note = format!("the {what} was changed; a merge leaves it as it is");
            writer.changes.notes.push(note);
        }
    }
}

/// The counters of AUTOINCREMENT tables.
pub(crate) fn sequences(
    old: &Side<'_>,
    new: &Side<'_>,
    writer: &mut Writer,
) -> Result<(), DiffError> {
    let (before, after) = (counters(old)?, counters(new)?);
    let names: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    for name in names {
        let (before, after) = (before.get(name).copied(), after.get(name).copied());
        if before != after {
            writer.changes.sequences.push(SequenceChange {
                table: name.clone(),
                before,
                after,
            });
        }
    }
    Ok(())
}

fn counters(side: &Side<'_>) -> Result<BTreeMap<String, i64>, DiffError> {
    let mut counters = BTreeMap::new();
    let is_sequence = |entry: &&Entry| entry.name == "sqlite_sequence" && entry.root != 0;
    let Some(entry) = side.entries.iter().find(is_sequence) else {
        return Ok(counters);
    };
    let mut pages = btree::PageSet::new(side.image.pages());
    let tree = btree::tree(side.image, entry.root, &mut pages).map_err(side.at())?;
    let mut stream = Stream::new(side.image, &tree.leaves, true);
    let encoding = side
        .image
        .header()
        .map_or(Encoding::Utf8, |header| header.encoding);
    while let Some(stored) = stream.next().map_err(side.at())? {
        let mut row = btree::record(&stored.payload, encoding)
            .map_err(side.at())?
            .into_iter();
        if let (Some(Value::Text(name)), Some(Value::Integer(value))) = (row.next(), row.next()) {
            counters.insert(String::from_utf8_lossy(&name).into_owned(), value);
        }
    }
    Ok(counters)
}

/// Digests of the stored parts of every virtual table that changed on both sides of its life.
pub(crate) fn shadows(
    old: &mut Side<'_>,
    new: &mut Side<'_>,
    jobs: &[Job],
    writer: &mut Writer,
) -> Result<(), DiffError> {
    let names: BTreeSet<&String> = writer
        .changes
        .tables
        .iter()
        .filter(|table| table.shadow)
        .map(|table| &table.name)
        .collect();
    let touched: BTreeSet<&String> = jobs
        .iter()
        .filter(|job| {
            job.plan
                .base
                .as_ref()
                .is_some_and(|entry| names.contains(&entry.name))
        })
        .filter_map(|job| job.plan.shadow_of.as_ref())
        .collect();
    let mut digests = Vec::new();
    for job in jobs {
        if let (Some(base), Some(work), Some(table)) =
            (&job.plan.base, &job.plan.work, &job.plan.shadow_of)
            && touched.contains(table)
        {
            digests.push(ShadowDigest {
                table: table.clone(),
                shadow: base.name.clone(),
                before: digest(old, base)?,
                after: digest(new, work)?,
            });
        }
    }
    writer.changes.shadows = digests;
    Ok(())
}

fn digest(side: &mut Side<'_>, entry: &Entry) -> Result<String, DiffError> {
    let reader = Reader::new(side, entry)?;
    let mut claimed = btree::PageSet::new(side.image.pages());
    let tree = btree::tree(side.image, entry.root, &mut claimed).map_err(side.at())?;
    let mut pages = tree.leaves;
    if reader.table.without_rowid {
        pages.extend(tree.interior);
    }
    let mut digest = Digest::default();
    let mut stream = Stream::new(side.image, &pages, !reader.table.without_rowid);
    while let Some(stored) = stream.next().map_err(side.at())? {
        let row = reader.row(&stored).map_err(side.at())?;
        digest.add(stored.rowid, &row);
    }
    Ok(digest.finish())
}

/// A digest of a set of rows, whatever their order.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Digest(u128, u64);

impl Digest {
    pub(crate) fn add(&mut self, rowid: i64, row: &[Value]) {
        let mut bytes = encode_row(row);
        bytes.extend_from_slice(&rowid.to_le_bytes());
        let hash = blake3::hash(&bytes);
        let half = hash
            .as_bytes()
            .first_chunk::<16>()
            .copied()
            .unwrap_or_default();
        self.0 = self.0.wrapping_add(u128::from_le_bytes(half));
        self.1 += 1;
    }

    pub(crate) fn finish(self) -> String {
        format!("{:032x}-{}", self.0, self.1)
    }
}
