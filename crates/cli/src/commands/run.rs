//! `belljar run`: encloses a command.

mod network; // what it may reach

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use belljar_base::{Kind, VariableName};
use belljar_sandbox::{Attendance, Host, Limiter, Stream};
use belljar_server::app::recover::recover;
use belljar_server::app::run::{RunReport, RunRequest, Runner};
use belljar_server::{State, SystemClock};
use serde_json::{Value, json};

use crate::arguments::{RunAsk, limits};
use crate::failure::Failure;
use crate::report;
use crate::settings::{self, Settings};

pub(crate) fn run(ask: &RunAsk, settings: &Settings) -> Result<ExitCode, Failure> {
    let host = Host::probe().map_err(|error| {
        Failure::new(
            Kind::Unavailable,
            format!("cannot look at this host: {error}"),
        )
    })?;
    let host = Arc::new(host);
    let mut request = request(ask, settings, &host)?;
    warn(ask, &host);
    let state = State::open(&settings.state)?;
    for told in recover(&state, &SystemClock, settings.home.as_ref())? {
        report::complain(&format!("belljar: {told}"));
    }
    if let Some(network) = &mut request.network {
        network::open_secrets(&ask.network, network, &state, settings)?;
    }
    let runner = Runner::new(&state, &SystemClock, host)?;
    let raw = request.terminal.map(|_| RawTerminal::enter());
    let outcome = runner.run(request, chance()?, attendance()?);
    drop(raw);
    let outcome = outcome?;
    if ask.json {
        // The object has a line of its own, wherever the command's output ended.
        if outcome.written[0] > 0 {
            report::say("");
        }
        report::json(&summary(&outcome));
    } else {
        tell(&outcome);
    }
    Ok(ExitCode::from(outcome.exit_code))
}

fn request(ask: &RunAsk, settings: &Settings, host: &Host) -> Result<RunRequest, Failure> {
    let invalid = |text: String| Failure::new(Kind::Invalid, text);
    let mut databases = BTreeMap::new();
    for (name, path) in &ask.databases {
        if databases.insert(name.clone(), path.clone()).is_some() {
            return Err(invalid(format!(
                "the database name `{name}` is given twice"
            )));
        }
    }
    let environment: Result<Vec<_>, _> = ask.environment.iter().map(variable).collect();
    Ok(RunRequest {
        agent: ask.agent.clone(),
        isolation: ask.isolation,
        command: ask.command.clone(),
        workspace: ask.workspace.clone(),
        directory: settings.directory.clone(),
        databases,
        reads: ask
            .reads
            .iter()
            .map(|path| absolute(path, settings))
            .collect(),
        environment: environment.map_err(invalid)?,
        limits: limits(
            &ask.limits,
            belljar_sandbox::Limits::defaults(host.memory_bytes),
        )
        .map_err(invalid)?,
        network: network::request(&ask.network, &ask.agent, settings)?,
        terminal: terminal(),
        key: Some(settings.secrets_key.clone()),
        home: settings.home.clone(),
    })
}

fn absolute(path: &Path, settings: &Settings) -> PathBuf {
    let joined = settings
        .directory
        .as_ref()
        .map_or(path.to_path_buf(), |here| here.join(path));
    joined.canonicalize().unwrap_or(joined)
}

/// `NAME` passes a variable on, `NAME=VALUE` sets it.
fn variable(one: &OsString) -> Result<(VariableName, OsString), String> {
    let bytes = one.as_bytes();
    let (name, value) = match bytes.iter().position(|byte| *byte == b'=') {
        Some(place) => {
            let (name, value) = bytes.split_at(place);
            let value = value.get(1..).unwrap_or_default();
            (name, Some(std::ffi::OsStr::from_bytes(value).to_owned()))
        }
        None => (bytes, None),
    };
    let name = String::from_utf8_lossy(name);
    let name: VariableName = name
        .parse()
        .map_err(|error: belljar_base::NameError| error.to_string())?;
    let missing = || format!("the variable `{name}` is not set; write --env {name}=VALUE");
    let value = value
        .or_else(|| settings::variable(name.as_str()))
        .ok_or_else(missing)?;
    Ok((name, value))
}

/// What was asked for and cannot be held here is said before the run.
fn warn(ask: &RunAsk, host: &Host) {
    let named = |limit: &str| {
        let wanted = |one: &String| one.split('=').next() == Some(limit);
        ask.limits.iter().any(wanted)
    };
    if host.limiter() == Limiter::ResourceLimits && (named("memory") || named("cpu")) {
        report::complain(
            "belljar: without control groups, memory is held for each process alone and CPU time \
             not at all; `belljar doctor` says how to get both",
        );
    }
}

