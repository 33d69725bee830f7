//! Change sets, summed up for policy, ledger and reports.

use std::collections::BTreeMap;

use belljar_base::DatabaseName;
use belljar_branch::engine::files::FileChanges;
use belljar_branch::engine::sqlite::DatabaseChanges;
use belljar_ledger::event::{FileCounts, RowCounts};
use belljar_ledger::merkle::Hash;
use belljar_policy::MergeFacts;

/// Everything a run changed.
#[derive(Debug, Default)]
pub struct Changes {
    /// In its workspace, if it had one.
    pub files: Option<FileChanges>,
    /// In each of its databases.
    pub databases: BTreeMap<DatabaseName, DatabaseChanges>,
}

impl Changes {
    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files
            .as_ref()
            .is_none_or(|files| files.entries().is_empty())
            && self.databases.values().all(DatabaseChanges::is_empty)
    }

    /// Files added, modified, deleted.
    #[must_use]
    pub fn file_counts(&self) -> FileCounts {
        let summary = self
            .files
            .as_ref()
            .map(FileChanges::summary)
            .unwrap_or_default();
        FileCounts {
            added: summary.added,
            modified: summary.modified + summary.attributes,
            deleted: summary.deleted,
        }
    }

    /// Rows inserted, updated, deleted, and schema changes, by database.
    #[must_use]
    pub fn row_counts(&self) -> BTreeMap<DatabaseName, RowCounts> {
        let counts = self.databases.iter().map(|(name, changes)| {
            let (inserted, updated, deleted) = changes.totals();
            let schema = changes.schema.len() as u64;
            (
                name.clone(),
                RowCounts {
                    inserted,
                    updated,
                    deleted,
                    schema,
                },
            )
        });
        counts.collect()
    }

    /// One hash over all of it: what a decision or an approval is bound to.
    #[must_use]
    pub fn digest(&self) -> Hash {
        let files = self.files.as_ref().map_or("none", |files| files.digest());
        let mut text = format!("files {files}\n");
        for (name, changes) in &self.databases {
            // The description names the rows by their own hash.
            let described = serde_json::to_string(changes).unwrap_or_default();
            text += &format!("database {name} {described}\n");
        }
        Hash::of(text.as_bytes())
    }

    /// What policy must know about a merge.
    #[must_use]
    pub fn merge_facts(&self, privileged_asked: bool) -> MergeFacts {
        let entries = self.files.as_ref().map_or(&[][..], |files| files.entries());
        let privileged = entries.iter().filter(|entry| entry.danger().is_some());
        let unreadable = self
            .databases
            .iter()
            .filter_map(|(name, changes)| Some((name.to_string(), changes.unreadable.clone()?)));
        MergeFacts {
            privileged: privileged.map(|entry| entry.path.visible()).collect(),
            privileged_asked,
            unreadable: unreadable.collect(),
        }
    }
}
