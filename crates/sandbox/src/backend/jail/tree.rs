//! The tree inside a jail: which file systems, where, and how they are closed.

use std::path::{Path, PathBuf};

use super::landlock;
use super::network::{self, Origin};
use super::plan::{Deed, OPEN_BASE, ROOT, STAGE, Step, c, folders_to, inside};
use super::written;
use crate::host::Host;
use crate::network::Network;
use crate::spec::{Spec, Writable};
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
pub(super) fn build(
    spec: &Spec,
    template: &Template,
    host: &Host,
    origin: Origin,
    steps: &mut Vec<Step>,
) -> Trees {
    let mut tree = Tree {
        host,
        trees: Trees::default(),
        opened: Vec::new(),
        steps: Vec::new(),
    };
    tree.scratch(spec);
    tree.overlay("root", "root", &[&template.root], Path::new("/"));
    let gated = spec.network == Network::Gated;
    let grafts = template.grafts.iter().filter(|graft| gated || !graft.gated);
    for (number, graft) in grafts.enumerate() {
        let lowers: Vec<&Path> = graft.layers.iter().map(PathBuf::as_path).collect();
        tree.overlay("root", &format!("graft{number}"), &lowers, &graft.at);
    }
    tree.process_files(origin);
    tree.devices();
    for (number, branch) in spec.branches.iter().enumerate() {
        let directory = &branch.directory;
        folders_to(directory, &mut tree.steps);
        tree.overlay("workspace", &branch_layer(number), &[directory], directory);
    }
    for path in &spec.reads {
        tree.show(path, path, true);
    }
    for (number, writable) in spec.writes.iter().enumerate() {
        tree.writable(number, writable);
    }
    for shown in &spec.shows {
        // The template has the host's own links; a mount on one would land where it leads to.
        let at = shown.at.canonicalize();
        tree.show(&shown.source, at.as_ref().unwrap_or(&shown.at), true);
    }
    // The scratch layer covers a directory of the host; what is needed of the host is opened
    // before that.
    steps.append(&mut tree.opened);
    steps.append(&mut tree.steps);
    steps.push(Step::new("root", Deed::Pivot { root: c(ROOT) }));
    landlock::rules(spec, template, host, steps);
    tree.trees
}

/// The layer of a branch, by its position: `Enclosed::scratch` finds it below `u`.
pub(super) fn branch_layer(number: usize) -> String {
    format!("branch{number}")
}

/// A tree while it is being planned.
struct Tree<'a> {
    host: &'a Host,
    trees: Trees,
    /// Steps that open directories of the host.
    opened: Vec<Step>,
    steps: Vec<Step>,
}

