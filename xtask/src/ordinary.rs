//! The tests that matter once more, as an ordinary user.
//!
//! A wall that stands for root and not for everyone else (or the other way round) is the mistake
//! this step looks for. The programs and tests that the step before built are copied to a directory
//! that everyone can read and run as a user made for the purpose, with a home and a state directory
//! of its own. Afterwards the user, the directory and every process of that user are gone; a process
//! that had to be ended is a failure, for it outlived its test, and so is a temporary file.
//!
//! **What tests must follow to run here:**
//! - the program under test is `$BELLJAR_BIN` where that is set, else `env!("CARGO_BIN_EXE_belljar")`
//!   (crates that have no such path: `belljar` beside the directory `deps` of the test's own
//!   program); every other program of ours lies in the same directory as `belljar`;
//! - data comes by `include_bytes!` or is made by the test: the repository may be unreadable;
//! - temporary files go to `std::env::temp_dir()`, state to `$BELLJAR_STATE` or below a temporary
//!   directory of the test.
//!
//! What only root can do asks for the user at run time and says so aloud.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::shell::{Failure, capture, is_root, program, run as start, say};

/// How everything is built, programs beside their tests, in one set of features.
pub(crate) const BUILD: &[&str] = &["build", "--workspace", "--lib", "--bins", "--tests"];
/// The packages whose tests matter.
const PACKAGES: &[&str] = &["belljar-sandbox", "belljar-server", "belljar"];
const USER: &str = "belljar-test";
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How long after the tests a process of theirs may still be on its way out.
const GRACE: Duration = Duration::from_secs(2);

/// Runs them; does nothing but say so when everything already runs as an ordinary user.
///
/// # Errors
/// When a test fails, a process outlives the tests, or the user cannot be made.
pub(crate) fn run() -> Result<(), Failure> {
    if !is_root() {
        say("already an ordinary user; the same tests as root were NOT run (start as root)");
        return Ok(());
    }
    let built = built()?;
    let place = Place::new()?;
    let mut failed = Vec::new();
    for program in &built.programs {
        place.take(program, "bin")?;
    }
    for (package, test) in &built.tests {
        let copy = place.take(test, "bin/deps")?;
        say(format!("\n{package}: {}", file_name(test)));
        if let Err(failure) = place.start(&copy) {
            failed.push(format!("{package}: {failure}"));
        }
    }
    if let Some(list) = place.left_behind() {
        failed.push(format!("processes outlived the tests: {list}"));
    }
    if let Some(list) = place.forgotten() {
        failed.push(format!("temporary files outlived the tests: {list}"));
    }
    place.remove()?;
    if failed.is_empty() {
        return Ok(());
    }
    Err(Failure::new(failed.join("; ")))
}

/// What the build made: the programs of every package and the tests of those that matter.
pub(crate) struct Built {
    pub(crate) programs: Vec<PathBuf>,
    pub(crate) tests: Vec<(String, PathBuf)>,
}

/// One line of cargo's answer.
#[derive(Deserialize)]
struct Artifact {
    #[serde(default)]
    package_id: String,
    executable: Option<PathBuf>,
    profile: Option<Profile>,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

/// Builds everything and says where it is.
pub(crate) fn built() -> Result<Built, Failure> {
    let mut arguments = BUILD.to_vec();
    arguments.extend(["--quiet", "--message-format=json-render-diagnostics"]);
    Ok(sort(&capture(&mut program("cargo", &arguments))?))
}

fn sort(answer: &str) -> Built {
    let (mut programs, mut tests) = (Vec::new(), Vec::new());
    // Lines that are not about an artifact have none of these fields.
    for artifact in answer
        .lines()
        .filter_map(|line| serde_json::from_str::<Artifact>(line).ok())
    {
        let Some(executable) = artifact.executable else {
            continue;
        };
        if !artifact.profile.is_some_and(|profile| profile.test) {
            programs.push(executable);
        } else if let Some(package) = package(&artifact.package_id) {
            tests.push((package.to_owned(), executable));
        }
    }
    Built { programs, tests }
}

/// The package that matters of an id like `path+file:///x/crates/cli#belljar@0.1.0`.
fn package(id: &str) -> Option<&'static str> {
    let (place, fragment) = id.split_once('#')?;
    let named = fragment.split_once('@').map(|(name, _)| name);
    let name = named.or_else(|| place.rsplit('/').next())?;
    PACKAGES.iter().find(|package| **package == name).copied()
}

/// The user and the directory made for it.
struct Place {
    directory: tempfile::TempDir,
    uid: u32,
}

