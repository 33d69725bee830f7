//! What a sandbox starts from. The template `host` shows the host's programs, and a generated
//! `/etc` that holds none of its secrets.

mod etc; // which files of /etc are taken over, and which are written anew
mod skeleton; // directories that an ordinary user's sandbox can write below

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use belljar_base::{HasKind, Kind};

use crate::host::Host;
use crate::sys;

/// A tree to start from.
#[derive(Clone, Debug)]
pub struct Template {
    /// The root's own files.
    pub(crate) root: PathBuf,
    /// Directories of the host that are overlaid below the root.
    pub(crate) grafts: Vec<Graft>,
    /// The home directory inside, empty.
    pub home: PathBuf,
    /// The user's name inside.
    pub user: &'static str,
    guest: PathBuf,
}

/// A directory of the host, seen read-only through a writable layer.
#[derive(Clone, Debug)]
pub(crate) struct Graft {
    pub(crate) at: PathBuf,
    /// Lower layers, topmost first.
    pub(crate) layers: Vec<PathBuf>,
    /// Whether it is of use only to who can fetch packages.
    pub(crate) gated: bool,
}

/// A template could not be made.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// Reading the host's files, or writing the template, failed.
    #[error("cannot build the template at `{path}`")]
    Build {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl HasKind for TemplateError {
    fn kind(&self) -> Kind {
        Kind::Unavailable
    }
}

/// Raised when what a template holds changes; part of its name.
const VERSION: u32 = 3;
/// Directories that are shown from the host where they are directories of their own, and are
/// links into `/usr` elsewhere.
const SYSTEM: [&str; 8] = [
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/libexec",
];
/// Which packages are installed: shown like the system's own directories, so that more can be
/// installed, and vanish.
const PACKAGES: &str = "/var/lib/dpkg";
/// Empty directories that programs expect.
const EMPTY: [(&str, u32); 21] = [
    ("boot", 0o755),
    ("dev", 0o755),
    ("home", 0o755),
    ("media", 0o755),
    ("mnt", 0o755),
    ("opt", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("run", 0o755),
    ("run/lock", 0o1777),
    ("srv", 0o755),
    ("tmp", 0o1777),
    ("var", 0o755),
    ("var/cache", 0o755),
    ("var/lib", 0o755),
    ("var/lib/dpkg", 0o755),
    ("var/local", 0o755),
    ("var/log", 0o755),
    ("var/mail", 0o755),
    ("var/spool", 0o755),
    ("var/tmp", 0o1777),
];

impl Template {
    /// The template `host`, built in `folder` when the host has changed since it was built last.
    ///
    /// # Errors
    /// When the host's files cannot be read or the template not be written.
    pub fn host(folder: &Path, host: &Host) -> Result<Self, TemplateError> {
        let place = folder.join(format!("host-{:016x}", fingerprint(host)));
        if !place.join("complete").exists() {
            build(folder, &place, host).map_err(|source| TemplateError::Build {
                path: place.clone(),
                source,
            })?;
        }
        // Packages can be installed by who is root inside; an ordinary user is not even outside.
        let packages = host.shifts_ids() && Path::new(PACKAGES).is_dir();
        let packages = packages.then_some(PACKAGES);
        let grafts = system_folders().chain(packages).map(|path| {
            let skeleton = place.join("skeleton").join(path.trim_start_matches('/'));
            let own = (!host.shifts_ids()).then_some(skeleton);
            Graft {
                at: path.into(),
                layers: own.into_iter().chain([path.into()]).collect(),
                gated: path == PACKAGES,
            }
        });
        let (home, user) = if host.user_inside() == 0 {
            ("/root", "root")
        } else {
            ("/home/agent", "agent")
        };
        let grafts = grafts.collect();
        Ok(Self {
            root: place.join("root"),
            grafts,
            home: home.into(),
            user,
            guest: place.join("guest"),
        })
    }

    /// The guest's program, kept beside the tree: opened, it is executed wherever the tree is
    /// mounted, and its pages are shared by all sandboxes.
    pub(crate) fn guest(&self) -> io::Result<OwnedFd> {
        Ok(fs::File::open(&self.guest)?.into())
    }
}

fn system_folders() -> impl Iterator<Item = &'static str> {
    let own = |path: &&str| fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir());
    SYSTEM.into_iter().filter(own)
}

/// A number that changes when the host's programs or the files taken over from `/etc` do.
fn fingerprint(host: &Host) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |number: u64| {
        for byte in number.to_le_bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    add(u64::from(VERSION));
    add(u64::from_str_radix(env!("BELLJAR_GUEST_DIGEST"), 16).unwrap_or_default());
    add(u64::from(host.user));
    for path in [
        "/usr",
        "/usr/bin",
        "/usr/lib",
        "/usr/local",
        "/etc",
        "/etc/group",
        "/etc/passwd",
        "/var/lib/dpkg/status",
    ]
    .into_iter()
    .chain(["/usr/lib/sysimage/rpm", "/usr/lib/python3/dist-packages"])
    .chain(etc::TAKEN)
    {
        if let Ok(meta) = fs::metadata(path) {
            add(meta.mtime().cast_unsigned());
            add(meta.mtime_nsec().cast_unsigned());
            add(meta.ino());
        }
    }
    hash
}

/// Builds beside the place and moves it there, so that a half-built template is never used. One
/// builder at a time; the kernel unlocks for one that dies.
fn build(folder: &Path, place: &Path, host: &Host) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let lock = fs::File::create(folder.join("lock"))?;
    lock.lock()?;
    if place.join("complete").exists() {
        return Ok(());
    }
    // What an earlier builder left when it died.
    let work = folder.join(".building");
    if work.exists() {
        fs::remove_dir_all(&work)?;
    }
    let root = work.join("root");
    fs::create_dir_all(&root)?;
    set_mode(&work, 0o755)?;
    set_mode(&root, 0o755)?;
    for (name, mode) in EMPTY {
        let path = root.join(name);
        fs::create_dir(&path)?;
        set_mode(&path, mode)?;
    }
    for path in SYSTEM {
        let Ok(meta) = fs::symlink_metadata(path) else {
            continue;
        };
        let inside = root.join(path.trim_start_matches('/'));
        if meta.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(path)?, inside)?;
        } else {
            fs::create_dir(inside)?;
        }
    }
    for (link, target) in [("var/run", "/run"), ("var/lock", "/run/lock")] {
        std::os::unix::fs::symlink(target, root.join(link))?;
    }
    etc::write(&root, host)?;
    if !host.shifts_ids() {
        fs::create_dir_all(root.join("home/agent"))?;
        system_folders().try_for_each(|path| skeleton::copy(path, &work.join("skeleton")))?;
    }
    fs::write(work.join("guest"), sys::GUEST)?;
    set_mode(&work.join("guest"), 0o555)?;
    fs::write(work.join("complete"), "")?;
    fs::rename(&work, place)
}

fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}
