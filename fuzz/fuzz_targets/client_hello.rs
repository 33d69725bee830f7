//! Hostile bytes at the door `client_hello` (fuzz/doors/client_hello.rs).
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| belljar_fuzz::client_hello(bytes));
