//! The tree inside a jail: which file systems, where, and how they are closed.

use std::path::{Path, PathBuf};

use super::landlock;
use super::plan::{Deed, OPEN_BASE, ROOT, STAGE, Step, c, folders_to, inside};
use crate::host::Host;
use crate::spec::Spec;
use crate::template::Template;

/// The trees that a privileged parent prepares and sends, in order: the child attaches them.
#[derive(Debug, Default)]
pub(super) struct Trees {
    pub(super) sources: Vec<Source>,
}

/// A tree of the host, cloned and made to show shifted ids.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) recursive: bool,
    pub(super) read_only: bool,
}

impl Trees {
    fn add(&mut self, path: &Path, recursive: bool, read_only: bool) -> usize {
        self.sources.push(Source {
            path: path.to_path_buf(),
            recursive,
            read_only,
        });
        self.sources.len() - 1
    }
}

const NO_SUID_DEV: u64 = libc::MS_NOSUID | libc::MS_NODEV;
const NO_SUID_DEV_EXEC: u64 = NO_SUID_DEV | libc::MS_NOEXEC;

/// Files of `/proc` that show or turn what belongs to the whole kernel.
const MASKED_FILES: [&str; 7] = [
    "/proc/sysrq-trigger",
    "/proc/kcore",
    "/proc/keys",
    "/proc/timer_list",
    "/proc/latency_stats",
    "/proc/kallsyms",
    "/proc/vmallocinfo",
];
/// Directories of `/proc`, likewise.
const MASKED_FOLDERS: [&str; 6] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/scsi",
];
const DEVICES: [&str; 6] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/tty",
];

/// Appends the steps that build the tree and make it the root.
pub(super) fn build(spec: &Spec, template: &Template, host: &Host, steps: &mut Vec<Step>) -> Trees {
    let mut trees = Trees::default();
    scratch(spec, steps);
    let mut overlays = Overlays {
        host,
        trees: &mut trees,
        opened: 0,
    };
    overlays.mount("root", "root", &[&template.root], Path::new("/"), steps);
    for (number, graft) in template.grafts.iter().enumerate() {
        let lowers: Vec<&Path> = graft.layers.iter().map(PathBuf::as_path).collect();
        overlays.mount("root", &format!("graft{number}"), &lowers, &graft.at, steps);
    }
    let overlays_opened = overlays.opened;
    process_files(host, steps);
    devices(steps);
    let mut overlays = Overlays {
        host,
        trees: &mut trees,
        opened: overlays_opened,
    };
    for (number, branch) in spec.branches.iter().enumerate() {
        let directory = &branch.directory;
        folders_to(directory, steps);
        overlays.mount(
            "workspace",
            &branch_layer(number),
            &[directory],
            directory,
            steps,
        );
    }
    for path in &spec.reads {
        show(path, path, true, host, &mut trees, steps);
    }
    for writable in &spec.writes {
        show(
            &writable.source,
            &writable.at,
            false,
            host,
            &mut trees,
            steps,
        );
    }
    let pivot = Deed::Pivot { root: c(ROOT) };
    steps.push(Step::new("root", pivot));
    landlock::rules(spec, template, host, steps);
    trees
}

/// The scratch layer: one tmpfs whose size and inode count the kernel holds, and which vanishes
/// with the sandbox.
fn scratch(spec: &Spec, steps: &mut Vec<Step>) {
    let limits = &spec.limits;
    // A few inodes are ours: the layers' own directories.
    let (size, inodes) = (limits.disk_bytes, limits.inodes.saturating_add(32));
    let data = format!("size={size},nr_inodes={inodes},mode=755");
    let mount = |source: &str, data: String| Deed::Mount {
        source: c(source),
        target: c(STAGE),
        kind: c("tmpfs"),
        flags: NO_SUID_DEV,
        data: c(data),
    };
    steps.push(Step::new("disk limit", mount("scratch", data)));
    steps.push(Step::new(
        "disk limit",
        Deed::KeepScratch { path: c(STAGE) },
    ));
    for folder in ["m", "u", "w", "l", "empty"] {
        let path = c(format!("{STAGE}/{folder}"));
        steps.push(Step::new("root", Deed::Folder { path, mode: 0o755 }));
    }
    let path = c(format!("{STAGE}/shm"));
    steps.push(Step::new("root", Deed::Folder { path, mode: 0o1777 }));
}

/// The layer of a branch, by its position: `Enclosed::scratch` finds it below `u`.
pub(super) fn branch_layer(number: usize) -> String {
    format!("branch{number}")
}

/// Mounts overlays: lower directories of the host, upper ones in the scratch layer.
struct Overlays<'a> {
    host: &'a Host,
    trees: &'a mut Trees,
    opened: i32,
}

