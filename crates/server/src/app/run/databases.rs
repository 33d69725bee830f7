//! The databases of a run: branched before it, sealed after it.

use std::collections::BTreeMap;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use belljar_base::DatabaseName;
use belljar_branch::engine::sqlite::{self, DatabaseChanges};
use belljar_ledger::event::Method;
use belljar_ledger::{Event, Text};
use belljar_sandbox::{Enclosed, Host, Writable};

use super::inside::{DATABASE, DATABASES};
use super::{RunError, Underway, bytes};
use crate::state::StateError;

impl Underway<'_> {
    /// Branches the databases; what the sandbox may write of them.
    pub(super) fn databases(&mut self) -> Result<Vec<Writable>, RunError> {
        let mut writes = Vec::new();
        let mut events = Vec::new();
        for (name, source) in &self.request.databases {
            let into = self
                .runner
                .state
                .run_folder(self.id)
                .join("db")
                .join(name.as_str());
            std::fs::create_dir_all(&into).map_err(|source| StateError::Record {
                id: self.id,
                source,
            })?;
            let branched = sqlite::branch(source, &into).map_err(|source| RunError::Database {
                name: name.clone(),
                source,
            })?;
            self.record
                .databases
                .insert(name.clone(), bytes(&branched.source));
            self.methods.insert(name.clone(), branched.method);
            events.push(Event::BranchCreated {
                name: name.clone(),
                source: Text::from(branched.source.as_os_str()),
                method: match branched.method {
                    sqlite::Method::Reflink => Method::Reflink,
                    sqlite::Method::Copy => Method::Copy,
                },
                bytes: branched.bytes,
            });
            let at = Path::new(DATABASES).join(name.as_str());
            let in_place = Host::holds_size(&branched.database);
            let in_place = in_place.map_err(|source| StateError::Record {
                id: self.id,
                source,
            })?;
            writes.push(Writable {
                source: branched.database,
                at,
                in_place,
            });
        }
        if !events.is_empty() {
            self.write(events)?;
            self.runner.state.keep(&self.record, false)?;
        }
        Ok(writes)
    }

    /// Seals what the run left of each database.
    pub(super) fn seal_databases(
        &self,
        sandbox: &dyn Enclosed,
    ) -> Result<BTreeMap<DatabaseName, DatabaseChanges>, RunError> {
        let mut sealed = BTreeMap::new();
        // In the order in which the sandbox was given them.
        for (number, name) in self.request.databases.keys().enumerate() {
            let folder = self.runner.state.run_folder(self.id).join("db");
            let folder = folder.join(name.as_str());
            let left = sandbox.left(number).map_err(RunError::Sandbox)?;
            // The directory is named by its descriptor: it is in no tree of the host.
            let beside = format!("/proc/self/fd/{}", left.beside.as_raw_fd());
            let beside = PathBuf::from(beside).join(DATABASE);
            let work = if left.in_place {
                folder.join("work").join(DATABASE)
            } else {
                beside.clone()
            };
            let changes = sqlite::seal_left(&folder, &work, &beside);
            let changes = changes.map_err(|source| RunError::Rows {
                name: name.clone(),
                source,
            })?;
            sealed.insert(name.clone(), changes);
        }
        Ok(sealed)
    }
}
