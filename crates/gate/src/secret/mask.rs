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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::find::Wanted;
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    use http::Response;
    use proptest::prelude::*;

    fn mask(values: &[&str]) -> Mask {
        let wanted: Vec<Wanted<'_>> = (0..)
            .zip(values)
            .map(|(owner, value)| Wanted {
                text: value.as_bytes(),
                any_case: false,
                owner,
            })
            .collect();
        Mask::new(Arc::new(Finder::new(&wanted).unwrap()), None)
    }

    /// What comes out of a body that comes in pieces of these sizes.
    fn flow(values: &[&str], body: &[u8], sizes: &[usize]) -> Vec<u8> {
        let mut mask = mask(values);
        let mut out = Vec::new();
        let (mut at, mut sizes) = (0, sizes.iter().cycle());
        while at < body.len() {
            let size = sizes.next().copied().unwrap_or(1).max(1);
            let end = (at + size).min(body.len());
            out.extend(mask.push(Bytes::copy_from_slice(&body[at..end])));
            at = end;
        }
        out.extend(mask.finish());
        out
    }

    fn check(values: &[&str], body: &str, wanted: &str) {
        for sizes in [&[1][..], &[2], &[3, 5], &[1000]] {
            let out = flow(values, body.as_bytes(), sizes);
            assert_eq!(String::from_utf8_lossy(&out), wanted, "{sizes:?}");
        }
    }

    #[test]
    fn values_become_stars() {
        check(
            &["secret"],
            "a secret, a secre, secret",
            "a ******, a secre, ******",
        );
        check(&["s/cr&t"], r#"s\/cr&t s%2Fcr%26t"#, "******* **********");
        check(
            &["secret"],
            "736563726574 c2VjcmV0",
            "************ ********",
        );
        // One inside another, and one that begins where another ends.
        check(&["secret", "cretin"], "secretin cretin", "******** ******");
        check(&["abcabc"], "abcabcabc", "*********");
        check(&["secret"], "secr", "secr");
        check(&["secret"], "%", "%");
    }

    #[test]
    fn a_value_is_not_waited_for_longer_than_needed() {
        let mut mask = mask(&["secret"]);
        assert_eq!(
            mask.push(Bytes::from_static(b"data: 1\n\n")),
            b"data: 1\n\n"[..]
        );
        assert_eq!(mask.push(Bytes::from_static(b"data: se")), b"data: "[..]);
        assert_eq!(mask.push(Bytes::from_static(b"ven")), b"seven"[..]);
        assert_eq!(mask.finish(), b""[..]);
    }

    #[test]
    fn heads_and_trailers_are_masked() {
        let mut mask = mask(&["secret"]);
        let answer = Response::builder()
            .header("location", "/x?key=%73ecret&y")
            .header("www-authenticate", "Basic c2VjcmV0")
            .body(())
            .unwrap();
        let mut parts = answer.into_parts().0;
        mask.head(&mut parts).unwrap();
        assert_eq!(parts.headers["location"], "/x?key=********&y");
        assert_eq!(parts.headers["www-authenticate"], "Basic ********");
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        let finder = || Arc::clone(&mask(&["secret"]).finder);
        let misuse = || {
            let name = "KEY".parse().unwrap();
            Some(Misuse::unusable(&name, "example.com", String::new(), ""))
        };
        for (coding, reads) in [("gzip", false), ("identity", true), ("identity, br", false)] {
            let answer = Response::builder().header("content-encoding", coding);
            let mut parts = answer.body(()).unwrap().into_parts().0;
            let mut mask = Mask::new(finder(), misuse());
            assert_eq!(mask.head(&mut parts).is_ok(), reads, "{coding}");
            // A stranger never got the value, and may send what it likes.
            assert!(Mask::new(finder(), None).head(&mut parts).is_ok());
        }
    }

    /// A value in one of the spellings that are masked.
    fn spelled(value: &str, how: u8) -> String {
        match how % 9 {
            0 => value.to_owned(),
            1 => value.bytes().map(|b| format!("%{b:02X}")).collect(),
            2 => value.bytes().map(|b| format!("{b:02x}")).collect(),
            3 => serde_json::to_string(value).unwrap(),
            4 => value
                .chars()
                .map(|c| format!("\\u{:04x}", u32::from(c)))
                .collect(),
            5 => STANDARD.encode(value),
            6 => STANDARD.encode(format!("x{value}y")),
            7 => URL_SAFE_NO_PAD.encode(format!("xy{value}z")),
            _ => value
                .chars()
                .map(|c| format!("&#{};", u32::from(c)))
                .collect(),
        }
    }

    proptest! {
        #[test]
        fn no_value_comes_through(
            // Letters enough that what is around cannot be the value by chance.
            value in "[a-zA-Z0-9 /+&\"'\\\\%é€-]{12,40}",
            around in proptest::collection::vec(("[ -~é]{0,30}", 0_u8..9), 0..6),
            sizes in proptest::collection::vec(1_usize..50, 1..8),
        ) {
            prop_assume!(value.trim() == value);
            let mut body = String::new();
            for (text, how) in &around {
                body += text;
                body += &spelled(&value, *how);
            }
            let out = flow(&[&value], body.as_bytes(), &sizes);
            prop_assert_eq!(out.len(), body.len());
            let left = mask(&[&value]).finder.owner_in(&out);
            prop_assert_eq!(left, None, "{}", String::from_utf8_lossy(&out));
        }

        #[test]
        fn other_bytes_stay(body in proptest::collection::vec(any::<u8>(), 0..300), sizes in proptest::collection::vec(1_usize..50, 1..8)) {
            prop_assert_eq!(flow(&["a value that is not there"], &body, &sizes), body);
        }
    }
}
