//! Control groups: version 2 where a group is delegated to us, version 1 where it is mounted and
//! we are root, none otherwise.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use belljar_base::RunId;

use crate::life::LimitHit;
use crate::spec::Limits;

/// Where groups can be made on this host.
#[derive(Clone, Debug)]
pub(crate) enum Groups {
    /// The unified hierarchy: a directory whose children have the controllers.
    Unified(PathBuf),
    /// One directory per controller.
    Split(Vec<(Controller, PathBuf)>),
    /// Nowhere.
    None,
}

/// The controllers that are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Controller {
    Memory,
    Pids,
    Cpu,
}

/// The groups of one sandbox; removed when dropped, if empty by then.
#[derive(Debug)]
pub(crate) struct Group {
    groups: Groups,
    name: String,
}

const PREFIX: &str = "belljar-";

/// Finds where groups can be made.
pub(crate) fn find() -> io::Result<Groups> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let own = fs::read_to_string("/proc/self/cgroup")?;
    if let Some(groups) = unified(&mounts, &own) {
        return Ok(groups);
    }
    let mut found = Vec::new();
    for (controller, name) in [
        (Controller::Memory, "memory"),
        (Controller::Pids, "pids"),
        (Controller::Cpu, "cpu"),
    ] {
        if let Some(path) = split(&mounts, &own, name) {
            found.push((controller, path));
        }
    }
    let complete = [Controller::Memory, Controller::Pids]
        .iter()
        .all(|wanted| found.iter().any(|(controller, _)| controller == wanted));
    Ok(if complete {
        Groups::Split(found)
    } else {
        Groups::None
    })
}

/// The nearest directory above our own group that is ours to fill and has the controllers.
fn unified(mounts: &str, own: &str) -> Option<Groups> {
    let root = mount_point(mounts, "cgroup2", None)?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let own = root.join(own.trim_start_matches('/'));
    own.ancestors()
        .take_while(|path| path.starts_with(&root))
        .find_map(|path| {
            let given = fs::read_to_string(path.join("cgroup.subtree_control")).ok()?;
            let has = |name| given.split_whitespace().any(|word| word == name);
            (has("memory") && has("pids") && writable(path))
                .then(|| Groups::Unified(path.to_owned()))
        })
}

fn split(mounts: &str, own: &str, controller: &str) -> Option<PathBuf> {
    let root = mount_point(mounts, "cgroup", Some(controller))?;
    let own = own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let names = fields.next()?;
        names
            .split(',')
            .any(|name| name == controller)
            .then(|| fields.next())
            .flatten()
    })?;
    // Inside a container the path is the host's; the mount's own root is then the best we have.
    let nested = root.join(own.trim_start_matches('/'));
    [nested, root].into_iter().find(|path| writable(path))
}

fn writable(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok()
        && rustix::fs::access(path.join("cgroup.procs"), rustix::fs::Access::WRITE_OK).is_ok()
}

fn mount_point(mounts: &str, kind: &str, option: Option<&str>) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (front, back) = line.split_once(" - ")?;
        let mut back = back.split(' ');
        if back.next()? != kind {
            return None;
        }
        let options = back.nth(1)?;
        if option.is_some_and(|wanted| !options.split(',').any(|one| one == wanted)) {
            return None;
        }
        front.split(' ').nth(4).map(PathBuf::from)
    })
}

impl Groups {
    pub(crate) fn version(&self) -> Option<u8> {
        match self {
            Self::Unified(_) => Some(2),
            Self::Split(_) => Some(1),
            Self::None => None,
        }
    }

    /// Every directory in which groups are made.
    fn parents(&self) -> Vec<&Path> {
        match self {
            Self::Unified(path) => vec![path],
            Self::Split(paths) => paths.iter().map(|(_, path)| path.as_path()).collect(),
            Self::None => Vec::new(),
        }
    }

    /// Removes the groups of a run that nobody watches any more, ending what still runs in them.
    pub(crate) fn reap(&self, run: RunId) -> io::Result<bool> {
        let name = format!("{PREFIX}{run}");
        let mut found = false;
        for parent in self.parents() {
            let path = parent.join(&name);
            if path.exists() {
                found = true;
                end_all(&path)?;
                remove(&path)?;
            }
        }
        Ok(found)
    }
}

impl Group {
    /// Makes the groups of a sandbox with their limits set.
    pub(crate) fn make(groups: &Groups, run: RunId, limits: &Limits) -> io::Result<Self> {
        let group = Self {
            groups: groups.clone(),
            name: format!("{PREFIX}{run}"),
        };
        match groups {
            Groups::Unified(parent) => {
                let path = parent.join(&group.name);
                fs::create_dir(&path)?;
                write(&path, "memory.max", limits.memory_bytes)?;
                // Swap would let a run escape the limit; not every kernel accounts for it.
                optional(write(&path, "memory.swap.max", 0))?;
                write(&path, "pids.max", limits.pids)?;
                if let Some(millis) = limits.cpu_millis {
                    write(&path, "cpu.max", format!("{} 100000", millis * 100))?;
                }
            }
            Groups::Split(paths) => {
                for (controller, parent) in paths {
                    let path = parent.join(&group.name);
                    fs::create_dir(&path)?;
                    split_limits(*controller, &path, limits)?;
                }
            }
            Groups::None => {}
        }
        Ok(group)
    }

