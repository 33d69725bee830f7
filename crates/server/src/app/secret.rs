//! Secrets: kept in the state directory, sealed with a key that lies elsewhere. Who keeps or forgets
//! one is written first; values are in no record.

use std::path::Path;

use belljar_base::{Clock, HasKind, Kind};
use belljar_gate::secret::{Binding, Content, SecretName, SecretStore, StoreError};
use belljar_ledger::error::AppendError;
use belljar_ledger::{Draft, Event, Text};

use crate::state::State;

/// A secret was not kept or forgotten.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The ledger does not take the record.
    #[error("cannot write to the ledger, so nothing is kept or forgotten")]
    Ledger(#[from] AppendError),
    /// The store does not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl HasKind for SecretError {
    fn kind(&self) -> Kind {
        match self {
            Self::Ledger(error) => error.kind(),
            Self::Store(error) => error.kind(),
        }
    }
}

/// The secrets of a state directory, with the key that they are sealed with.
#[must_use]
pub fn secrets(state: &State, key: &Path) -> SecretStore {
    SecretStore::new(state.folder().join("secrets"), key.to_owned())
}

/// Keeps a secret; whether there was one of that name, which it replaces.
///
/// # Errors
/// When the ledger or the store does not take it; what was there is there still.
pub fn keep(
    (state, key): (&State, &Path),
    clock: &dyn Clock,
    (name, binding): (&SecretName, &Binding),
    content: Content,
) -> Result<bool, SecretError> {
    let hosts = binding.hosts.iter();
    let event = Event::SecretKept {
        name: Text::from(name.as_str()),
        hosts: hosts.map(|host| Text::from(host.to_string())).collect(),
    };
    write(state, clock, event)?;
    Ok(secrets(state, key).set(name, binding, content, clock.now())?)
}

/// Forgets a secret.
///
/// # Errors
/// When there is none of that name, or it cannot be removed.
pub fn forget(
    (state, key): (&State, &Path),
    clock: &dyn Clock,
    name: &SecretName,
) -> Result<(), SecretError> {
    let store = secrets(state, key);
    store.check(name)?;
    let text = Text::from(name.as_str());
    write(state, clock, Event::SecretForgotten { name: text })?;
    Ok(store.remove(name)?)
}

fn write(state: &State, clock: &dyn Clock, event: Event) -> Result<(), AppendError> {
    let (run, agent) = (None, None);
    let at = clock.now();
    let draft = Draft {
        at,
        run,
        agent,
        event,
    };
    state.ledger.append(&[draft]).map(drop)
}
