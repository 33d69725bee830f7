//! Keys, signed notes and checkpoints, in the formats of C2SP (signed-note, tlog-checkpoint), so
//! that existing tools can check them.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

use crate::merkle::Hash;

/// The signature type of Ed25519 in C2SP signed notes.
const ED25519: u8 = 1;

/// Why a key or a note is not good.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Not `NAME+ID+KEY`.
    #[error("the text is not a key of the form `NAME+ID+KEY`")]
    Key,
    /// Not a signed note with a checkpoint in it.
    #[error("the text is not a signed checkpoint")]
    Malformed,
    /// No signature by this key.
    #[error("the checkpoint is not signed by `{0}`")]
    OtherKey(String),
    /// A signature by this key that does not hold.
    #[error("the checkpoint's signature by `{0}` does not hold")]
    Signature(String),
    /// The checkpoint of another log.
    #[error("the checkpoint is of `{0}`, another log")]
    OtherLog(String),
}

/// How big the log is, and the root of its tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name.
    pub origin: String,
    /// How many records it has.
    pub size: u64,
    /// The Merkle tree hash of all of them.
    pub root: Hash,
}

impl Checkpoint {
    /// The text that is signed.
    #[must_use]
    pub fn text(&self) -> String {
        let root = BASE64.encode(self.root.as_bytes());
        format!("{}\n{}\n{root}\n", self.origin, self.size)
    }

    /// Reads a signed note; holds only what `key` signed.
    ///
    /// # Errors
    /// When the text is no such note, or the signature is missing or does not hold.
    pub fn open(note: &str, key: &Verifier) -> Result<Self, NoteError> {
        let (text, signatures) = note.rsplit_once("\n\n").ok_or(NoteError::Malformed)?;
        let text = format!("{text}\n");
        let signature = key.find(signatures)?;
        let holds = key.key.verify_strict(text.as_bytes(), &signature);
        holds.map_err(|_forged| NoteError::Signature(key.name.clone()))?;
        let checkpoint = Self::parse(&text).ok_or(NoteError::Malformed)?;
        if checkpoint.origin != key.name {
            return Err(NoteError::OtherLog(checkpoint.origin));
        }
        Ok(checkpoint)
    }

    /// Reads the signed text, or a whole note without looking at its signatures.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut lines = text.split('\n');
        let origin = lines.next()?.to_owned();
        let size = lines.next()?;
        let root = BASE64.decode(lines.next()?).ok()?;
        let root = Hash::from_bytes(root.try_into().ok()?);
        let parsed = size.parse::<u64>().ok()?;
        (parsed.to_string() == size).then_some(Self {
            origin,
            size: parsed,
            root,
        })
    }
}

/// The public half of a ledger's key. As text: the C2SP form `NAME+ID+KEY`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verifier {
    name: String,
    id: [u8; 4],
    key: VerifyingKey,
}

impl Verifier {
    fn new(name: String, key: VerifyingKey) -> Self {
        let mut bytes = name.clone().into_bytes();
        bytes.extend_from_slice(&[b'\n', ED25519]);
        bytes.extend_from_slice(key.as_bytes());
        let hash = Hash::of(&bytes);
        let id = hash.as_bytes().first_chunk().copied().unwrap_or_default();
        Self { name, id, key }
    }

    /// The log's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn public_key(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    pub(crate) fn holds(&self, text: &str, signature: &[u8; 64]) -> bool {
        let signature = Signature::from_bytes(signature);
        self.key.verify_strict(text.as_bytes(), &signature).is_ok()
    }

    /// This key's signature among the lines below a note.
    fn find(&self, signatures: &str) -> Result<Signature, NoteError> {
        let lines = signatures.strip_suffix('\n').ok_or(NoteError::Malformed)?;
        for line in lines.split('\n') {
            let line = line.strip_prefix("— ").ok_or(NoteError::Malformed)?;
            let (name, bytes) = line.split_once(' ').ok_or(NoteError::Malformed)?;
            let bytes = BASE64.decode(bytes);
            let bytes = bytes.map_err(|_not_base64| NoteError::Malformed)?;
            if let Some((id, signature)) = bytes.split_first_chunk::<4>()
                && name == self.name
                && *id == self.id
            {
                let signature = Signature::from_slice(signature);
                return signature.map_err(|_length| NoteError::Malformed);
            }
        }
        Err(NoteError::OtherKey(self.name.clone()))
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = u32::from_be_bytes(self.id);
        let mut bytes = vec![ED25519];
        bytes.extend_from_slice(self.key.as_bytes());
        write!(f, "{}+{id:08x}+{}", self.name, BASE64.encode(bytes))
    }
}

