//! A placeholder becomes a value on the last hop, for its host alone; a value that comes back is masked.

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::thread;

use belljar_gate::secret::{Binding, Place, Secret, Value};
use belljar_ledger::Event;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;

use super::support::client::Client;
use super::support::web;
use super::support::world::{Plan, Shared, World, until};

const API: &str = "api.example.com";
const OTHER: &str = "other.example.com";
const VALUE: &str = "sk-live-0123456789abcdef";

fn secret(port: u16) -> Secret {
    let places = vec![
        Place::header("Authorization", Some("Bearer {}")).unwrap(),
        Place::query("key").unwrap(),
        Place::json("/auth/token").unwrap(),
    ];
    let host = format!("{API}:{port}").parse().unwrap();
    let binding = Binding::new(vec![host], &[], places).unwrap();
    Secret::new(
        "api-key".parse().unwrap(),
        binding,
        Value::copy(VALUE.as_bytes()).unwrap(),
    )
    .unwrap()
}

/// Says what it was told, in the ways in which an answer can.
fn echo(seen: &web::Seen) -> Response<Full<Bytes>> {
    let authorization = seen.headers.get("authorization").cloned();
    let mut said = seen.path.clone();
    if let Some(authorization) = &authorization {
        said.push_str(authorization.to_str().unwrap());
    }
    let mut body = said.into_bytes();
    body.extend_from_slice(&seen.body);
    let mut answer = Response::builder().status(if seen.path.contains("error") {
        500
    } else {
        200
    });
    if let Some(authorization) = authorization {
        answer = answer.header("x-echo", authorization);
    }
    answer.body(Full::from(body)).unwrap()
}

struct Stage {
    world: World,
    server: web::Server,
    placeholder: String,
}

impl Stage {
    fn new() -> Self {
        let server = web::Server::start(&[API, OTHER], &["h2", "http/1.1"], echo);
        let port = server.port;
        let secret = secret(port);
        let placeholder = secret.placeholder().to_owned();
        let world = Plan::default()
            .allow(&format!("https://{API}:{port}"))
            .allow(&format!("https://{OTHER}:{port}"))
            .host(API)
            .host(OTHER)
            .root(server.root.clone())
            .secret(secret)
            .open();
        Self {
            world,
            server,
            placeholder,
        }
    }

    /// Asks a host; status, head and body of the answer.
    fn ask(&self, host: &str, request: &str) -> (u16, String) {
        let port = self.server.port;
        let request = request.replace("HOST", &format!("{host}:{port}"));
        let request = request.replace("PLACEHOLDER", &self.placeholder);
        let answer = Client::tls(&self.world, host, port).ask(request);
        assert!(
            !answer.head.contains(VALUE) && !answer.body.contains(VALUE),
            "{answer:?}"
        );
        (answer.status, answer.head + &answer.body)
    }

    fn misused(&self) -> usize {
        let misused = |event: &&Event| matches!(event, Event::SecretMisused { .. });
        self.world.events().iter().filter(misused).count()
    }
}

