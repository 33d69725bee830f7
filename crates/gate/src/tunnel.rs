//! Bytes that pass without being looked at: TLS after its greeting, and what a `tcp` rule lets through.
//!
//! A tunnel that is idle holds two sockets and no buffer. What flows moves through a pipe that is
//! taken from a pool for as long as there is something to move, and never enters this process's
//! memory.

mod pipe; // pipes, and the pool they wait in

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::net::shutdown;
use tokio::io::{AsyncWriteExt as _, Interest};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

use crate::judge::{Passage, Refused};
use pipe::Pipe;

/// Two connected ends, and the right to pass between them.
pub(crate) struct Tunnel {
    /// The end that asked.
    pub(crate) client: TcpStream,
    /// The end that was asked for.
    pub(crate) server: TcpStream,
    /// What the client has said already.
    pub(crate) first: Vec<u8>,
    /// Counts, and says when it is over.
    pub(crate) passage: Passage,
}

/// Why nothing more passes.
enum Over {
    /// One side broke off.
    Broken,
    /// The gate did.
    Cut(Refused),
}

impl From<io::Error> for Over {
    fn from(_broken: io::Error) -> Self {
        Self::Broken
    }
}

impl From<Refused> for Over {
    fn from(refused: Refused) -> Self {
        Self::Cut(refused)
    }
}

impl Tunnel {
    /// Passes bytes both ways until both sides have ended, one breaks off, or the right is lost.
    pub(crate) async fn run(self) {
        let Self {
            client,
            mut server,
            first,
            passage,
        } = self;
        if !first.is_empty() {
            let said = u64::try_from(first.len()).unwrap_or(u64::MAX);
            if passage.up(said).is_err() || server.write_all(&first).await.is_err() {
                abort(&client, &server);
                return;
            }
        }
        drop(first);
        let pulse = Pulse::new();
        let up = one_way(&client, &server, &pulse, |bytes| passage.up(bytes));
        let down = one_way(&server, &client, &pulse, |bytes| passage.down(bytes));
        let both = async { tokio::try_join!(up, down) };
        let over = tokio::select! {
            passed = both => passed.err(),
            refused = passage.lost() => Some(Over::Cut(refused)),
            () = pulse.silent(passage.idle_limit()) => {
                passage.ended("idle");
                Some(Over::Broken)
            }
        };
        match over {
            None => {}
            Some(Over::Broken) => {
                passage.ended("broken");
                abort(&client, &server);
            }
            Some(Over::Cut(_why)) => abort(&client, &server),
        }
    }
}

/// Moves everything one side says to the other, then tells it that this was all.
async fn one_way(
    from: &TcpStream,
    to: &TcpStream,
    pulse: &Pulse,
    count: impl Fn(u64) -> Result<(), Refused>,
) -> Result<(), Over> {
    loop {
        from.readable().await?;
        // Nothing is taken from one side that the other has no room for.
        to.writable().await?;
        let mut pipe = Pipe::take()?;
        loop {
            // A tunnel that always has more to move lets others have their turn.
            tokio::task::coop::consume_budget().await;
            match from.try_io(Interest::READABLE, || pipe.fill(from.as_fd())) {
                Ok(0) => {
                    pipe.put_back();
                    shutdown(to, rustix::net::Shutdown::Write).map_err(io::Error::from)?;
                    return Ok(());
                }
                Ok(moved) => count(u64::try_from(moved).unwrap_or(u64::MAX))?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
            pulse.beat();
            while !pipe.is_empty() {
                match to.try_io(Interest::WRITABLE, || pipe.drain(to.as_fd())) {
                    Ok(_moved) => pulse.beat(),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        to.writable().await?;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
        pipe.put_back();
    }
}

/// Breaks both connections off, so that neither side takes what it has for all there is.
fn abort(client: &TcpStream, server: &TcpStream) {
    for side in [client, server] {
        // A side that is gone already needs no telling.
        side.set_zero_linger().ok();
    }
}

/// When something last passed.
struct Pulse {
    began: Instant,
    last_millis: AtomicU64,
}

impl Pulse {
    fn new() -> Self {
        Self {
            began: Instant::now(),
            last_millis: AtomicU64::new(0),
        }
    }

    fn beat(&self) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_millis.store(now, Ordering::Relaxed);
    }

    /// Returns when nothing has passed for so long.
    async fn silent(&self, limit: Duration) {
        loop {
            let last = Duration::from_millis(self.last_millis.load(Ordering::Relaxed));
            let end = self.began + last + limit;
            if end <= Instant::now() {
                return;
            }
            sleep_until(end).await;
        }
    }
}
