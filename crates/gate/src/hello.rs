//! The first words of TLS: whom the client means, read before anything is passed on. What can be read
//! in two ways is refused, and so is what hides the name.

use belljar_base::bounds::EGRESS_HELLO_BYTES_MAX;
use belljar_policy::egress::HostName;

/// What the bytes so far are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// The beginning of a ClientHello; more must come.
    More,
    /// A whole one.
    Whole(Hello),
    /// No ClientHello that can be judged; why.
    Refused(&'static str),
}

/// What a ClientHello says that matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// The name of the server, in canonical form.
    pub name: Option<HostName>,
    /// The protocols that the client offers, most wanted first.
    pub protocols: Vec<Vec<u8>>,
    /// A second, encrypted ClientHello is inside: the name may be a pretence.
    pub encrypted: bool,
}

/// Reads what a client has said so far. However the bytes are cut into records, what is read of the
/// whole is the same.
#[must_use]
pub fn read(bytes: &[u8]) -> Reading {
    match message(bytes).and_then(|message| parse(&message)) {
        Ok(hello) => Reading::Whole(hello),
        Err(Stop::More) if bytes.len() >= EGRESS_HELLO_BYTES_MAX => {
            Reading::Refused("the TLS greeting is too long")
        }
        Err(Stop::More) => Reading::More,
        Err(Stop::Doubt(reason)) => Reading::Refused(reason),
    }
}

/// Why reading stops.
#[derive(Debug)]
enum Stop {
    More,
    Doubt(&'static str),
}

const DOUBT: Stop = Stop::Doubt("the TLS greeting is malformed");

/// The bytes of the handshake message, without the records around its pieces.
fn message(bytes: &[u8]) -> Result<Vec<u8>, Stop> {
    let mut rest = Bytes(bytes);
    let mut message = Vec::new();
    loop {
        if rest.number::<1>().ok_or(Stop::More)? != HANDSHAKE {
            return Err(Stop::Doubt("what is said is not a TLS greeting"));
        }
        let version = rest.number::<2>().ok_or(Stop::More)?;
        if !(TLS_1_0..=TLS_1_3).contains(&version) {
            return Err(Stop::Doubt("the version of TLS is not known"));
        }
        let length = rest.number::<2>().ok_or(Stop::More)?;
        if length == 0 || length > RECORD_BYTES_MAX {
            return Err(DOUBT);
        }
        // What has come of a record is looked at even before the rest of it has.
        let piece = rest.take_up_to(length);
        message.extend_from_slice(piece);
        if let Some(whole) = whole(&message)? {
            // The server would read what follows in the same record as a second message.
            let exact = message.len() == whole && piece.len() == length;
            return if exact { Ok(message) } else { Err(DOUBT) };
        }
        if piece.len() < length {
            return Err(Stop::More);
        }
    }
}

/// How long the message is, when all of it is there.
fn whole(message: &[u8]) -> Result<Option<usize>, Stop> {
    let mut rest = Bytes(message);
    match rest.number::<1>() {
        None => return Ok(None),
        Some(CLIENT_HELLO) => {}
        Some(_) => return Err(Stop::Doubt("the first TLS message is not a greeting")),
    }
    let Some(length) = rest.number::<3>() else {
        return Ok(None);
    };
    let all = length + 4;
    if all > EGRESS_HELLO_BYTES_MAX {
        return Err(Stop::Doubt("the TLS greeting is too long"));
    }
    Ok((message.len() >= all).then_some(all))
}

fn parse(message: &[u8]) -> Result<Hello, Stop> {
    let mut rest = Bytes(message);
    rest.take(4).ok_or(DOUBT)?;
    let version = rest.number::<2>().ok_or(DOUBT)?;
    if !(TLS_1_0..=TLS_1_2).contains(&version) {
        return Err(Stop::Doubt("the version of TLS is not known"));
    }
    rest.take(32).ok_or(DOUBT)?;
    let session = rest.vector::<1>().ok_or(DOUBT)?;
    let suites = rest.vector::<2>().ok_or(DOUBT)?;
    let compressions = rest.vector::<1>().ok_or(DOUBT)?;
    let odd = suites.len() % 2 == 1;
    if session.len() > 32 || suites.is_empty() || odd || compressions.is_empty() {
        return Err(DOUBT);
    }
    let mut hello = Hello::default();
    if rest.is_empty() {
        return Ok(hello);
    }
    let mut extensions = Bytes(rest.vector::<2>().ok_or(DOUBT)?);
    if !rest.is_empty() {
        return Err(DOUBT);
    }
    let mut seen = Vec::new();
    while !extensions.is_empty() {
        let kind = extensions.number::<2>().ok_or(DOUBT)?;
        let value = extensions.vector::<2>().ok_or(DOUBT)?;
        if seen.contains(&kind) || seen.len() >= EXTENSIONS_MAX {
            return Err(DOUBT);
        }
        seen.push(kind);
        match kind {
            SERVER_NAME => hello.name = Some(server_name(value)?),
            PROTOCOLS => hello.protocols = protocols(value)?,
            ENCRYPTED_HELLO | ENCRYPTED_NAME => hello.encrypted = true,
            _ => {}
        }
    }
    Ok(hello)
}

/// Exactly one name, of the only kind there is.
fn server_name(value: &[u8]) -> Result<HostName, Stop> {
    let mut outer = Bytes(value);
    let mut list = Bytes(outer.vector::<2>().ok_or(DOUBT)?);
    let kind = list.number::<1>().ok_or(DOUBT)?;
    let name = list.vector::<2>().ok_or(DOUBT)?;
    if !outer.is_empty() || !list.is_empty() || kind != HOST_NAME {
        return Err(Stop::Doubt("the TLS greeting names more than one server"));
    }
    let text = std::str::from_utf8(name).map_err(|_not_text| NO_NAME)?;
    text.parse().map_err(|_no_name| NO_NAME)
}

const NO_NAME: Stop = Stop::Doubt("the server name in TLS is not a host name");

fn protocols(value: &[u8]) -> Result<Vec<Vec<u8>>, Stop> {
    let mut outer = Bytes(value);
    let mut list = Bytes(outer.vector::<2>().ok_or(DOUBT)?);
    let mut protocols = Vec::new();
    while !list.is_empty() {
        let protocol = list.vector::<1>().ok_or(DOUBT)?;
        if protocol.is_empty() || protocols.len() >= PROTOCOLS_MAX {
            return Err(DOUBT);
        }
        protocols.push(protocol.to_vec());
    }
    if !outer.is_empty() || protocols.is_empty() {
        return Err(DOUBT);
    }
    Ok(protocols)
}

/// Bytes that are read from the front.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn take_up_to(&mut self, count: usize) -> &'a [u8] {
        self.take(count.min(self.0.len())).unwrap_or_default()
    }

    /// A number of so many bytes, most significant first.
    fn number<const SIZE: usize>(&mut self) -> Option<usize> {
        let bytes = self.take(SIZE)?;
        let add = |number: usize, byte: &u8| number << 8 | usize::from(*byte);
        Some(bytes.iter().fold(0, add))
    }

    /// Bytes after their length, which has so many bytes.
    fn vector<const SIZE: usize>(&mut self) -> Option<&'a [u8]> {
        let length = self.number::<SIZE>()?;
        self.take(length)
    }
}

