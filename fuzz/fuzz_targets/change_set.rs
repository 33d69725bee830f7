//! Hostile bytes at the door `change_set` (fuzz/doors/change_set.rs).
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| belljar_fuzz::change_set(bytes));
