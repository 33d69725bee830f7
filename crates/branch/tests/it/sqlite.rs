//! Databases.

mod support; // a case: source, branch, agent, merge, revert
mod shapes; // each odd thing by name
