//! Paths in one canonical form, and what lies below what.

/// A path whose meaning could differ between the gate and the server behind it. The text goes on
/// after “the” or “its”.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It does not begin with `/`.
    #[error("path does not begin with `/`")]
    Relative,
    /// It is longer than the bound.
    #[error(
        "path is longer than {} bytes",
        belljar_base::bounds::EGRESS_PATH_BYTES_MAX
    )]
    Long,
    /// A character that no path has: control, space, backslash, `?`, `#`, or not ASCII.
    #[error("path has a character that is not allowed in one")]
    Character,
    /// A `%` without two hexadecimal digits.
    #[error("path has a `%` that encodes nothing")]
    Escape,
    /// An encoded slash, backslash or control character, something encoded twice, or `..;`.
    #[error("path can be read in more than one way")]
    Hidden,
    /// Two slashes in a row, which some servers take for one.
    #[error("path has an empty segment")]
    Empty,
    /// `.` or `..`, where the path goes on as it was sent: whoever reads it next may not resolve them.
    #[error("path has dot segments")]
    Dots,
    /// `..` beyond the root.
    #[error("path climbs above the root")]
    Climbs,
}

/// The one form of a path, as it is compared with rules: escapes of unreserved characters are
/// undone, the others are in upper case, `.` and `..` are resolved.
///
/// # Errors
/// When it is doubtful what a server would make of the path; doubt is refused where a rule speaks
/// of paths.
pub fn canonical_path(path: &str) -> Result<String, PathError> {
    resolve(path).map(|(canonical, _)| canonical)
}

/// The canonical path, and whether dot segments had to be resolved.
fn resolve(path: &str) -> Result<(String, bool), PathError> {
    if path.len() > belljar_base::bounds::EGRESS_PATH_BYTES_MAX {
        return Err(PathError::Long);
    }
    let relative = path.strip_prefix('/').ok_or(PathError::Relative)?;
    let decoded = decode(relative)?;
    if hides_more(&decoded) {
        return Err(PathError::Hidden);
    }
    let mut segments: Vec<&str> = Vec::new();
    let (mut open, mut dots) = (true, false);
    let last = decoded.matches('/').count();
    for (at, segment) in decoded.split('/').enumerate() {
        // Some servers take `..;a` for `..`, and `;a` for nothing.
        if plain(segment) != segment && matches!(plain(segment), "" | "." | "..") {
            return Err(PathError::Hidden);
        }
        dots |= matches!(segment, "." | "..");
        open = matches!(segment, "" | "." | "..");
        match segment {
            "" if at < last => return Err(PathError::Empty),
            "" | "." => {}
            ".." => {
                segments.pop().ok_or(PathError::Climbs)?;
            }
            name => segments.push(name),
        }
    }
    let mut whole = String::with_capacity(path.len());
    for segment in &segments {
        whole.push('/');
        whole.push_str(segment);
    }
    if open {
        whole.push('/');
    }
    Ok((whole, dots))
}

/// The canonical path, when the path as it was sent differs from it in escapes alone, which mean the
/// same to everybody.
pub(super) fn plain_path(path: &str) -> Result<String, PathError> {
    let (canonical, dots) = resolve(path)?;
    if dots {
        Err(PathError::Dots)
    } else {
        Ok(canonical)
    }
}

/// Whether a canonical path is `prefix` or lies below it, by whole segments.
pub(super) fn is_under(path: &str, prefix: &str) -> bool {
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    let below = path.strip_prefix(prefix);
    below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
}

/// The same for a denying rule, which keeps in what some server could take for such a path: whatever
/// the case of its letters and the parameters of its segments.
pub(super) fn could_be_under(path: &str, prefix: &str) -> bool {
    let mut segments = path.split('/').map(plain);
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    let mut wanted = prefix.split('/').map(plain);
    wanted.all(|wanted| {
        segments
            .next()
            .is_some_and(|one| one.eq_ignore_ascii_case(wanted))
    })
}

/// A segment without its parameters.
fn plain(segment: &str) -> &str {
    let plain = segment.split(';').next().unwrap_or_default();
    plain.split("%3B").next().unwrap_or_default()
}

fn decode(path: &str) -> Result<String, PathError> {
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path.chars();
    while let Some(c) = rest.next() {
        match c {
            '%' => {
                let byte = escaped(&mut rest)?;
                push(&mut decoded, byte)?;
            }
            '\\' | '?' | '#' => return Err(PathError::Character),
            c if c.is_ascii_graphic() => decoded.push(c),
            _ => return Err(PathError::Character),
        }
    }
    Ok(decoded)
}

