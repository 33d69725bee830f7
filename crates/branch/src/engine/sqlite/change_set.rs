//! The change set of a database: what it says, and how it is kept in a directory as
//! `changes.json` (everything but rows) and `changes.rows` (docs/formats/sqlite-change-set.md).

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::seal::TooLong;
use super::value::{Value, put_signed, put_unsigned, take, take_signed};

/// Version of both files.
pub(crate) const VERSION: u32 = 1;
const HEAD: &str = "changes.json";
const ROWS: &str = "changes.rows";
const MAGIC: &[u8; 8] = b"BJROWS1\n";
/// Bytes of one row change: two rows of SQLite's own bound, with their tags.
const ROW_BYTES_MAX: u64 = (2 << 30) + (1 << 20);
/// In a new row: the old row's value of this column.
const SAME: u8 = 5;

/// What a run did to one database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseChanges {
    /// Version of the format.
    pub version: u32,
    /// Why the database cannot be read any more, in which case nothing else is known:
    /// `it was replaced by a symbolic link`.
    pub unreadable: Option<String>,
    /// Row changes, table by table.
    pub tables: Vec<TableChanges>,
    /// Definitions that came, went or changed.
    pub schema: Vec<SchemaChange>,
    /// AUTOINCREMENT counters.
    pub sequences: Vec<SequenceChange>,
    /// `user_version` and `application_id`.
    pub settings: Vec<SettingChange>,
    /// Virtual tables whose stored parts changed.
    pub shadows: Vec<ShadowDigest>,
    /// What changed and is not carried over, a sentence each.
    pub notes: Vec<String>,
    /// Bytes of `changes.rows`.
    pub rows_bytes: u64,
    /// BLAKE3 of `changes.rows`, in hex.
    pub rows_blake3: String,
}

/// The row changes of one table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableChanges {
    /// The table.
    pub name: String,
    /// Rows that came.
    pub inserted: u64,
    /// Rows that changed.
    pub updated: u64,
    /// Rows that went.
    pub deleted: u64,
    /// Columns of each row, generated ones left out.
    pub columns: Vec<String>,
    /// Which of the columns name a row; empty when only the rowid does.
    pub key: Vec<usize>,
    /// Whether each row has a rowid.
    pub rowid: bool,
    /// Whether it is the stored part of a virtual table.
    pub shadow: bool,
    /// Its definition before; none when it was created.
    pub before: Option<String>,
    /// Its definition after; none when it was dropped.
    pub after: Option<String>,
    /// Where its rows begin in `changes.rows`.
    pub offset: u64,
    /// Bytes of its rows.
    pub bytes: u64,
}

impl TableChanges {
    /// Row changes of all kinds.
    #[must_use]
    pub const fn rows(&self) -> u64 {
        self.inserted
            .saturating_add(self.updated)
            .saturating_add(self.deleted)
    }
}

/// One definition that came, went or changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub struct SchemaChange {
    /// What happened.
    pub action: SchemaAction,
    /// `table`, `index`, `view` or `trigger`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// The table it belongs to.
    pub table: String,
    /// The statement; for a column its definition.
    pub sql: String,
    /// For a column: the table's definition before.
    pub before: Option<String>,
    /// For a column: the table's definition after.
    pub after: Option<String>,
}

/// What happened to a definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SchemaAction {
    /// It came.
    Create,
    /// It went.
    Drop,
    /// The table got the column `name`.
    AddColumn,
    /// The table lost the column `name` (only in an inverse).
    DropColumn,
}

impl SchemaChange {
    /// The change that undoes this one.
    #[must_use]
    pub(crate) fn flipped(&self) -> Self {
        let mut flipped = self.clone();
        flipped.action = match self.action {
            SchemaAction::Create => SchemaAction::Drop,
            SchemaAction::Drop => SchemaAction::Create,
            SchemaAction::AddColumn => SchemaAction::DropColumn,
            SchemaAction::DropColumn => SchemaAction::AddColumn,
        };
        std::mem::swap(&mut flipped.before, &mut flipped.after);
        flipped
    }
}

/// An AUTOINCREMENT counter that moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SequenceChange {
    /// Its table.
    pub table: String,
    /// Its value before, if it had one.
    pub before: Option<i64>,
    /// Its value after, if it has one.
    pub after: Option<i64>,
}

/// A number in the database's header that changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SettingChange {
    /// `user_version` or `application_id`.
    pub name: String,
    /// Its value before.
    pub before: i32,
    /// Its value after.
    pub after: i32,
}

/// The whole content of one stored part of a virtual table, as an order-free digest: its rows mean
/// nothing one by one, so a merge must know that nobody else touched any of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShadowDigest {
    /// The virtual table.
    pub table: String,
    /// The stored part.
    pub shadow: String,
    /// Digest before.
    pub before: String,
    /// Digest after.
    pub after: String,
}

