//! Hostile bytes at the door `request_path` (fuzz/doors/request_path.rs).
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| belljar_fuzz::request_path(bytes));
