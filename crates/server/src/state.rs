//! The state directory: `runs/` with what is kept of each, `live/` with a locked file for each
//! that is under way, `ledger/`, `keys/`, `templates/`.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use belljar_base::{HasKind, Kind, RunId};
use belljar_ledger::Ledger;
use belljar_ledger::error::OpenError;
use rustix::fs::FlockOperation;

use crate::record::{RunRecord, VERSION};

/// The state directory, opened.
#[derive(Debug)]
pub struct State {
    folder: PathBuf,
    /// The record of everything attempted.
    pub ledger: Arc<Ledger>,
}

/// How a person names a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunName {
    /// The last one that was asked for.
    Last,
    /// Its id, or enough of the beginning.
    Id(String),
}

/// The state directory, or a run in it, cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Making or opening the directory failed.
    #[error("cannot use the state directory `{}`", folder.display())]
    Folder {
        /// Which.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It belongs to somebody else.
    #[error("the state directory `{}` belongs to user {owner}; set BELLJAR_STATE to one of your own", folder.display())]
    Foreign {
        /// Which.
        folder: PathBuf,
        /// Whose.
        owner: u32,
    },
    /// The ledger cannot be opened.
    #[error("cannot open the ledger")]
    Ledger(#[from] OpenError),
    /// There is no such run.
    #[error("there is no run `{0}`; `belljar runs` lists them")]
    NoRun(String),
    /// More than one run begins so.
    #[error("`{name}` is the beginning of {count} runs; write more of it")]
    Ambiguous {
        /// What was written.
        name: String,
        /// How many begin so.
        count: usize,
    },
    /// What is kept of a run cannot be read.
    #[error("what is kept of `{id}` cannot be read")]
    Record {
        /// The run.
        id: RunId,
        /// Why.
        source: io::Error,
    },
    /// The run is under way.
    #[error("`{0}` is still running")]
    Alive(RunId),
    /// The machine went down under the run.
    #[error("`{0}` was interrupted, and what it had changed is lost; nothing real was changed")]
    Lost(RunId),
}

impl HasKind for StateError {
    fn kind(&self) -> Kind {
        match self {
            Self::Folder { source, .. } => match source.raw_os_error() {
                Some(28) => Kind::Exhausted,
                Some(_) | None => Kind::Unavailable,
            },
            Self::Foreign { .. } => Kind::Denied,
            Self::Ledger(error) => error.kind(),
            Self::NoRun(_) => Kind::NotFound,
            Self::Ambiguous { .. } => Kind::Invalid,
            Self::Record { .. } => Kind::Unavailable,
            Self::Alive(_) | Self::Lost(_) => Kind::Conflict,
        }
    }
}

/// A run's claim to be under way: a locked file that the kernel unlocks when its holder dies.
#[derive(Debug)]
pub(crate) struct Claim {
    path: PathBuf,
    _file: File,
}

impl Claim {
    /// Gives the claim up: the run is over and nothing of it needs cleaning.
    pub(crate) fn release(self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }
}

impl FromStr for RunName {
    type Err = StateError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "last" {
            return Ok(Self::Last);
        }
        let known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if text.is_empty() || text.len() > 64 || !text.bytes().all(known) {
            return Err(StateError::NoRun(text.escape_default().take(64).collect()));
        }
        let text = text.to_ascii_lowercase();
        let whole = if text.starts_with("run-") {
            text
        } else {
            format!("run-{text}")
        };
        Ok(Self::Id(whole))
    }
}

impl State {
    /// Opens the state directory, making it if it is not there.
    ///
    /// # Errors
    /// When it cannot be made or belongs to somebody else, or the ledger cannot be opened.
    pub fn open(folder: &Path) -> Result<Self, StateError> {
        let failed = |source| StateError::Folder {
            folder: folder.to_path_buf(),
            source,
        };
        if !folder.join("live").is_dir() {
            for name in ["runs", "live", "templates"] {
                let mut builder = fs::DirBuilder::new();
                // Templates are read from inside by another id of the host; names are no secret.
                builder
                    .recursive(true)
                    .mode(if name == "templates" { 0o755 } else { 0o700 });
                builder.create(folder.join(name)).map_err(failed)?;
            }
        }
        let owner = fs::metadata(folder).map_err(failed)?.uid();
        if owner != rustix::process::geteuid().as_raw() {
            return Err(StateError::Foreign {
                folder: folder.to_path_buf(),
                owner,
            });
        }
        let folder = folder.canonicalize().map_err(failed)?;
        let ledger = Ledger::open(&folder.join("ledger"), &belljar_ledger::Options::default())?;
        let ledger = Arc::new(ledger);
        Ok(Self { folder, ledger })
    }

    /// Where it is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where templates are kept.
    #[must_use]
    pub fn templates(&self) -> PathBuf {
        self.folder.join("templates")
    }

