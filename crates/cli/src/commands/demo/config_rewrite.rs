//! 200,000 "inefficient" configuration rows rewritten, merged by mistake, reverted.

use std::path::Path;
use std::time::{Duration, Instant};

use belljar_branch::BranchState;
use belljar_server::app::{merge, review};
use belljar_server::{RunName, SystemClock};
use rusqlite::Connection;

use super::asked::{Asked, Before};
use super::check::Check;
use super::incident::{Incident, Played, Tried, tried};
use super::left;
use super::show::seconds;
use super::snapshot::{Rows, grouped};
use super::stage::{Stage, database};
use crate::failure::Failure;

pub(super) const INCIDENT: Incident = Incident {
    name: "config-rewrite",
    when: "undated",
    happened: "An agent judged some 200,000 configuration rows of a running service inefficient, \
               and rewrote them in the production database. It is known from an account without a \
               public analysis, which the replay follows.",
    attack: "rewrite all 200,000 configuration rows; merged by mistake, then reverted",
    play,
};

const TABLES: &str = "
CREATE TABLE configuration(id INTEGER PRIMARY KEY, tenant TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL);";

/// Rows of configuration.
const ROWS: u32 = 200_000;

fn play(stage: &Stage<'_>) -> Result<Played, Failure> {
    let folder = stage.folder("config-rewrite")?;
    let source = folder.join("config.db");
    database(&source, TABLES, fill)?;
    let before = Rows::of(&source)?;
    let marker = format!("belljar-demo-config-{}", std::process::id());
    let act = stage
        .actor("config-rewrite", &marker)
        .database("config", &source)?;
    let report = stage.run(act)?;
    let amount = Before {
        files: 0,
        rows: before.count,
    };
    let asked = Asked::of(stage, &report, amount)?;
    let updated = asked.as_ref().and_then(|asked| asked.rows.values().next());
    let updated = updated.map_or(0, |one| one.updated);
    let [output, _] = &report.kept;
    let mut tried = tried(output);
    let mut checks = vec![
        before.intact("every row, after the run", &Rows::of(&source)?),
        Check::same("rows that the diff says were rewritten", ROWS, updated),
        Check::same("the program ran to its end", 0, report.exit_code),
    ];
    checks.extend(mistake(
        stage,
        &report.id.to_string(),
        &source,
        &before,
        &mut tried,
    )?);
    checks.push(left::nothing("left on the host", report.id, &marker));
    let deeds = tried.iter().filter(|one| one.what.starts_with("belljar"));
    let deeds: Vec<String> = deeds
        .map(|one| format!("{}: {}", one.what, one.got))
        .collect();
    Ok(Played {
        tried,
        checks,
        asked,
        notes: vec![format!("{}; every row is as it was", deeds.join("; "))],
    })
}

/// Merges, sees the damage, and takes it back.
fn mistake(
    stage: &Stage<'_>,
    run: &str,
    source: &Path,
    before: &Rows,
    tried: &mut Vec<Tried>,
) -> Result<[Check; 3], Failure> {
    let name: RunName = run.parse()?;
    let options = stage.merge_options();
    let mut say = |what: String, took: Duration| {
        let got = format!("{} rows in {}", grouped(u64::from(ROWS)), seconds(took));
        tried.push(Tried { what, got });
    };
    let begun = Instant::now();
    merge::merge(stage.state, &SystemClock, &name, &options)?;
    say("belljar merge, by mistake".to_owned(), begun.elapsed());
    let damaged = Rows::of(source)?;
    let begun = Instant::now();
    merge::revert(stage.state, &SystemClock, &name, &options)?;
    say("belljar revert".to_owned(), begun.elapsed());
    let state = review::review(stage.state, &name)?.state;
    Ok([
        Check::differs(
            "production after the merge",
            before.shown(),
            damaged.shown(),
        ),
        before.intact("every row, after the revert", &Rows::of(source)?),
        Check::same("what became of the run", BranchState::Reverted, state),
    ])
}

fn fill(connection: &Connection) -> Result<(), rusqlite::Error> {
    let mut row = connection.prepare("INSERT INTO configuration VALUES (?1, ?2, ?3, ?4)")?;
    for id in 1..=ROWS {
        let tenant = format!("tenant-{}", id / 100);
        row.execute((
            id,
            tenant,
            format!("option-{}", id % 100),
            format!("value {id}"),
        ))?;
    }
    Ok(())
}

/// What the program inside does.
pub(super) fn misbehave(act: &mut super::actor::Acting) {
    let path = act.variable("CONFIG_PATH");
    let statement = "UPDATE configuration SET value = 'optimised:' || (id % 7)";
    let answer = Connection::open(&path).and_then(|connection| connection.execute(statement, []));
    match answer {
        Ok(count) => act.say(statement, &format!("{count} rows rewritten")),
        Err(error) => act.say(statement, &format!("refused: {error}")),
    }
}
