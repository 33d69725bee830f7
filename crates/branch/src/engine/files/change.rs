//! The change set of a workspace, and how it is kept on disk (docs/formats/change-set.md).

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use belljar_base::{HasKind, Kind};
use serde::{Deserialize, Serialize};

use super::node::Node;
use super::text::{ByteText, RelativePath};
use super::tree::{CAPABILITY, FileTime, NodeKind};

/// Version of the format; a later one is refused.
const VERSION: u32 = 2;
/// The earliest version that is read: it has no runs but of whole blocks, which is allowed still.
const VERSION_MIN: u32 = 1;
const MANIFEST: &str = "files.json";
const PACK: &str = "files.pack";
const BUFFER_BYTES: usize = 64 << 10;

/// Everything a run did to its workspace, entry by entry, sorted so that a directory comes right
/// before what is in it.
#[derive(Debug)]
pub struct FileChanges {
    pub(crate) manifest: Manifest,
    pub(crate) directory: PathBuf,
    digest: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    pub(crate) version: u32,
    /// The workspace's canonical path.
    pub(crate) workspace: ByteText,
    pub(crate) entries: Vec<FileEntry>,
    /// Deleted and added paths whose bytes are the same: for people, who call it a rename.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) renames: Vec<(RelativePath, RelativePath)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) skipped: Vec<Skipped>,
    /// Names in the upper tree that shared a file with another name; each became its own file.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) hard_links: u64,
    /// Times to give back to directories in which names came and went; of an inverse only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) directory_times: Vec<DirectoryTime>,
    pub(crate) pack_bytes: u64,
}

/// One path that changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Where.
    pub path: RelativePath,
    /// What was there: the base that a merge compares with. None: nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<Node>,
    /// What is to be there. None: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<Node>,
    /// Somebody changed the real one while the run was working on its copy.
    #[serde(default, skip_serializing_if = "is_false")]
    pub changed_while_running: bool,
}

/// The time of last modification that a directory had before a merge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DirectoryTime {
    /// The directory; none: the workspace itself.
    pub(crate) path: Option<RelativePath>,
    /// What the merge left; anything else means that somebody has changed the directory since.
    pub(crate) seen: FileTime,
    /// What to give back.
    pub(crate) set: FileTime,
}

/// Something the run made that a change set cannot carry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Skipped {
    /// Where, printable.
    pub path: String,
    /// Why.
    pub reason: String,
}

/// What happened to a path, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It is new.
    Added,
    /// Its bytes, or where a link leads, are others.
    Modified,
    /// It is gone.
    Deleted,
    /// It was one kind of thing and is another.
    Type,
    /// The same bytes with another mode, owner, time or extended attribute.
    Attributes,
}

/// Counts of a change set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// New paths, directories and renames included.
    pub added: u64,
    /// Paths with other bytes or of another kind.
    pub modified: u64,
    /// Paths that are gone.
    pub deleted: u64,
    /// Pairs of a deleted and an added path with the same bytes; counted above as well.
    pub renamed: u64,
    /// Paths of which only mode, owner, time or extended attributes changed.
    pub attributes: u64,
    /// Things that a change set cannot carry.
    pub skipped: u64,
    /// Names that shared a file with another name; each becomes a file of its own.
    pub hard_links: u64,
    /// Bytes stored.
    pub bytes: u64,
}

