//! What this machine can enforce. Read once per process; the jail itself is the proof, this is
//! what a person is told beforehand.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use belljar_base::Refusal;

use crate::backend::jail::cgroup::{self, Groups};
use crate::sys;

/// The facts that decide how a sandbox is built here.
#[derive(Debug)]
pub struct Host {
    pub(crate) user: u32,
    pub(crate) group: u32,
    pub(crate) landlock_abi: u32,
    pub(crate) groups: Groups,
    /// Bytes of memory of the machine.
    pub memory_bytes: u64,
}

/// What holds a limit on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limiter {
    /// A control group of the named version.
    Cgroup(u8),
    /// Resource limits of each process: weaker, and said so.
    ResourceLimits,
}

/// One line of `belljar doctor`.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The wall or the limit.
    pub wall: &'static str,
    /// What was found.
    pub found: String,
    /// Present when the wall does not hold here.
    pub refusal: Option<Refusal>,
    /// Present when it holds, but less than it could.
    pub weaker: Option<String>,
}

impl Host {
    /// Looks at the machine.
    ///
    /// # Errors
    /// When the basic tables of `/proc` cannot be read.
    pub fn probe() -> io::Result<Self> {
        let memory = fs::read_to_string("/proc/meminfo")?;
        let kib = memory.lines().find_map(|line| {
            line.strip_prefix("MemTotal:")?
                .trim()
                .strip_suffix("kB")?
                .trim()
                .parse::<u64>()
                .ok()
        });
        Ok(Self {
            user: rustix::process::geteuid().as_raw(),
            group: rustix::process::getegid().as_raw(),
            landlock_abi: sys::landlock_abi(),
            groups: cgroup::find()?,
            memory_bytes: kib.unwrap_or(1 << 20) * 1024,
        })
    }

    /// Whether a file system takes no more room for a file than the file's size says, whatever is
    /// done to the file: then a bound of its size bounds the disk. Only what was measured is
    /// named. Btrfs is not: overwriting a part of a file there keeps all of what was before.
    ///
    /// # Errors
    /// When the kernel does not say what file system it is.
    pub fn holds_size(path: &Path) -> io::Result<bool> {
        const EXT4: i64 = 0xef53;
        const XFS: i64 = 0x5846_5342;
        Ok(matches!(rustix::fs::statfs(path)?.f_type, EXT4 | XFS))
    }

    /// Whether the ids inside are shifted to a range of the host that nobody has.
    #[must_use]
    pub fn shifts_ids(&self) -> bool {
        self.user == 0
    }

    /// The user id that a command has inside.
    #[must_use]
    pub fn user_inside(&self) -> u32 {
        self.user
    }

    /// What holds memory, processes and CPU time here.
    #[must_use]
    pub fn limiter(&self) -> Limiter {
        self.groups
            .version()
            .map_or(Limiter::ResourceLimits, Limiter::Cgroup)
    }

    /// Whether a file of `/proc` exists on this kernel.
    pub(crate) fn has(&self, path: &str) -> bool {
        fs::symlink_metadata(path).is_ok()
    }

