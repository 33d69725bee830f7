//! The program `belljar` as its users meet it: the real binary, real files, real databases.
#![expect(
    clippy::disallowed_methods,
    reason = "tests choose the program by a variable and look at clocks"
)]

#[cfg(test)]
mod support; // a place with a home, a state directory, a workspace and a database
#[cfg(test)]
mod commands; // each command does what it says
#[cfg(test)]
mod secrets; // values that never go into a sandbox
#[cfg(test)]
mod network; // the way out, attacked from inside
#[cfg(test)]
mod packages; // package managers, through the gate
#[cfg(test)]
mod kills; // kill -9 at random moments
#[cfg(test)]
mod mistakes; // what is asked for wrongly
#[cfg(test)]
mod endings; // however a run ends, and many at once
#[cfg(test)]
mod random; // random files and rows, against a plain copy
#[cfg(test)]
mod attacks; // what changes between a run and its merge
#[cfg(test)]
mod databases; // databases inside a run, and what is left of them
#[cfg(test)]
mod host_disk; // what a run leaves on the host's disk
#[cfg(test)]
mod incidents; // what really happened, replayed
