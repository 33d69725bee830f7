//! `belljar allow`: lets something through for a run that is under way.

use std::process::ExitCode;

use belljar_server::app::network::grant;
use serde_json::json;

use super::open;
use crate::arguments::AllowAsk;
use crate::failure::Failure;
use crate::report;
use crate::settings::Settings;

pub(crate) fn allow(ask: &AllowAsk, settings: &Settings) -> Result<ExitCode, Failure> {
    let state = open(settings)?;
    let run = state.find(&ask.run)?;
    let rule = grant(&state, run, &ask.rule)?;
    if ask.json {
        report::json(&json!({ "run": run.to_string(), "allow": rule.text }));
    } else {
        report::say(&format!("{run} may reach {} from now on", rule.text));
    }
    Ok(ExitCode::SUCCESS)
}
