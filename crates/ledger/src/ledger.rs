//! The ledger as other rooms see it: open, append, read.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use belljar_base::bounds::SEGMENT_BYTES_DEFAULT;

use crate::error::{AppendError, Fault, OpenError, ReadError, Torn};
use crate::group::{Group, Receipt, Slot};
use crate::log::{CHECKPOINT, Log};
use crate::note::Signer;
use crate::record::{Draft, EncodeError, Encoded};
use crate::segment;

/// The name of the file with the key's public half.
pub(crate) const VERIFIER_KEY: &str = "key.pub";

/// How a ledger is opened.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Where the private key is, or is to be made; `../keys/ledger.key` beside the ledger's
    /// directory unless given.
    pub key: Option<PathBuf>,
    /// How long segments of a new ledger become, in bytes, unless the default is right.
    pub segment_bytes: Option<u64>,
}

/// The append-only record of everything attempted. Any number of threads and processes may append
/// to the same one at the same time.
#[derive(Debug)]
pub struct Ledger {
    pub(crate) group: Arc<Group>,
}

/// Records on their way to the disk.
#[derive(Debug)]
#[must_use = "the records are durable only when `wait` has returned"]
pub struct Pending {
    group: Arc<Group>,
    slot: Arc<Slot>,
}

impl Ledger {
    /// Opens the ledger in `dir`; makes it, and its key, when there is none.
    ///
    /// Takes the same time for a long ledger as for a short one. A write that an interrupted
    /// program left half done is cut off, see [`Ledger::torn`].
    ///
    /// # Errors
    /// When the directory or key cannot be used, or the files are damaged in a way that an
    /// interrupted write does not explain.
    pub fn open(dir: &Path, options: &Options) -> Result<Self, OpenError> {
        let key_path = key_path(dir, options);
        let signer = read_key(&key_path)?;
        if let Some(signer) = &signer
            && let Some(log) = Log::open_at_rest(dir, signer)
        {
            return Ok(Self::over(log));
        }
        let signer = match signer {
            Some(signer) if has_segments(dir) => signer,
            signer => create(dir, &key_path, signer, options)?,
        };
        let files = |source| OpenError::Files {
            path: dir.to_owned(),
            source,
        };
        let public = fs::read_to_string(dir.join(VERIFIER_KEY));
        if public.is_ok_and(|public| public.trim_end() != signer.verifier().to_string()) {
            return Err(OpenError::OtherKey { path: key_path });
        }
        Log::open(dir, &signer).map(Self::over).map_err(files)
    }

    fn over(log: Log) -> Self {
        let group = Arc::new(Group::new(log));
        Self { group }
    }

    /// Appends records, in this order and with no others between them; durable on return.
    ///
    /// # Errors
    /// When a record is over a bound, or the files do not take it. Then none of them is written.
    pub fn append(&self, drafts: &[Draft]) -> Result<Receipt, AppendError> {
        self.group.append(encode(drafts)?)
    }

    /// Starts to append records, so that the caller can do other work while the disk works.
    ///
    /// # Errors
    /// When a record is over a bound.
    pub fn begin(&self, drafts: &[Draft]) -> Result<Pending, AppendError> {
        let slot = self.group.start(encode(drafts)?)?;
        let group = Arc::clone(&self.group);
        Ok(Pending { group, slot })
    }

    /// How many records there are, those of other processes included.
    ///
    /// # Errors
    /// When the log cannot be read, or is damaged.
    pub fn size(&self) -> Result<u64, ReadError> {
        let mut log = self.group.log();
        log.refresh()?;
        Ok(log.position().seq())
    }

    /// The signed tree head of all records: keep it elsewhere, and `belljar-verify --checkpoint`
    /// will find if any of them is ever changed or lost.
    ///
    /// # Errors
    /// When the log cannot be read, or is damaged.
    pub fn checkpoint(&self) -> Result<String, ReadError> {
        let mut log = self.group.log();
        log.refresh()?;
        let position = log.position();
        Ok(log.signer().sign(position.seq(), position.frontier.root()))
    }

