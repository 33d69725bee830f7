//! Change sets as people and scripts read them: bounded, and nothing in them can move a cursor.

use std::fmt::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value as Json, json};

use super::change_set::{
    ChangeSet, DatabaseChanges, LoadError, RowChange, SchemaAction, SchemaChange, TableChanges,
};
use super::value::Value;

/// How much of a change set is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Row changes shown per table.
    pub rows_max: usize,
    /// Bytes shown of one value.
    pub value_bytes_max: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            rows_max: 50,
            value_bytes_max: 120,
        }
    }
}

/// Bytes as text in which control characters, and what is not UTF-8, are visible; cut at `max`.
pub(crate) fn visible(bytes: &[u8], max: usize) -> String {
    let cut = bytes.get(..max).unwrap_or(bytes);
    let mut text = String::new();
    for chunk in cut.utf8_chunks() {
        for character in chunk.valid().chars() {
            // Also what reorders or hides text: a reviewer must see what is there.
            let hidden = matches!(
                character,
                '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}'
                | '\u{feff}' | '\u{e0000}'..='\u{e007f}'
            );
            if character.is_control() || hidden || character == '\\' {
                text.extend(character.escape_default());
            } else {
                text.push(character);
            }
        }
        for byte in chunk.invalid() {
            // Writing to a string does not fail.
            write!(text, "\\x{byte:02x}").unwrap_or_default();
        }
    }
    if cut.len() < bytes.len() {
        text.push('…');
    }
    text
}

/// A value on one line, cut at `max` bytes.
pub(crate) fn value(value: &Value, max: usize) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::Integer(integer) => integer.to_string(),
        Value::Real(real) => format!("{real:?}"),
        Value::Text(text) => format!("'{}'", visible(text, max).replace('\'', "''")),
        Value::Blob(blob) => {
            let mut text = String::from("x'");
            for byte in blob.iter().take(max / 2) {
                write!(text, "{byte:02x}").unwrap_or_default();
            }
            text.push('\'');
            if blob.len() > max / 2 {
                write!(text, "… ({} bytes)", blob.len()).unwrap_or_default();
            }
            text
        }
    }
}

impl DatabaseChanges {
    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.unreadable.is_none()
            && self.tables.is_empty()
            && self.schema.is_empty()
            && self.sequences.is_empty()
            && self.settings.is_empty()
    }

    /// Rows inserted, updated, deleted, in all tables.
    #[must_use]
    pub fn totals(&self) -> (u64, u64, u64) {
        self.tables.iter().fold((0, 0, 0), |sum, table| {
            (
                sum.0.saturating_add(table.inserted),
                sum.1.saturating_add(table.updated),
                sum.2.saturating_add(table.deleted),
            )
        })
    }

    /// One line for each definition, table, counter and setting that changed.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut text = String::new();
        if let Some(reason) = &self.unreadable {
            line(
                &mut text,
                &format!("! no change set: {}", visible(reason.as_bytes(), 400)),
            );
        }
        for change in &self.schema {
            line(&mut text, &schema_line(change));
        }
        for table in &self.tables {
            let name = visible(table.name.as_bytes(), 200);
            let (inserted, updated, deleted) = (table.inserted, table.updated, table.deleted);
            line(
                &mut text,
                &format!("{name}: +{inserted} ~{updated} -{deleted}"),
            );
        }
        for change in &self.sequences {
            let name = visible(change.table.as_bytes(), 200);
            let of =
                |value: Option<i64>| value.map_or("none".to_owned(), |value| value.to_string());
            let (before, after) = (of(change.before), of(change.after));
            line(
                &mut text,
                &format!("counter of {name}: {before} -> {after}"),
            );
        }
        for change in &self.settings {
            line(
                &mut text,
                &format!("{}: {} -> {}", change.name, change.before, change.after),
            );
        }
        for note in &self.notes {
            line(&mut text, &format!("note: {note}"));
        }
        text
    }
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

fn schema_line(change: &SchemaChange) -> String {
    let sql = visible(change.sql.as_bytes(), 2000);
    let name = visible(change.name.as_bytes(), 200);
    let table = visible(change.table.as_bytes(), 200);
    match change.action {
        SchemaAction::Create => format!("+ {sql}"),
        SchemaAction::Drop => format!("- DROP {} {name}: {sql}", change.kind.to_uppercase()),
        SchemaAction::AddColumn => format!("+ ALTER TABLE {table} ADD COLUMN {sql}"),
        SchemaAction::DropColumn => format!("- ALTER TABLE {table} DROP COLUMN {name}"),
    }
}

impl ChangeSet {
    /// The summary, then each table's row changes: `+` came, `-` went, `~` changed.
    ///
    /// # Errors
    /// When the stored rows cannot be read.
    pub fn text(&self, bounds: Bounds) -> Result<String, LoadError> {
        let mut text = self.changes.summary();
        for table in &self.changes.tables {
            line(&mut text, "");
            line(
                &mut text,
                &format!("table {}", visible(table.name.as_bytes(), 200)),
            );
            for change in self.rows(table)?.take(bounds.rows_max) {
                line(
                    &mut text,
                    &row_line(table, &change?, bounds.value_bytes_max),
                );
            }
            let shown = u64::try_from(bounds.rows_max).unwrap_or(u64::MAX);
            if table.rows() > shown {
                line(&mut text, &format!("  … and {} more", table.rows() - shown));
            }
        }
        Ok(text)
    }

