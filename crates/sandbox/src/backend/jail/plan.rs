//! The set-up of a jail as data: what the child does between its birth and the guest's first
//! instruction, in kernel order. Built by the parent, which may allocate; performed by the child
//! in `sys`, which may not.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use crate::network::parts::Part;

/// Where the child builds the new tree: the scratch layer is mounted here, in the child's own
/// mount namespace, and everything else below it.
pub(super) const STAGE: &str = "/tmp";
/// The new root, until it is `/`.
pub(super) const ROOT: &str = "/tmp/m";
/// The first of the numbers at which the child opens lower directories.
pub(super) const OPEN_BASE: i32 = 256;

/// The first of the numbers at which the child holds the gate's doors until they have been sent.
pub(crate) const DOORS: i32 = 224;
/// How many numbers there are for doors.
pub(crate) const DOORS_MAX: i32 = 16;

/// The child holds the guest's program at this number until it executes it.
pub(crate) const PROGRAM: i32 = 4;

/// One thing the child does.
#[derive(Debug)]
pub(crate) enum Deed {
    /// Takes the identity it has inside.
    Identity { user: u32, group: u32 },
    /// Makes every mount private, so that nothing done here shows outside.
    Private,
    /// `mount(2)`.
    Mount {
        source: CString,
        target: CString,
        kind: CString,
        flags: u64,
        data: CString,
    },
    /// Changes the attributes of a mount, with everything below it if asked.
    Protect {
        target: CString,
        attributes: u64,
        recursive: bool,
    },
    /// Attaches the tree that the parent sent as number so-and-so.
    Attach { tree: usize, target: CString },
    /// Opens a directory at a number, for use as `/proc/self/fd/N`.
    Open { path: CString, number: i32 },
    /// Makes a directory; one that exists is fine.
    Folder { path: CString, mode: u32 },
    /// Makes an empty file.
    File { path: CString },
    /// Makes a symbolic link.
    Link { path: CString, target: CString },
    /// Keeps the scratch layer open, to be sent to the parent.
    KeepScratch { path: CString },
    /// Makes a directory the root and lets go of the old one.
    Pivot { root: CString },
    /// Names the machine.
    HostName { name: CString },
    /// An own cgroup namespace, rooted where the parent put this process.
    CgroupNamespace,
    /// Brings the loopback device up.
    Loopback,
    /// Furnishes the network namespace; a socket is kept at a number, to be sent to the parent.
    Network { part: Part, number: i32 },
    /// Sets a resource limit, soft and hard.
    Limit { resource: u32, value: u64 },
    /// A session of its own, no terminal.
    Session,
    /// Gives up every capability, for ever.
    DropCapabilities,
    /// No program gives new privileges.
    NoNewPrivileges,
    /// Landlock: what may be done below which path.
    Landlock {
        handled: u64,
        scoped: u64,
        rules: Vec<(CString, u64)>,
    },
    /// The system-call filter; or before it the one for files that are written in place.
    Filter { in_place: bool },
}

/// A deed, and the wall that stands or falls with it.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) wall: &'static str,
    pub(crate) deed: Deed,
    /// What the deed concerns, for the message when it fails.
    pub(crate) about: Option<PathBuf>,
}

impl Step {
    pub(crate) fn new(wall: &'static str, deed: Deed) -> Self {
        Self {
            wall,
            deed,
            about: None,
        }
    }

    pub(crate) fn about(wall: &'static str, about: &Path, deed: Deed) -> Self {
        Self {
            wall,
            deed,
            about: Some(about.to_path_buf()),
        }
    }
}

/// A C string of bytes that are known to hold no NUL: constants and checked paths.
pub(crate) fn c(text: impl AsRef<[u8]>) -> CString {
    let bytes: Vec<u8> = text
        .as_ref()
        .iter()
        .copied()
        .filter(|byte| *byte != 0)
        .collect();
    CString::new(bytes).unwrap_or_default()
}

/// `path` of the host, below the new root.
pub(super) fn inside(path: &Path) -> CString {
    let mut bytes = ROOT.as_bytes().to_vec();
    bytes.extend_from_slice(path.as_os_str().as_bytes());
    c(bytes)
}

/// Makes every directory on the way to `path`, below the new root.
pub(super) fn folders_to(path: &Path, steps: &mut Vec<Step>) {
    let mut walked = PathBuf::from("/");
    for component in path.components() {
        if let Component::Normal(name) = component {
            walked.push(name);
            let deed = Deed::Folder {
                path: inside(&walked),
                mode: 0o755,
            };
            steps.push(Step::about("root", path, deed));
        }
    }
}