    /// What can be said about each wall without starting a sandbox.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        vec![
            self.namespaces(),
            self.landlock(),
            self.limits(),
            self.identities(),
            scratch(),
        ]
    }

    fn namespaces(&self) -> Finding {
        let refusal = namespace_refusal(self.user == 0);
        let found = match &refusal {
            None => "user, mount, pid, net, ipc, uts, cgroup, time".to_owned(),
            Some(refusal) => refusal.reason.clone(),
        };
        Finding {
            wall: "namespaces",
            found,
            refusal,
            weaker: None,
        }
    }

    fn landlock(&self) -> Finding {
        let refusal = landlock_refusal(self.landlock_abi);
        let weaker = (self.landlock_abi > 0 && self.landlock_abi < 3)
            .then(|| "this version cannot hold truncation; the mounts still do".to_owned());
        let found = format!("version {}", self.landlock_abi);
        Finding {
            wall: "landlock",
            found,
            refusal,
            weaker,
        }
    }

    fn limits(&self) -> Finding {
        let (found, weaker) = match self.limiter() {
            Limiter::Cgroup(version) => {
                let weaker = (!self.groups.hold_cpu()).then(|| cgroup::NO_CPU.to_owned());
                (format!("cgroup v{version}"), weaker)
            }
            Limiter::ResourceLimits => (
                "resource limits".to_owned(),
                Some(
                    "memory is held for each process alone, CPU time not at all; for more, run \
                     in a delegated cgroup (systemd-run --user --scope -p Delegate=yes belljar …) \
                     or as root"
                        .to_owned(),
                ),
            ),
        };
        Finding {
            wall: "limits",
            found,
            refusal: None,
            weaker,
        }
    }

    fn identities(&self) -> Finding {
        let found = if self.shifts_ids() {
            "ids inside are shifted to a range of the host that nobody has".to_owned()
        } else {
            format!("the ids inside are user {} alone", self.user)
        };
        Finding {
            wall: "identities",
            found,
            refusal: None,
            weaker: None,
        }
    }
}

/// The scratch layer needs user extended attributes on tmpfs (Linux 6.6).
fn scratch() -> Finding {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(str::parse::<u32>);
    let version = (numbers.next(), numbers.next());
    let old = matches!(version, (Some(Ok(major)), Some(Ok(minor))) if (major, minor) < (6, 6));
    let refusal = old.then(|| {
        Refusal::new(
            "host.scratch",
            format!(
                "Linux {} cannot keep overlay marks on tmpfs",
                release.trim()
            ),
            "use Linux 6.6 or newer",
        )
    });
    let found = format!("tmpfs on Linux {}", release.trim());
    Finding {
        wall: "scratch",
        found,
        refusal,
        weaker: None,
    }
}

/// Why user namespaces cannot be made here, if they cannot.
pub(crate) fn namespace_refusal(root: bool) -> Option<Refusal> {
    let number = |path: &str| -> Option<u64> { fs::read_to_string(path).ok()?.trim().parse().ok() };
    if number("/proc/sys/user/max_user_namespaces") == Some(0) {
        return Some(Refusal::new(
            "host.user-namespaces",
            "user namespaces are switched off",
            "sysctl -w user.max_user_namespaces=15000",
        ));
    }
    if root {
        return None;
    }
    if number("/proc/sys/kernel/unprivileged_userns_clone") == Some(0) {
        return Some(Refusal::new(
            "host.user-namespaces",
            "ordinary users may not make user namespaces",
            "sysctl -w kernel.unprivileged_userns_clone=1",
        ));
    }
    if number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == Some(1) {
        return Some(Refusal::new(
            "host.user-namespaces",
            "AppArmor restricts user namespaces of ordinary users",
            "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or give the belljar \
             program an AppArmor profile with `userns,`",
        ));
    }
    None
}

/// Why Landlock does not hold here, if it does not.
pub(crate) fn landlock_refusal(abi: u32) -> Option<Refusal> {
    (abi == 0).then(|| {
        Refusal::new(
            "host.landlock",
            "this kernel runs without Landlock",
            "boot with `landlock` in the `lsm=` list (Linux 5.13 or newer)",
        )
    })
}

/// Where a file system is mounted inside a directory: it would hide from a branch.
#[must_use]
pub(crate) fn mount_below(directory: &std::path::Path) -> Option<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let points = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(unescape);
    points
        .map(PathBuf::from)
        .find(|point| point != directory && point.starts_with(directory))
}

/// Mount points write blanks and the like as octal.
fn unescape(text: &str) -> String {
    ["\\040", "\\011", "\\012", "\\134"]
        .iter()
        .zip([" ", "\t", "\n", "\\"])
        .fold(text.to_owned(), |text, (code, plain)| {
            text.replace(code, plain)
        })
}
