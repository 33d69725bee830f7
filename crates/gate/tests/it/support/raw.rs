//! A server of HTTP/1 that takes nothing for granted: every byte that reaches it is kept, and read by
//! a reader that accepts one spelling only.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::world::Shared;

/// One request, as it arrived.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The first line.
    pub(crate) line: String,
    /// Names in lower case, and values.
    pub(crate) fields: Vec<(String, String)>,
    /// Without framing.
    pub(crate) body: Vec<u8>,
    /// After the body.
    pub(crate) trailers: Vec<(String, String)>,
}

impl Seen {
    /// The values of one name.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let fields = self.fields.iter().filter(|(field, _)| field == name);
        fields.map(|(_, value)| value.as_str()).collect()
    }
}

/// A server on loopback.
pub(crate) struct Server {
    /// Where it is.
    pub(crate) port: u16,
    seen: Shared<Vec<Seen>>,
    odd: Shared<Vec<Vec<u8>>>,
}

impl Server {
    /// Answers each request with these bytes; nothing ends the connection.
    pub(crate) fn start(answer: impl Fn(&Seen) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = Self {
            port,
            seen: Arc::default(),
            odd: Arc::default(),
        };
        let (seen, odd) = (Arc::clone(&server.seen), Arc::clone(&server.odd));
        let answer = Arc::new(answer);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (seen, odd) = (Arc::clone(&seen), Arc::clone(&odd));
                let answer = Arc::clone(&answer);
                thread::spawn(move || serve(stream, &seen, &odd, answer.as_ref()));
            }
        });
        server
    }

    /// Answers everything with `ok`.
    pub(crate) fn ok() -> Self {
        Self::start(|_| b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec())
    }

    /// What arrived so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// What arrived and cannot be read in exactly one way.
    pub(crate) fn odd(&self) -> Vec<String> {
        let odd = self.odd.lock().unwrap();
        odd.iter()
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
            .collect()
    }
}

fn serve(
    mut stream: TcpStream,
    seen: &Mutex<Vec<Seen>>,
    odd: &Mutex<Vec<Vec<u8>>>,
    answer: &dyn Fn(&Seen) -> Vec<u8>,
) {
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut bytes = Vec::new();
    let mut piece = [0; 16384];
    loop {
        match read(&bytes) {
            Reading::More => match stream.read(&mut piece) {
                Ok(0) | Err(_) => return,
                Ok(count) => bytes.extend_from_slice(&piece[..count]),
            },
            Reading::Odd => {
                odd.lock().unwrap().push(bytes);
                return;
            }
            Reading::Whole(request, length) => {
                bytes.drain(..length);
                let words = answer(&request);
                seen.lock().unwrap().push(request);
                if words.is_empty() || stream.write_all(&words).is_err() {
                    return;
                }
            }
        }
    }
}

/// What bytes are, to a reader that accepts one spelling.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    More,
    Odd,
    Whole(Seen, usize),
}

/// Reads one request.
pub(crate) fn read(bytes: &[u8]) -> Reading {
    let Some(end) = find(bytes, b"\r\n\r\n") else {
        return if bytes.len() > 200_000 {
            Reading::Odd
        } else {
            Reading::More
        };
    };
    let Some((line, fields)) = head(&bytes[..end]) else {
        return Reading::Odd;
    };
    let words: Vec<&str> = line.split(' ').collect();
    let [method, path, "HTTP/1.1"] = words.as_slice() else {
        return Reading::Odd;
    };
    let plain = method
        .bytes()
        .all(|byte| byte.is_ascii_uppercase() || byte == b'-');
    if method.is_empty() || !plain || !path.starts_with('/') {
        return Reading::Odd;
    }
    let mut seen = Seen {
        line,
        fields,
        ..Seen::default()
    };
    let (lengths, codings) = (seen.all("content-length"), seen.all("transfer-encoding"));
    let start = end + 4;
    match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => Reading::Whole(seen, start),
        ([length], []) => {
            let Ok(length) = length.parse::<usize>() else {
                return Reading::Odd;
            };
            match bytes.get(start..start + length) {
                Some(body) => {
                    seen.body = body.to_vec();
                    Reading::Whole(seen, start + length)
                }
                None => Reading::More,
            }
        }
        ([], ["chunked"]) => chunked(bytes, start, seen),
        _ => Reading::Odd,
    }
}

fn chunked(bytes: &[u8], mut at: usize, mut seen: Seen) -> Reading {
    loop {
        let Some(end) = find(&bytes[at..], b"\r\n") else {
            return Reading::More;
        };
        let size = std::str::from_utf8(&bytes[at..at + end]).unwrap_or("?");
        let Ok(size) = usize::from_str_radix(size, 16) else {
            return Reading::Odd;
        };
        at += end + 2;
        if size == 0 {
            let Some(end) = find(&bytes[at - 2..], b"\r\n\r\n") else {
                return Reading::More;
            };
            let trailers = if end == 0 {
                Some(Vec::new())
            } else {
                fields(&bytes[at..at - 2 + end])
            };
            let Some(trailers) = trailers else {
                return Reading::Odd;
            };
            seen.trailers = trailers;
            return Reading::Whole(seen, at + 2 + end);
        }
        let Some(piece) = bytes.get(at..at + size + 2) else {
            return Reading::More;
        };
        if !piece.ends_with(b"\r\n") {
            return Reading::Odd;
        }
        seen.body.extend_from_slice(&piece[..size]);
        at += size + 2;
    }
}

fn head(bytes: &[u8]) -> Option<(String, Vec<(String, String)>)> {
    let (line, rest) = match find(bytes, b"\r\n") {
        Some(end) => (&bytes[..end], &bytes[end + 2..]),
        None => (bytes, &b""[..]),
    };
    let line = std::str::from_utf8(line).ok()?;
    if line.bytes().any(|byte| byte.is_ascii_control()) {
        return None;
    }
    Some((line.to_owned(), fields(rest)?))
}

fn fields(bytes: &[u8]) -> Option<Vec<(String, String)>> {
    if bytes.is_empty() {
        return Some(Vec::new());
    }
    let text = String::from_utf8_lossy(bytes);
    let mut fields = Vec::new();
    for line in text.split("\r\n") {
        let (name, value) = line.split_once(": ")?;
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(token) {
            return None;
        }
        if value.chars().any(|c| c.is_ascii_control() && c != '\t') {
            return None;
        }
        fields.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    Some(fields)
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
