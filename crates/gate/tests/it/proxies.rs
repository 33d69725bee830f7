//! What programs that know of a proxy ask for: CONNECT, requests with their host, SOCKS. Attacks 4, 5,
//! 7, 9 and 12: hosts in every notation, heads that can be read twice, relays.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread;

use crate::stage::{Server, Set, Stage, dial, head, rest};

const API: &str = "api.example.com";

/// A stage whose host `api.example.com` is an echo that `tcp` lets through, and the server.
fn echoing() -> (Stage, Server) {
    let server = Server::echo();
    let rule = format!("tcp://{API}:{}", server.port);
    (Stage::open(Set::new(&[&rule], &[API])), server)
}

fn answer(stage: &Stage, request: &[u8]) -> String {
    let mut stream = stage.dial();
    stream.write_all(request).unwrap();
    String::from_utf8_lossy(&rest(&mut stream)).into_owned()
}

fn says_back(mut stream: TcpStream) {
    stream.write_all(b"hello").unwrap();
    let mut read = [0; 5];
    stream.read_exact(&mut read).unwrap();
    assert_eq!(&read, b"hello");
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(rest(&mut stream), b"");
}

#[test]
fn connect_leads_to_the_host_and_is_on_record() {
    let (mut stage, server) = echoing();
    let port = server.port;
    says_back(stage.tunnel(&format!("{API}:{port}")));
    says_back(stage.tunnel(&format!("API.Example.com.:{port}")));
    let counts = stage.close();
    assert_eq!((counts.allowed, counts.denied), (2, 0));
    assert_eq!((counts.up_bytes, counts.down_bytes), (10, 10));
    let rule = format!("tcp://{API}:{port}");
    let attempt = format!("allow tcp {API} {port} {rule}");
    assert_eq!(stage.attempts(), [attempt.clone(), attempt]);
    let end = (5, 5, "closed".to_owned());
    assert_eq!(stage.ends(), [end.clone(), end]);
    assert_eq!(
        stage.asked()[0].address.as_ref().unwrap().to_string(),
        "127.0.0.1"
    );
}

#[test]
fn a_denied_host_is_told_what_to_ask_for() {
    let (mut stage, server) = echoing();
    let (head, mut stream) = stage.connect("other.example.com:443");
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    assert!(head.contains("application/problem+json"), "{head}");
    let body = rest(&mut stream);
    assert!(body.len() <= 512);
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["e"], "egress.host_denied");
    assert!(
        body["do"].as_str().unwrap().contains("other.example.com"),
        "{body}"
    );
    assert_eq!(body["ref"], format!("{}/1", stage.run));
    let (head, _) = stage.connect(&format!("{API}:{}", server.port ^ 1));
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    let counts = stage.close();
    assert_eq!((counts.allowed, counts.denied, server.reached()), (0, 2, 0));
    assert_eq!(stage.attempts().len(), 2);
}

#[test]
fn addresses_in_every_notation_are_addresses() {
    let (mut stage, server) = echoing();
    let port = server.port;
    let hosts = [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "017700000001",
        "127.0.0.1.",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "0",
        "0.0.0.0",
        "[::]",
        "169.254.169.254",
        "0xa9fea9fe",
        "[::ffff:169.254.169.254]",
        "[64:ff9b::a9fe:a9fe]",
        "169.254.170.2",
        "100.100.100.200",
        "168.63.129.16",
        "[fd00:ec2::254]",
        "10.0.0.1",
        "192.168.1.1",
        "172.16.0.1",
        "100.64.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "[fe80::1]",
        "[ff02::1]",
        "198.18.0.1",
        "localhost",
    ];
    for host in hosts {
        let (head, _) = stage.connect(&format!("{host}:{port}"));
        assert!(head.starts_with("HTTP/1.1 40"), "{host}: {head}");
    }
    // A full-width digit or letter is the plain one to those that normalise.
    for host in ["１２７.0.0.1", "[fe80::1%25eth0]", "[fe80::1%eth0]"] {
        let (head, _) = stage.connect(&format!("{host}:{port}"));
        assert!(head.starts_with("HTTP/1.1 40"), "{host}: {head}");
    }
    assert_eq!((stage.close().allowed, server.reached()), (0, 0));
}

