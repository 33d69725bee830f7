//! Frames: the first byte says how long the pieces are in which the others arrive.

use std::fmt::Debug;
use std::io;

use belljar_base::frame::{Ask, FrameError, Tell, encode, take};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) fn enter(bytes: &[u8]) -> io::Result<()> {
    if let Some((piece, wire)) = bytes.split_first() {
        let piece = usize::from(*piece).max(1);
        look::<Tell>(wire, piece);
        look::<Ask>(wire, piece);
    }
    Ok(())
}

/// Pieces change nothing, and what was understood can be said again.
fn look<T: Serialize + DeserializeOwned + PartialEq + Debug>(wire: &[u8], piece: usize) {
    let whole = read::<T>(wire, wire.len().max(1));
    assert_eq!(whole, read::<T>(wire, piece));
    for message in whole.0 {
        let mut again = encode(&message).unwrap_or_default();
        assert_eq!(take::<T>(&mut again), Ok(Some(message)));
        assert!(again.is_empty());
    }
}

/// The messages up to the first bytes that are none.
fn read<T: DeserializeOwned>(wire: &[u8], piece: usize) -> (Vec<T>, Option<FrameError>) {
    let (mut buffer, mut messages) = (Vec::new(), Vec::new());
    for piece in wire.chunks(piece) {
        buffer.extend_from_slice(piece);
        loop {
            match take(&mut buffer) {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => return (messages, Some(error)),
            }
        }
    }
    (messages, None)
}