/// A command gets a terminal of its own when both our input and our output are one.
fn terminal() -> Option<(u16, u16)> {
    if !(std::io::stdin().is_terminal() && std::io::stdout().is_terminal()) {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(rustix::stdio::stdout()).ok()?;
    Some((size.ws_row, size.ws_col))
}

/// Our terminal passes every key on; as it was when dropped.
struct RawTerminal(Option<rustix::termios::Termios>);

impl RawTerminal {
    fn enter() -> Self {
        let before = rustix::termios::tcgetattr(rustix::stdio::stdin()).ok();
        if let Some(before) = &before {
            let mut raw = before.clone();
            raw.make_raw();
            let when = rustix::termios::OptionalActions::Now;
            // A terminal that cannot be made raw still works, line by line.
            if rustix::termios::tcsetattr(rustix::stdio::stdin(), when, &raw).is_err() {}
        }
        Self(before)
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let when = rustix::termios::OptionalActions::Drain;
            if rustix::termios::tcsetattr(rustix::stdio::stdin(), when, before).is_err() {}
        }
    }
}

fn attendance() -> Result<Attendance, Failure> {
    let copy = |from: rustix::fd::BorrowedFd<'_>| -> Result<OwnedFd, Failure> {
        from.as_fd().try_clone_to_owned().map_err(|error| {
            Failure::new(
                Kind::Unavailable,
                format!("cannot use the standard streams: {error}"),
            )
        })
    };
    let signals = belljar_sandbox::signals().map_err(|error| {
        Failure::new(
            Kind::Unavailable,
            format!("cannot listen for signals: {error}"),
        )
    })?;
    Ok(Attendance {
        stdin: Some(copy(rustix::stdio::stdin())?),
        stdout: Stream::To(copy(rustix::stdio::stdout())?),
        stderr: Stream::To(copy(rustix::stdio::stderr())?),
        signals: Some(signals),
    })
}

/// Thirty-two bits of chance for a run's id.
pub(crate) fn chance() -> Result<u32, Failure> {
    let mut bytes = [0_u8; 4];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).map_err(
        |error| {
            Failure::new(
                Kind::Unavailable,
                format!("the kernel gives no random bytes: {error}"),
            )
        },
    )?;
    Ok(u32::from_ne_bytes(bytes))
}

/// The object that `--json` ends with.
pub(crate) fn summary(report: &RunReport) -> Value {
    let files = report.changes.file_counts();
    let rows = report.changes.row_counts();
    let databases: serde_json::Map<String, Value> = rows
        .iter()
        .map(|(name, rows)| {
            let value = json!({
                "inserted": rows.inserted,
                "updated": rows.updated,
                "deleted": rows.deleted,
                "schema": rows.schema,
            });
            (name.to_string(), value)
        })
        .collect();
    json!({
        "run": report.id.to_string(),
        "exit_code": report.exit_code,
        "isolation": report.isolation.as_str(),
        "duration_ms": report.duration_ms,
        "files": { "added": files.added, "modified": files.modified, "deleted": files.deleted },
        "databases": databases,
        "network": { "allowed": report.traffic.allowed, "denied": report.traffic.denied },
        "held": 0,
        "limits_hit": report.limits_hit.iter().map(|hit| hit.as_str()).collect::<Vec<_>>(),
        "ledger": { "first": report.ledger.0, "last": report.ledger.1 },
    })
}

/// What a person sees after a run that changed something or met a limit.
fn tell(outcome: &RunReport) {
    for hit in &outcome.limits_hit {
        report::complain(&format!(
            "belljar: the limit `{}` was reached",
            hit.as_str()
        ));
    }
    if outcome.traffic.denied > 0 {
        let (count, id) = (outcome.traffic.denied, outcome.id);
        let attempts = if count == 1 { "attempt" } else { "attempts" };
        report::complain(&format!(
            "belljar: {count} {attempts} to reach something got nowhere: \
             belljar audit show {id} --network"
        ));
    }
    for note in &outcome.notes {
        report::complain(&format!("belljar: {note}"));
    }
    if outcome.changes.is_empty() {
        return;
    }
    let mut parts = Vec::new();
    let files = outcome.changes.file_counts();
    if files.added + files.modified + files.deleted > 0 {
        parts.push(format!(
            "files +{} ~{} -{}",
            files.added, files.modified, files.deleted
        ));
    }
    for (name, rows) in outcome.changes.row_counts() {
        if rows.inserted + rows.updated + rows.deleted + rows.schema > 0 {
            let schema = if rows.schema == 0 {
                String::new()
            } else {
                format!(" schema {}", rows.schema)
            };
            parts.push(format!(
                "{name} +{} ~{} -{}{schema}",
                rows.inserted, rows.updated, rows.deleted
            ));
        }
    }
    let id = outcome.id;
    report::complain(&format!(
        "belljar: {id}: {}; nothing is real yet: belljar diff|merge|discard {id}",
        parts.join(", ")
    ));
}
