//! A connection that became a WebSocket: frames are looked at and bytes counted both ways, and it ends
//! when the right to pass is lost or nothing passes.

mod frames; // what a WebSocket is made of

use std::io;
use std::sync::Arc;

use belljar_base::bounds::HTTP_TUNNEL_BUFFER_BYTES;
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::time::sleep;

use super::body::Allowed;
use super::stream::Stream;
use crate::judge::{Judge, Refused, code};
use crate::secret::{Mask, Misuse, Outgoing};
use frames::Frames;

/// A WebSocket that server and client have agreed on.
pub(super) struct Tunnel {
    pub(super) stream: Stream,
    /// What the server sent after its answer.
    pub(super) read: Bytes,
    pub(super) allowed: Arc<Allowed>,
    pub(super) mask: Option<Mask>,
    /// Looks for placeholders in what the client says; nothing when the run has no secrets.
    pub(super) outgoing: Option<Box<Outgoing>>,
    pub(super) judge: Arc<Judge>,
}

/// Why one direction ended.
enum End {
    Closed,
    Refused(Refused),
    Broken,
}

impl Tunnel {
    /// Passes bytes until either side ends or the right is lost. `read` is what the client sent
    /// after its request.
    pub(super) async fn run<I: AsyncRead + AsyncWrite + Unpin>(self, client: I, read: Bytes) {
        let Self {
            stream,
            read: answered,
            allowed,
            mut mask,
            mut outgoing,
            judge,
        } = self;
        let passage = &allowed.passage;
        let (from_client, to_client) = split(client);
        let (from_server, to_server) = split(stream);
        let (mut said, mut heard) = (Frames::new(true), Frames::new(false));
        let mut misuse = None;
        let up = pump(from_client, to_server, read, |piece| {
            passage.up(piece.len() as u64)?;
            spoken(&mut said, &piece, outgoing.as_deref_mut(), &mut misuse)?;
            Ok(piece)
        });
        let down = pump(from_server, to_client, answered, |piece| {
            passage.down(piece.len() as u64)?;
            spoken(&mut heard, &piece, None, &mut None)?;
            Ok(match &mut mask {
                Some(mask) => mask.push(piece),
                None => piece,
            })
        });
        let idle = async {
            let mut passed = passage.passed();
            loop {
                sleep(passage.idle_limit()).await;
                let now = passage.passed();
                if now == passed {
                    return;
                }
                passed = now;
            }
        };
        let end = tokio::select! {
            end = up => end,
            end = down => end,
            refused = passage.lost() => End::Refused(refused),
            () = idle => {
                passage.ended("idle");
                End::Closed
            }
        };
        match end {
            End::Closed => {}
            End::Broken => passage.ended("broken"),
            // The first word stays: the passage has said why when it was by rules or quotas.
            End::Refused(_told) => passage.ended("protocol"),
        }
        if let Some(event) = misuse.and_then(|misuse| misuse.event()) {
            // It went nowhere whether or not it can be written.
            judge.incident(event).await.ok();
        }
    }
}

/// Looks at what is said: that it is framed, and that no placeholder is in it.
fn spoken(
    frames: &mut Frames,
    piece: &[u8],
    outgoing: Option<&mut Outgoing>,
    misuse: &mut Option<Misuse>,
) -> Result<(), Refused> {
    let framed = match outgoing {
        None => frames.look(piece, None),
        Some(outgoing) => {
            let mut show = |payload: &[u8]| {
                if let Err(found) = outgoing.piece(payload) {
                    *misuse = Some(found);
                }
            };
            frames.look(piece, Some(&mut show))
        }
    };
    framed.map_err(|no_frame| Refused::malformed(no_frame.0))?;
    match misuse {
        Some(misuse) => Err(Refused::by(code::SECRET_SCOPE, misuse.refusal.clone())),
        None => Ok(()),
    }
}

/// Passes what one side sends, beginning with what was read before.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    read: Bytes,
    mut look: impl FnMut(Bytes) -> Result<Bytes, Refused>,
) -> End {
    let mut piece = read;
    let mut buffer = bytes::BytesMut::new();
    loop {
        if !piece.is_empty() {
            let looked = match look(piece) {
                Ok(looked) => looked,
                Err(refused) => return End::Refused(refused),
            };
            if write(&mut to, &looked).await.is_err() {
                return End::Broken;
            }
        }
        buffer.reserve(HTTP_TUNNEL_BUFFER_BYTES);
        match from.read_buf(&mut buffer).await {
            Ok(0) => {
                // The other side learns of it when both ends are dropped, if not by this.
                to.shutdown().await.ok();
                return End::Closed;
            }
            Ok(_some) => piece = buffer.split().freeze(),
            Err(_broken) => return End::Broken,
        }
    }
}

async fn write(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes).await?;
    to.flush().await
}
