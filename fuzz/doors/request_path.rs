//! The path of a request, as a sandbox sends it.

use std::io;

use belljar_base::bounds::EGRESS_PATH_BYTES_MAX;
use belljar_policy::egress::canonical_path;

pub(crate) fn enter(bytes: &[u8]) -> io::Result<()> {
    let Ok(text) = str::from_utf8(bytes) else {
        return Ok(());
    };
    let Ok(path) = canonical_path(text) else {
        return Ok(());
    };
    assert!(path.len() <= text.len().max(1) && path.len() <= EGRESS_PATH_BYTES_MAX);
    assert!(path.starts_with('/') && !path.contains("//"), "{path}");
    assert!(path.bytes().all(|b| b.is_ascii_graphic()), "{path}");
    assert_eq!(canonical_path(&path).as_deref(), Ok(path.as_str()));
    // However often a server decodes, it sees these segments.
    let wanted: Vec<&str> = path.split('/').collect();
    let mut careless = path.clone().into_bytes();
    for _ in 0..3 {
        careless = decoded(&careless);
        let segments: Vec<_> = careless.split(|b| matches!(b, b'/' | b'\\')).collect();
        assert_eq!(segments.len(), wanted.len(), "{path}");
        let climbs = |segment: &&[u8]| {
            let plain = segment.split(|b| *b == b';').next().unwrap_or_default();
            plain == b"." || plain == b".."
        };
        assert!(!segments.iter().any(climbs), "{path}");
    }
    Ok(())
}

/// Every escape undone once.
fn decoded(path: &[u8]) -> Vec<u8> {
    let mut whole = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((first, after)) = rest.split_first() {
        let hex = |at: usize| after.get(at).and_then(|b| char::from(*b).to_digit(16));
        let byte = match (first, hex(0), hex(1)) {
            (b'%', Some(high), Some(low)) => u8::try_from(16 * high + low).ok(),
            _ => None,
        };
        whole.push(byte.unwrap_or(*first));
        rest = after
            .get(if byte.is_some() { 2 } else { 0 }..)
            .unwrap_or_default();
    }
    whole
}
