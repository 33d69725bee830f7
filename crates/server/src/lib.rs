//! Composes the rooms below into deeds: run, diff, merge, revert, discard, and what else the
//! command line and, later, the APIs ask for. Every deed is written to the ledger before it acts.
#![forbid(unsafe_code)]

mod clock; // the real clock
mod state; // the state directory: runs, and which of them are alive
mod record; // what is kept of a run
pub mod app; // one deed a file

pub use clock::SystemClock;
pub use record::{RunRecord, Status};
pub use state::{RunName, State, StateError};
