//! A probe that must fail does fail: each wall is tried once from inside before anything runs.

use std::fs;

use crate::sys;

/// Answers whether a wall holds; is given what the kernel says of this process.
type Probe = fn(&str) -> bool;

/// The walls that do not hold, by name. Empty is the only good answer.
pub(crate) fn open_walls() -> Vec<String> {
    let probes: [(&str, Probe); 11] = [
        ("capabilities", holds_no_capability),
        ("no-new-privileges", |status| is(status, "NoNewPrivs:", "1")),
        ("seccomp", |status| is(status, "Seccomp:", "2")),
        ("mount", |_| sys::mount_is_refused()),
        ("user-namespaces", |_| sys::namespaces_are_refused()),
        ("keyrings", |_| sys::keyrings_are_refused()),
        ("device-nodes", |_| sys::device_nodes_are_refused()),
        ("landlock", |_| landlock_holds()),
        ("kernel-knobs", |_| kernel_knobs_are_closed()),
        ("network", |_| only_loopback_exists()),
        ("root", |_| host_is_out_of_sight()),
    ];
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let open = probes.iter().filter(|(_, closed)| !closed(&status));
    open.map(|(wall, _)| (*wall).to_owned()).collect()
}

fn is(status: &str, key: &str, value: &str) -> bool {
    status.lines().any(|line| {
        line.strip_prefix(key)
            .is_some_and(|rest| rest.trim() == value)
    })
}

fn holds_no_capability(status: &str) -> bool {
    ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"]
        .iter()
        .all(|set| is(status, set, "0000000000000000"))
}

/// `/proc` is read-only by Landlock alone at this path, whatever the mounts say.
fn landlock_holds() -> bool {
    fs::OpenOptions::new()
        .write(true)
        .open("/proc/self/comm")
        .is_err()
}

fn kernel_knobs_are_closed() -> bool {
    let knobs = [
        "/proc/sys/kernel/core_pattern",
        "/proc/sysrq-trigger",
        "/proc/sys/vm/drop_caches",
    ];
    knobs
        .iter()
        .all(|knob| fs::OpenOptions::new().write(true).open(knob).is_err())
}

fn only_loopback_exists() -> bool {
    let Ok(devices) = fs::read_to_string("/proc/self/net/dev") else {
        return false;
    };
    devices.lines().skip(2).all(|line| {
        let name = line.split(':').next().unwrap_or_default().trim();
        // Fallback tunnel devices exist in every namespace on some kernels; they are down.
        name == "lo" || name.ends_with('0') && !name.starts_with("eth")
    })
}

/// Sysfs is absent, and nothing of the old root is left in the mount table.
fn host_is_out_of_sight() -> bool {
    let Ok(mounts) = fs::read_to_string("/proc/self/mountinfo") else {
        return false;
    };
    let no_sysfs = !mounts.contains(" - sysfs ") && !mounts.contains(" - cgroup");
    no_sysfs
        && mounts
            .lines()
            .any(|line| line.contains(" / / ") && line.contains(" - overlay "))
}
