//! `belljar runs`: the runs, newest first.

use std::process::ExitCode;

use belljar_branch::BranchState;
use belljar_branch::engine::files::visible;
use belljar_server::RunRecord;
use belljar_server::app::review::runs as all_runs;
use serde_json::{Value, json};

use super::open;
use crate::arguments::RunsAsk;
use crate::failure::{Failure, chain};
use crate::report;
use crate::settings::Settings;

/// Characters of a command that a table shows.
const COMMAND_SHOWN_MAX: usize = 60;

pub(crate) fn runs(ask: &RunsAsk, settings: &Settings) -> Result<ExitCode, Failure> {
    let state = open(settings)?;
    let all = all_runs(&state)?;
    for error in all.unreadable {
        report::complain(&format!("belljar: {}", chain(&error)));
    }
    let all = all.known;
    if ask.json {
        let all: Vec<Value> = all
            .iter()
            .map(|(run, branch, underway)| as_json(run, word(run, *branch, *underway)))
            .collect();
        report::json(&json!(all));
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows = vec![
        ["RUN", "ASKED", "EXIT", "CHANGES", "COMMAND"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for (run, branch, underway) in &all {
        let exit = run
            .status
            .as_ref()
            .map_or("-".to_owned(), |status| status.exit_code.to_string());
        let (id, asked) = (run.id.to_string(), run.asked.to_rfc3339());
        rows.push(vec![
            id,
            asked,
            exit,
            word(run, *branch, *underway).to_owned(),
            command(run),
        ]);
    }
    report::table(&rows);
    Ok(ExitCode::SUCCESS)
}

/// What became of a run's changes.
fn word(run: &RunRecord, branch: BranchState, underway: bool) -> &'static str {
    match (&run.status, branch) {
        (None, _) if underway => "running",
        (None, _) => "failed",
        (Some(status), _) if status.interrupted.is_some() => "failed",
        (Some(status), _) if !status.changed => "none",
        (Some(_), BranchState::Sealed) => "sealed",
        (Some(_), BranchState::Merged) => "merged",
        (Some(_), BranchState::Reverted) => "reverted",
        (Some(_), BranchState::Discarded) => "discarded",
    }
}

fn command(run: &RunRecord) -> String {
    let parts: Vec<String> = run.command.iter().map(|part| visible(&part.0)).collect();
    let text = parts.join(" ");
    if text.chars().count() <= COMMAND_SHOWN_MAX {
        return text;
    }
    text.chars()
        .take(COMMAND_SHOWN_MAX - 1)
        .chain(['…'])
        .collect()
}

fn as_json(run: &RunRecord, changes: &str) -> Value {
    json!({
        "run": run.id.to_string(),
        "agent": run.agent.to_string(),
        "asked": run.asked.to_rfc3339(),
        "isolation": run.isolation.as_str(),
        "command": run.command,
        "workspace": run.workspace,
        "exit_code": run.status.as_ref().map(|status| status.exit_code),
        "changes": changes,
        "limits_hit": run.status.as_ref().map(|status| &status.limits_hit),
    })
}
