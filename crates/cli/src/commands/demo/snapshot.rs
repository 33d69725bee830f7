//! Files and rows before and after, as hashes.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use belljar_base::Kind;
use belljar_ledger::merkle::Hash;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

use super::check::Check;
use crate::failure::Failure;

/// A directory and everything below it: names, kinds, modes, owners, times, bytes, link targets.
#[derive(Debug)]
pub(super) struct Snapshot {
    /// Everything but directories.
    pub(super) files: u64,
    hash: Hash,
}

impl Snapshot {
    pub(super) fn of(root: &Path) -> Result<Self, Failure> {
        let take = || -> io::Result<Self> {
            let mut lines = Vec::new();
            let mut files = 0;
            let mut folders = vec![root.to_path_buf()];
            while let Some(folder) = folders.pop() {
                lines.push(line(root, &folder)?);
                let entries: io::Result<Vec<_>> = fs::read_dir(&folder)?.collect();
                for entry in entries? {
                    if entry.file_type()?.is_dir() {
                        folders.push(entry.path());
                    } else {
                        files += 1;
                        lines.push(line(root, &entry.path())?);
                    }
                }
            }
            lines.sort_unstable();
            let hash = Hash::of(&lines.concat());
            Ok(Self { files, hash })
        };
        take().map_err(|error| {
            let text = format!("cannot read `{}`: {error}", root.display());
            Failure::new(Kind::Unavailable, text)
        })
    }

    /// That nothing of it has changed since.
    pub(super) fn intact(&self, what: &str, after: &Self) -> Check {
        let shown = |one: &Self| format!("{} files, {}", one.files, short(&one.hash));
        let mut check = Check::same(what, shown(self), shown(after));
        check.held = self.hash == after.hash;
        check
    }
}

fn line(root: &Path, path: &Path) -> io::Result<Vec<u8>> {
    let meta = fs::symlink_metadata(path)?;
    let name = path.strip_prefix(root).unwrap_or(path);
    let content = if meta.is_file() {
        Hash::of(&fs::read(path)?).to_string().into_bytes()
    } else if meta.is_symlink() {
        fs::read_link(path)?.as_os_str().as_bytes().to_vec()
    } else {
        Vec::new()
    };
    let (mode, owner, group) = (meta.mode(), meta.uid(), meta.gid());
    let (seconds, nanos) = (meta.mtime(), meta.mtime_nsec());
    let facts = format!("\0{mode:o} {owner} {group} {seconds}.{nanos}\0");
    Ok([
        name.as_os_str().as_bytes(),
        facts.as_bytes(),
        &content,
        b"\n",
    ]
    .concat())
}

/// Every row of a database, and its schema: what a person means by "the data".
#[derive(Debug)]
pub(super) struct Rows {
    /// How many.
    pub(super) count: u64,
    hash: Hash,
}

impl Rows {
    pub(super) fn of(database: &Path) -> Result<Self, Failure> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
        let take = || -> Result<Self, rusqlite::Error> {
            let connection = Connection::open_with_flags(database, flags)?;
            let mut dump = Vec::new();
            let mut count = 0;
            let mut schema = connection.prepare(
                "SELECT name, sql FROM sqlite_schema WHERE type = 'table' \
                 AND name NOT LIKE 'sqlite%' ORDER BY name",
            )?;
            let tables = schema.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            for table in tables {
                let (name, sql): (String, String) = table?;
                dump.extend_from_slice(sql.as_bytes());
                count += rows(&connection, &name, &mut dump)?;
            }
            let hash = Hash::of(&dump);
            Ok(Self { count, hash })
        };
        take().map_err(|error| {
            let text = format!("cannot read `{}`: {error}", database.display());
            Failure::new(Kind::Unavailable, text)
        })
    }

    /// As it is shown: how many rows, and the hash over them.
    pub(super) fn shown(&self) -> String {
        format!("{} rows, {}", grouped(self.count), short(&self.hash))
    }

    /// That no row has changed since.
    pub(super) fn intact(&self, what: &str, after: &Self) -> Check {
        let mut check = Check::same(what, self.shown(), after.shown());
        check.held = self.hash == after.hash;
        check
    }
}

/// Writes every row in the order of the first column, each value with its type and length.
fn rows(connection: &Connection, table: &str, dump: &mut Vec<u8>) -> Result<u64, rusqlite::Error> {
    let mut statement = connection.prepare(&format!("SELECT * FROM \"{table}\" ORDER BY 1"))?;
    let columns = statement.column_count();
    let mut rows = statement.query([])?;
    let mut count = 0;
    while let Some(row) = rows.next()? {
        for column in 0..columns {
            let (kind, bytes) = match row.get_ref(column)? {
                ValueRef::Null => ('n', Vec::new()),
                ValueRef::Integer(number) => ('i', number.to_be_bytes().to_vec()),
                ValueRef::Real(number) => ('r', number.to_be_bytes().to_vec()),
                ValueRef::Text(text) => ('t', text.to_vec()),
                ValueRef::Blob(bytes) => ('b', bytes.to_vec()),
            };
            dump.extend_from_slice(format!("{kind}{}:", bytes.len()).as_bytes());
            dump.extend_from_slice(&bytes);
        }
        count += 1;
    }
    Ok(count)
}

/// The names in directories of the host that a replay tries to delete. Others may add names
/// meanwhile; none may go.
#[derive(Debug)]
pub(super) struct Names(BTreeSet<PathBuf>);

impl Names {
    pub(super) fn in_folders(folders: &[&Path]) -> Self {
        let entries = folders
            .iter()
            .filter_map(|folder| fs::read_dir(folder).ok());
        Self(
            entries
                .flatten()
                .flatten()
                .map(|entry| entry.path())
                .collect(),
        )
    }

    /// That every name is still there.
    pub(super) fn intact(&self, what: &str) -> Check {
        let there = |path: &&PathBuf| fs::symlink_metadata(path).is_ok();
        let count = self.0.len();
        let still = self.0.iter().filter(there).count();
        let shown = |number: usize| format!("{} names", grouped(number as u64));
        Check::holds(
            what,
            shown(count),
            shown(still),
            still == count && count > 0,
        )
    }
}

/// Enough of a hash to compare with the eye.
fn short(hash: &Hash) -> String {
    let start: String = hash.to_string().chars().take(12).collect();
    format!("sha256 {start}…")
}

/// A number with its thousands set apart.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        let shown = [0, 12, 999, 1000, 200_000, 1_234_567].map(grouped);
        assert_eq!(shown, ["0", "12", "999", "1,000", "200,000", "1,234,567"]);
    }

    #[test]
    fn a_changed_value_of_another_type_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.db");
        let database = Connection::open(&file).unwrap();
        database
            .execute_batch(
                "CREATE TABLE t(id INTEGER PRIMARY KEY, v); INSERT INTO t VALUES (1, '1')",
            )
            .unwrap();
        let before = Rows::of(&file).unwrap();
        assert!(before.intact("rows", &Rows::of(&file).unwrap()).held);
        database.execute("UPDATE t SET v = 1", []).unwrap();
        assert!(!before.intact("rows", &Rows::of(&file).unwrap()).held);
    }
}
