//! The key: made once, readable by its owner alone, and what is sealed with it.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::digest;
use ring::rand::{SecureRandom, SystemRandom};
use rustix::fs::{Mode, OFlags, RenameFlags};
use zeroize::Zeroizing;

use super::{StoreError, file};
use crate::secret::sys::Locked;
use crate::secret::value::room;

const BYTES: usize = 32;
/// The first word of the file; the number is the format's version.
const WORD: &str = "belljar-secrets-key-1";
/// More than the file ever has.
const FILE_BYTES_MAX: u64 = 256;
/// As much, reserved at once: a text that grows leaves copies behind.
const ROOM: usize = 256;

/// A key, ready to seal and open.
pub(super) struct Key {
    key: LessSafeKey,
    /// Says which key it is, and nothing about it.
    pub(super) id: String,
}

impl Key {
    /// Reads the key; nothing if there is none.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, StoreError> {
        let refuse = |reason: &str| StoreError::Key {
            path: path.to_owned(),
            reason: reason.to_owned(),
        };
        let failed = |source: io::Error| StoreError::Read {
            path: path.to_owned(),
            source,
        };
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(rustix::io::Errno::LOOP) => {
                return Err(refuse("it is a symbolic link; put the file itself there"));
            }
            Err(error) => return Err(failed(error.into())),
        };
        let data = file.metadata().map_err(failed)?;
        if !data.is_file() {
            return Err(refuse("it is not a regular file"));
        }
        if data.uid() != rustix::process::geteuid().as_raw() {
            let owner = data.uid();
            return Err(refuse(&format!("it belongs to user {owner}, not to you")));
        }
        if data.mode() & 0o077 != 0 {
            let mode = data.mode() & 0o777;
            let reason = format!(
                "others can read or write it (mode {mode:03o}); close it with `chmod 600`, and if others are not to be trusted set the secrets again with a new key"
            );
            return Err(refuse(&reason));
        }
        let mut text = Zeroizing::new(String::with_capacity(ROOM));
        file.take(FILE_BYTES_MAX)
            .read_to_string(&mut text)
            .map_err(failed)?;
        let mut bytes = Zeroizing::new([0; BYTES + 3]);
        let word = text.trim_end().strip_prefix(WORD);
        let word = word.and_then(|rest| rest.strip_prefix(' '));
        let read = word.and_then(|word| STANDARD.decode_slice(word, &mut *bytes).ok());
        match (read, bytes.get(..BYTES)) {
            (Some(BYTES), Some(bytes)) => Self::of(bytes).map(Some),
            _ => Err(refuse(
                "it is not a key, or of a newer Belljar; put the right file back",
            )),
        }
    }

    /// Makes a key. Who makes one at the same moment gets the same.
    pub(super) fn make(path: &Path) -> Result<Self, StoreError> {
        let failed = |source: io::Error| StoreError::Write {
            path: path.to_owned(),
            source,
        };
        let mut bytes = Zeroizing::new([0; BYTES]);
        random(&mut *bytes)?;
        let mut text = Zeroizing::new(String::with_capacity(ROOM));
        text.push_str(WORD);
        text.push(' ');
        STANDARD.encode_string(*bytes, &mut text);
        text.push('\n');
        let folder = path.parent().unwrap_or(Path::new("/"));
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(failed)?;
        match file::place(path, text.as_bytes(), RenameFlags::NOREPLACE) {
            Ok(()) => Self::of(&*bytes),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Self::read(path)?.ok_or_else(|| failed(error))
            }
            Err(error) => Err(failed(error)),
        }
    }

    fn of(bytes: &[u8]) -> Result<Self, StoreError> {
        let key = UnboundKey::new(&CHACHA20_POLY1305, bytes);
        let mut named = digest::Context::new(&digest::SHA256);
        named.update(WORD.as_bytes());
        named.update(bytes);
        let id = named.finish();
        let id = id.as_ref().iter().take(8);
        Ok(Self {
            key: LessSafeKey::new(key.map_err(|_unspecified| StoreError::Random)?),
            id: id.map(|byte| format!("{byte:02x}")).collect(),
        })
    }

    /// Seals bytes together with what they belong to: nonce, then ciphertext and tag.
    pub(super) fn seal(&self, bytes: &[u8], with: &[u8]) -> Result<Vec<u8>, StoreError> {
        let mut nonce = [0; NONCE_LEN];
        random(&mut nonce)?;
        let mut sealed = Zeroizing::new(Vec::with_capacity(bytes.len() + 64));
        sealed.extend_from_slice(bytes);
        let aad = Aad::from(with);
        let tag = self
            .key
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), aad, &mut sealed)
            .map_err(|_unspecified| StoreError::Random)?;
        Ok([&nonce, sealed.as_slice(), tag.as_ref()].concat())
    }

    /// Opens what was sealed, in locked memory; nothing if it is not what was sealed.
    pub(super) fn open(&self, sealed: &[u8], with: &[u8]) -> Option<Locked> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let mut memory = room(sealed.len()).ok()?;
        let place = memory.room().get_mut(..sealed.len())?;
        place.copy_from_slice(sealed);
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self.key.open_in_place(nonce, Aad::from(with), place).ok()?;
        let used = opened.len();
        memory.set_used(used);
        Some(memory)
    }
}

fn random(bytes: &mut [u8]) -> Result<(), StoreError> {
    SystemRandom::new()
        .fill(bytes)
        .map_err(|_unspecified| StoreError::Random)
}
