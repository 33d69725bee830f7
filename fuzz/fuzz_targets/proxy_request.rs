//! Hostile bytes at the door `proxy_request` (fuzz/doors/proxy_request.rs).
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| belljar_fuzz::proxy_request(bytes));
