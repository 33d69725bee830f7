//! The head of a request to a proxy: `CONNECT host:port`, or a request for `http://host/…`. Only one
//! way of writing each is understood.

use belljar_base::bounds::EGRESS_HEAD_BYTES_MAX;
use belljar_policy::egress::Host;

/// What the bytes so far are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// The beginning of a head; more must come.
    More,
    /// A tunnel is asked for.
    Connect {
        /// To whom.
        host: Host,
        /// On which port.
        port: u16,
        /// The head's length; what follows is for the tunnel.
        length: usize,
    },
    /// A request is to be passed on; the whole of it is for whoever reads HTTP.
    Forward {
        /// To whom.
        host: Host,
        /// On which port.
        port: u16,
    },
    /// Neither; why.
    Refused(&'static str),
}

/// Reads what a client has said so far.
#[must_use]
pub fn read(bytes: &[u8]) -> Reading {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return match begins_well(bytes) {
            Err(reason) => Reading::Refused(reason),
            Ok(()) if bytes.len() >= EGRESS_HEAD_BYTES_MAX => {
                Reading::Refused("the head is too long")
            }
            Ok(()) => Reading::More,
        };
    };
    let head = bytes.get(..end).unwrap_or_default();
    if end > EGRESS_HEAD_BYTES_MAX {
        return Reading::Refused("the head is too long");
    }
    // The end is looked at with the rest: a carriage return before it would be a bare one.
    let whole = bytes.get(..end + 4).unwrap_or_default();
    match begins_well(whole).and_then(|()| parse(head, end + 4)) {
        Ok(reading) => reading,
        Err(reason) => Reading::Refused(reason),
    }
}

/// Lines end in carriage return and line feed and in nothing else; no other control byte stands in
/// the head.
fn begins_well(head: &[u8]) -> Result<(), &'static str> {
    let mut before = 0;
    for byte in head {
        let odd = match (before, *byte) {
            (b'\r', b'\n') => false,
            (b'\r', _) | (_, b'\n') => true,
            (_, b'\r' | b'\t') => false,
            (_, byte) => byte < 0x20 || byte == 0x7f,
        };
        if odd {
            return Err("the head has a control byte");
        }
        before = *byte;
    }
    Ok(())
}

fn parse(head: &[u8], length: usize) -> Result<Reading, &'static str> {
    let text = std::str::from_utf8(head).map_err(|_not_text| "the head is not text")?;
    let mut lines = text.split("\r\n");
    let line = lines.next().unwrap_or_default();
    let mut words = line.split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err("the request line is malformed");
    };
    if !matches!(version, "HTTP/1.1" | "HTTP/1.0") {
        return Err("the version of HTTP is not known");
    }
    if method != "CONNECT" {
        let (host, port) = absolute(target)?;
        return Ok(Reading::Forward { host, port });
    }
    let (host, port) = authority(target)?;
    let port = port.ok_or("CONNECT names no port")?;
    fields(lines, &host, port)?;
    Ok(Reading::Connect { host, port, length })
}

/// A tunnel's request has no body, and names nobody else.
fn fields<'a>(
    lines: impl Iterator<Item = &'a str>,
    host: &Host,
    port: u16,
) -> Result<(), &'static str> {
    let mut hosts = 0;
    for line in lines {
        let (name, value) = line.split_once(':').ok_or("a header line is malformed")?;
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err("a header line is malformed");
        }
        let value = value.trim_matches([' ', '\t']);
        if name.eq_ignore_ascii_case("host") {
            hosts += 1;
            let (named, at) = authority(value)?;
            if named != *host || at.is_some_and(|at| at != port) {
                return Err("CONNECT and Host name different hosts");
            }
        }
        let length = name.eq_ignore_ascii_case("content-length") && value != "0";
        if length || name.eq_ignore_ascii_case("transfer-encoding") {
            return Err("CONNECT has a body");
        }
    }
    if hosts > 1 {
        return Err("there is more than one Host");
    }
    Ok(())
}

fn absolute(target: &str) -> Result<(Host, u16), &'static str> {
    if target.starts_with('/') || target == "*" {
        return Err("this is a proxy: the request must name its host");
    }
    let (scheme, rest) = target
        .split_once("://")
        .ok_or("the request names no host")?;
    if !scheme.eq_ignore_ascii_case("http") {
        return Err("only http:// is passed on; use CONNECT for everything else");
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (named, _path) = rest
        .split_at_checked(end)
        .ok_or("the request names no host")?;
    let (host, port) = authority(named)?;
    Ok((host, port.unwrap_or(80)))
}

/// A host and, where it has one, a port. Nothing else may stand there: no user, no path, no escape.
fn authority(text: &str) -> Result<(Host, Option<u16>), &'static str> {
    if text.contains(['@', '/', '\\', '?', '#', '%', ' ']) {
        return Err("what stands for the host is not a host and a port");
    }
    let colon = match text.rfind(']') {
        Some(end) => text
            .get(end..)
            .and_then(|rest| rest.find(':'))
            .map(|at| end + at),
        None => text.find(':'),
    };
    let (host, port) = match colon.and_then(|at| text.split_at_checked(at)) {
        None => (text, None),
        Some((host, port)) => (host, Some(self::port(port.trim_start_matches(':'), port)?)),
    };
    let host = host
        .parse()
        .map_err(|_no_host| "the host is not a host name or an address")?;
    Ok((host, port))
}

