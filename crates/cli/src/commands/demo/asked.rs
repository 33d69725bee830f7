//! What a merge would have asked: counts, dangers, limits, and the decision. Nothing is merged to
//! find out.

use std::collections::BTreeMap;

use belljar_base::DatabaseName;
use belljar_branch::engine::files::NodeKind;
use belljar_branch::engine::sqlite::SchemaAction;
use belljar_ledger::event::{FileCounts, RowCounts};
use belljar_policy::{Decision, decide_merge};
use belljar_server::RunName;
use belljar_server::app::review::{self, Changes};
use belljar_server::app::run::RunReport;
use serde_json::{Value, json};

use super::snapshot::grouped;
use super::stage::{Stage, unavailable};
use crate::failure::Failure;

/// What a merge would have asked.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) files: FileCounts,
    pub(super) rows: BTreeMap<DatabaseName, RowCounts>,
    /// What a person should stop at, a line each.
    pub(super) dangers: Vec<String>,
    /// Limits that the run met.
    pub(super) limits_hit: Vec<&'static str>,
    /// What stands in the way.
    pub(super) conflicts: usize,
    /// `allow` when a person asks, or `deny`.
    pub(super) effect: &'static str,
    pub(super) rule: String,
    pub(super) reason: String,
}

/// How much there was before the run: what the counts are measured against.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Before {
    pub(super) files: u64,
    pub(super) rows: u64,
}

impl Asked {
    /// Reviews a run as `belljar diff` and `belljar merge` do.
    pub(super) fn of(
        stage: &Stage<'_>,
        report: &RunReport,
        before: Before,
    ) -> Result<Option<Self>, Failure> {
        let name: RunName = report.id.to_string().parse()?;
        let review = review::review(stage.state, &name)?;
        if review.changes.is_empty() {
            return Ok(None);
        }
        let home = stage.home().map(std::path::Path::to_path_buf);
        let conflicts = review::conflicts(stage.state, &review, home)
            .map_err(|error| unavailable("look for conflicts", &error))?;
        let changes = &review.changes;
        let (effect, rule, reason) = match decide_merge(&changes.merge_facts(false)) {
            Decision::Allow { rule, reason } => ("allow", rule, reason),
            Decision::Hold(refusal) => ("hold", refusal.rule, refusal.reason),
            Decision::Deny(refusal) => ("deny", refusal.rule, refusal.reason),
        };
        Ok(Some(Self {
            files: changes.file_counts(),
            rows: changes.row_counts(),
            dangers: dangers(changes, before),
            limits_hit: report.limits_hit.iter().map(|hit| hit.as_str()).collect(),
            conflicts: conflicts.len(),
            effect,
            rule,
            reason,
        }))
    }

    /// The counts on one line.
    pub(super) fn counts(&self) -> String {
        let mut parts = Vec::new();
        let files = &self.files;
        if files.added + files.modified + files.deleted > 0 {
            let [added, modified, deleted] =
                [files.added, files.modified, files.deleted].map(grouped);
            parts.push(format!("files +{added} ~{modified} −{deleted}"));
        }
        for (name, rows) in &self.rows {
            let [inserted, updated, deleted] =
                [rows.inserted, rows.updated, rows.deleted].map(grouped);
            parts.push(format!("{name} rows +{inserted} ~{updated} −{deleted}"));
        }
        parts.join(", ")
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "files": {
                "added": self.files.added,
                "modified": self.files.modified,
                "deleted": self.files.deleted,
            },
            "databases": self.rows,
            "dangers": self.dangers,
            "limits_hit": self.limits_hit,
            "conflicts": self.conflicts,
            "decision": { "effect": self.effect, "rule": self.rule, "reason": self.reason },
        })
    }
}

fn dangers(changes: &Changes, before: Before) -> Vec<String> {
    let mut found = Vec::new();
    let entries = changes.files.as_ref().map_or(&[][..], |all| all.entries());
    let deleted = entries.iter().filter(|entry| entry.new.is_none());
    let files = deleted
        .filter_map(|entry| entry.old.as_ref())
        .filter(|old| old.kind != NodeKind::Directory)
        .count() as u64;
    if files > 0 && files * 2 >= before.files {
        let [count, all] = [files, before.files].map(grouped);
        found.push(format!("deletes {count} of {all} files"));
    }
    let rows = changes.row_counts();
    let deleted: u64 = rows.values().map(|one| one.deleted).sum();
    let updated: u64 = rows.values().map(|one| one.updated).sum();
    for (verb, count) in [("deletes", deleted), ("rewrites", updated)] {
        if count > 0 && count * 2 >= before.rows {
            let [count, all] = [count, before.rows].map(grouped);
            found.push(format!("{verb} {count} of {all} rows"));
        }
    }
    let schemas = changes.databases.values().flat_map(|one| &one.schema);
    let dropped = schemas.filter(|one| one.action == SchemaAction::Drop && one.kind == "table");
    let dropped: Vec<&str> = dropped.map(|one| one.name.as_str()).collect();
    if !dropped.is_empty() {
        found.push(format!("drops the tables {}", dropped.join(", ")));
    }
    found.extend(entries.iter().filter_map(|entry| {
        let danger = entry.danger()?;
        Some(format!("`{}`: {danger}", entry.path.visible()))
    }));
    found
}
