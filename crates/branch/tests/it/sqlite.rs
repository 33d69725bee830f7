//! Databases.

mod support; // a case: source, branch, agent, merge, revert
mod shapes; // each odd thing by name
mod random; // random schemas and statements
mod conflicts; // what is in the way
mod hostile; // what a run may leave behind
mod live; // branching while others write
mod crashes; // killed in the middle
