//! What can be read in two ways goes nowhere; what passes is written anew, in one way.

use std::time::Duration;

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::support::client::Client;
use super::support::raw::{self, Server};
use super::support::world::{Plan, World, until};

const API: &str = "api.example.com";

fn plain(server: &Server) -> World {
    let rule = format!("http://{API}:{}", server.port);
    Plan::default()
        .allow(&rule)
        .host(API)
        .with(|rules| rules.quota.per_second = Some(1_000_000))
        .open()
}

/// Says each of these to a host in the clear; one line for what came back, and what reached the server.
fn check(cases: &[(&str, &str)], expected: &Expect) {
    let mut lines = String::new();
    for (name, request) in cases {
        let server = Server::ok();
        let world = plain(&server);
        let request = request.replace("HOST", &format!("{API}:{}", server.port));
        let mut client = Client::plain(&world, API, server.port);
        client.say(&request);
        let answer = client.hear();
        let said = match &answer {
            None => "closed".to_owned(),
            Some(answer) if answer.body.starts_with('{') => {
                assert!(answer.body.len() <= 512);
                format!(
                    "{} {}: {}",
                    answer.status,
                    answer.member("e"),
                    answer.member("detail")
                )
            }
            Some(answer) => answer.status.to_string(),
        };
        let seen = server.seen();
        let upstream: Vec<&str> = seen.iter().map(|seen| seen.line.as_str()).collect();
        assert_eq!(server.odd(), [""; 0], "{name}");
        let host = format!("{API}:{}", server.port);
        assert!(
            seen.iter().all(|seen| seen.all("host") == [host.as_str()]),
            "{name}"
        );
        lines.push_str(&format!("{name} → {said}"));
        if !upstream.is_empty() {
            lines.push_str(&format!(" | {}", upstream.join(" + ")));
        }
        lines.push('\n');
        if seen.is_empty() {
            // What went nowhere is on record all the same.
            until(name, || on_record(&world));
        }
    }
    expected.assert_eq(&lines);
}

/// Whether something was denied, or broke off in the middle of its body.
fn on_record(world: &World) -> bool {
    let denied = |line: &String| line.starts_with("Deny");
    world.attempts().iter().any(denied) || world.has_ended("body broken")
}

const LENGTHS: &[(&str, &str)] = &[
    (
        "length and coding",
        "POST / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
    ),
    (
        "coding and length",
        "POST / HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\nG",
    ),
    (
        "two lengths",
        "POST / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
    ),
    (
        "the same twice",
        "POST / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nab",
    ),
    (
        "a list of lengths",
        "POST / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 2, 2\r\n\r\nab",
    ),
    (
        "a signed length",
        "POST / HTTP/1.1\r\nHost: HOST\r\nContent-Length: +2\r\n\r\nab",
    ),
    (
        "a negative length",
        "POST / HTTP/1.1\r\nHost: HOST\r\nContent-Length: -2\r\n\r\nab",
    ),
    (
        "a length in hexadecimal",
        "POST / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 0x2\r\n\r\nab",
    ),
    (
        "a length beyond counting",
        "POST / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 99999999999999999999\r\n\r\nab",
    ),
    (
        "an empty length",
        "POST / HTTP/1.1\r\nHost: HOST\r\nContent-Length: \r\n\r\n",
    ),
];

