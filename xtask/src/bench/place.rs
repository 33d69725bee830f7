//! A directory for measurements, on the disk that the repository lies on, and the programs built.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::metadata::Metadata;
use crate::shell::{Failure, program, root, run as start};

/// Where measurements happen. Removed with everything in it.
#[derive(Debug)]
pub(super) struct Place {
    directory: tempfile::TempDir,
    metadata: Metadata,
}

impl Place {
    /// Builds the shipped program as a user does and makes the directory.
    pub(super) fn new() -> Result<Self, Failure> {
        let metadata = Metadata::load()?;
        let arguments = [
            "build",
            "--release",
            "--package=belljar",
            "--bins",
            "--target-dir=target",
        ];
        start(&mut program("cargo", &arguments))?;
        let target = root().join("target");
        let directory = tempfile::Builder::new()
            .prefix("bench-")
            .tempdir_in(&target)
            .map_err(|error| Failure::new(format!("cannot make a directory: {error}")))?;
        Ok(Self {
            directory,
            metadata,
        })
    }

    /// The directory.
    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The examples that measure, as (package, example).
    pub(super) fn examples(&self) -> Vec<(&str, &str)> {
        let mut examples = Vec::new();
        for package in self.metadata.ours() {
            for target in &package.targets {
                let is_example = target.kind.iter().any(|kind| kind == "example");
                if is_example && target.name.starts_with("measure") {
                    examples.push((package.name.as_str(), target.name.as_str()));
                }
            }
        }
        examples
    }

    /// Builds an example and copies it here: two packages may call theirs the same, and cargo puts
    /// both in one place.
    pub(super) fn example(&self, package: &str, name: &str) -> Result<PathBuf, Failure> {
        let arguments = [
            "build",
            "--release",
            "--package",
            package,
            "--example",
            name,
            // Where we look for it, whatever the caller's cargo is told.
            "--target-dir=target",
        ];
        start(&mut program("cargo", &arguments))?;
        let copy = self.path().join(format!("{package}-{name}"));
        std::fs::copy(root().join("target/release/examples").join(name), &copy)
            .map_err(|error| Failure::new(format!("cannot copy `{name}`: {error}")))?;
        Ok(copy)
    }

    /// `belljar`, with a state directory of this place, writing nothing where we look.
    pub(super) fn belljar(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(root().join("target/release/belljar"));
        command
            .args(arguments)
            .env("BELLJAR_STATE", self.path().join("state"))
            .current_dir(self.path())
            .stdin(Stdio::null());
        command
    }
}

/// How long a command takes, in milliseconds.
///
/// # Errors
/// When it cannot be started or does not end well: then its last words are the reason.
pub(super) fn time(command: &mut Command) -> Result<f64, Failure> {
    let begin = Instant::now();
    let output = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .map_err(|error| Failure::new(format!("cannot start: {error}")))?;
    let took = begin.elapsed();
    if output.status.success() {
        return Ok(millis(took));
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let last = words.lines().next_back().unwrap_or("it said nothing");
    Err(Failure::new(format!(
        "ended with {}: {last}",
        output.status
    )))
}

/// Times two commands in turn, so that whatever else the machine does meets both; medians.
///
/// # Errors
/// When one of them fails.
pub(super) fn in_turn(
    rounds: usize,
    warm_up: usize,
    mut ours: impl FnMut() -> Result<f64, Failure>,
    mut peer: impl FnMut() -> Result<f64, Failure>,
) -> Result<(f64, f64), Failure> {
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for round in 0..rounds + warm_up {
        let (one, other) = (ours()?, peer()?);
        if round >= warm_up {
            first.push(one);
            second.push(other);
        }
    }
    Ok((median(first), median(second)))
}

/// The middle value.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Says on standard error what is being measured, so that `--json` stays clean.
#[expect(
    clippy::print_stderr,
    reason = "a developer's tool talks to a terminal"
)]
pub(super) fn progress(what: &str) {
    eprintln!("measuring {what}");
}

fn millis(took: Duration) -> f64 {
    took.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!(median(Vec::new()).is_nan());
    }

    #[test]
    fn a_failing_command_gives_its_reason() {
        let failure = time(program("sh", &["-c", "echo why >&2; exit 1"]).arg("x")).unwrap_err();
        assert!(failure.to_string().ends_with(": why"), "{failure}");
        assert!(time(&mut program("true", &[])).unwrap() > 0.0);
    }

    #[test]
    fn turns_leave_out_the_warm_up() {
        let mut values = [100.0, 1.0, 2.0, 3.0].into_iter();
        let ours = || Ok(values.next().unwrap());
        let (ours, peer) = in_turn(3, 1, ours, || Ok(5.0)).unwrap();
        assert!((ours - 2.0).abs() < f64::EPSILON && (peer - 5.0).abs() < f64::EPSILON);
    }
}
