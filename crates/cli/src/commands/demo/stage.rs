//! Where a replay happens: a temporary directory with a state directory of its own. The user's
//! state, files and databases take no part.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use belljar_base::{DatabaseName, Kind, VariableName};
use belljar_sandbox::{Attendance, Host, Limits, Stream};
use belljar_server::app::merge::MergeOptions;
use belljar_server::app::network::NetworkRequest;
use belljar_server::app::run::{RunReport, RunRequest, Runner};
use belljar_server::{State, SystemClock};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::arguments::limits;
use crate::commands::run::chance;
use crate::failure::Failure;
use crate::settings::Settings;

/// Everything a replay needs.
pub(super) struct Stage<'a> {
    runner: &'a Runner<'a>,
    /// The state directory made for the demonstration.
    pub(super) state: &'a State,
    /// What this host can enforce.
    pub(super) host: &'a Host,
    settings: &'a Settings,
    folder: PathBuf,
    program: PathBuf,
    /// A file of the host that nothing inside may see.
    pub(super) canary: Canary,
}

/// A file of the host that nothing inside may see.
#[derive(Debug, Clone)]
pub(super) struct Canary {
    pub(super) path: PathBuf,
    pub(super) secret: String,
}

/// A run to be made.
pub(super) struct Act {
    command: Vec<OsString>,
    workspace: Option<PathBuf>,
    databases: BTreeMap<DatabaseName, PathBuf>,
    environment: Vec<(VariableName, OsString)>,
    limits: Vec<String>,
    network: Option<NetworkRequest>,
    reads_program: bool,
}

/// The limits of a replay that names none.
const LIMITS: &str = "time=30s,memory=512M,disk=256M,pids=256,output=1M";

impl<'a> Stage<'a> {
    /// Makes a stage, plays on it, and removes it, whatever came of it.
    pub(super) fn open<T>(
        settings: &Settings,
        play: impl FnOnce(&Stage<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let folder = temporary(&std::env::temp_dir())?;
        let root = folder
            .path()
            .canonicalize()
            .map_err(|error| unavailable("find the temporary directory", &error))?;
        let host = Host::probe().map_err(|error| unavailable("look at this host", &error))?;
        let host = Arc::new(host);
        let templates = templates_in_memory(&root)?;
        let state = State::open(&root.join("state"))?;
        let runner = Runner::new(&state, &SystemClock, Arc::clone(&host))?;
        let program = std::env::current_exe()
            .and_then(|path| path.canonicalize())
            .map_err(|error| unavailable("find the belljar program", &error))?;
        let stage = Stage {
            runner: &runner,
            state: &state,
            host: &host,
            settings,
            canary: Canary::make(&root)?,
            folder: root,
            program,
        };
        let played = play(&stage);
        drop(runner);
        drop(state);
        for folder in templates.into_iter().chain([folder]) {
            folder
                .close()
                .map_err(|error| unavailable("remove the temporary directory", &error))?;
        }
        played
    }

    /// A new directory on the stage.
    pub(super) fn folder(&self, name: &str) -> Result<PathBuf, Failure> {
        let path = self.folder.join(name);
        fs::create_dir_all(&path).map_err(|error| unavailable("make a directory", &error))?;
        Ok(path)
    }

    /// Lets the stage become old: what was written within a tenth of a second before a run counts
    /// as changed meanwhile, because clocks of file systems lag.
    pub(super) fn settle(&self) {
        std::thread::sleep(Duration::from_millis(150));
    }

    /// The directory of everything on the stage.
    pub(super) fn root(&self) -> &Path {
        &self.folder
    }

    /// The user's home directory.
    pub(super) fn home(&self) -> Option<&Path> {
        self.settings.home.as_deref()
    }

    /// What a merge on the stage is told.
    pub(super) fn merge_options(&self) -> MergeOptions {
        MergeOptions {
            allow_privileged: false,
            home: self.settings.home.clone(),
        }
    }

    /// A run of a shell script; `name` is its `$0`.
    pub(super) fn shell(&self, script: &str, name: &str) -> Act {
        Act::new(["/bin/sh", "-c", script, name].map(OsString::from).to_vec())
    }

    /// A run of this program, misbehaving; `marker` is on its command line.
    pub(super) fn actor(&self, name: &str, marker: &str) -> Act {
        let program = self.program.clone().into_os_string();
        let words = ["demo-actor", name, marker].map(OsString::from);
        let mut act = Act::new([program].into_iter().chain(words).collect());
        act.reads_program = true;
        act
    }

    /// Shows this program inside, where the template does not do so already.
    fn reads(&self, wanted: bool) -> Vec<PathBuf> {
        let shown = ["/usr", "/bin", "/sbin"]
            .iter()
            .any(|path| self.program.starts_with(path));
        let missing = wanted && !shown;
        missing.then(|| self.program.clone()).into_iter().collect()
    }

    /// Makes a run by the path that every run takes.
    pub(super) fn run(&self, act: Act) -> Result<RunReport, Failure> {
        let canary = variable("CANARY", self.canary.path.clone().into_os_string())?;
        let asked: Vec<String> = LIMITS
            .split(',')
            .map(str::to_owned)
            .chain(act.limits)
            .collect();
        let defaults = Limits::defaults(self.host.memory_bytes);
        let limits = limits(&asked, defaults).map_err(|text| Failure::new(Kind::Bug, text))?;
        let request = RunRequest {
            agent: "demo".parse().map_err(bug)?,
            isolation: None,
            command: act.command,
            workspace: act.workspace,
            directory: None,
            databases: act.databases,
            reads: self.reads(act.reads_program),
            environment: act.environment.into_iter().chain([canary]).collect(),
            limits,
            network: act.network,
            terminal: None,
            key: Some(self.settings.secrets_key.clone()),
            home: self.settings.home.clone(),
        };
        let signals = belljar_sandbox::signals()
            .map_err(|error| unavailable("listen for signals", &error))?;
        let attendance = Attendance {
            stdin: None,
            stdout: Stream::Keep,
            stderr: Stream::Keep,
            signals: Some(signals),
        };
        let report = self.runner.run(request, chance()?, attendance)?;
        if report.exit_code == INTERRUPTED {
            return Err(Failure::new(Kind::Unavailable, "it was interrupted"));
        }
        Ok(report)
    }
}

fn temporary(folder: &Path) -> Result<TempDir, Failure> {
    tempfile::Builder::new()
        .prefix("belljar-demo-")
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir_in(folder)
        .map_err(|error| unavailable("make a temporary directory", &error))
}

/// An ordinary user's template has a directory for each one of the system: thousands, which a disk
/// takes seconds to make and to remove again. A run in earnest makes them once; here they are kept
/// in memory where there is a place for that.
fn templates_in_memory(root: &Path) -> Result<Option<TempDir>, Failure> {
    let memory = Path::new("/dev/shm");
    if rustix::process::geteuid().is_root() || !memory.is_dir() {
        return Ok(None);
    }
    let Ok(folder) = temporary(memory) else {
        return Ok(None);
    };
    let state = root.join("state");
    fs::create_dir(&state)
        .and_then(|()| std::os::unix::fs::symlink(folder.path(), state.join("templates")))
        .map_err(|error| unavailable("make a directory for templates", &error))?;
    Ok(Some(folder))
}

/// What a run that was cancelled exits with: 128 and SIGINT.
const INTERRUPTED: u8 = 130;

impl Act {
    fn new(command: Vec<OsString>) -> Self {
        Self {
            command,
            workspace: None,
            databases: BTreeMap::new(),
            environment: Vec::new(),
            limits: Vec::new(),
            network: None,
            reads_program: false,
        }
    }

