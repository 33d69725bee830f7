//! Shows a change set: what was and what is to be, as structured hunks that a program can read and
//! a terminal can colour. Nothing that a run wrote reaches a terminal as it is.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use similar::{Algorithm, DiffOp, DiffTag};

use super::change::{Change, FileChanges, FileEntry};
use super::content::{self, Content};
use super::node::{self, Node};
use super::text::{RelativePath, visible};
use super::tree::{self, NodeKind};
use crate::Workspace;

/// Files up to this size are compared line by line.
const TEXT_BYTES_MAX: u64 = 4 << 20;
/// How long finding the shortest difference of one file may take; then a longer one is shown.
const SEARCH_MILLIS_MAX: u64 = 250;
/// A file with a zero byte in its first bytes is binary, as git has it.
const BINARY_PROBE_BYTES: usize = 8000;
const CONTEXT_LINES: usize = 3;

/// One changed path, ready to be shown. Every text in it is printable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileDiff {
    /// Where it is (a rename: where it is now).
    pub path: String,
    /// Where it was, of a rename.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renamed_from: Option<String>,
    /// What happened.
    pub change: Change,
    /// Kind and mode before, as git writes it: `100644`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_mode: Option<String>,
    /// Kind and mode after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_mode: Option<String>,
    /// What a reviewer should know besides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// The contents.
    pub body: DiffBody,
}

/// The contents of both sides, as far as they can be shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum DiffBody {
    /// There is nothing to show: no content, or the same.
    Nothing,
    /// Lines.
    Text {
        /// Runs of changed lines with their surroundings.
        hunks: Vec<Hunk>,
    },
    /// Not text, or too long to compare line by line.
    Sizes {
        /// Not text.
        binary: bool,
        /// Bytes before.
        old: u64,
        /// Bytes after.
        new: u64,
    },
    /// The real file is not what the run started from any more, so there is no old side to show.
    ChangedUnderneath,
}

/// A run of changed lines with its surroundings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hunk {
    /// First line and number of lines before.
    pub old: (usize, usize),
    /// First line and number of lines after.
    pub new: (usize, usize),
    /// The lines.
    pub lines: Vec<Line>,
}

/// One line of a hunk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Which side it is on.
    pub side: Side,
    /// The line without its end, printable.
    pub text: String,
    /// The file ends here without an end of line.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_newline: bool,
}

/// Which side a line is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Both.
    Context,
    /// Before only.
    Removed,
    /// After only.
    Added,
}

impl FileChanges {
    /// Shows the change set path by path, against `workspace` as it is now. With `only`, just the
    /// paths that are one of these or below one of these. A renamed pair is one answer.
    pub fn diffs<'a>(
        &'a self,
        workspace: &'a Workspace,
        only: &'a [RelativePath],
    ) -> impl Iterator<Item = io::Result<FileDiff>> + 'a {
        let wanted = move |path: &RelativePath| {
            only.is_empty()
                || only
                    .iter()
                    .any(|only| path == only || path.below(only).is_some())
        };
        let sources: HashSet<_> = self.renames().iter().map(|(from, _)| from).collect();
        let targets: HashMap<_, _> = self.renames().iter().map(|(from, to)| (to, from)).collect();
        let source_of = move |entry: &FileEntry| self.entry(targets.get(&entry.path)?);
        let mut pack = None;
        self.entries()
            .iter()
            .filter(move |entry| wanted(&entry.path) && !sources.contains(&entry.path))
            .map(move |entry| {
                if pack.is_none() {
                    pack = self.open_pack().ok();
                }
                show(entry, source_of(entry), workspace, pack.as_ref())
            })
    }
}

fn show(
    entry: &FileEntry,
    renamed_from: Option<&FileEntry>,
    workspace: &Workspace,
    pack: Option<&File>,
) -> io::Result<FileDiff> {
    let body = match renamed_from {
        Some(_) => DiffBody::Nothing,
        None => body(entry, workspace, pack)?,
    };
    let before = renamed_from.unwrap_or(entry).old.as_ref();
    let modes = (before.map(mode), entry.new.as_ref().map(mode));
    let (old_mode, new_mode) = if modes.0 == modes.1 {
        (None, None)
    } else {
        modes
    };
    Ok(FileDiff {
        path: entry.path.visible(),
        renamed_from: renamed_from.map(|from| from.path.visible()),
        change: entry.change(),
        old_mode,
        new_mode,
        notes: notes(entry),
        body,
    })
}

