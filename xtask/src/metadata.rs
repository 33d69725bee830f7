//! What `cargo metadata` says of the packages, as far as the checks ask.

use serde::Deserialize;

use crate::shell::{Failure, capture, program};

/// Every package, ours and foreign.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Metadata {
    /// The packages.
    pub(crate) packages: Vec<Package>,
}

/// One package.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Package {
    /// Its name.
    pub(crate) name: String,
    /// Its version.
    #[serde(default)]
    pub(crate) version: String,
    /// Its licence, as an SPDX expression.
    pub(crate) license: Option<String>,
    /// Where it comes from; nothing for a package of this repository.
    pub(crate) source: Option<String>,
    /// Its manifest.
    #[serde(default)]
    pub(crate) manifest_path: String,
    /// What it names as a dependency.
    #[serde(default)]
    pub(crate) dependencies: Vec<Dependency>,
    /// What it builds.
    #[serde(default)]
    pub(crate) targets: Vec<Target>,
}

/// A dependency as written in a manifest.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Dependency {
    /// The package's name.
    pub(crate) name: String,
    /// `dev`, `build` or nothing.
    pub(crate) kind: Option<String>,
}

/// Something a package builds.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Target {
    /// Its name.
    pub(crate) name: String,
    /// `lib`, `bin`, `test`, `example`, …
    pub(crate) kind: Vec<String>,
}

impl Metadata {
    /// Asks cargo.
    ///
    /// # Errors
    /// When cargo fails or its answer does not parse.
    pub(crate) fn load() -> Result<Self, Failure> {
        let text = capture(&mut program("cargo", &["metadata", "--format-version=1"]))?;
        serde_json::from_str(&text)
            .map_err(|error| Failure::new(format!("`cargo metadata` does not parse: {error}")))
    }

    /// The packages of this repository.
    pub(crate) fn ours(&self) -> impl Iterator<Item = &Package> {
        self.packages
            .iter()
            .filter(|package| package.source.is_none())
    }
}
