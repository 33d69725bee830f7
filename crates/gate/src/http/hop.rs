//! Header lines that speak of one connection and not of the message: they end here, both ways.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::head::tokens;

/// Never passed on, whether a `Connection` line names them or not.
static OF_A_CONNECTION: [HeaderName; 9] = [
    header::CONNECTION,
    header::UPGRADE,
    header::PROXY_AUTHORIZATION,
    header::PROXY_AUTHENTICATE,
    header::TRANSFER_ENCODING,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("proxy-authentication-info"),
    HeaderName::from_static("http2-settings"),
];

/// Strips a request of what speaks of its connection. A client that takes trailers is still
/// believed; an expectation is answered here, where the body is awaited.
pub(super) fn strip_request(headers: &mut HeaderMap) {
    let trailers = tokens(headers, &header::TE)
        .flatten()
        .any(|word| word.eq_ignore_ascii_case("trailers"));
    strip(headers);
    headers.remove(header::EXPECT);
    headers.remove(HeaderName::from_static("alt-used"));
    headers.remove(header::TE);
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
}

/// Strips an answer of what speaks of its connection, and of invitations to go elsewhere, which no
/// client could follow past the gate.
pub(super) fn strip_response(headers: &mut HeaderMap) {
    strip(headers);
    headers.remove(header::ALT_SVC);
}

/// Strips trailers of everything that only a head may say.
pub(super) fn strip_trailers(trailers: &mut HeaderMap) {
    strip(trailers);
    for name in [
        header::HOST,
        header::CONTENT_LENGTH,
        header::CONTENT_TYPE,
        header::CONTENT_ENCODING,
        header::CONTENT_RANGE,
        header::AUTHORIZATION,
        header::COOKIE,
        header::SET_COOKIE,
        header::TE,
        header::TRAILER,
        header::EXPECT,
        header::ALT_SVC,
        header::LOCATION,
    ] {
        trailers.remove(name);
    }
}

fn strip(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        let named: Vec<HeaderName> = tokens(headers, &header::CONNECTION)
            .flatten()
            .filter_map(|word| HeaderName::from_bytes(word.as_bytes()).ok())
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    for name in &OF_A_CONNECTION {
        headers.remove(name);
    }
}

/// Several `Cookie` lines, as HTTP/2 allows them, become the one that HTTP/1.1 wants.
pub(super) fn join_cookies(headers: &mut HeaderMap) {
    let mut lines = headers.get_all(header::COOKIE).iter();
    let (Some(first), Some(second)) = (lines.next(), lines.next()) else {
        return;
    };
    let mut whole = first.as_bytes().to_vec();
    for line in std::iter::once(second).chain(lines) {
        whole.extend_from_slice(b"; ");
        whole.extend_from_slice(line.as_bytes());
    }
    // Parts of header lines, put together with `; `, are a header line.
    if let Ok(whole) = HeaderValue::from_bytes(&whole) {
        headers.insert(header::COOKIE, whole);
    }
}

/// About how many bytes these lines are on the wire.
pub(super) fn weight(headers: &HeaderMap) -> u64 {
    headers
        .iter()
        .map(|(name, value)| (name.as_str().len() + value.len() + 4) as u64)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let line = |(name, value): &(&'static str, &'static str)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        };
        lines.iter().map(line).collect()
    }

    fn check(mut headers: HeaderMap, strip: impl Fn(&mut HeaderMap), expected: &Expect) {
        strip(&mut headers);
        let line = |(name, value): (&HeaderName, &HeaderValue)| {
            format!("{name}: {}\n", value.to_str().unwrap())
        };
        let mut lines: Vec<String> = headers.iter().map(line).collect();
        lines.sort();
        expected.assert_eq(&lines.concat());
    }

    #[test]
    fn requests() {
        let lines = [
            ("host", "a"),
            ("connection", "keep-alive, X-Mine"),
            ("x-mine", "1"),
            ("x-other", "2"),
            ("te", "trailers, deflate"),
            ("expect", "100-continue"),
            ("proxy-authorization", "Basic YTpi"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABk"),
            ("alt-used", "b"),
        ];
        let expected = expect![[r#"
            host: a
            te: trailers
            x-other: 2
        "#]];
        check(headers(&lines), strip_request, &expected);
    }

    #[test]
    fn responses() {
        let lines = [
            ("connection", "close"),
            ("transfer-encoding", "chunked"),
            ("keep-alive", "timeout=5"),
            ("alt-svc", "h3=\":443\""),
            ("proxy-authenticate", "Basic"),
            ("location", "https://elsewhere.example/"),
            ("set-cookie", "a=b"),
        ];
        let expected = expect![[r#"
            location: https://elsewhere.example/
            set-cookie: a=b
        "#]];
        check(headers(&lines), strip_response, &expected);
    }

    #[test]
    fn trailers_and_cookies() {
        let lines = [
            ("host", "evil.example"),
            ("content-length", "5"),
            ("grpc-status", "0"),
        ];
        check(
            headers(&lines),
            strip_trailers,
            &expect![["grpc-status: 0\n"]],
        );
        let lines = [("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")];
        check(
            headers(&lines),
            join_cookies,
            &expect![["cookie: a=1; b=2; c=3\n"]],
        );
    }
}