    /// The key's public half, as `NAME+ID+KEY`.
    #[must_use]
    pub fn key(&self) -> String {
        self.group.log().signer().verifier().to_string()
    }

    /// Torn writes of interrupted programs that this ledger has cut off since it was opened.
    #[must_use]
    pub fn torn(&self) -> Vec<Torn> {
        self.group.log().torn().to_vec()
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.group.close();
    }
}

impl Pending {
    /// Waits until the records are durable.
    ///
    /// # Errors
    /// When the files did not take them. Then none of them is written.
    pub fn wait(self) -> Result<Receipt, AppendError> {
        self.group.wait(&self.slot)
    }
}

fn encode(drafts: &[Draft]) -> Result<Vec<Encoded>, AppendError> {
    let encode = |draft| {
        Encoded::new(draft).map_err(|error| match error {
            EncodeError::TooLong(bytes) => AppendError::TooLong(bytes),
            EncodeError::Unknown => AppendError::Unknown,
        })
    };
    if drafts.is_empty() {
        return Err(AppendError::Empty);
    }
    drafts.iter().map(encode).collect()
}

fn key_path(dir: &Path, options: &Options) -> PathBuf {
    let beside = || dir.parent().unwrap_or(dir).join("keys/ledger.key");
    options.key.clone().unwrap_or_else(beside)
}

fn has_segments(dir: &Path) -> bool {
    segment::list(dir).is_ok_and(|numbers| !numbers.is_empty())
}

fn key_error(path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |error| OpenError::Key {
        path,
        source: Arc::new(error),
    }
}

fn read_key(path: &Path) -> Result<Option<Arc<Signer>>, OpenError> {
    match fs::read_to_string(path) {
        Ok(text) => match Signer::from_secret_text(&text) {
            Some(signer) => Ok(Some(Arc::new(signer))),
            None => Err(key_error(path)(io::Error::from(io::ErrorKind::InvalidData))),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(key_error(path)(error)),
    }
}

/// Makes what is missing of the directory, the key and the first segment. Several processes may do
/// so at once: the lock lets one do it, and the others find it done.
fn create(
    dir: &Path,
    key_path: &Path,
    signer: Option<Arc<Signer>>,
    options: &Options,
) -> Result<Arc<Signer>, OpenError> {
    let directory = |source| OpenError::Directory {
        path: dir.to_owned(),
        source: Arc::new(source),
    };
    let files = |source| OpenError::Files {
        path: dir.to_owned(),
        source,
    };
    make_dir(dir).map_err(directory)?;
    let lock = File::open(dir).map_err(directory)?;
    lock.lock().map_err(directory)?;
    let exists = has_segments(dir);
    let signer = match (signer, read_key(key_path)?) {
        (_, Some(signer)) | (Some(signer), None) => signer,
        (None, None) if exists => {
            let path = key_path.to_owned();
            return Err(OpenError::OtherKey { path });
        }
        (None, None) => Arc::new(make_key(key_path).map_err(key_error(key_path))?),
    };
    if exists {
        return Ok(signer);
    }
    let signed = fs::read_to_string(dir.join(CHECKPOINT)).unwrap_or_default();
    if let Some(signed) = crate::note::Checkpoint::parse(&signed)
        && signed.size > 0
    {
        let signed = signed.size;
        return Err(files(Fault::Short { signed, found: 0 }));
    }
    let public = format!("{}\n", signer.verifier());
    write_file(&dir.join(VERIFIER_KEY), public.as_bytes(), 0o644).map_err(directory)?;
    let bound = options.segment_bytes.unwrap_or(SEGMENT_BYTES_DEFAULT);
    Log::create(dir, &signer, bound).map_err(files)?;
    Ok(signer)
}

fn make_key(path: &Path) -> io::Result<Signer> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| io::Error::other(error.to_string()))?;
    let signer = Signer::generate(seed);
    let dir = path.parent().unwrap_or(Path::new("."));
    make_dir(dir)?;
    write_file(path, signer.to_secret_text().as_bytes(), 0o600)?;
    Ok(signer)
}

fn make_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Writes a file that is there whole or not at all, durable.
fn write_file(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(mode);
    let mut file = options.open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}