    /// The group that a clone can be born into (version 2).
    pub(crate) fn birthplace(&self) -> io::Result<Option<OwnedFd>> {
        let Groups::Unified(parent) = &self.groups else {
            return Ok(None);
        };
        let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY;
        let flags = flags | rustix::fs::OFlags::CLOEXEC;
        let path = parent.join(&self.name);
        Ok(Some(rustix::fs::open(
            &path,
            flags,
            rustix::fs::Mode::empty(),
        )?))
    }

    /// The files through which a process moves itself in (version 1).
    pub(crate) fn entrances(&self) -> io::Result<Vec<OwnedFd>> {
        let Groups::Split(paths) = &self.groups else {
            return Ok(Vec::new());
        };
        let flags = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CLOEXEC;
        let open = |(_, parent): &(Controller, PathBuf)| -> io::Result<OwnedFd> {
            let path = parent.join(&self.name).join("tasks");
            Ok(rustix::fs::open(&path, flags, rustix::fs::Mode::empty())?)
        };
        paths.iter().map(open).collect()
    }

    /// Which limits the kernel had to enforce.
    pub(crate) fn hits(&self) -> Vec<LimitHit> {
        let counter = |parent: &Path, file: &str, key: &str| -> bool {
            let text = fs::read_to_string(parent.join(&self.name).join(file)).unwrap_or_default();
            text.lines().any(|line| {
                line.strip_prefix(key)
                    .is_some_and(|rest| rest.trim().parse() != Ok(0_u64))
            })
        };
        let hit = |limit, reached: bool| reached.then_some(limit);
        match &self.groups {
            Groups::Unified(parent) => [
                hit(
                    LimitHit::Memory,
                    counter(parent, "memory.events", "oom_kill "),
                ),
                hit(LimitHit::Pids, counter(parent, "pids.events", "max ")),
                hit(LimitHit::Cpu, counter(parent, "cpu.stat", "nr_throttled ")),
            ]
            .into_iter()
            .flatten()
            .collect(),
            Groups::Split(paths) => paths
                .iter()
                .filter_map(|(controller, parent)| match controller {
                    Controller::Memory => hit(
                        LimitHit::Memory,
                        counter(parent, "memory.oom_control", "oom_kill "),
                    ),
                    Controller::Pids => hit(LimitHit::Pids, counter(parent, "pids.events", "max ")),
                    Controller::Cpu => {
                        hit(LimitHit::Cpu, counter(parent, "cpu.stat", "nr_throttled "))
                    }
                })
                .collect(),
            Groups::None => Vec::new(),
        }
    }

    /// Removes the groups; every process in them has ended.
    pub(crate) fn remove(&self) -> io::Result<()> {
        self.groups
            .parents()
            .iter()
            .try_for_each(|parent| remove(&parent.join(&self.name)))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // What cannot be removed now is reaped by the next command, by the run's id.
        if self.remove().is_err() {}
    }
}

fn split_limits(controller: Controller, path: &Path, limits: &Limits) -> io::Result<()> {
    match controller {
        Controller::Memory => {
            write(path, "memory.limit_in_bytes", limits.memory_bytes)?;
            // Memory and swap together, where the kernel accounts for swap; else no swapping.
            match write(path, "memory.memsw.limit_in_bytes", limits.memory_bytes) {
                Ok(()) => Ok(()),
                Err(_) => optional(write(path, "memory.swappiness", 0)),
            }
        }
        Controller::Pids => write(path, "pids.max", limits.pids),
        Controller::Cpu => {
            let Some(millis) = limits.cpu_millis else {
                return Ok(());
            };
            write(path, "cpu.cfs_period_us", 100_000)?;
            write(path, "cpu.cfs_quota_us", millis * 100)
        }
    }
}

fn write(folder: &Path, file: &str, value: impl ToString) -> io::Result<()> {
    fs::write(folder.join(file), value.to_string())
}

/// A file that some kernels lack.
fn optional(answer: io::Result<()>) -> io::Result<()> {
    match answer {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Removes a group; the kernel may need a moment after the last process of it has ended.
fn remove(path: &Path) -> io::Result<()> {
    let start = Instant::now();
    loop {
        match fs::remove_dir(path) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if start.elapsed() > Duration::from_secs(2) => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_micros(200)),
        }
    }
}

/// Ends every process of a group whose supervisor is gone.
fn end_all(path: &Path) -> io::Result<()> {
    if fs::write(path.join("cgroup.kill"), "1").is_ok() {
        return Ok(());
    }
    for _attempt in 0..100 {
        let text = fs::read_to_string(path.join("cgroup.procs"))?;
        let pids: Vec<i32> = text.lines().filter_map(|line| line.parse().ok()).collect();
        if pids.is_empty() {
            return Ok(());
        }
        for pid in pids.into_iter().filter_map(rustix::process::Pid::from_raw) {
            // One that ended meanwhile is what we want.
            if rustix::process::kill_process(pid, rustix::process::Signal::KILL).is_err() {}
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
