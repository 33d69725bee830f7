//! Control groups: version 2 where a group is delegated to us, version 1 where it is mounted and
//! we are root, none otherwise.

use std::fs;
use std::io::{self, Write};
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
    Unified {
        parent: PathBuf,
        /// Whether CPU time is among them: a delegated group may have it or not.
        cpu: bool,
    },
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

/// Why the limit `cpu` is refused, and what to do.
pub(crate) const NO_CPU: &str = "CPU time cannot be limited here, because the `cpu` controller is \
    not given to this process's control groups; leave the limit `cpu` out, or run belljar with \
    `systemd-run --user --scope -p Delegate=yes` or as root";

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

/// The nearest directory above our own group that is ours to fill and has every controller; else
/// the nearest that lacks CPU time alone.
fn unified(mounts: &str, own: &str) -> Option<Groups> {
    let root = mount_point(mounts, "cgroup2", None)?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let own = root.join(own.trim_start_matches('/'));
    let given = |path: &Path| {
        let given = fs::read_to_string(path.join("cgroup.subtree_control")).ok()?;
        let has = |name| given.split_whitespace().any(|word| word == name);
        let (parent, cpu) = (path.to_owned(), has("cpu"));
        (has("memory") && has("pids") && writable(path)).then_some(Groups::Unified { parent, cpu })
    };
    let own = own.ancestors().take_while(|path| path.starts_with(&root));
    let mut found: Vec<Groups> = own.filter_map(given).collect();
    let best = found.iter().position(Groups::hold_cpu).unwrap_or(0);
    (best < found.len()).then(|| found.swap_remove(best))
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
            Self::Unified { .. } => Some(2),
            Self::Split(_) => Some(1),
            Self::None => None,
        }
    }

    /// Whether groups made here hold CPU time.
    pub(crate) fn hold_cpu(&self) -> bool {
        match self {
            Self::Unified { cpu, .. } => *cpu,
            Self::Split(paths) => paths.iter().any(|(one, _)| *one == Controller::Cpu),
            Self::None => false,
        }
    }

    /// Every directory in which groups are made.
    fn parents(&self) -> Vec<&Path> {
        match self {
            Self::Unified { parent, .. } => vec![parent],
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
    ///
    /// A limit that these groups cannot hold is refused; where there are none at all, the caller
    /// holds what resource limits can.
    pub(crate) fn make(groups: &Groups, run: RunId, limits: &Limits) -> io::Result<Self> {
        if groups.version().is_some() && limits.cpu_millis.is_some() && !groups.hold_cpu() {
            return Err(io::Error::new(io::ErrorKind::Unsupported, NO_CPU));
        }
        let group = Self {
            groups: groups.clone(),
            name: format!("{PREFIX}{run}"),
        };
        match groups {
            Groups::Unified { parent, .. } => {
                let path = parent.join(&group.name);
                fs::create_dir(&path)?;
                unified_limits(&path, limits)?;
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
        let Groups::Unified { parent, .. } = &self.groups else {
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
            Groups::Unified { parent, .. } => [
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

fn unified_limits(path: &Path, limits: &Limits) -> io::Result<()> {
    write(path, "memory.max", limits.memory_bytes)?;
    // Swap would let a run escape the limit; not every kernel accounts for it.
    optional(write(path, "memory.swap.max", 0))?;
    write(path, "pids.max", limits.pids)?;
    let Some(millis) = limits.cpu_millis else {
        return Ok(());
    };
    write(
        path,
        "cpu.max",
        format!("{} 100000", millis.saturating_mul(100)),
    )
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
            write(path, "cpu.cfs_quota_us", millis.saturating_mul(100))
        }
    }
}

/// Writes to a file that the kernel made. Asking for its creation too, as `fs::write` does, would
/// give "permission denied" for a file that this kernel lacks.
fn write(folder: &Path, file: &str, value: impl ToString) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    let mut open = options.write(true).truncate(true).open(folder.join(file))?;
    open.write_all(value.to_string().as_bytes())
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
    if write(path, "cgroup.kill", 1).is_ok() {
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use belljar_base::Timestamp;

    use super::*;

    /// A unified hierarchy that looks like the kernel's, to be found and filled.
    struct Fake(tempfile::TempDir);

    impl Fake {
        /// Groups, outermost first, each with what it gives to its children.
        fn new(groups: &[(&str, &str)]) -> Self {
            let fake = Self(tempfile::tempdir().unwrap());
            for (group, given) in groups {
                fs::create_dir_all(fake.path(group)).unwrap();
                fs::write(fake.path(group).join("cgroup.procs"), "").unwrap();
                fs::write(fake.path(group).join("cgroup.subtree_control"), given).unwrap();
            }
            fake
        }

        fn path(&self, group: &str) -> PathBuf {
            self.0.path().join(group)
        }

        /// What is found by a process of the group `own`.
        fn find(&self, own: &str) -> Option<(PathBuf, bool)> {
            let mounts = format!(
                "22 1 0:20 / /proc rw shared:5 - proc proc rw\n\
                 30 1 0:26 / {} rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n",
                self.0.path().display()
            );
            match unified(&mounts, &format!("12:pids:/elsewhere\n0::{own}\n"))? {
                Groups::Unified { parent, cpu } => Some((parent, cpu)),
                other @ (Groups::Split(_) | Groups::None) => panic!("{other:?}"),
            }
        }
    }

    const SCOPE: &str = "user.slice/user@7.service/app.slice/run.scope";

    /// As systemd lays them out, with a scope of our own at the end.
    fn layout(service: &str, slice: &str) -> Fake {
        Fake::new(&[
            ("user.slice/user@7.service", service),
            ("user.slice/user@7.service/app.slice", slice),
            (SCOPE, ""),
        ])
    }

    #[test]
    fn the_nearest_directory_that_has_the_controllers_is_found() {
        let all = "cpu memory pids";
        for (service, slice, wanted) in [
            (
                all,
                all,
                Some(("user.slice/user@7.service/app.slice", true)),
            ),
            (
                all,
                "memory pids",
                Some(("user.slice/user@7.service", true)),
            ),
            (
                "memory pids",
                "memory pids",
                Some(("user.slice/user@7.service/app.slice", false)),
            ),
            ("cpu memory", "pids", None),
            ("", "", None),
        ] {
            let fake = layout(service, slice);
            let wanted = wanted.map(|(path, cpu)| (fake.path(path), cpu));
            assert_eq!(
                fake.find(&format!("/{SCOPE}")),
                wanted,
                "{service}; {slice}"
            );
        }
        // A process that its own hierarchy does not show: from outside its cgroup namespace.
        let fake = Fake::new(&[("", all)]);
        assert_eq!(fake.find("/../../x.scope"), Some((fake.path(""), true)));
        assert_eq!(fake.find("/no/such"), Some((fake.path(""), true)));
        assert!(unified("", "0::/\n").is_none());
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_passed_over() {
        let fake = layout("cpu memory pids", "cpu memory pids");
        // Root may write everything; a missing file is what nobody can.
        fs::remove_file(fake.path("user.slice/user@7.service/app.slice/cgroup.procs")).unwrap();
        let found = fake.find(&format!("/{SCOPE}")).unwrap();
        assert_eq!(found.0, fake.path("user.slice/user@7.service"));
    }

    fn limits(cpu_millis: Option<u64>) -> Limits {
        Limits {
            cpu_millis,
            memory_bytes: 64 << 20,
            pids: 20,
            ..Limits::defaults(1 << 30)
        }
    }

    /// What is written to a group that has these files.
    fn written(files: &[&str], limits: &Limits) -> Result<BTreeMap<String, String>, io::ErrorKind> {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            fs::write(folder.path().join(file), "max").unwrap();
        }
        unified_limits(folder.path(), limits).map_err(|error| error.kind())?;
        let entries = fs::read_dir(folder.path()).unwrap().flatten();
        let text = |path: PathBuf| fs::read_to_string(path).unwrap();
        let name = |entry: &fs::DirEntry| entry.file_name().into_string().unwrap();
        Ok(entries
            .map(|entry| (name(&entry), text(entry.path())))
            .collect())
    }

    fn values(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        pairs.iter().map(own).collect()
    }

    #[test]
    fn every_limit_is_written_and_swap_adds_nothing() {
        let files = ["memory.max", "memory.swap.max", "pids.max", "cpu.max"];
        let wanted = [
            ("memory.max", "67108864"),
            ("memory.swap.max", "0"),
            ("pids.max", "20"),
        ];
        let half = [&wanted[..], &[("cpu.max", "50000 100000")]].concat();
        assert_eq!(written(&files, &limits(Some(500))), Ok(values(&half)));
        let free = [&wanted[..], &[("cpu.max", "max")]].concat();
        assert_eq!(written(&files, &limits(None)), Ok(values(&free)));
    }

    #[test]
    fn a_kernel_that_does_not_account_for_swap_is_no_obstacle() {
        // The kernel lets nobody create a file in a group: to ask for one is another error.
        let wanted = values(&[("memory.max", "67108864"), ("pids.max", "20")]);
        assert_eq!(
            written(&["memory.max", "pids.max"], &limits(None)),
            Ok(wanted)
        );
        for missing in [&["memory.max"][..], &["pids.max"], &[]] {
            assert_eq!(
                written(missing, &limits(None)),
                Err(io::ErrorKind::NotFound)
            );
        }
    }

    fn run() -> RunId {
        RunId::new(Timestamp::from_nanos(1), 1)
    }

    #[test]
    fn a_limit_that_the_groups_cannot_hold_is_refused() {
        let fake = Fake::new(&[("", "memory pids")]);
        let parent = fake.path("");
        let memory = (Controller::Memory, parent.clone());
        for groups in [
            Groups::Unified {
                parent: parent.clone(),
                cpu: false,
            },
            Groups::Split(vec![memory]),
        ] {
            let error = Group::make(&groups, run(), &limits(Some(500))).unwrap_err();
            assert_eq!(error.to_string(), NO_CPU);
        }
        // Nothing was made that would have to be removed.
        assert_eq!(fs::read_dir(parent).unwrap().count(), 2);
    }

    #[test]
    fn hits_are_read_from_the_counters() {
        let fake = Fake::new(&[("", "cpu memory pids")]);
        let group = Group {
            groups: Groups::Unified {
                parent: fake.path(""),
                cpu: true,
            },
            name: "group".into(),
        };
        let path = fake.path("group");
        let check = |memory: &str, pids: &str, cpu: &str, wanted: &[LimitHit]| {
            fs::create_dir(&path).unwrap();
            fs::write(path.join("memory.events"), memory).unwrap();
            fs::write(path.join("pids.events"), pids).unwrap();
            fs::write(path.join("cpu.stat"), cpu).unwrap();
            assert_eq!(group.hits(), wanted);
            fs::remove_dir_all(&path).unwrap();
        };
        let quiet = "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0\n";
        // Reclaim at the limit is no hit: only what was ended for it.
        let reclaimed = quiet.replace("max 0", "max 7").replace("oom 0", "oom 1");
        let killed = quiet.replace("oom_kill 0", "oom_kill 1");
        let idle = "usage_usec 9\nnr_periods 4\nnr_throttled 0\nthrottled_usec 0\n";
        let throttled = idle.replace("nr_throttled 0", "nr_throttled 2");
        check(quiet, "max 0\n", idle, &[]);
        check(&reclaimed, "max 0\n", "usage_usec 9\n", &[]);
        let all = [LimitHit::Memory, LimitHit::Pids, LimitHit::Cpu];
        check(&killed, "max 3\n", &throttled, &all);
        // What is gone says nothing.
        assert_eq!(group.hits(), []);
    }

    #[test]
    fn a_group_that_nobody_watches_is_ended_and_removed() {
        let fake = Fake::new(&[("", "memory pids")]);
        let groups = Groups::Unified {
            parent: fake.path(""),
            cpu: false,
        };
        assert!(!groups.reap(run()).unwrap());
        let path = fake.path(&format!("{PREFIX}{}", run()));
        fs::create_dir(&path).unwrap();
        fs::write(path.join("cgroup.kill"), "").unwrap();
        end_all(&path).unwrap();
        assert_eq!(fs::read_to_string(path.join("cgroup.kill")).unwrap(), "1");
        // Without that file, the processes are ended one by one.
        fs::remove_file(path.join("cgroup.kill")).unwrap();
        fs::write(path.join("cgroup.procs"), "").unwrap();
        end_all(&path).unwrap();
        fs::remove_file(path.join("cgroup.procs")).unwrap();
        remove(&path).unwrap();
        assert!(!path.exists());
        remove(&path).unwrap();
    }
}
