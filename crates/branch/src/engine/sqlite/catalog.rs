//! What the schema of a database says, without letting the database say it: definitions are read
//! from its pages as text and understood by SQLite in an empty database of our own.

use std::collections::BTreeMap;

use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::{Connection, OptionalExtension};

use super::btree::{self, PageSet, page_head};
use super::image::{Image, ImageError};
use super::value::Value;

/// Steps of SQLite's machine that understanding one definition may take.
const STEPS_MAX: i32 = 5_000_000;
/// Bytes of one definition.
const SQL_BYTES_MAX: i32 = 4 << 20;

/// A row of `sqlite_schema`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// `table`, `index`, `view` or `trigger`.
    pub(crate) kind: String,
    pub(crate) name: String,
    /// The table it belongs to.
    pub(crate) table: String,
    pub(crate) root: u32,
    /// Empty for the indexes that a constraint made.
    pub(crate) sql: String,
}

impl Entry {
    /// The module of a virtual table, in lower case.
    pub(crate) fn module(&self) -> Option<String> {
        if self.kind != "table" || self.root != 0 {
            return None;
        }
        let (_, module) = split_once_word(&self.sql, "using")?;
        let end = module.find(|c: char| !(c.is_alphanumeric() || c == '_'));
        Some(
            module
                .split_at(end.unwrap_or(module.len()))
                .0
                .to_ascii_lowercase(),
        )
    }

    /// Whether rows of it are in its own tree.
    pub(crate) fn is_stored_table(&self) -> bool {
        self.kind == "table" && self.root != 0
    }
}

/// The text before and after the first `word` that stands alone, in any case.
fn split_once_word<'a>(text: &'a str, word: &str) -> Option<(&'a str, &'a str)> {
    let lower = text.to_ascii_lowercase();
    let mut from = 0;
    while let Some(found) = lower.get(from..)?.find(word) {
        let (start, end) = (from + found, from + found + word.len());
        let before = lower
            .get(..start)?
            .ends_with(|c: char| c.is_whitespace() || c == '"');
        if before && lower.get(end..)?.starts_with(char::is_whitespace) {
            return Some((text.get(..start)?, text.get(end..)?.trim_start()));
        }
        from = end;
    }
    None
}

/// Reads `sqlite_schema` from the image; the pages of its tree are claimed.
pub(crate) fn entries(image: &Image, claimed: &mut PageSet) -> Result<Vec<Entry>, ImageError> {
    let Some(header) = image.header() else {
        return Ok(Vec::new());
    };
    let tree = btree::tree(image, 1, claimed)?;
    let (mut page, mut scratch) = (Vec::new(), Vec::new());
    let mut entries = Vec::new();
    for number in tree.leaves {
        image.page(number, &mut page)?;
        let head = page_head(number, &page)?;
        for index in 0..head.cells() {
            let cell = head.cell(number, &page, header.usable, index)?;
            let mut visit = |page| {
                claimed.insert(page);
                Ok(())
            };
            let payload = cell.payload(image, &page, &mut scratch, &mut visit)?;
            entries.push(entry(btree::record(&payload, header.encoding)?)?);
        }
    }
    Ok(entries)
}

fn entry(row: Vec<Value>) -> Result<Entry, ImageError> {
    let corrupt = || ImageError::corrupt("its schema table is malformed");
    let text = |value: Option<Value>| match value {
        Some(Value::Text(text)) => String::from_utf8(text).ok(),
        Some(Value::Null) | None => Some(String::new()),
        Some(Value::Integer(_) | Value::Real(_) | Value::Blob(_)) => None,
    };
    let mut row = row.into_iter();
    let kind = text(row.next()).ok_or_else(corrupt)?;
    let name = text(row.next()).ok_or_else(corrupt)?;
    let table = text(row.next()).ok_or_else(corrupt)?;
    let root = match row.next() {
        Some(Value::Integer(root)) => u32::try_from(root).ok(),
        Some(Value::Null) | None => Some(0),
        Some(Value::Real(_) | Value::Text(_) | Value::Blob(_)) => None,
    };
    let sql = text(row.next()).ok_or_else(corrupt)?;
    if !matches!(kind.as_str(), "table" | "index" | "view" | "trigger") || name.is_empty() {
        return Err(corrupt());
    }
    Ok(Entry {
        kind,
        name,
        table,
        root: root.ok_or_else(corrupt)?,
        sql,
    })
}

/// A column that holds data of its own (not a generated one).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    affinity: Affinity,
    default: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Affinity {
    Integer,
    Text,
    Blob,
    Real,
    Numeric,
}

impl Affinity {
    /// The rules of <https://sqlite.org/datatype3.html#determination_of_column_affinity>.
    fn of(declared: &str) -> Self {
        let upper = declared.to_ascii_uppercase();
        let has = |words: &[&str]| words.iter().any(|word| upper.contains(word));
        if has(&["INT"]) {
            Self::Integer
        } else if has(&["CHAR", "CLOB", "TEXT"]) {
            Self::Text
        } else if upper.is_empty() || has(&["BLOB"]) {
            Self::Blob
        } else if has(&["REAL", "FLOA", "DOUB"]) {
            Self::Real
        } else {
            Self::Numeric
        }
    }