/// A stored change set cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// There is none.
    #[error("there is no change set in `{}`", .0.display())]
    Missing(PathBuf),
    /// It cannot be read.
    #[error("could not read the change set in `{}`", path.display())]
    Read {
        /// Its directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It does not parse.
    #[error("the change set in `{}` is damaged", path.display())]
    Damaged {
        /// Its directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// It is of a version that this program does not know, or does not follow its own rules.
    #[error("the change set in `{}` {rule}", path.display())]
    Rule {
        /// Its directory.
        path: PathBuf,
        /// What is wrong with it.
        rule: &'static str,
    },
}

impl HasKind for LoadError {
    fn kind(&self) -> Kind {
        match self {
            Self::Missing(_) => Kind::NotFound,
            Self::Read { .. } => Kind::Unavailable,
            Self::Damaged { .. } | Self::Rule { .. } => Kind::Invalid,
        }
    }
}

impl FileChanges {
    /// Reads the change set stored in `directory`.
    ///
    /// # Errors
    /// When there is none, or it is damaged or of an unknown version.
    pub fn load(directory: &Path) -> Result<Self, LoadError> {
        let path = directory.to_path_buf();
        let bytes = match std::fs::read(directory.join(MANIFEST)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(LoadError::Missing(path));
            }
            Err(source) => return Err(LoadError::Read { path, source }),
        };
        let manifest: Manifest = match serde_json::from_slice(&bytes) {
            Ok(manifest) => manifest,
            Err(source) => return Err(LoadError::Damaged { path, source }),
        };
        if let Some(rule) = manifest.broken_rule() {
            return Err(LoadError::Rule { path, rule });
        }
        Ok(Self {
            manifest,
            directory: path,
            digest: digest_of(&bytes),
        })
    }

    /// Stores a change set durably; `pack_bytes` have been written to its pack already.
    pub(crate) fn store(manifest: Manifest, directory: &Path) -> io::Result<Self> {
        let path = directory.join(MANIFEST);
        // A left-over of an earlier attempt that a crash cut short is replaced. Nothing is put
        // together in memory: a manifest may be long.
        let file = BufWriter::with_capacity(BUFFER_BYTES, File::create(&path)?);
        let mut hashing = Hashing {
            to: file,
            hash: blake3::Hasher::new(),
        };
        serde_json::to_writer(&mut hashing, &manifest)?;
        let file = hashing
            .to
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        // A change set without changes is not worth waiting for a disk: the ledger has its digest,
        // and were it lost, there would be nothing to lose.
        if !manifest.is_empty() {
            file.sync_data()?;
            File::open(directory)?.sync_all()?;
        }
        Ok(Self {
            manifest,
            directory: directory.to_path_buf(),
            digest: hashing.hash.finalize().to_hex().to_string(),
        })
    }

    /// BLAKE3 of the manifest, in hexadecimal. The manifest has the hash of every stored content,
    /// so this covers the pack too.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The changes, a directory right before what is in it.
    #[must_use]
    pub fn entries(&self) -> &[FileEntry] {
        &self.manifest.entries
    }

    /// The change at `path`, if there is one.
    #[must_use]
    pub fn entry(&self, path: &RelativePath) -> Option<&FileEntry> {
        let found = self
            .entries()
            .binary_search_by(|entry| entry.path.cmp(path));
        found.ok().and_then(|at| self.entries().get(at))
    }

    /// The changes at `path` and below it.
    pub(crate) fn tree<'a>(
        &'a self,
        path: &'a RelativePath,
    ) -> impl Iterator<Item = &'a FileEntry> {
        let first = self.entries().partition_point(|entry| entry.path < *path);
        let rest = self.entries().get(first..).unwrap_or_default().iter();
        rest.take_while(move |entry| entry.path == *path || entry.path.below(path).is_some())
    }

    /// Pairs of a deleted and an added path with the same bytes.
    #[must_use]
    pub fn renames(&self) -> &[(RelativePath, RelativePath)] {
        &self.manifest.renames
    }

    /// What the run made that a change set cannot carry.
    #[must_use]
    pub fn skipped(&self) -> &[Skipped] {
        &self.manifest.skipped
    }

    /// Whether there is nothing to merge.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.manifest.entries.is_empty()
    }

    /// The counts.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let count = |length: usize| u64::try_from(length).unwrap_or(u64::MAX);
        let mut summary = Summary {
            renamed: count(self.manifest.renames.len()),
            skipped: count(self.manifest.skipped.len()),
            hard_links: self.manifest.hard_links,
            bytes: self.manifest.pack_bytes,
            ..Summary::default()
        };
        for entry in &self.manifest.entries {
            *match entry.change() {
                Change::Added => &mut summary.added,
                Change::Modified | Change::Type => &mut summary.modified,
                Change::Deleted => &mut summary.deleted,
                Change::Attributes => &mut summary.attributes,
            } += 1;
        }
        summary
    }

    /// The pack, for reading.
    pub(crate) fn open_pack(&self) -> io::Result<File> {
        File::open(self.directory.join(PACK))
    }
}

