//! Pipes that bytes move through from one socket to another, and the pool they wait in.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use belljar_base::bounds::{EGRESS_PIPE_BYTES, EGRESS_PIPES_MAX};
use rustix::pipe::{
    PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice,
};

/// A pipe, and how much is in it.
pub(super) struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    held: usize,
    room: usize,
    place: Option<Place>,
}

/// A place among the big pipes. Whoever gets none has a small pipe: tunnels whose far side takes
/// nothing keep what they hold, and there may be many of them.
struct Place;

/// Empty big pipes that wait for the next tunnel with something to move.
static POOL: Mutex<Vec<Pipe>> = Mutex::new(Vec::new());
static PLACES_TAKEN: AtomicUsize = AtomicUsize::new(0);

impl Place {
    fn take() -> Option<Self> {
        let more = |taken| (taken < EGRESS_PIPES_MAX).then_some(taken + 1);
        let order = Ordering::Relaxed;
        let taken = PLACES_TAKEN.fetch_update(order, order, more);
        taken.is_ok().then(|| Self)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        PLACES_TAKEN.fetch_sub(1, Ordering::Relaxed);
    }
}

fn pool() -> MutexGuard<'static, Vec<Pipe>> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pipe {
    /// An empty pipe.
    pub(super) fn take() -> io::Result<Self> {
        let waiting = pool().pop();
        if let Some(pipe) = waiting {
            return Ok(pipe);
        }
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let place = Place::take();
        let room = match &place {
            // A host that gives no bigger pipe has a smaller one, which is slower and no worse.
            Some(_) => fcntl_setpipe_size(&write, EGRESS_PIPE_BYTES)
                .or_else(|_refused| fcntl_getpipe_size(&write))?,
            None => SMALL_BYTES,
        };
        Ok(Self {
            read,
            write,
            held: 0,
            room,
            place,
        })
    }

    /// Gives an empty pipe back; a small one, or one that holds something, is for nobody else.
    pub(super) fn put_back(self) {
        if self.held == 0 && self.place.is_some() {
            pool().push(self);
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Moves what the socket has into the empty pipe; 0 when the socket has ended.
    pub(super) fn fill(&mut self, from: BorrowedFd<'_>) -> io::Result<usize> {
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        let moved = splice(from, None, &self.write, None, self.room, flags)?;
        self.held += moved;
        Ok(moved)
    }

    /// Moves what the pipe holds to the socket, as far as that takes it.
    pub(super) fn drain(&mut self, to: BorrowedFd<'_>) -> io::Result<usize> {
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        let moved = splice(&self.read, None, to, None, self.held, flags)?;
        if moved == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.held = self.held.saturating_sub(moved);
        Ok(moved)
    }
}

/// What a small pipe is given to hold.
const SMALL_BYTES: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd as _;

    #[test]
    fn what_goes_in_comes_out() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (far, _) = listener.accept().unwrap();
        let mut other = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (end, _) = listener.accept().unwrap();
        near.write_all(b"through").unwrap();
        let mut pipe = Pipe::take().unwrap();
        while pipe.is_empty() {
            match pipe.fill(far.as_fd()) {
                Ok(_) => {}
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
        while !pipe.is_empty() {
            pipe.drain(end.as_fd()).unwrap();
        }
        pipe.put_back();
        let mut read = [0; 7];
        other.read_exact(&mut read).unwrap();
        assert_eq!(&read, b"through");
    }

    #[test]
    fn big_pipes_are_bounded() {
        let pipes: Vec<_> = (0..EGRESS_PIPES_MAX + 5)
            .map(|_| Pipe::take().unwrap())
            .collect();
        let big = pipes.iter().filter(|pipe| pipe.place.is_some()).count();
        assert!(big <= EGRESS_PIPES_MAX, "{big}");
        assert!(pipes.iter().any(|pipe| pipe.room == SMALL_BYTES));
        for pipe in pipes {
            pipe.put_back();
        }
        assert!(pool().len() <= EGRESS_PIPES_MAX);
    }
}
