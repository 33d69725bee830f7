//! Finds texts in a stream of bytes, however they are spelled: as they are, percent-encoded, with
//! the escapes of JSON and HTML, in base64 at each of its three alignments, in hexadecimal.
//!
//! The texts lie in locked memory and nowhere else, which is why no library's automaton is used: it
//! would keep copies.

use std::io;
use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use zeroize::Zeroizing;

use super::escape::{Escapes, escapes};
use super::sys::Locked;

/// Looks for texts, each of which has an owner.
pub(super) struct Finder {
    texts: Locked,
    needles: Vec<Needle>,
    /// One bit for each pair of bytes that a spelling can begin with.
    pairs: Box<[u64; 1024]>,
    /// Bytes that a spelling can begin with.
    opens: [bool; 256],
    /// For each byte, the needles that begin with it.
    firsts: Vec<Vec<usize>>,
}

#[derive(Clone, Debug)]
struct Needle {
    range: Range<usize>,
    alphabet: Alphabet,
    owner: usize,
}

/// Which bytes are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Alphabet {
    Exact,
    AnyCase,
    /// The two alphabets of base64; line breaks do not count.
    Base64,
}

/// What is looked for.
pub(super) struct Wanted<'a> {
    pub(super) text: &'a [u8],
    /// Whether letters count in either case.
    pub(super) any_case: bool,
    pub(super) owner: usize,
}

/// What begins at a place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Here {
    /// Where the longest text that begins here ends, and whose it is.
    pub(super) whole: Option<(usize, usize)>,
    /// Whether a text may begin here that ends beyond the bytes at hand.
    pub(super) more: bool,
}

/// What one text makes of a place.
enum Found {
    No,
    More,
    Whole(usize),
}

/// A text that branches more often than this is none a program wrote.
const READINGS_MAX: usize = 2048;

