//! Attacks from inside real jails, and the life of a sandbox from start to end.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "tests fail by panicking, speak, and start other programs with an environment"
)]

mod support; // a jar to put attacks in
mod escape_files; // attacks on the host's files
mod escape_kernel; // attacks on the kernel
mod escape_processes; // attacks on other processes
mod escape_limits; // attacks on the limits
mod escape_network; // attacks on the network
mod life; // start, failure, streams, end
