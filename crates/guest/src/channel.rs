//! Frames and descriptors to and from the supervisor.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use belljar_base::frame::{self, Ask, Tell};

use crate::sys;

/// The socket to the supervisor, with what has arrived and is not yet used.
pub(crate) struct Channel {
    socket: OwnedFd,
    bytes: Vec<u8>,
    descriptors: VecDeque<OwnedFd>,
}

/// What a read brought.
pub(crate) enum Received {
    Asks(Vec<Ask>),
    Closed,
}

impl Channel {
    /// The channel that every guest is born with.
    pub(crate) fn inherited() -> Self {
        let socket = sys::inherited_channel();
        Self {
            socket,
            bytes: Vec::new(),
            descriptors: VecDeque::new(),
        }
    }

    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Sends a message, with a descriptor beside it if one is given.
    pub(crate) fn tell(&mut self, tell: &Tell, with: Option<&OwnedFd>) -> io::Result<()> {
        let frame = frame::encode(tell).map_err(io::Error::other)?;
        sys::send(&self.socket, &frame, with)
    }

    /// Takes what has arrived.
    pub(crate) fn receive(&mut self) -> io::Result<Received> {
        let mut buffer = vec![0_u8; 64 << 10];
        let (count, descriptors) = sys::receive(&self.socket, &mut buffer)?;
        if count == 0 {
            return Ok(Received::Closed);
        }
        self.bytes
            .extend_from_slice(buffer.get(..count).unwrap_or_default());
        self.descriptors.extend(descriptors);
        let mut asks = Vec::new();
        while let Some(ask) = frame::take(&mut self.bytes).map_err(io::Error::other)? {
            asks.push(ask);
        }
        Ok(Received::Asks(asks))
    }

    /// The three descriptors that came with a command.
    pub(crate) fn take_three(&mut self) -> Option<[OwnedFd; 3]> {
        let (first, second) = (self.descriptors.pop_front()?, self.descriptors.pop_front()?);
        Some([first, second, self.descriptors.pop_front()?])
    }
}

/// The channel's descriptor number, agreed with the supervisor.
pub(crate) const CHANNEL: i32 = 3;
