//! A connection that is allowed, and a request inside of it for somebody else.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;

use super::support::client::Client;
use super::support::world::Plan;
use super::support::{raw, web};

const API: &str = "api.example.com";
const OTHER: &str = "other.example.com";

#[test]
fn the_host_of_a_request_is_the_host_of_its_connection() {
    let server = web::Server::ok(&[API, OTHER]);
    let port = server.port;
    // Both are allowed: the one is still not the other.
    let world = Plan::default()
        .allow_methods(&format!("https://{API}:{port}"), &["GET"])
        .allow_methods(&format!("https://{OTHER}:{port}"), &["GET"])
        .host(API)
        .host(OTHER)
        .root(server.root.clone())
        .open();
    let ask = |line: &str, host: &str| {
        let mut client = Client::tls(&world, API, port);
        let answer = client.ask(format!("{line}\r\nHost: {host}\r\n\r\n"));
        let code = if answer.status == 200 {
            String::new()
        } else {
            answer.member("e")
        };
        (answer.status, code)
    };
    let fronted = (403, "egress.sni_mismatch".to_owned());
    let passes = (200, String::new());
    for host in [
        OTHER,
        API,
        "api.example.com:80",
        "api.example.com.evil.example",
        "127.0.0.1",
    ] {
        assert_eq!(ask("GET / HTTP/1.1", host), fronted, "{host}");
    }
    let with_port = |host: &str| format!("{host}:{port}");
    assert_eq!(ask("GET / HTTP/1.1", &with_port(OTHER)), fronted);
    // The absolute form is no other word for the same line, it is checked as well.
    let line = format!("GET https://{OTHER}:{port}/ HTTP/1.1");
    assert_eq!(ask(&line, &with_port(API)), fronted);
    assert_eq!(ask(&line, &with_port(OTHER)), fronted);
    assert_eq!(
        ask(
            &format!("GET http://{API}:{port}/ HTTP/1.1"),
            &with_port(API)
        ),
        fronted
    );
    for host in [API, "API.Example.COM", "api.example.com."] {
        assert_eq!(ask("GET / HTTP/1.1", &with_port(host)), passes, "{host}");
    }
    assert_eq!(
        ask(
            &format!("GET https://{API}:{port}/ HTTP/1.1"),
            &with_port(API)
        ),
        passes
    );
    assert!(
        server
            .seen()
            .iter()
            .all(|seen| seen.authority == with_port(API))
    );
    assert_eq!(server.seen().len(), 4);
    let denied = world
        .attempts()
        .into_iter()
        .filter(|line| line.starts_with("Deny"));
    assert!(denied.count() >= 1);
}

#[test]
fn every_stream_of_http2_is_for_the_host_of_its_connection() {
    let server = web::Server::ok(&[API, OTHER]);
    let port = server.port;
    let world = Plan::default()
        .allow_methods(&format!("https://{API}:{port}"), &["GET"])
        .allow_methods(&format!("https://{OTHER}:{port}"), &["GET"])
        .host(API)
        .host(OTHER)
        .root(server.root.clone())
        .open();
    let mut client = web::Client::http2(&world, API, port);
    let get = |uri: String, host: Option<&str>| {
        let mut request = Request::get(uri);
        if let Some(host) = host {
            request = request.header("host", host);
        }
        request.body(Full::<Bytes>::default()).unwrap()
    };
    let same = || get(format!("https://{API}:{port}/"), None);
    assert_eq!(client.ask(same()).unwrap().0, 200);
    let (status, headers, body) = client
        .ask(get(format!("https://{OTHER}:{port}/"), None))
        .unwrap();
    assert_eq!(status, 403);
    assert_eq!(headers["content-type"], "application/problem+json");
    assert!(String::from_utf8_lossy(&body).contains("egress.sni_mismatch"));
    // A host line beside the authority counts as much.
    let beside = get(format!("https://{API}:{port}/"), Some(OTHER));
    assert_eq!(client.ask(beside).unwrap().0, 403);
    assert_eq!(
        client
            .ask(get(format!("http://{API}:{port}/"), None))
            .unwrap()
            .0,
        403
    );
    // The connection is as good as before.
    assert_eq!(client.ask(same()).unwrap().0, 200);
    assert_eq!(server.seen().len(), 2);
    assert!(
        server
            .seen()
            .iter()
            .all(|seen| seen.authority == format!("{API}:{port}"))
    );
}

#[test]
fn connections_are_never_shared_between_names() {
    let server = web::Server::ok(&[API, OTHER]);
    let port = server.port;
    let world = Plan::default()
        .allow_methods(&format!("https://{API}:{port}"), &["GET"])
        .allow_methods(&format!("https://{OTHER}:{port}"), &["GET"])
        .host(API)
        .host(OTHER)
        .root(server.root.clone())
        .open();
    for host in [API, OTHER] {
        let mut client = web::Client::http2(&world, host, port);
        let request = Request::get(format!("https://{host}:{port}/"));
        let request = request.body(Full::<Bytes>::default()).unwrap();
        assert_eq!(client.ask(request).unwrap().0, 200);
        let mut client = Client::tls(&world, host, port);
        assert_eq!(
            client
                .ask(format!("GET / HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n"))
                .status,
            200
        );
    }
    let seen = server.seen();
    let of = |host: &str| {
        let host = format!("{host}:{port}");
        let of = seen.iter().filter(move |seen| seen.authority == host);
        of.map(|seen| seen.connection).collect::<Vec<_>>()
    };
    assert!(
        of(API)
            .iter()
            .all(|connection| !of(OTHER).contains(connection)),
        "{seen:?}"
    );
}

#[test]
fn a_server_behind_the_first_is_not_told_another_method_or_path() {
    let server = raw::Server::ok();
    let port = server.port;
    let rule = format!("http://{API}:{port}/v1");
    let world = Plan::default()
        .allow_methods(&rule, &["GET"])
        .host(API)
        .open();
    let ask = |path: &str, more: &str| {
        let mut client = Client::plain(&world, API, port);
        client
            .ask(format!(
                "GET {path} HTTP/1.1\r\nHost: {API}:{port}\r\n{more}\r\n"
            ))
            .status
    };
    assert_eq!(ask("/v1/x", ""), 200);
    assert_eq!(ask("/v1/x", "X-HTTP-Method-Override: GET\r\n"), 200);
    assert_eq!(ask("/v1/x", "X-HTTP-Method-Override: DELETE\r\n"), 403);
    assert_eq!(ask("/v1/x", "X-Original-URL: /admin\r\n"), 400);
    for path in [
        "/",
        "/v2",
        "/v1x",
        "/v1/../admin",
        "/v1/%2e%2e/admin",
        "/v1/..%2fadmin",
        "/v1//x",
        "/v1/%2F..%2f",
    ] {
        assert_eq!(ask(path, ""), 403, "{path}");
    }
    assert_eq!(server.seen().len(), 2);
}
