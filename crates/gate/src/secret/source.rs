//! Where a value is read when a run starts: a file, a variable, a command, a vault. All of it is
//! read by the gate, outside of every sandbox.

mod command; // what a program prints
mod vault; // a key-value store that speaks HTTP

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use belljar_base::{HasKind, Kind};
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

pub use self::command::Program;
pub use self::vault::Vault;
use super::{Value, ValueError};

/// Where a value is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The first and only line of a file.
    File(PathBuf),
    /// A variable of the environment that `belljar run` is called in.
    Env(String),
    /// What a command prints.
    Command(Program),
    /// A field of a secret in a vault.
    Vault(Vault),
}

/// What a source may look at beside itself. Only the command line knows the environment.
pub struct Surroundings<'a> {
    /// A variable of the environment.
    pub variable: &'a dyn Fn(&str) -> Option<OsString>,
    /// Certificates to trust beside the system's.
    pub roots: Vec<CertificateDer<'static>>,
}

/// A source gave no value.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct SourceError {
    text: String,
    kind: Kind,
    #[source]
    source: Option<ValueError>,
}

/// Anything that values are read from.
pub(super) trait Origin {
    /// Reads the value, in bounded time.
    fn read(&self, around: &Surroundings<'_>) -> Result<Value, SourceError>;
}

impl std::fmt::Debug for Surroundings<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Surroundings").finish_non_exhaustive()
    }
}

impl HasKind for SourceError {
    fn kind(&self) -> Kind {
        self.kind
    }
}

impl SourceError {
    fn new(kind: Kind, text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            kind,
            source: None,
        }
    }

    fn value(text: impl Into<String>, source: ValueError) -> Self {
        Self {
            text: text.into(),
            kind: source.kind(),
            source: Some(source),
        }
    }
}

impl Source {
    /// Reads the value.
    ///
    /// # Errors
    /// When there is none, or nothing that can be one.
    pub fn read(&self, around: &Surroundings<'_>) -> Result<Value, SourceError> {
        self.origin().read(around)
    }

    fn origin(&self) -> Box<dyn Origin + '_> {
        match self {
            Self::File(path) => Box::new(InFile(path)),
            Self::Env(name) => Box::new(InVariable(name)),
            Self::Command(program) => Box::new(program),
            Self::Vault(vault) => Box::new(vault),
        }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Env(name) => write!(f, "variable {name}"),
            Self::Command(program) => write!(f, "command {program}"),
            Self::Vault(vault) => write!(f, "vault {vault}"),
        }
    }
}

struct InFile<'a>(&'a PathBuf);
struct InVariable<'a>(&'a str);

impl Origin for InFile<'_> {
    fn read(&self, _around: &Surroundings<'_>) -> Result<Value, SourceError> {
        let path = self.0.display();
        let failed = |error: std::io::Error| {
            let kind = if error.kind() == std::io::ErrorKind::NotFound {
                Kind::NotFound
            } else {
                Kind::Unavailable
            };
            SourceError::new(kind, format!("cannot read the file `{path}`: {error}"))
        };
        // A pipe could keep everybody waiting.
        let flags =
            rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC | rustix::fs::OFlags::NONBLOCK;
        let file = rustix::fs::open(self.0, flags, rustix::fs::Mode::empty());
        let mut file = File::from(file.map_err(|error| failed(error.into()))?);
        if !file.metadata().map_err(failed)?.is_file() {
            return Err(SourceError::new(
                Kind::Invalid,
                format!("`{path}` is not a regular file"),
            ));
        }
        Value::read(&mut file)
            .map_err(|source| SourceError::value(format!("the file `{path}` has no value"), source))
    }
}

impl Origin for InVariable<'_> {
    fn read(&self, around: &Surroundings<'_>) -> Result<Value, SourceError> {
        let name = self.0;
        let value = (around.variable)(name).ok_or_else(|| {
            let text = format!("the variable `{name}` is not set where `belljar` was called");
            SourceError::new(Kind::NotFound, text)
        })?;
        let value = Zeroizing::new(value.into_vec());
        Value::copy(&value).map_err(|source| {
            SourceError::value(format!("the variable `{name}` has no value"), source)
        })
    }
}
