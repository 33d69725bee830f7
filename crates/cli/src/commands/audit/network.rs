//! `belljar audit show RUN --network`: each attempt to leave the sandbox, a line each.

use std::collections::BTreeMap;

use belljar_branch::engine::files::visible;
use belljar_ledger::event::{Effect, NetworkAsked};
use belljar_ledger::{Event, Record, Text};
use serde_json::{Value, json};

use crate::report;

/// An attempt, with what became of it.
struct Attempt<'a> {
    at: String,
    asked: &'a NetworkAsked,
    up_bytes: u64,
    down_bytes: u64,
    status: Option<u16>,
    end: Option<&'a Text>,
}

pub(super) fn show(records: &[Record], json: bool) {
    let attempts = attempts(records);
    if json {
        attempts.iter().for_each(|one| report::json(&as_json(one)));
        return;
    }
    if attempts.is_empty() {
        report::say("it did not try to reach anything");
        return;
    }
    for one in &attempts {
        report::say(&line(one));
    }
}

fn attempts(records: &[Record]) -> Vec<Attempt<'_>> {
    let mut attempts: Vec<Attempt<'_>> = Vec::new();
    let mut places: BTreeMap<u64, usize> = BTreeMap::new();
    for record in records {
        if let Event::NetworkAsked(asked) = &record.event {
            places.insert(asked.id, attempts.len());
            attempts.push(Attempt {
                at: record.at.to_rfc3339(),
                asked,
                up_bytes: 0,
                down_bytes: 0,
                status: None,
                end: None,
            });
        }
        if let Event::NetworkEnded {
            id,
            up_bytes,
            down_bytes,
            status,
            end,
            ..
        } = &record.event
            && let Some(one) = places.get(id).and_then(|place| attempts.get_mut(*place))
        {
            (one.up_bytes, one.down_bytes) = (*up_bytes, *down_bytes);
            (one.status, one.end) = (*status, Some(end));
        }
    }
    attempts
}

fn effect(asked: &NetworkAsked) -> &'static str {
    match (asked.effect, asked.observed) {
        (Effect::Allow, true) => "observed",
        (Effect::Allow, false) => "allow",
        (Effect::Hold, _) => "hold",
        (Effect::Deny, _) => "deny",
    }
}

fn line(one: &Attempt<'_>) -> String {
    let asked = one.asked;
    let address = asked
        .address
        .as_ref()
        .map_or(String::new(), |address| format!(" [{address}]"));
    let request = match (&asked.method, &asked.path) {
        (Some(method), Some(path)) => format!("  {method} {path}"),
        _ => String::new(),
    };
    let status = one
        .status
        .map_or(String::new(), |status| format!(" {status}"));
    let bytes = match asked.effect {
        Effect::Allow => format!("  ↑{} ↓{}", one.up_bytes, one.down_bytes),
        Effect::Hold | Effect::Deny => String::new(),
    };
    let secrets: Vec<String> = asked.secrets.iter().map(ToString::to_string).collect();
    let secrets = if secrets.is_empty() {
        String::new()
    } else {
        format!("  secrets: {}", secrets.join(", "))
    };
    let text = format!(
        "{}  {:<8}  {}://{}:{}{address}{request}{status}{bytes}  {} ({}){secrets}",
        one.at,
        effect(asked),
        asked.scheme,
        asked.host,
        asked.port,
        asked.reason,
        asked.rule,
    );
    visible(text.as_bytes())
}

fn as_json(one: &Attempt<'_>) -> Value {
    let asked = one.asked;
    json!({
        "at": one.at,
        "decision": effect(asked),
        "scheme": asked.scheme,
        "host": asked.host,
        "port": asked.port,
        "address": asked.address,
        "method": asked.method,
        "path": asked.path,
        "status": one.status,
        "up_bytes": one.up_bytes,
        "down_bytes": one.down_bytes,
        "rule": asked.rule,
        "reason": asked.reason,
        "secrets": asked.secrets,
        "end": one.end,
    })
}