    const fn declared(self) -> &'static str {
        match self {
            Self::Integer => "INTEGER",
            Self::Text => "TEXT",
            Self::Blob => "BLOB",
            Self::Real => "REAL",
            Self::Numeric => "NUMERIC",
        }
    }
}

/// How the rows of a table are stored and told apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) columns: Vec<Column>,
    /// For each value of a stored record the column it belongs to; `None` is a generated column.
    record: Vec<Option<usize>>,
    /// The column that is another name of the rowid.
    pub(crate) rowid_alias: Option<usize>,
    pub(crate) without_rowid: bool,
    /// Columns of the primary key, unless that is the rowid; empty when there is none.
    pub(crate) key: Vec<usize>,
    /// A name by which SQL can reach the rowid.
    pub(crate) rowid_name: Option<String>,
}

impl Table {
    /// The row a stored record stands for, column by column.
    pub(crate) fn row(
        &self,
        rowid: i64,
        stored: Vec<Value>,
        defaults: &[Value],
    ) -> Result<Vec<Value>, ImageError> {
        if stored.len() > self.record.len() {
            return Err(ImageError::corrupt(
                "a row has more values than its table has columns",
            ));
        }
        let mut row = defaults.to_vec();
        for (value, column) in stored.into_iter().zip(&self.record) {
            if let Some(slot) = column.and_then(|column| row.get_mut(column)) {
                *slot = value;
            }
        }
        for (slot, column) in row.iter_mut().zip(&self.columns) {
            if let (Affinity::Real, Value::Integer(integer)) = (column.affinity, &*slot) {
                #[expect(
                    clippy::cast_precision_loss,
                    reason = "SQLite stores only exact ones so"
                )]
                let real = *integer as f64;
                *slot = Value::Real(real);
            }
        }
        if let Some(slot) = self.rowid_alias.and_then(|column| row.get_mut(column)) {
            *slot = Value::Integer(rowid);
        }
        Ok(row)
    }

    /// The primary key's values, unless the table has none or part of it is NULL (which SQLite
    /// allows, and then the key names nothing).
    pub(crate) fn key_of<'a>(&self, row: &'a [Value]) -> Option<Vec<&'a Value>> {
        let key: Option<Vec<_>> = self.key.iter().map(|column| row.get(*column)).collect();
        key.filter(|key| !key.is_empty() && !key.iter().any(|value| value.is_null()))
    }
}

/// An empty database in memory, in which definitions are tried.
#[derive(Debug)]
pub(crate) struct Scratch {
    connection: Connection,
    defaults: BTreeMap<String, Vec<Value>>,
}

impl Scratch {
    pub(crate) fn new() -> Result<Self, ImageError> {
        let mut connection = Connection::open_in_memory().map_err(own)?;
        harden(&connection).map_err(own)?;
        connection
            .progress_handler(STEPS_MAX, Some(|| true))
            .map_err(own)?;
        Ok(Self {
            connection,
            defaults: BTreeMap::new(),
        })
    }

    /// Makes the definition real here, and checks that it is what it says: SQLite, given the text,
    /// must arrive at the very same text. So it is one statement, of that kind, and nothing else.
    pub(crate) fn define(&self, entry: &Entry) -> Result<(), ImageError> {
        let reject = |why: String| {
            ImageError::Unsupported(format!("{} `{}`: {why}", entry.kind, entry.name))
        };
        let mut statement = self
            .connection
            .prepare(&entry.sql)
            .map_err(|error| reject(format!("its definition is not understood ({error})")))?;
        statement
            .raw_execute()
            .map_err(|error| reject(format!("its definition does not work ({error})")))?;
        drop(statement);
        let find = "SELECT sql FROM sqlite_schema WHERE type = ?1 AND name = ?2 AND tbl_name = ?3";
        let found: Option<String> = self
            .connection
            .query_row(find, (&entry.kind, &entry.name, &entry.table), |row| {
                row.get(0)
            })
            .optional()
            .map_err(own)?;
        if found.as_deref() == Some(entry.sql.as_str()) {
            Ok(())
        } else {
            Err(reject("its definition is not what it says".into()))
        }
    }

    /// Runs one statement here and answers the definition of table `name` afterwards.
    pub(crate) fn altered(&self, sql: &str, name: &str) -> Option<String> {
        self.connection.execute(sql, ()).ok()?;
        let find = "SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = ?1";
        self.connection
            .query_row(find, [name], |row| row.get(0))
            .ok()
    }

    /// The name of the newest column of a table, generated or not.
    pub(crate) fn last_column(&self, name: &str) -> Option<String> {
        let select = "SELECT name FROM pragma_table_xinfo(?1) ORDER BY cid DESC LIMIT 1";
        self.connection
            .query_row(select, [name], |row| row.get(0))
            .ok()
    }

