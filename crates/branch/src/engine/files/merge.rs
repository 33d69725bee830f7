//! The files engine: merges a change set into a workspace, or an inverse back.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use belljar_base::bounds::MERGE_NAMES_BYTES_FREE;
use belljar_base::{Kind, Refusal};

use super::apply::{Deal, KEPT, StepError};
use super::change::{FileChanges, LoadError};
use super::content::Content;
use super::plan::Plan;
use super::prepare::{self, PrepareError};
use super::review::{Restored, Verdict, review};
use super::seal_error::kind_of;
use super::text::{RelativePath, visible};
use super::tree;
use crate::Workspace;
use crate::engine::{Conflict, Deed, DeedKind, Engine, EngineError, Steps};
use crate::lock::Lock;

const NAME: &str = "files";
/// How long a merge waits for another one of the same workspace.
const LOCK_SECONDS_MAX: u64 = 10;

/// What a merge may do beyond the ordinary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FilesOptions {
    /// Let files get set-user-id or set-group-id bits and capabilities.
    pub allow_privileged: bool,
}

/// Merges a change set into a workspace, or an inverse back.
#[derive(Debug)]
pub struct FilesEngine {
    workspace: Workspace,
    changes: FileChanges,
    inverse: PathBuf,
    staging: String,
    allow_privileged: bool,
    is_revert: bool,
    lock: Option<Lock>,
    verdicts: Vec<Verdict>,
}

impl FilesEngine {
    /// The engine for the files part of `deed`, on `workspace`.
    ///
    /// # Errors
    /// When the change set (of a revert: the inverse) cannot be loaded.
    pub fn new(
        workspace: Workspace,
        deed: &Deed,
        options: FilesOptions,
    ) -> Result<Self, LoadError> {
        let changes = FileChanges::load(&deed.changes(NAME))?;
        let is_revert = deed.kind() == DeedKind::Revert;
        let run = deed
            .run()
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        Ok(Self {
            workspace,
            changes,
            inverse: deed.inverse(NAME),
            staging: format!(".belljar-{run}"),
            // A revert gives back what was there.
            allow_privileged: options.allow_privileged || is_revert,
            is_revert,
            lock: None,
            verdicts: Vec::new(),
        })
    }

    fn hold_lock(&mut self) -> Result<(), EngineError> {
        if self.lock.is_some() {
            return Ok(());
        }
        let lock = self
            .workspace
            .lock(LOCK_SECONDS_MAX)
            .map_err(failed("lock the workspace"))?;
        if lock.is_none() {
            let source = "another merge or revert of this workspace is under way; try again later";
            let doing = "lock the workspace";
            return Err(EngineError::failed(doing, Kind::Unavailable, source));
        }
        self.lock = lock;
        Ok(())
    }

    fn check_workspace(&self) -> Result<(), EngineError> {
        use std::os::unix::ffi::OsStrExt as _;
        let sealed = &self.changes.manifest.workspace.0;
        if *sealed == self.workspace.path().as_os_str().as_bytes() {
            return Ok(());
        }
        Err(EngineError::Refused(Refusal::new(
            "files.workspace",
            format!("the change set is of the workspace `{}`", visible(sealed)),
            "merge it there",
        )))
    }

    /// A merge gives each name a file of its own, so a file with many names becomes that many files:
    /// one page of a run's layer could fill the disk of the workspace.
    fn check_names(&self) -> Result<(), EngineError> {
        let stored = self.changes.manifest.pack_bytes;
        let most = stored
            .saturating_mul(4)
            .saturating_add(MERGE_NAMES_BYTES_FREE);
        let contents = self.changes.entries().iter();
        let contents = contents.filter_map(|entry| entry.new.as_ref()?.content.as_ref());
        let bytes = contents
            .map(Content::stored_bytes)
            .fold(0, u64::saturating_add);
        if bytes <= most || self.is_revert {
            return Ok(());
        }
        let names = self.changes.manifest.hard_links;
        Err(EngineError::Refused(Refusal::new(
            "files.hard-links",
            format!(
                "{names} names share files in the run; as files of their own they have {bytes} \
                 bytes, where the run has {stored}"
            ),
            "run it again so that it leaves fewer hard links to large files, or discard it",
        )))
    }

    fn open_staging(&self) -> Result<Option<OwnedFd>, EngineError> {
        match tree::open_directory_at(self.workspace.root(), self.staging.as_bytes()) {
            Ok(staging) => Ok(Some(staging)),
            Err(error) if tree::is_elsewhere(&error) => Ok(None),
            Err(error) => Err(failed("open the staging directory")(error)),
        }
    }

    /// What was prepared: the plan and the inverse; none if `prepare` did not get that far.
    fn prepared(&self) -> Result<Option<(Plan, FileChanges)>, EngineError> {
        let plan = Plan::load(&self.inverse).map_err(failed("read the plan of the merge"))?;
        let Some(plan) = plan else { return Ok(None) };
        let inverse = FileChanges::load(&self.inverse)
            .map_err(|error| EngineError::failed("read the inverse", Kind::Invalid, error))?;
        Ok(Some((plan, inverse)))
    }

