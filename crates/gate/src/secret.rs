//! Secrets: kept sealed, opened for a run, put into requests on the last hop, masked in what comes
//! back. The sandbox holds placeholders.
//!
//! A value is in locked memory, and leaves it for the moment of a request to a host it is bound to.
//! Nothing here prints one.

mod name; // what a secret is called
mod binding; // where it belongs
mod value; // its bytes
mod source; // where a value is read when a run starts
mod store; // secrets at rest
mod process; // a process that gives no memory away
mod sys; // memory that is locked and wiped
mod inject; // values into requests
mod swap; // within one field
mod outgoing; // within a body
mod json; // strings of a JSON text by their place
mod sigv4; // signatures for AWS
mod mask; // values in what comes back
mod find; // texts in a stream, however they are spelled
mod escape; // the spellings of one character
mod misuse; // a secret where it does not belong

use std::fmt;

use belljar_base::bounds::SECRET_VALUE_BYTES_MIN;
use ring::rand::{SecureRandom, SystemRandom};

pub use self::binding::{Binding, BindingError, BoundHost, Place};
pub(crate) use self::inject::{Injected, Injector};
pub(crate) use self::mask::Mask;
pub(crate) use self::misuse::Misuse;
pub use self::name::{SecretName, SecretNameError};
pub(crate) use self::outgoing::Outgoing;
pub use self::process::{leave_no_core, refuse_tracing};
pub use self::source::{Program, Source, SourceError, Surroundings, Vault};
pub use self::store::{Content, Described, SecretStore, StoreError};
pub use self::value::{Value, ValueError};

/// A secret that is open for a run.
pub struct Secret {
    name: SecretName,
    binding: Binding,
    value: Value,
    /// The part of the placeholder that no other text has.
    mark: String,
    placeholder: String,
}

/// The parts of a value that signs.
struct Keys<'a> {
    access: &'a [u8],
    secret: &'a [u8],
    session: Option<&'a [u8]>,
}

impl Secret {
    /// Opens a secret for a run, with a placeholder of its own.
    ///
    /// # Errors
    /// When the value does not fit the binding.
    pub fn new(name: SecretName, binding: Binding, value: Value) -> Result<Self, ValueError> {
        let mut random = [0; 16];
        SystemRandom::new()
            .fill(&mut random)
            .map_err(|_unspecified| ValueError::Read(std::io::ErrorKind::Unsupported.into()))?;
        let mark: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let secret = Self {
            placeholder: format!("belljar-secret-{}-{mark}", name.label()),
            name,
            binding,
            value,
            mark,
        };
        fits(&secret.binding, secret.value.bytes())?;
        Ok(secret)
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &SecretName {
        &self.name
    }

    /// The variable that holds the placeholder inside the sandbox.
    #[must_use]
    pub fn variable(&self) -> String {
        self.name.variable()
    }

    /// What the sandbox holds instead of the value: of this run alone, and good for nothing else.
    #[must_use]
    pub fn placeholder(&self) -> &str {
        &self.placeholder
    }

    /// Every variable that the sandbox gets for this secret: its own, and for a key that signs
    /// those that the tools of AWS read.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        let mut names = vec![self.variable()];
        if let Some(Place::Sigv4 { region, .. }) = self.signs() {
            let own = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"].map(str::to_owned);
            names.extend(own.into_iter().filter(|name| *name != self.variable()));
            let mut all: Vec<_> = names
                .into_iter()
                .map(|name| (name, self.placeholder.clone()))
                .collect();
            all.push(("AWS_REGION".to_owned(), region.clone()));
            return all;
        }
        names
            .into_iter()
            .map(|name| (name, self.placeholder.clone()))
            .collect()
    }

    fn signs(&self) -> Option<&Place> {
        self.binding.signs()
    }
}

/// Whether a value can be what a binding makes of it.
fn fits(binding: &Binding, value: &[u8]) -> Result<(), ValueError> {
    match binding.signs() {
        Some(_) if Keys::in_value(value).is_none() => Err(ValueError::Keys),
        Some(_) | None => Ok(()),
    }
}

impl<'a> Keys<'a> {
    /// The keys of a secret that signs.
    fn of(secret: &'a Secret) -> Option<Self> {
        secret.signs()?;
        Self::in_value(secret.value.bytes())
    }

    fn in_value(value: &'a [u8]) -> Option<Self> {
        let mut parts = value.splitn(3, |byte| *byte == b':');
        let (access, secret) = (parts.next()?, parts.next()?);
        let session = parts.next();
        let plain = |bytes: &[u8]| {
            bytes.len() >= SECRET_VALUE_BYTES_MIN && bytes.iter().all(u8::is_ascii_graphic)
        };
        let keys = Self {
            access,
            secret,
            session,
        };
        (plain(access) && plain(secret) && session.is_none_or(plain)).then_some(keys)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({})", self.name)
    }
}
