//! Encloses a command, and keeps what it did: a change set to review, merge or discard.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use belljar_base::frame::End;
use belljar_base::{
    AgentName, Clock, DatabaseName, EXIT_FAILED, EXIT_LIMIT, HasKind, Kind, Refusal, RunId,
    Timestamp, VariableName,
};
use belljar_branch::engine::files::{ByteText, IdShift, SealRequest};
use belljar_branch::engine::{files, sqlite};
use belljar_branch::{Workspace, WorkspaceError};
use belljar_ledger::error::AppendError;
use belljar_ledger::event::{Effect, Ending, Method};
use belljar_ledger::{Draft, Event, Receipt, Text};
use belljar_policy::{Decision, Isolation, RunFacts, decide_run};
use belljar_sandbox::backend::jail::Jail;
use belljar_sandbox::{
    Attendance, Backend, Branch, Cause, Command, Enclosed, Ended, Host, LimitHit, Limits, Spec,
    StartError, Template, TemplateError, Writable, attend,
};

use super::facts::Changes;
use crate::record::{RunRecord, Status, VERSION};
use crate::state::{Claim, State, StateError};

/// Where databases are inside a sandbox.
const DATABASES: &str = "/belljar/db";
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What is asked for.
#[derive(Debug)]
pub struct RunRequest {
    /// Who acts.
    pub agent: AgentName,
    /// The isolation class, if one is demanded.
    pub isolation: Option<Isolation>,
    /// The program and its arguments.
    pub command: Vec<OsString>,
    /// The directory to branch.
    pub workspace: Option<PathBuf>,
    /// Where the command starts, if that is inside the workspace.
    pub directory: Option<PathBuf>,
    /// The databases to branch: SQLite files.
    pub databases: BTreeMap<DatabaseName, PathBuf>,
    /// Files and directories to show read-only.
    pub reads: Vec<PathBuf>,
    /// Variables to set.
    pub environment: Vec<(VariableName, OsString)>,
    /// What it may use.
    pub limits: Limits,
    /// Rows and columns of a terminal, if it gets one.
    pub terminal: Option<(u16, u16)>,
    /// The user's home directory: never a workspace.
    pub home: Option<PathBuf>,
}

/// How a run went.
#[derive(Debug)]
pub struct RunReport {
    /// The run.
    pub id: RunId,
    /// What `belljar run` exits with.
    pub exit_code: u8,
    /// The class that enclosed it.
    pub isolation: Isolation,
    /// From asking to clean-up, in milliseconds.
    pub duration_ms: u64,
    /// What it changed.
    pub changes: Changes,
    /// Limits that were reached.
    pub limits_hit: Vec<LimitHit>,
    /// How each database was branched.
    pub methods: BTreeMap<DatabaseName, sqlite::Method>,
    /// The first and the last of its records.
    pub ledger: (u64, u64),
    /// What a person should know, a sentence each.
    pub notes: Vec<String>,
    /// Bytes it wrote to its output and its error output.
    pub written: [u64; 2],
    /// What was kept of its output and error output, where that was asked for.
    pub kept: [Vec<u8>; 2],
}

