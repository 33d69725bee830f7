//! What a run could have left behind: processes, control groups, mounts. Looked for on the host,
//! not asked of the sandbox.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use belljar_base::RunId;

use super::check::Check;

/// How long the kernel may take to take a dead process out of its tables.
const PATIENCE: Duration = Duration::from_secs(2);

/// That nothing of a run is left; `marker` is on its command lines.
pub(super) fn nothing(what: &str, run: RunId, marker: &str) -> Check {
    let start = Instant::now();
    loop {
        let found = search(run, marker);
        if found.is_empty() || start.elapsed() > PATIENCE {
            let expected = "no process, control group or mount";
            let shown = if found.is_empty() {
                expected.to_owned()
            } else {
                found.join(", ")
            };
            return Check::same(what, expected, shown);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn search(run: RunId, marker: &str) -> Vec<String> {
    let run = run.to_string();
    let mut found: Vec<String> = processes()
        .filter(|process| belongs(process, &run, marker))
        .map(|process| format!("process {}", process.display()))
        .collect();
    let groups = groups(&run).into_iter();
    found.extend(groups.map(|path| format!("control group {}", path.display())));
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mounted = mounts.lines().filter(|line| line.contains(&run));
    found.extend(mounted.map(|line| format!("mount {line}")));
    found
}

fn processes() -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let own = std::process::id().to_string();
    entries.map(|entry| entry.path()).filter(move |path| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()) && name != own)
    })
}

/// By its command line, its environment (where we may read it) and its control group.
fn belongs(process: &Path, run: &str, marker: &str) -> bool {
    let holds = |file: &str, text: &str| {
        let bytes = fs::read(process.join(file)).unwrap_or_default();
        bytes
            .windows(text.len())
            .any(|window| window == text.as_bytes())
    };
    holds("cmdline", marker) || holds("environ", run) || holds("cgroup", run)
}

/// Control groups named after the run, below every hierarchy.
fn groups(run: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![(PathBuf::from("/sys/fs/cgroup"), 0_u8)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if !is_folder {
                continue;
            }
            if entry.file_name().to_string_lossy().contains(run) {
                found.push(entry.path());
            } else if depth < DEPTH_MAX {
                folders.push((entry.path(), depth + 1));
            }
        }
    }
    found
}

/// How deep groups are looked for: a user's delegated group is about six deep.
const DEPTH_MAX: u8 = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use belljar_base::Timestamp;

    #[test]
    fn a_process_that_is_left_is_found() {
        let run = RunId::new(Timestamp::from_nanos(1_700_000_000_000_000_000), 7);
        let marker = format!("left-behind-{}", std::process::id());
        assert!(search(run, &marker).is_empty());
        let mut child = std::process::Command::new("/bin/sh")
            .args(["-c", "read line", &marker])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        // The kernel wakes us a moment before the new program's arguments can be read.
        let mut found = search(run, &marker);
        for _attempt in 0..500 {
            if !found.is_empty() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
            found = search(run, &marker);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found, [format!("process /proc/{}", child.id())]);
    }
}