impl Finder {
    pub(super) fn new(wanted: &[Wanted<'_>]) -> io::Result<Self> {
        let room = wanted.iter().map(|one| one.text.len() * 8 + 16).sum();
        let mut finder = Self {
            texts: Locked::with_room(room)?,
            needles: Vec::new(),
            pairs: Box::new([0; 1024]),
            opens: [false; 256],
            firsts: vec![Vec::new(); 256],
        };
        for one in wanted {
            let plain = if one.any_case {
                Alphabet::AnyCase
            } else {
                Alphabet::Exact
            };
            finder.add(one.text, plain, one.owner);
            for before in 0..3 {
                let (text, core) = encoded(one.text, before);
                finder.add(
                    text.get(core).unwrap_or_default(),
                    Alphabet::Base64,
                    one.owner,
                );
            }
            let digits = hexadecimal(one.text);
            finder.add(&digits, Alphabet::AnyCase, one.owner);
        }
        for number in 0..finder.needles.len() {
            finder.note_beginnings(number);
        }
        Ok(finder)
    }

    /// Whether there is nothing to look for.
    pub(super) fn is_empty(&self) -> bool {
        self.needles.is_empty()
    }

    /// The next place from `from` on where a text could begin; cheap, and sometimes wrong.
    pub(super) fn candidate(&self, bytes: &[u8], from: usize) -> Option<usize> {
        let rest = bytes.get(from..)?;
        let mut at = 0;
        // Sixteen pairs at once: nearly all bytes of nearly all bodies begin nothing.
        while let Some(many) = rest.get(at..).and_then(<[u8]>::first_chunk::<17>) {
            let any = many
                .array_windows::<2>()
                .fold(false, |any, [first, second]| {
                    any | self.begins(*first, *second)
                });
            if any {
                break;
            }
            at += 16;
        }
        let left = rest.get(at..)?;
        let pair = left
            .array_windows::<2>()
            .position(|[first, second]| self.begins(*first, *second));
        if let Some(place) = pair {
            return Some(from + at + place);
        }
        let last = left.last()?;
        let opens = self.opens.get(usize::from(*last)).copied();
        opens.unwrap_or(false).then(|| bytes.len() - 1)
    }

    /// What begins at a place.
    pub(super) fn here(&self, bytes: &[u8], place: usize) -> Here {
        let mut here = Here::default();
        let Some(rest) = bytes.get(place..) else {
            return here;
        };
        let Escapes { ways, cut } = escapes(rest);
        here.more = cut;
        let first = rest.first().copied();
        let escaped = ways.iter().flatten();
        let escaped = escaped.filter_map(|way| way.character().first().copied());
        let firsts = first.into_iter().chain(escaped);
        for number in firsts
            .filter_map(|first| self.firsts.get(usize::from(first)))
            .flatten()
        {
            let Some(needle) = self.needles.get(*number) else {
                continue;
            };
            match read(bytes, place, self.text(needle), needle.alphabet) {
                Found::No => {}
                Found::More => here.more = true,
                Found::Whole(end) if here.whole.is_none_or(|(known, _)| end > known) => {
                    here.whole = Some((end, needle.owner));
                }
                Found::Whole(_) => {}
            }
        }
        here
    }

    /// Whose text is somewhere in these bytes, taken as a whole.
    pub(super) fn owner_in(&self, bytes: &[u8]) -> Option<usize> {
        let mut from = 0;
        while let Some(place) = self.candidate(bytes, from) {
            if let Some((_, owner)) = self.here(bytes, place).whole {
                return Some(owner);
            }
            from = place + 1;
        }
        None
    }

    fn text(&self, needle: &Needle) -> &[u8] {
        let text = self.texts.bytes().get(needle.range.clone());
        text.unwrap_or_default()
    }

    fn add(&mut self, text: &[u8], alphabet: Alphabet, owner: usize) {
        let begin = self.texts.bytes().len();
        let range = begin..begin + text.len();
        if let Some(room) = self.texts.room().get_mut(range.clone()) {
            room.copy_from_slice(text);
            self.texts.set_used(range.end);
            self.needles.push(Needle {
                range,
                alphabet,
                owner,
            });
        }
    }

    /// Notes how the spellings of a needle can begin.
    fn note_beginnings(&mut self, number: usize) {
        let Some(needle) = self.needles.get(number).cloned() else {
            return;
        };
        let text = self.text(&needle);
        let (Some(first), Some(second)) = (text.first().copied(), text.get(1).copied()) else {
            return;
        };
        let mut seconds = variants(second, needle.alphabet);
        seconds.extend(b"%\\&+");
        if needle.alphabet == Alphabet::Base64 {
            seconds.extend(b"\r\n");
        }
        for begin in variants(first, needle.alphabet) {
            if let Some(firsts) = self.firsts.get_mut(usize::from(begin)) {
                firsts.push(number);
            }
            seconds.iter().for_each(|second| self.note(begin, *second));
            // `%41`, and `%2541` where somebody encoded twice.
            let digit = hexadecimal(&[begin]).first().copied().unwrap_or(b'0');
            for digit in [digit, digit.to_ascii_uppercase(), b'2'] {
                self.note(b'%', digit);
            }
            match begin {
                b' ' => seconds.iter().for_each(|second| self.note(b'+', *second)),
                b'&' | b'\'' => self.note(b'&', b'a'),
                b'<' => self.note(b'&', b'l'),
                b'>' => self.note(b'&', b'g'),
                b'"' => self.note(b'&', b'q'),
                _ => {}
            }
            if b"\"'/&<>".contains(&begin) {
                self.note(b'\\', begin);
            }
        }
        b"uUx\\".iter().for_each(|next| self.note(b'\\', *next));
        self.note(b'&', b'#');
    }

    fn note(&mut self, first: u8, second: u8) {
        let (word, bit) = (pair(first, second) / 64, pair(first, second) % 64);
        if let Some(word) = self.pairs.get_mut(word) {
            *word |= 1 << bit;
        }
        if let Some(opens) = self.opens.get_mut(usize::from(first)) {
            *opens = true;
        }
    }

    fn begins(&self, first: u8, second: u8) -> bool {
        let pair = pair(first, second);
        let word = self.pairs.get(pair / 64);
        word.is_some_and(|word| (word >> (pair % 64)) & 1 == 1)
    }
}

impl std::fmt::Debug for Finder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Finder({} texts)", self.needles.len())
    }
}

