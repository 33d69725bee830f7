//! An error, with its chain and its exit code. One clear sentence, the remedy in it.

use std::error::Error;
use std::process::ExitCode;

use belljar_base::{EXIT_FAILED, HasKind, Kind};
use belljar_branch::engine::Conflict;
use serde_json::json;

use crate::report;

/// A command that did not do what was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    kind: Kind,
    text: String,
    /// What is in the way, a line each.
    pub(crate) conflicts: Vec<Conflict>,
}

/// Lines of conflicts that are shown.
const CONFLICTS_SHOWN_MAX: usize = 50;

/// Characters of a command line's error that are shown; it repeats what was given.
const USAGE_CHARS_MAX: usize = 500;

impl Failure {
    pub(crate) fn new(kind: Kind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
            conflicts: Vec::new(),
        }
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Prints the failure, and gives its exit code.
    pub(crate) fn print(&self, as_json: bool) -> ExitCode {
        if as_json {
            report::json(&json!({
                "error": self.kind.as_str(),
                "message": self.text,
                "conflicts": self.conflicts,
            }));
        }
        report::complain(&format!("belljar: {}", self.text));
        for conflict in self.conflicts.iter().take(CONFLICTS_SHOWN_MAX) {
            report::complain(&format!(
                "  {}: {}: {}",
                conflict.engine, conflict.place, conflict.reason
            ));
        }
        if let Some(more) = self.conflicts.len().checked_sub(CONFLICTS_SHOWN_MAX)
            && more > 0
        {
            report::complain(&format!("  … and {more} more"));
        }
        ExitCode::from(self.kind.exit_code())
    }
}

impl<E: Error + HasKind> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(error.kind(), chain(&error))
    }
}

/// An error and what caused it, each said once.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !text.ends_with(&said) {
            text += &format!(": {said}");
        }
        source = cause.source();
    }
    text
}

/// A command line that cannot be read, or a call for help.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    use clap::error::ErrorKind;
    let kind = error.kind();
    if matches!(kind, ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        report::say(error.render().to_string().trim_end());
        return ExitCode::SUCCESS;
    }
    if kind == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        report::complain("belljar: there is no command (see `belljar --help`)");
        return ExitCode::from(EXIT_FAILED);
    }
    let text = error.render().to_string();
    // The sentence and its tips; the usage block adds nothing to them.
    let text = text.split("\n\nUsage:").next().unwrap_or_default();
    let text = text.strip_prefix("error: ").unwrap_or(text);
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("For more information"))
        .collect();
    let sentence: String = lines.join("; ").chars().take(USAGE_CHARS_MAX).collect();
    report::complain(&format!("belljar: {sentence} (see `belljar --help`)"));
    ExitCode::from(EXIT_FAILED)
}
