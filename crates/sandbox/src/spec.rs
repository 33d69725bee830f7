//! What a sandbox is asked to be. Plain data: nothing here touches the machine.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use belljar_base::{RunId, bounds};

use crate::network::Network;

/// A sandbox to start.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Names it, in cgroups and inside.
    pub id: RunId,
    /// Directories that are copy-on-write, each at its own absolute path.
    pub branches: Vec<Branch>,
    /// Files and directories of the host that can be read inside, at their own absolute paths.
    pub reads: Vec<PathBuf>,
    /// Files of the host that can be written inside: branches made by other means.
    pub writes: Vec<Writable>,
    /// Files and directories of the host that can be read inside at other paths than their own,
    /// in place of what is there.
    pub shows: Vec<Shown>,
    /// What it reaches.
    pub network: Network,
    /// What the kernel holds it to.
    pub limits: Limits,
}

/// A directory that is copy-on-write inside.
#[derive(Clone, Debug)]
pub struct Branch {
    /// The real directory, absolute and canonical; also where it is inside.
    pub directory: PathBuf,
}

/// A file of the host that is written. Whatever is made beside it lies in the scratch layer.
#[derive(Clone, Debug)]
pub struct Writable {
    /// The file on the host, absolute and canonical.
    pub source: PathBuf,
    /// The directory inside in which it is found, under its own name.
    pub at: PathBuf,
    /// Where what is written goes. In place: into the file itself, which may grow by the limit on
    /// written bytes; for file systems that take no more room for a file than its size says
    /// (`Host::holds_size`). Otherwise into the scratch layer, to which the file is copied when it
    /// is first opened for writing.
    pub in_place: bool,
}

/// A file or directory of the host that can be read inside at another path.
#[derive(Clone, Debug)]
pub struct Shown {
    /// What is shown; an ordinary user or a shifted root must be able to read it.
    pub source: PathBuf,
    /// Where it is inside. A link there that the host has too is followed.
    pub at: PathBuf,
}

/// A command to run inside.
#[derive(Clone, Debug)]
pub struct Command {
    /// The program and its arguments; at least the program.
    pub arguments: Vec<OsString>,
    /// The whole environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Where it starts.
    pub directory: PathBuf,
    /// Rows and columns of the terminal it gets, if it gets one.
    pub terminal: Option<(u16, u16)>,
}

/// What a run may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Thousandths of one CPU's time.
    pub cpu_millis: Option<u64>,
    /// Bytes of memory, the scratch layer included; swap does not add to it.
    pub memory_bytes: u64,
    /// Processes and threads.
    pub pids: u64,
    /// From start to end.
    pub wall: Duration,
    /// Bytes written to the scratch layer (workspace changes, home, temporary files), and by which
    /// each file written in place may grow.
    pub disk_bytes: u64,
    /// Files and directories created in the scratch layer.
    pub inodes: u64,
    /// Bytes of each output stream that are passed on; the rest is counted and dropped.
    pub output_bytes: u64,
    /// Open files of one process.
    pub open_files: u64,
}

impl Limits {
    /// The limits of a run that names none, on a machine with so much memory.
    #[must_use]
    pub fn defaults(machine_memory_bytes: u64) -> Self {
        let half = (machine_memory_bytes / 2).max(64 << 20);
        Self {
            cpu_millis: None,
            memory_bytes: half,
            pids: bounds::PIDS_DEFAULT,
            wall: Duration::from_secs(bounds::WALL_SECONDS_DEFAULT),
            disk_bytes: bounds::DISK_BYTES_DEFAULT.min(half),
            inodes: bounds::INODES_DEFAULT,
            output_bytes: bounds::OUTPUT_BYTES_DEFAULT,
            open_files: bounds::OPEN_FILES_DEFAULT,
        }
    }
}
