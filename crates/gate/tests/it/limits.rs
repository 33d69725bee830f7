//! Quotas and bounds of time, before a request and in the middle of it.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use super::support::client::Client;
use super::support::raw::Server;
use super::support::world::{Plan, until};

const API: &str = "api.example.com";

fn plan(port: u16) -> Plan {
    Plan::default()
        .allow(&format!("http://{API}:{port}"))
        .host(API)
}

#[test]
fn requests_are_counted() {
    let server = Server::ok();
    let world = plan(server.port)
        .with(|rules| rules.quota.requests = Some(2))
        .open();
    let request = format!("GET / HTTP/1.1\r\nHost: {API}:{}\r\n\r\n", server.port);
    let mut client = Client::plain(&world, API, server.port);
    assert_eq!(client.ask(&request).status, 200);
    assert_eq!(client.ask(&request).status, 200);
    let refused = client.ask(&request);
    assert_eq!(
        (refused.status, refused.member("e").as_str()),
        (429, "egress.quota")
    );
    assert_eq!(server.seen().len(), 2);
    // More is granted while the run goes on.
    world.replace(|rules| rules.quota.requests = Some(3));
    assert_eq!(
        Client::plain(&world, API, server.port).ask(&request).status,
        200
    );
}

#[test]
fn an_upload_is_cut_when_its_quota_is_used_up() {
    let server = Server::ok();
    let world = plan(server.port)
        .with(|rules| rules.quota.up_bytes = Some(100_000))
        .open();
    let mut client = Client::plain(&world, API, server.port);
    let body = "x".repeat(1 << 20);
    let answer = client.ask(format!(
        "POST / HTTP/1.1\r\nHost: {API}:{}\r\nContent-Length: {}\r\n\r\n{body}",
        server.port,
        body.len()
    ));
    assert_eq!(
        (answer.status, answer.member("e").as_str()),
        (429, "egress.quota")
    );
    assert_eq!(server.seen(), []);
    assert!(world.counts().up_bytes <= 100_000);
    until("the end is on record", || world.has_ended("quota"));
}

#[test]
fn a_head_is_counted_like_a_body() {
    let server = Server::ok();
    let world = plan(server.port)
        .with(|rules| rules.quota.up_bytes = Some(1000))
        .open();
    let mut client = Client::plain(&world, API, server.port);
    let secret = "x".repeat(4000);
    let answer = client.ask(format!(
        "GET /{secret} HTTP/1.1\r\nHost: {API}:{}\r\n\r\n",
        server.port
    ));
    assert_eq!(answer.status, 429);
    assert_eq!(server.seen(), []);
}

#[test]
fn a_download_is_cut_when_its_quota_is_used_up() {
    let server = Server::start(|_| {
        let mut answer = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n".to_vec();
        answer.resize(answer.len() + 1_000_000, b'x');
        answer
    });
    let world = plan(server.port)
        .with(|rules| rules.quota.down_bytes = Some(100_000))
        .open();
    let mut client = Client::plain(&world, API, server.port);
    client.say(format!(
        "GET / HTTP/1.1\r\nHost: {API}:{}\r\n\r\n",
        server.port
    ));
    let rest = client.rest();
    assert!(rest.len() < 110_000, "{}", rest.len());
    assert!(world.counts().down_bytes <= 100_000);
    until("the end is on record", || world.has_ended("quota"));
}

/// Sends the head of an answer and then a little of its body now and again.
fn dripping(every: Duration) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().take(8) {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let mut head = [0; 4096];
                if stream.read(&mut head).unwrap_or(0) == 0 {
                    return;
                }
                let mut said =
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\nx");
                while said.is_ok() {
                    thread::sleep(every);
                    said = stream.write_all(b"x");
                }
            });
        }
    });
    port
}

#[test]
fn a_rule_that_goes_cuts_what_it_let_through() {
    let port = dripping(Duration::from_millis(20));
    let world = plan(port).open();
    let mut client = Client::plain(&world, API, port);
    client.say(format!("GET / HTTP/1.1\r\nHost: {API}:{port}\r\n\r\n"));
    client.bytes(60);
    let begun = Instant::now();
    world.replace(|rules| rules.rules.clear());
    client.rest();
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );
    until("the end is on record", || world.has_ended("rules changed"));
    let mut client = Client::proxy(&world);
    let refused = client.ask(format!(
        "GET http://{API}:{port}/ HTTP/1.1\r\nHost: {API}:{port}\r\n\r\n"
    ));
    assert_eq!(
        (refused.status, refused.member("e").as_str()),
        (403, "egress.host_denied")
    );
}

#[test]
fn a_side_that_says_nothing_is_not_waited_for() {
    let port = dripping(Duration::from_secs(30));
    let world = plan(port)
        .with(|rules| rules.quota.idle_seconds = Some(1))
        .open();
    let mut client = Client::plain(&world, API, port);
    client.say(format!("GET / HTTP/1.1\r\nHost: {API}:{port}\r\n\r\n"));
    let begun = Instant::now();
    client.rest();
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    until("the end is on record", || world.has_ended("idle"));
}

#[test]
fn a_body_that_comes_by_drops_is_not_waited_for() {
    let server = Server::ok();
    let world = plan(server.port)
        .with(|rules| rules.quota.idle_seconds = Some(1))
        .open();
    let mut client = Client::plain(&world, API, server.port);
    client.say(format!(
        "POST / HTTP/1.1\r\nHost: {API}:{}\r\nContent-Length: 100000\r\n\r\n",
        server.port
    ));
    client.patience(Duration::from_millis(200));
    let begun = Instant::now();
    // A byte now and again is something, but it is not an upload.
    while world.ends().is_empty() && begun.elapsed() < Duration::from_secs(8) {
        client.say("x");
        thread::sleep(Duration::from_millis(100));
    }
    assert!(
        begun.elapsed() < Duration::from_secs(6),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(server.seen(), []);
}

#[test]
fn a_server_that_does_not_answer_is_not_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let world = plan(port)
        .with(|rules| rules.quota.idle_seconds = Some(1))
        .open();
    let mut client = Client::plain(&world, API, port);
    let answer = client.ask(format!("GET / HTTP/1.1\r\nHost: {API}:{port}\r\n\r\n"));
    assert!(matches!(answer.status, 502 | 504), "{answer:?}");
    assert_eq!(
        answer.member("detail"),
        format!("`{API}` did not answer in time")
    );
    drop(listener);
}
