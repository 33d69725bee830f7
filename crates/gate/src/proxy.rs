//! Programs that know of a proxy ask here: HTTP `CONNECT`, requests for `http://host/…`, SOCKS 5. What
//! they ask is judged like everything else; the answer is in the words of the protocol they used.

pub mod head; // the head of an HTTP request to a proxy
pub mod socks; // the messages of SOCKS 5

use std::time::Duration;

use belljar_base::bounds::EGRESS_HEAD_MILLIS_MAX;
use belljar_policy::egress::Host;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::http::answer_bytes;
use crate::judge::Refused;

/// What a client of the proxy wants.
#[derive(Debug)]
pub(crate) enum Wanted {
    /// A connection to somebody.
    Connection {
        /// To whom.
        host: Host,
        /// On which port.
        port: u16,
        /// How the client asked, and is to be answered.
        voice: Voice,
        /// What it has said after its request.
        said: Vec<u8>,
    },
    /// A request of HTTP that is to be passed on.
    Request {
        /// The request, as far as it was said.
        said: Vec<u8>,
    },
    /// Nothing that is understood.
    Nothing(Doubt),
    /// The client has gone.
    Gone,
}

/// What was said and not understood.
#[derive(Debug)]
pub(crate) struct Doubt {
    /// Why.
    pub(crate) reason: &'static str,
    /// How the client asked, and is to be answered.
    pub(crate) voice: Voice,
}

/// The protocol in which a client asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Voice {
    /// HTTP/1.
    Http,
    /// SOCKS 5; the code of an answer when it is not the judge's.
    Socks(u8),
    /// SOCKS 4, which is only answered.
    OldSocks,
}

/// Hears a client out, but not for longer than the bound.
pub(crate) async fn hear<I: AsyncRead + AsyncWrite + Unpin>(io: &mut I) -> Wanted {
    let limit = Duration::from_millis(EGRESS_HEAD_MILLIS_MAX);
    let mut said = Vec::new();
    let heard = timeout(limit, understand(io, &mut said)).await;
    match heard {
        Ok(Ok(wanted)) => wanted,
        Ok(Err(Stop::Gone)) => Wanted::Gone,
        Ok(Err(Stop::Doubt(doubt))) => Wanted::Nothing(doubt),
        Err(_elapsed) if said.is_empty() => Wanted::Gone,
        Err(_elapsed) => Wanted::Nothing(Doubt {
            reason: "the client did not say in time what it wants",
            voice: match said.first() {
                Some(5) => Voice::Socks(socks::FAILED),
                _ => Voice::Http,
            },
        }),
    }
}

enum Stop {
    Gone,
    Doubt(Doubt),
}

impl Stop {
    const fn doubt(voice: Voice, reason: &'static str) -> Self {
        Self::Doubt(Doubt { reason, voice })
    }
}

async fn understand<I: AsyncRead + AsyncWrite + Unpin>(
    io: &mut I,
    said: &mut Vec<u8>,
) -> Result<Wanted, Stop> {
    listen(io, said).await?;
    match said.first() {
        Some(5) => by_socks(io, said).await,
        Some(4) => Err(Stop::doubt(
            Voice::OldSocks,
            "SOCKS 4 is not spoken, SOCKS 5 is",
        )),
        _ => by_http(io, said).await,
    }
}

async fn by_http<I: AsyncRead + Unpin>(io: &mut I, said: &mut Vec<u8>) -> Result<Wanted, Stop> {
    loop {
        match head::read(said) {
            head::Reading::More => listen(io, said).await?,
            head::Reading::Refused(reason) => return Err(Stop::doubt(Voice::Http, reason)),
            head::Reading::Forward { .. } => {
                let said = std::mem::take(said);
                return Ok(Wanted::Request { said });
            }
            head::Reading::Connect { host, port, length } => {
                let said = said.split_off(length.min(said.len()));
                return Ok(Wanted::Connection {
                    host,
                    port,
                    voice: Voice::Http,
                    said,
                });
            }
        }
    }
}

async fn by_socks<I: AsyncRead + AsyncWrite + Unpin>(
    io: &mut I,
    said: &mut Vec<u8>,
) -> Result<Wanted, Stop> {
    let method = message(io, said, socks::greeting).await?;
    say(io, &[5, method.number()]).await?;
    if method == socks::Method::Password {
        message(io, said, socks::password).await?;
        say(io, &[1, 0]).await?;
    }
    let (host, port) = message(io, said, socks::request).await?;
    Ok(Wanted::Connection {
        host,
        port,
        voice: Voice::Socks(socks::DENIED),
        said: std::mem::take(said),
    })
}

/// One message, taken from what was said.
async fn message<I: AsyncRead + Unpin, T>(
    io: &mut I,
    said: &mut Vec<u8>,
    read: impl Fn(&[u8]) -> socks::Reading<T>,
) -> Result<T, Stop> {
    loop {
        match read(said) {
            socks::Reading::More => listen(io, said).await?,
            socks::Reading::Refused(code, reason) => {
                return Err(Stop::doubt(Voice::Socks(code), reason));
            }
            socks::Reading::Whole(message, length) => {
                said.drain(..length.min(said.len()));
                return Ok(message);
            }
        }
    }
}

async fn listen<I: AsyncRead + Unpin>(io: &mut I, said: &mut Vec<u8>) -> Result<(), Stop> {
    said.reserve(READ_BYTES);
    match io.read_buf(said).await {
        Ok(0) | Err(_) => Err(Stop::Gone),
        Ok(_) => Ok(()),
    }
}

async fn say<I: AsyncWrite + Unpin>(io: &mut I, bytes: &[u8]) -> Result<(), Stop> {
    io.write_all(bytes).await.map_err(|_gone| Stop::Gone)
}

const READ_BYTES: usize = 1024;

impl Voice {
    /// What a client is told when it may go on.
    pub(crate) fn granted(self) -> Vec<u8> {
        match self {
            Self::Http => b"HTTP/1.1 200 Connection established\r\n\r\n".to_vec(),
            Self::Socks(_) => socks::reply(socks::GRANTED).to_vec(),
            Self::OldSocks => OLD_REFUSAL.to_vec(),
        }
    }

    /// What a client is told when it may not.
    pub(crate) fn refused(self, refused: &Refused) -> Vec<u8> {
        match self {
            Self::Http => answer_bytes(refused),
            Self::Socks(socks::NO_METHOD) => vec![5, socks::NO_METHOD],
            Self::Socks(code) => socks::reply(code).to_vec(),
            Self::OldSocks => OLD_REFUSAL.to_vec(),
        }
    }
}

/// Version 0, request rejected, nothing more.
const OLD_REFUSAL: [u8; 8] = [0, 0x5b, 0, 0, 0, 0, 0, 0];
