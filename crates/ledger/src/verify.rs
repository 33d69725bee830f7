//! Verification: recomputes every hash of a ledger, or of an export, and says where it is not what
//! was signed. Reads files alone; needs no key but the public one.
//!
//! What this can find depends on what is held elsewhere. Whoever has the private key can write
//! another history from some record on; only a checkpoint that was kept out of their reach tells.

mod export; // the tlog-tiles layout
mod live; // the ledger's own files

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use belljar_base::{HasKind, Kind};
use serde::Deserialize;

use crate::ledger::VERIFIER_KEY;
use crate::log::CHECKPOINT;
use crate::merkle::{Frontier, Hash};
use crate::note::{Checkpoint, NoteError, Verifier};
use crate::record::VERSION;

/// What the verifier knows from elsewhere.
#[derive(Clone, Debug, Default)]
pub struct Held {
    /// The ledger's key; without it, the one beside the ledger is believed.
    pub key: Option<Verifier>,
    /// Signed checkpoints that were kept: each must be of a beginning of the ledger.
    pub checkpoints: Vec<String>,
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Report {
    /// How many records there are, up to the first place that cannot be read.
    pub records: u64,
    /// The root of their tree.
    pub root: Hash,
    /// The key that the signatures were checked with.
    pub key: String,
    /// What is wrong. Empty is the only good answer.
    pub findings: Vec<Finding>,
    /// Where an unacknowledged write was left half done; the next opening cuts it off.
    pub unfinished: Option<String>,
}

/// What sort of thing is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Bytes are not what they were.
    Altered,
    /// A record or file is not in its place: swapped, inserted, or something before it removed.
    Misplaced,
    /// A file is not there.
    Missing,
    /// Records that were signed are missing from the end.
    Short,
    /// Other records were signed than these.
    OtherHistory,
    /// A signature is missing, does not hold, or is by another key.
    Signature,
}

/// Something wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What sort.
    pub what: What,
    /// The file, relative to the verified directory.
    pub file: PathBuf,
    /// The byte in the file.
    pub offset: Option<u64>,
    /// The record that is, or should be, there.
    pub seq: Option<u64>,
    /// A sentence.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what.as_str(), self.file.display())?;
        if let Some(offset) = self.offset {
            write!(f, ", offset {offset}")?;
        }
        if let Some(seq) = self.seq {
            write!(f, ", record {seq}")?;
        }
        write!(f, ": {}", self.text)
    }
}

impl What {
    /// The word for scripts.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Altered => "altered",
            Self::Misplaced => "misplaced",
            Self::Missing => "missing",
            Self::Short => "short",
            Self::OtherHistory => "other_history",
            Self::Signature => "signature",
        }
    }
}

impl Finding {
    fn new(what: What, file: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        Self {
            what,
            file: file.into(),
            offset: None,
            seq: None,
            text: text.into(),
        }
    }

    fn at(mut self, offset: u64, seq: u64) -> Self {
        self.offset = Some(offset);
        self.seq = Some(seq);
        self
    }
}

/// There is nothing to verify, or it cannot be read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum VerifyError {
    /// A file cannot be read.
    #[error("could not read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The answer.
        #[source]
        source: Arc<io::Error>,
    },
    /// Neither segments nor tiles.
    #[error("`{}` is neither a ledger nor an export of one", .0.display())]
    NotALedger(PathBuf),
    /// No key was given and there is none beside the ledger.
    #[error("there is no good key in `{}`; give the ledger's public key with `--key`", .0.display())]
    NoKey(PathBuf),
    /// A held checkpoint is not one of this ledger.
    #[error("the given checkpoint cannot be used")]
    Held(#[source] NoteError),
}

impl HasKind for VerifyError {
    fn kind(&self) -> Kind {
        match self {
            Self::Read { source, .. } => crate::error::io_kind(source),
            Self::NotALedger(_) => Kind::NotFound,
            Self::NoKey(_) | Self::Held(_) => Kind::Invalid,
        }
    }
}

/// Verifies the ledger, or the export, in `dir`.
///
/// # Errors
/// When there is nothing that could be verified. What is wrong with a ledger is in the report.
pub fn verify(dir: &Path, held: &Held) -> Result<Report, VerifyError> {
    let listed = fs::read_dir(dir).map_err(unreadable(dir))?;
    drop(listed);
    let mut context = Context::new(dir, held)?;
    if dir.join("tile").is_dir() {
        export::verify(&mut context)?;
    } else {
        live::verify(&mut context)?;
    }
    Ok(context.report)
}

/// A checkpoint to be compared while the tree grows.
#[derive(Clone, Debug)]
struct Anchor {
    size: u64,
    root: Hash,
    /// Where it is from.
    name: &'static str,
}

