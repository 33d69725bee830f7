//! `belljar audit`: the ledger, read, verified, exported.

mod network; // what a run tried to reach

use std::path::PathBuf;
use std::process::ExitCode;

use belljar_base::Kind;
use belljar_branch::engine::files::visible;
use belljar_ledger::verify::{Held, verify};
use belljar_ledger::{Event, Record};
use belljar_server::{RunName, State};
use serde_json::{Value, json};

use super::open;
use crate::arguments::{AuditAsk, AuditWhat};
use crate::failure::Failure;
use crate::report;
use crate::settings::Settings;

pub(crate) fn audit(ask: &AuditAsk, settings: &Settings) -> Result<ExitCode, Failure> {
    match &ask.what {
        AuditWhat::Tail { count, json } => {
            let state = open(settings)?;
            show(&state.ledger.tail(*count)?, *json);
            Ok(ExitCode::SUCCESS)
        }
        AuditWhat::Show { run, network, json } => {
            let records = of_run(&open(settings)?, run)?;
            if *network {
                network::show(&records, *json);
            } else {
                show(&records, *json);
            }
            Ok(ExitCode::SUCCESS)
        }
        AuditWhat::Verify { checkpoint, json } => check(settings, checkpoint, *json),
        AuditWhat::Export { to, json } => {
            let records = open(settings)?.ledger.export(to)?;
            if *json {
                report::json(&json!({ "records": records, "to": to.display().to_string() }));
            } else {
                report::say(&format!("{records} records in `{}`", to.display()));
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn of_run(state: &State, run: &RunName) -> Result<Vec<Record>, Failure> {
    // A run may be known to the ledger alone: refused, or its directory removed.
    let id = match (state.find(run), run) {
        (Ok(id), _) => id,
        (Err(error), RunName::Id(text)) => match text.parse() {
            Ok(id) => id,
            Err(_) => return Err(error.into()),
        },
        (Err(error), RunName::Last) => return Err(error.into()),
    };
    let records = state.ledger.of_run(id)?;
    if records.is_empty() {
        let text = format!("the ledger has no record of `{id}`; `belljar runs` lists the runs");
        return Err(Failure::new(Kind::NotFound, text));
    }
    Ok(records)
}

fn show(records: &[Record], json: bool) {
    for record in records {
        if json {
            report::json(&as_json(record));
        } else {
            let run = record.run.map_or("-".to_owned(), |run| run.to_string());
            let (at, name) = (record.at.to_rfc3339(), record.event.name());
            report::say(&format!(
                "{:>6}  {at}  {run}  {name:<16}  {}",
                record.seq,
                detail(&record.event)
            ));
        }
    }
}

fn as_json(record: &Record) -> Value {
    let mut value = serde_json::to_value(&record.event).unwrap_or_default();
    if let Value::Object(fields) = &mut value {
        fields.insert("seq".into(), json!(record.seq));
        fields.insert("at".into(), json!(record.at.to_rfc3339()));
        fields.insert("run".into(), json!(record.run.map(|run| run.to_string())));
        fields.insert(
            "agent".into(),
            json!(record.agent.as_ref().map(ToString::to_string)),
        );
        fields.insert("leaf".into(), json!(record.leaf.to_string()));
    }
    value
}

/// An event's own fields on one line.
fn detail(event: &Event) -> String {
    let Ok(Value::Object(mut fields)) = serde_json::to_value(event) else {
        return String::new();
    };
    fields.remove("event");
    let parts: Vec<String> = fields
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    visible(parts.join(" ").as_bytes())
}

fn check(settings: &Settings, kept: &[PathBuf], json: bool) -> Result<ExitCode, Failure> {
    let mut held = Held::default();
    for path in kept {
        let text = std::fs::read_to_string(path).map_err(|error| {
            let text = format!("cannot read the checkpoint `{}`: {error}", path.display());
            Failure::new(Kind::NotFound, text)
        })?;
        held.checkpoints.push(text);
    }
    let outcome = verify(&settings.state.join("ledger"), &held)?;
    let whole = outcome.findings.is_empty();
    if json {
        let findings: Vec<Value> = outcome
            .findings
            .iter()
            .map(|finding| {
                json!({
                    "file": finding.file.display().to_string(),
                    "offset": finding.offset,
                    "seq": finding.seq,
                    "text": finding.to_string(),
                })
            })
            .collect();
        report::json(&json!({
            "records": outcome.records,
            "root": outcome.root.to_string(),
            "key": outcome.key,
            "findings": findings,
        }));
    } else {
        outcome
            .findings
            .iter()
            .for_each(|finding| report::say(&finding.to_string()));
        let verdict = if whole {
            "every hash and signature holds"
        } else {
            "the ledger was changed"
        };
        report::say(&format!(
            "{} records, root {}: {verdict}",
            outcome.records, outcome.root
        ));
    }
    if whole {
        return Ok(ExitCode::SUCCESS);
    }
    let count = outcome.findings.len();
    Err(Failure::new(
        Kind::Conflict,
        format!("the ledger does not verify: {count} findings"),
    ))
}
