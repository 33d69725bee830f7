//! Encloses a command, and keeps what it did: a change set to review, merge or discard.

mod request; // what is asked for, what comes of it, what can go wrong
mod inside; // what the command finds inside
mod databases; // the databases: branched before, sealed after
mod network; // its way out: opened before the command, closed after
mod telling; // what the ledger and the caller are told

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use belljar_base::{Clock, DatabaseName, HasKind, RunId, Timestamp};
use belljar_branch::Workspace;
use belljar_branch::engine::files::{ByteText, IdShift, SealRequest};
use belljar_branch::engine::{files, sqlite};
use belljar_ledger::event::{Effect, Ending};
use belljar_ledger::{Draft, Event, Receipt, Text};
use belljar_policy::{Decision, Isolation, RunFacts, decide_run};
use belljar_sandbox::backend::jail::Jail;
use belljar_sandbox::network::Network;
use belljar_sandbox::{
    Attendance, Backend, Branch, Cause, Enclosed, Ended, Host, Spec, Template, Writable, attend,
};

pub use self::request::{RunError, RunReport, RunRequest};
pub(crate) use self::telling::{decided, millis};
use super::facts::Changes;
use super::network::{self as way_out, Prepared, Traffic};
use crate::record::{RunRecord, Status, VERSION};
use crate::state::{Claim, State, StateError};
use telling::exit_code;

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
    request: RunRequest,
    id: RunId,
    begun: Instant,
    workspace: Option<Workspace>,
    record: RunRecord,
    first: u64,
    last: u64,
    methods: BTreeMap<DatabaseName, sqlite::Method>,
    /// A moment right before the workspace was branched.
    branched: Timestamp,
    traffic: Traffic,
    /// What the ledger must still have of the network.
    network: Vec<Event>,
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
        request: RunRequest,
        chance: u32,
        attendance: Attendance,
    ) -> Result<RunReport, RunError> {
        let begun = Instant::now();
        let asked = self.clock.now();
        let workspace = self.check(&request)?;
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
            traffic: Traffic::default(),
            network: Vec::new(),
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
            if holds_key(path, request) {
                return Err(refuse("the key that secrets are sealed with lies there"));
            }
        }
        if let Some(path) = workspace.as_ref().map(Workspace::path)
            && holds_key(path, request)
        {
            return Err(RunError::Path {
                path: path.display().to_string(),
                reason: "the key that secrets are sealed with lies there; name another directory, \
                         or move the key with BELLJAR_CONFIG"
                    .to_owned(),
            });
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
        let prepared = self.prepare_network()?;
        let mut sandbox = self.start(writes, prepared.as_ref(), opening)?;
        let command = self.command(prepared.as_ref());
        let network = self.open_network(prepared, &mut *sandbox)?;
        let ended = attend(&mut *sandbox, &command, &self.request.limits, attendance);
        self.close_network(network);
        let ended = ended.map_err(RunError::Sandbox)?;
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
            let mut endings = std::mem::take(&mut self.network);
            endings.extend(self.endings(&ended, &changes, duration_ms));
            let wrote = self.write(endings);
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
            traffic: self.traffic,
            ledger: (self.first, self.last),
            written: ended.written,
            kept: ended.kept,
        })
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
        let failed = |source| StateError::Record {
            id: self.id,
            source,
        };
        let folder = state.run_folder(self.id);
        way_out::forget(&folder).map_err(failed)?;
        if !durable {
            // Nothing to merge: the branches are of no more use.
            discard_branches(&folder).map_err(failed)?;
        }
        state.keep(&self.record, durable)?;
        claim.release().map_err(failed)?;
        Ok(())
    }

    /// Encloses the run. The records are written while the sandbox is being made: the command
    /// starts only when they are durable and the sandbox is closed.
    fn start(
        &mut self,
        writes: Vec<Writable>,
        prepared: Option<&Prepared>,
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
            shows: prepared.map_or_else(Vec::new, |one| one.shows.clone()),
            network: prepared.map_or(Network::None, |_| Network::Gated),
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
        changes.databases = self.seal_databases(sandbox)?;
        Ok(changes)
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

/// Whether a path leads to the key that secrets are sealed with.
fn holds_key(path: &Path, request: &RunRequest) -> bool {
    let key = request.key.as_ref().filter(|key| key.exists());
    let key = key.and_then(|key| key.canonicalize().ok());
    key.is_some_and(|key| key.starts_with(path))
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
    ByteText(path.as_os_str().as_bytes().to_vec())
}