    fn stage(&mut self, steps: &mut Steps<'_>) -> Result<(), EngineError> {
        let root = self.workspace.root();
        let writing = failed("store what the merge needs");
        prepare::make_directory(&self.inverse).map_err(&writing)?;
        Plan::forget(&self.inverse).map_err(&writing)?;
        let mut plan = Plan::new(&self.changes, &self.verdicts);
        let root_time = tree::probe_open(root).map_err(&writing)?.mtime;
        prepare::note_directories(&mut plan, root, root_time)
            .map_err(failed("read the workspace"))?;
        steps.reached("files: staging")?;
        let staging = prepare::make_staging(root, &self.staging).map_err(not_prepared)?;
        plan.merged_at = tree::probe_open(&staging).map_err(&writing)?.mtime;
        steps.reached("files: storing the inverse")?;
        prepare::store_inverse(&self.changes, &self.verdicts, root, &plan, &self.inverse)
            .map_err(not_prepared)?;
        steps.reached("files: inverse stored")?;
        prepare::stage(&self.changes, &mut plan, staging.as_fd())
            .map_err(failed("stage the new files in the workspace"))?;
        steps.reached("files: staged")?;
        plan.store(&self.inverse).map_err(&writing)?;
        steps.reached("files: plan stored")
    }

    /// The modes that close a merge: directories that stay get theirs, innermost first.
    fn close(
        deal: &Deal<'_>,
        steps: &mut Steps<'_>,
        touch: impl Fn(&RelativePath) -> Result<(), StepError>,
    ) -> Result<(), EngineError> {
        let touches = deal.plan.touches.iter().map(|path| (path, None));
        let locked = deal
            .plan
            .locked
            .iter()
            .map(|(path, mode)| (path, Some(*mode)));
        let mut closing: Vec<_> = touches.chain(locked).collect();
        closing.sort_by(|one, other| other.cmp(one));
        // A directory that gets new attributes gets its mode with them.
        closing.dedup_by(|next, kept| {
            next.0 == kept.0 && {
                kept.1 = None;
                true
            }
        });
        for (path, mode) in closing {
            match mode {
                Some(mode) => deal.lock(path, mode).map_err(failed("close a directory"))?,
                None => touch(path).map_err(not_done)?,
            }
            steps.reached("files: attributes set")?;
        }
        Ok(())
    }
}

impl Engine for FilesEngine {
    fn name(&self) -> &str {
        NAME
    }

    fn conflicts(&mut self) -> Result<Vec<Conflict>, EngineError> {
        self.check_workspace()?;
        self.check_names()?;
        self.hold_lock()?;
        let restored = load_restored(&self.inverse).map_err(failed("read what was undone"))?;
        self.verdicts = review(
            &self.changes,
            self.workspace.root(),
            &restored,
            self.allow_privileged,
        )
        .map_err(failed("compare the change set with the workspace"))?;
        let conflicts = self.verdicts.iter().filter_map(|verdict| match verdict {
            Verdict::Conflict(place, reason) => Some(Conflict {
                engine: NAME.to_owned(),
                place: place.clone(),
                reason: reason.clone(),
            }),
            Verdict::Apply(_) | Verdict::Already => None,
        });
        Ok(conflicts.collect())
    }

    fn prepare(&mut self, steps: &mut Steps<'_>) -> Result<(), EngineError> {
        let conflicts = match self.verdicts.is_empty() {
            true => self.conflicts()?,
            // What changes from here on is found when it comes out.
            false => Vec::new(),
        };
        match conflicts.is_empty() {
            true => self.stage(steps),
            false => Err(EngineError::Conflicts(conflicts)),
        }
    }

    fn apply(&mut self, steps: &mut Steps<'_>) -> Result<(), EngineError> {
        self.hold_lock()?;
        let (Some((plan, inverse)), Some(staging)) = (self.prepared()?, self.open_staging()?)
        else {
            let source = "it was not prepared";
            return Err(EngineError::failed("apply the files", Kind::Bug, source));
        };
        let deal = self.deal(&staging, &plan, &inverse);
        deal.unlock()
            .map_err(failed("open a directory for the merge"))?;
        for (number, replace) in plan.replaces.iter().enumerate() {
            deal.replace(number, replace).map_err(not_done)?;
            steps.reached("files: replaced")?;
        }
        Self::close(&deal, steps, |path| deal.touch(path))?;
        for (number, replace) in plan.replaces.iter().enumerate() {
            deal.verify(number, replace).map_err(not_done)?;
        }
        let parents = plan.parents();
        deal.set_times(|path, before| {
            let times = &self.changes.manifest.directory_times;
            let known = times
                .iter()
                .find(|time| time.path == *path && time.seen == before);
            match known {
                Some(time) => time.set,
                None if parents.contains(path) => plan.merged_at,
                None => before,
            }
        });
        steps.reached("files: times set")?;
        deal.sync().map_err(failed("make the merge durable"))
    }

