//! The frames of a WebSocket (RFC 6455, 5), as they pass. What is not framed as it is written there is
//! cut: an upgrade is not a way out for another protocol.

/// What is not a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoFrame(pub(super) &'static str);

/// Is shown payload.
pub(super) type Show<'a> = dyn FnMut(&[u8]) + 'a;

/// Reads one direction piece by piece; holds no more than the head of a frame.
#[derive(Debug)]
pub(super) struct Frames {
    /// What the client says is masked, what the server says is not.
    masked: bool,
    head: Vec<u8>,
    /// Bytes of payload still to come.
    left: u64,
    mask: [u8; 4],
    /// Where in the mask the next byte of payload is.
    turn: usize,
    /// A message has begun and not ended.
    open: bool,
}

/// The longest head: two bytes, eight of length, four of mask.
const HEAD_BYTES_MAX: usize = 14;

impl Frames {
    /// Of a client or of a server.
    pub(super) fn new(masked: bool) -> Self {
        Self {
            masked,
            head: Vec::with_capacity(HEAD_BYTES_MAX),
            left: 0,
            mask: [0; 4],
            turn: 0,
            open: false,
        }
    }

    /// Looks at the next piece. The payload is shown to `show` without its mask, if that is wanted.
    pub(super) fn look(
        &mut self,
        mut piece: &[u8],
        mut show: Option<&mut Show<'_>>,
    ) -> Result<(), NoFrame> {
        while !piece.is_empty() {
            if self.left == 0 {
                let (first, rest) = piece.split_at(1);
                self.head.extend_from_slice(first);
                piece = rest;
                self.begin()?;
                continue;
            }
            let most = usize::try_from(self.left).unwrap_or(usize::MAX);
            let (payload, rest) = piece.split_at(piece.len().min(most));
            self.left -= payload.len() as u64;
            if let Some(show) = &mut show {
                show(&self.unmasked(payload));
            }
            piece = rest;
        }
        Ok(())
    }

    /// Begins a frame, once its head is whole.
    fn begin(&mut self) -> Result<(), NoFrame> {
        let (Some(first), Some(second)) = (self.head.first(), self.head.get(1)) else {
            return Ok(());
        };
        let (kind, last, length) = (first & 0x0f, first & 0x80 != 0, second & 0x7f);
        if (second & 0x80 != 0) != self.masked {
            return Err(NoFrame("a frame is masked on the wrong side"));
        }
        let extended = match length {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask_bytes = if self.masked { 4 } else { 0 };
        if self.head.len() < 2 + extended + mask_bytes {
            return self.kind(kind, last, length);
        }
        self.kind(kind, last, length)?;
        let bytes = self.head.get(2..2 + extended).unwrap_or_default();
        let long = bytes
            .iter()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        self.left = match extended {
            0 => u64::from(length),
            2 if long > 125 => long,
            8 if long > 0xffff && long >> 63 == 0 => long,
            _ => return Err(NoFrame("the length of a frame is written too long")),
        };
        let mask = self.head.get(2 + extended..).unwrap_or_default();
        self.mask = mask.try_into().unwrap_or_default();
        self.turn = 0;
        self.open = if kind < 8 { !last } else { self.open };
        self.head.clear();
        Ok(())
    }

    /// Whether a frame of this kind may come now.
    fn kind(&self, kind: u8, last: bool, length: u8) -> Result<(), NoFrame> {
        match kind {
            0 if self.open => Ok(()),
            1 | 2 if !self.open => Ok(()),
            8..=10 if last && length <= 125 => Ok(()),
            _ => Err(NoFrame("a frame is of a kind that cannot come here")),
        }
    }

    fn unmasked(&mut self, payload: &[u8]) -> Vec<u8> {
        let turn = self.turn;
        self.turn = (turn + payload.len()) % 4;
        let mask = self.mask.iter().cycle().skip(turn);
        payload
            .iter()
            .zip(mask)
            .map(|(byte, mask)| byte ^ mask)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(masked: bool, pieces: &[&[u8]]) -> Result<Vec<u8>, NoFrame> {
        let mut frames = Frames::new(masked);
        let mut shown = Vec::new();
        for piece in pieces {
            frames.look(
                piece,
                Some(&mut |payload: &[u8]| shown.extend_from_slice(payload)),
            )?;
        }
        Ok(shown)
    }

    #[test]
    fn frames_are_read_in_any_pieces() {
        let hello = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
        assert_eq!(read(true, &[hello]).unwrap(), b"Hello");
        let bytes: Vec<&[u8]> = hello.chunks(1).collect();
        assert_eq!(read(true, &bytes).unwrap(), b"Hello");
        assert_eq!(
            read(false, &[b"\x01\x03Hel\x89\x00\x80\x02lo"]).unwrap(),
            b"Hello"
        );
        let long = [b"\x82\x7e\x01\x00".to_vec(), vec![b'x'; 256]].concat();
        assert_eq!(read(false, &[&long]).unwrap().len(), 256);
    }

    #[test]
    fn what_is_no_frame_is_found() {
        let no = |masked, bytes: &[u8]| read(masked, &[bytes]).unwrap_err().0;
        assert_eq!(
            no(true, b"SSH-2.0-OpenSSH"),
            "a frame is masked on the wrong side"
        );
        assert_eq!(
            no(false, b"\x16\x03\x01\x02\x00"),
            "a frame is of a kind that cannot come here"
        );
        assert_eq!(
            no(false, b"\x80\x00"),
            "a frame is of a kind that cannot come here"
        );
        assert_eq!(
            no(false, b"\x09\x00"),
            "a frame is of a kind that cannot come here"
        );
        assert_eq!(
            no(false, b"\x01\x00\x01\x00"),
            "a frame is of a kind that cannot come here"
        );
        assert_eq!(
            no(false, b"\x82\x7e\x00\x01x"),
            "the length of a frame is written too long"
        );
    }

    proptest! {
        #[test]
        fn cut_anywhere_it_reads_the_same(
            messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 1..4),
            at in any::<prop::sample::Index>(),
            key in any::<[u8; 4]>(),
        ) {
            let mut bytes = Vec::new();
            for message in &messages {
                bytes.push(0x82);
                match u8::try_from(message.len()) {
                    Ok(short @ ..=125) => bytes.push(0x80 | short),
                    _ => {
                        bytes.push(0x80 | 126);
                        bytes.extend_from_slice(&u16::try_from(message.len()).unwrap().to_be_bytes());
                    }
                }
                bytes.extend_from_slice(&key);
                bytes.extend(message.iter().zip(key.iter().cycle()).map(|(a, b)| a ^ b));
            }
            let (first, second) = bytes.split_at(at.index(bytes.len()));
            prop_assert_eq!(read(true, &[first, second]).unwrap(), messages.concat());
        }

        #[test]
        fn nothing_is_too_odd(bytes in proptest::collection::vec(any::<u8>(), 0..64), masked: bool) {
            let mut frames = Frames::new(masked);
            frames.look(&bytes, None).ok();
            prop_assert!(frames.head.len() <= HEAD_BYTES_MAX);
        }
    }
}