#[test]
fn lengths() {
    check(
        LENGTHS,
        &expect![[r#"
            length and coding → 200 | POST / HTTP/1.1
            coding and length → 200 | POST / HTTP/1.1
            two lengths → 400
            the same twice → 200 | POST / HTTP/1.1
            a list of lengths → 400
            a signed length → 400
            a negative length → 400
            a length in hexadecimal → 400
            a length beyond counting → 400
            an empty length → 400
        "#]],
    );
}

const CODINGS: &[(&str, &str)] = &[
    (
        "gzip",
        "POST / HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: gzip\r\n\r\n",
    ),
    (
        "gzip, chunked",
        "POST / HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked, gzip",
        "POST / HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked twice",
        "POST / HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked and identity",
        "POST / HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "xchunked",
        "POST / HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked in 1.0",
        "POST / HTTP/1.0\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "in capitals",
        "POST / HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: CHUNKED\r\n\r\n0\r\n\r\n",
    ),
    (
        "space before the colon",
        "POST / HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "a folded line",
        "POST / HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "a vertical tab",
        "POST / HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "an extension of a chunk",
        "POST / HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n2;a=\"b\"\r\nab\r\n0\r\n\r\n",
    ),
    (
        "a chunk of no size",
        "POST / HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n\r\nab\r\n0\r\n\r\n",
    ),
    (
        "a chunk of huge size",
        "POST / HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nab\r\n0\r\n\r\n",
    ),
    (
        "a chunk longer than it says",
        "POST / HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
    ),
];

#[test]
fn codings() {
    check(
        CODINGS,
        &expect![[r#"
            gzip → 400
            gzip, chunked → 400 egress.proto_denied: a transfer coding other than chunked
            chunked, gzip → 400
            chunked twice → 400 egress.proto_denied: more than one line says how long the body is
            chunked and identity → 400 egress.proto_denied: more than one line says how long the body is
            xchunked → 400
            chunked in 1.0 → 400
            in capitals → 200 | POST / HTTP/1.1
            space before the colon → 400
            a folded line → 400
            a vertical tab → 400
            an extension of a chunk → 200 | POST / HTTP/1.1
            a chunk of no size → 400 egress.proto_denied: the body is not well-formed, or not whole
            a chunk of huge size → 400 egress.proto_denied: the body is not well-formed, or not whole
            a chunk longer than it says → 400 egress.proto_denied: the body is not well-formed, or not whole
        "#]],
    );
}

const HOSTS: &[(&str, &str)] = &[
    ("none", "GET / HTTP/1.1\r\n\r\n"),
    ("empty", "GET / HTTP/1.1\r\nHost:\r\n\r\n"),
    ("two", "GET / HTTP/1.1\r\nHost: HOST\r\nHost: HOST\r\n\r\n"),
    (
        "another second",
        "GET / HTTP/1.1\r\nHost: HOST\r\nHost: evil.example\r\n\r\n",
    ),
    ("a user", "GET / HTTP/1.1\r\nHost: a@HOST\r\n\r\n"),
    (
        "a user in the line",
        "GET http://a:b@HOST/ HTTP/1.1\r\nHost: HOST\r\n\r\n",
    ),
    ("a path", "GET / HTTP/1.1\r\nHost: HOST/x\r\n\r\n"),
    (
        "a list",
        "GET / HTTP/1.1\r\nHost: HOST, evil.example\r\n\r\n",
    ),
    (
        "a space",
        "GET / HTTP/1.1\r\nHost: HOST evil.example\r\n\r\n",
    ),
    (
        "a folded second",
        "GET / HTTP/1.1\r\nHost: HOST\r\n evil.example\r\n\r\n",
    ),
    (
        "space before the name",
        "GET / HTTP/1.1\r\n Host: HOST\r\n\r\n",
    ),
    (
        "space before the colon",
        "GET / HTTP/1.1\r\nHost : HOST\r\n\r\n",
    ),
    (
        "named by Connection",
        "GET / HTTP/1.1\r\nHost: HOST\r\nConnection: close, Host\r\n\r\n",
    ),
    (
        "a length named by Connection",
        "POST / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 2\r\nConnection: Content-Length\r\n\r\nab",
    ),
    (
        "no name in Connection",
        "GET / HTTP/1.1\r\nHost: HOST\r\nConnection: a b\r\n\r\n",
    ),
    (
        "absolute and the same",
        "GET http://HOST/ HTTP/1.1\r\nHost: HOST\r\n\r\n",
    ),
    (
        "absolute and another",
        "GET http://evil.example/ HTTP/1.1\r\nHost: HOST\r\n\r\n",
    ),
    (
        "absolute and another line",
        "GET http://HOST/ HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    ),
    (
        "absolute without a line",
        "GET http://HOST/ HTTP/1.1\r\n\r\n",
    ),
    ("1.0 without a line", "GET / HTTP/1.0\r\n\r\n"),
];

#[test]
fn hosts() {
    check(
        HOSTS,
        &expect![[r#"
            none → 400 egress.proto_denied: no host is named
            empty → 400 egress.proto_denied: the host is not a host and a port
            two → 400 egress.proto_denied: more than one Host line
            another second → 400 egress.proto_denied: more than one Host line
            a user → 400 egress.proto_denied: the host is not a host and a port
            a user in the line → 400 egress.proto_denied: the host is not a host and a port
            a path → 400 egress.proto_denied: the host is not a host and a port
            a list → 400 egress.proto_denied: the host is not a host and a port
            a space → 400 egress.proto_denied: the host is not a host and a port
            a folded second → 400
            space before the name → 400
            space before the colon → 400
            named by Connection → 400 egress.proto_denied: the Connection line names a part of the request
            a length named by Connection → 400 egress.proto_denied: the Connection line names a part of the request
            no name in Connection → 400 egress.proto_denied: the Connection line does not hold names
            absolute and the same → 200 | GET / HTTP/1.1
            absolute and another → 403 egress.sni_mismatch: the request names another host
            absolute and another line → 403 egress.sni_mismatch: the request names another host
            absolute without a line → 400 egress.proto_denied: no Host line
            1.0 without a line → 400 egress.proto_denied: no host is named
        "#]],
    );
}

const LINES: &[(&str, &str)] = &[
    ("CONNECT", "CONNECT HOST HTTP/1.1\r\nHost: HOST\r\n\r\n"),
    ("TRACE", "TRACE / HTTP/1.1\r\nHost: HOST\r\n\r\n"),
    ("lower case", "get / HTTP/1.1\r\nHost: HOST\r\n\r\n"),
    (
        "a long method",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA / HTTP/1.1\r\nHost: HOST\r\n\r\n",
    ),
    ("no method", " / HTTP/1.1\r\nHost: HOST\r\n\r\n"),
    ("the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ("an asterisk", "OPTIONS * HTTP/1.1\r\nHost: HOST\r\n\r\n"),
    ("no slash", "GET x HTTP/1.1\r\nHost: HOST\r\n\r\n"),
    ("two spaces", "GET /  HTTP/1.1\r\nHost: HOST\r\n\r\n"),
    ("HTTP/1.2", "GET / HTTP/1.2\r\nHost: HOST\r\n\r\n"),
    ("HTTP/2.0", "GET / HTTP/2.0\r\nHost: HOST\r\n\r\n"),
    ("no version", "GET /\r\nHost: HOST\r\n\r\n"),
    ("a tab", "GET\t/ HTTP/1.1\r\nHost: HOST\r\n\r\n"),
    (
        "a control character",
        "GET /\x01 HTTP/1.1\r\nHost: HOST\r\n\r\n",
    ),
    ("a fragment", "GET /a#b HTTP/1.1\r\nHost: HOST\r\n\r\n"),
    ("bare line feeds", "GET / HTTP/1.1\nHost: HOST\n\n"),
    ("bare carriage returns", "GET / HTTP/1.1\rHost: HOST\r\r"),
    (
        "an empty line before",
        "\r\nGET / HTTP/1.1\r\nHost: HOST\r\n\r\n",
    ),
    (
        "a NUL in a value",
        "GET / HTTP/1.1\r\nHost: HOST\r\nX: a\x00b\r\n\r\n",
    ),
    (
        "a carriage return in a value",
        "GET / HTTP/1.1\r\nHost: HOST\r\nX: a\rb\r\n\r\n",
    ),
    (
        "a name that is none",
        "GET / HTTP/1.1\r\nHost: HOST\r\nX(: a\r\n\r\n",
    ),
    (
        "an upgrade to HTTP/2",
        "GET / HTTP/1.1\r\nHost: HOST\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
    ),
    (
        "an upgrade to UDP",
        "GET /.well-known/masque/udp/1.1.1.1/53/ HTTP/1.1\r\nHost: HOST\r\nConnection: Upgrade\r\nUpgrade: connect-udp\r\n\r\n",
    ),
    (
        "an upgrade to two",
        "GET / HTTP/1.1\r\nHost: HOST\r\nConnection: Upgrade\r\nUpgrade: websocket, h2c\r\n\r\n",
    ),
    (
        "half a WebSocket",
        "GET / HTTP/1.1\r\nHost: HOST\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    ),
    (
        "a WebSocket that no rule allows",
        "GET / HTTP/1.1\r\nHost: HOST\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    ),
    (
        "another expectation",
        "POST / HTTP/1.1\r\nHost: HOST\r\nExpect: 200-ok\r\nContent-Length: 2\r\n\r\nab",
    ),
];

#[test]
fn lines() {
    check(
        LINES,
        &expect![[r#"
            CONNECT → 403 egress.method_denied: a tunnel inside of a connection
            TRACE → 403 egress.method_denied: the method reflects header lines
            lower case → closed
            a long method → closed
            no method → closed
            the preface of HTTP/2 → closed
            an asterisk → 400 egress.proto_denied: the path does not begin at the root
            no slash → 403 egress.sni_mismatch: the request names another host
            two spaces → 400
            HTTP/1.2 → 400
            HTTP/2.0 → 400
            no version → 400
            a tab → closed
            a control character → 400
            a fragment → 200 | GET /a HTTP/1.1
            bare line feeds → 200 | GET / HTTP/1.1
            bare carriage returns → 400
            an empty line before → closed
            a NUL in a value → 400
            a carriage return in a value → 400
            a name that is none → 400
            an upgrade to HTTP/2 → 403 egress.proto_denied: an upgrade to something other than a WebSocket
            an upgrade to UDP → 403 egress.proto_denied: an upgrade to something other than a WebSocket
            an upgrade to two → 403 egress.proto_denied: an upgrade to something other than a WebSocket
            half a WebSocket → 400 egress.proto_denied: the opening of a WebSocket is not whole
            a WebSocket that no rule allows → 403 egress.proto_denied: `api.example.com` is allowed, but not for WebSocket in the clear
            another expectation → 400 egress.proto_denied: an expectation other than 100-continue
        "#]],
    );
}

#[test]
fn a_head_has_bounds() {
    let server = Server::ok();
    let world = plain(&server);
    let ask = |more: String| {
        let mut client = Client::plain(&world, API, server.port);
        client.say(format!(
            "GET / HTTP/1.1\r\nHost: {API}:{}\r\n{more}\r\n",
            server.port
        ));
        client.hear().map(|answer| answer.status)
    };
    assert_eq!(ask(format!("X: {}\r\n", "a".repeat(8 << 10))), Some(200));
    assert_eq!(ask(format!("X: {}\r\n", "a".repeat(80 << 10))), Some(431));
    assert_eq!(ask("X: a\r\n".repeat(100)), Some(200));
    assert_eq!(ask("X: a\r\n".repeat(200)), Some(431));
    assert_eq!(server.seen().len(), 2);
}

/// Pieces that requests are made of, whole and broken.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let text = |text: &'static str| Just(text.as_bytes().to_vec());
    prop_oneof![
        4 => text("GET / HTTP/1.1\r\n"),
        2 => text("POST /a HTTP/1.1\r\n"),
        1 => text("GET http://evil.example/ HTTP/1.1\r\n"),
        4 => text("Host: HOST\r\n"),
        1 => text("Host: evil.example\r\n"),
        1 => text("host:HOST\n"),
        2 => text("Content-Length: 5\r\n"),
        1 => text("Content-Length: 0\r\n"),
        2 => text("Transfer-Encoding: chunked\r\n"),
        1 => text("Transfer-Encoding: gzip, chunked\r\n"),
        1 => text("Connection: keep-alive, Host\r\n"),
        1 => text(" folded\r\n"),
        4 => text("\r\n"),
        1 => text("\n"),
        2 => text("5\r\nhello\r\n"),
        2 => text("0\r\n\r\n"),
        1 => text("0\r\nHost: evil.example\r\n\r\n"),
        2 => text("hello"),
        1 => proptest::collection::vec(any::<u8>(), 0..12),
    ]
}

/// A head that may be right, so that what comes after it is read as well.
fn opening() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(b"GET / HTTP/1.1\r\nHost: HOST\r\n".to_vec()),
        Just(b"POST /b HTTP/1.1\r\nHost: HOST\r\n".to_vec()),
        Just(Vec::new()),
    ]
}

#[test]
fn whatever_is_said_what_arrives_is_well_formed_and_for_the_host() {
    let server = Server::ok();
    let world = plain(&server);
    let host = format!("{API}:{}", server.port);
    let mut passed = 0;
    let said = (opening(), proptest::collection::vec(piece(), 0..14));
    let config = ProptestConfig {
        cases: 256,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    runner
        .run(&said, |(opening, pieces)| {
            let mut bytes = [vec![opening], pieces].concat().concat();
            while let Some(at) = bytes.windows(4).position(|window| window == b"HOST") {
                bytes.splice(at..at + 4, host.bytes());
            }
            let mut client = Client::plain(&world, API, server.port);
            // Whoever still waits for something gets nothing more.
            client
                .patience(Duration::from_millis(25))
                .say(&bytes)
                .rest();
            Ok(())
        })
        .unwrap();
    assert_eq!(server.odd(), [""; 0]);
    for seen in server.seen() {
        passed += 1;
        assert_eq!(seen.all("host"), [host.as_str()], "{seen:?}");
        assert!(seen.all("transfer-encoding").len() + seen.all("content-length").len() <= 1);
        assert!(seen.trailers.iter().all(|(name, _)| name != "host"));
    }
    assert!(passed > 20, "only {passed} requests arrived");
    assert!(matches!(
        raw::read(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        raw::Reading::Whole(..)
    ));
}
