//! The ledger through its public face, on real files.

#[cfg(test)]
mod support; // a ledger in a directory of its own
#[cfg(test)]
mod append; // what is appended can be read back
