//! The deeds, one a file.

mod engines; // the engines of a run's change set
mod facts; // change sets, summed up for policy, ledger and reports
pub mod network; // a run's way out, and grants while it runs
pub mod secret; // values that never go into a sandbox
pub mod run; // enclose a command; keep what it did
pub mod review; // what a run did
pub mod merge; // make it real, take it back, throw it away
pub mod recover; // what an interrupted Belljar left
