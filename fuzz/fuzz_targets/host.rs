//! Hostile bytes at the door `host` (fuzz/doors/host.rs).
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| belljar_fuzz::host(bytes));
