//! The one guarded way out of a sandbox. Judges what wants to leave, writes it, then passes it;
//! what it cannot judge it closes.
#![forbid(unsafe_code)]
