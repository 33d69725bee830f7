//! The escapes of URLs, JSON and HTML: which character a text may mean where it does not write it.

/// The ways to read what stands at the beginning of some bytes, beside as it is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Escapes {
    pub(super) ways: [Option<Way>; 3],
    /// The bytes end before it is clear what they mean.
    pub(super) cut: bool,
}

/// One way: a character, and how many bytes spell it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    bytes: [u8; 4],
    count: usize,
    pub(super) length: usize,
}

impl Way {
    fn byte(byte: u8, length: usize) -> Self {
        Self {
            bytes: [byte, 0, 0, 0],
            count: 1,
            length,
        }
    }

    fn code(code: u32, length: usize) -> Option<Self> {
        let character = char::from_u32(code)?;
        let mut bytes = [0; 4];
        let count = character.encode_utf8(&mut bytes).len();
        Some(Self {
            bytes,
            count,
            length,
        })
    }

    /// The character, in UTF-8.
    pub(super) fn character(&self) -> &[u8] {
        self.bytes.get(..self.count).unwrap_or_default()
    }
}

impl Escapes {
    fn one(way: Option<Way>) -> Self {
        Self {
            ways: [way, None, None],
            cut: false,
        }
    }

    fn cut() -> Self {
        Self {
            ways: [None; 3],
            cut: true,
        }
    }
}

/// Backslashes before an escaped character: texts in texts in texts.
const BACKSLASHES_MAX: usize = 16;
/// The longest entity that is read, `&#1114111;`.
const ENTITY_BYTES_MAX: usize = 10;

/// How the beginning of some bytes can be read.
pub(super) fn escapes(bytes: &[u8]) -> Escapes {
    match bytes.first() {
        Some(b'%') => percent(bytes),
        Some(b'\\') => backslash(bytes),
        Some(b'&') => entity(bytes),
        Some(b'+') => Escapes::one(Some(Way::byte(b' ', 1))),
        Some(_) | None => Escapes::default(),
    }
}

/// `%41`, and what was encoded twice or three times: `%2541`, `%252541`.
fn percent(bytes: &[u8]) -> Escapes {
    let mut escapes = Escapes::default();
    let mut at = 1;
    for way in &mut escapes.ways {
        match number(bytes, at, 2, 16) {
            Number::Is(code) => {
                let byte = u8::try_from(code).unwrap_or(0);
                *way = Some(Way::byte(byte, at + 2));
                if byte != b'%' {
                    break;
                }
                at += 2;
            }
            Number::Cut => {
                escapes.cut = true;
                break;
            }
            Number::Not => break,
        }
    }
    escapes
}

/// `\"`, `\/`, `\n`, `\u0041`, `\x41`, and the same behind more backslashes; `\\` for itself.
fn backslash(bytes: &[u8]) -> Escapes {
    let many = bytes.iter().take_while(|byte| **byte == b'\\');
    let many = many.take(BACKSLASHES_MAX).count();
    let itself = (many >= 2).then(|| Way::byte(b'\\', 2));
    let twice = (many >= 4).then(|| Way::byte(b'\\', 4));
    let (way, cut) = match bytes.get(many) {
        None => (None, many < BACKSLASHES_MAX),
        Some(b'n') => (Some(Way::byte(b'\n', many + 1)), false),
        Some(b'r') => (Some(Way::byte(b'\r', many + 1)), false),
        Some(b'u' | b'U') => coded(bytes, many + 1, 4),
        Some(b'x') => coded(bytes, many + 1, 2),
        Some(other @ (b'"' | b'\'' | b'/' | b'&' | b'<' | b'>')) => {
            (Some(Way::byte(*other, many + 1)), false)
        }
        Some(_) => (None, false),
    };
    Escapes {
        ways: [way, itself, twice],
        cut,
    }
}

fn coded(bytes: &[u8], at: usize, digits: usize) -> (Option<Way>, bool) {
    match number(bytes, at, digits, 16) {
        Number::Is(code) => (Way::code(code, at + digits), false),
        Number::Cut => (None, true),
        Number::Not => (None, false),
    }
}

/// `&amp;`, `&#65;`, `&#x41;`.
fn entity(bytes: &[u8]) -> Escapes {
    let begin = bytes.get(1..).unwrap_or_default();
    let inside = |byte: &&u8| byte.is_ascii_alphanumeric() || **byte == b'#';
    let length = begin
        .iter()
        .take(ENTITY_BYTES_MAX)
        .take_while(inside)
        .count();
    if length == begin.len() && length < ENTITY_BYTES_MAX {
        return Escapes::cut();
    }
    if begin.get(length) != Some(&b';') {
        return Escapes::default();
    }
    let whole = length + 2;
    let way = match begin.get(..length).unwrap_or_default() {
        b"amp" => Some(Way::byte(b'&', whole)),
        b"lt" => Some(Way::byte(b'<', whole)),
        b"gt" => Some(Way::byte(b'>', whole)),
        b"quot" => Some(Way::byte(b'"', whole)),
        b"apos" => Some(Way::byte(b'\'', whole)),
        [b'#', b'x' | b'X', digits @ ..] => code(digits, 16, whole),
        [b'#', digits @ ..] => code(digits, 10, whole),
        _ => None,
    };
    Escapes::one(way)
}

fn code(digits: &[u8], radix: u32, length: usize) -> Option<Way> {
    let digits = std::str::from_utf8(digits).ok()?;
    Way::code(u32::from_str_radix(digits, radix).ok()?, length)
}

/// A number of so many digits.
enum Number {
    Is(u32),
    Cut,
    Not,
}

fn number(bytes: &[u8], at: usize, digits: usize, radix: u32) -> Number {
    let mut sum = 0;
    for place in at..at + digits {
        let Some(byte) = bytes.get(place) else {
            return Number::Cut;
        };
        let Some(digit) = char::from(*byte).to_digit(radix) else {
            return Number::Not;
        };
        sum = sum * radix + digit;
    }
    Number::Is(sum)
}
