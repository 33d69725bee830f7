//! The frames between the supervisor (outside) and the guest (first process inside).
//!
//! A frame is a 32-bit little-endian length and that many bytes of postcard. File descriptors
//! travel beside a frame as ancillary data; each message says how many it needs. What a guest
//! sends is hostile: a frame that is too long or does not parse ends the sandbox.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::bounds::FRAME_BYTES_MAX;

/// Version of this protocol; both ends refuse another one.
pub const VERSION: u16 = 1;

/// What the supervisor asks of the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    /// Start a command. Carries three descriptors: its stdin, stdout, stderr; or none when
    /// `terminal` is set: then the guest opens a terminal and sends its master with `Started`.
    Execute(Execute),
    /// Send a signal to the command's process group.
    Signal {
        /// The command.
        id: u32,
        /// The signal's number.
        signal: i32,
    },
}

/// A command to start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Execute {
    /// Chosen by the supervisor, unique in the sandbox's life.
    pub id: u32,
    /// The program and its arguments.
    pub arguments: Vec<Vec<u8>>,
    /// The whole environment, `NAME=value` each.
    pub environment: Vec<Vec<u8>>,
    /// Where it starts.
    pub directory: Vec<u8>,
    /// Rows and columns of a terminal to open for it, if it wants one.
    pub terminal: Option<(u16, u16)>,
}

/// What the guest tells the supervisor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tell {
    /// The sandbox is closed: each probe that must fail has failed, or the ones that did not.
    Ready {
        /// Protocol version.
        version: u16,
        /// Walls found open, by name. Empty is the only good answer.
        open: Vec<String>,
    },
    /// The command runs. Carries one descriptor, the terminal's master, if one was asked for.
    Started {
        /// The command.
        id: u32,
    },
    /// The command could not be started.
    Failed {
        /// The command.
        id: u32,
        /// The step that failed.
        step: String,
        /// The error number.
        errno: i32,
    },
    /// The command has ended.
    Exited {
        /// The command.
        id: u32,
        /// How.
        end: End,
    },
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// It returned this code.
    Code(u8),
    /// This signal ended it.
    Signal(i32),
}

/// The bytes are not a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Longer than `FRAME_BYTES_MAX`.
    #[error("a frame of {0} bytes is over the bound")]
    TooLong(usize),
    /// Not a message of the wanted type.
    #[error("a frame does not parse")]
    Malformed,
}

/// A message as a frame.
///
/// # Errors
/// When it would be longer than the bound.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let body = postcard::to_stdvec(message).map_err(|_malformed| FrameError::Malformed)?;
    if body.len() > FRAME_BYTES_MAX {
        return Err(FrameError::TooLong(body.len()));
    }
    let length = u32::try_from(body.len()).map_err(|_long| FrameError::TooLong(body.len()))?;
    let mut frame = Vec::with_capacity(body.len() + 4);
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(&body);
    Ok(frame)
}

/// Takes the first whole frame off the front of `bytes`, if there is one.
///
/// # Errors
/// When the announced length is over the bound or the body does not parse.
pub fn take<T: DeserializeOwned>(bytes: &mut Vec<u8>) -> Result<Option<T>, FrameError> {
    let Some(prefix) = bytes.first_chunk::<4>() else {
        return Ok(None);
    };
    let length = u32::from_le_bytes(*prefix) as usize;
    if length > FRAME_BYTES_MAX {
        return Err(FrameError::TooLong(length));
    }
    let Some(body) = bytes.get(4..4 + length) else {
        return Ok(None);
    };
    let message = postcard::from_bytes(body).map_err(|_malformed| FrameError::Malformed)?;
    bytes.drain(..4 + length);
    Ok(Some(message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn there_and_back_in_pieces() {
        let first = Tell::Started { id: 7 };
        let second = Tell::Exited {
            id: 7,
            end: End::Signal(9),
        };
        let mut wire = encode(&first).unwrap();
        wire.extend(encode(&second).unwrap());
        let mut buffer = Vec::new();
        let mut seen = Vec::new();
        for byte in wire {
            buffer.push(byte);
            while let Some(tell) = take::<Tell>(&mut buffer).unwrap() {
                seen.push(tell);
            }
        }
        assert_eq!(seen, [first, second]);
        assert!(buffer.is_empty());
    }

    #[test]
    fn a_lying_length_is_refused() {
        let mut wire = u32::MAX.to_le_bytes().to_vec();
        assert!(matches!(
            take::<Tell>(&mut wire),
            Err(FrameError::TooLong(_))
        ));
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for _ in 0..200 {
                match take::<Tell>(&mut bytes) {
                    Ok(Some(_)) => {}
                    Ok(None) | Err(_) => break,
                }
            }
        }
    }
}