    /// The directory of a run.
    #[must_use]
    pub fn run_folder(&self, id: RunId) -> PathBuf {
        self.folder.join("runs").join(id.to_string())
    }

    /// The run that a person names.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub fn find(&self, name: &RunName) -> Result<RunId, StateError> {
        let all = self.run_ids()?;
        match name {
            // One that is only just beginning has nothing to tell yet.
            RunName::Last => all
                .into_iter()
                .filter(|id| self.run_folder(*id).join("run.json").exists())
                .max()
                .ok_or_else(|| StateError::NoRun("last".to_owned())),
            RunName::Id(start) => {
                let mut found = all
                    .into_iter()
                    .filter(|id| id.to_string().starts_with(start));
                let first = found
                    .next()
                    .ok_or_else(|| StateError::NoRun(start.clone()))?;
                match found.count() {
                    0 => Ok(first),
                    more => Err(StateError::Ambiguous {
                        name: start.clone(),
                        count: more + 1,
                    }),
                }
            }
        }
    }

    /// The ids of all runs that something is kept of, in no order.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn run_ids(&self) -> Result<Vec<RunId>, StateError> {
        self.ids_in("runs")
    }

    /// The runs that claim to be under way, whether or not their holder lives.
    pub(crate) fn claimed(&self) -> Result<Vec<RunId>, StateError> {
        self.ids_in("live")
    }

    fn ids_in(&self, name: &str) -> Result<Vec<RunId>, StateError> {
        let failed = |source| StateError::Folder {
            folder: self.folder.clone(),
            source,
        };
        let entries = fs::read_dir(self.folder.join(name)).map_err(failed)?;
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        Ok(names.filter_map(|name| name.parse().ok()).collect())
    }

    /// Claims a run for a deed of ours; none if somebody alive holds it.
    pub(crate) fn claim(&self, id: RunId) -> io::Result<Option<Claim>> {
        self.take(id, FlockOperation::LockShared, true)
    }

    /// Takes over the claim of a holder who has died; none if the holder lives or has given the
    /// claim up by now.
    pub(crate) fn adopt(&self, id: RunId) -> io::Result<Option<Claim>> {
        self.take(id, FlockOperation::LockExclusive, false)
    }

    /// Whether somebody claims the run, alive or not.
    pub(crate) fn is_claimed(&self, id: RunId) -> bool {
        self.folder.join("live").join(id.to_string()).exists()
    }

    /// Locks the file of a claim. Between making the file and locking it a claim looks like that
    /// of a dead holder, so that who adopts keeps out who makes.
    fn take(&self, id: RunId, with_others: FlockOperation, new: bool) -> io::Result<Option<Claim>> {
        let live = self.folder.join("live");
        let path = live.join(id.to_string());
        let door = File::open(&live)?;
        rustix::io::retry_on_intr(|| rustix::fs::flock(&door, with_others))?;
        loop {
            let file = OpenOptions::new()
                .write(true)
                .create(new)
                .truncate(false)
                .mode(0o600)
                .open(&path);
            let file = match file {
                Err(error) if !new && error.kind() == io::ErrorKind::NotFound => return Ok(None),
                other => other?,
            };
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(rustix::io::Errno::AGAIN) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
            // The holder before us may have removed the file between our two calls.
            let same = fs::metadata(&path)
                .is_ok_and(|now| file.metadata().is_ok_and(|held| held.ino() == now.ino()));
            if same {
                return Ok(Some(Claim { path, _file: file }));
            }
        }
    }

    /// Writes what is kept of a run; durable if asked, whole in any case.
    pub(crate) fn keep(&self, record: &RunRecord, durable: bool) -> Result<(), StateError> {
        let failed = |source| StateError::Record {
            id: record.id,
            source,
        };
        let folder = self.run_folder(record.id);
        let write = || -> io::Result<()> {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&folder)?;
            let text = serde_json::to_vec_pretty(record)?;
            let new = folder.join("run.json.new");
            fs::write(&new, text)?;
            if durable {
                File::open(&new)?.sync_all()?;
            }
            fs::rename(&new, folder.join("run.json"))?;
            if durable {
                File::open(&folder)?.sync_all()?;
            }
            Ok(())
        };
        write().map_err(failed)
    }

    /// What is kept of a run.
    ///
    /// # Errors
    /// When it cannot be read, or was written by a newer Belljar.
    pub fn record(&self, id: RunId) -> Result<RunRecord, StateError> {
        let failed = |source| StateError::Record { id, source };
        let text = fs::read(self.run_folder(id).join("run.json")).map_err(failed)?;
        let record: RunRecord = serde_json::from_slice(&text).map_err(|e| failed(e.into()))?;
        if record.version != VERSION {
            let reason = format!(
                "it has format {}, this Belljar knows {VERSION}",
                record.version
            );
            return Err(failed(io::Error::other(reason)));
        }
        Ok(record)
    }
}
