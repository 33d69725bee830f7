//! Hostile bytes at the door `run_id_and_names` (fuzz/doors/run_id_and_names.rs).
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| belljar_fuzz::run_id_and_names(bytes));
