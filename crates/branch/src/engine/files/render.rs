//! Writes a diff as people know it: a unified diff with git's headers, and a short overview.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;

use super::change::{Change, FileChanges, FileEntry};
use super::diff::{DiffBody, FileDiff, Hunk, Side};
use super::text::{RelativePath, visible};
use super::tree::NodeKind;

/// A line of text and what it is, so that a terminal can colour it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StyledLine {
    /// What it is.
    pub style: LineStyle,
    /// The line, printable, without its end.
    pub text: String,
}

/// What a line of a shown diff is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineStyle {
    /// Which path, and what happened to it.
    Header,
    /// Where a hunk is.
    Place,
    /// On both sides.
    Context,
    /// Before only.
    Removed,
    /// After only.
    Added,
    /// A remark.
    Note,
    /// A remark to be taken seriously.
    Warning,
}

/// More deleted or added paths than this below one directory are one line of an overview.
const TREE_PATHS_MAX: usize = 8;

impl FileDiff {
    /// The diff as lines.
    #[must_use]
    pub fn unified(&self) -> Vec<StyledLine> {
        let mut lines = self.headers();
        for note in &self.notes {
            let style = match note.starts_with("dangerous") || note.starts_with("the real one") {
                true => LineStyle::Warning,
                false => LineStyle::Note,
            };
            lines.push(styled(style, format!("# {note}")));
        }
        match &self.body {
            DiffBody::Nothing => {}
            DiffBody::Sizes { binary, old, new } => {
                let what = if *binary { "Binary" } else { "Large" };
                let (old, new) = (size(*old), size(*new));
                let text = format!("{what} files differ ({old} → {new})");
                lines.push(styled(LineStyle::Note, text));
            }
            DiffBody::ChangedUnderneath => {
                let text = "# changed underneath since the run: the old side cannot be shown";
                lines.push(styled(LineStyle::Warning, text));
            }
            DiffBody::Text { hunks } => {
                lines.extend(self.sides());
                hunks.iter().for_each(|hunk| push_hunk(&mut lines, hunk));
            }
        }
        lines
    }

    fn headers(&self) -> Vec<StyledLine> {
        let from = self.renamed_from.as_ref().unwrap_or(&self.path);
        let mut texts = vec![format!("diff --git a/{from} b/{}", self.path)];
        match (self.change, &self.old_mode, &self.new_mode) {
            (Change::Added, None, Some(mode)) => texts.push(format!("new file mode {mode}")),
            (Change::Deleted, Some(mode), None) => texts.push(format!("deleted file mode {mode}")),
            (_, Some(old), Some(new)) => {
                texts.push(format!("old mode {old}"));
                texts.push(format!("new mode {new}"));
            }
            _ => {}
        }
        if let Some(from) = &self.renamed_from {
            texts.push(format!("rename from {from}"));
            texts.push(format!("rename to {}", self.path));
        }
        texts
            .into_iter()
            .map(|text| styled(LineStyle::Header, text))
            .collect()
    }

    fn sides(&self) -> [StyledLine; 2] {
        let side = |prefix, gone| match gone {
            true => "/dev/null".to_owned(),
            false => format!("{prefix}/{}", self.path),
        };
        let (old, new) = (self.change == Change::Added, self.change == Change::Deleted);
        [
            styled(LineStyle::Header, format!("--- {}", side("a", old))),
            styled(LineStyle::Header, format!("+++ {}", side("b", new))),
        ]
    }

    /// Lines added and removed.
    #[must_use]
    pub fn line_counts(&self) -> (usize, usize) {
        let DiffBody::Text { hunks } = &self.body else {
            return (0, 0);
        };
        let count = |side| {
            let lines = hunks.iter().flat_map(|hunk| &hunk.lines);
            lines.filter(|line| line.side == side).count()
        };
        (count(Side::Added), count(Side::Removed))
    }
}

fn push_hunk(lines: &mut Vec<StyledLine>, hunk: &Hunk) {
    let span = |(first, count): (usize, usize)| match count {
        1 => format!("{first}"),
        _ => format!("{first},{count}"),
    };
    let text = format!("@@ -{} +{} @@", span(hunk.old), span(hunk.new));
    lines.push(styled(LineStyle::Place, text));
    for line in &hunk.lines {
        let (style, mark) = match line.side {
            Side::Context => (LineStyle::Context, ' '),
            Side::Removed => (LineStyle::Removed, '-'),
            Side::Added => (LineStyle::Added, '+'),
        };
        lines.push(styled(style, format!("{mark}{}", line.text)));
        if line.no_newline {
            lines.push(styled(LineStyle::Note, "\\ No newline at end of file"));
        }
    }
}

