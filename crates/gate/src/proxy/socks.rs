//! SOCKS version 5 (RFC 1928, RFC 1929) as a client says it: the greeting, a name and password that
//! are not looked at, the request.

use std::net::{Ipv4Addr, Ipv6Addr};

use belljar_policy::egress::Host;

/// What the bytes so far are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading<T> {
    /// The beginning of a message; more must come.
    More,
    /// A whole one, and its length.
    Whole(T, usize),
    /// None; the reply's code and why.
    Refused(u8, &'static str),
}

/// How a client is to say who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Not at all.
    None,
    /// By name and password.
    Password,
}

impl Method {
    /// Its number on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Password => 2,
        }
    }
}

/// The request was carried out.
pub const GRANTED: u8 = 0;
/// It failed for a reason that has no code of its own.
pub const FAILED: u8 = 1;
/// Rules do not allow it.
pub const DENIED: u8 = 2;
/// The command is not understood.
pub const COMMAND: u8 = 7;
/// The kind of address is not understood.
pub const ADDRESS: u8 = 8;
/// No way of saying who one is that both know; only in answer to a greeting.
pub const NO_METHOD: u8 = 0xff;

/// The first message: how the client can say who it is.
#[must_use]
pub fn greeting(bytes: &[u8]) -> Reading<Method> {
    let [version, count, rest @ ..] = bytes else {
        return beginning(bytes, VERSION);
    };
    if *version != VERSION {
        return Reading::Refused(FAILED, "the version of SOCKS is not 5");
    }
    let count = usize::from(*count);
    let Some(methods) = rest.get(..count) else {
        return Reading::More;
    };
    let offered = |method: Method| methods.contains(&method.number()).then_some(method);
    match offered(Method::None).or_else(|| offered(Method::Password)) {
        Some(method) => Reading::Whole(method, 2 + count),
        None => Reading::Refused(NO_METHOD, "SOCKS is asked for with an unknown method"),
    }
}

/// The second message, where a name and password were asked for. Whoever is inside the sandbox may
/// ask; what it says about itself changes nothing.
#[must_use]
pub fn password(bytes: &[u8]) -> Reading<()> {
    let [version, names, rest @ ..] = bytes else {
        return beginning(bytes, PASSWORD_VERSION);
    };
    if *version != PASSWORD_VERSION {
        return Reading::Refused(FAILED, "the version of the password message is not 1");
    }
    let names = usize::from(*names);
    let Some(words) = rest.get(names) else {
        return Reading::More;
    };
    let length = 3 + names + usize::from(*words);
    if bytes.len() < length {
        return Reading::More;
    }
    Reading::Whole((), length)
}

/// The last message: where the client wants to go.
#[must_use]
pub fn request(bytes: &[u8]) -> Reading<(Host, u16)> {
    let [version, command, reserved, kind, rest @ ..] = bytes else {
        return beginning(bytes, VERSION);
    };
    if *version != VERSION || *reserved != 0 {
        return Reading::Refused(FAILED, "the SOCKS request is malformed");
    }
    if *command != CONNECT {
        return Reading::Refused(COMMAND, "SOCKS is asked for something else than CONNECT");
    }
    let (length, begin) = match (*kind, rest.first()) {
        (IPV4, _) => (4, 0),
        (IPV6, _) => (16, 0),
        (NAME, Some(length)) => (usize::from(*length), 1),
        (NAME, None) => return Reading::More,
        _ => return Reading::Refused(ADDRESS, "SOCKS is given an unknown kind of address"),
    };
    let named = rest.get(begin..begin + length);
    let port = rest.get(begin + length..begin + length + 2);
    let (Some(named), Some([high, low])) = (named, port) else {
        return Reading::More;
    };
    let port = u16::from_be_bytes([*high, *low]);
    match host(*kind, named) {
        Some(host) if port != 0 => Reading::Whole((host, port), 4 + begin + length + 2),
        Some(_) => Reading::Refused(FAILED, "the port is not a port"),
        None => Reading::Refused(FAILED, "the host is not a host name or an address"),
    }
}

/// The answer to a request, with the address that nobody needs left out.
#[must_use]
pub const fn reply(code: u8) -> [u8; 10] {
    [VERSION, code, 0, IPV4, 0, 0, 0, 0, 0, 0]
}