fn pair(first: u8, second: u8) -> usize {
    (usize::from(first) << 8) | usize::from(second)
}

fn variants(byte: u8, alphabet: Alphabet) -> Vec<u8> {
    (0..=u8::MAX)
        .filter(|other| is_same(*other, byte, alphabet))
        .collect()
}

fn is_same(read: u8, wanted: u8, alphabet: Alphabet) -> bool {
    match alphabet {
        Alphabet::Exact => read == wanted,
        Alphabet::AnyCase => read.eq_ignore_ascii_case(&wanted),
        Alphabet::Base64 => match wanted {
            b'+' => matches!(read, b'+' | b'-'),
            b'/' => matches!(read, b'/' | b'_'),
            other => read == other,
        },
    }
}

/// Reads one text at a place, whichever way its characters are spelled.
fn read(bytes: &[u8], place: usize, text: &[u8], alphabet: Alphabet) -> Found {
    // Where reading goes on, and what of the text is left: in nearly all bytes there is one way.
    let mut now = Some((place, 0));
    let mut open: Vec<(usize, usize)> = Vec::new();
    let mut seen = 0;
    let mut more = false;
    while let Some((at, done)) = now.take().or_else(|| open.pop()) {
        let Some((wanted, _)) = text.get(done..).and_then(<[u8]>::split_first) else {
            return Found::Whole(at);
        };
        let Some((byte, _)) = bytes.get(at..).and_then(<[u8]>::split_first) else {
            more = true;
            continue;
        };
        if is_same(*byte, *wanted, alphabet) {
            now = Some((at + 1, done + 1));
        }
        let breaks = alphabet == Alphabet::Base64 && done > 0;
        if breaks && matches!(byte, b'\r' | b'\n') {
            open.push((at + 1, done));
        }
        if !matches!(byte, b'%' | b'\\' | b'&' | b'+') {
            continue;
        }
        let Escapes { ways, cut } = escapes(bytes.get(at..).unwrap_or_default());
        more |= cut;
        for way in ways.into_iter().flatten() {
            let next = at + way.length;
            if breaks && matches!(way.character(), [b'\r' | b'\n']) {
                open.push((next, done));
            }
            let wanted = text.get(done..done + way.character().len());
            let same = |wanted: &[u8]| {
                let mut both = wanted.iter().zip(way.character());
                both.all(|(wanted, read)| is_same(*read, *wanted, alphabet))
            };
            if wanted.is_some_and(same) && !open.contains(&(next, done + way.character().len())) {
                open.push((next, done + way.character().len()));
            }
        }
        seen += 1;
        if seen > READINGS_MAX {
            // Whoever writes so hides something: it counts as found.
            return Found::Whole(at);
        }
    }
    if more { Found::More } else { Found::No }
}

/// A text in base64 behind so many other bytes, and which of its characters depend on nothing else.
fn encoded(text: &[u8], before: usize) -> (Zeroizing<Vec<u8>>, Range<usize>) {
    let mut padded = Zeroizing::new(vec![0; before + text.len()]);
    if let Some(place) = padded.get_mut(before..) {
        place.copy_from_slice(text);
    }
    let mut characters = Zeroizing::new(vec![0; (padded.len() + 3) * 4 / 3 + 1]);
    let written = STANDARD_NO_PAD.encode_slice(&*padded, &mut characters);
    characters.truncate(written.unwrap_or(0));
    let core = (before * 8).div_ceil(6)..padded.len() * 8 / 6;
    (characters, core)
}

