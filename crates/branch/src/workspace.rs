//! The directory that a run works on: checked once, at the door, and held open.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use belljar_base::{HasKind, Kind};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::lock::Lock;

/// Directories that belong to the system; a workspace may be below some of them, never be one.
const SYSTEM: &[&str] = &[
    "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib32", "/lib64", "/libx32", "/media",
    "/mnt", "/opt", "/proc", "/run", "/sbin", "/srv", "/sys", "/tmp", "/usr", "/var",
];
/// System directories below which nothing can be a workspace either: the template owns them.
const SYSTEM_WHOLE: &[&str] = &["/boot", "/dev", "/etc", "/proc", "/sys"];

/// A directory that a run may branch, held open so that later renames of it lead nowhere else.
#[derive(Debug)]
pub struct Workspace {
    path: PathBuf,
    root: OwnedFd,
}

/// The directory cannot be a workspace.
#[derive(Debug, thiserror::Error)]
pub enum WorkspaceError {
    /// There is no such directory.
    #[error("the workspace `{}` does not exist; create it or name another directory", .0.display())]
    Missing(PathBuf),
    /// It is a file or something else.
    #[error("the workspace `{}` is not a directory; name the directory it is in", .0.display())]
    NotDirectory(PathBuf),
    /// It is the root of the file system.
    #[error("the workspace cannot be `/`, which holds the whole system; name a project directory")]
    Root,
    /// It belongs to the system.
    #[error("the workspace cannot be `{}`, which belongs to the system; name a project directory", .0.display())]
    System(PathBuf),
    /// It is the home directory or contains it.
    #[error("the workspace cannot be `{}`, which holds the keys in your home directory; name a project directory below it", .0.display())]
    Home(PathBuf),
    /// It cannot be opened.
    #[error("could not open the workspace `{}`", path.display())]
    Open {
        /// As it was named.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl HasKind for WorkspaceError {
    fn kind(&self) -> Kind {
        match self {
            Self::Missing(_) => Kind::NotFound,
            Self::NotDirectory(_) | Self::Root | Self::System(_) | Self::Home(_) => Kind::Invalid,
            Self::Open { .. } => Kind::Unavailable,
        }
    }
}

impl Workspace {
    /// Checks that `path` may be a workspace and opens it. `home` is the user's home directory.
    ///
    /// # Errors
    /// Each with one sentence that says what to name instead.
    pub fn open(path: &Path, home: Option<&Path>) -> Result<Self, WorkspaceError> {
        let named = path.to_path_buf();
        let path = path
            .canonicalize()
            .map_err(|error| cannot_open(&named, error))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = rustix::fs::open(&path, flags, Mode::empty())
            .map_err(|errno| cannot_open(&named, errno.into()))?;
        check_place(&path, home)?;
        Ok(Self { path, root })
    }

    /// The canonical absolute path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory itself.
    #[must_use]
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Waits for the lock that keeps two merges of this workspace from interleaving; held until
    /// it is dropped. None if another holds it for longer than `seconds`.
    pub(crate) fn lock(&self, seconds: u64) -> io::Result<Option<Lock>> {
        for _ in 0..seconds.saturating_mul(100) {
            // A descriptor of its own, because a lock belongs to an open directory.
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let own = rustix::fs::openat(&self.root, ".", flags, Mode::empty())?;
            if let Some(lock) = Lock::take(File::from(own))? {
                return Ok(Some(lock));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(None)
    }
}

fn cannot_open(path: &Path, source: io::Error) -> WorkspaceError {
    let path = path.to_path_buf();
    match Errno::from_io_error(&source) {
        Some(Errno::NOENT) => WorkspaceError::Missing(path),
        Some(Errno::NOTDIR) => WorkspaceError::NotDirectory(path),
        _ => WorkspaceError::Open { path, source },
    }
}

fn check_place(path: &Path, home: Option<&Path>) -> Result<(), WorkspaceError> {
    let refused = || path.to_path_buf();
    if path == Path::new("/") {
        return Err(WorkspaceError::Root);
    }
    let is_system = SYSTEM.iter().any(|system| path == Path::new(system));
    let is_below = SYSTEM_WHOLE.iter().any(|system| path.starts_with(system));
    if is_system || is_below {
        return Err(WorkspaceError::System(refused()));
    }
    let home = home.map(|home| {
        home.canonicalize()
            .unwrap_or_else(|_missing| home.to_path_buf())
    });
    if home.is_some_and(|home| home.starts_with(path)) {
        return Err(WorkspaceError::Home(refused()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(path: &Path, home: Option<&Path>) -> String {
        Workspace::open(path, home).unwrap_err().to_string()
    }

    #[test]
    fn what_is_no_project_directory_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("file");
        std::fs::write(&file, "").unwrap();
        let cases = [
            (
                PathBuf::from("/"),
                "the workspace cannot be `/`, which holds the whole system",
            ),
            (
                PathBuf::from("/usr"),
                "the workspace cannot be `/usr`, which belongs to the system",
            ),
            (
                PathBuf::from("/proc/self"),
                "the workspace cannot be `/proc/",
            ),
            (PathBuf::from("/tmp/.."), "the workspace cannot be `/`"),
            (
                PathBuf::from("/no/such"),
                "the workspace `/no/such` does not exist",
            ),
            (
                file.clone(),
                "is not a directory; name the directory it is in",
            ),
            (file.join("x"), "is not a directory"),
            (
                home.path().to_path_buf(),
                "which holds the keys in your home directory",
            ),
        ];
        for (path, text) in cases {
            let found = refusal(&path, Some(home.path()));
            assert!(found.contains(text), "{}: {found}", path.display());
        }
        let project = home.path().join("project");
        std::fs::create_dir(&project).unwrap();
        let workspace = Workspace::open(&project, Some(home.path())).unwrap();
        assert_eq!(workspace.path(), project.canonicalize().unwrap());
    }

    #[test]
    fn an_ancestor_of_the_home_directory_is_refused() {
        let outer = tempfile::tempdir().unwrap();
        let home = outer.path().join("a/b");
        std::fs::create_dir_all(&home).unwrap();
        assert!(refusal(outer.path(), Some(&home)).contains("home directory"));
    }
}
