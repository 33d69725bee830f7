//! Bodies on their way: each part is counted before it passes, and nothing passes once the right
//! to is lost. Parts are handed on as they came, never copied.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use belljar_base::bounds::HTTP_UPLOAD_WINDOW_BYTES_MIN;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

use super::hop;
use super::upstream::Lease;
use crate::judge::{Passage, Refused, code};
use crate::secret::{Mask, Misuse, Outgoing};

/// A body was cut off.
#[derive(Debug, thiserror::Error)]
pub(super) enum Cut {
    /// By the judge.
    #[error("the request lost its right to pass")]
    Refused,
    /// By the other side.
    #[error("the body ended early")]
    Broken(#[source] hyper::Error),
}

/// One request that was allowed, as both of its bodies see it.
pub(super) struct Allowed {
    pub(super) passage: Passage,
    refused: OnceLock<Refused>,
    misuse: OnceLock<Misuse>,
}

impl Allowed {
    pub(super) fn new(passage: Passage) -> Arc<Self> {
        Arc::new(Self {
            passage,
            refused: OnceLock::new(),
            misuse: OnceLock::new(),
        })
    }

    /// The secret that was found in its body where it does not belong.
    pub(super) fn misuse(&self) -> Option<Misuse> {
        self.misuse.get().cloned()
    }

    /// Why it lost its right, if it did.
    pub(super) fn refused(&self) -> Option<Refused> {
        self.refused.get().cloned()
    }

    /// Remembers why it lost its right.
    pub(super) fn cut(&self, refused: Refused) -> Cut {
        // The first reason is the one that is told.
        self.refused.get_or_init(|| refused);
        Cut::Refused
    }
}

/// Which way a body goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Up,
    Down,
}

/// Watches over one body while it passes.
struct Watch {
    allowed: Arc<Allowed>,
    way: Way,
    /// How many bytes must come in one window of time.
    least: u64,
    came: u64,
    window: Option<(Duration, Pin<Box<Sleep>>)>,
    lost: Option<Pin<Box<dyn Future<Output = Refused> + Send>>>,
}

impl Watch {
    fn new(allowed: Arc<Allowed>, way: Way, least: u64) -> Self {
        Self {
            allowed,
            way,
            least,
            came: 0,
            window: None,
            lost: None,
        }
    }

    /// Counts what is about to pass.
    fn pass(&mut self, bytes: usize) -> Result<(), Cut> {
        let bytes = bytes as u64;
        self.came = self.came.saturating_add(bytes);
        let passage = &self.allowed.passage;
        let counted = match self.way {
            Way::Up => passage.up(bytes),
            Way::Down => passage.down(bytes),
        };
        counted.map_err(|refused| self.allowed.cut(refused))
    }

    /// While nothing comes: ready when nothing may come any more.
    fn poll_cut(&mut self, cx: &mut Context<'_>) -> Poll<Cut> {
        let lost = self.lost.get_or_insert_with(|| {
            let allowed = Arc::clone(&self.allowed);
            Box::pin(async move { allowed.passage.lost().await })
        });
        if let Poll::Ready(refused) = lost.as_mut().poll(cx) {
            return Poll::Ready(self.allowed.cut(refused));
        }
        let (length, window) = self.window.get_or_insert_with(|| {
            let length = self.allowed.passage.idle_limit();
            (length, Box::pin(sleep(length)))
        });
        while window.as_mut().poll(cx).is_ready() {
            if self.came < self.least {
                self.allowed.passage.ended("idle");
                let refused = Refused::protocol("the body came too slowly");
                return Poll::Ready(self.allowed.cut(refused));
            }
            self.came = 0;
            window.as_mut().reset(Instant::now() + *length);
        }
        Poll::Pending
    }

    /// Counts a part, and takes from trailers what only a head may say.
    fn look(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, Cut> {
        if let Some(data) = frame.data_ref() {
            self.pass(data.len())?;
            return Ok(frame);
        }
        match frame.into_trailers() {
            Ok(mut trailers) => {
                hop::strip_trailers(&mut trailers);
                self.pass(usize::try_from(hop::weight(&trailers)).unwrap_or(usize::MAX))?;
                Ok(Frame::trailers(trailers))
            }
            Err(other) => Ok(other),
        }
    }

    /// A body that cannot be read to its end. What was passed of it is not a whole request or
    /// answer: the connection it went over is closed in the middle.
    fn broken(&self, error: hyper::Error) -> Cut {
        match self.way {
            Way::Up => {
                self.allowed.passage.ended("body broken");
                let reason = "the body is not well-formed, or not whole";
                self.allowed.cut(Refused::malformed(reason));
            }
            Way::Down => self.allowed.passage.ended("answer broken"),
        }
        Cut::Broken(error)
    }

    /// The next part of a body, looked at.
    fn poll(
        &mut self,
        body: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match Pin::new(body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(self.look(frame))),
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(self.broken(error)))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                let cut = ready!(self.poll_cut(cx));
                Poll::Ready(Some(Err(cut)))
            }
        }
    }
}

