//! Integration tests of the branch room.

mod files; // workspaces
mod sqlite; // databases
#[cfg(test)]
mod seeds; // what the fuzz targets begin with