/// Digits alone, without sign or leading zero; 0 is nobody's port.
fn port(digits: &str, with_colon: &str) -> Result<u16, &'static str> {
    let one_colon = digits.len() + 1 == with_colon.len();
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
    match digits.parse() {
        Ok(port) if one_colon && plain => Ok(port),
        Ok(_) | Err(_) => Err("the port is not a port"),
    }
}

const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn told(head: &str) -> String {
        match read(head.as_bytes()) {
            Reading::More => "more".to_owned(),
            Reading::Connect { host, port, length } => {
                assert_eq!(length, head.find("\r\n\r\n").unwrap() + 4);
                format!("connect {host} {port}")
            }
            Reading::Forward { host, port } => format!("forward {host} {port}"),
            Reading::Refused(reason) => format!("refused: {reason}"),
        }
    }

    fn connect(target: &str) -> String {
        told(&format!("CONNECT {target} HTTP/1.1\r\n\r\n"))
    }

    #[test]
    fn connect_names_host_and_port() {
        assert_eq!(
            connect("api.example.com:443"),
            "connect api.example.com 443"
        );
        assert_eq!(
            connect("API.Example.COM:8443"),
            "connect api.example.com 8443"
        );
        assert_eq!(connect("[2606:4700::1]:443"), "connect 2606:4700::1 443");
        assert_eq!(
            connect("[::ffff:169.254.169.254]:80"),
            "connect 169.254.169.254 80"
        );
        let bad = [
            "api.example.com",
            "api.example.com:",
            "api.example.com:0",
            "api.example.com:0443",
            "api.example.com:+443",
            "api.example.com:65536",
            "api.example.com:443:443",
            "api.example.com::443",
            "user@api.example.com:443",
            "user:word@api.example.com:443",
            "https://api.example.com:443",
            "api.example.com%00:443",
            "api.example.com#:443",
            "api.example.com\\:443",
            "api.example.com:443/",
            "[::1:443",
            "fe80::1:443",
            "[fe80::1%25eth0]:443",
            ":443",
            "",
            "api.example.com :443",
            "api.example.com\t:443",
            "api.example.com\0:443",
            "api.example.com\n:443",
        ];
        for target in bad {
            let told = connect(target);
            assert!(told.starts_with("refused"), "{target:?} {told}");
        }
    }

    #[test]
    fn connect_has_one_meaning() {
        let with = |fields: &str| {
            told(&format!(
                "CONNECT a.example.com:443 HTTP/1.1\r\n{fields}\r\n\r\n"
            ))
        };
        let fine = "connect a.example.com 443";
        assert_eq!(with("Host: A.example.com:443"), fine);
        assert_eq!(with("host: a.example.com\r\nUser-Agent: x"), fine);
        assert_eq!(with("Content-Length: 0"), fine);
        let bad = [
            "Host: b.example.com:443",
            "Host: a.example.com:444",
            "Host: a.example.com\r\nHost: a.example.com",
            "Content-Length: 3",
            "Transfer-Encoding: chunked",
            " folded: x",
            "Host : a.example.com",
            "no colon",
            "X: a\rb",
            "X: a\nb",
            "X: a\r",
        ];
        for fields in bad {
            let told = with(fields);
            assert!(told.starts_with("refused"), "{fields:?} {told}");
        }
    }

    #[test]
    fn only_plain_http_is_forwarded() {
        let get = |target: &str| told(&format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert_eq!(get("http://a.example.com/x?y"), "forward a.example.com 80");
        assert_eq!(
            get("HTTP://A.example.com:8080"),
            "forward a.example.com 8080"
        );
        assert_eq!(
            get("http://a.example.com?@b.example.com"),
            "forward a.example.com 80"
        );
        let bad = [
            "/",
            "*",
            "a.example.com",
            "https://a.example.com/",
            "ftp://a.example.com/",
            "http://user@a.example.com/",
            "http:///x",
            "http://a.example.com:/",
        ];
        for target in bad {
            assert!(get(target).starts_with("refused"), "{target}");
        }
    }

    #[test]
    fn heads_are_waited_for_and_end() {
        assert_eq!(told("CONNECT a.example"), "more");
        assert_eq!(told("CONNECT a\n"), "refused: the head has a control byte");
        let endless = format!("GET {} ", "x".repeat(EGRESS_HEAD_BYTES_MAX));
        assert_eq!(told(&endless), "refused: the head is too long");
    }

    proptest! {
        #[test]
        fn any_bytes_have_a_reading(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(read(&bytes));
            drop(read(&[&b"CONNECT "[..], &bytes, b" HTTP/1.1\r\n\r\n"].concat()));
        }

        #[test]
        fn a_host_is_canonical(target in "[a-zA-Z0-9.:@/\\[\\]%-]{1,40}") {
            let head = format!("CONNECT {target} HTTP/1.1\r\n\r\n");
            if let Reading::Connect { host, port, .. } = read(head.as_bytes()) {
                prop_assert!(port > 0);
                prop_assert_eq!(host.to_string().parse::<Host>().unwrap(), host);
            }
        }
    }
}
