//! Branches, change sets, merge and revert. Turns what a run wrote into a change set that can be
//! read, made real all-or-nothing, and undone. It starts no process and mounts nothing.
#![forbid(unsafe_code)]

mod journal; // how far the deeds on a run have got
mod lock; // one merge at a time
mod workspace; // the directory a run works on
pub mod engine; // one engine per kind of thing that is branched: files, sqlite
pub mod merge; // a change set made real over all of them, or not at all

pub use merge::{BranchState, MergeError, MergeReport, Recovery};
pub use workspace::{Workspace, WorkspaceError};