#[test]
fn a_name_that_leads_inside_is_refused_whole() {
    // One of these addresses would be fine; the other makes the answer a doubtful one.
    let inside = [
        "10.0.0.7",
        "169.254.169.254",
        "::1",
        "fd00:ec2::254",
        "100.64.1.1",
        "::ffff:10.0.0.1",
    ];
    for address in inside {
        let set = Set::new(&["api.example.com:443"], &[]);
        let set = set.host(API, "93.184.215.14").host(API, address);
        let mut stage = Stage::open(set);
        let (head, mut stream) = stage.connect("api.example.com:443");
        assert!(head.starts_with("HTTP/1.1 403 "), "{address}: {head}");
        let body = String::from_utf8(rest(&mut stream)).unwrap();
        assert!(body.contains("egress.ip_denied"), "{address}: {body}");
        assert!(!body.contains(address), "{address}: {body}");
        assert_eq!(stage.close().allowed, 0);
        let asked = &stage.asked()[0];
        assert!(asked.address.is_some());
    }
}

#[test]
fn heads_with_two_readings_are_malformed() {
    let (mut stage, server) = echoing();
    let target = format!("{API}:{}", server.port);
    let heads: [String; 18] = [
        format!("CONNECT {API} HTTP/1.1\r\n\r\n"),
        format!("CONNECT user@{target} HTTP/1.1\r\n\r\n"),
        format!("CONNECT https://{target} HTTP/1.1\r\n\r\n"),
        format!("CONNECT {target}/ HTTP/1.1\r\n\r\n"),
        format!("CONNECT {target} HTTP/1.1\nHost: x\n\n\r\n\r\n"),
        format!("CONNECT {target}\0 HTTP/1.1\r\n\r\n"),
        format!("CONNECT  {target} HTTP/1.1\r\n\r\n"),
        format!("CONNECT {target} HTTP/2.0\r\n\r\n"),
        format!("CONNECT {target} HTTP/1.1\r\nHost: other.example.com\r\n\r\n"),
        format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nHost: {target}\r\n\r\n"),
        format!("CONNECT {target} HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello"),
        format!("CONNECT {target} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"),
        format!("CONNECT {target} HTTP/1.1\r\nContent-Length: 0\r\nTransfer-Encoding: x\r\n\r\n"),
        format!("CONNECT {target} HTTP/1.1\r\nA: b\r\n c\r\n\r\n"),
        format!("CONNECT {target} HTTP/1.1\r\nHost : {target}\r\n\r\n"),
        format!("CONNECT {API}%00:{} HTTP/1.1\r\n\r\n", server.port),
        "GET / HTTP/1.1\r\nHost: api.example.com\r\n\r\n".to_owned(),
        "GET https://api.example.com/ HTTP/1.1\r\nHost: api.example.com\r\n\r\n".to_owned(),
    ];
    for head in &heads {
        let answer = answer(&stage, head.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 400 "), "{head:?}: {answer}");
        assert!(answer.contains("egress.proto_denied"), "{head:?}: {answer}");
    }
    let counts = stage.close();
    assert_eq!((counts.allowed, server.reached()), (0, 0));
    assert_eq!(counts.denied, u64::try_from(heads.len()).unwrap());
}

fn socks(stage: &Stage, kind: u8, host: &[u8], port: u16) -> (TcpStream, u8) {
    let mut stream = stage.dial();
    stream.write_all(&[5, 1, 0]).unwrap();
    let mut method = [0; 2];
    stream.read_exact(&mut method).unwrap();
    assert_eq!(method, [5, 0]);
    let mut request = vec![5, 1, 0, kind];
    if kind == 3 {
        request.push(u8::try_from(host.len()).unwrap());
    }
    request.extend_from_slice(host);
    request.extend_from_slice(&port.to_be_bytes());
    stream.write_all(&request).unwrap();
    let mut reply = [0; 10];
    stream.read_exact(&mut reply).unwrap();
    (stream, reply[1])
}

#[test]
fn socks_is_judged_alike() {
    let (mut stage, server) = echoing();
    let (stream, code) = socks(&stage, 3, API.as_bytes(), server.port);
    assert_eq!(code, 0);
    says_back(stream);
    assert_eq!(socks(&stage, 3, b"other.example.com", 443).1, 2);
    assert_eq!(socks(&stage, 1, &[127, 0, 0, 1], server.port).1, 2);
    assert_eq!(socks(&stage, 1, &[169, 254, 169, 254], 80).1, 2);
    let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1];
    assert_eq!(socks(&stage, 4, &mapped, server.port).1, 2);
    for host in [
        &b"api.example.com\0"[..],
        b"api.example.com\r\n",
        b"a@api.example.com",
        b"api.example.com/",
        b"api.example.com#",
        b"api.example.com\\x",
        b"api.example.com%00",
        b"",
        b"\xff\xfe",
    ] {
        assert_ne!(socks(&stage, 3, host, server.port).1, 0, "{host:?}");
    }
    assert_eq!((stage.close().allowed, server.reached()), (1, 1));
}

