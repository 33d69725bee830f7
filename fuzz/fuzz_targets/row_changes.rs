//! Hostile bytes at the door `row_changes` (fuzz/doors/row_changes.rs).
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| belljar_fuzz::row_changes(bytes));