impl FileChanges {
    /// An overview, one line per path; a directory with many paths added or deleted in it is one
    /// line. Reads no contents.
    #[must_use]
    pub fn overview(&self) -> Vec<StyledLine> {
        let trees = self.large_trees();
        let is_hidden = |change, path: &RelativePath| {
            // Only the last tree before a path, in order, can have it inside.
            let before = trees.range(..(change, path.clone())).next_back();
            before.is_some_and(|((of, tree), _)| *of == change && path.below(tree).is_some())
        };
        let is_shown = |(from, to): &&(RelativePath, RelativePath)| {
            !is_hidden(Change::Deleted, from) && !is_hidden(Change::Added, to)
        };
        let renames: Vec<_> = self.renames().iter().filter(is_shown).collect();
        let sources: HashSet<_> = renames.iter().map(|(from, _)| from).collect();
        let targets: HashMap<_, _> = renames.iter().map(|(from, to)| (to, from)).collect();
        let mut lines = Vec::new();
        for entry in self.entries() {
            let change = entry.change();
            if let Some(from) = targets.get(&entry.path) {
                let text = format!("R {} → {}", from.visible(), entry.path.visible());
                lines.push(styled(LineStyle::Context, text));
            } else if let Some((count, bytes)) = trees.get(&(change, entry.path.clone())) {
                let text = format!(
                    "{}/ ({count} paths, {})",
                    entry.path.visible(),
                    size(*bytes)
                );
                lines.push(overview_line(change, &text));
            } else if !sources.contains(&entry.path) && !is_hidden(change, &entry.path) {
                lines.push(overview_line(change, &describe(entry)));
            }
        }
        for skipped in self.skipped() {
            let (path, reason) = (&skipped.path, &skipped.reason);
            let (path, reason) = (visible(path.as_bytes()), visible(reason.as_bytes()));
            let text = format!("! {path} is left out: {reason}");
            lines.push(styled(LineStyle::Warning, text));
        }
        lines
    }

    /// Outermost directories that came or went with many paths in them: how many, and their bytes.
    fn large_trees(&self) -> BTreeMap<(Change, RelativePath), (usize, u64)> {
        let mut trees = BTreeMap::new();
        let mut outer: Option<((Change, RelativePath), (usize, u64))> = None;
        for entry in self.entries() {
            let side = entry.new.as_ref().or(entry.old.as_ref());
            let bytes = side.map_or(0, |node| node.size);
            match &mut outer {
                Some(((change, path), (count, sum))) if entry.path.below(path).is_some() => {
                    if *change == entry.change() {
                        *count += 1;
                        *sum += bytes;
                    }
                }
                _ => {
                    trees.extend(outer.take());
                    let comes_or_goes = matches!(entry.change(), Change::Added | Change::Deleted);
                    if comes_or_goes && side.is_some_and(|node| node.kind == NodeKind::Directory) {
                        outer = Some(((entry.change(), entry.path.clone()), (0, 0)));
                    }
                }
            }
        }
        trees.extend(outer);
        trees.retain(|_, (count, _)| *count > TREE_PATHS_MAX);
        trees
    }
}

fn overview_line(change: Change, text: &str) -> StyledLine {
    let (style, mark) = match change {
        Change::Added => (LineStyle::Added, 'A'),
        Change::Deleted => (LineStyle::Removed, 'D'),
        Change::Modified => (LineStyle::Context, 'M'),
        Change::Type => (LineStyle::Context, 'T'),
        Change::Attributes => (LineStyle::Context, 'P'),
    };
    styled(style, format!("{mark} {text}"))
}

fn describe(entry: &FileEntry) -> String {
    let mut text = entry.path.visible();
    let node = entry.new.as_ref().or(entry.old.as_ref());
    // Writing to a string does not fail.
    let _ok = match (&entry.old, &entry.new) {
        (Some(old), Some(new)) if entry.change() == Change::Modified && old.size != new.size => {
            write!(text, " ({} → {})", size(old.size), size(new.size))
        }
        _ => match node.map(|node| node.kind) {
            Some(NodeKind::Directory) => write!(text, "/"),
            Some(NodeKind::File) => write!(text, " ({})", size(node.map_or(0, |node| node.size))),
            _ => Ok(()),
        },
    };
    if entry.danger().is_some() {
        text.push_str(" (dangerous)");
    }
    text
}

/// Bytes for people.
fn size(bytes: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    match units.iter().find(|(shift, _)| bytes >> shift > 0) {
        None => format!("{bytes} B"),
        Some((shift, unit)) => {
            let tenths = (u128::from(bytes) * 10) >> shift;
            match (tenths / 10, tenths % 10) {
                (whole, 0) => format!("{whole} {unit}"),
                (whole, tenth) => format!("{whole}.{tenth} {unit}"),
            }
        }
    }
}

fn styled(style: LineStyle, text: impl Into<String>) -> StyledLine {
    let text = text.into();
    StyledLine { style, text }
}
