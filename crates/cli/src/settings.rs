//! The environment, read here alone.
#![expect(
    clippy::disallowed_methods,
    reason = "this is the one place that reads the environment"
)]

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// What the environment says.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Where runs, ledger and templates are kept.
    pub(crate) state: PathBuf,
    /// The key that secrets are sealed with; outside of the state directory.
    pub(crate) secrets_key: PathBuf,
    /// What runs of this host may reach, whatever they ask for; need not be there.
    pub(crate) network: PathBuf,
    /// The user's home directory.
    pub(crate) home: Option<PathBuf>,
    /// Where the command was called.
    pub(crate) directory: Option<PathBuf>,
    /// Whether colours are unwanted (NO_COLOR).
    pub(crate) plain: bool,
}

impl Settings {
    pub(crate) fn read() -> Self {
        let path = |name: &str| {
            env::var_os(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        let home = path("HOME");
        let root = rustix::process::geteuid().is_root();
        let state = path("BELLJAR_STATE")
            .or_else(|| root.then(|| PathBuf::from("/var/lib/belljar")))
            .or_else(|| Some(path("XDG_STATE_HOME")?.join("belljar")))
            .or_else(|| Some(home.as_ref()?.join(".local/state/belljar")))
            .unwrap_or_else(|| PathBuf::from("/var/tmp/belljar"));
        // What the whole machine shares has a key of the machine, whoever's home root has.
        let shared = root && path("BELLJAR_STATE").is_none();
        let config = path("BELLJAR_CONFIG")
            .or_else(|| shared.then(|| PathBuf::from("/etc/belljar")))
            .or_else(|| Some(path("XDG_CONFIG_HOME")?.join("belljar")))
            .or_else(|| Some(home.as_ref()?.join(".config/belljar")))
            .unwrap_or_else(|| PathBuf::from("/etc/belljar"));
        let directory = env::current_dir().ok();
        Self {
            state,
            secrets_key: config.join("secrets.key"),
            network: config.join("network.toml"),
            home,
            directory,
            plain: env::var_os("NO_COLOR").is_some(),
        }
    }
}

/// A variable to pass on.
pub(crate) fn variable(name: &str) -> Option<OsString> {
    env::var_os(OsStr::new(name))
}
