//! Swaps a placeholder for its value within one field of a request. What comes out is wiped when it
//! has been used.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Uri;
use http::uri::PathAndQuery;
use zeroize::Zeroizing;

use super::Secret;

/// Bytes with a value among them.
pub(super) type Bytes = Zeroizing<Vec<u8>>;

/// A header's value: the format where the placeholder stands alone, else the value in its place, in
/// the credentials of `Basic` as well.
pub(super) fn header(secret: &Secret, format: &str, text: &[u8]) -> Option<Bytes> {
    if text.trim_ascii() == secret.placeholder().as_bytes() {
        return replaced(format.as_bytes(), b"{}", secret.value.bytes());
    }
    if let Some(credentials) = credentials(text) {
        return Some(encoded(&swapped(secret, &credentials)?));
    }
    swapped(secret, text)
}

/// The value as the password of one user.
pub(super) fn basic(secret: &Secret, user: &str, text: &[u8]) -> Option<Bytes> {
    let placeholder = secret.placeholder();
    let wanted = format!("{user}:{placeholder}");
    let alone = text.trim_ascii() == placeholder.as_bytes();
    if !alone && credentials(text).is_none_or(|given| *given != wanted.as_bytes()) {
        return None;
    }
    Some(encoded(&swapped(secret, wanted.as_bytes())?))
}

/// The value in one parameter of a query; whether its placeholder stood there.
pub(super) fn query(secret: &Secret, name: &str, uri: &mut Uri) -> bool {
    let Some(query) = uri.query() else {
        return false;
    };
    let mut new = Zeroizing::new(Vec::with_capacity(
        query.len() + 4 * secret.value.bytes().len(),
    ));
    new.extend_from_slice(uri.path().as_bytes());
    let mut put = false;
    for (number, pair) in (0..).zip(query.split('&')) {
        new.push(if number == 0 { b'?' } else { b'&' });
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let wanted = *decoded(key) == name.as_bytes();
        match swapped(secret, &decoded(value)).filter(|_| wanted) {
            Some(value) => {
                new.extend_from_slice(key.as_bytes());
                new.push(b'=');
                percent(&value, &mut new);
                put = true;
            }
            None => new.extend_from_slice(pair.as_bytes()),
        }
    }
    let Some(path) = PathAndQuery::try_from(new.as_slice()).ok().filter(|_| put) else {
        return false;
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(path);
    match Uri::from_parts(parts) {
        Ok(new) => *uri = new,
        Err(_) => return false,
    }
    true
}

/// Bytes with each placeholder replaced; nothing if there is none.
pub(super) fn swapped(secret: &Secret, text: &[u8]) -> Option<Bytes> {
    replaced(text, secret.placeholder().as_bytes(), secret.value.bytes())
}

fn replaced(text: &[u8], from: &[u8], to: &[u8]) -> Option<Bytes> {
    let places: Vec<usize> = memchr::memmem::find_iter(text, from).collect();
    if places.is_empty() {
        return None;
    }
    // No more room is ever needed, so that no copy of a value is left behind by growing.
    let room = text.len() + places.len() * to.len();
    let mut new = Zeroizing::new(Vec::with_capacity(room));
    let mut done = 0;
    for place in places {
        new.extend_from_slice(text.get(done..place).unwrap_or_default());
        new.extend_from_slice(to);
        done = place + from.len();
    }
    new.extend_from_slice(text.get(done..).unwrap_or_default());
    Some(new)
}

/// What `Basic` credentials say, decoded.
fn credentials(text: &[u8]) -> Option<Bytes> {
    let text = text.trim_ascii();
    let (scheme, rest) = text.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    STANDARD.decode(rest.trim_ascii()).ok().map(Zeroizing::new)
}

fn encoded(credentials: &[u8]) -> Bytes {
    let mut text = Zeroizing::new(vec![0; 6 + credentials.len().div_ceil(3) * 4]);
    if let Some((scheme, rest)) = text.split_at_mut_checked(6) {
        scheme.copy_from_slice(b"Basic ");
        // The room is exact, so that the encoder has no reason to fail.
        let written = STANDARD.encode_slice(credentials, rest).unwrap_or(0);
        text.truncate(6 + written);
    }
    text
}

/// A part of a query as a form has it.
pub(super) fn decoded(text: &str) -> Bytes {
    let mut plain = unescaped(&text.replace('+', " "));
    plain.shrink_to_fit();
    plain
}

/// Text without its percent signs.
pub(super) fn unescaped(text: &str) -> Bytes {
    let bytes = text.as_bytes();
    let mut plain = Zeroizing::new(Vec::with_capacity(bytes.len()));
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let digits = text.get(at + 1..at + 3).filter(|_| *byte == b'%');
        let code = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        plain.push(code.unwrap_or(*byte));
        at += if code.is_some() { 3 } else { 1 };
    }
    plain
}

/// Appends bytes as a query can carry them: everything but letters, digits and `-._~` encoded.
pub(super) fn percent(bytes: &[u8], to: &mut Vec<u8>) {
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            to.push(*byte);
        } else {
            to.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
}