#[test]
fn socks_with_a_password_and_what_is_not_spoken() {
    let (stage, server) = echoing();
    let mut stream = stage.dial();
    stream.write_all(&[5, 1, 2]).unwrap();
    stream
        .write_all(&[1, 4, b'u', b's', b'e', b'r', 1, b'p'])
        .unwrap();
    let mut answers = [0; 4];
    stream.read_exact(&mut answers).unwrap();
    assert_eq!(answers, [5, 2, 1, 0]);
    let mut request = vec![5, 1, 0, 3, 15];
    request.extend_from_slice(API.as_bytes());
    request.extend_from_slice(&server.port.to_be_bytes());
    stream.write_all(&request).unwrap();
    let mut reply = [0; 10];
    stream.read_exact(&mut reply).unwrap();
    assert_eq!(reply[1], 0);
    says_back(stream);

    let said = |bytes: &[u8]| {
        let mut stream = stage.dial();
        stream.write_all(bytes).unwrap();
        rest(&mut stream)
    };
    // BIND and UDP ASSOCIATE, no method in common, SOCKS 4 and 4a.
    assert_eq!(said(&[5, 1, 0, 5, 2, 0, 1, 1, 1, 1, 1, 0, 80])[3], 7);
    assert_eq!(said(&[5, 1, 0, 5, 3, 0, 1, 1, 1, 1, 1, 0, 80])[3], 7);
    assert_eq!(said(&[5, 1, 1]), [5, 0xff]);
    assert_eq!(said(&[4, 1, 0, 80, 0, 0, 0, 1, 0])[..2], [0, 0x5b]);
}

#[test]
fn a_relay_inside_gains_nothing() {
    let (mut stage, server) = echoing();
    let proxy = stage.proxy;
    // A program inside that hands on what others say to it.
    let relay = Server::start(move |stream| {
        let onward = dial(proxy);
        let (mut from, mut to) = (stream.try_clone().unwrap(), onward.try_clone().unwrap());
        thread::spawn(move || std::io::copy(&mut from, &mut to));
        let (mut from, mut to) = (onward, stream);
        std::io::copy(&mut from, &mut to).ok();
    });
    let mut stream = dial(([127, 0, 0, 1], relay.port).into());
    write!(stream, "CONNECT other.example.com:443 HTTP/1.1\r\n\r\n").unwrap();
    assert!(head(&mut stream).starts_with("HTTP/1.1 403 "));
    // A tunnel to the proxy itself, by way of the proxy.
    let (head, _) = stage.connect(&format!("127.0.0.1:{}", stage.proxy.port()));
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    assert_eq!((stage.close().allowed, server.reached()), (0, 0));
}

#[test]
fn the_gate_itself_is_nobody() {
    let (mut stage, _server) = echoing();
    // Whoever was not redirected meant the door.
    let mut stream = dial(stage.transparent);
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").ok();
    assert_eq!(rest(&mut stream), b"");
    stage.wait_for("the door", |asked| {
        asked.host.to_string() == "the gate itself"
    });
    assert_eq!(stage.close().allowed, 0);
}

#[test]
fn a_loop_of_denials_fills_a_counter() {
    let (mut stage, _server) = echoing();
    for _ in 0..50 {
        let (head, _) = stage.connect("other.example.com:443");
        assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    }
    let counts = stage.close();
    assert_eq!((counts.denied, counts.repeated), (50, 49));
    assert_eq!(stage.attempts().len(), 1);
    let events = stage.events();
    let dropped = events.iter().any(|event| {
        matches!(event, belljar_ledger::Event::NetworkDropped { counts } if counts.get("repeated") == Some(&49))
    });
    assert!(dropped, "{events:?}");
}
