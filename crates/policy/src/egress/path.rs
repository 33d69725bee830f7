//! Paths in one canonical form, and what lies below what.

/// A path whose meaning could differ between the gate and the server behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It does not begin with `/`.
    #[error("the path does not begin with `/`")]
    Relative,
    /// It is longer than the bound.
    #[error(
        "the path is longer than {} bytes",
        belljar_base::bounds::EGRESS_PATH_BYTES_MAX
    )]
    Long,
    /// A byte that no path has: control, space, backslash, `?`, `#`, or not ASCII.
    #[error("the path has a character that is not allowed in one")]
    Character,
    /// A `%` without two hexadecimal digits.
    #[error("the path has a `%` that encodes nothing")]
    Escape,
    /// An encoded slash, backslash, control character, or an encoded `%` that would make one.
    #[error("the path encodes a separator or a control character")]
    Hidden,
    /// Two slashes in a row, which some servers take for one.
    #[error("the path has an empty segment")]
    Empty,
    /// `..` beyond the root.
    #[error("the path climbs above the root")]
    Climbs,
}

/// The one form of a path, as it is compared with rules: escapes of unreserved characters are
/// undone, the others are in upper case, `.` and `..` are resolved.
///
/// # Errors
/// When it is doubtful what a server would make of the path; doubt is refused where a rule speaks
/// of paths.
pub fn canonical_path(path: &str) -> Result<String, PathError> {
    if path.len() > belljar_base::bounds::EGRESS_PATH_BYTES_MAX {
        return Err(PathError::Long);
    }
    let relative = path.strip_prefix('/').ok_or(PathError::Relative)?;
    let decoded = decode(relative)?;
    let mut segments: Vec<&str> = Vec::new();
    let mut open = true;
    let last = decoded.matches('/').count();
    for (at, segment) in decoded.split('/').enumerate() {
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
    Ok(whole)
}

/// Whether a canonical path is `prefix` or lies below it, by whole segments.
pub(super) fn is_under(path: &str, prefix: &str) -> bool {
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    let below = path.strip_prefix(prefix);
    below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
}

fn decode(path: &str) -> Result<String, PathError> {
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path.chars();
    while let Some(c) = rest.next() {
        match c {
            '%' => {
                let byte = escaped(&mut rest)?;
                if byte == b'%' && would_hide(rest.as_str()) {
                    return Err(PathError::Hidden);
                }
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

/// Whether what follows an encoded `%` would be a separator, a dot or a control character to a
/// server that decodes twice.
fn would_hide(rest: &str) -> bool {
    let mut rest = rest.chars();
    let twice = escaped(&mut rest);
    twice.is_ok_and(|byte| matches!(byte, b'/' | b'\\' | b'.' | b'%' | 0x7f) || byte < 0x20)
}