/// Creates the pack of a change set that is about to be stored.
pub(crate) fn create_pack(directory: &Path) -> io::Result<File> {
    File::create(directory.join(PACK))
}

/// Removes what was written of a change set that could not be finished, as far as that is possible:
/// it may be what has filled the disk, and how the run ended is still to be written.
pub(crate) fn forget(directory: &Path) {
    for name in [PACK, MANIFEST] {
        let _best_effort = std::fs::remove_file(directory.join(name));
    }
}

/// Hashes what it writes.
struct Hashing<W> {
    to: W,
    hash: blake3::Hasher,
}

impl<W: io::Write> io::Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.hash.update(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

fn digest_of(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

impl Manifest {
    pub(crate) const fn new(workspace: ByteText) -> Self {
        Self {
            version: VERSION,
            workspace,
            entries: Vec::new(),
            renames: Vec::new(),
            skipped: Vec::new(),
            hard_links: 0,
            directory_times: Vec::new(),
            pack_bytes: 0,
        }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.skipped.is_empty()
    }

    /// The rule that a parsed manifest breaks, if any.
    fn broken_rule(&self) -> Option<&'static str> {
        if !(VERSION_MIN..=VERSION).contains(&self.version) {
            return Some("is of a version that this program does not know");
        }
        let mut pairs = self.entries.iter().zip(self.entries.iter().skip(1));
        if !pairs.all(|(one, next)| one.path < next.path) {
            return Some("is not sorted");
        }
        let is_whole = |entry: &FileEntry| entry.old.is_some() || entry.new.is_some();
        if !self.entries.iter().all(is_whole) {
            return Some("has an entry with neither an old nor a new side");
        }
        let can_be_made = |node: &Node| match node.kind {
            NodeKind::File => node.content.as_ref().is_some_and(|c| c.offset.is_some()),
            NodeKind::Symlink => node.target.is_some(),
            NodeKind::Directory | NodeKind::Fifo => true,
            NodeKind::Socket | NodeKind::Device => false,
        };
        let entries = self.entries.iter();
        let mut made = entries.filter(|entry| entry.change() != Change::Attributes);
        if !made.all(|entry| entry.new.as_ref().is_none_or(can_be_made)) {
            return Some("has an entry whose content is missing");
        }
        None
    }
}

impl FileEntry {
    /// What happened, in one word.
    #[must_use]
    pub fn change(&self) -> Change {
        match (&self.old, &self.new) {
            (None, _) => Change::Added,
            (_, None) => Change::Deleted,
            (Some(old), Some(new)) if old.kind != new.kind => Change::Type,
            (Some(old), Some(new)) if old.target != new.target => Change::Modified,
            // The content of the new side is stored exactly when it differs from the old one.
            (_, Some(new)) if new.content.as_ref().is_some_and(|c| c.offset.is_some()) => {
                Change::Modified
            }
            _ => Change::Attributes,
        }
    }

    /// Why merging this would hand out more power than a file has, if it would.
    #[must_use]
    pub fn danger(&self) -> Option<&'static str> {
        let new = self.new.as_ref().filter(|new| new.kind == NodeKind::File)?;
        let old = self.old.as_ref().filter(|old| old.kind == NodeKind::File);
        let is_same_program = self.change() == Change::Attributes;
        let set_id = |node: &Node| node.mode & 0o6000;
        let had = old.map_or(0, set_id);
        if set_id(new) != 0 && !(is_same_program && had == set_id(new)) {
            return Some("it would run with its owner's rights (set-user-id or set-group-id)");
        }
        let capability = |node: &Node| {
            let mut found = node.xattrs.iter();
            found
                .find(|(name, _)| name.0 == CAPABILITY)
                .map(|(_, value)| value.clone())
        };
        let power = capability(new)?;
        let had_it = is_same_program && old.and_then(capability) == Some(power);
        (!had_it).then_some("it would run with capabilities (security.capability)")
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde asks with a reference"
)]
const fn is_false(value: &bool) -> bool {
    !*value
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde asks with a reference"
)]
const fn is_zero(value: &u64) -> bool {
    *value == 0
}