    fn undo(&mut self, steps: &mut Steps<'_>) -> Result<(), EngineError> {
        self.hold_lock()?;
        let (Some((plan, inverse)), Some(staging)) = (self.prepared()?, self.open_staging()?)
        else {
            return Ok(());
        };
        let deal = self.deal(&staging, &plan, &inverse);
        deal.unlock()
            .map_err(failed("open a directory to undo the merge"))?;
        for (number, replace) in plan.replaces.iter().enumerate().rev() {
            deal.restore(number, replace).map_err(not_undone)?;
            steps.reached("files: restored")?;
        }
        Self::close(&deal, steps, |path| deal.untouch(path))?;
        deal.set_times(|_, before| before);
        steps.reached("files: times restored")?;
        let storing = failed("store what was undone");
        let restored = deal.restored().map_err(&storing)?;
        store_restored(&self.inverse, restored).map_err(&storing)?;
        deal.sync().map_err(failed("make the undoing durable"))
    }

    fn finish(&mut self, steps: &mut Steps<'_>) -> Result<Vec<String>, EngineError> {
        self.hold_lock()?;
        let cleaning = failed("remove the staging directory");
        // Without a plan nothing can be applied or undone any more, so it goes first.
        Plan::forget(&self.inverse).map_err(&cleaning)?;
        steps.reached("files: plan forgotten")?;
        let Some(staging) = self.open_staging()? else {
            return Ok(Vec::new());
        };
        let root = self.workspace.root();
        let time = tree::probe_open(root).map_err(&cleaning)?.mtime;
        let mut kept = Vec::new();
        for name in tree::names(staging.as_fd()).map_err(&cleaning)? {
            match name.starts_with(KEPT.as_bytes()) {
                true => kept.push(format!("{}/{}", self.staging, visible(&name))),
                false => tree::remove_all(staging.as_fd(), &name).map_err(&cleaning)?,
            }
        }
        if kept.is_empty() {
            tree::remove_all(root, self.staging.as_bytes()).map_err(&cleaning)?;
        }
        let _best_effort = tree::set_mtime(root, b".", time);
        Ok(kept
            .iter()
            .map(|place| format!("an edit made meanwhile is kept in `{place}`"))
            .collect())
    }
}

impl FilesEngine {
    fn deal<'a>(
        &'a self,
        staging: &'a OwnedFd,
        plan: &'a Plan,
        inverse: &'a FileChanges,
    ) -> Deal<'a> {
        Deal {
            root: self.workspace.root(),
            staging: staging.as_fd(),
            changes: &self.changes,
            inverse,
            plan,
        }
    }
}

const RESTORED: &str = "restored.json";

/// What earlier attempts put back. Were it lost or damaged, a merge would find conflicts that are
/// none, and change nothing.
fn load_restored(directory: &Path) -> io::Result<Restored> {
    match std::fs::read(directory.join(RESTORED)) {
        Ok(bytes) => {
            let pairs: Vec<_> = serde_json::from_slice(&bytes).unwrap_or_default();
            Ok(pairs.into_iter().collect())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Restored::new()),
        Err(error) => Err(error),
    }
}

fn store_restored(directory: &Path, restored: Restored) -> io::Result<()> {
    let pairs: Vec<_> = restored.into_iter().collect();
    std::fs::write(directory.join(RESTORED), serde_json::to_vec(&pairs)?)
}

fn failed(doing: &'static str) -> impl Fn(io::Error) -> EngineError {
    move |error| EngineError::failed(doing, kind_of(&error), error)
}

fn conflict(place: String) -> EngineError {
    let reason = "it is being changed right now; nothing of it was lost".to_owned();
    EngineError::Conflicts(vec![Conflict {
        engine: NAME.to_owned(),
        place,
        reason,
    }])
}

fn not_prepared(error: PrepareError) -> EngineError {
    match error {
        PrepareError::Moving(place) => conflict(place),
        PrepareError::NoExchange => EngineError::Refused(Refusal::new(
            "files.exchange",
            error.to_string(),
            "copy the workspace to a local file system (ext4, xfs, btrfs, tmpfs) and run there",
        )),
        PrepareError::Io(error) => failed("prepare the merge in the workspace")(error),
    }
}

fn not_done(error: StepError) -> EngineError {
    match error {
        StepError::Conflict(place) => conflict(place),
        StepError::Io(error) => failed("put a file of the merge in place")(error),
    }
}

fn not_undone(error: StepError) -> EngineError {
    let doing = "put back what the merge had taken out (it waits in the staging directory)";
    match error {
        StepError::Conflict(place) => conflict(place),
        StepError::Io(error) => failed(doing)(error),
    }
}