/// One row that came, went or changed. Without `old` it came, without `new` it went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowChange {
    /// The rowid before, where rows have one; the rowid after when there was none before.
    pub rowid: i64,
    /// The rowid after.
    pub new_rowid: i64,
    /// The row before.
    pub old: Option<Vec<Value>>,
    /// The row after.
    pub new: Option<Vec<Value>>,
}

impl RowChange {
    /// The change that undoes this one.
    #[must_use]
    pub(crate) fn flipped(self) -> Self {
        Self {
            rowid: self.new_rowid,
            new_rowid: self.rowid,
            old: self.new,
            new: self.old,
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.old.is_some()) | u8::from(self.new.is_some()) << 1);
        put_signed(out, self.rowid);
        put_signed(out, self.new_rowid.wrapping_sub(self.rowid));
        let old = self.old.as_deref().unwrap_or_default();
        for value in old {
            value.encode(out);
        }
        for (column, value) in self.new.iter().flatten().enumerate() {
            if old.get(column) == Some(value) {
                out.push(SAME);
            } else {
                value.encode(out);
            }
        }
    }

    fn decode(mut input: &[u8], columns: usize) -> Option<Self> {
        let input = &mut input;
        let parts = *take(input, 1)?.first()?;
        let rowid = take_signed(input)?;
        let new_rowid = rowid.wrapping_add(take_signed(input)?);
        let mut old = None;
        if parts & 1 != 0 {
            let row: Option<Vec<_>> = (0..columns).map(|_| Value::decode(input)).collect();
            old = Some(row?);
        }
        let mut new = None;
        if parts & 2 != 0 {
            let mut row = Vec::with_capacity(columns);
            for column in 0..columns {
                if input.first() == Some(&SAME) {
                    take(input, 1)?;
                    row.push(old.as_ref()?.get(column)?.clone());
                } else {
                    row.push(Value::decode(input)?);
                }
            }
            new = Some(row);
        }
        (parts & 3 == parts && parts != 0 && input.is_empty()).then_some(Self {
            rowid,
            new_rowid,
            old,
            new,
        })
    }
}

/// Writes `changes.rows`, then `changes.json`: without the second there is no change set.
#[derive(Debug)]
pub(crate) struct Writer {
    rows: BufWriter<File>,
    hash: blake3::Hasher,
    at: u64,
    body: Vec<u8>,
    entry: Vec<u8>,
    entries: usize,
    /// Rows beyond so many bytes are refused, with [`TooLong`].
    pub(crate) bytes_max: u64,
    pub(crate) changes: DatabaseChanges,
    open: bool,
}

