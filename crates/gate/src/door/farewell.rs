//! The last words to a client that is refused, said so that it hears them.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::judge::{Refused, code};

/// Why TLS ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alert {
    /// Rules do not let it pass.
    AccessDenied,
    /// The name in the greeting is not the host.
    UnrecognizedName,
    /// Nothing that is offered is HTTP.
    NoApplicationProtocol,
    /// It was allowed and failed all the same.
    Internal,
}

impl Alert {
    /// What says best that a connection is not made.
    pub(super) fn denied(refused: &Refused) -> Self {
        match refused.code {
            code::UNREACHABLE | code::AUDIT => Self::Internal,
            _ => Self::AccessDenied,
        }
    }

    /// What says best that a greeting is not taken.
    pub(super) fn doubted(refused: &Refused) -> Self {
        match refused.code {
            code::SNI_MISMATCH => Self::UnrecognizedName,
            _ => Self::NoApplicationProtocol,
        }
    }

    /// A fatal alert in a record of its own (RFC 8446, 6).
    pub(super) const fn record(self) -> [u8; 7] {
        let number = match self {
            Self::AccessDenied => 49,
            Self::Internal => 80,
            Self::UnrecognizedName => 112,
            Self::NoApplicationProtocol => 120,
        };
        [21, 3, 3, 0, 2, 2, number]
    }
}

/// Says something and closes. What the client still has to say is read for a moment: closed with
/// unread bytes, a connection is reset and the words are lost.
pub(super) async fn farewell(mut stream: TcpStream, words: &[u8]) {
    let say = async {
        stream.write_all(words).await?;
        stream.shutdown().await?;
        let mut rest = [0; 1024];
        for _ in 0..READS_MAX {
            if stream.read(&mut rest).await? == 0 {
                break;
            }
        }
        Ok::<(), std::io::Error>(())
    };
    // A client that does not listen is closed all the same.
    timeout(LINGER, say).await.ok();
}

const LINGER: Duration = Duration::from_millis(500);
const READS_MAX: usize = 64;
