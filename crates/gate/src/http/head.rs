//! Judges the head of a request: that there is exactly one way to read it, and that it is meant
//! for the host the connection was opened to. Pure.

use belljar_base::bounds::{HTTP_METHOD_BYTES_MAX, HTTP_PATH_BYTES_MAX};
use belljar_policy::egress::{Host, Scheme};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Uri, Version};

use super::Target;
use super::aim::Aim;
use crate::judge::{Refused, code};

/// What a request says, once nothing about it is in doubt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Whether the connection is to become a WebSocket.
    pub websocket: bool,
    /// What a server behind the first one may take for the method, where that is another one.
    pub overridden: Option<Method>,
}

/// Why a request is refused before any rule is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Doubt {
    /// From the closed list.
    pub code: &'static str,
    /// What is wrong.
    pub reason: &'static str,
    /// What to send instead.
    pub remedy: &'static str,
    /// Whether it is no request at all.
    pub malformed: bool,
}

impl From<Doubt> for Refused {
    fn from(doubt: Doubt) -> Self {
        if doubt.malformed {
            return Self::malformed(doubt.reason);
        }
        Self::new(doubt.code, doubt.reason, doubt.remedy)
    }
}

/// Header lines that a `Connection` line may not name: whoever strips them as told reads another
/// request than whoever does not.
static NOT_OF_A_CONNECTION: [HeaderName; 12] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::TRANSFER_ENCODING,
    header::AUTHORIZATION,
    header::COOKIE,
    header::EXPECT,
    header::RANGE,
    header::ACCEPT,
    header::ORIGIN,
    header::CACHE_CONTROL,
];

/// Header lines by which some servers let a request claim another path than its own.
static OTHER_PATH: [HeaderName; 2] = [
    HeaderName::from_static("x-original-url"),
    HeaderName::from_static("x-rewrite-url"),
];

/// Header lines by which some servers let a request claim another method than its own.
static OTHER_METHOD: [HeaderName; 3] = [
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("x-method-override"),
];

/// Judges a head that a connection opened to `aim` brought.
///
/// # Errors
/// The first doubt; the request must go nowhere.
pub(crate) fn judge(parts: &Parts, aim: &Aim) -> Result<Head, Doubt> {
    method(&parts.method)?;
    names(parts, aim)?;
    framing(parts)?;
    let websocket = connection(parts)?;
    if OTHER_PATH
        .iter()
        .any(|name| parts.headers.contains_key(name))
    {
        return Err(malformed("a header line claims another path"));
    }
    path(&parts.uri)?;
    Ok(Head {
        websocket,
        overridden: overridden(parts)?,
    })
}

/// What a request to a proxy is for, as far as that can be one host alone.
///
/// # Errors
/// When it does not say, or not in one way.
pub(crate) fn named(parts: &Parts) -> Result<Aim, Doubt> {
    let nowhere = malformed("a proxy is asked for a whole URI of plain HTTP");
    method(&parts.method)?;
    if parts.uri.scheme() != Some(&http::uri::Scheme::HTTP) {
        return Err(nowhere);
    }
    let authority = parts.uri.authority().ok_or(nowhere)?;
    let (host, port) = authority_of(authority.as_str().as_bytes())?;
    let target = Target {
        host,
        port: port.unwrap_or(80),
        scheme: Scheme::Http,
    };
    Aim::new(target).map_err(|_unwritable| nowhere)
}

/// A request that cannot be read in exactly one way.
const fn malformed(reason: &'static str) -> Doubt {
    Doubt {
        code: code::PROTO_DENIED,
        reason,
        remedy: "send one well-formed request",
        malformed: true,
    }
}

/// Something other than plain requests and answers.
const fn protocol(reason: &'static str) -> Doubt {
    Doubt {
        code: code::PROTO_DENIED,
        reason,
        remedy: "use plain HTTP/1.1 or HTTP/2 requests",
        malformed: false,
    }
}

/// Methods are compared by rules as they are written, so they are taken in upper case alone.
fn method(method: &Method) -> Result<(), Doubt> {
    let text = method.as_str();
    let refused = |reason| {
        Err(Doubt {
            code: code::METHOD_DENIED,
            reason,
            remedy: "use a method that transfers a resource, in upper case",
            malformed: false,
        })
    };
    match text {
        "CONNECT" => refused("a tunnel inside of a connection"),
        "TRACE" | "TRACK" => refused("the method reflects header lines"),
        "PRI" => refused("the method is the preface of another protocol"),
        _ if text.len() > HTTP_METHOD_BYTES_MAX
            || !text
                .bytes()
                .all(|byte| byte.is_ascii_uppercase() || byte == b'-') =>
        {
            refused("the method is not a known kind of word")
        }
        _ => Ok(()),
    }
}

