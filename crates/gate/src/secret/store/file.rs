//! One secret's file: a line that says what it is, and a sealed line that holds it to that.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use belljar_base::Timestamp;
use belljar_base::bounds::SECRET_FILE_BYTES_MAX;
use rustix::fs::{Mode, OFlags, RenameFlags};
use serde::{Deserialize, Serialize};

use super::key::Key;
use super::{StoreError, sync};
use crate::secret::source::Source;
use crate::secret::{Binding, SecretName, Value};

const VERSION: u32 = 1;

/// A secret without its value.
#[derive(Clone, Debug, Serialize)]
pub struct Described {
    /// What it is called.
    pub name: SecretName,
    /// Where it belongs.
    #[serde(flatten)]
    pub binding: Binding,
    /// Where its value is read when a run starts; none if it is kept.
    pub source: Option<Source>,
    /// When it was set.
    pub set: Timestamp,
}

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    version: u32,
    key: String,
    name: SecretName,
    binding: Binding,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source: Option<Source>,
    set: Timestamp,
}

/// What is read before it is known whether the rest can be.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

/// A file's bytes.
pub(super) struct Kept(Vec<u8>);

impl From<Vec<u8>> for Kept {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl Kept {
    pub(super) fn seal(
        key: &Key,
        name: &SecretName,
        binding: &Binding,
        source: Option<Source>,
        value: Option<&Value>,
        set: Timestamp,
    ) -> Result<Self, StoreError> {
        let head = Head {
            version: VERSION,
            key: key.id.clone(),
            name: name.clone(),
            binding: binding.clone(),
            source,
            set,
        };
        let mut bytes = serde_json::to_vec(&head).map_err(|_broken| StoreError::broken(name))?;
        let sealed = key.seal(value.map_or(&[], |value| value.bytes()), &bytes)?;
        bytes.push(b'\n');
        bytes.extend_from_slice(STANDARD.encode(sealed).as_bytes());
        bytes.push(b'\n');
        Ok(Self(bytes))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// What the file says of a secret and, where it is kept, the value.
    pub(super) fn open(
        &self,
        key: &Key,
        name: &SecretName,
    ) -> Result<(Described, Option<Value>), StoreError> {
        let broken = || StoreError::broken(name);
        let mut lines = self.0.split(|byte| *byte == b'\n');
        let (head, sealed) = lines.next().zip(lines.next()).ok_or_else(broken)?;
        let read = serde_json::from_slice::<Versioned>(head).ok();
        let version = read.ok_or_else(broken)?.version;
        if version != VERSION {
            let name = name.clone();
            return Err(StoreError::Version { name, version });
        }
        let known = serde_json::from_slice::<Head>(head).ok();
        let known = known.ok_or_else(broken)?;
        if known.key != key.id {
            return Err(StoreError::OtherKey { name: name.clone() });
        }
        let sealed = STANDARD.decode(sealed).ok().ok_or_else(broken)?;
        let opened = key.open(&sealed, head).ok_or_else(broken)?;
        // The file of another secret under this name has its own name sealed in.
        if known.name != *name || known.binding.check().is_err() {
            return Err(broken());
        }
        let value = match known.source {
            Some(_) => None,
            None => Some(Value::checked(opened).map_err(|source| StoreError::Value {
                name: name.clone(),
                source,
            })?),
        };
        let described = Described {
            name: known.name,
            binding: known.binding,
            source: known.source,
            set: known.set,
        };
        Ok((described, value))
    }
}

/// Reads a file of ours: a regular one, and not a longer one than we write.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(SECRET_FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Writes a file that only its owner can read, all or nothing.
pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    place(path, bytes, RenameFlags::empty())
}

/// Writes a file beside its place, makes it durable, and puts it there.
pub(super) fn place(path: &Path, bytes: &[u8], how: RenameFlags) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    // A name of its own for each process; what a killed one left is written over.
    let draft = folder.join(format!(".draft-{}", std::process::id()));
    let flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mut file = File::from(rustix::fs::open(&draft, flags, Mode::RUSR | Mode::WUSR)?);
    let put = file
        .write_all(bytes)
        .and_then(|()| file.sync_all())
        .and_then(|()| {
            let here = rustix::fs::CWD;
            rustix::fs::renameat_with(here, &draft, here, path, how).map_err(io::Error::from)
        });
    if let Err(error) = put {
        // What matters is the first error; a draft that stays is written over by the next one.
        return match std::fs::remove_file(&draft) {
            Ok(()) | Err(_) => Err(error),
        };
    }
    sync(folder)
}
