//! What can be wrong with kept secrets, a sentence each. None says anything of a value.

use std::io;
use std::path::PathBuf;

use belljar_base::{HasKind, Kind};

use crate::secret::source::SourceError;
use crate::secret::{SecretName, ValueError};

/// A secret cannot be kept, or not be opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is none of that name.
    #[error("there is no secret `{name}`; {}", hint(nearest.as_ref(), *any))]
    Unknown {
        /// What was asked for.
        name: SecretName,
        /// What was meant, perhaps.
        nearest: Option<SecretName>,
        /// Whether there are secrets at all.
        any: bool,
    },
    /// Two names would have one variable.
    #[error(
        "the secret `{other}` has the variable `{variable}` already; choose another name than `{name}`, or first `belljar secret rm {other}`"
    )]
    Clash {
        /// The new one.
        name: SecretName,
        /// The one that is there.
        other: SecretName,
        /// The variable of both.
        variable: String,
    },
    /// More than can be kept or opened.
    #[error("there can be no more than {0} secrets")]
    TooMany(usize),
    /// The value does not fit.
    #[error("the secret `{name}` cannot be used")]
    Value {
        /// Which.
        name: SecretName,
        /// Why.
        source: ValueError,
    },
    /// The source says nothing, or nothing that fits.
    #[error("the secret `{name}` cannot be read from its source")]
    Source {
        /// Which.
        name: SecretName,
        /// Why.
        source: SourceError,
    },
    /// The file is not what was sealed.
    #[error(
        "the file of the secret `{name}` was changed since it was sealed, or is damaged; set it again with `belljar secret set {name}`"
    )]
    Broken {
        /// Which.
        name: SecretName,
    },
    /// The file was sealed with another key.
    #[error(
        "the secret `{name}` was sealed with another key; put that key back, or set the secret again with `belljar secret set {name}`"
    )]
    OtherKey {
        /// Which.
        name: SecretName,
    },
    /// The file was written by a newer Belljar.
    #[error(
        "the file of the secret `{name}` has format {version}, which this Belljar does not know"
    )]
    Version {
        /// Which.
        name: SecretName,
        /// Its format.
        version: u32,
    },
    /// The key is gone.
    #[error(
        "the key `{}` that secrets are sealed with is missing; put it back, or remove the secrets with `belljar secret rm` and set them again",
        path.display()
    )]
    NoKey {
        /// Where it should be.
        path: PathBuf,
    },
    /// The key cannot be used as it is.
    #[error("the key `{}` cannot be used: {reason}", path.display())]
    Key {
        /// Where it is.
        path: PathBuf,
        /// Why, with the remedy.
        reason: String,
    },
    /// The key would lie with what it seals.
    #[error(
        "the key `{}` would lie in the state directory, beside what it seals; name another place with XDG_CONFIG_HOME or BELLJAR_CONFIG",
        path.display()
    )]
    KeyInside {
        /// Where it would be.
        path: PathBuf,
    },
    /// A file cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file cannot be written or removed.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Core dumps cannot be switched off.
    #[error("cannot switch core dumps off, so no secret is opened")]
    Core(#[source] io::Error),
    /// The kernel gives no random bytes.
    #[error("the kernel gives no random bytes, so nothing can be sealed")]
    Random,
}

impl StoreError {
    pub(super) fn broken(name: &SecretName) -> Self {
        Self::Broken { name: name.clone() }
    }
}

impl HasKind for StoreError {
    fn kind(&self) -> Kind {
        match self {
            Self::Unknown { .. } => Kind::NotFound,
            Self::Clash { .. } | Self::Broken { .. } | Self::OtherKey { .. } => Kind::Conflict,
            Self::TooMany(_) => Kind::Exhausted,
            Self::Value { source, .. } => source.kind(),
            Self::Source { source, .. } => source.kind(),
            Self::KeyInside { .. } | Self::Version { .. } => Kind::Invalid,
            Self::Key { .. } => Kind::Denied,
            Self::Read { source, .. } | Self::Write { source, .. } => of(source),
            Self::NoKey { .. } | Self::Core(_) | Self::Random => Kind::Unavailable,
        }
    }
}

fn of(error: &io::Error) -> Kind {
    if error.kind() == io::ErrorKind::StorageFull {
        Kind::Exhausted
    } else {
        Kind::Unavailable
    }
}

fn hint(nearest: Option<&SecretName>, any: bool) -> String {
    match nearest {
        Some(nearest) => format!("the nearest is `{nearest}`"),
        None if any => "`belljar secret list` lists them".to_owned(),
        None => "there are none yet; `belljar secret set` keeps one".to_owned(),
    }
}
