//! Keeps a process that holds values from giving its memory away.

use std::io;

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};

/// From here on the process writes no core dump, neither to a file nor to a program.
///
/// # Errors
/// When the limit cannot be set.
pub fn leave_no_core() -> io::Result<()> {
    let hard = getrlimit(Resource::Core).maximum;
    // One byte, not none: for a dump that is piped to a program the kernel ignores every limit
    // but this one, and for a file it is too little to begin with.
    let wanted = Rlimit {
        current: Some(hard.map_or(1, |hard| hard.min(1))),
        maximum: hard,
    };
    setrlimit(Resource::Core, wanted).map_err(io::Error::from)
}

/// From here on no other process of the same user can trace this one or read its memory.
///
/// To be called when the last sandbox of the process has been born: the kernel gives the files in
/// `/proc` of a process like that, and of what it forks, to root, and an ordinary user's supervisor
/// could not write the id maps of a sandbox any more.
///
/// # Errors
/// When the kernel refuses.
pub fn refuse_tracing() -> io::Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(io::Error::from)
}
