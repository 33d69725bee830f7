//! Integration tests of the branch room.

mod files; // workspaces
mod sqlite; // databases