impl FromStr for Verifier {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let line = text.strip_suffix('\n').unwrap_or(text);
        let (name, rest) = line.split_once('+').ok_or(NoteError::Key)?;
        let (_id, key) = rest.split_once('+').ok_or(NoteError::Key)?;
        let key = BASE64.decode(key).map_err(|_not_base64| NoteError::Key)?;
        let Some((&ED25519, key)) = key.split_first() else {
            return Err(NoteError::Key);
        };
        let key = key.try_into().map_err(|_length| NoteError::Key)?;
        let key = VerifyingKey::from_bytes(key).map_err(|_point| NoteError::Key)?;
        let parsed = Self::new(name.to_owned(), key);
        if parsed.to_string() != line {
            return Err(NoteError::Key);
        }
        Ok(parsed)
    }
}

/// The private half of a ledger's key.
pub(crate) struct Signer {
    key: SigningKey,
    verifier: Verifier,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.verifier)
    }
}

impl Signer {
    /// A new key; the log's name is made from it.
    pub(crate) fn generate(seed: [u8; 32]) -> Self {
        let key = SigningKey::from_bytes(&seed);
        let digest = Hash::of(key.verifying_key().as_bytes()).to_string();
        let short: String = digest.chars().take(16).collect();
        let verifier = Verifier::new(format!("belljar-ledger/{short}"), key.verifying_key());
        Self { key, verifier }
    }

    pub(crate) const fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// The signature over a checkpoint.
    pub(crate) fn sign_text(&self, checkpoint: &Checkpoint) -> [u8; 64] {
        self.key.sign(checkpoint.text().as_bytes()).to_bytes()
    }

    /// A checkpoint as a signed note.
    pub(crate) fn sign(&self, size: u64, root: Hash) -> String {
        let origin = self.verifier.name.clone();
        let checkpoint = Checkpoint { origin, size, root };
        let mut signature = self.verifier.id.to_vec();
        signature.extend_from_slice(&self.sign_text(&checkpoint));
        let signature = BASE64.encode(signature);
        format!(
            "{}\n— {} {signature}\n",
            checkpoint.text(),
            self.verifier.name
        )
    }

    /// The key file: the form that Go's note package reads, one line.
    pub(crate) fn to_secret_text(&self) -> String {
        let id = u32::from_be_bytes(self.verifier.id);
        let mut bytes = vec![ED25519];
        bytes.extend_from_slice(self.key.as_bytes());
        let name = &self.verifier.name;
        format!("PRIVATE+KEY+{name}+{id:08x}+{}\n", BASE64.encode(bytes))
    }

    /// Reads a key file.
    pub(crate) fn from_secret_text(text: &str) -> Option<Self> {
        let rest = text.trim_end().strip_prefix("PRIVATE+KEY+")?;
        let (name, rest) = rest.split_once('+')?;
        let (_id, seed) = rest.split_once('+')?;
        let seed = BASE64.decode(seed).ok()?;
        let (&ED25519, seed) = seed.split_first()? else {
            return None;
        };
        let key = SigningKey::from_bytes(seed.try_into().ok()?);
        let verifier = Verifier::new(name.to_owned(), key.verifying_key());
        let signer = Self { key, verifier };
        (signer.to_secret_text().trim_end() == text.trim_end()).then_some(signer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_specification() {
        // From the documentation of Go's note package.
        let key = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
        let key: Verifier = key.parse().unwrap();
        let text = "If you think cryptography is the answer to your problem,\n\
                    then you don't know what your problem is.\n";
        let note = "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
        let signature = key.find(note).unwrap();
        assert!(key.holds(text, &signature.to_bytes()));
    }

    #[test]
    fn a_checkpoint_is_opened_by_its_key_alone() {
        let signer = Signer::generate([7; 32]);
        let note = signer.sign(3, Hash::of(b"root"));
        let opened = Checkpoint::open(&note, signer.verifier()).unwrap();
        assert_eq!((opened.size, opened.root), (3, Hash::of(b"root")));
        let other = Signer::generate([8; 32]);
        let error = Checkpoint::open(&note, other.verifier()).unwrap_err();
        assert!(matches!(error, NoteError::OtherKey(_)));
        let grown = note.replace("\n3\n", "\n4\n");
        let error = Checkpoint::open(&grown, signer.verifier()).unwrap_err();
        assert!(matches!(error, NoteError::Signature(_)));
    }

    #[test]
    fn no_flipped_bit_passes() {
        let signer = Signer::generate([7; 32]);
        let note = signer.sign(12, Hash::of(b"root")).into_bytes();
        for bit in 0..note.len() * 8 {
            let mut changed = note.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            if let Ok(text) = String::from_utf8(changed) {
                assert!(
                    Checkpoint::open(&text, signer.verifier()).is_err(),
                    "{text}"
                );
            }
        }
    }

    #[test]
    fn keys_read_back() {
        let signer = Signer::generate([9; 32]);
        let again = Signer::from_secret_text(&signer.to_secret_text()).unwrap();
        assert_eq!(again.verifier(), signer.verifier());
        let public = signer.verifier().to_string();
        assert_eq!(&public.parse::<Verifier>().unwrap(), signer.verifier());
        assert!(Signer::from_secret_text("PRIVATE+KEY+a+b+c").is_none());
        assert!("a+00000000+AQ==".parse::<Verifier>().is_err());
    }
}