/// What is known before the records are read, and what was found since.
struct Context<'a> {
    dir: &'a Path,
    key: Verifier,
    anchors: Vec<Anchor>,
    report: Report,
}

const GIVEN: &str = "the given checkpoint";

impl<'a> Context<'a> {
    fn new(dir: &'a Path, held: &Held) -> Result<Self, VerifyError> {
        let beside = fs::read_to_string(dir.join(VERIFIER_KEY)).ok();
        let beside = beside.and_then(|text| text.parse::<Verifier>().ok());
        let mut findings = Vec::new();
        let key = match (&held.key, beside) {
            (Some(key), Some(beside)) if *key != beside => {
                let text = format!("the ledger has the key `{beside}`, not the one given");
                findings.push(Finding::new(What::Signature, VERIFIER_KEY, text));
                key.clone()
            }
            (Some(key), None) => {
                let text = "there is no good key beside the ledger";
                findings.push(Finding::new(What::Missing, VERIFIER_KEY, text));
                key.clone()
            }
            (Some(key), Some(_)) => key.clone(),
            (None, Some(beside)) => beside,
            (None, None) => return Err(VerifyError::NoKey(dir.to_owned())),
        };
        let mut anchors = Vec::new();
        for note in &held.checkpoints {
            let checkpoint = Checkpoint::open(note, &key).map_err(VerifyError::Held)?;
            anchors.push(Anchor::new(&checkpoint, GIVEN));
        }
        let note = fs::read_to_string(dir.join(CHECKPOINT)).unwrap_or_default();
        match Checkpoint::open(&note, &key) {
            Ok(checkpoint) => anchors.push(Anchor::new(&checkpoint, CHECKPOINT)),
            Err(error) => {
                let text = error.to_string();
                findings.push(Finding::new(What::Signature, CHECKPOINT, text));
            }
        }
        let report = Report {
            records: 0,
            root: Frontier::default().root(),
            key: key.to_string(),
            findings,
            unfinished: None,
        };
        Ok(Self {
            dir,
            key,
            anchors,
            report,
        })
    }

    fn found(&mut self, finding: Finding) {
        self.report.findings.push(finding);
    }

    /// The tree is complete: nothing that was signed may be larger.
    fn end(&mut self, tree: &Frontier) {
        self.report.records = tree.size();
        self.report.root = tree.root();
        let larger = self
            .anchors
            .iter()
            .filter(|anchor| anchor.size > tree.size());
        let findings: Vec<_> = larger
            .map(|anchor| {
                let text = format!(
                    "{} says {} records, there are {}",
                    anchor.name,
                    anchor.size,
                    tree.size()
                );
                Finding::new(What::Short, anchor.file(), text)
            })
            .collect();
        self.report.findings.extend(findings);
    }
}

impl Anchor {
    fn new(checkpoint: &Checkpoint, name: &'static str) -> Self {
        Self {
            size: checkpoint.size,
            root: checkpoint.root,
            name,
        }
    }

    fn file(&self) -> &'static str {
        if self.name == GIVEN {
            CHECKPOINT
        } else {
            self.name
        }
    }

    /// Compares the tree when it has this anchor's size.
    fn check(&self, tree: &Frontier) -> Option<Finding> {
        let differs = self.size == tree.size() && self.root != tree.root();
        differs.then(|| {
            let text = format!("{} of {} records is of others", self.name, self.size);
            Finding::new(What::OtherHistory, self.file(), text)
        })
    }
}

/// The fields that chain a record to the one before.
#[derive(Deserialize)]
struct Chain<'a> {
    v: u64,
    seq: u64,
    prev: &'a str,
}

/// What is wrong with a record whose bytes are sound, as number `seq` after a leaf `last`.
fn check_chain(record: &[u8], seq: u64, last: &Hash) -> Option<(What, String)> {
    let Ok(chain) = serde_json::from_slice::<Chain<'_>>(record) else {
        return Some((What::Altered, "the record does not parse".to_owned()));
    };
    if chain.v != VERSION {
        return Some((What::Altered, format!("the record has version {}", chain.v)));
    }
    if chain.seq != seq {
        let text = format!("the record here says that it is record {}", chain.seq);
        return Some((What::Misplaced, text));
    }
    if chain.prev.as_bytes() != last.to_hex() {
        let text = "the record does not follow the one before".to_owned();
        return Some((What::Misplaced, text));
    }
    None
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> VerifyError {
    let path = path.to_owned();
    move |error| VerifyError::Read {
        path,
        source: Arc::new(error),
    }
}