/// Each name of a host that the request carries is the one the connection was opened to.
fn names(parts: &Parts, aim: &Aim) -> Result<(), Doubt> {
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(malformed("more than one Host line"));
    }
    let authority = parts.uri.authority();
    match (host, authority) {
        (None, None) => return Err(malformed("no host is named")),
        (None, Some(_)) if parts.version < Version::HTTP_2 => {
            return Err(malformed("no Host line"));
        }
        _ => {}
    }
    let scheme = parts.uri.scheme();
    if scheme.is_some_and(|scheme| *scheme != aim.scheme()) {
        return Err(stranger("the request names another scheme"));
    }
    let named = [
        host.map(HeaderValue::as_bytes),
        authority.map(|authority| authority.as_str().as_bytes()),
    ];
    for bytes in named.into_iter().flatten() {
        if !same(bytes, aim)? {
            return Err(stranger("the request names another host"));
        }
    }
    Ok(())
}

/// A request for another host than that of its connection.
const fn stranger(reason: &'static str) -> Doubt {
    Doubt {
        code: code::SNI_MISMATCH,
        reason,
        remedy: "open a connection of its own to that host",
        malformed: false,
    }
}

/// Whether `authority` is what the connection was opened to, in whatever notation.
fn same(authority: &[u8], aim: &Aim) -> Result<bool, Doubt> {
    if aim.is_written(authority) {
        return Ok(true);
    }
    let (host, port) = authority_of(authority)?;
    let port = port.or_else(|| aim.default_port());
    let target = aim.target();
    Ok(host == target.host && port == Some(target.port))
}

/// Host and port of an authority, in canonical form.
fn authority_of(authority: &[u8]) -> Result<(Host, Option<u16>), Doubt> {
    let none = malformed("the host is not a host and a port");
    let plain = |byte: &u8| {
        byte.is_ascii_graphic() && !matches!(byte, b'@' | b'/' | b'\\' | b'?' | b'#' | b'%')
    };
    let text = std::str::from_utf8(authority).map_err(|_not_text| none)?;
    if text.is_empty() || !authority.iter().all(plain) {
        return Err(none);
    }
    let (host, port) = split(text).ok_or(none)?;
    let host = host.parse().map_err(|_no_host| none)?;
    Ok((host, port))
}

/// Host and port of `host`, `host:port`, `[v6]` and `[v6]:port`.
fn split(text: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let bracketed = host.starts_with('[') && host.ends_with(']');
    if host.contains(':') && !bracketed {
        return None;
    }
    match port {
        None => Some((host, None)),
        Some(port) if (1..=5).contains(&port.len()) => {
            let digits = port.bytes().all(|byte| byte.is_ascii_digit());
            let port = port.parse().ok().filter(|_| digits)?;
            Some((host, Some(port)))
        }
        Some(_) => None,
    }
}

/// There is exactly one way to find the end of the body.
///
/// hyper has seen HTTP/1 first: it refuses lengths that differ or are no number, a transfer coding
/// in HTTP/1.0 and one that does not end in `chunked`, folded lines, space before a colon and
/// control characters. Of a length beside a transfer coding it keeps the coding alone and closes
/// the connection after the answer, of equal lengths it keeps one: what is sent on is written anew
/// from that, so the server sees exactly one way to read it.
fn framing(parts: &Parts) -> Result<(), Doubt> {
    let lengths = &mut parts.headers.get_all(header::CONTENT_LENGTH).iter();
    let codings = &mut parts.headers.get_all(header::TRANSFER_ENCODING).iter();
    let (length, coding) = (lengths.next(), codings.next());
    if length.is_some() && coding.is_some() {
        return Err(malformed("both a length and a transfer coding"));
    }
    if lengths.next().is_some() || codings.next().is_some() {
        return Err(malformed("more than one line says how long the body is"));
    }
    let digits = |value: &HeaderValue| {
        let bytes = value.as_bytes();
        (1..=19).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_digit)
    };
    if length.is_some_and(|value| !digits(value)) {
        return Err(malformed("the length is not a number"));
    }
    if coding.is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"chunked")) {
        return Err(malformed("a transfer coding other than chunked"));
    }
    if parts
        .headers
        .get(header::EXPECT)
        .is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
    {
        return Err(malformed("an expectation other than 100-continue"));
    }
    Ok(())
}

