//! The doors through which bytes that somebody else wrote come in, one function each for the fuzz
//! target of the same name. A door that does not hold panics; an answer, however harsh, is fine.
#![forbid(unsafe_code)]

use std::io;

#[path = "../doors/scratch.rs"]
mod scratch; // directories that are gone afterwards
#[path = "../doors/patch.rs"]
mod patch; // small changes to good bytes
#[path = "../doors/frame.rs"]
mod frame_door; // guest → supervisor
#[path = "../doors/sqlite_branch.rs"]
mod sqlite_branch_door; // what a run leaves where its database was
#[path = "../doors/change_set.rs"]
mod change_set_door; // a stored change set of files
#[path = "../doors/row_changes.rs"]
mod row_changes_door; // a stored change set of a database
#[path = "../doors/ledger.rs"]
mod ledger_door; // the ledger's files
#[path = "../doors/run_id_and_names.rs"]
mod run_id_and_names_door; // words that become ids and names

/// Frames between the guest and the supervisor.
pub fn frame(bytes: &[u8]) {
    held(frame_door::enter(bytes));
}

/// A database, its write-ahead log and its rollback journal, as a run left them.
pub fn sqlite_branch(bytes: &[u8]) {
    held(sqlite_branch_door::enter(bytes));
}

/// The stored change set of a workspace.
pub fn change_set(bytes: &[u8]) {
    held(change_set_door::enter(bytes));
}

/// The stored change set of a database.
pub fn row_changes(bytes: &[u8]) {
    held(row_changes_door::enter(bytes));
}

/// The files of a ledger, or of an export.
pub fn ledger(bytes: &[u8]) {
    held(ledger_door::enter(bytes));
}

/// Words that become run ids and names.
pub fn run_id_and_names(bytes: &[u8]) {
    held(run_id_and_names_door::enter(bytes));
}

fn held(entered: io::Result<()>) {
    assert!(entered.is_ok(), "the scratch directory: {entered:?}");
}
