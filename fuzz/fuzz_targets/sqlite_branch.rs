//! Hostile bytes at the door `sqlite_branch` (fuzz/doors/sqlite_branch.rs).
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| belljar_fuzz::sqlite_branch(bytes));
