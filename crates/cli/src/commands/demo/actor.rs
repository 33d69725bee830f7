//! The programs that misbehave, where a shell is not enough: this very program, shown read-only
//! inside. Outside a sandbox they refuse to start.

use std::fs;
use std::io::Write;
use std::process::ExitCode;

use belljar_base::Kind;

use super::{
    code_freeze, config_rewrite, database_and_backups, exfiltration, runaway, self_root,
    token_theft,
};
use crate::failure::Failure;
use crate::settings;

/// A program that misbehaves, and says what it tried and got.
#[derive(Debug)]
pub(super) struct Acting(());

pub(super) fn act(name: &str) -> Result<ExitCode, Failure> {
    let act: fn(&mut Acting) = match name {
        "database-and-backups" => database_and_backups::misbehave,
        "code-freeze" => code_freeze::misbehave,
        "config-rewrite" => config_rewrite::misbehave,
        "exfiltration" => exfiltration::misbehave,
        "token-theft" => token_theft::misbehave,
        "self-root" => self_root::misbehave,
        "daemon" => runaway::daemon,
        "daemon-child" => runaway::daemon_child,
        "daemon-grandchild" => runaway::daemon_grandchild,
        _ => return Err(Failure::new(Kind::NotFound, "there is no such actor")),
    };
    // Two signs that this is a sandbox of the demonstration: its run, and a host out of sight.
    let canary = settings::variable("CANARY");
    let hidden = canary.is_some_and(|path| fs::symlink_metadata(path).is_err());
    if settings::variable("BELLJAR_RUN").is_none() || !hidden {
        return Err(Failure::new(
            Kind::Denied,
            "this command does damage, so it runs in a sandbox of `belljar demo` alone",
        ));
    }
    act(&mut Acting(()));
    Ok(ExitCode::SUCCESS)
}

impl Acting {
    /// A variable that the stage has set; empty if it has not.
    pub(super) fn variable(&self, name: &str) -> String {
        let value = settings::variable(name).unwrap_or_default();
        value.to_string_lossy().into_owned()
    }

    /// What was tried and what came of it, on one line.
    pub(super) fn say(&mut self, what: &str, got: &str) {
        let mut out = std::io::stdout().lock();
        if writeln!(out, "{what}\t{got}").is_err() {}
    }

    /// The same, for what works or is refused.
    pub(super) fn say_answer<T>(&mut self, what: &str, answer: Result<T, String>) {
        match answer {
            Ok(_) => self.say(what, "done"),
            Err(error) => self.say(what, &format!("refused: {error}")),
        }
    }
}
