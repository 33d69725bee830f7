//! A frame is one commit in a segment: a head of 32 bytes, then each record with its length and
//! the beginning of its leaf hash. The format is in docs/formats/ledger.md.
//!
//! The head's check covers the head and the last leaf hash, and that one covers, through `prev`,
//! everything before: a frame that holds is whole and in its place.

use belljar_base::bounds::{COMMIT_BYTES_MAX, COMMIT_RECORDS_MAX};
use sha2::{Digest, Sha256};

use crate::merkle::Hash;

/// How long a frame's head is.
pub(crate) const HEAD_BYTES: usize = 32;
/// The same, as a distance in a file.
pub(crate) const HEAD_LENGTH: u64 = 32;
/// Length and check before each record.
pub(crate) const ENTRY_BYTES: usize = 6;
/// No UTF-8 text holds 0xff, so no record can hold a frame.
pub(crate) const MAGIC: [u8; 4] = *b"\xffBJC";
/// The longest payload a frame may have.
pub(crate) const PAYLOAD_BYTES_MAX: usize = COMMIT_BYTES_MAX + ENTRY_BYTES * COMMIT_RECORDS_MAX;

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Bytes after the head.
    pub(crate) payload: u32,
    /// Length of the frame before this one in the segment, 0 for the first.
    pub(crate) back: u32,
    /// Records in it.
    pub(crate) count: u32,
    /// The place of its first record.
    pub(crate) first: u64,
    check: [u8; 8],
}

impl Head {
    /// Reads a head; nothing when these bytes are none.
    pub(crate) fn parse(bytes: &[u8; HEAD_BYTES]) -> Option<Self> {
        let (magic, rest) = bytes.split_first_chunk::<4>()?;
        let (payload, rest) = rest.split_first_chunk()?;
        let (back, rest) = rest.split_first_chunk()?;
        let (count, rest) = rest.split_first_chunk()?;
        let (first, rest) = rest.split_first_chunk()?;
        let head = Self {
            payload: u32::from_le_bytes(*payload),
            back: u32::from_le_bytes(*back),
            count: u32::from_le_bytes(*count),
            first: u64::from_le_bytes(*first),
            check: rest.try_into().ok()?,
        };
        let fits = usize::try_from(head.payload).is_ok_and(|payload| payload <= PAYLOAD_BYTES_MAX)
            && usize::try_from(head.count).is_ok_and(|count| count <= COMMIT_RECORDS_MAX);
        (*magic == MAGIC && fits && head.count > 0).then_some(head)
    }

    fn to_bytes(self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        let fields = MAGIC
            .into_iter()
            .chain(self.payload.to_le_bytes())
            .chain(self.back.to_le_bytes())
            .chain(self.count.to_le_bytes())
            .chain(self.first.to_le_bytes())
            .chain(self.check);
        for (place, byte) in bytes.iter_mut().zip(fields) {
            *place = byte;
        }
        bytes
    }

    /// The whole frame's length.
    pub(crate) const fn total(&self) -> u32 {
        self.payload.saturating_add(32)
    }

    /// The place after its last record.
    pub(crate) fn next(&self) -> u64 {
        self.first.saturating_add(u64::from(self.count))
    }

    fn expected_check(&self, last_leaf: &Hash) -> [u8; 8] {
        let bytes = Self {
            check: [0; 8],
            ..*self
        };
        let mut hasher = Sha256::new_with_prefix([2]);
        hasher.update(bytes.to_bytes());
        hasher.update(last_leaf.as_bytes());
        let hash: [u8; 32] = hasher.finalize().into();
        hash.first_chunk().copied().unwrap_or_default()
    }

    /// Whether the head is right, given the leaf hash of the frame's last record.
    pub(crate) fn holds(&self, last_leaf: &Hash) -> bool {
        self.check == self.expected_check(last_leaf)
    }
}

/// A frame being written.
#[derive(Debug)]
pub(crate) struct Builder {
    bytes: Vec<u8>,
    first: u64,
    back: u32,
    count: u32,
}

impl Builder {
    /// A frame whose first record is `first`, in a buffer that is used again.
    pub(crate) fn new(mut buffer: Vec<u8>, first: u64, back: u32) -> Self {
        buffer.clear();
        buffer.resize(HEAD_BYTES, 0);
        Self {
            bytes: buffer,
            first,
            back,
            count: 0,
        }
    }

    /// Adds the record that `fill` writes; answers its leaf hash.
    pub(crate) fn push(&mut self, fill: impl FnOnce(&mut Vec<u8>)) -> Hash {
        let start = self.bytes.len();
        self.bytes.resize(start + ENTRY_BYTES, 0);
        fill(&mut self.bytes);
        let (before, record) = self.bytes.split_at_mut(start + ENTRY_BYTES);
        let leaf = Hash::leaf(record);
        let length = u16::try_from(record.len()).unwrap_or(u16::MAX);
        let entry = length.to_be_bytes().into_iter().chain(*leaf.as_bytes());
        for (place, byte) in before.iter_mut().skip(start).zip(entry) {
            *place = byte;
        }
        self.count += 1;
        leaf
    }

