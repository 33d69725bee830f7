//! The statements that a merge prepares, once for each table.

use super::catalog::Table;

/// An identifier as SQL writes it.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The statements for one table.
pub(crate) struct Sql<'a> {
    table: String,
    columns: Vec<String>,
    pub(crate) rowid: Option<&'a str>,
    /// What names a row: its rowid, or its key where there is none.
    place: Option<String>,
    key: Option<String>,
}

impl<'a> Sql<'a> {
    pub(crate) fn of(table: &'a Table) -> Self {
        let columns: Vec<String> = table
            .columns
            .iter()
            .map(|column| quoted(&column.name))
            .collect();
        let names = table.key.iter().filter_map(|column| columns.get(*column));
        let terms: Vec<String> = names.map(|name| format!("{name} = ?")).collect();
        let key = (!terms.is_empty()).then(|| terms.join(" AND "));
        let rowid = table.rowid_name.as_deref();
        let place = rowid.map(|rowid| format!("{} = ?", quoted(rowid)));
        Self {
            table: quoted(&table.name),
            rowid,
            place: place.or_else(|| key.clone()),
            key,
            columns,
        }
    }

    fn find(&self, place: &str) -> String {
        let rowid = self.rowid.map_or_else(|| "0".to_owned(), quoted);
        let columns = self.columns.join(", ");
        format!(
            "SELECT {rowid}, {columns} FROM {} WHERE {place}",
            self.table
        )
    }

    pub(crate) fn find_by_key(&self) -> Option<String> {
        self.key.as_ref().map(|key| self.find(key))
    }

    pub(crate) fn find_by_rowid(&self) -> Option<String> {
        self.rowid
            .map(|rowid| self.find(&format!("{} = ?", quoted(rowid))))
    }

    pub(crate) fn taken(&self) -> Option<String> {
        let rowid = quoted(self.rowid?);
        Some(format!("SELECT 1 FROM {} WHERE {rowid} = ?", self.table))
    }

    pub(crate) fn delete(&self) -> Option<String> {
        let place = self.place.as_ref()?;
        Some(format!("DELETE FROM {} WHERE {place}", self.table))
    }

    pub(crate) fn insert(&self, with_rowid: bool) -> String {
        let rowid = self.rowid.filter(|_| with_rowid).map(quoted);
        let names: Vec<String> = rowid
            .into_iter()
            .chain(self.columns.iter().cloned())
            .collect();
        let marks = vec!["?"; names.len()].join(", ");
        format!(
            "INSERT INTO {} ({}) VALUES ({marks})",
            self.table,
            names.join(", ")
        )
    }

    pub(crate) fn update(&self, columns: &[usize]) -> String {
        let names = columns
            .iter()
            .filter_map(|column| self.columns.get(*column));
        let sets: Vec<String> = names.map(|name| format!("{name} = ?")).collect();
        let place = self.place.as_deref().unwrap_or("0");
        format!(
            "UPDATE {} SET {} WHERE {place}",
            self.table,
            sets.join(", ")
        )
    }
}