/// Looks at what is said about the connection itself; whether it is to become a WebSocket.
fn connection(parts: &Parts) -> Result<bool, Doubt> {
    let mut upgrades = false;
    for token in tokens(&parts.headers, &header::CONNECTION) {
        let name = HeaderName::from_bytes(token?.as_bytes())
            .map_err(|_no_name| malformed("the Connection line does not hold names"))?;
        if NOT_OF_A_CONNECTION.contains(&name) {
            return Err(malformed("the Connection line names a part of the request"));
        }
        upgrades |= name == header::UPGRADE;
    }
    let mut upgrade = tokens(&parts.headers, &header::UPGRADE);
    match (upgrade.next().transpose()?, upgrade.next()) {
        (None, _) => Ok(false),
        (Some(protocol), None) if protocol.eq_ignore_ascii_case("websocket") => {
            websocket(parts, upgrades).map(|()| true)
        }
        _ => Err(protocol("an upgrade to something other than a WebSocket")),
    }
}

/// The opening of a WebSocket is whole.
fn websocket(parts: &Parts, upgrades: bool) -> Result<(), Doubt> {
    let key = parts.headers.get(header::SEC_WEBSOCKET_KEY);
    let version = parts.headers.get(header::SEC_WEBSOCKET_VERSION);
    let body = parts.headers.contains_key(header::TRANSFER_ENCODING)
        || parts
            .headers
            .get(header::CONTENT_LENGTH)
            .is_some_and(|length| length.as_bytes() != b"0");
    let whole = upgrades
        && !body
        && parts.version == Version::HTTP_11
        && parts.method == Method::GET
        && key.is_some_and(|key| key.len() == 24)
        && version.is_some_and(|version| version.as_bytes() == b"13");
    if whole {
        return Ok(());
    }
    Err(malformed("the opening of a WebSocket is not whole"))
}

/// The comma-separated words of all lines of one name.
pub(super) fn tokens<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = Result<&'a str, Doubt>> {
    let lines = headers.get_all(name).iter().map(|line| {
        line.to_str()
            .map_err(|_not_ascii| malformed("a line about the connection is not ASCII"))
    });
    lines.flat_map(|line| {
        let (line, doubt) = match line {
            Ok(line) => (line, None),
            Err(doubt) => ("", Some(Err(doubt))),
        };
        let words = line
            .split(',')
            .map(str::trim)
            .filter(|word| !word.is_empty());
        words.map(Ok).chain(doubt)
    })
}

/// The path, which begins at the root.
fn path(uri: &Uri) -> Result<(), Doubt> {
    if uri.path_and_query().map_or(0, |whole| whole.as_str().len()) > HTTP_PATH_BYTES_MAX {
        return Err(malformed("the path is too long"));
    }
    if uri.path().starts_with('/') {
        return Ok(());
    }
    Err(malformed("the path does not begin at the root"))
}

