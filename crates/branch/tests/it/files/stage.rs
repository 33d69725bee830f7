//! A workspace in a temporary directory, and runs over it in a real overlay.
#![expect(
    clippy::unwrap_used,
    reason = "a stage that cannot be set is a failed test"
)]

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use belljar_base::Timestamp;
use belljar_branch::Workspace;
use belljar_branch::engine::files::{FileChanges, FileEntry, IdShift, SealRequest, seal};
use tempfile::TempDir;

/// One workspace, and the directories of one run over it.
pub(crate) struct Stage {
    directory: TempDir,
}

impl Stage {
    /// A workspace that `script` made, in a shell, in it.
    pub(crate) fn new(script: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in ["lower", "upper", "work", "merged", "run"] {
            std::fs::create_dir(directory.path().join(name)).unwrap();
        }
        let stage = Self { directory };
        stage.outside(script);
        stage
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn lower(&self) -> PathBuf {
        self.path("lower")
    }

    pub(crate) fn run_directory(&self) -> PathBuf {
        self.path("run")
    }

    pub(crate) fn workspace(&self) -> Workspace {
        Workspace::open(&self.lower(), None).unwrap()
    }

    /// Runs a script in the real workspace, as somebody else would.
    pub(crate) fn outside(&self, script: &str) {
        let mut shell = Command::new("sh");
        check(shell.arg("-ec").arg(script).current_dir(self.lower()));
    }

    /// Runs a script in an overlay over the workspace.
    pub(crate) fn inside(&self, script: &str) {
        self.command_inside(&["sh", "-ec", script]);
    }

    /// Runs a command in an overlay over the workspace, as root of a user namespace.
    pub(crate) fn command_inside(&self, command: &[&str]) {
        let mount = "mount -t overlay overlay -o \
            userxattr,lowerdir=lower,upperdir=upper,workdir=work merged; cd merged; exec \"$@\"";
        let mut unshare = Command::new("unshare");
        unshare.args([
            "--user",
            "--map-root-user",
            "--mount",
            "sh",
            "-ec",
            mount,
            "sh",
        ]);
        check(unshare.args(command).current_dir(self.directory.path()));
    }

    /// Seals what the scripts inside did.
    pub(crate) fn seal(&self) -> FileChanges {
        self.seal_started(now())
    }

    /// Seals as if the run had begun at `started`.
    pub(crate) fn seal_started(&self, started: Timestamp) -> FileChanges {
        let upper = File::open(self.path("upper")).unwrap();
        seal(&SealRequest {
            upper: upper.as_fd(),
            lower: &self.workspace(),
            started,
            ids: IdShift::default(),
            into: &self.path("run/changes"),
        })
        .unwrap()
    }
}

fn check(command: &mut Command) {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text}");
}

/// The wall clock, well after everything that was written before.
pub(crate) fn now() -> Timestamp {
    std::thread::sleep(std::time::Duration::from_millis(15));
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    let nanos = now.tv_sec * 1_000_000_000 + now.tv_nsec;
    Timestamp::from_nanos(u64::try_from(nanos).unwrap())
}

/// One line per change: word, path, and `!` when it was changed while running.
pub(crate) fn lines(changes: &FileChanges) -> String {
    let line = |entry: &FileEntry| {
        let mark = if entry.changed_while_running {
            " !"
        } else {
            ""
        };
        format!("{:?} {}{mark}\n", entry.change(), entry.path.visible())
    };
    changes.entries().iter().map(line).collect()
}

/// Whether the file has these bytes.
pub(crate) fn has(path: &Path, bytes: &[u8]) -> bool {
    std::fs::read(path).is_ok_and(|found| found == bytes)
}