/// The body of a request, on its way to a server.
pub(super) enum Up {
    /// There is none.
    None,
    /// As the client sends it.
    Client(Box<Upward>),
    /// Taken in whole and looked through.
    Whole(Full<Bytes>),
}

/// A body of a request as the client sends it.
pub(super) struct Upward {
    body: Incoming,
    watch: Watch,
    outgoing: Box<Outgoing>,
}

impl Up {
    /// The client's body; one that is a single upload has to come faster than one that may be one
    /// half of a conversation.
    pub(super) fn new(
        body: Incoming,
        outgoing: Box<Outgoing>,
        allowed: &Arc<Allowed>,
        conversation: bool,
    ) -> Self {
        if body.is_end_stream() {
            return Self::None;
        }
        let least = if conversation {
            1
        } else {
            HTTP_UPLOAD_WINDOW_BYTES_MIN
        };
        let watch = Watch::new(Arc::clone(allowed), Way::Up, least);
        Self::Client(Box::new(Upward {
            body,
            watch,
            outgoing,
        }))
    }
}

impl Upward {
    /// Looks for secrets that do not belong there.
    fn look(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, Cut> {
        let looked = match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => self.outgoing.piece(data),
            (None, Some(trailers)) => self.outgoing.trailers(trailers),
            (None, None) => Ok(()),
        };
        looked.map(|()| frame).map_err(|misuse| {
            let refusal = misuse.refusal.clone();
            let allowed = &self.watch.allowed;
            allowed.misuse.get_or_init(|| misuse);
            allowed.cut(Refused::by(code::SECRET_SCOPE, refusal))
        })
    }
}

impl Body for Up {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match self.get_mut() {
            Self::None => Poll::Ready(None),
            Self::Client(upward) => {
                let part = ready!(upward.watch.poll(&mut upward.body, cx));
                Poll::Ready(part.map(|part| part.and_then(|frame| upward.look(frame))))
            }
            Self::Whole(whole) => Pin::new(whole)
                .poll_frame(cx)
                .map_err(|never| match never {}),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::None => true,
            Self::Client(upward) => upward.body.is_end_stream(),
            Self::Whole(whole) => whole.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::None => SizeHint::with_exact(0),
            Self::Client(upward) => upward.body.size_hint(),
            Self::Whole(whole) => whole.size_hint(),
        }
    }
}

/// The body of an answer, on its way to the client.
pub(super) enum Down {
    /// The gate's own words, or nothing.
    Own(Full<Bytes>),
    /// As the server sends it.
    Server(Box<Downward>),
}

/// The body of an answer as the server sends it.
pub(super) struct Downward {
    body: Incoming,
    watch: Watch,
    /// Masks the values of secrets.
    mask: Option<Mask>,
    /// What comes after the last masked piece.
    after: Option<Frame<Bytes>>,
    /// The connection that it comes over; given back when the body has ended well.
    lease: Lease,
    ended: bool,
}

impl Down {
    /// The server's body, which comes over this connection.
    pub(super) fn new(
        body: Incoming,
        allowed: Arc<Allowed>,
        lease: Lease,
        mask: Option<Mask>,
    ) -> Self {
        Self::Server(Box::new(Downward {
            body,
            watch: Watch::new(allowed, Way::Down, 1),
            mask,
            after: None,
            lease,
            ended: false,
        }))
    }

    /// Nothing.
    pub(super) fn none() -> Self {
        Self::Own(Full::default())
    }
}

impl Downward {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        loop {
            if let Some(after) = self.after.take() {
                return Poll::Ready(Some(Ok(after)));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            self.lease.drive(cx);
            let part = ready!(self.watch.poll(&mut self.body, cx));
            self.ended = part.is_none();
            let Some(mask) = &mut self.mask else {
                return Poll::Ready(part);
            };
            let last = match part {
                Some(Err(cut)) => return Poll::Ready(Some(Err(cut))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        let masked = mask.push(data);
                        if masked.is_empty() {
                            continue;
                        }
                        return Poll::Ready(Some(Ok(Frame::data(masked))));
                    }
                    Err(frame) => Some(frame),
                },
                None => None,
            };
            self.after = last.map(|frame| match frame.into_trailers() {
                Ok(mut trailers) => {
                    mask.trailers(&mut trailers);
                    Frame::trailers(trailers)
                }
                Err(other) => other,
            });
            let rest = mask.finish();
            if !rest.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(rest))));
            }
        }
    }
}

impl Body for Down {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match self.get_mut() {
            Self::Own(own) => Pin::new(own).poll_frame(cx).map_err(|never| match never {}),
            Self::Server(downward) => downward.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(own) => own.is_end_stream(),
            Self::Server(down) if down.mask.is_some() => down.ended && down.after.is_none(),
            Self::Server(down) => down.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(own) => own.size_hint(),
            // A masked body is as long as it was.
            Self::Server(down) => down.body.size_hint(),
        }
    }
}

impl Drop for Downward {
    fn drop(&mut self) {
        if self.ended || self.body.is_end_stream() {
            self.lease.give_back();
        }
    }
}
