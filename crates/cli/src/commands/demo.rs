//! `belljar demo`: incidents that really happened, each replayed by a real program, by the path
//! that every run takes, against files and databases made for it.

mod incident; // what an incident is, and what a replay of it gives
mod check; // what was expected, what was found, and whether it held
mod snapshot; // files and rows before and after, as hashes
mod stage; // where a replay happens: a directory of its own, a state of its own
mod asked; // what a merge would have asked
mod left; // what a run could have left behind
mod show; // one screen for a person, one object for a script
mod actor; // the programs that misbehave, where a shell is not enough
mod home_directory; // the incidents, one file each
mod tracked_files;
mod database_and_backups;
mod code_freeze;
mod self_root;
mod config_rewrite;
mod runaway;
mod outside; // a world to call, for the incidents that call out
mod calling; // how the programs inside call it
mod exfiltration;
mod token_theft;

use std::process::ExitCode;
use std::time::Instant;

use belljar_base::{EXIT_FAILED, Kind};

use crate::arguments::{DemoActorAsk, DemoAsk};
use crate::failure::Failure;
use crate::settings::Settings;

use incident::{Incident, Replay};
use stage::Stage;

/// Every incident, in the order of the screen.
const INCIDENTS: [&Incident; 9] = [
    &home_directory::INCIDENT,
    &tracked_files::INCIDENT,
    &database_and_backups::INCIDENT,
    &code_freeze::INCIDENT,
    &self_root::INCIDENT,
    &config_rewrite::INCIDENT,
    &runaway::INCIDENT,
    &exfiltration::INCIDENT,
    &token_theft::INCIDENT,
];

pub(crate) fn demo(ask: &DemoAsk, settings: &Settings) -> Result<ExitCode, Failure> {
    let chosen = choose(ask.incident.as_deref())?;
    if ask.list {
        show::list(&chosen, ask.json);
        return Ok(ExitCode::SUCCESS);
    }
    let begun = Instant::now();
    let screen = show::Screen::new(settings, ask.json, chosen.len() == 1);
    let replays = Stage::open(settings, |stage| {
        chosen
            .iter()
            .map(|incident| {
                let replay = play(incident, stage)?;
                screen.replay(&replay);
                Ok(replay)
            })
            .collect::<Result<Vec<Replay>, Failure>>()
    })?;
    screen.verdict(&replays, begun.elapsed());
    if replays.iter().all(Replay::contained) {
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::from(EXIT_FAILED))
}

/// The hidden command that misbehaves inside a sandbox.
pub(crate) fn demo_actor(ask: &DemoActorAsk) -> Result<ExitCode, Failure> {
    actor::act(&ask.name)
}

fn choose(name: Option<&str>) -> Result<Vec<&'static Incident>, Failure> {
    let Some(name) = name else {
        return Ok(INCIDENTS.to_vec());
    };
    let found = INCIDENTS.into_iter().find(|one| one.name == name);
    found.map(|one| vec![one]).ok_or_else(|| {
        let known: Vec<&str> = INCIDENTS.iter().map(|one| one.name).collect();
        let name: String = name.escape_default().take(64).collect();
        let known = known.join(", ");
        Failure::new(
            Kind::NotFound,
            format!("there is no incident `{name}`; the incidents are {known}"),
        )
    })
}

fn play(incident: &'static Incident, stage: &Stage<'_>) -> Result<Replay, Failure> {
    let begun = Instant::now();
    let played = (incident.play)(stage).map_err(|failure| {
        let text = format!("cannot replay `{}`: {}", incident.name, failure.text());
        Failure::new(failure.kind(), text)
    })?;
    Ok(Replay {
        incident,
        played,
        duration: begun.elapsed(),
    })
}
