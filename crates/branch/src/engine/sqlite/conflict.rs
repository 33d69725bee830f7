//! What stands in the way of a merge, so that a person or an agent can act on it.

use serde::{Deserialize, Serialize};

use super::render;
use super::value::Value;

/// Conflicts told in full; of more only the number is told.
pub(crate) const CONFLICTS_MAX: usize = 1000;

/// One row, definition or setting that cannot be merged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RowConflict {
    /// The table, index, view or trigger; empty for the database itself.
    pub table: String,
    /// The row's key as `column=value, …`; empty when it is not about one row.
    pub key: String,
    /// What is in the way.
    pub reason: String,
    /// The row when the branch was made, as `column=value, …`, long values cut.
    pub base: Option<String>,
    /// The row now.
    pub current: Option<String>,
    /// The row as the run left it.
    pub proposed: Option<String>,
}

impl RowConflict {
    /// A conflict that is not about one row.
    pub(crate) fn of(table: &str, reason: impl Into<String>) -> Self {
        Self {
            table: table.to_owned(),
            key: String::new(),
            reason: reason.into(),
            base: None,
            current: None,
            proposed: None,
        }
    }

    /// Where it is, on one line.
    #[must_use]
    pub fn place(&self) -> String {
        let table = render::visible(self.table.as_bytes(), 200);
        match (self.table.is_empty(), self.key.is_empty()) {
            (true, _) => "the database".to_owned(),
            (false, true) => table,
            (false, false) => format!("{table} [{}]", self.key),
        }
    }

    /// The reason with the three versions, on one line.
    #[must_use]
    pub fn detail(&self) -> String {
        let mut text = self.reason.clone();
        let versions = [
            ("was", &self.base),
            ("is now", &self.current),
            ("proposed", &self.proposed),
        ];
        for (word, version) in versions {
            if let Some(version) = version {
                text.push_str("; ");
                text.push_str(word);
                text.push(' ');
                text.push_str(version);
            }
        }
        text
    }
}

/// Collects conflicts up to the bound.
#[derive(Debug, Default)]
pub(crate) struct Conflicts {
    pub(crate) told: Vec<RowConflict>,
    pub(crate) untold: u64,
}

impl Conflicts {
    pub(crate) fn push(&mut self, conflict: RowConflict) {
        if self.told.len() < CONFLICTS_MAX {
            self.told.push(conflict);
        } else {
            self.untold += 1;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.told.is_empty()
    }
}

/// A row as `column=value, …`, bounded.
pub(crate) fn row_text(columns: &[String], row: &[Value]) -> String {
    let pairs = columns.iter().zip(row).take(20);
    let mut parts: Vec<String> = pairs
        .map(|(column, value)| {
            format!(
                "{}={}",
                render::visible(column.as_bytes(), 60),
                render::value(value, 80)
            )
        })
        .collect();
    if row.len() > 20 {
        parts.push("…".to_owned());
    }
    parts.join(", ")
}