    /// The whole frame.
    pub(crate) fn finish(mut self, last_leaf: &Hash) -> Vec<u8> {
        let payload = self.bytes.len() - HEAD_BYTES;
        let mut head = Head {
            payload: u32::try_from(payload).unwrap_or(u32::MAX),
            back: self.back,
            count: self.count,
            first: self.first,
            check: [0; 8],
        };
        head.check = head.expected_check(last_leaf);
        for (place, byte) in self.bytes.iter_mut().zip(head.to_bytes()) {
            *place = byte;
        }
        self.bytes
    }
}

/// A record in a frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<'a> {
    /// Its canonical bytes.
    pub(crate) record: &'a [u8],
    /// Its leaf hash, computed from them.
    pub(crate) leaf: Hash,
    /// Where the entry begins in the payload.
    pub(crate) offset: usize,
    /// Whether the check beside it agrees.
    pub(crate) sound: bool,
}

/// The records of a payload; ends early where the payload does not hold a whole entry.
pub(crate) fn entries(payload: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    let mut rest = payload;
    std::iter::from_fn(move || {
        let offset = payload.len() - rest.len();
        let (length, after) = rest.split_first_chunk()?;
        let (check, after) = after.split_first_chunk::<4>()?;
        let (record, after) = after.split_at_checked(u16::from_be_bytes(*length).into())?;
        rest = after;
        let leaf = Hash::leaf(record);
        Some(Entry {
            record,
            leaf,
            offset,
            sound: leaf.as_bytes().starts_with(check),
        })
    })
}

/// Whether there is nothing but zeros.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    const ZEROS: [u8; 4096] = [0; 4096];
    let equal = |chunk: &[u8]| ZEROS.get(..chunk.len()) == Some(chunk);
    bytes.chunks(ZEROS.len()).all(equal)
}

/// What is wrong with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    /// Which record of the frame, counted from 0; nothing for the head.
    pub(crate) record: Option<(u64, usize)>,
}

/// Checks a frame against its head and answers its leaf hashes.
pub(crate) fn check(head: &Head, payload: &[u8]) -> Result<Vec<Hash>, Damage> {
    let mut leaves = Vec::with_capacity(usize::try_from(head.count).unwrap_or(0));
    let (mut end, mut nth) = (0, 0);
    for entry in entries(payload) {
        if !entry.sound {
            let record = Some((nth, entry.offset));
            return Err(Damage { record });
        }
        end = entry.offset + ENTRY_BYTES + entry.record.len();
        nth += 1;
        leaves.push(entry.leaf);
    }
    if end != payload.len() && nth < u64::from(head.count) {
        let record = Some((nth, end));
        return Err(Damage { record });
    }
    let whole = end == payload.len() && nth == u64::from(head.count);
    match leaves.last() {
        Some(last) if whole && head.holds(last) => Ok(leaves),
        _wrong => Err(Damage { record: None }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(records: &[&[u8]]) -> (Head, Vec<u8>, Vec<Hash>) {
        let mut builder = Builder::new(Vec::new(), 7, 0);
        let leaves: Vec<_> = records
            .iter()
            .map(|record| builder.push(|out| out.extend_from_slice(record)))
            .collect();
        let bytes = builder.finish(leaves.last().unwrap());
        let head = Head::parse(bytes.first_chunk().unwrap()).unwrap();
        (head, bytes, leaves)
    }

    #[test]
    fn a_frame_reads_back() {
        let (head, bytes, leaves) = frame(&[b"one", b"", b"three"]);
        assert_eq!((head.first, head.next(), head.count), (7, 10, 3));
        assert_eq!(bytes.len(), usize::try_from(head.total()).unwrap());
        assert_eq!(HEAD_LENGTH, u64::try_from(HEAD_BYTES).unwrap());
        assert_eq!(check(&head, &bytes[HEAD_BYTES..]).unwrap(), leaves);
    }

    #[test]
    fn every_flipped_bit_is_found_in_its_record() {
        let (_, bytes, _) = frame(&[b"one", b"two", b"three"]);
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let found = match Head::parse(changed.first_chunk().unwrap()) {
                Some(head) => check(&head, &changed[HEAD_BYTES..]),
                None => Err(Damage { record: None }),
            };
            let damage = found.unwrap_err();
            let record = match bit / 8 {
                0..HEAD_BYTES => None,
                at if at < HEAD_BYTES + 9 => Some(0),
                at if at < HEAD_BYTES + 18 => Some(1),
                _third => Some(2),
            };
            assert_eq!(damage.record.map(|(nth, _)| nth), record, "bit {bit}");
        }
    }
}