/// A run did not happen, or could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Policy refuses it.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// There is no command.
    #[error("there is no command to run; write it after `--`")]
    NoCommand,
    /// Something named cannot be used.
    #[error("cannot use `{path}`: {reason}")]
    Path {
        /// What was named.
        path: String,
        /// Why not, with the remedy.
        reason: String,
    },
    /// The workspace cannot be used.
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    /// A database cannot be branched.
    #[error("cannot branch the database `{name}`")]
    Database {
        /// Its name in the run.
        name: DatabaseName,
        /// Why.
        source: sqlite::BranchError,
    },
    /// The state directory fails.
    #[error(transparent)]
    State(#[from] StateError),
    /// The ledger does not take a record, so nothing may happen.
    #[error("cannot write to the ledger, so nothing may run")]
    Ledger(#[from] AppendError),
    /// The ledger does not take the record of what the run did.
    #[error("cannot write to the ledger what the run did, so that its changes are discarded")]
    Unrecorded(#[source] AppendError),
    /// The template cannot be made.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The sandbox cannot be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The command cannot be started.
    #[error("cannot {step} `{program}` inside the sandbox")]
    Command {
        /// The program.
        program: String,
        /// The step that failed.
        step: String,
        /// Why.
        source: std::io::Error,
    },
    /// The sandbox failed while it ran.
    #[error("the sandbox failed")]
    Sandbox(#[source] std::io::Error),
    /// What the run did to its workspace cannot be kept.
    #[error("cannot keep what the run changed in its workspace")]
    Files(#[source] files::SealError),
    /// What the run did to a database cannot be kept.
    #[error("cannot keep what the run changed in `{name}`")]
    Rows {
        /// The database.
        name: DatabaseName,
        /// Why.
        source: sqlite::SealError,
    },
}

impl HasKind for RunError {
    fn kind(&self) -> Kind {
        match self {
            Self::Refused(_) => Kind::Denied,
            Self::NoCommand | Self::Path { .. } => Kind::Invalid,
            Self::Workspace(error) => error.kind(),
            Self::Database { source, .. } => source.kind(),
            Self::State(error) => error.kind(),
            Self::Ledger(error) | Self::Unrecorded(error) => error.kind(),
            Self::Template(error) => error.kind(),
            Self::Start(error) => error.kind(),
            Self::Command { .. } => Kind::NotFound,
            Self::Sandbox(_) => Kind::Unavailable,
            Self::Files(error) => error.kind(),
            Self::Rows { source, .. } => source.kind(),
        }
    }
}

/// Makes runs on this host.
#[expect(missing_debug_implementations, reason = "a clock has nothing to show")]
pub struct Runner<'a> {
    state: &'a State,
    clock: &'a dyn Clock,
    template: Template,
    jail: Jail,
}

/// A run that is under way.
struct Underway<'a> {
    runner: &'a Runner<'a>,
    request: &'a RunRequest,
    id: RunId,
    begun: Instant,
    workspace: Option<Workspace>,
    record: RunRecord,
    first: u64,
    last: u64,
    methods: BTreeMap<DatabaseName, sqlite::Method>,
    /// A moment right before the workspace was branched.
    branched: Timestamp,
}

impl<'a> Runner<'a> {
    /// Prepares to make runs.
    ///
    /// # Errors
    /// When the template cannot be made.
    pub fn new(state: &'a State, clock: &'a dyn Clock, host: Arc<Host>) -> Result<Self, RunError> {
        let template = Template::host(&state.templates(), &host)?;
        let jail = Jail::new(host);
        Ok(Self {
            state,
            clock,
            template,
            jail,
        })
    }

    /// The jails of this host, to clean up after a run.
    pub(crate) fn jail(&self) -> &Jail {
        &self.jail
    }

    /// Runs a command from asking to clean-up.
    ///
    /// # Errors
    /// When it cannot be started or kept; nothing of it is left then but its records.
    pub fn run(
        &self,
        request: &RunRequest,
        chance: u32,
        attendance: Attendance,
    ) -> Result<RunReport, RunError> {
        let begun = Instant::now();
        let asked = self.clock.now();
        let workspace = self.check(request)?;
        let (decision, class) = decide_run(&RunFacts {
            asked: request.isolation,
            offered: vec![Isolation::Jail],
        });
        let id = RunId::new(asked, chance);
        let record = RunRecord {
            version: VERSION,
            id,
            agent: request.agent.clone(),
            command: request
                .command
                .iter()
                .map(|part| ByteText(part.as_bytes().to_vec()))
                .collect(),
            isolation: class.unwrap_or(Isolation::Jail),
            workspace: workspace.as_ref().map(|one| bytes(one.path())),
            databases: request
                .databases
                .iter()
                .map(|(name, path)| (name.clone(), bytes(path)))
                .collect(),
            asked,
            status: None,
        };
        let mut underway = Underway {
            runner: self,
            request,
            id,
            begun,
            workspace,
            record,
            first: u64::MAX,
            last: 0,
            methods: BTreeMap::new(),
            branched: asked,
        };
        underway.go(&decision, attendance)
    }

    /// What can be known to be wrong before anything exists.
    fn check(&self, request: &RunRequest) -> Result<Option<Workspace>, RunError> {
        if request.command.is_empty() {
            return Err(RunError::NoCommand);
        }
        let open = |path: &PathBuf| Workspace::open(path, request.home.as_deref());
        let workspace = request.workspace.as_ref().map(open).transpose()?;
        let state = self.state.folder();
        let touches = |path: &Path| path.starts_with(state) || state.starts_with(path);
        if let Some(path) = workspace
            .as_ref()
            .map(Workspace::path)
            .filter(|path| touches(path))
        {
            return Err(RunError::Path {
                path: path.display().to_string(),
                reason: "Belljar keeps its state there; name another directory, or move the \
                         state with BELLJAR_STATE"
                    .to_owned(),
            });
        }
        distinct(&request.databases)?;
        for path in &request.reads {
            let refuse = |reason: &str| RunError::Path {
                path: path.display().to_string(),
                reason: reason.to_owned(),
            };
            if !path.is_absolute() {
                return Err(refuse("--read wants an absolute path"));
            }
            if !path.exists() {
                return Err(refuse("it does not exist"));
            }
            if state.starts_with(path) || path.starts_with(state) {
                return Err(refuse("Belljar keeps its state there"));
            }
        }
        Ok(workspace)
    }
}

impl Underway<'_> {
    fn go(&mut self, decision: &Decision, attendance: Attendance) -> Result<RunReport, RunError> {
        let (effect, refusal) = match decision {
            Decision::Allow { .. } => (Effect::Allow, None),
            Decision::Hold(refusal) => (Effect::Hold, Some(refusal)),
            Decision::Deny(refusal) => (Effect::Deny, Some(refusal)),
        };
        let opening = vec![self.asked(), decided("run", effect, decision)];
        if let Some(refusal) = refusal {
            self.write(opening)?;
            return Err(RunError::Refused(refusal.clone()));
        }
        let claim = self.claim()?;
        let outcome = self.enclosed(opening, attendance);
        self.close(claim, outcome)
    }

    /// From the claim to the change set. `opening` is what the ledger must have before anything
    /// else happens.
    fn enclosed(
        &mut self,
        mut opening: Vec<Event>,
        attendance: Attendance,
    ) -> Result<(Ended, Changes), RunError> {
        let writes = if self.request.databases.is_empty() {
            Vec::new()
        } else {
            self.write(std::mem::take(&mut opening))?;
            self.databases()?
        };
        opening.push(Event::RunStarted {
            isolation: Text::from(self.record.isolation.as_str()),
        });
        opening.push(Event::CommandStarted {
            id: 1,
            command: self.command_text(),
        });
        let mut sandbox = self.start(writes, opening)?;
        let ended = attend(
            &mut *sandbox,
            &self.command(),
            &self.request.limits,
            attendance,
        )
        .map_err(RunError::Sandbox)?;
        if let Some((step, source)) = ended.not_started {
            let program = self
                .request
                .command
                .first()
                .map(|name| name.display().to_string());
            let program = program.unwrap_or_default();
            return Err(RunError::Command {
                program,
                step,
                source,
            });
        }
        let changes = self.seal(&*sandbox)?;
        Ok((ended, changes))
    }

    /// Writes how the run ended, whatever happened, and gives the claim up.
    fn close(
        &mut self,
        claim: Claim,
        outcome: Result<(Ended, Changes), RunError>,
    ) -> Result<RunReport, RunError> {
        let duration_ms = millis(self.begun.elapsed());
        let recorded = outcome.and_then(|(ended, changes)| {
            let wrote = self.write(self.endings(&ended, &changes, duration_ms));
            match wrote {
                Ok(()) => Ok((ended, changes)),
                Err(RunError::Ledger(error)) => Err(RunError::Unrecorded(error)),
                Err(other) => Err(other),
            }
        });
        let (ended, changes) = match recorded {
            Ok(done) => done,
            Err(error) => {
                self.give_up(&error, duration_ms, claim);
                return Err(error);
            }
        };
        let exit_code = exit_code(&ended);
        let status = Status {
            exit_code,
            duration_ms,
            limits_hit: ended.hits.iter().map(|h| h.as_str().to_owned()).collect(),
            changed: !changes.is_empty(),
            interrupted: None,
        };
        self.finish(status, claim)?;
        Ok(RunReport {
            id: self.id,
            exit_code,
            isolation: self.record.isolation,
            duration_ms,
            notes: self.notes(&ended, &changes),
            changes,
            limits_hit: ended.hits,
            methods: std::mem::take(&mut self.methods),
            ledger: (self.first, self.last),
            written: ended.written,
            kept: ended.kept,
        })
    }

    /// The records of a run that ended.
    fn endings(&self, ended: &Ended, changes: &Changes, duration_ms: u64) -> Vec<Event> {
        let mut events = vec![Event::CommandEnded {
            id: 1,
            end: ending(ended),
            duration_ms: millis(ended.duration),
            stdout_bytes: ended.written[0],
            stderr_bytes: ended.written[1],
        }];
        events.extend(ended.hits.iter().map(|hit| Event::LimitHit {
            limit: Text::from(hit.as_str()),
            bound: bound(*hit, &self.request.limits),
        }));
        if !changes.is_empty() {
            events.push(Event::ChangeSealed {
                digest: changes.digest(),
                files: changes.file_counts(),
                databases: changes.row_counts(),
            });
        }
        events.push(Event::RunEnded {
            end: ending(ended),
            duration_ms,
        });
        events
    }

    /// Keeps of a failed run that it failed. What cannot be kept now is left to the next command,
    /// which finds the claim: the failure itself is what the caller must hear of.
    fn give_up(&mut self, error: &RunError, duration_ms: u64, claim: Claim) {
        let reason = error.to_string();
        let end = Ending::Failed(Text::from(reason.as_str()));
        let wrote = self.write(vec![Event::RunEnded { end, duration_ms }]);
        let status = Status {
            exit_code: error.kind().exit_code(),
            duration_ms,
            limits_hit: Vec::new(),
            changed: false,
            interrupted: Some(reason),
        };
        if wrote.and_then(|()| self.finish(status, claim)).is_err() {}
    }

    /// What a person should know beyond what was changed.
    fn notes(&self, ended: &Ended, changes: &Changes) -> Vec<String> {
        let branched = self.methods.iter().map(|(name, method)| match method {
            sqlite::Method::Reflink => format!("`{name}` was branched by a reflink"),
            sqlite::Method::Copy => {
                format!("`{name}` was branched by a copy, because its file system has no reflinks")
            }
        });
        let kept = "the run was cancelled; what it had changed by then is kept";
        let kept = (ended.cause == Cause::Cancelled && !changes.is_empty()).then_some(kept);
        branched.chain(kept.map(str::to_owned)).collect()
    }

    fn claim(&self) -> Result<Claim, RunError> {
        let state = self.runner.state;
        let failed = |source| StateError::Record {
            id: self.id,
            source,
        };
        let claim = state
            .claim(self.id)
            .map_err(failed)?
            .ok_or(StateError::Alive(self.id))?;
        state.keep(&self.record, false)?;
        Ok(claim)
    }

    fn finish(&mut self, status: Status, claim: Claim) -> Result<(), RunError> {
        let durable = status.changed;
        self.record.status = Some(status);
        let state = self.runner.state;
        if !durable {
            // Nothing to merge: the branches are of no more use.
            discard_branches(&state.run_folder(self.id)).map_err(|source| StateError::Record {
                id: self.id,
                source,
            })?;
        }
        state.keep(&self.record, durable)?;
        claim.release().map_err(|source| StateError::Record {
            id: self.id,
            source,
        })?;
        Ok(())
    }

    /// Branches the databases; what the sandbox may write of them.
    fn databases(&mut self) -> Result<Vec<Writable>, RunError> {
        let mut writes = Vec::new();
        let mut events = Vec::new();
        for (name, source) in &self.request.databases {
            let into = self
                .runner
                .state
                .run_folder(self.id)
                .join("db")
                .join(name.as_str());
            std::fs::create_dir_all(&into).map_err(|source| StateError::Record {
                id: self.id,
                source,
            })?;
            let branched = sqlite::branch(source, &into).map_err(|source| RunError::Database {
                name: name.clone(),
                source,
            })?;
            self.record
                .databases
                .insert(name.clone(), bytes(&branched.source));
            self.methods.insert(name.clone(), branched.method);
            events.push(Event::BranchCreated {
                name: name.clone(),
                source: Text::from(branched.source.as_os_str()),
                method: match branched.method {
                    sqlite::Method::Reflink => Method::Reflink,
                    sqlite::Method::Copy => Method::Copy,
                },
                bytes: branched.bytes,
            });
            let at = Path::new(DATABASES).join(name.as_str());
            let folder = branched.database.parent().unwrap_or(&into).to_path_buf();
            writes.push(Writable { source: folder, at });
        }
        if !events.is_empty() {
            self.write(events)?;
            self.runner.state.keep(&self.record, false)?;
        }
        Ok(writes)
    }

    /// Encloses the run. The records are written while the sandbox is being made: the command
    /// starts only when they are durable and the sandbox is closed.
    fn start(
        &mut self,
        writes: Vec<Writable>,
        records: Vec<Event>,
    ) -> Result<Box<dyn Enclosed>, RunError> {
        let directory = self.workspace.as_ref().map(|one| one.path().to_path_buf());
        let spec = Spec {
            id: self.id,
            branches: directory
                .into_iter()
                .map(|directory| Branch { directory })
                .collect(),
            reads: self.request.reads.clone(),
            writes,
            limits: self.request.limits.clone(),
        };
        self.branched = self.runner.clock.now();
        let (jail, template) = (&self.runner.jail, &self.runner.template);
        let mut records = Some(records);
        let mut wrote = Ok(());
        let mut write = || wrote = records.take().map_or(Ok(()), |records| self.write(records));
        let started = jail.start_beside(&spec, template, &mut write);
        // A start that failed early has not written them.
        write();
        wrote?;
        Ok(started?)
    }

    fn command(&self) -> Command {
        let template = &self.runner.template;
        let home = template.home.as_os_str();
        let set = |name: &str, value: &std::ffi::OsStr| (OsString::from(name), value.to_owned());
        let mut environment = vec![
            set("PATH", PATH.as_ref()),
            set("HOME", home),
            set("USER", template.user.as_ref()),
            set("LOGNAME", template.user.as_ref()),
            set("SHELL", "/bin/sh".as_ref()),
            set("LANG", "C.UTF-8".as_ref()),
            set("BELLJAR_RUN", self.id.to_string().as_ref()),
        ];
        for name in self.request.databases.keys() {
            let path = format!("{DATABASES}/{name}/work.db");
            environment.push(set(
                &name.url_variable(),
                format!("sqlite:///{path}").as_ref(),
            ));
            environment.push(set(&name.path_variable(), path.as_ref()));
        }
        for (name, value) in &self.request.environment {
            environment.retain(|(known, _)| known != name.as_str());
            environment.push(set(name.as_str(), value));
        }
        Command {
            arguments: self.request.command.clone(),
            environment,
            directory: self.directory(),
            terminal: self.request.terminal,
        }
    }

    /// Where the command starts: where the caller is, if that is in the workspace; else the
    /// workspace; else the home directory inside.
    fn directory(&self) -> PathBuf {
        let Some(workspace) = &self.workspace else {
            return self.runner.template.home.clone();
        };
        let asked = self.request.directory.as_ref();
        let inside = asked.filter(|directory| directory.starts_with(workspace.path()));
        inside
            .cloned()
            .unwrap_or_else(|| workspace.path().to_path_buf())
    }

    fn seal(&self, sandbox: &dyn Enclosed) -> Result<Changes, RunError> {
        let folder = self.runner.state.run_folder(self.id);
        let mut changes = Changes::default();
        if let Some(workspace) = &self.workspace {
            let upper = sandbox.scratch(0).map_err(RunError::Sandbox)?;
            let request = SealRequest {
                upper: upper.as_fd(),
                lower: workspace,
                started: self.branched,
                ids: IdShift {
                    base: sandbox.id_shift().unwrap_or(0),
                },
                into: &folder.join("changes"),
            };
            changes.files = Some(files::seal(&request).map_err(RunError::Files)?);
        }
        for name in self.request.databases.keys() {
            let sealed =
                sqlite::seal(&folder.join("db").join(name.as_str())).map_err(|source| {
                    RunError::Rows {
                        name: name.clone(),
                        source,
                    }
                })?;
            changes.databases.insert(name.clone(), sealed);
        }
        Ok(changes)
    }

    fn asked(&self) -> Event {
        let limits = &self.request.limits;
        let mut bounds = BTreeMap::from([
            ("disk_bytes".to_owned(), limits.disk_bytes),
            ("inodes".to_owned(), limits.inodes),
            ("memory_bytes".to_owned(), limits.memory_bytes),
            ("open_files".to_owned(), limits.open_files),
            ("output_bytes".to_owned(), limits.output_bytes),
            ("pids".to_owned(), limits.pids),
            ("wall_ms".to_owned(), millis(limits.wall)),
        ]);
        bounds.extend(limits.cpu_millis.map(|cpu| ("cpu_millis".to_owned(), cpu)));
        let asked = self.request.isolation.map_or("any", Isolation::as_str);
        let text = |path: &ByteText| Text::from(path.0.clone());
        Event::RunAsked {
            command: self.command_text(),
            isolation: Text::from(asked),
            workspace: self.record.workspace.as_ref().map(text),
            databases: self
                .record
                .databases
                .iter()
                .map(|(n, p)| (n.clone(), text(p)))
                .collect(),
            limits: bounds,
        }
    }

    fn command_text(&self) -> Vec<Text> {
        self.request
            .command
            .iter()
            .map(|part| Text::from(part.as_os_str()))
            .collect()
    }

    fn draft(&self, event: Event) -> Draft {
        let (run, agent) = (Some(self.id), Some(self.request.agent.clone()));
        Draft {
            at: self.runner.clock.now(),
            run,
            agent,
            event,
        }
    }

    fn write(&mut self, events: Vec<Event>) -> Result<(), RunError> {
        let drafts: Vec<Draft> = events.into_iter().map(|event| self.draft(event)).collect();
        let receipt = self.runner.state.ledger.append(&drafts)?;
        self.note(receipt);
        Ok(())
    }

    fn note(&mut self, receipt: Receipt) {
        self.first = self.first.min(receipt.first);
        self.last = self.last.max(receipt.last);
    }
}

/// Refuses two names for one file: their branches could not both be merged.
fn distinct(databases: &BTreeMap<DatabaseName, PathBuf>) -> Result<(), RunError> {
    let mut known = BTreeMap::new();
    for (name, path) in databases {
        // One that is missing is refused when it is branched.
        let Ok(data) = std::fs::metadata(path) else {
            continue;
        };
        if let Some(other) = known.insert((data.dev(), data.ino()), name) {
            return Err(RunError::Path {
                path: path.display().to_string(),
                reason: format!("`{other}` and `{name}` are the same database; name it once"),
            });
        }
    }
    Ok(())
}

fn discard_branches(folder: &Path) -> std::io::Result<()> {
    for name in ["changes", "db"] {
        match std::fs::remove_dir_all(folder.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

fn bytes(path: &Path) -> ByteText {
    ByteText(path.as_os_str().to_owned().into_vec())
}

pub(crate) fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A decision, as the ledger has it.
pub(crate) fn decided(subject: &str, effect: Effect, decision: &Decision) -> Event {
    let (rule, reason, remedy) = match decision {
        Decision::Allow { rule, reason } => (rule, reason, None),
        Decision::Hold(refusal) | Decision::Deny(refusal) => (
            &refusal.rule,
            &refusal.reason,
            Some(Text::from(refusal.remedy.as_str())),
        ),
    };
    let text = |text: &str| Text::from(text);
    Event::Decision {
        subject: text(subject),
        effect,
        rule: text(rule),
        reason: text(reason),
        remedy,
    }
}

/// The command's own code; 124 when a limit ended it; 128 and the signal otherwise.
fn exit_code(ended: &Ended) -> u8 {
    let of_signal = |signal: i32| u8::try_from(128 + signal.clamp(0, 127)).unwrap_or(EXIT_FAILED);
    match ended.cause {
        Cause::TimeOver => EXIT_LIMIT,
        Cause::Exited(End::Signal(9)) if ended.hits.contains(&LimitHit::Memory) => EXIT_LIMIT,
        Cause::Exited(End::Code(code)) => code,
        Cause::Exited(End::Signal(signal)) => of_signal(signal),
        Cause::Cancelled => of_signal(2),
        Cause::Lost if ended.hits.contains(&LimitHit::Memory) => EXIT_LIMIT,
        Cause::NotStarted | Cause::Lost => EXIT_FAILED,
    }
}

fn ending(ended: &Ended) -> Ending {
    let limit = |hit: LimitHit| Ending::Limit(Text::from(hit.as_str()));
    match ended.cause {
        Cause::TimeOver => limit(LimitHit::Time),
        Cause::Lost if ended.hits.contains(&LimitHit::Memory) => limit(LimitHit::Memory),
        Cause::Exited(End::Signal(9)) if ended.hits.contains(&LimitHit::Memory) => {
            limit(LimitHit::Memory)
        }
        Cause::Exited(end) => end.into(),
        Cause::Cancelled => Ending::Stopped,
        Cause::NotStarted | Cause::Lost => Ending::Failed(Text::from("the sandbox died")),
    }
}

fn bound(hit: LimitHit, limits: &Limits) -> Option<u64> {
    match hit {
        LimitHit::Cpu => limits.cpu_millis,
        LimitHit::Memory => Some(limits.memory_bytes),
        LimitHit::Pids => Some(limits.pids),
        LimitHit::Time => Some(millis(limits.wall)),
        LimitHit::Disk => Some(limits.disk_bytes),
        LimitHit::Inodes => Some(limits.inodes),
        LimitHit::Output => Some(limits.output_bytes),
    }
}