    /// The storage of a table that was [`Self::define`]d here.
    pub(crate) fn table(&self, name: &str) -> Result<Table, ImageError> {
        table_of(&self.connection, name).map_err(own)
    }

    /// What SQLite reads for each column of a row that was stored before the column was added.
    pub(crate) fn defaults(&mut self, table: &Table) -> Result<Vec<Value>, ImageError> {
        if let Some(defaults) = self.defaults.get(&table.name) {
            return Ok(defaults.clone());
        }
        let mut defaults = Vec::new();
        for column in &table.columns {
            defaults.push(match &column.default {
                None => Value::Null,
                Some(text) => self.default(column.affinity, text).unwrap_or(Value::Null),
            });
        }
        self.defaults.insert(table.name.clone(), defaults.clone());
        Ok(defaults)
    }

    fn default(&self, affinity: Affinity, text: &str) -> rusqlite::Result<Value> {
        let declared = affinity.declared();
        self.connection.execute(
            &format!("CREATE TEMP TABLE belljar_default (value {declared} DEFAULT ({text}))"),
            (),
        )?;
        let value = self
            .connection
            .execute("INSERT INTO temp.belljar_default DEFAULT VALUES", ())
            .and_then(|_| {
                let select = "SELECT value FROM temp.belljar_default";
                self.connection
                    .query_row(select, (), |row| Ok(Value::from(row.get_ref(0)?)))
            });
        self.connection
            .execute("DROP TABLE temp.belljar_default", ())?;
        value
    }
}

/// SQLite's own switches for schemas and files that are not trusted.
pub(crate) fn harden(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
    connection.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0)?;
    connection.set_limit(Limit::SQLITE_LIMIT_SQL_LENGTH, SQL_BYTES_MAX)?;
    Ok(())
}

fn own(error: rusqlite::Error) -> ImageError {
    ImageError::Unsupported(format!("its schema is not understood ({error})"))
}

/// How the table `name` of `connection` is stored.
pub(crate) fn table_of(connection: &Connection, name: &str) -> rusqlite::Result<Table> {
    let without_rowid: bool = connection.query_row(
        "SELECT wr FROM pragma_table_list(?1) WHERE schema = 'main'",
        [name],
        |row| row.get(0),
    )?;
    let mut columns = Vec::new();
    // Table column → data column, and the columns of a stored record in order.
    let mut data_column: Vec<Option<usize>> = Vec::new();
    let mut record = Vec::new();
    let mut key: Vec<(i64, usize)> = Vec::new();
    let mut names = Vec::new();
    let mut statement = connection.prepare(
        "SELECT name, type, dflt_value, pk, hidden FROM pragma_table_xinfo(?1) ORDER BY cid",
    )?;
    let mut rows = statement.query([name])?;
    while let Some(row) = rows.next()? {
        let (name, hidden): (String, i64) = (row.get(0)?, row.get(4)?);
        names.push(name.to_ascii_lowercase());
        let data = (hidden == 0).then_some(columns.len());
        data_column.push(data);
        if hidden != 2 {
            record.push(data);
        }
        if let Some(data) = data {
            let pk: i64 = row.get(3)?;
            if pk > 0 {
                key.push((pk, data));
            }
            columns.push(Column {
                name,
                affinity: Affinity::of(&row.get::<_, String>(1)?),
                default: row.get(2)?,
            });
        }
    }
    key.sort_unstable();
    let mut key: Vec<usize> = key.into_iter().map(|(_, data)| data).collect();
    let primary: Option<String> = connection
        .query_row(
            "SELECT name FROM pragma_index_list(?1) WHERE origin = 'pk'",
            [name],
            |row| row.get(0),
        )
        .optional()?;
    let mut rowid_alias = None;
    match (&primary, key.as_slice()) {
        (None, [only]) if !without_rowid => {
            rowid_alias = Some(*only);
            key.clear();
        }
        (Some(index), _) if without_rowid => {
            record = index_record(connection, index, &data_column)?
        }
        _ => {}
    }
    let rowid_name = match rowid_alias {
        Some(alias) => columns.get(alias).map(|column| column.name.clone()),
        None => ["rowid", "_rowid_", "oid"]
            .into_iter()
            .find(|word| !without_rowid && !names.iter().any(|name| name == word))
            .map(str::to_owned),
    };
    Ok(Table {
        name: name.to_owned(),
        columns,
        record,
        rowid_alias,
        without_rowid,
        key,
        rowid_name,
    })
}

/// The columns of a record of a table without rowid, in the order of its primary key's index.
fn index_record(
    connection: &Connection,
    index: &str,
    data_column: &[Option<usize>],
) -> rusqlite::Result<Vec<Option<usize>>> {
    let mut statement =
        connection.prepare("SELECT cid FROM pragma_index_xinfo(?1) ORDER BY seqno")?;
    let columns = statement.query_map([index], |row| row.get::<_, i64>(0))?;
    columns
        .map(|column| {
            let column = usize::try_from(column?).ok();
            Ok(column.and_then(|column| data_column.get(column).copied().flatten()))
        })
        .collect()
}
