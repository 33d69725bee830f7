//! Hostile bytes at the door `dns` (fuzz/doors/dns.rs).
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| belljar_fuzz::dns(bytes));
