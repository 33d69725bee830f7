//! The stand-alone verifier: `belljar-verify DIR [--key KEY] [--checkpoint FILE]…`.
//!
//! Prints one line per finding, then one that sums up. Ends with 0 when nothing was found, 1 when
//! something was, 2 when nothing could be verified. Links nothing of Belljar but the format.

use std::error::Error;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use belljar_ledger::verify::{Held, verify};

const USAGE: &str = "usage: belljar-verify DIR [--key KEY] [--checkpoint FILE]…";

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            let mut text = error.to_string();
            let mut source = error.source();
            while let Some(cause) = source {
                text.push_str(&format!(": {cause}"));
                source = cause.source();
            }
            writeln!(std::io::stderr(), "belljar-verify: {text}").ok();
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<bool, Box<dyn Error>> {
    let mut held = Held::default();
    let mut dir = None;
    let mut arguments = std::env::args_os().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(USAGE);
        match argument.to_str() {
            Some("--key") => held.key = Some(value()?.to_str().ok_or(USAGE)?.parse()?),
            Some("--checkpoint") => held.checkpoints.push(std::fs::read_to_string(value()?)?),
            Some(flag) if flag.starts_with('-') => return Err(USAGE.into()),
            _path if dir.is_none() => dir = Some(PathBuf::from(argument)),
            _second => return Err(USAGE.into()),
        }
    }
    let report = verify(&dir.ok_or(USAGE)?, &held)?;
    let mut out = std::io::stdout().lock();
    for finding in &report.findings {
        writeln!(out, "{finding}")?;
    }
    if let Some(place) = &report.unfinished {
        writeln!(
            out,
            "note: an unacknowledged write was left half done at {place}"
        )?;
    }
    let (records, root, key) = (report.records, report.root, &report.key);
    let found = report.findings.len();
    writeln!(
        out,
        "{records} records, root {root}, key {key}: {found} findings"
    )?;
    Ok(report.findings.is_empty())
}
