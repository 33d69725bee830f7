//! What a client speaks, told by the first bytes it says: TLS, HTTP/1, or something that nobody
//! judges.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use belljar_base::bounds::EGRESS_HEAD_MILLIS_MAX;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::time::timeout;

use crate::hello::{self, Hello};

/// What a client speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Speech {
    /// TLS, with this greeting.
    Tls(Hello),
    /// HTTP/1 in the clear.
    Http,
    /// Nothing that can be judged; why.
    Unknown(&'static str),
    /// The client has gone.
    Gone,
}

/// Reads until it is clear what the client speaks, but not for longer than the bound. What was read
/// is in `said`, which may hold something already.
pub(crate) async fn sniff<I: AsyncRead + Unpin>(io: &mut I, said: &mut Vec<u8>) -> Speech {
    let listen = async {
        loop {
            if let Some(speech) = told(said) {
                return speech;
            }
            said.reserve(READ_BYTES);
            match io.read_buf(said).await {
                Ok(0) | Err(_) => return Speech::Gone,
                Ok(_) => {}
            }
        }
    };
    let limit = Duration::from_millis(EGRESS_HEAD_MILLIS_MAX);
    let heard = timeout(limit, listen).await;
    heard.unwrap_or(Speech::Unknown(
        "the client did not say in time what it wants",
    ))
}

const READ_BYTES: usize = 2048;

/// What these first bytes are; nothing as long as that is open.
fn told(said: &[u8]) -> Option<Speech> {
    match said.first()? {
        0x16 => match hello::read(said) {
            hello::Reading::More => None,
            hello::Reading::Whole(hello) => Some(Speech::Tls(hello)),
            hello::Reading::Refused(reason) => Some(Speech::Unknown(reason)),
        },
        _ => match said.iter().position(|byte| !is_method(*byte)) {
            None if said.len() <= METHOD_BYTES_MAX => None,
            Some(end) if is_request(said, end) => Some(Speech::Http),
            None | Some(_) => Some(Speech::Unknown("what is said is neither HTTP nor TLS")),
        },
    }
}

const METHOD_BYTES_MAX: usize = 24;

const fn is_method(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte == b'-' || byte == b'_'
}

/// A method and a space. `PRI` is how HTTP/2 begins without TLS, which is not spoken here.
fn is_request(said: &[u8], end: usize) -> bool {
    let method = said.get(..end).unwrap_or_default();
    let space = said.get(end) == Some(&b' ');
    space && !method.is_empty() && method.len() <= METHOD_BYTES_MAX && method != b"PRI"
}

/// A connection whose first bytes have been read already.
#[derive(Debug)]
pub(crate) struct Heard<I> {
    said: Vec<u8>,
    told: usize,
    io: I,
}

impl<I> Heard<I> {
    /// The connection, as it was before these bytes were read from it.
    pub(crate) const fn new(said: Vec<u8>, io: I) -> Self {
        Self { said, told: 0, io }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Heard<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { said, told, io } = &mut *self;
        let rest = said.get(*told..).unwrap_or_default();
        if rest.is_empty() {
            return Pin::new(io).poll_read(context, buffer);
        }
        let now = rest.get(..buffer.remaining()).unwrap_or(rest);
        buffer.put_slice(now);
        *told += now.len();
        if *told == said.len() {
            *said = Vec::new();
            *told = 0;
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Heard<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_tell() {
        for said in ["GET / HTTP/1.1\r\n", "M-SEARCH * H", "POST "] {
            assert_eq!(told(said.as_bytes()), Some(Speech::Http), "{said}");
        }
        for said in ["", "G", "OPTIONS"] {
            assert_eq!(told(said.as_bytes()), None, "{said}");
        }
        let other: [&[u8]; 8] = [
            b"SSH-2.0-x\r\n",
            b"PRI * HTTP/2.0\r\n",
            b" GET / HTTP/1.1",
            b"\r\nGET / HTTP/1.1",
            b"get / HTTP/1.1",
            b"\x80\x2e\x01\x03\x01",
            b"EHLO\r\n",
            &[b'A'; 25],
        ];
        for said in other {
            let speech = told(said);
            assert!(matches!(speech, Some(Speech::Unknown(_))), "{said:?}");
        }
    }

    #[tokio::test]
    async fn what_was_heard_is_read_again() {
        let (near, mut far) = tokio::io::duplex(64);
        tokio::io::AsyncWriteExt::write_all(&mut far, b" and after")
            .await
            .unwrap();
        drop(far);
        let mut heard = Heard::new(b"before".to_vec(), near);
        let mut read = String::new();
        heard.read_to_string(&mut read).await.unwrap();
        assert_eq!(read, "before and after");
    }
}
