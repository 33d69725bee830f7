//! `belljar demo`: incidents that really happened, replayed by the real path.

use std::process::ExitCode;

use belljar_base::Kind;

use crate::arguments::DemoAsk;
use crate::failure::Failure;
use crate::settings::Settings;

pub(crate) fn demo(ask: &DemoAsk, _settings: &Settings) -> Result<ExitCode, Failure> {
    let name = ask.incident.clone().unwrap_or_default();
    Err(Failure::new(
        Kind::NotFound,
        format!("there is no incident `{name}`"),
    ))
}
