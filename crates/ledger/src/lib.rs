//! Keeps the record of everything attempted: append-only, hash-chained, a Merkle tree with signed
//! checkpoints, durable before `append` returns. It records decisions and makes none; it never
//! reads the clock, and touches no file outside its directory and its key.
//!
//! The format is in docs/formats/ledger.md.
//!
//! **Invariant:** what was acknowledged is there and unchanged, or `verify` says where it is not
//! (held by the tamper and kill tests in tests/it).
#![forbid(unsafe_code)]

pub mod event; // what can be recorded
mod text; // text from outside, kept without loss
mod record; // drafts, records and their canonical bytes
mod canonical; // canonical JSON (RFC 8785)
pub mod merkle; // the tree (RFC 6962): hashes, frontier, proofs
pub mod note; // keys, signed notes, checkpoints (C2SP)
mod frame; // one commit in a segment
mod segment; // the files that hold the frames
mod hint; // where the log ended, so that opening is quick
mod log; // the files under their lock: commit, catch up
mod group; // many callers, one commit
mod ledger; // open, append
mod read; // records from a place, of a run, the last ones
mod tiles; // the tlog-tiles layout (C2SP)
mod export; // the ledger in that layout
pub mod verify; // every hash recomputed, what is wrong and where
pub mod error; // what can go wrong, per deed

pub use event::Event;
pub use group::Receipt;
pub use ledger::{Ledger, Options, Pending};
pub use read::Records;
pub use record::{Draft, Record};
pub use text::Text;
