//! Decides. Turns what is asked, and what the host offers, into a decision, and says why.
//!
//! **Invariant:** no IO, no clock, no randomness (held by `cargo xtask tidy`).
#![forbid(unsafe_code)]

mod isolation; // the classes, weakest first
mod decision; // allow, hold or deny, with rule, reason, remedy
mod run; // may this run start, and in which class
mod merge; // may this change set become real
pub mod egress; // may this leave a sandbox

pub use decision::Decision;
pub use isolation::{Isolation, ParseIsolationError};
pub use merge::{MergeFacts, decide_merge};
pub use run::{RunFacts, decide_run};