impl Tree<'_> {
    fn push(&mut self, wall: &'static str, deed: Deed) {
        self.steps.push(Step::new(wall, deed));
    }

    /// The scratch layer: one tmpfs whose size and inode count the kernel holds, and which vanishes
    /// with the sandbox.
    fn scratch(&mut self, spec: &Spec) {
        let limits = &spec.limits;
        // A few inodes are ours: the layers' own directories.
        let ours = 32 + 8 * u64::try_from(spec.writes.len()).unwrap_or(0);
        let (size, inodes) = (limits.disk_bytes, limits.inodes.saturating_add(ours));
        let data = format!("size={size},nr_inodes={inodes},mode=755");
        let mount = |source: &str, data: String| Deed::Mount {
            source: c(source),
            target: c(STAGE),
            kind: c("tmpfs"),
            flags: NO_SUID_DEV,
            data: c(data),
        };
        self.push("disk limit", mount("scratch", data));
        self.push("disk limit", Deed::KeepScratch { path: c(STAGE) });
        for folder in ["m", "u", "w", "l", "empty"] {
            let path = c(format!("{STAGE}/{folder}"));
            self.push("root", Deed::Folder { path, mode: 0o755 });
        }
        let path = c(format!("{STAGE}/shm"));
        self.push("root", Deed::Folder { path, mode: 0o1777 });
    }

    /// A path of the host that stays reachable whatever is mounted: opened, and named by number.
    fn open(&mut self, wall: &'static str, path: &Path) -> String {
        let number = OPEN_BASE + i32::try_from(self.opened.len()).unwrap_or(0);
        let open = Deed::Open {
            path: c(path.as_os_str().as_encoded_bytes()),
            number,
        };
        self.opened.push(Step::about(wall, path, open));
        format!("/proc/self/fd/{number}")
    }

    /// The option text that names a lower directory, whatever its name holds.
    fn lower(&mut self, wall: &'static str, path: &Path) -> String {
        if !self.host.shifts_ids() {
            return self.open(wall, path);
        }
        let tree = self.trees.add(path, false, true);
        let at = format!("{STAGE}/l/{tree}");
        self.push(
            "root",
            Deed::Folder {
                path: c(&at),
                mode: 0o755,
            },
        );
        self.steps.push(Step::about(
            wall,
            path,
            Deed::Attach {
                tree,
                target: c(&at),
            },
        ));
        at
    }

    /// Mounts an overlay: lower directories of the host, the upper one in the scratch layer.
    fn overlay(&mut self, wall: &'static str, layer: &str, lowers: &[&Path], at: &Path) {
        for kind in ["u", "w"] {
            let path = c(format!("{STAGE}/{kind}/{layer}"));
            self.push("root", Deed::Folder { path, mode: 0o755 });
        }
        let named: Vec<String> = lowers.iter().map(|path| self.lower(wall, path)).collect();
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
        self.steps.push(Step::about(wall, at, deed));
    }

    /// A fresh `/proc` of the sandbox's own processes, with what belongs to the whole kernel masked.
    fn process_files(&mut self, origin: Origin) {
        let mount = |source: &str, path: &str, kind: &str, flags: u64| Deed::Mount {
            source: c(source),
            target: inside(Path::new(path)),
            kind: c(kind),
            flags,
            data: c(""),
        };
        self.push("proc", mount("proc", "/proc", "proc", NO_SUID_DEV_EXEC));
        self.steps.extend(network::settings(origin, ROOT));
        let knobs = format!("{ROOT}/proc/sys");
        self.push("proc", mount(&knobs, "/proc/sys", "", libc::MS_BIND));
        let protect = Deed::Protect {
            target: c(knobs),
            attributes: libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV,
            recursive: false,
        };
        self.push("proc", protect);
        for path in MASKED_FILES.iter().filter(|path| self.host.has(path)) {
            self.push("proc", mount("/dev/null", path, "", libc::MS_BIND));
        }
        let empty = format!("{STAGE}/empty");
        for path in MASKED_FOLDERS.iter().filter(|path| self.host.has(path)) {
            self.push("proc", mount(&empty, path, "", libc::MS_BIND));
            let protect = Deed::Protect {
                target: inside(Path::new(path)),
                attributes: libc::MOUNT_ATTR_RDONLY,
                recursive: false,
            };
            self.push("proc", protect);
        }
    }

    /// A minimal `/dev` with its own terminals.
    fn devices(&mut self) {
        let mount = |source: &str, path: &str, kind: &str, flags: u64, data: &str| Deed::Mount {
            source: c(source),
            target: inside(Path::new(path)),
            kind: c(kind),
            flags,
            data: c(data),
        };
        let flags = libc::MS_NOSUID | libc::MS_NOEXEC;
        self.push(
            "dev",
            mount(
                "dev",
                "/dev",
                "tmpfs",
                flags,
                "size=64k,nr_inodes=64,mode=755",
            ),
        );
        for device in DEVICES {
            self.push(
                "dev",
                Deed::File {
                    path: inside(Path::new(device)),
                },
            );
            self.push("dev", mount(device, device, "", libc::MS_BIND, ""));
        }
        for folder in ["/dev/pts", "/dev/shm"] {
            let path = inside(Path::new(folder));
            self.push("dev", Deed::Folder { path, mode: 0o755 });
        }
        let terminals = "newinstance,ptmxmode=0666,mode=0620";
        let flags = libc::MS_NOSUID | libc::MS_NOEXEC;
        self.push(
            "dev",
            mount("devpts", "/dev/pts", "devpts", flags, terminals),
        );
        let shared = format!("{STAGE}/shm");
        self.push("dev", mount(&shared, "/dev/shm", "", libc::MS_BIND, ""));
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
            self.push("dev", link);
        }
    }

    /// Shows a file that can be written, in a directory of the scratch layer: only the file itself
    /// is on the host's disk. A mounted file can be neither renamed nor removed, so that it stands
    /// in a directory of its own, and its name where the command looks for it is a link.
    fn writable(&mut self, number: usize, writable: &Writable) {
        let (source, at) = (&writable.source, &writable.at);
        let folder = source.parent().unwrap_or(source);
        folders_to(at, &mut self.steps);
        if !writable.in_place {
            self.overlay("path", &written::layer(number), &[folder], at);
            return;
        }
        let within = at.join(written::IN_PLACE);
        for (kind, target) in [(written::NAMED, at), (written::BESIDE, &within)] {
            let layer = format!("{STAGE}/{kind}/{number}");
            for path in [format!("{STAGE}/{kind}"), layer.clone()] {
                let (path, mode) = (c(path), 0o755);
                self.push("root", Deed::Folder { path, mode });
            }
            let (path, mode) = (inside(target), 0o755);
            self.push("root", Deed::Folder { path, mode });
            let bind = Deed::Mount {
                source: c(layer),
                target: inside(target),
                kind: c(""),
                flags: libc::MS_BIND,
                data: c(""),
            };
            self.push("path", bind);
        }
        let (name, target) = written::link(writable);
        let link = Deed::Link {
            path: inside(&name),
            target: c(target.as_os_str().as_encoded_bytes()),
        };
        self.steps.push(Step::about("path", source, link));
        self.show(source, &target, false);
    }

    /// Shows a file or directory of the host inside.
    fn show(&mut self, source: &Path, at: &Path, read_only: bool) {
        let folder = source.is_dir();
        if folder {
            folders_to(at, &mut self.steps);
        } else {
            if let Some(parent) = at.parent() {
                folders_to(parent, &mut self.steps);
            }
            self.steps
                .push(Step::about("path", at, Deed::File { path: inside(at) }));
        }
        if self.host.shifts_ids() {
            let tree = self.trees.add(source, folder && read_only, read_only);
            let attach = Deed::Attach {
                tree,
                target: inside(at),
            };
            self.steps.push(Step::about("path", source, attach));
            return;
        }
        let bind = Deed::Mount {
            source: c(self.open("path", source)),
            target: inside(at),
            kind: c(""),
            flags: libc::MS_BIND | if folder { libc::MS_REC } else { 0 },
            data: c(""),
        };
        self.steps.push(Step::about("path", source, bind));
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
        self.steps.push(Step::about("path", source, protect));
    }
}