/// Kind and mode as git writes them.
fn mode(node: &Node) -> String {
    let kind = match node.kind {
        NodeKind::File => 0o100_000,
        NodeKind::Directory => 0o040_000,
        NodeKind::Symlink => 0o120_000,
        NodeKind::Fifo => 0o010_000,
        NodeKind::Socket => 0o140_000,
        NodeKind::Device => 0o020_000,
    };
    let bits = if node.kind == NodeKind::Symlink {
        0
    } else {
        node.mode
    };
    format!("{:06o}", kind | bits)
}

fn notes(entry: &FileEntry) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(danger) = entry.danger() {
        notes.push(format!("dangerous: {danger}"));
    }
    if entry.changed_while_running {
        notes.push("the real one was changed while the run was working".to_owned());
    }
    let (Some(old), Some(new)) = (&entry.old, &entry.new) else {
        return notes;
    };
    if let (Some(before), Some(after)) = (old.owner, new.owner)
        && before != after
    {
        notes.push(format!(
            "owner {}:{} → {}:{}",
            before.0, before.1, after.0, after.1
        ));
    }
    if entry.change() == Change::Attributes && old.mtime != new.mtime && new.kind == NodeKind::File
    {
        notes.push("time of last modification".to_owned());
    }
    let names = old.xattrs.keys().chain(
        new.xattrs
            .keys()
            .filter(|name| !old.xattrs.contains_key(name)),
    );
    for name in names.filter(|name| old.xattrs.get(name) != new.xattrs.get(name)) {
        notes.push(format!("extended attribute `{}`", visible(&name.0)));
    }
    notes
}

/// What a side of a diff has.
enum Text {
    Bytes(Vec<u8>),
    TooLong,
    Unknown,
}

fn body(entry: &FileEntry, workspace: &Workspace, pack: Option<&File>) -> io::Result<DiffBody> {
    if matches!(entry.change(), Change::Attributes) {
        return Ok(DiffBody::Nothing);
    }
    let size = |node: &Option<Node>| node.as_ref().map_or(0, |node| node.size);
    let (old_size, new_size) = (size(&entry.old), size(&entry.new));
    let sizes = |binary| DiffBody::Sizes {
        binary,
        old: old_size,
        new: new_size,
    };
    // A page of zeros makes a file binary wherever it is. That also keeps what is shown in proportion
    // to what is stored: holes cost nothing.
    let content = entry.new.as_ref().and_then(|new| new.content.as_ref());
    let stored = content.map(Content::stored_bytes);
    if stored.is_some_and(|stored| stored < new_size) {
        return Ok(sizes(true));
    }
    let old = match &entry.old {
        Some(old) => old_text(&entry.path, old, workspace)?,
        None => Text::Bytes(Vec::new()),
    };
    let new = match &entry.new {
        Some(new) => new_text(new, pack)?,
        None => Text::Bytes(Vec::new()),
    };
    Ok(match (old, new) {
        (Text::Unknown, _) | (_, Text::Unknown) => DiffBody::ChangedUnderneath,
        (Text::TooLong, _) | (_, Text::TooLong) => sizes(false),
        (Text::Bytes(old), Text::Bytes(new)) if is_binary(&old) || is_binary(&new) => sizes(true),
        (Text::Bytes(old), Text::Bytes(new)) => match hunks(&old, &new) {
            hunks if hunks.is_empty() => DiffBody::Nothing,
            hunks => DiffBody::Text { hunks },
        },
    })
}

