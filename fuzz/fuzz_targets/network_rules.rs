//! Hostile bytes at the door `network_rules` (fuzz/doors/network_rules.rs).
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| belljar_fuzz::network_rules(bytes));
