//! The `head` file: a hint that lets the ledger open without reading the log.
//!
//! It is rewritten after each commit, without waiting for the disk. It is believed only as far as
//! the log agrees: the last frame must end where it says and hold with the leaf hash it says.

use std::fs;
use std::path::Path;

use crate::merkle::Hash;
use crate::segment::{Position, take, take_frontier};

const MAGIC: [u8; 8] = *b"\xffBJHEAD\x01";
const CHECK_BYTES: usize = 8;

/// The name of the file.
pub(crate) const NAME: &str = "head";

/// Identifies one start of the machine: what was written since is still in the page cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Boot([u8; 16]);

impl Boot {
    /// The current one; nothing where the system does not tell.
    pub(crate) fn current() -> Option<Self> {
        let text = fs::read("/proc/sys/kernel/random/boot_id").ok()?;
        let mut digits = text
            .iter()
            .filter_map(|byte| char::from(*byte).to_digit(16))
            .filter_map(|digit| u8::try_from(digit).ok());
        let mut id = [0; 16];
        for byte in &mut id {
            *byte = (digits.next()? << 4) | digits.next()?;
        }
        Some(Self(id))
    }
}

/// What the hint says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hint {
    /// When the machine started under which this was written.
    pub(crate) boot: Boot,
    /// Where the log is up to.
    pub(crate) position: Position,
}

/// The bytes of a hint.
pub(crate) fn to_bytes(boot: Option<Boot>, position: &Position) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&boot.map_or([0; 16], |boot| boot.0));
    bytes.extend_from_slice(&position.segment.to_le_bytes());
    bytes.extend_from_slice(&position.back.to_le_bytes());
    bytes.extend_from_slice(&position.offset.to_le_bytes());
    bytes.extend_from_slice(&position.seq().to_le_bytes());
    bytes.extend_from_slice(position.last.as_bytes());
    for peak in position.frontier.peaks() {
        bytes.extend_from_slice(peak.as_bytes());
    }
    let check = check_of(&bytes);
    bytes.extend_from_slice(&check);
    bytes
}

/// Reads a hint; nothing when it is damaged. What follows its end is left over from a longer one.
pub(crate) fn parse(bytes: &[u8]) -> Option<Hint> {
    let mut rest = bytes;
    let magic = take::<8>(&mut rest)?;
    let boot = Boot(take(&mut rest)?);
    let segment = u32::from_le_bytes(take(&mut rest)?);
    let back = u32::from_le_bytes(take(&mut rest)?);
    let offset = u64::from_le_bytes(take(&mut rest)?);
    let size = u64::from_le_bytes(take(&mut rest)?);
    let last = Hash::from_bytes(take(&mut rest)?);
    let frontier = take_frontier(&mut rest, size)?;
    let checked = bytes.get(..bytes.len() - rest.len())?;
    let check = take::<CHECK_BYTES>(&mut rest)?;
    let position = Position {
        segment,
        offset,
        back,
        last,
        frontier,
    };
    (magic == MAGIC && check == check_of(checked)).then_some(Hint { boot, position })
}

/// Reads the hint of a ledger, if there is a good one.
pub(crate) fn read(dir: &Path) -> Option<Hint> {
    parse(&fs::read(dir.join(NAME)).ok()?)
}

fn check_of(bytes: &[u8]) -> [u8; CHECK_BYTES] {
    let hash = Hash::of(bytes);
    hash.as_bytes().first_chunk().copied().unwrap_or_default()
}
