//! One direction of bytes, with a bounded buffer: never blocks, and counts what it drops.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Bytes held between a source and its sink.
const BUFFER_BYTES_MAX: usize = 64 << 10;
/// A pipe or terminal that is ready takes this much without blocking (PIPE_BUF).
const READY_BYTES: usize = 4096;

/// Where bytes end up.
#[derive(Debug)]
pub(super) enum Sink {
    To(OwnedFd),
    Keep(Vec<u8>),
    Nowhere,
}

/// Bytes on their way.
#[derive(Debug)]
pub(super) struct Flow {
    source: Option<OwnedFd>,
    sink: Sink,
    waiting: Vec<u8>,
    written: usize,
    total: u64,
    limit: Option<u64>,
    /// Whether the sink is a file, which takes everything at once.
    regular: bool,
}

/// Writes without waiting, whatever else writes to the same pipe or terminal: one poll may have
/// promised both output streams the same room.
fn put(descriptor: &OwnedFd, bytes: &[u8], regular: bool) -> rustix::io::Result<usize> {
    use rustix::io::{Errno, IoSlice, ReadWriteFlags, pwritev2, write};
    if regular {
        return write(descriptor, bytes);
    }
    // The greatest offset stands for the file's own position.
    match pwritev2(
        descriptor,
        &[IoSlice::new(bytes)],
        u64::MAX,
        ReadWriteFlags::NOWAIT,
    ) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
            write(descriptor, bytes.get(..READY_BYTES).unwrap_or(bytes))
        }
        answer => answer,
    }
}

impl Flow {
    pub(super) fn new(source: Option<OwnedFd>, sink: Sink, limit: Option<u64>) -> io::Result<Self> {
        let mut flow = Self {
            source,
            sink,
            waiting: Vec::new(),
            written: 0,
            total: 0,
            limit,
            regular: false,
        };
        if let Sink::To(descriptor) = &flow.sink {
            let kind = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(descriptor)?.st_mode);
            flow.regular = kind == rustix::fs::FileType::RegularFile;
        }
        if flow.source.is_none() && limit.is_none() {
            // No input: the command reads its end at once.
            flow.sink = Sink::Nowhere;
        }
        Ok(flow)
    }

    pub(super) fn set_sink(&mut self, sink: OwnedFd) {
        self.sink = Sink::To(sink);
    }

    pub(super) fn set_source(&mut self, source: OwnedFd) {
        self.source = Some(source);
    }

    pub(super) fn wants_read(&self) -> Option<BorrowedFd<'_>> {
        let full = self.waiting.len() >= BUFFER_BYTES_MAX;
        // Input waits for its sink: a terminal's comes later.
        let sinkless = self.limit.is_none() && matches!(self.sink, Sink::Nowhere);
        self.source
            .as_ref()
            .filter(|_| !full && !sinkless)
            .map(AsFd::as_fd)
    }

    pub(super) fn wants_write(&self) -> Option<BorrowedFd<'_>> {
        match &self.sink {
            Sink::To(descriptor) if !self.waiting.is_empty() => Some(descriptor.as_fd()),
            Sink::To(_) | Sink::Keep(_) | Sink::Nowhere => None,
        }
    }

    /// Moves what can be moved: `[readable, writable]`.
    pub(super) fn advance(&mut self, ready: [bool; 2]) {
        let [readable, writable] = ready;
        if writable {
            self.write();
        }
        if readable {
            self.read();
        }
        if self.source.is_none() && self.waiting.is_empty() && self.limit.is_none() {
            // The end of the input is passed on.
            self.sink = Sink::Nowhere;
        }
    }

    fn read(&mut self) {
        let Some(source) = &self.source else { return };
        let mut buffer = [0_u8; BUFFER_BYTES_MAX];
        let room = BUFFER_BYTES_MAX.saturating_sub(self.waiting.len());
        let Some(buffer) = buffer.get_mut(..room) else {
            return;
        };
        match rustix::io::read(source, &mut *buffer) {
            Ok(0) => self.source = None,
            Ok(count) => {
                let bytes = buffer.get(..count).unwrap_or_default();
                let allowed = self.admit(bytes.len());
                let bytes = bytes.get(..allowed).unwrap_or_default();
                match &mut self.sink {
                    Sink::To(_) => self.waiting.extend_from_slice(bytes),
                    Sink::Keep(kept) => kept.extend_from_slice(bytes),
                    Sink::Nowhere => {}
                }
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            // A terminal whose last user left answers EIO: its end.
            Err(_) => self.source = None,
        }
    }

    /// How many of `count` new bytes are within the limit.
    fn admit(&mut self, count: usize) -> usize {
        let before = self.total;
        self.total = self.total.saturating_add(count as u64);
        let Some(limit) = self.limit else {
            return count;
        };
        usize::try_from(limit.saturating_sub(before))
            .unwrap_or(usize::MAX)
            .min(count)
    }

    fn write(&mut self) {
        let Sink::To(descriptor) = &self.sink else {
            return;
        };
        let bytes = self.waiting.get(self.written..).unwrap_or_default();
        match put(descriptor, bytes, self.regular) {
            Ok(count) => {
                self.written += count;
                if self.written >= self.waiting.len() {
                    self.waiting.clear();
                    self.written = 0;
                }
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(_) => {
                // The reader is gone; what comes is counted and dropped.
                self.sink = Sink::Nowhere;
                self.waiting.clear();
                self.written = 0;
            }
        }
    }

    pub(super) fn finished(&self) -> bool {
        self.source.is_none() && (self.waiting.is_empty() || matches!(self.sink, Sink::Nowhere))
    }

    pub(super) fn total(&self) -> u64 {
        self.total
    }

    pub(super) fn dropped(&self) -> bool {
        self.limit.is_some_and(|limit| self.total > limit)
    }

    pub(super) fn into_kept(self) -> Vec<u8> {
        match self.sink {
            Sink::Keep(kept) => kept,
            Sink::To(_) | Sink::Nowhere => Vec::new(),
        }
    }
}