fn push(decoded: &mut String, byte: u8) -> Result<(), PathError> {
    match byte {
        b'/' | b'\\' | 0x7f => return Err(PathError::Hidden),
        _ if byte < 0x20 => return Err(PathError::Hidden),
        b'-' | b'.' | b'_' | b'~' => decoded.push(char::from(byte)),
        _ if byte.is_ascii_alphanumeric() => decoded.push(char::from(byte)),
        _ => decoded.push_str(&format!("%{byte:02X}")),
    }
    Ok(())
}

fn escaped(rest: &mut std::str::Chars<'_>) -> Result<u8, PathError> {
    let mut digit = || rest.next().and_then(|c| c.to_digit(16));
    let (high, low) = digit().zip(digit()).ok_or(PathError::Escape)?;
    u8::try_from(16 * high + low).or(Err(PathError::Escape))
}

/// Whether a server that decodes twice would find more to decode.
fn hides_more(decoded: &str) -> bool {
    let mut after = decoded.split("%25").skip(1);
    after.any(|after| escaped(&mut after.chars()).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Each text with its one form, or what is wrong with it.
    const PATHS: &[(&str, &str)] = &[
        ("/", "/"),
        ("/a", "/a"),
        ("/a/", "/a/"),
        ("/a/b", "/a/b"),
        ("/.", "/"),
        ("/..", "path climbs above the root"),
        ("/./a", "/a"),
        ("/a/.", "/a/"),
        ("/a/..", "/"),
        ("/a/../b", "/b"),
        ("/a/b/..", "/a/"),
        ("/a/../..", "path climbs above the root"),
        ("/%2e", "/"),
        ("/a/%2E%2e/b", "/b"),
        ("/a/.%2e/", "/"),
        ("/...", "/..."),
        ("/.a", "/.a"),
        ("/..a/b", "/..a/b"),
        ("/%41%5a%7E%2d%5F", "/AZ~-_"),
        ("/%c3%bc", "/%C3%BC"),
        ("/a%20b", "/a%20b"),
        ("/a%2Cb", "/a%2Cb"),
        ("/a,b", "/a,b"),
        ("/a;v=1/b", "/a;v=1/b"),
        ("/@a/b", "/@a/b"),
        ("/a:b", "/a:b"),
        ("/a'(b)*!$&+=", "/a'(b)*!$&+="),
        ("/\"<>^`{|}", "/\"<>^`{|}"),
        ("/a%25b", "/a%25b"),
        ("", "path does not begin with `/`"),
        ("a", "path does not begin with `/`"),
        ("*", "path does not begin with `/`"),
        ("//", "path has an empty segment"),
        ("//a", "path has an empty segment"),
        ("/a//b", "path has an empty segment"),
        ("/a//", "path has an empty segment"),
        ("/a?b", "path has a character that is not allowed in one"),
        ("/a#b", "path has a character that is not allowed in one"),
        ("/a\\b", "path has a character that is not allowed in one"),
        ("/a b", "path has a character that is not allowed in one"),
        ("/a\tb", "path has a character that is not allowed in one"),
        ("/ü", "path has a character that is not allowed in one"),
        ("/a\0", "path has a character that is not allowed in one"),
        ("/a%2fb", "path can be read in more than one way"),
        ("/a%2Fb", "path can be read in more than one way"),
        ("/a%5cb", "path can be read in more than one way"),
        ("/a%00", "path can be read in more than one way"),
        ("/a%0a", "path can be read in more than one way"),
        ("/a%7f", "path can be read in more than one way"),
        ("/%", "path has a `%` that encodes nothing"),
        ("/%4", "path has a `%` that encodes nothing"),
        ("/%zz", "path has a `%` that encodes nothing"),
        ("/%+1", "path has a `%` that encodes nothing"),
        ("/%252e", "path can be read in more than one way"),
        ("/%252F", "path can be read in more than one way"),
        ("/%255c", "path can be read in more than one way"),
        ("/%2500", "path can be read in more than one way"),
        ("/%2525", "path can be read in more than one way"),
        ("/%25zz", "/%25zz"),
        ("/%2541", "path can be read in more than one way"),
        ("/%25%32e", "path can be read in more than one way"),
        ("/a/..;/b", "path can be read in more than one way"),
        ("/a/..%3bc/b", "path can be read in more than one way"),
        ("/;a/b", "path can be read in more than one way"),
        ("/.;", "path can be read in more than one way"),
        ("/a..;", "/a..;"),
    ];

    #[test]
    fn paths_have_one_form() {
        for (path, wanted) in PATHS {
            let answer = canonical_path(path).unwrap_or_else(|error| error.to_string());
            assert_eq!(answer, *wanted, "{path:?}");
        }
        let long = "/a".repeat(belljar_base::bounds::EGRESS_PATH_BYTES_MAX);
        assert_eq!(canonical_path(&long), Err(PathError::Long));
    }

    #[test]
    fn a_plain_path_has_no_dot_segments() {
        for (path, wanted) in [
            ("/", Ok("/")),
            ("/%61/b%2Dc/", Ok("/a/b-c/")),
            ("/...", Ok("/...")),
            ("/a/.", Err(PathError::Dots)),
            ("/.", Err(PathError::Dots)),
            ("/%2e/a", Err(PathError::Dots)),
            ("/a/../b", Err(PathError::Dots)),
            ("/a/..", Err(PathError::Dots)),
            ("/..", Err(PathError::Climbs)),
        ] {
            assert_eq!(plain_path(path), wanted.map(str::to_owned), "{path}");
        }
    }

    #[test]
    fn under_is_by_whole_segments() {
        for (path, prefix, wanted) in [
            ("/v1", "/v1", true),
            ("/v1/", "/v1", true),
            ("/v1/a", "/v1", true),
            ("/v1", "/v1/", true),
            ("/v10", "/v1", false),
            ("/v", "/v1", false),
            ("/", "/v1", false),
            ("/a", "/", true),
            ("/", "", true),
            ("/V1", "/v1", false),
        ] {
            assert_eq!(is_under(path, prefix), wanted, "{path} {prefix}");
        }
        for (path, wanted) in [
            ("/admin", true),
            ("/Admin/", true),
            ("/ADMIN;a=1/b;c", true),
            ("/administrators", false),
            ("/a/admin", false),
            ("/", false),
        ] {
            assert_eq!(could_be_under(path, "/admin"), wanted, "{path}");
        }
        assert!(could_be_under("/a", "/") && could_be_under("/", ""));
    }

    /// What a careless server would do: decode everything, twice, then climb.
    fn carelessly(path: &str) -> Vec<Vec<u8>> {
        let decode = |text: Vec<u8>| {
            let mut decoded = Vec::new();
            let mut rest = text.as_slice();
            while let Some((first, after)) = rest.split_first() {
                let hex = |at: usize| after.get(at).and_then(|b| char::from(*b).to_digit(16));
                match (first, hex(0), hex(1)) {
                    (b'%', Some(high), Some(low)) => {
                        decoded.push(u8::try_from(16 * high + low).unwrap());
                        rest = &after[2..];
                    }
                    _ => {
                        decoded.push(*first);
                        rest = after;
                    }
                }
            }
            decoded
        };
        let twice = decode(decode(path.as_bytes().to_vec()));
        let mut segments: Vec<Vec<u8>> = Vec::new();
        for segment in twice.split(|b| matches!(b, b'/' | b'\\')) {
            match segment {
                b"" | b"." => {}
                b".." => drop(segments.pop()),
                name => segments.push(name.to_vec()),
            }
        }
        segments
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn any_text_has_an_answer(text in any::<String>()) {
            if let Ok(canonical) = canonical_path(&text) {
                prop_assert_eq!(canonical_path(&canonical), Ok(canonical.clone()));
            }
        }

        #[test]
        fn no_server_sees_another_path(
            pieces in prop::collection::vec(
                prop::sample::select(vec![
                    "/", "/", "a", "b", ".", "..", "%2e", "%2f", "%25", "25", "2f", "2e", "%5c", "5c", "\\", "%61", "%32", "%00", "%",
                ]),
                0..10,
            ),
        ) {
            let text = format!("/{}", pieces.concat());
            if let Ok(canonical) = canonical_path(&text) {
                prop_assert_eq!(canonical_path(&canonical), Ok(canonical.clone()));
                let seen = carelessly(&text);
                prop_assert_eq!(&seen, &carelessly(&canonical));
                let whole: Vec<_> = canonical.split('/').filter(|one| !one.is_empty()).collect();
                prop_assert_eq!(seen.len(), whole.len(), "{:?} {}", seen, canonical);
            }
        }
    }
}
