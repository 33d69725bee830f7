//! Masks values in what comes back: each spelling is written over with stars, so that lengths stay.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use http::response::Parts;

use super::find::Finder;
use super::misuse::Misuse;

const STAR: u8 = b'*';

/// Masks one answer: its head, its body piece by piece, its trailers.
#[derive(Debug)]
pub(crate) struct Mask {
    finder: Arc<Finder>,
    /// What to answer when the body cannot be looked through; none where a value was never sent.
    unreadable: Option<Misuse>,
    /// The body is compressed and comes from somebody who never got a value.
    passes: bool,
    /// Bytes that may be the beginning of a value.
    held: BytesMut,
    /// How many of the held bytes are to be masked already.
    covered: usize,
}

impl Mask {
    pub(super) fn new(finder: Arc<Finder>, unreadable: Option<Misuse>) -> Self {
        Self {
            finder,
            unreadable,
            passes: false,
            held: BytesMut::new(),
            covered: 0,
        }
    }

    /// Masks the head, and looks whether the body can be masked.
    pub(crate) fn head(&mut self, parts: &mut Parts) -> Result<(), Misuse> {
        self.trailers(&mut parts.headers);
        // What the server says beside its status would be passed on unseen.
        parts.extensions.remove::<hyper::ext::ReasonPhrase>();
        if is_plain(&parts.headers) {
            return Ok(());
        }
        self.passes = true;
        self.unreadable.take().map_or(Ok(()), Err)
    }

    /// Masks header fields: those of a head, or trailers.
    pub(crate) fn trailers(&self, fields: &mut HeaderMap) {
        for value in fields.values_mut() {
            let Some(masked) = masked(&self.finder, value.as_bytes()) else {
                continue;
            };
            *value = HeaderValue::from_bytes(&masked).unwrap_or(HeaderValue::from_static("*"));
        }
    }

    /// The next piece of the body, masked; a beginning of a value is kept back until the next one.
    pub(crate) fn push(&mut self, piece: Bytes) -> Bytes {
        if self.passes || piece.is_empty() {
            return piece;
        }
        if self.held.is_empty() && self.finder.candidate(&piece, 0).is_none() {
            return piece;
        }
        self.held.extend_from_slice(&piece);
        self.look(false)
    }

    /// What was kept back, at the end of the body.
    pub(crate) fn finish(&mut self) -> Bytes {
        self.look(true)
    }

    fn look(&mut self, ends: bool) -> Bytes {
        let mut at = 0;
        let mut covered = self.covered;
        while let Some(place) = self.finder.candidate(&self.held, at) {
            let here = self.finder.here(&self.held, place);
            cover(&mut self.held, at..place, covered);
            at = place;
            covered = covered.max(here.whole.map_or(0, |(end, _)| end));
            if here.more && !ends {
                self.covered = covered.saturating_sub(at);
                return self.held.split_to(at).freeze();
            }
            cover(&mut self.held, at..at + 1, covered);
            at += 1;
        }
        let end = self.held.len();
        cover(&mut self.held, at..end, covered);
        self.covered = 0;
        self.held.split().freeze()
    }
}

/// Writes stars over those of some bytes that lie before `covered`. Only bytes that were looked at
/// are written over: a value that begins inside another one is found as well.
fn cover(bytes: &mut [u8], range: std::ops::Range<usize>, covered: usize) {
    let end = range.end.min(covered);
    if let Some(bytes) = bytes.get_mut(range.start..end.max(range.start)) {
        bytes.fill(STAR);
    }
}

/// Bytes that are whole, masked; nothing if there is nothing to mask.
pub(super) fn masked(finder: &Finder, bytes: &[u8]) -> Option<Vec<u8>> {
    finder.owner_in(bytes)?;
    let mut copy = bytes.to_vec();
    let (mut at, mut covered) = (0, 0);
    while let Some(place) = finder.candidate(&copy, at) {
        let here = finder.here(&copy, place);
        cover(&mut copy, at..place, covered);
        covered = covered.max(here.whole.map_or(0, |(end, _)| end));
        cover(&mut copy, place..place + 1, covered);
        at = place + 1;
    }
    let end = copy.len();
    cover(&mut copy, at..end, covered);
    Some(copy)
}

/// Whether a body is sent as it is.
fn is_plain(headers: &HeaderMap) -> bool {
    let known = |value: &HeaderValue| {
        let words = value.as_bytes().split(|byte| *byte == b',');
        words.map(<[u8]>::trim_ascii).all(|word| {
            [&b""[..], b"identity", b"chunked"]
                .iter()
                .any(|plain| word.eq_ignore_ascii_case(plain))
        })
    };
    headers.get_all(CONTENT_ENCODING).iter().all(known)
        && headers.get_all(TRANSFER_ENCODING).iter().all(known)
}