#[test]
fn a_placeholder_becomes_the_value_for_its_host() {
    let stage = Stage::new();
    let (status, said) = stage.ask(
        API,
        "GET /a HTTP/1.1\r\nHost: HOST\r\nAuthorization: Bearer PLACEHOLDER\r\n\r\n",
    );
    assert_eq!(status, 200);
    assert!(said.contains("****"), "{said}");
    let seen = stage.server.seen();
    assert_eq!(seen[0].headers["authorization"], format!("Bearer {VALUE}"));
    assert_eq!(seen[0].headers["accept-encoding"], "identity");
    stage.ask(API, "GET /q?key=PLACEHOLDER HTTP/1.1\r\nHost: HOST\r\n\r\n");
    assert_eq!(stage.server.seen()[1].path, format!("/q?key={VALUE}"));
    let body = format!("{{\"auth\":{{\"token\":\"{}\"}}}}", stage.placeholder);
    let (status, _) = stage.ask(API, &format!("POST /j HTTP/1.1\r\nHost: HOST\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    assert_eq!(status, 200);
    assert_eq!(
        stage.server.seen()[2].body,
        format!("{{\"auth\":{{\"token\":\"{VALUE}\"}}}}")
    );
    let carries = |event: &&Event| {
        let Event::NetworkAsked(asked) = event else {
            return false;
        };
        asked
            .secrets
            .iter()
            .any(|name| name.to_string() == "api-key")
    };
    let named = stage.world.events().iter().filter(carries).count();
    assert_eq!(named, 3);
    assert_eq!(stage.misused(), 0);
    let record = serde_json::to_string(&stage.world.events()).unwrap();
    assert!(!record.contains(VALUE));
}

#[test]
fn a_placeholder_on_its_way_to_a_stranger_is_an_incident() {
    let stage = Stage::new();
    let long = "x".repeat(100_000);
    let requests = [
        "GET / HTTP/1.1\r\nHost: HOST\r\nAuthorization: Bearer PLACEHOLDER\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: HOST\r\naUTHORIZATION: PLACEHOLDER\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: HOST\r\nX-Whatever: a PLACEHOLDER b\r\n\r\n".to_owned(),
        "GET /PLACEHOLDER HTTP/1.1\r\nHost: HOST\r\n\r\n".to_owned(),
        "GET /?q=PLACEHOLDER HTTP/1.1\r\nHost: HOST\r\n\r\n".to_owned(),
        format!(
            "POST / HTTP/1.1\r\nHost: HOST\r\nContent-Length: {}\r\n\r\n{long}PLACEHOLDER",
            long.len() + stage.placeholder.len()
        ),
    ];
    for (count, request) in (1..).zip(&requests) {
        let (status, said) = stage.ask(OTHER, request);
        assert_eq!(status, 403, "{said}");
        assert!(said.contains("egress.secret_scope"), "{said}");
        assert_eq!(stage.misused(), count, "{count}");
    }
    // Some of the last one was sent before the placeholder was seen; a whole request never was.
    assert_eq!(
        stage
            .server
            .seen()
            .iter()
            .filter(|seen| !seen.body.starts_with(b"xx"))
            .count(),
        0
    );
    // At its own host, in the wrong place.
    let (status, _) = stage.ask(
        API,
        "GET / HTTP/1.1\r\nHost: HOST\r\nX-Whatever: PLACEHOLDER\r\n\r\n",
    );
    assert_eq!(status, 403);
}

#[test]
fn a_value_that_comes_back_is_masked() {
    let stage = Stage::new();
    // By an error page, by a header, split between pieces of a body.
    let (status, said) = stage.ask(
        API,
        "GET /error HTTP/1.1\r\nHost: HOST\r\nAuthorization: Bearer PLACEHOLDER\r\n\r\n",
    );
    assert_eq!(status, 500);
    assert!(said.contains("x-echo: Bearer ****"), "{said}");
    let request = Request::get(format!("https://{API}:{}/h2", stage.server.port));
    let request = request.header("authorization", format!("Bearer {}", stage.placeholder));
    let mut client = web::Client::http2(&stage.world, API, stage.server.port);
    let (status, headers, body) = client.ask(request.body(Full::default()).unwrap()).unwrap();
    assert_eq!(status, 200);
    assert!(headers["x-echo"].to_str().unwrap().contains("****"));
    assert!(!String::from_utf8_lossy(&body).contains(VALUE));
    let seen = stage.server.seen();
    assert_eq!(
        seen.last().unwrap().headers["authorization"],
        format!("Bearer {VALUE}")
    );
}

#[test]
fn an_answer_that_cannot_be_looked_through_is_refused() {
    let server = web::Server::start(&[API], &["http/1.1"], |_| {
        let squeezed = Response::builder().header("content-encoding", "gzip");
        squeezed.body(Full::from("not really")).unwrap()
    });
    let port = server.port;
    let secret = secret(port);
    let placeholder = secret.placeholder().to_owned();
    let world = Plan::default()
        .allow(&format!("https://{API}:{port}"))
        .host(API)
        .root(server.root.clone())
        .secret(secret)
        .open();
    let mut client = Client::tls(&world, API, port);
    let answer = client.ask(format!("GET / HTTP/1.1\r\nHost: {API}:{port}\r\nAccept-Encoding: gzip\r\nAuthorization: Bearer {placeholder}\r\n\r\n"));
    assert_eq!(
        (answer.status, answer.member("e").as_str()),
        (403, "egress.secret_scope")
    );
    assert_eq!(server.seen()[0].headers["accept-encoding"], "identity");
}

#[test]
fn a_placeholder_in_a_websocket_is_an_incident() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard: Shared<Vec<u8>> = Arc::default();
    let shared = Arc::clone(&heard);
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut piece = [0; 4096];
        let count = stream.read(&mut piece).unwrap();
        shared.lock().unwrap().extend_from_slice(&piece[..count]);
        let agreed =
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
        stream.write_all(agreed.as_bytes()).unwrap();
        while let Ok(count @ 1..) = stream.read(&mut piece) {
            shared.lock().unwrap().extend_from_slice(&piece[..count]);
        }
    });
    let secret = secret(443);
    let placeholder = secret.placeholder().to_owned();
    let world = Plan::default()
        .allow(&format!("http://{OTHER}:{port}"))
        .allow(&format!("ws://{OTHER}:{port}"))
        .host(OTHER)
        .secret(secret)
        .open();
    let mut client = Client::plain(&world, OTHER, port);
    let answer = client.ask(format!(
        "GET / HTTP/1.1\r\nHost: {OTHER}:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ));
    assert_eq!(answer.status, 101);
    let key = [7, 8, 9, 10];
    let length = 0x80 | u8::try_from(placeholder.len()).unwrap();
    let mut frame = [&[0x81, length][..], &key].concat();
    frame.extend(
        placeholder
            .bytes()
            .zip(key.iter().cycle())
            .map(|(a, b)| a ^ b),
    );
    client.say(&frame);
    assert_eq!(client.rest(), b"");
    let misused = |event: &Event| matches!(event, Event::SecretMisused { .. });
    until("the incident is on record", || {
        world.events().iter().any(misused)
    });
    let heard = String::from_utf8_lossy(&heard.lock().unwrap()).into_owned();
    assert!(
        heard.contains("GET / HTTP/1.1") && heard.ends_with("\r\n\r\n"),
        "{heard}"
    );
    assert!(
        !heard.to_ascii_lowercase().contains("extensions"),
        "{heard}"
    );
}
