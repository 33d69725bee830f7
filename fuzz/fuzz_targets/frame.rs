//! Hostile bytes at the door `frame` (fuzz/doors/frame.rs).
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| belljar_fuzz::frame(bytes));