fn host(kind: u8, bytes: &[u8]) -> Option<Host> {
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes)
        && kind == IPV4
    {
        return Some(Host::Address(Ipv4Addr::from(bytes).into()));
    }
    if let Ok(bytes) = <[u8; 16]>::try_from(bytes)
        && kind == IPV6
    {
        return Ipv6Addr::from(bytes).to_string().parse().ok();
    }
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

const fn beginning<T>(bytes: &[u8], version: u8) -> Reading<T> {
    match bytes {
        [first, ..] if *first != version => Reading::Refused(FAILED, "the message is not SOCKS 5"),
        _ => Reading::More,
    }
}

const VERSION: u8 = 5;
const PASSWORD_VERSION: u8 = 1;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ask(kind: u8, host: &[u8], port: u16) -> Reading<(Host, u16)> {
        let mut bytes = vec![5, 1, 0, kind];
        if kind == NAME {
            bytes.push(u8::try_from(host.len()).unwrap());
        }
        bytes.extend_from_slice(host);
        bytes.extend_from_slice(&port.to_be_bytes());
        for length in 0..bytes.len() {
            assert_eq!(request(&bytes[..length]), Reading::More, "{length}");
        }
        let reading = request(&bytes);
        if let Reading::Whole(_, length) = &reading {
            assert_eq!(*length, bytes.len());
        }
        reading
    }

    fn asked(kind: u8, host: &[u8]) -> Option<String> {
        match ask(kind, host, 443) {
            Reading::Whole((host, 443), _) => Some(host.to_string()),
            Reading::Refused(..) => None,
            other @ (Reading::More | Reading::Whole(..)) => panic!("{other:?}"),
        }
    }

    #[test]
    fn requests_name_one_host() {
        assert_eq!(asked(NAME, b"API.example.com").unwrap(), "api.example.com");
        assert_eq!(
            asked(IPV4, &[169, 254, 169, 254]).unwrap(),
            "169.254.169.254"
        );
        let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1];
        assert_eq!(asked(IPV6, &mapped).unwrap(), "10.0.0.1");
        let bad: [&[u8]; 9] = [
            b"",
            b"a\0.example.com",
            b"a\r\n.example.com",
            b"a@b",
            b"a/b",
            b"a#b",
            b"a\\b",
            b"a%00b",
            b"\xff\xfe",
        ];
        for host in bad {
            assert_eq!(asked(NAME, host), None, "{host:?}");
        }
        assert!(matches!(
            ask(NAME, b"a.com", 0),
            Reading::Refused(FAILED, _)
        ));
    }

    #[test]
    fn only_connect_is_understood() {
        for command in [2, 3, 0] {
            let reading = request(&[5, command, 0, 1, 1, 1, 1, 1, 0, 80]);
            assert!(matches!(reading, Reading::Refused(COMMAND, _)));
        }
        let reading = request(&[5, 1, 0, 2, 1, 1, 1, 1, 0, 80]);
        assert!(matches!(reading, Reading::Refused(ADDRESS, _)));
        assert!(matches!(
            request(&[5, 1, 1, 1]),
            Reading::Refused(FAILED, _)
        ));
        assert!(matches!(request(&[4]), Reading::Refused(FAILED, _)));
    }

    #[test]
    fn greetings() {
        assert_eq!(greeting(&[5]), Reading::More);
        assert_eq!(greeting(&[5, 2, 0]), Reading::More);
        assert_eq!(greeting(&[5, 2, 2, 0]), Reading::Whole(Method::None, 4));
        assert_eq!(greeting(&[5, 1, 2]), Reading::Whole(Method::Password, 3));
        let unknown = greeting(&[5, 1, 1]);
        assert!(matches!(unknown, Reading::Refused(NO_METHOD, _)));
        assert!(matches!(greeting(&[4, 1]), Reading::Refused(FAILED, _)));
        assert_eq!(password(&[1, 1, b'u', 2, b'p']), Reading::More);
        assert_eq!(password(&[1, 1, b'u', 1, b'p', 5]), Reading::Whole((), 5));
        assert_eq!(password(&[1, 0, 0]), Reading::Whole((), 3));
    }

    proptest! {
        #[test]
        fn any_bytes_have_a_reading(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            drop(greeting(&bytes));
            drop(password(&bytes));
            if let Reading::Whole((host, _), length) = request(&bytes) {
                prop_assert!(length <= bytes.len());
                prop_assert_eq!(host.to_string().parse::<Host>().unwrap(), host);
            }
        }
    }
}