impl Overlays<'_> {
    /// The option text that names a lower directory, whatever its name holds.
    fn lower(&mut self, wall: &'static str, path: &Path, steps: &mut Vec<Step>) -> String {
        if self.host.shifts_ids() {
            let tree = self.trees.add(path, false, true);
            let at = format!("{STAGE}/l/{tree}");
            steps.push(Step::new(
                "root",
                Deed::Folder {
                    path: c(&at),
                    mode: 0o755,
                },
            ));
            steps.push(Step::about(
                wall,
                path,
                Deed::Attach {
                    tree,
                    target: c(&at),
                },
            ));
            return at;
        }
        let number = OPEN_BASE + self.opened;
        self.opened += 1;
        let open = Deed::Open {
            path: c(path.as_os_str().as_encoded_bytes()),
            number,
        };
        steps.push(Step::about(wall, path, open));
        format!("/proc/self/fd/{number}")
    }

    fn mount(
        &mut self,
        wall: &'static str,
        layer: &str,
        lowers: &[&Path],
        at: &Path,
        steps: &mut Vec<Step>,
    ) {
        for kind in ["u", "w"] {
            let path = c(format!("{STAGE}/{kind}/{layer}"));
            steps.push(Step::new("root", Deed::Folder { path, mode: 0o755 }));
        }
        let named: Vec<String> = lowers
            .iter()
            .map(|path| self.lower(wall, path, steps))
            .collect();
        let data = format!(
            "lowerdir={},upperdir={STAGE}/u/{layer},workdir={STAGE}/w/{layer},userxattr",
            named.join(":")
        );
        let target = if at == Path::new("/") {
            c(ROOT)
        } else {
            inside(at)
        };
        let (source, kind) = (c("overlay"), c("overlay"));
        let deed = Deed::Mount {
            source,
            target,
            kind,
            flags: NO_SUID_DEV,
            data: c(data),
        };
        steps.push(Step::about(wall, at, deed));
    }
}

/// A fresh `/proc` of the sandbox's own processes, with what belongs to the whole kernel masked.
fn process_files(host: &Host, steps: &mut Vec<Step>) {
    let mount = |source: &str, path: &str, kind: &str, flags: u64| Deed::Mount {
        source: c(source),
        target: inside(Path::new(path)),
        kind: c(kind),
        flags,
        data: c(""),
    };
    steps.push(Step::new(
        "proc",
        mount("proc", "/proc", "proc", NO_SUID_DEV_EXEC),
    ));
    let knobs = format!("{ROOT}/proc/sys");
    steps.push(Step::new(
        "proc",
        mount(&knobs, "/proc/sys", "", libc::MS_BIND),
    ));
    let protect = Deed::Protect {
        target: c(knobs),
        attributes: libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV,
        recursive: false,
    };
    steps.push(Step::new("proc", protect));
    for path in MASKED_FILES.iter().filter(|path| host.has(path)) {
        steps.push(Step::new(
            "proc",
            mount("/dev/null", path, "", libc::MS_BIND),
        ));
    }
    let empty = format!("{STAGE}/empty");
    for path in MASKED_FOLDERS.iter().filter(|path| host.has(path)) {
        steps.push(Step::new("proc", mount(&empty, path, "", libc::MS_BIND)));
        let protect = Deed::Protect {
            target: inside(Path::new(path)),
            attributes: libc::MOUNT_ATTR_RDONLY,
            recursive: false,
        };
        steps.push(Step::new("proc", protect));
    }
}

/// A minimal `/dev` with its own terminals.
fn devices(steps: &mut Vec<Step>) {
    let mount = |source: &str, path: &str, kind: &str, flags: u64, data: &str| Deed::Mount {
        source: c(source),
        target: inside(Path::new(path)),
        kind: c(kind),
        flags,
        data: c(data),
    };
    let flags = libc::MS_NOSUID | libc::MS_NOEXEC;
    steps.push(Step::new(
        "dev",
        mount(
            "dev",
            "/dev",
            "tmpfs",
            flags,
            "size=64k,nr_inodes=64,mode=755",
        ),
    ));
    for device in DEVICES {
        steps.push(Step::new(
            "dev",
            Deed::File {
                path: inside(Path::new(device)),
            },
        ));
        steps.push(Step::new(
            "dev",
            mount(device, device, "", libc::MS_BIND, ""),
        ));
    }
    for folder in ["/dev/pts", "/dev/shm"] {
        let path = inside(Path::new(folder));
        steps.push(Step::new("dev", Deed::Folder { path, mode: 0o755 }));
    }
    let terminals = "newinstance,ptmxmode=0666,mode=0620";
    let flags = libc::MS_NOSUID | libc::MS_NOEXEC;
    steps.push(Step::new(
        "dev",
        mount("devpts", "/dev/pts", "devpts", flags, terminals),
    ));
    let shared = format!("{STAGE}/shm");
    steps.push(Step::new(
        "dev",
        mount(&shared, "/dev/shm", "", libc::MS_BIND, ""),
    ));
    for (path, target) in [
        ("/dev/ptmx", "pts/ptmx"),
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
    ] {
        let link = Deed::Link {
            path: inside(Path::new(path)),
            target: c(target),
        };
        steps.push(Step::new("dev", link));
    }
}

/// Shows a file or directory of the host inside.
fn show(
    source: &Path,
    at: &Path,
    read_only: bool,
    host: &Host,
    trees: &mut Trees,
    steps: &mut Vec<Step>,
) {
    let folder = source.is_dir();
    if folder {
        folders_to(at, steps);
    } else {
        if let Some(parent) = at.parent() {
            folders_to(parent, steps);
        }
        steps.push(Step::about("path", at, Deed::File { path: inside(at) }));
    }
    if host.shifts_ids() {
        let tree = trees.add(source, folder && read_only, read_only);
        steps.push(Step::about(
            "path",
            source,
            Deed::Attach {
                tree,
                target: inside(at),
            },
        ));
        return;
    }
    let bind = Deed::Mount {
        source: c(source.as_os_str().as_encoded_bytes()),
        target: inside(at),
        kind: c(""),
        flags: libc::MS_BIND | if folder { libc::MS_REC } else { 0 },
        data: c(""),
    };
    steps.push(Step::about("path", source, bind));
    let quiet = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    let attributes = if read_only {
        quiet | libc::MOUNT_ATTR_RDONLY
    } else {
        quiet
    };
    let protect = Deed::Protect {
        target: inside(at),
        attributes,
        recursive: folder,
    };
    steps.push(Step::about("path", source, protect));
}
