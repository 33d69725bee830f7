//! A stored change set of files: `files.json` up to the first zero byte, `files.pack` after it.
//! Shown against an empty workspace.

use std::fs;
use std::io;

use belljar_branch::Workspace;
use belljar_branch::engine::files::{FileChanges, StyledLine};

use super::scratch;

pub(crate) fn enter(bytes: &[u8]) -> io::Result<()> {
    let mut parts = bytes.splitn(2, |byte| *byte == 0);
    let directory = scratch::directory()?;
    let at = |name: &str| directory.path().join(name);
    fs::write(at("files.json"), parts.next().unwrap_or_default())?;
    fs::write(at("files.pack"), parts.next().unwrap_or_default())?;
    let Ok(changes) = FileChanges::load(directory.path()) else {
        return Ok(());
    };
    // What lies in memory is below a directory of the system, which no workspace may be.
    let place = tempfile::tempdir()?;
    let workspace = Workspace::open(place.path(), None).map_err(io::Error::other)?;
    look(&changes, &workspace);
    Ok(())
}

fn look(changes: &FileChanges, workspace: &Workspace) {
    let summary = changes.summary();
    assert!(
        changes.is_empty() || summary.added + summary.modified + summary.deleted <= count(changes)
    );
    changes.overview().iter().for_each(is_printable);
    for entry in changes.entries() {
        assert_eq!(changes.entry(&entry.path), Some(entry));
    }
    // An old side that cannot be shown or a pack that is too short is an answer.
    for diff in changes.diffs(workspace, &[]).flatten() {
        diff.unified().iter().for_each(is_printable);
    }
}

fn count(changes: &FileChanges) -> u64 {
    u64::try_from(changes.entries().len()).unwrap_or(u64::MAX)
}

/// Nothing that a run wrote may move a cursor.
fn is_printable(line: &StyledLine) {
    let acts = |c: char| c.is_control() && c != '\t';
    assert!(!line.text.contains(acts), "{:?}", line.text);
}
