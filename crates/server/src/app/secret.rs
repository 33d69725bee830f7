//! Secrets: kept in the state directory, sealed with a key that lies elsewhere.

use std::path::Path;

use belljar_gate::secret::SecretStore;

use crate::state::State;

/// The secrets of a state directory, with the key that they are sealed with.
#[must_use]
pub fn secrets(state: &State, key: &Path) -> SecretStore {
    SecretStore::new(state.folder().join("secrets"), key.to_owned())
}
