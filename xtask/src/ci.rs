//! What every change must pass. All steps run, whatever fails; the end lists what failed.

use std::time::{Duration, Instant};

use crate::shell::{Failure, has, is_root, program, run as start, say};
use crate::{dependencies, ordinary, tidy};

/// A step: its name and the deed.
type Step = (&'static str, fn() -> Result<(), Failure>);

const STEPS: &[Step] = &[
    ("format", format),
    ("tidy", tidy::run),
    ("dependencies", dependencies::run),
    ("clippy", clippy),
    ("documents", documents),
    ("doc tests", doc_tests),
    ("tests", tests),
    ("tests as an ordinary user", ordinary::run),
];

/// Runs every step and sums up.
///
/// # Errors
/// When a step failed; the summary names each.
pub(crate) fn run() -> Result<(), Failure> {
    let mut ends = Vec::new();
    for (name, deed) in STEPS {
        say(format!("\n== {name}"));
        let begin = Instant::now();
        let end = deed();
        if let Err(failure) = &end {
            say(format!("FAILED: {failure}"));
        }
        ends.push((*name, begin.elapsed(), end.err()));
    }
    say("\n== summary");
    for (name, took, failure) in &ends {
        say(line(name, *took, failure.as_ref()));
    }
    let failed: Vec<&str> = ends
        .iter()
        .filter(|(.., failure)| failure.is_some())
        .map(|(name, ..)| *name)
        .collect();
    say(format!(
        "steps: {} passed, {} failed",
        ends.len() - failed.len(),
        failed.len()
    ));
    if failed.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!("failed: {}", failed.join(", "))))
}

fn line(name: &str, took: Duration, failure: Option<&Failure>) -> String {
    let seconds = took.as_secs_f64();
    let end = failure.map_or_else(|| "ok".to_owned(), |failure| format!("FAILED: {failure}"));
    format!("{name:<28} {seconds:>7.1} s  {end}")
}

fn format() -> Result<(), Failure> {
    start(&mut program("cargo", &["fmt", "--all", "--check"]))
}

fn clippy() -> Result<(), Failure> {
    let arguments = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ];
    start(&mut program("cargo", &arguments))
}

/// Everything is built once, programs beside their tests; the runner finds it done.
fn tests() -> Result<(), Failure> {
    let who = if is_root() {
        "root"
    } else {
        "an ordinary user"
    };
    say(format!("as {who}"));
    start(&mut program("cargo", ordinary::BUILD))?;
    if has("cargo-nextest") {
        let arguments = [
            "nextest",
            "run",
            "--workspace",
            "--no-fail-fast",
            "--config-file=xtask/nextest.toml",
        ];
        return start(&mut program("cargo", &arguments));
    }
    start(&mut program(
        "cargo",
        &[
            "test",
            "--workspace",
            "--no-fail-fast",
            "--lib",
            "--bins",
            "--tests",
        ],
    ))
}

fn doc_tests() -> Result<(), Failure> {
    start(&mut program("cargo", &["test", "--workspace", "--doc"]))
}

fn documents() -> Result<(), Failure> {
    let mut command = program("cargo", &["doc", "--workspace", "--no-deps"]);
    start(command.env("RUSTDOCFLAGS", "-D warnings"))
}

#[cfg(test)]
mod summary_tests {
    use super::*;

    #[test]
    fn a_line_says_what_and_how_long() {
        let took = Duration::from_millis(1234);
        assert_eq!(
            line("tidy", took, None),
            format!("{:<28} {:>7} s  ok", "tidy", "1.2")
        );
        let failed = line("tidy", took, Some(&Failure::new("x")));
        assert!(failed.ends_with("FAILED: x"), "{failed}");
    }
}
