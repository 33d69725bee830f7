//! What a program says to a proxy: the head of a request, and the messages of SOCKS 5.

use std::fmt::Debug;
use std::io;

use belljar_gate::proxy::{head, socks};
use belljar_policy::egress::Host;

pub(crate) fn enter(bytes: &[u8]) -> io::Result<()> {
    over_http(bytes);
    over_http(&[&b"CONNECT "[..], bytes, b" HTTP/1.1\r\n\r\n"].concat());
    message(bytes, socks::greeting);
    message(bytes, socks::password);
    if let Some((host, port)) = message(bytes, socks::request) {
        canonical(&host, port);
    }
    Ok(())
}

/// A head is one thing however much follows it, and less of it asks for more.
fn over_http(bytes: &[u8]) {
    match head::read(bytes) {
        head::Reading::Connect { host, port, length } => {
            canonical(&host, port);
            for end in 0..length {
                let beginning = head::read(bytes.get(..end).unwrap_or_default());
                assert_eq!(beginning, head::Reading::More);
            }
            let alone = head::read(bytes.get(..length).unwrap_or_default());
            assert_eq!(alone, head::Reading::Connect { host, port, length });
        }
        head::Reading::Forward { host, port } => canonical(&host, port),
        head::Reading::More | head::Reading::Refused(_) => {}
    }
}

/// A message has one length, and less of it asks for more.
fn message<T: PartialEq + Debug>(
    bytes: &[u8],
    read: impl Fn(&[u8]) -> socks::Reading<T>,
) -> Option<T> {
    let socks::Reading::Whole(said, length) = read(bytes) else {
        return None;
    };
    for end in 0..length {
        let beginning = read(bytes.get(..end).unwrap_or_default());
        assert_eq!(beginning, socks::Reading::More);
    }
    let alone = read(bytes.get(..length).unwrap_or_default());
    assert!(matches!(&alone, socks::Reading::Whole(again, _) if *again == said));
    Some(said)
}

fn canonical(host: &Host, port: u16) {
    assert_ne!(port, 0);
    assert_eq!(host.to_string().parse().as_ref(), Ok(host));
}
