//! One file per command: arguments, call, report.

pub(crate) mod run; // enclose a command
pub(crate) mod diff; // what a run did
pub(crate) mod merge; // make it real, take it back, throw it away
pub(crate) mod allow; // let a run that is under way reach a host
pub(crate) mod runs; // the runs
pub(crate) mod secret; // values that never go into a sandbox
pub(crate) mod audit; // the ledger
pub(crate) mod doctor; // what this host can enforce
pub(crate) mod demo; // incidents, replayed

use belljar_server::app::recover::recover;
use belljar_server::{State, SystemClock};

use crate::failure::Failure;
use crate::report;
use crate::settings::Settings;

/// Opens the state, and first cleans up after commands that were interrupted.
pub(crate) fn open(settings: &Settings) -> Result<State, Failure> {
    let state = State::open(&settings.state)?;
    for told in recover(&state, &SystemClock, settings.home.as_ref())? {
        report::complain(&format!("belljar: {told}"));
    }
    Ok(state)
}
