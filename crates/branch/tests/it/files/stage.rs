//! A workspace in a temporary directory, and runs over it in a real overlay.
#![expect(
    clippy::unwrap_used,
    reason = "a stage that cannot be set is a failed test"
)]

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use belljar_base::Timestamp;
use belljar_branch::Workspace;
use belljar_branch::engine::files::{
    FileChanges, FileEntry, FilesEngine, FilesOptions, IdShift, SealRequest, seal,
};
use belljar_branch::engine::{Deed, Engine, Steps};
use belljar_branch::merge::{self, MergeError, MergeReport};
use tempfile::TempDir;

/// One workspace, and the directories of one run over it.
pub(crate) struct Stage {
    directory: PathBuf,
    made: Option<TempDir>,
}

impl Stage {
    /// A stage that another process has set in `directory`.
    pub(crate) fn at(directory: &Path) -> Self {
        Self {
            directory: directory.to_path_buf(),
            made: None,
        }
    }

    /// A workspace that `script` made, in a shell, in it.
    pub(crate) fn new(script: &str) -> Self {
        let made = tempfile::tempdir().unwrap();
        let directory = made.path().to_path_buf();
        for name in ["lower", "upper", "work", "merged", "run"] {
            std::fs::create_dir(directory.join(name)).unwrap();
        }
        let stage = Self {
            directory,
            made: Some(made),
        };
        stage.outside(script);
        stage
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
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
        let command: Vec<_> = command.iter().map(|&word| word.to_owned()).collect();
        self.in_namespaces(mount, &command);
    }

    /// Runs a script, with a command as its arguments, as root of a user namespace beside the
    /// workspace.
    pub(crate) fn in_namespaces(&self, script: &str, command: &[String]) {
        let mut unshare = Command::new("unshare");
        unshare.args([
            "--user",
            "--map-root-user",
            "--mount",
            "sh",
            "-ec",
            script,
            "sh",
        ]);
        check(unshare.args(command).current_dir(&self.directory));
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

impl Stage {
    /// The engines of this workspace, as a server would make them.
    pub(crate) fn engines(&self) -> impl FnMut(&Deed) -> Made {
        let lower = self.lower();
        move |deed| {
            let workspace = Workspace::open(&lower, None)?;
            let engine = FilesEngine::new(workspace, deed, FilesOptions::default())?;
            Ok(vec![Box::new(engine)])
        }
    }

    pub(crate) fn merge(&self) -> Result<MergeReport, MergeError> {
        merge::merge(
            &self.run_directory(),
            &mut self.engines(),
            &mut Steps::unwatched(),
        )
    }

    pub(crate) fn revert(&self) -> Result<MergeReport, MergeError> {
        merge::revert(
            &self.run_directory(),
            &mut self.engines(),
            &mut Steps::unwatched(),
        )
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        snapshot(&self.lower())
    }
}

/// What a server's closure answers.
type Made = Result<Vec<Box<dyn Engine>>, Box<dyn Error + Send + Sync>>;

/// A tree, path by path: all that a merge and a revert promise.
pub(crate) type Snapshot = BTreeMap<PathBuf, Vec<String>>;

pub(crate) fn snapshot(root: &Path) -> Snapshot {
    let mut found = Snapshot::new();
    let mut waiting = vec![root.to_path_buf()];
    while let Some(path) = waiting.pop() {
        let meta = path.symlink_metadata().unwrap();
        let kind = meta.file_type();
        let mut facts = vec![format!("{kind:?} {}:{}", meta.uid(), meta.gid())];
        if kind.is_symlink() {
            facts.push(format!("{:?}", std::fs::read_link(&path).unwrap()));
        } else {
            facts.push(format!("{:o}", meta.mode()));
            facts.push(format!("mtime {}.{}", meta.mtime(), meta.mtime_nsec()));
        }
        if kind.is_file() && meta.len() < 1 << 30 {
            facts.push(format!("{:?}", std::fs::read(&path).unwrap()));
        }
        if kind.is_file() || kind.is_dir() {
            facts.push(format!("{:?}", xattrs(&path)));
        }
        if kind.is_dir() {
            let inside = std::fs::read_dir(&path).unwrap();
            waiting.extend(inside.map(|entry| entry.unwrap().path()));
        }
        found.insert(path.strip_prefix(root).unwrap().to_path_buf(), facts);
    }
    found
}

fn xattrs(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut list = vec![0_u8; 4096];
    let length = rustix::fs::llistxattr(path, &mut list[..]).unwrap();
    list.truncate(length);
    let names = list
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty());
    let value = |name: &[u8]| {
        let mut value = vec![0_u8; 4096];
        let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
        value.truncate(length);
        (String::from_utf8_lossy(name).into_owned(), value)
    };
    names.map(value).collect()
}

/// Without the times of directories, which a merge does not promise.
pub(crate) fn without_directory_times(mut snapshot: Snapshot) -> Snapshot {
    for facts in snapshot.values_mut() {
        if facts.iter().any(|fact| fact.contains("is_dir: true")) {
            facts.retain(|fact| !fact.starts_with("mtime"));
        }
    }
    snapshot
}

impl Drop for Stage {
    /// The kernel leaves a directory in `work` that an ordinary user cannot remove as it is.
    fn drop(&mut self) {
        if self.made.is_some() {
            let mut chmod = Command::new("chmod");
            let _best_effort = chmod.args(["-Rf", "u+rwX"]).arg(&self.directory).output();
        }
    }
}

fn check(command: &mut Command) {
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
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
