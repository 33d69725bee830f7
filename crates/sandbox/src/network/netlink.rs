//! Netlink messages as bytes: written by the parent, sent by a child that allocates nothing, and
//! what the kernel answers to them. Touches no socket.

/// `NLM_F_REQUEST | NLM_F_ACK`.
const REQUEST: u16 = 1 | 4;
/// `NLM_F_CREATE`.
pub(crate) const CREATE: u16 = 0x400;
/// `NLM_F_CREATE | NLM_F_APPEND`.
pub(crate) const APPEND: u16 = 0xc00;
/// `NLM_F_DUMP`.
pub(crate) const DUMP: u16 = 0x300;
/// Marks an attribute that holds attributes.
const NESTED: u16 = 0x8000;
/// `NLMSG_ERROR`: an acknowledgement when its number is zero.
const ERROR: u16 = 2;
/// `NLMSG_DONE`.
const DONE: u16 = 3;
/// Every message and every attribute begins at a multiple of this.
const ALIGNMENT: usize = 4;
/// Bytes of `nlmsghdr`.
const HEADER: usize = 16;

/// Some messages that are sent at once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Messages {
    pub(crate) bytes: Vec<u8>,
    /// How many acknowledgements the kernel owes when all of them succeed.
    pub(crate) answers: u32,
}

impl Messages {
    /// Adds a message that the kernel acknowledges.
    pub(crate) fn ask(&mut self, kind: u16, flags: u16, body: &[u8]) {
        self.answers += 1;
        self.add(kind, flags | REQUEST, body);
    }

    /// Adds a message that only marks a place.
    pub(crate) fn mark(&mut self, kind: u16, body: &[u8]) {
        self.add(kind, 1, body);
    }

    fn add(&mut self, kind: u16, flags: u16, body: &[u8]) {
        let length = u32::try_from(HEADER + body.len()).unwrap_or(u32::MAX);
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(flags.to_ne_bytes());
        self.bytes.extend(self.answers.to_ne_bytes());
        self.bytes.extend(0_u32.to_ne_bytes());
        self.bytes.extend(body);
        pad(&mut self.bytes);
    }
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
}

/// An attribute: its length, its kind, its value.
pub(crate) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    pad(&mut bytes);
    bytes
}

/// An attribute that holds attributes.
pub(crate) fn nested(kind: u16, inner: &[Vec<u8>]) -> Vec<u8> {
    attribute(kind | NESTED, &inner.concat())
}

/// An attribute of text, ended by a zero.
pub(crate) fn text(kind: u16, value: &str) -> Vec<u8> {
    attribute(kind, &[value.as_bytes(), b"\0"].concat())
}

/// A number in the byte order of the network, as netfilter wants all of its numbers.
pub(crate) fn number(kind: u16, value: u32) -> Vec<u8> {
    attribute(kind, &value.to_be_bytes())
}

/// What the kernel said in one message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer<'a> {
    /// An acknowledgement, or the number of an error.
    Told(i32),
    /// The end of a list.
    Done,
    /// Something else: its kind, and what follows the header.
    Message(u16, &'a [u8]),
}

/// Reads the first message of what arrived; gives the rest. `None` when no whole message is there.
pub(crate) fn answer(bytes: &[u8]) -> Option<(Answer<'_>, &[u8])> {
    let header = bytes.first_chunk::<HEADER>()?;
    let [a, b, c, d, low, high, ..] = *header;
    let length = usize::try_from(u32::from_ne_bytes([a, b, c, d])).ok()?;
    let body = bytes.get(HEADER..length)?;
    let rest = bytes
        .get(length.next_multiple_of(ALIGNMENT)..)
        .unwrap_or_default();
    let told = match u16::from_ne_bytes([low, high]) {
        ERROR => Answer::Told(-i32::from_ne_bytes(*body.first_chunk::<4>()?)),
        DONE => Answer::Done,
        kind => Answer::Message(kind, body),
    };
    Some((told, rest))
}

/// The value of the first attribute of a kind.
pub(crate) fn find(mut bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let [a, b, c, d] = *bytes.first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let value = bytes.get(4..length)?;
        if u16::from_ne_bytes([c, d]) & !NESTED == wanted {
            return Some(value);
        }
        bytes = bytes.get(length.next_multiple_of(ALIGNMENT)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let mut messages = Messages::default();
        let inner = [number(2, 7), text(3, "abc")];
        messages.ask(99, CREATE, &nested(1, &inner));
        messages.ask(98, 0, &[1]);
        assert_eq!(messages.answers, 2);
        let (first, rest) = answer(&messages.bytes).unwrap();
        let Answer::Message(99, body) = first else {
            panic!("{first:?}");
        };
        let inside = find(body, 1).unwrap();
        assert_eq!(find(inside, 2), Some(&[0, 0, 0, 7][..]));
        assert_eq!(find(inside, 3), Some(&b"abc\0"[..]));
        assert_eq!(find(inside, 4), None);
        let (second, rest) = answer(rest).unwrap();
        assert_eq!(second, Answer::Message(98, &[1]));
        assert!(rest.is_empty());
    }

    #[test]
    fn a_short_or_lying_answer_is_none() {
        let mut messages = Messages::default();
        messages.ask(99, 0, &[1, 2, 3, 4]);
        for length in 0..messages.bytes.len() {
            assert_eq!(answer(&messages.bytes[..length]), None);
        }
        assert_eq!(find(&[0, 0, 1, 0], 1), None);
        assert_eq!(find(&[3, 0, 2, 0], 1), None);
        assert_eq!(find(&[255, 255, 1, 0], 1), None);
    }
}
