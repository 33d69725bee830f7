//! The engines of a run's change set: one for its workspace, one for each database.

use std::error::Error;
use std::path::PathBuf;

use belljar_branch::Workspace;
use belljar_branch::engine::files::{FilesEngine, FilesOptions};
use belljar_branch::engine::sqlite::Sqlite;
use belljar_branch::engine::{Deed, Engine};

use crate::record::{RunRecord, path_of};

/// What engines are made from.
pub(crate) struct Parts {
    workspace: Option<PathBuf>,
    record: RunRecord,
    home: Option<PathBuf>,
    allow_privileged: bool,
}

impl Parts {
    pub(crate) fn new(record: &RunRecord, home: Option<PathBuf>, allow_privileged: bool) -> Self {
        let workspace = record.workspace.as_ref().map(path_of);
        Self {
            workspace,
            record: record.clone(),
            home,
            allow_privileged,
        }
    }

    /// The engines for a deed.
    pub(crate) fn engines(
        &self,
        deed: &Deed,
    ) -> Result<Vec<Box<dyn Engine>>, Box<dyn Error + Send + Sync>> {
        let mut engines: Vec<Box<dyn Engine>> = Vec::new();
        if let Some(path) = &self.workspace {
            let workspace = Workspace::open(path, self.home.as_deref())?;
            let options = FilesOptions {
                allow_privileged: self.allow_privileged,
            };
            engines.push(Box::new(FilesEngine::new(workspace, deed, options)?));
        }
        for name in self.record.databases.keys() {
            engines.push(Box::new(Sqlite::new(name, deed)));
        }
        Ok(engines)
    }
}
