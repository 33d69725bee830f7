//! A WebSocket passes where a rule says so; it is counted, and cut when the rule goes.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::support::client::Client;
use super::support::world::{Plan, Shared, World, until};

const API: &str = "api.example.com";

/// Agrees to any opening, says `hi` at once and then repeats each frame that it hears; keeps the heads it saw.
fn echo() -> (u16, Shared<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let heads: Shared<Vec<String>> = Arc::new(Mutex::new(Vec::new()));
    let shared = Arc::clone(&heads);
    thread::spawn(move || {
        for stream in listener.incoming().take(16) {
            let (mut stream, heads) = (stream.unwrap(), Arc::clone(&shared));
            thread::spawn(move || {
                let (mut head, mut byte) = (Vec::new(), [0]);
                while !head.ends_with(b"\r\n\r\n") {
                    if stream.read(&mut byte).unwrap_or(0) == 0 {
                        return;
                    }
                    head.push(byte[0]);
                }
                heads.lock().unwrap().push(String::from_utf8(head).unwrap());
                let agreed = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
                stream.write_all(agreed.as_bytes()).unwrap();
                stream.write_all(b"\x82\x02hi").unwrap();
                let mut frame = [0; FRAME.len()];
                while stream.read_exact(&mut frame).is_ok() {
                    assert_eq!(frame, FRAME);
                    if stream.write_all(SAID).is_err() {
                        return;
                    }
                }
            });
        }
    });
    (port, heads)
}

fn opening(port: u16) -> String {
    format!(
        "GET /chat HTTP/1.1\r\nHost: {API}:{port}\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

fn open(world: &World, port: u16) -> Client {
    let mut client = Client::plain(world, API, port);
    let answer = client.ask(opening(port));
    assert_eq!(answer.status, 101, "{answer:?}");
    assert_eq!(client.bytes(4), b"\x82\x02hi");
    client
}

fn plan(port: u16) -> Plan {
    Plan::default()
        .allow(&format!("http://{API}:{port}"))
        .allow(&format!("ws://{API}:{port}"))
        .host(API)
}

/// From the client, who masks, with a mask that changes nothing.
const FRAME: [u8; 11] = *b"\x82\x85\x00\x00\x00\x00hello";
/// The same from the server.
const SAID: &[u8] = b"\x82\x05hello";

#[test]
fn a_websocket_passes_where_a_rule_says_so() {
    let (port, heads) = echo();
    let world = plan(port).open();
    let mut client = open(&world, port);
    for _frame in 0..100 {
        client.say(FRAME);
        assert_eq!(client.bytes(SAID.len()), SAID);
    }
    drop(client);
    let ended = || {
        let ends = world.ends();
        ends.iter()
            .any(|end| end.status == Some(101) && end.up >= 1100 && end.down >= 704)
    };
    until("the end is on record", ended);
    let head = heads.lock().unwrap()[0].to_ascii_lowercase();
    assert!(head.starts_with("get /chat http/1.1\r\n"), "{head}");
    for line in [
        "upgrade: websocket\r\n",
        "connection: upgrade\r\n",
        &format!("host: {API}:{port}\r\n"),
    ] {
        assert!(head.contains(line), "{line} in {head}");
    }
    assert!(
        world
            .attempts()
            .iter()
            .any(|line| line.starts_with("Allow ws api.example.com GET /chat"))
    );
}

#[test]
fn a_websocket_needs_a_rule_of_its_own() {
    let (port, heads) = echo();
    let world = Plan::default()
        .allow(&format!("http://{API}:{port}"))
        .host(API)
        .open();
    let mut client = Client::plain(&world, API, port);
    assert_eq!(client.ask(opening(port)).status, 403);
    assert!(heads.lock().unwrap().is_empty());
}

#[test]
fn a_websocket_is_cut_when_its_rule_goes_or_its_quota_is_used_up() {
    let (port, _heads) = echo();
    let world = plan(port).open();
    let mut client = open(&world, port);
    world.replace(|rules| rules.rules.retain(|rule| rule.text.starts_with("http:")));
    assert_eq!(client.rest(), b"");
    let world = plan(port)
        .with(|rules| rules.quota.up_bytes = Some(600))
        .open();
    let mut client = open(&world, port);
    client.say(FRAME);
    assert_eq!(client.bytes(SAID.len()), SAID);
    client.say(
        [
            b"\x82\xfe\x03\xe8\x00\x00\x00\x00".to_vec(),
            vec![b'x'; 1000],
        ]
        .concat(),
    );
    assert_eq!(client.rest(), b"");
    let world = plan(port)
        .with(|rules| rules.quota.idle_seconds = Some(1))
        .open();
    let mut client = open(&world, port);
    client.patience(Duration::from_secs(5));
    assert_eq!(client.rest(), b"");
    until("the end is on record", || world.has_ended("idle"));
}

#[test]
fn an_upgrade_is_not_a_way_out_for_another_protocol() {
    let (port, _heads) = echo();
    let world = plan(port).open();
    for words in [
        &b"SSH-2.0-OpenSSH_9.2\r\n"[..],
        b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
    ] {
        let mut client = open(&world, port);
        client.say(words);
        assert_eq!(client.rest(), b"");
    }
    until("the end is on record", || world.has_ended("protocol"));
}