/// The method that a header line claims, where it is another one.
fn overridden(parts: &Parts) -> Result<Option<Method>, Doubt> {
    let mut lines = OTHER_METHOD
        .iter()
        .flat_map(|name| parts.headers.get_all(name));
    let Some(line) = lines.next() else {
        return Ok(None);
    };
    if lines.next().is_some() {
        return Err(malformed("more than one header line claims a method"));
    }
    let claimed = Method::from_bytes(&line.as_bytes().to_ascii_uppercase())
        .map_err(|_no_method| malformed("a header line claims a method that is none"))?;
    method(&claimed)?;
    Ok(Some(claimed).filter(|claimed| *claimed != parts.method))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;
    use proptest::prelude::*;

    fn aim(host: &str, port: u16, scheme: Scheme) -> Aim {
        let host = host.parse().unwrap();
        Aim::new(Target { host, port, scheme }).unwrap()
    }

    fn parts(method: &str, uri: &str, version: Version, fields: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri(uri).version(version);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn said(uri: &str, version: Version, fields: &[(&str, &str)]) -> &'static str {
        let parts = parts("GET", uri, version, fields);
        let judged = judge(&parts, &aim("api.example.com", 443, Scheme::Https));
        judged.map_or_else(|doubt| doubt.reason, |_| "passes")
    }

    #[test]
    fn hosts_are_compared_in_canonical_form() {
        let one = |host: &str| said("/", Version::HTTP_11, &[("host", host)]);
        for same in ["api.example.com", "API.example.com:443", "api.example.com."] {
            assert_eq!(one(same), "passes", "{same}");
        }
        for other in [
            "api.example.com:80",
            "example.com",
            "api.example.com.evil.example",
            "1.2.3.4",
        ] {
            assert_eq!(one(other), "the request names another host", "{other}");
        }
        let broken = [
            "",
            "a@api.example.com",
            "api.example.com:",
            "api.example.com:0443443",
            "[api.example.com",
            "::1",
            "api.example.com/",
            "api.example.com\\",
            "api%2eexample.com",
            "api.example.com#",
            "a b",
        ];
        for broken in broken {
            assert_eq!(one(broken), "the host is not a host and a port", "{broken}");
        }
    }

    #[test]
    fn addresses_are_compared_as_such() {
        let one = |target: &str, host: &str| {
            let parts = parts("GET", "/", Version::HTTP_11, &[("host", host)]);
            judge(&parts, &aim(target, 80, Scheme::Http)).is_ok()
        };
        assert!(one("203.0.113.7", "203.0.113.7") && one("203.0.113.7", "203.0.113.7:80"));
        assert!(one("[2001:db8::7]", "[2001:DB8:0::7]:80"));
        assert!(!one("203.0.113.7", "203.0.113.8") && !one("203.0.113.7", "203.0.113.7:81"));
    }

    #[test]
    fn http2_may_name_its_host_once_or_twice_but_not_two_hosts() {
        let uri = "https://api.example.com/";
        let two = |uri: &str, fields: &[(&str, &str)]| said(uri, Version::HTTP_2, fields);
        assert_eq!(two(uri, &[]), "passes");
        assert_eq!(two(uri, &[("host", "api.example.com")]), "passes");
        assert_eq!(two("/", &[("host", "api.example.com")]), "passes");
        assert_eq!(two("/", &[]), "no host is named");
        assert_eq!(
            two(uri, &[("host", "other.example")]),
            "the request names another host"
        );
        assert_eq!(
            two("https://other.example/", &[("host", "api.example.com")]),
            "the request names another host"
        );
        assert_eq!(
            two("http://api.example.com/", &[]),
            "the request names another scheme"
        );
        assert_eq!(
            two("https://a@api.example.com/", &[]),
            "the host is not a host and a port"
        );
    }

    #[test]
    fn other_methods_are_seen() {
        let overridden = |value: &str| {
            let fields = [
                ("host", "api.example.com"),
                ("x-http-method-override", value),
            ];
            let parts = parts("POST", "/", Version::HTTP_11, &fields);
            let judged = judge(&parts, &aim("api.example.com", 443, Scheme::Https));
            judged.map(|head| head.overridden.map(|method| method.to_string()))
        };
        assert_eq!(overridden("delete").unwrap().as_deref(), Some("DELETE"));
        assert_eq!(overridden("POST").unwrap(), None);
        assert_eq!(
            overridden("a b").unwrap_err().reason,
            "a header line claims a method that is none"
        );
        assert_eq!(overridden("TRACE").unwrap_err().code, code::METHOD_DENIED);
    }

    fn field() -> impl Strategy<Value = (&'static str, String)> {
        let name = prop::sample::select(vec![
            "host",
            "content-length",
            "transfer-encoding",
            "connection",
            "upgrade",
            "expect",
            "te",
            "x-other",
        ]);
        let value = prop_oneof![
            Just("api.example.com".to_owned()),
            Just("evil.example".to_owned()),
            Just("chunked".to_owned()),
            Just("5".to_owned()),
            Just("close, host".to_owned()),
            Just("websocket".to_owned()),
            "[ -~]{0,12}",
        ];
        (name, value)
    }

    proptest! {
        #[test]
        fn what_passes_has_one_host_and_one_length(
            host in prop::option::weighted(0.8, Just(("host", "api.example.com".to_owned()))),
            fields in prop::collection::vec(field(), 0..5),
            absolute in prop::option::of(prop::sample::select(vec!["https://api.example.com/x", "https://evil.example/x"])),
            http2: bool,
        ) {
            let version = if http2 { Version::HTTP_2 } else { Version::HTTP_11 };
            let fields: Vec<_> = host.iter().chain(&fields).map(|(name, value)| (*name, value.as_str())).collect();
            let parts = parts("GET", absolute.unwrap_or("/x"), version, &fields);
            if judge(&parts, &aim("api.example.com", 443, Scheme::Https)).is_ok() {
                let all = |name: &str| parts.headers.get_all(name).iter().count();
                prop_assert!(all("host") <= 1);
                prop_assert!(all("content-length") + all("transfer-encoding") <= 1);
                let named = parts.headers.get("host").map(|host| host.to_str().unwrap());
                prop_assert!(named.is_none_or(|host| host.starts_with("api.example.com")));
                prop_assert!(absolute.is_none_or(|uri| !uri.contains("evil")));
                prop_assert!(named.is_some() || absolute.is_some());
            }
        }
    }
}