fn hexadecimal(text: &[u8]) -> Zeroizing<Vec<u8>> {
    let digit = |value: u8| match value {
        0..=9 => b'0' + value,
        _ => b'a' + value - 10,
    };
    let mut digits = Zeroizing::new(Vec::with_capacity(text.len() * 2));
    for byte in text {
        digits.push(digit(byte >> 4));
        digits.push(digit(byte & 15));
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finder(text: &str) -> Finder {
        let wanted = Wanted {
            text: text.as_bytes(),
            any_case: false,
            owner: 7,
        };
        Finder::new(&[wanted]).unwrap()
    }

    #[track_caller]
    fn found(text: &str, bytes: &str) {
        assert_eq!(finder(text).owner_in(bytes.as_bytes()), Some(7), "{bytes}");
    }

    #[track_caller]
    fn absent(text: &str, bytes: &str) {
        assert_eq!(finder(text).owner_in(bytes.as_bytes()), None, "{bytes}");
    }

    #[test]
    fn every_spelling_is_found() {
        let text = "p%ss w/rd\"&é";
        found(text, "it is p%ss w/rd\"&é.");
        found(text, "?q=p%25ss%20w%2frd%22%26%C3%a9&r");
        found(text, "?q=p%25ss+w%2Frd%22%26%C3%A9&r");
        found(text, "?q=p%2525ss%2520w%252frd%2522%2526%25C3%25a9&r");
        found(text, r#"{"a":"p%ss w\/rd\"&\u00e9"}"#);
        found(text, r#"{"a":"\u0070\u0025ss w/rd\u0022\u0026é"}"#);
        found(text, r#""{\"a\":\"p%ss w\\\/rd\\\"&\\u00E9\"}""#);
        found(text, "<p>p%ss w/rd&quot;&amp;é</p>");
        found(text, "<p>p&#37;ss w&#x2f;rd&#34;&#38;&#xe9;</p>");
    }

    #[test]
    fn hexadecimal_and_base64_are_found() {
        use base64::engine::general_purpose::{STANDARD, URL_SAFE};
        let text = "sk-live>>>???~~~0123456789";
        let digits: String = text.bytes().map(|b| format!("{b:02X}")).collect();
        found(text, &digits);
        found(text, &digits.to_lowercase());
        for before in ["", "u", "us", "use", "user:"] {
            let whole = format!("{before}{text}&rest");
            let standard = STANDARD.encode(&whole);
            found(text, &format!("x {standard} y"));
            found(text, &format!("x {} y", URL_SAFE.encode(&whole)));
            found(text, &standard.replace('+', "%2B").replace('/', "%2f"));
            found(text, &standard.replace('/', "\\/"));
            let lines: Vec<String> = standard
                .as_bytes()
                .chunks(20)
                .map(|line| String::from_utf8_lossy(line).into_owned())
                .collect();
            found(text, &lines.join("\r\n"));
            found(text, &lines.join("\\n"));
        }
    }

    #[test]
    fn other_text_is_not() {
        for bytes in [
            "",
            "s",
            "sk-live-012345678",
            "Sk-live-0123456789",
            "sk-live-012345678\\u003",
            "%73%6b-live-012345678",
            "&&&&&&&& %%%%%%%% \\\\\\\\\\\\\\\\\\\\\\",
        ] {
            absent("sk-live-0123456789", bytes);
        }
    }

    #[test]
    fn what_may_go_on_is_known() {
        let finder = finder("sk-live-0123456789");
        for bytes in [
            "s", "sk-l", "%", "%7", "%73", "%73%", "\\u007", "&#11", "c2",
        ] {
            let here = finder.here(bytes.as_bytes(), 0);
            assert!(here.more && here.whole.is_none(), "{bytes}");
            assert_eq!(finder.candidate(bytes.as_bytes(), 0), Some(0), "{bytes}");
        }
        assert_eq!(finder.here(b"sx", 0), Here::default());
    }
}
