//! Programs started, text said. Every program runs in the repository's root with no standard input.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Why a command of ours failed, as one sentence.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl Failure {
    /// A failure that says `text`.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Says a line on standard output.
#[expect(
    clippy::print_stdout,
    reason = "a developer's tool talks to a terminal"
)]
pub(crate) fn say(text: impl fmt::Display) {
    println!("{text}");
}

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// A program to start, in the repository's root.
pub(crate) fn program(name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(name);
    command
        .args(arguments)
        .current_dir(root())
        .stdin(Stdio::null());
    command
}

/// Runs a program whose output the reader sees.
///
/// # Errors
/// When it cannot be started or does not end well.
pub(crate) fn run(command: &mut Command) -> Result<(), Failure> {
    let text = written(command);
    let status = command
        .status()
        .map_err(|error| Failure::new(format!("cannot start `{text}`: {error}")))?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::new(format!("`{text}` ended with {status}")))
}

/// Runs a program and returns its standard output; its standard error is shown.
///
/// # Errors
/// When it cannot be started, does not end well or does not write text.
pub(crate) fn capture(command: &mut Command) -> Result<String, Failure> {
    let text = written(command);
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| Failure::new(format!("cannot start `{text}`: {error}")))?;
    if !output.status.success() {
        let status = output.status;
        return Err(Failure::new(format!("`{text}` ended with {status}")));
    }
    String::from_utf8(output.stdout)
        .map_err(|error| Failure::new(format!("`{text}` does not write text: {error}")))
}

/// Whether a program of this name can be started.
pub(crate) fn has(name: &str) -> bool {
    Command::new("sh")
        .args(["-c", "command -v \"$1\" >/dev/null", "sh", name])
        .status()
        .is_ok_and(|status| status.success())
}

/// Whether this process may do everything.
pub(crate) fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// The command as a person would type it.
fn written(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_end_is_told_with_the_command() {
        let failure = run(&mut program("sh", &["-c", "exit 3"])).unwrap_err();
        assert_eq!(
            failure.to_string(),
            "`sh -c exit 3` ended with exit status: 3"
        );
        let failure = run(&mut program("no-such-program-here", &[])).unwrap_err();
        assert!(failure.to_string().starts_with("cannot start"), "{failure}");
    }

    #[test]
    fn output_is_captured() {
        assert_eq!(capture(&mut program("echo", &["x"])).unwrap(), "x\n");
        assert!(has("sh"));
        assert!(!has("no-such-program-here"));
    }
}
