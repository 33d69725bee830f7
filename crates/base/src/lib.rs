//! The words every other room shares: typed ids, checked names, time, bounds, error kinds and the
//! frames spoken between our own programs. It decides nothing and touches nothing.
//!
//! **Invariant:** no IO, no clock, no randomness (held by `cargo xtask tidy`).
#![forbid(unsafe_code)]

mod id; // typed ids
mod name; // checked names of agents, databases, variables, secrets
mod time; // timestamps, and the clock that is handed in
mod kind; // the closed list of error kinds, and what each means outside
mod refusal; // a refusal is a value: rule, reason, remedy
pub mod bounds; // every limit of the program, in one place
pub mod frame; // what the supervisor and the guest say to each other

pub use id::{ParseRunIdError, RunId};
pub use kind::{EXIT_FAILED, EXIT_LIMIT, EXIT_REFUSED, HasKind, Kind};
pub use name::{AgentName, DatabaseName, NameError, VariableName};
pub use refusal::Refusal;
pub use time::{Clock, Timestamp};