/// The old side is the real file, as long as it is what the run started from.
fn old_text(path: &RelativePath, old: &Node, workspace: &Workspace) -> io::Result<Text> {
    if old.size > TEXT_BYTES_MAX {
        return Ok(Text::TooLong);
    }
    if let Some(target) = &old.target {
        return Ok(Text::Bytes(target.0.clone()));
    }
    if old.kind != NodeKind::File {
        return Ok(Text::Bytes(Vec::new()));
    }
    let live = node::read_path(workspace.root(), path)?;
    if live.is_none_or(|live| live.identity != old.identity || live.size != old.size) {
        return Ok(Text::Unknown);
    }
    let (parent, name) = tree::open_parent(workspace.root(), path)?;
    let mut file = tree::open_file(parent.as_fd(), name)?;
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(&mut file, TEXT_BYTES_MAX), &mut bytes)?;
    Ok(Text::Bytes(bytes))
}

fn new_text(new: &Node, pack: Option<&File>) -> io::Result<Text> {
    if new.size > TEXT_BYTES_MAX {
        return Ok(Text::TooLong);
    }
    match (&new.target, &new.content) {
        (Some(target), _) => Ok(Text::Bytes(target.0.clone())),
        (None, Some(content)) if !content.runs.is_empty() => {
            let size = usize::try_from(new.size).unwrap_or(0);
            let pack = pack.ok_or(io::ErrorKind::NotFound)?;
            content::unpack_to_memory(pack, content, size).map(Text::Bytes)
        }
        (None, _) => Ok(Text::Bytes(vec![0; usize::try_from(new.size).unwrap_or(0)])),
    }
}

fn is_binary(bytes: &[u8]) -> bool {
    bytes.iter().take(BINARY_PROBE_BYTES).any(|byte| *byte == 0)
}

fn hunks(old: &[u8], new: &[u8]) -> Vec<Hunk> {
    let old: Vec<&[u8]> = old.split_inclusive(|byte| *byte == b'\n').collect();
    let new: Vec<&[u8]> = new.split_inclusive(|byte| *byte == b'\n').collect();
    let deadline = Instant::now() + Duration::from_millis(SEARCH_MILLIS_MAX);
    let ops = similar::capture_diff_slices_deadline(Algorithm::Myers, &old, &new, Some(deadline));
    let groups = similar::group_diff_ops(ops, CONTEXT_LINES);
    groups.iter().map(|ops| hunk(ops, &old, &new)).collect()
}

fn hunk(ops: &[DiffOp], old: &[&[u8]], new: &[&[u8]]) -> Hunk {
    let mut lines = Vec::new();
    let mut push = |side, from: &[&[u8]]| lines.extend(from.iter().map(|bytes| line(side, bytes)));
    for op in ops {
        let before = old.get(op.old_range()).unwrap_or_default();
        let after = new.get(op.new_range()).unwrap_or_default();
        match op.tag() {
            DiffTag::Equal => push(Side::Context, before),
            DiffTag::Delete => push(Side::Removed, before),
            DiffTag::Insert => push(Side::Added, after),
            DiffTag::Replace => {
                push(Side::Removed, before);
                push(Side::Added, after);
            }
        }
    }
    let start = |range: Option<std::ops::Range<usize>>| range.map_or(0, |range| range.start);
    let end = |range: Option<std::ops::Range<usize>>| range.map_or(0, |range| range.end);
    let span = |range: fn(&DiffOp) -> std::ops::Range<usize>| {
        let (first, last) = (start(ops.first().map(range)), end(ops.last().map(range)));
        // A side without lines is said to be after the line before it.
        (if last == first { first } else { first + 1 }, last - first)
    };
    Hunk {
        old: span(DiffOp::old_range),
        new: span(DiffOp::new_range),
        lines,
    }
}

fn line(side: Side, bytes: &[u8]) -> Line {
    let text = bytes.strip_suffix(b"\n");
    Line {
        side,
        text: visible_line(text.unwrap_or(bytes)),
        no_newline: text.is_none(),
    }
}

/// As [`visible`], but tabs stay: they are what many files are indented with.
fn visible_line(bytes: &[u8]) -> String {
    let parts: Vec<String> = bytes.split(|byte| *byte == b'\t').map(visible).collect();
    parts.join("\t")
}