impl Writer {
    /// Writes rows to `rows`, an empty file.
    pub(crate) fn new(rows: File) -> io::Result<Self> {
        let mut writer = Self {
            rows: BufWriter::with_capacity(1 << 18, rows),
            hash: blake3::Hasher::new(),
            at: 0,
            body: Vec::new(),
            entry: Vec::new(),
            entries: 0,
            bytes_max: u64::MAX,
            changes: DatabaseChanges {
                version: VERSION,
                ..DatabaseChanges::default()
            },
            open: false,
        };
        writer.put(MAGIC)?;
        Ok(writer)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.at.saturating_add(bytes.len() as u64) > self.bytes_max {
            return Err(io::Error::other(TooLong(self.bytes_max)));
        }
        self.rows.write_all(bytes)?;
        self.hash.update(bytes);
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// The rows that follow belong to `table`, whose counts are filled in here.
    pub(crate) fn begin(&mut self, mut table: TableChanges) {
        self.end();
        (table.inserted, table.updated, table.deleted) = (0, 0, 0);
        (table.offset, table.bytes) = (self.at, 0);
        self.changes.tables.push(table);
        self.open = true;
    }

    /// The current table is complete; forgotten when it has no row changes.
    pub(crate) fn end(&mut self) {
        if std::mem::take(&mut self.open) {
            let at = self.at;
            if let Some(table) = self.changes.tables.last_mut() {
                table.bytes = at - table.offset;
                if table.rows() == 0 {
                    self.changes.tables.pop();
                }
            }
        }
    }

    pub(crate) fn row(&mut self, change: &RowChange) -> io::Result<()> {
        self.entries += 1;
        if self.entries > belljar_base::bounds::CHANGE_ENTRIES_MAX {
            return Err(io::Error::other(
                "more rows changed than a change set may hold",
            ));
        }
        let mut body = std::mem::take(&mut self.body);
        let mut entry = std::mem::take(&mut self.entry);
        body.clear();
        entry.clear();
        change.encode(&mut body);
        put_unsigned(&mut entry, body.len() as u64);
        entry.extend_from_slice(&body);
        let put = self.put(&entry);
        (self.body, self.entry) = (body, entry);
        put?;
        if let Some(table) = self.changes.tables.last_mut() {
            match (&change.old, &change.new) {
                (Some(_), Some(_)) => table.updated += 1,
                (None, _) => table.inserted += 1,
                (Some(_), None) => table.deleted += 1,
            }
        }
        Ok(())
    }

    /// Flushes the rows; answers the head and the file of the rows, not yet synced.
    pub(crate) fn finish(mut self) -> io::Result<(DatabaseChanges, File)> {
        self.end();
        self.changes.rows_bytes = self.at;
        self.changes.rows_blake3 = self.hash.finalize().to_hex().to_string();
        let rows = self
            .rows
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        Ok((self.changes, rows))
    }
}

/// Creates `changes.rows` in `directory`, in place of one that a crash left.
pub(crate) fn create_rows(directory: &Path) -> io::Result<File> {
    let path = directory.join(ROWS);
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
}

/// Makes the change set durable: rows first, then the head, by renaming it into place.
pub(crate) fn seal(directory: &Path, changes: &DatabaseChanges, rows: &File) -> io::Result<()> {
    rows.sync_all()?;
    let draft = directory.join("changes.json.new");
    let mut file = File::create(&draft)?;
    file.write_all(&serde_json::to_vec(changes)?)?;
    file.sync_all()?;
    std::fs::rename(&draft, directory.join(HEAD))?;
    File::open(directory)?.sync_all()
}

/// A change set on disk.
#[derive(Debug)]
pub struct ChangeSet {
    /// Everything but the rows.
    pub changes: DatabaseChanges,
    rows: File,
}

/// Why a stored change set cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// There is none.
    #[error("there is no change set in `{0}`")]
    Missing(std::path::PathBuf),
    /// It cannot be read.
    #[error("could not read the change set")]
    Io(#[from] io::Error),
    /// It is not what was written.
    #[error("the stored change set is damaged: {0}")]
    Damaged(String),
}

impl ChangeSet {
    /// Loads the head and checks that the rows are those it was sealed with.
    ///
    /// # Errors
    /// When there is none, or it is damaged.
    pub fn load(directory: &Path) -> Result<Self, LoadError> {
        let head = match std::fs::read(directory.join(HEAD)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(LoadError::Missing(directory.to_owned()));
            }
            other => other?,
        };
        let changes: DatabaseChanges =
            serde_json::from_slice(&head).map_err(|error| LoadError::Damaged(error.to_string()))?;
        if changes.version != VERSION {
            return Err(LoadError::Damaged(format!(
                "its version is {}, this program reads {VERSION}",
                changes.version
            )));
        }
        let mut rows = File::open(directory.join(ROWS))?;
        let mut hash = blake3::Hasher::new();
        io::copy(&mut rows, &mut hash)?;
        if hash.finalize().to_hex().as_str() != changes.rows_blake3 {
            return Err(LoadError::Damaged(
                "its rows are not those that were sealed".into(),
            ));
        }
        Ok(Self { changes, rows })
    }

    /// The row changes of one table, in order.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn rows(&self, table: &TableChanges) -> Result<Rows, LoadError> {
        let mut input = BufReader::with_capacity(1 << 18, self.rows.try_clone()?);
        input.seek(SeekFrom::Start(table.offset))?;
        // No row is longer than the file, whatever the head says.
        let rest = self.rows.metadata()?.len().saturating_sub(table.offset);
        if table.bytes > rest {
            return Err(LoadError::Damaged("its rows are not all there".into()));
        }
        Ok(Rows {
            input: input.take(table.bytes),
            columns: table.columns.len(),
            body: Vec::new(),
        })
    }
}

/// Iterates over the row changes of one table.
#[derive(Debug)]
pub struct Rows {
    input: io::Take<BufReader<File>>,
    columns: usize,
    body: Vec<u8>,
}

impl Rows {
    fn read(&mut self) -> Result<Option<RowChange>, LoadError> {
        if self.input.limit() == 0 {
            return Ok(None);
        }
        let damaged = || LoadError::Damaged("a row change is malformed".into());
        let mut length = 0_u64;
        for shift in (0..63).step_by(7) {
            let mut byte = [0];
            self.input.read_exact(&mut byte)?;
            let [byte] = byte;
            length |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        if length > ROW_BYTES_MAX || length > self.input.limit() {
            return Err(damaged());
        }
        self.body.resize(usize::try_from(length).unwrap_or(0), 0);
        self.input.read_exact(&mut self.body)?;
        RowChange::decode(&self.body, self.columns)
            .map(Some)
            .ok_or_else(damaged)
    }
}

impl Iterator for Rows {
    type Item = Result<RowChange, LoadError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}