impl Place {
    fn new() -> Result<Self, Failure> {
        let directory = tempfile::Builder::new()
            .prefix("belljar-test-")
            .tempdir_in("/tmp")
            .map_err(|error| Failure::new(format!("cannot make a directory: {error}")))?;
        let mut place = Self { directory, uid: 0 };
        let home = place.path("home");
        // One left over by a run that was killed is as good; what it owns is not ours to touch.
        if capture(&mut program("getent", &["passwd", USER])).is_err() {
            start(
                program(
                    "useradd",
                    &["--system", "--no-create-home", "--shell=/bin/sh"],
                )
                .arg(format!("--home-dir={}", home.display()))
                .arg(USER),
            )?;
        }
        for name in ["", "bin", "bin/deps", "home", "state", "tmp"] {
            let path = place.path(name);
            fs::create_dir_all(&path)
                .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)))
                .map_err(|error| Failure::new(format!("cannot make `{name}`: {error}")))?;
        }
        for name in ["home", "state", "tmp"] {
            start(program("chown", &[&format!("{USER}:"), "--"]).arg(place.path(name)))?;
        }
        place.uid = fs::metadata(&home)
            .map(|home| home.uid())
            .map_err(|error| Failure::new(format!("cannot read the home made: {error}")))?;
        if place.uid == 0 {
            return Err(Failure::new(format!("`{USER}` must not be root")));
        }
        Ok(place)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Copies a program to where everyone can run it.
    fn take(&self, file: &Path, folder: &str) -> Result<PathBuf, Failure> {
        let copy = self.path(folder).join(file_name(file));
        fs::copy(file, &copy)
            .and_then(|_length| fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)))
            .map_err(|error| Failure::new(format!("cannot copy `{}`: {error}", file.display())))?;
        Ok(copy)
    }

    /// Runs a test's program as the user, with nothing of our environment.
    fn start(&self, test: &Path) -> Result<(), Failure> {
        let user = ["--reuid", USER, "--regid", USER, "--clear-groups", "--"];
        let mut command = program("setpriv", &user);
        command.arg(test).arg("--test-threads=2");
        command.current_dir(self.path("home")).env_clear();
        command.env("PATH", PATH).env("LANG", "C.UTF-8");
        command.env("USER", USER).env("LOGNAME", USER);
        for (name, folder) in [
            ("HOME", "home"),
            ("BELLJAR_STATE", "state"),
            ("TMPDIR", "tmp"),
            ("BELLJAR_BIN", "bin/belljar"),
        ] {
            command.env(name, self.path(folder));
        }
        start(&mut command)
    }

    /// The processes of the user that are still there after the grace, ended by their ids.
    fn left_behind(&self) -> Option<String> {
        let begin = Instant::now();
        while !self.processes().is_empty() && begin.elapsed() < GRACE {
            sleep(Duration::from_millis(50));
        }
        let left = self.processes();
        for (id, _) in &left {
            // It may have ended by itself since; then there is nothing to do.
            if start(&mut program("kill", &["-KILL", id])).is_err() {
                say(format!("process {id} ended by itself"));
            }
        }
        let names: Vec<String> = left
            .iter()
            .map(|(id, name)| format!("{id} {name}"))
            .collect();
        (!names.is_empty()).then(|| names.join(", "))
    }

    fn processes(&self) -> Vec<(String, String)> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        entries
            .filter(|entry| entry.metadata().is_ok_and(|data| data.uid() == self.uid))
            .filter_map(|entry| {
                let id = entry.file_name().into_string().ok()?;
                let name = fs::read_to_string(entry.path().join("comm")).ok()?;
                id.parse::<u32>()
                    .is_ok()
                    .then(|| (id, name.trim().to_owned()))
            })
            .collect()
    }

    /// What the tests left in the directory for temporary files.
    fn forgotten(&self) -> Option<String> {
        let entries = fs::read_dir(self.path("tmp"))
            .into_iter()
            .flatten()
            .flatten();
        let names: Vec<String> = entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        (!names.is_empty()).then(|| names.join(", "))
    }

    /// Removes user and directory.
    fn remove(self) -> Result<(), Failure> {
        let user = start(&mut program("userdel", &[USER]));
        let directory = self.directory.close();
        user?;
        directory.map_err(|error| Failure::new(format!("cannot clean up: {error}")))
    }
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_and_tests_are_told_apart() {
        let answer = r#"
{"reason":"compiler-artifact","package_id":"path+file:///x/crates/cli#belljar@0.1.0","profile":{"test":false},"executable":"/t/belljar"}
{"reason":"compiler-artifact","package_id":"path+file:///x/crates/cli#belljar@0.1.0","profile":{"test":true},"executable":"/t/deps/it-1"}
{"reason":"compiler-artifact","package_id":"path+file:///x/crates/belljar-sandbox#0.1.0","profile":{"test":true},"executable":"/t/deps/it-2"}
{"reason":"compiler-artifact","package_id":"path+file:///x/xtask#0.1.0","profile":{"test":true},"executable":"/t/deps/xtask-1"}
{"reason":"compiler-artifact","package_id":"registry+x#serde@1.0.0","profile":{"test":false},"executable":null}
{"reason":"build-finished","success":true}"#;
        let built = sort(answer);
        assert_eq!(built.programs, [PathBuf::from("/t/belljar")]);
        let tests: Vec<_> = built
            .tests
            .iter()
            .map(|(package, _)| package.as_str())
            .collect();
        assert_eq!(tests, ["belljar", "belljar-sandbox"]);
    }
}
