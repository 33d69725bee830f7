//! Whole programs against their peers, as a person would start them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::place::{Place, in_turn, median, progress, time};
use super::{Outcome, Outcomes};
use crate::shell::{Failure, capture, has, program, root};

const TREE_FILES: usize = 200_000;
const FILES_PER_DIRECTORY: usize = 200;

/// A measurement: the id of its promise and the deed.
type Measurement = (&'static str, fn(&Place) -> Result<Outcome, Failure>);

const MEASUREMENTS: &[Measurement] = &[
    ("run_true", run_true),
    ("workspace_build", workspace_build),
    ("file_diff", file_diff),
];

/// Measures what is wanted; a failure is the reason of a missing number.
pub(super) fn measure(place: &Place, wanted: &dyn Fn(&str) -> bool) -> Outcomes {
    let mut outcomes = Outcomes::new();
    let mut runs = None;
    for (id, deed) in MEASUREMENTS.iter().filter(|(id, _)| wanted(id)) {
        progress(id);
        let outcome = match runs.get_or_insert_with(|| really_runs(place)) {
            Ok(()) => deed(place).unwrap_or_else(|why| Outcome::Missing(why.to_string())),
            Err(why) => Outcome::Missing(why.clone()),
        };
        outcomes.insert((*id).to_owned(), outcome);
    }
    outcomes
}

/// Whether a command really runs: a program that does nothing would win every race.
fn really_runs(place: &Place) -> Result<(), String> {
    let script = "test -e /proc/self && echo inside; exit 7";
    let output = place
        .belljar(&["run", "--", "sh", "-c", script])
        .output()
        .map_err(|error| format!("cannot start `belljar`: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout).contains("inside");
    if said && output.status.code() == Some(7) {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let last = words.lines().next_back().unwrap_or("it said nothing");
    Err(format!("`belljar run` does not run a command here: {last}"))
}

fn measured((ours, peer): (f64, f64)) -> Outcome {
    let peer = Some(peer);
    Outcome::Measured { ours, peer }
}

/// The whole process: ours writes its ledger durably, the peer has none.
fn run_true(place: &Place) -> Result<Outcome, Failure> {
    if !has("bwrap") {
        return Ok(Outcome::Missing(
            "the peer `bwrap` is not installed".to_owned(),
        ));
    }
    let ours = || time(&mut place.belljar(&["run", "--", "/bin/true"]));
    let peer = || time(bwrap().arg("/bin/true"));
    in_turn(100, 10, ours, peer).map(measured)
}

/// The peer with a root of the same make: `/usr` read-only and the links to it, fresh `/proc`,
/// `/dev` and `/tmp`, every namespace of its own.
fn bwrap() -> Command {
    let mut command = Command::new("bwrap");
    command
        .args(["--unshare-all", "--die-with-parent", "--new-session"])
        .args(["--ro-bind", "/usr", "/usr"])
        .args([
            "--symlink",
            "usr/bin",
            "/bin",
            "--symlink",
            "usr/sbin",
            "/sbin",
        ])
        .args([
            "--symlink",
            "usr/lib",
            "/lib",
            "--symlink",
            "usr/lib64",
            "/lib64",
        ])
        .args(["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--"])
        .stdin(Stdio::null());
    command
}

/// `cargo check` of the base crate, from nothing, inside a workspace and on the host.
fn workspace_build(place: &Place) -> Result<Outcome, Failure> {
    let tools = Tools::find()?;
    let source = place.path().join("source");
    copy_sources(&source)?;
    let inside = || {
        let mut command = place.belljar(&["run", "--workspace"]);
        command.arg(&source).arg("--read").arg(&tools.toolchain);
        command.arg("--read").arg(&tools.registry);
        for name in ["PATH", "CARGO_HOME"] {
            command.args(["--env", name]);
        }
        command.args(["--", "sh", "-c"]).arg(tools.script(&source));
        tools.settings(&mut command);
        time(&mut command)
    };
    let host = || {
        let mut command = Command::new("sh");
        command.arg("-c").arg(tools.script(&source));
        tools.settings(&mut command);
        let took = time(&mut command)?;
        fs::remove_dir_all(source.join("built"))
            .map_err(|error| Failure::new(format!("cannot clean up: {error}")))?;
        Ok(took)
    };
    let outcome = in_turn(5, 1, inside, host).map(measured);
    forget(&source)?;
    outcome
}

/// Where cargo and the packages it has already fetched lie.
struct Tools {
    toolchain: PathBuf,
    registry: PathBuf,
}

impl Tools {
    fn find() -> Result<Self, Failure> {
        let sysroot = capture(&mut program("rustc", &["--print", "sysroot"]))?;
        let manifest = capture(&mut program("cargo", &["metadata", "--format-version=1"]))?;
        // Every fetched package lies below `<cargo home>/registry/src`.
        let registry = manifest
            .split('"')
            .find_map(|text| text.split_once("/registry/src/"))
            .map(|(home, _)| PathBuf::from(home))
            .ok_or_else(|| Failure::new("no fetched package"))?;
        Ok(Self {
            toolchain: PathBuf::from(sysroot.trim()),
            registry,
        })
    }

    fn settings(&self, command: &mut Command) {
        let bin = self.toolchain.join("bin");
        command.env("PATH", format!("{}:/usr/bin:/bin", bin.display()));
        command.env("CARGO_HOME", &self.registry);
        command.stdin(Stdio::null());
    }

    fn script(&self, source: &Path) -> String {
        let source = source.display();
        format!(
            "cd '{source}' && cargo check --quiet --offline --locked -p belljar-base --target-dir built"
        )
    }
}

/// The sources of this repository, without what was built from them.
fn copy_sources(to: &Path) -> Result<(), Failure> {
    fs::create_dir_all(to).map_err(|error| Failure::new(format!("cannot copy: {error}")))?;
    let mut copy = program("cp", &["--recursive", "--"]);
    for name in ["Cargo.toml", "Cargo.lock", "clippy.toml", "crates", "xtask"] {
        copy.arg(root().join(name));
    }
    crate::shell::run(copy.arg(to))
}

/// Five changes among many files: what a person waits for after a run.
fn file_diff(place: &Place) -> Result<Outcome, Failure> {
    let tree = place.path().join("tree");
    grow(&tree).map_err(|error| Failure::new(format!("cannot make the tree: {error}")))?;
    let script =
        "echo more >> 0/0 && echo new > 1/new && rm 2/2 && mv 3/3 3/moved && chmod 600 4/4";
    let mut run = place.belljar(&["run", "--json", "--workspace"]);
    run.arg(&tree).args(["--", "sh", "-c", script]);
    run.current_dir(&tree);
    let answer = capture(&mut run)?;
    let last = answer.lines().next_back().unwrap_or_default();
    let answer: serde_json::Value = serde_json::from_str(last)
        .map_err(|error| Failure::new(format!("`belljar run --json` does not parse: {error}")))?;
    let id = answer
        .get("run")
        .and_then(serde_json::Value::as_str)
        .ok_or_else(|| Failure::new("`belljar run --json` names no run"))?;
    let mut times = Vec::new();
    for _ in 0..20 {
        times.push(time(&mut place.belljar(&["diff", id]))?);
    }
    let ours = median(times);
    forget(&tree)?;
    Ok(Outcome::Measured { ours, peer: None })
}

fn grow(tree: &Path) -> std::io::Result<()> {
    for directory in 0..TREE_FILES / FILES_PER_DIRECTORY {
        let path = tree.join(directory.to_string());
        fs::create_dir_all(&path)?;
        for file in 0..FILES_PER_DIRECTORY {
            fs::write(path.join(file.to_string()), "one line\n")?;
        }
    }
    Ok(())
}

fn forget(path: &Path) -> Result<(), Failure> {
    fs::remove_dir_all(path).map_err(|error| Failure::new(format!("cannot clean up: {error}")))
}
