//! Honest requests pass, both ways and whole.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;

use super::support::client::Client;
use super::support::world::{Plan, until};
use super::support::{raw, web};

const API: &str = "api.example.com";

/// A server in TLS, and a gate that looks into the TLS to it.
fn terminated(server: &web::Server) -> super::support::world::World {
    Plan::default()
        .allow_methods(
            &format!("https://{API}:{}", server.port),
            &["GET", "POST", "HEAD"],
        )
        .host(API)
        .root(server.root.clone())
        .open()
}

#[test]
fn a_request_passes_tls_that_is_looked_into() {
    let server = web::Server::ok(&[API]);
    let world = terminated(&server);
    let mut client = Client::tls(&world, API, server.port);
    let host = format!("{API}:{}", server.port);
    let answer = client.ask(format!("GET /a?b=c HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok"));
    let seen = server.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].path, "/a?b=c");
    assert_eq!(seen[0].authority, host);
    assert_eq!(seen[0].version, "HTTP/1.1");
    let attempts = world.attempts();
    assert!(
        attempts
            .iter()
            .any(|line| line.starts_with("Allow https api.example.com GET /a ")),
        "{attempts:?}"
    );
}