    /// The change set as JSON. Blobs, and text that is not UTF-8, are `{"base64": …}`; a value
    /// longer than the bound is `{"cut": …, "bytes": n}`; a real that JSON has no word for, and an
    /// integer beyond what its readers keep exactly, is `{"real": …}` and `{"integer": …}`.
    ///
    /// # Errors
    /// When the stored rows cannot be read.
    pub fn json(&self, bounds: Bounds) -> Result<Json, LoadError> {
        let mut tables = Vec::new();
        for table in &self.changes.tables {
            let mut rows = Vec::new();
            for change in self.rows(table)?.take(bounds.rows_max) {
                rows.push(row_json(table, &change?, bounds.value_bytes_max));
            }
            tables.push(json!({
                "table": table.name, "inserted": table.inserted, "updated": table.updated,
                "deleted": table.deleted, "key": key_names(table), "rows": rows,
                "rows_left_out": table.rows().saturating_sub(rows.len() as u64),
            }));
        }
        let schema: Vec<Json> = self
            .changes
            .schema
            .iter()
            .map(|change| {
                json!({
                    "action": change.action, "kind": change.kind, "name": change.name,
                    "table": change.table, "sql": change.sql,
                })
            })
            .collect();
        Ok(json!({
            "unreadable": self.changes.unreadable, "schema": schema, "tables": tables,
            "sequences": self.changes.sequences, "settings": self.changes.settings,
            "notes": self.changes.notes,
        }))
    }
}

fn key_names(table: &TableChanges) -> Vec<&str> {
    let names = table.key.iter().filter_map(|key| table.columns.get(*key));
    let names: Vec<&str> = names.map(String::as_str).collect();
    if names.is_empty() {
        vec!["rowid"]
    } else {
        names
    }
}

/// The key of a row as `column=value, …`.
pub(crate) fn key_text(table: &TableChanges, change: &RowChange) -> String {
    let row = change.old.as_ref().or(change.new.as_ref());
    let parts: Vec<String> = table
        .key
        .iter()
        .filter_map(|key| Some((table.columns.get(*key)?, row?.get(*key)?)))
        .map(|(name, key)| format!("{}={}", visible(name.as_bytes(), 60), value(key, 80)))
        .collect();
    if parts.is_empty() {
        format!("rowid={}", change.rowid)
    } else {
        parts.join(", ")
    }
}

fn row_line(table: &TableChanges, change: &RowChange, max: usize) -> String {
    let key = key_text(table, change);
    let of = |row: &[Value]| {
        let columns = table.columns.iter().zip(row).enumerate();
        let rest = columns.filter(|(column, _)| !table.key.contains(column));
        let parts: Vec<String> = rest
            .map(|(_, (name, field))| {
                format!("{}={}", visible(name.as_bytes(), 60), value(field, max))
            })
            .collect();
        parts.join(", ")
    };
    match (&change.old, &change.new) {
        (Some(old), Some(new)) => {
            let columns = table.columns.iter().zip(old.iter().zip(new));
            let parts: Vec<String> = columns
                .filter(|(_, (old, new))| old != new)
                .map(|(name, (old, new))| {
                    let name = visible(name.as_bytes(), 60);
                    format!("{name}: {} -> {}", value(old, max), value(new, max))
                })
                .collect();
            format!("  ~ {key}  {}", parts.join(", "))
        }
        (None, Some(new)) => format!("  + {key}  {}", of(new)),
        (Some(old), None) => format!("  - {key}  {}", of(old)),
        (None, None) => String::new(),
    }
}

fn row_json(table: &TableChanges, change: &RowChange, max: usize) -> Json {
    let of = |row: &Vec<Value>| {
        let fields = table.columns.iter().zip(row);
        Json::Object(
            fields
                .map(|(name, field)| (name.clone(), field_json(field, max)))
                .collect(),
        )
    };
    let mut object = Map::new();
    let action = match (&change.old, &change.new) {
        (Some(_), Some(_)) => "update",
        (None, _) => "insert",
        (Some(_), None) => "delete",
    };
    object.insert("action".to_owned(), json!(action));
    if table.rowid {
        object.insert("rowid".to_owned(), json!(change.rowid));
    }
    object.extend(change.old.iter().map(|row| ("old".to_owned(), of(row))));
    object.extend(change.new.iter().map(|row| ("new".to_owned(), of(row))));
    Json::Object(object)
}

fn field_json(field: &Value, max: usize) -> Json {
    const EXACT: std::ops::RangeInclusive<i64> = -(1 << 53)..=1 << 53;
    match field {
        Value::Null => Json::Null,
        Value::Integer(integer) if EXACT.contains(integer) => json!(integer),
        Value::Integer(integer) => json!({ "integer": integer.to_string() }),
        Value::Real(real) if real.is_finite() => json!(real),
        Value::Real(real) => json!({ "real": format!("{real:?}") }),
        Value::Text(bytes) | Value::Blob(bytes) if bytes.len() > max => {
            json!({ "cut": visible(bytes, max), "bytes": bytes.len() })
        }
        Value::Text(text) => match str::from_utf8(text) {
            Ok(text) => json!(text),
            Err(_) => json!({ "base64": STANDARD.encode(text), "storage": "text" }),
        },
        Value::Blob(blob) => json!({ "base64": STANDARD.encode(blob) }),
    }
}
