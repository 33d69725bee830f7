//! The project's own commands: `cargo xtask ci|test|tidy|bench|v2`.
//!
//! - `ci` is what every change must pass: format, tidy, clippy, tests, documents, dependencies, and
//!   the tests that matter once more as an ordinary user.
//! - `test` installs what the tests need, then runs `ci`. It is the README's test command.
//! - `tidy` holds the rules that a compiler does not know.
//! - `bench` measures every number of `docs/specification.md` in one go.
//! - `v2` runs the sandbox's tests under control groups of version 2, on a kernel that QEMU emulates.
#![forbid(unsafe_code)]

mod ci; // the steps, and the summary
mod needs; // what the tests need installed
mod ordinary; // the tests that matter, as an ordinary user
mod dependencies; // licences, sources and duplicates of what is linked
mod tidy; // the rules a compiler does not know, one file each
mod bench; // the promised numbers
mod v2; // control groups of version 2, on an emulated machine
mod metadata; // what `cargo metadata` says
mod shell; // programs started, text said

use std::process::ExitCode;

use shell::{Failure, say};

const USAGE: &str = "usage: cargo xtask ci | test | tidy | bench [--json] [ID]… | v2";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            say(format!("xtask: {failure}"));
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: &[String]) -> Result<(), Failure> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["ci"] => ci::run(),
        ["test"] => needs::install().and_then(|()| ci::run()),
        ["tidy"] => tidy::run(),
        ["bench", rest @ ..] => bench::run(rest),
        ["v2"] => v2::run(),
        _ => Err(Failure::new(USAGE)),
    }
}