const HANDSHAKE: usize = 22;
const CLIENT_HELLO: usize = 1;
const TLS_1_0: usize = 0x0301;
const TLS_1_2: usize = 0x0303;
const TLS_1_3: usize = 0x0304;
const RECORD_BYTES_MAX: usize = 1 << 14;
const SERVER_NAME: usize = 0;
const HOST_NAME: usize = 0;
const PROTOCOLS: usize = 16;
const ENCRYPTED_HELLO: usize = 0xfe0d;
/// What came before it, and was called ESNI.
const ENCRYPTED_NAME: usize = 0xffce;
const EXTENSIONS_MAX: usize = 128;
const PROTOCOLS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn vector(size: usize, value: &[u8]) -> Vec<u8> {
        let length = value.len().to_be_bytes();
        [&length[8 - size..], value].concat()
    }

    fn extension(kind: u16, value: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &vector(2, value)].concat()
    }

    fn name(text: &[u8]) -> Vec<u8> {
        extension(0, &vector(2, &[&[0][..], &vector(2, text)].concat()))
    }

    fn said(extensions: &[Vec<u8>]) -> Vec<u8> {
        let body = [
            &[3, 3][..],
            &[7; 32],
            &vector(1, &[9; 32]),
            &vector(2, &[0x13, 1, 0x13, 2]),
            &vector(1, &[0]),
            &vector(2, &extensions.concat()),
        ]
        .concat();
        [&[1][..], &vector(3, &body)].concat()
    }

    /// The message in records of at most so many bytes.
    fn records(message: &[u8], size: usize) -> Vec<u8> {
        let record = |piece: &[u8]| [&[22, 3, 1][..], &vector(2, piece)].concat();
        message.chunks(size).flat_map(record).collect()
    }

    fn check(extensions: &[Vec<u8>]) -> Reading {
        let message = said(extensions);
        let whole = read(&records(&message, 16_384));
        for size in [1, 5, 100] {
            assert_eq!(read(&records(&message, size)), whole, "records of {size}");
        }
        whole
    }

    fn of_name(text: &str) -> Option<String> {
        match check(&[name(text.as_bytes())]) {
            Reading::Whole(hello) => hello.name.map(|name| name.to_string()),
            Reading::Refused(_) => None,
            Reading::More => panic!("it was whole"),
        }
    }

    #[test]
    fn names_are_canonical() {
        let of = |text| of_name(text).unwrap();
        assert_eq!(of("api.example.com"), "api.example.com");
        assert_eq!(of("API.Example.COM"), "api.example.com");
        // The second letter is Cyrillic: it looks the same and is another name.
        assert!(of("p\u{430}ypal.com").starts_with("xn--"));
        for bad in ["", "a b", "a\0b", "10.0.0.1", "a/b", "[::1]", "a:443"] {
            assert_eq!(of_name(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_hello_without_a_name_has_none() {
        let Reading::Whole(hello) = check(&[extension(0xaaaa, &[0])]) else {
            panic!("it was whole");
        };
        assert_eq!(hello, Hello::default());
    }

    #[test]
    fn what_hides_the_name_is_seen() {
        for kind in [0xfe0d, 0xffce] {
            let hiding = [name(b"api.example.com"), extension(kind, &[0, 1, 2])];
            let Reading::Whole(hello) = check(&hiding) else {
                panic!("it was whole");
            };
            assert!(hello.encrypted);
        }
    }

    #[test]
    fn protocols_are_listed() {
        let list = [vector(1, b"h2"), vector(1, b"http/1.1")].concat();
        let Reading::Whole(hello) = check(&[extension(16, &vector(2, &list))]) else {
            panic!("it was whole");
        };
        assert_eq!(hello.protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
    }

    #[test]
    fn two_readings_are_refused() {
        let entry = |text: &[u8]| [&[0][..], &vector(2, text)].concat();
        let two = [entry(b"a.example.com"), entry(b"b.example.com")].concat();
        let bad = [
            vec![name(b"a.example.com"), name(b"b.example.com")],
            vec![extension(0, &vector(2, &two))],
            vec![extension(
                0,
                &[&vector(2, &entry(b"a.com"))[..], &[0]].concat(),
            )],
            vec![extension(0, &[])],
            vec![extension(16, &[0, 0])],
        ];
        for extensions in bad {
            let reading = check(&extensions);
            assert!(matches!(reading, Reading::Refused(_)), "{reading:?}");
        }
        let mut followed = said(&[name(b"a.example.com")]);
        followed.push(1);
        let reading = read(&records(&followed, 16_384));
        assert!(matches!(reading, Reading::Refused(_)), "{reading:?}");
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"\x16\x02\x00\x00\x05",
            b"\x16\x03\x01\x00\x00",
            b"\x16\x03\x01\x00\x01\x02",
        ] {
            assert!(matches!(read(bytes), Reading::Refused(_)), "{bytes:?}");
        }
    }

    #[test]
    fn a_greeting_ends() {
        let long = [1, 0, 0xff, 0xff];
        let endless = records(&long, 1);
        assert!(matches!(read(&endless), Reading::Refused(_)));
        // A message that stays within the bound in records that carry a byte each does not.
        let message = said(&[extension(21, &vec![0; 20_000])]);
        let bytes = records(&message, 1);
        let reading = read(&bytes[..EGRESS_HELLO_BYTES_MAX]);
        assert!(matches!(reading, Reading::Refused(_)));
    }

    #[test]
    fn every_beginning_asks_for_more() {
        let bytes = records(&said(&[name(b"api.example.com")]), 40);
        for length in 0..bytes.len() {
            assert_eq!(read(&bytes[..length]), Reading::More, "{length}");
        }
        assert!(matches!(read(&bytes), Reading::Whole(_)));
        // What follows in a record of its own is not the greeting's.
        let followed = [&bytes[..], &[20, 3, 3, 0, 1, 1]].concat();
        assert_eq!(read(&followed), read(&bytes));
    }

    proptest! {
        #[test]
        fn any_bytes_have_a_reading(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            drop(read(&bytes));
            drop(read(&records(&bytes, 16_384)));
            let hello = [&[1][..], &vector(3, &bytes)].concat();
            drop(read(&records(&hello, 16_384)));
        }

        #[test]
        fn a_changed_byte_never_changes_the_name_unseen(at in 0_usize..120, to: u8) {
            let mut bytes = records(&said(&[name(b"api.example.com")]), 16_384);
            let at = at % bytes.len();
            bytes[at] = to;
            if let Reading::Whole(hello) = read(&bytes) && let Some(name) = hello.name {
                let text = String::from_utf8_lossy(&bytes).to_lowercase();
                prop_assert!(text.contains(name.as_str()) || !text.is_ascii());
            }
        }
    }
}
