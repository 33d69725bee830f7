//! Small changes to good bytes: most of a good file stays good, so that what is behind the first
//! checks is reached too.

/// One change takes this many bytes of the input: which file, what, where (2), with what.
const PATCH_BYTES: usize = 5;

/// Changes `files` as `patches` say: each sets, flips or cuts at a place of one of them.
pub(crate) fn apply(files: &mut [Vec<u8>], patches: &[u8]) {
    let count = files.len().max(1);
    for patch in patches.chunks_exact(PATCH_BYTES) {
        let [file, what, low, high, value] = patch else {
            return;
        };
        let Some(file) = files.get_mut(usize::from(*file) % count) else {
            return;
        };
        let at = usize::from(u16::from_le_bytes([*low, *high]));
        match what % 4 {
            0 => set(file, at, *value),
            1 => {
                let old = file.get(at).copied().unwrap_or(0);
                set(file, at, old ^ value);
            }
            // A small number of 32 bits, which many formats take for a place or a length.
            2 => [0, 0, 0, *value]
                .into_iter()
                .zip(at..)
                .for_each(|(byte, at)| set(file, at, byte)),
            _ => file.truncate(at),
        }
    }
}

fn set(file: &mut [u8], at: usize, value: u8) {
    if let Some(byte) = file.get_mut(at) {
        *byte = value;
    }
}
