//! Hostile bytes at the door `ledger` (fuzz/doors/ledger.rs).
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| belljar_fuzz::ledger(bytes));
