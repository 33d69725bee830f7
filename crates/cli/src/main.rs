//! The command `belljar`: parse, dispatch, render, exit.

mod arguments; // what can be asked for
mod settings; // the environment, read here alone
mod report; // what a person and a script see
mod failure; // an error, with its chain and its exit code
mod commands; // one file per command

use std::process::ExitCode;

use clap::Parser;

use crate::arguments::{Arguments, Ask};
use crate::settings::Settings;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return failure::usage(&error),
    };
    let as_json = arguments.ask.wants_json();
    let settings = Settings::read();
    let outcome = match arguments.ask {
        Ask::Run(ask) => commands::run::run(&ask, &settings),
        Ask::Diff(ask) => commands::diff::diff(&ask, &settings),
        Ask::Merge(ask) => commands::merge::merge(&ask, &settings),
        Ask::Revert(ask) => commands::merge::revert(&ask, &settings),
        Ask::Discard(ask) => commands::merge::discard(&ask, &settings),
        Ask::Allow(ask) => commands::allow::allow(&ask, &settings),
        Ask::Runs(ask) => commands::runs::runs(&ask, &settings),
        Ask::Secret(ask) => commands::secret::secret(&ask, &settings),
        Ask::Audit(ask) => commands::audit::audit(&ask, &settings),
        Ask::Doctor(ask) => commands::doctor::doctor(&ask, &settings),
        Ask::Demo(ask) => commands::demo::demo(&ask, &settings),
        Ask::DemoActor(ask) => commands::demo::demo_actor(&ask),
    };
    outcome.unwrap_or_else(|failure| failure.print(as_json))
}