    pub(super) fn workspace(mut self, path: &Path) -> Self {
        self.workspace = Some(path.to_path_buf());
        self
    }

    pub(super) fn database(mut self, name: &str, path: &Path) -> Result<Self, Failure> {
        self.databases
            .insert(name.parse().map_err(bug)?, path.to_path_buf());
        Ok(self)
    }

    pub(super) fn set(mut self, name: &str, value: impl Into<OsString>) -> Result<Self, Failure> {
        self.environment.push(variable(name, value.into())?);
        Ok(self)
    }

    pub(super) fn network(mut self, network: NetworkRequest) -> Self {
        self.network = Some(network);
        self
    }

    pub(super) fn limits(mut self, limits: &str) -> Self {
        self.limits.extend(limits.split(',').map(str::to_owned));
        self
    }
}

impl Canary {
    fn make(folder: &Path) -> Result<Self, Failure> {
        let secret = format!("canary-{:08x}{:08x}", chance()?, chance()?);
        let path = folder.join("outside/canary.txt");
        write(&path, &secret)?;
        Ok(Self { path, secret })
    }

    /// Whether something that came from inside holds the secret.
    pub(super) fn in_bytes(&self, bytes: &[u8]) -> bool {
        let secret = self.secret.as_bytes();
        bytes.windows(secret.len()).any(|window| window == secret)
    }
}

fn variable(name: &str, value: OsString) -> Result<(VariableName, OsString), Failure> {
    Ok((name.parse().map_err(bug)?, value))
}

fn bug(error: belljar_base::NameError) -> Failure {
    Failure::new(Kind::Bug, error.to_string())
}

/// Something of the machine failed.
pub(super) fn unavailable(doing: &str, error: &dyn std::error::Error) -> Failure {
    Failure::new(Kind::Unavailable, format!("cannot {doing}: {error}"))
}

/// Writes a file, and the directories above it.
pub(super) fn write(path: &Path, text: impl AsRef<[u8]>) -> Result<(), Failure> {
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent)
        .and_then(|()| fs::write(path, text))
        .map_err(|error| unavailable("write a file of the replay", &error))
}

/// Makes a database: a statement for its tables, and what fills them.
pub(super) fn database(
    path: &Path,
    tables: &str,
    fill: impl FnOnce(&Connection) -> Result<(), rusqlite::Error>,
) -> Result<(), Failure> {
    let make = || -> Result<(), rusqlite::Error> {
        let connection = Connection::open(path)?;
        connection.execute_batch(&format!("PRAGMA synchronous = OFF; {tables} BEGIN;"))?;
        fill(&connection)?;
        connection.execute_batch("COMMIT;")
    };
    make().map_err(|error| unavailable("make a database", &error))
}
