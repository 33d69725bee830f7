//! What passes, and for how long. Attacks 2, 3, 10 and 13: names in TLS that are not the host's, protocols
//! that nobody judges, slow clients, tunnels that outlive their right; and the ports the other way.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use belljar_policy::egress::Mode;
use rustls::ClientConnection;
use rustls::pki_types::ServerName;

use crate::stage::{Server, Set, Stage, client_tls, dial, far, rest, rule, secured};

const API: &str = "api.example.com";
const OTHER: &str = "other.example.com";

/// What a client of TLS says first, of which this is then done to the bytes.
fn greeting(name: &str, sni: bool, change: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let mut config = client_tls(&far().certificate, &["http/1.1"]);
    config.enable_sni = sni;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).unwrap();
    change(&mut bytes);
    bytes
}

fn add(bytes: &mut [u8], at: usize, size: usize, more: usize) {
    let old = bytes[at..at + size]
        .iter()
        .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    let new = (old + more).to_be_bytes();
    bytes[at..at + size].copy_from_slice(&new[8 - size..]);
}

/// Puts one more extension behind the others.
fn extended(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(value.len()).unwrap();
    let extension = [&kind.to_be_bytes()[..], &length.to_be_bytes(), value].concat();
    // Record and message head, version and chance, session, suites, compression.
    let mut at = 5 + 4 + 2 + 32;
    at += 1 + usize::from(bytes[at]);
    at += 2 + usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]));
    at += 1 + usize::from(bytes[at]);
    add(bytes, at, 2, extension.len());
    add(bytes, 6, 3, extension.len());
    add(bytes, 3, 2, extension.len());
    bytes.extend_from_slice(&extension);
}

/// A server that says `seen` to whoever says something.
fn seeing() -> Server {
    Server::start(|mut stream| {
        let mut some = [0; 64];
        if stream.read(&mut some).is_ok_and(|read| read > 0) {
            stream.write_all(b"seen").unwrap();
        }
    })
}

#[test]
fn tls_passes_through_from_end_to_end() {
    let (server, _heads) = Server::https(&[API]);
    let port = server.port;
    let mut stage = Stage::open(Set::new(&[&format!("{API}:{port}")], &[API]));
    let stream = stage.tunnel(&format!("{API}:{port}"));
    // The server's own certificate is seen: nobody has looked into it.
    let config = client_tls(&far().certificate, &[]);
    let mut client = secured(stream, config, API);
    for _ in 0..3 {
        write!(client, "GET /x HTTP/1.1\r\nHost: {API}\r\n\r\n").unwrap();
        let mut answer = [0; 15];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200 OK");
        let mut head = [0; 4096];
        assert!(client.read(&mut head).unwrap() > 0);
    }
    drop(client);
    let counts = stage.close();
    assert_eq!((counts.allowed, counts.denied), (1, 0));
    assert_eq!(
        stage.attempts(),
        [format!("allow https {API} {port} {API}:{port}")]
    );
    assert!(
        counts.up_bytes > 300 && counts.down_bytes > 300,
        "{counts:?}"
    );
}

#[test]
fn the_name_in_tls_is_the_host() {
    let server = seeing();
    let target = format!("{API}:{}", server.port);
    let stage = Stage::open(Set::new(&[&target], &[API]));
    let said = |bytes: Vec<u8>| {
        let mut stream = stage.tunnel(&target);
        stream.write_all(&bytes).unwrap();
        rest(&mut stream)
    };
    let put = |from: &'static [u8], to: &'static [u8]| {
        move |bytes: &mut Vec<u8>| {
            let at = bytes
                .windows(from.len())
                .position(|some| some == from)
                .unwrap();
            bytes[at..at + from.len()].copy_from_slice(to);
        }
    };
    assert_eq!(said(greeting(API, true, |_| {})), b"seen");
    assert_eq!(
        said(greeting(
            API,
            true,
            put(b"api.example.com", b"API.Example.Com")
        )),
        b"seen"
    );
    assert_eq!(server.reached(), 2);
    let unrecognized = [21, 3, 3, 0, 2, 2, 112];
    assert_eq!(said(greeting(OTHER, true, |_| {})), unrecognized);
    assert_eq!(said(greeting(API, false, |_| {})), unrecognized);
    assert_eq!(
        said(greeting(API, true, |bytes| extended(
            bytes, 0xfe0d, &[0; 40]
        ))),
        unrecognized
    );
    assert_eq!(
        said(greeting(
            "apı.example.com"
                .parse::<belljar_policy::egress::HostName>()
                .unwrap()
                .as_str(),
            true,
            |_| {}
        )),
        unrecognized
    );
    let no_protocol = [21, 3, 3, 0, 2, 2, 120];
    assert_eq!(
        said(greeting(API, true, put(b"http/1.1", b"irc/9999"))),
        no_protocol
    );
    // What cannot be read has no words that it would understand.
    assert_eq!(
        said(greeting(
            API,
            true,
            put(b"api.example.com", b"api\0example.com")
        )),
        b""
    );
    assert_eq!(said(greeting(API, true, |bytes| bytes[9] = 9)), b"");
    assert_eq!(server.reached(), 2);
    let mismatches = stage.attempts();
    let mismatch = format!("deny https {API} {} egress.sni_mismatch", server.port);
    assert!(mismatches.contains(&mismatch), "{mismatches:?}");
}

#[test]
fn tls_for_a_denied_host_ends_with_an_alert() {
    let server = seeing();
    let stage = Stage::open(Set::new(
        &[&format!("http://{API}:{}", server.port)],
        &[API],
    ));
    let mut stream = stage.tunnel(&format!("{API}:{}", server.port));
    stream.write_all(&greeting(API, true, |_| {})).unwrap();
    assert_eq!(rest(&mut stream), [21, 3, 3, 0, 2, 2, 49]);
    assert_eq!(server.reached(), 0);
}

#[test]
fn tls_is_looked_into_where_a_rule_speaks_of_paths() {
    let (server, heads) = Server::https(&[API]);
    let target = format!("{API}:{}", server.port);
    let mut stage = Stage::open(Set::new(&[&format!("https://{target}/open")], &[API]));
    let config = client_tls(&stage.authority, &["http/1.1"]);
    let mut client = secured(stage.tunnel(&target), config, API);
    write!(client, "GET /open/door HTTP/1.1\r\nHost: {target}\r\n\r\n").unwrap();
    let mut answer = [0; 15];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    for (path, host) in [("/shut", target.as_str()), ("/open", OTHER)] {
        let config = client_tls(&stage.authority, &["http/1.1"]);
        let mut client = secured(stage.tunnel(&target), config, API);
        write!(client, "GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
        let answer = String::from_utf8(rest(&mut client)).unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 403 "),
            "{path} {host}: {answer}"
        );
    }
    assert_eq!(heads.lock().unwrap().len(), 1);
    // A client that trusts the far side alone does not take the gate for it.
    let config = client_tls(&far().certificate, &["http/1.1"]);
    let mut client = secured(stage.tunnel(&target), config, API);
    assert!(write!(client, "GET /open HTTP/1.1\r\n\r\n").is_err());
    stage.wait_for("the client that did not trust", |asked| {
        asked.rule.to_string() == "egress.proto_denied"
    });
    assert_eq!(stage.close().denied, 3);
}

#[test]
fn what_is_neither_http_nor_tls_is_closed() {
    let server = seeing();
    let target = format!("{API}:{}", server.port);
    let stage = Stage::open(Set::new(&[&target], &[API]));
    for said in [
        &b"SSH-2.0-OpenSSH_9.6\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\0\0\0\x08\x04\xd2\x16\x2f",
    ] {
        let mut stream = stage.tunnel(&target);
        stream.write_all(said).unwrap();
        assert_eq!(rest(&mut stream), b"", "{said:?}");
    }
    assert_eq!(server.reached(), 0);
    let attempts = stage.attempts();
    assert_eq!(
        attempts,
        [format!(
            "deny tcp {API} {} egress.proto_denied",
            server.port
        )]
    );
}

#[test]
fn slow_and_silent_clients_are_closed() {
    let server = seeing();
    let target = format!("{API}:{}", server.port);
    let stage = Stage::open(Set::new(&[&target], &[API]));
    let began = Instant::now();
    let mut drip = stage.dial();
    drip.set_nodelay(true).unwrap();
    let mut silent = stage.tunnel(&target);
    let mut slow_hello = stage.tunnel(&target);
    let hello = greeting(API, true, |_| {});
    // A byte now and then keeps nobody waiting for longer than the bound.
    let dripping = thread::spawn(move || {
        for byte in b"CONNECT api.example.com:443 HTTP/1.1\r\nA: "
            .iter()
            .chain([b'x'; 200].iter())
        {
            if drip.write_all(&[*byte]).is_err() {
                break;
            }
            thread::sleep(Duration::from_millis(100));
        }
        rest(&mut drip)
    });
    slow_hello.write_all(&hello[..20]).unwrap();
    assert_eq!(rest(&mut silent), b"");
    assert_eq!(rest(&mut slow_hello), b"");
    let answer = dripping.join().unwrap();
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 400 "));
    let took = began.elapsed();
    assert!(
        took > Duration::from_secs(9) && took < Duration::from_secs(40),
        "{took:?}"
    );
    assert_eq!(server.reached(), 0);
}

#[test]
fn a_server_may_speak_first_where_bytes_are_let_through() {
    let server = Server::start(|mut stream| {
        stream.write_all(b"220 ready\r\n").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        assert_eq!(said, "and a long goodbye");
    });
    let target = format!("{API}:{}", server.port);
    let mut stage = Stage::open(Set::new(&[&format!("tcp://{target}")], &[API]));
    let mut stream = stage.tunnel(&target);
    let mut read = String::new();
    // The server has ended its side; the client's side is still open.
    stream.read_to_string(&mut read).unwrap();
    assert_eq!(read, "220 ready\r\n");
    stream.write_all(b"and a long goodbye").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    wait_for_end(&stage);
    let ends = stage.ends();
    assert_eq!(ends, [(18, 11, "closed".to_owned())]);
    stage.close();
}

fn wait_for_end(stage: &Stage) -> (u64, u64, String) {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(ended) = stage.ends().pop() {
            return ended;
        }
        assert!(Instant::now() < end, "nothing ended");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn much_passes_whole() {
    let server = Server::echo();
    let target = format!("{API}:{}", server.port);
    let stage = Stage::open(Set::new(&[&format!("tcp://{target}")], &[API]));
    let mut stream = stage.tunnel(&target);
    let piece: Vec<u8> = (0..1 << 20)
        .map(|n: u32| n.to_le_bytes()[n as usize % 3])
        .collect();
    let mut back = stream.try_clone().unwrap();
    let expected = piece.clone();
    let reading = thread::spawn(move || {
        let mut read = vec![0; expected.len()];
        for _ in 0..32 {
            back.read_exact(&mut read).unwrap();
            assert!(read == expected);
        }
        assert_eq!(rest(&mut back), b"");
    });
    for _ in 0..32 {
        stream.write_all(&piece).unwrap();
    }
    stream.shutdown(Shutdown::Write).unwrap();
    reading.join().unwrap();
    let (up, down, _) = wait_for_end(&stage);
    assert_eq!((up, down), (32 << 20, 32 << 20));
}

/// A tunnel to an echo, with these rules changed; what is read from it until it ends.
fn cut(change: impl Fn(&mut Set), say: usize) -> (usize, (u64, u64, String), Duration) {
    let server = Server::echo();
    let target = format!("{API}:{}", server.port);
    let mut set = Set::new(&[&format!("tcp://{target}")], &[API]);
    change(&mut set);
    let stage = Stage::open(set);
    let mut stream = stage.tunnel(&target);
    let began = Instant::now();
    let mut back = stream.try_clone().unwrap();
    let reading = thread::spawn(move || rest(&mut back).len());
    let piece = [7; 1000];
    for _ in 0..say {
        if stream.write_all(&piece).is_err() {
            break;
        }
    }
    let read = reading.join().unwrap();
    (read, wait_for_end(&stage), began.elapsed())
}

#[test]
fn quotas_cut_a_tunnel() {
    let (read, end, _) = cut(|set| set.rules.quota.up_bytes = Some(50_000), 1000);
    assert!(read <= 50_000 && end.0 <= 50_000, "{read} {end:?}");
    assert_eq!(end.2, "quota");
    let (read, end, _) = cut(|set| set.rules.host_quota.down_bytes = Some(50_000), 1000);
    assert!(read <= 50_000 && end.1 <= 50_000, "{read} {end:?}");
    assert_eq!(end.2, "quota");
    let (_, end, took) = cut(|set| set.rules.quota.tunnel_seconds = Some(1), 1);
    assert_eq!(end.2, "time");
    assert!(took < Duration::from_secs(10), "{took:?}");
    let (_, end, took) = cut(|set| set.rules.host_quota.idle_seconds = Some(1), 1);
    assert_eq!(end.2, "idle");
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn connections_are_counted_and_bounded() {
    let server = Server::echo();
    let target = format!("{API}:{}", server.port);
    let mut set = Set::new(&[&format!("tcp://{target}")], &[API]);
    set.rules.host_quota.connections = Some(3);
    let mut stage = Stage::open(set);
    let reached = |stream: &mut TcpStream| {
        let mut byte = [0];
        stream.write_all(b"x").is_ok() && stream.read_exact(&mut byte).is_ok()
    };
    let passed = (0..6)
        .filter(|_| reached(&mut stage.tunnel(&target)))
        .count();
    assert_eq!((passed, server.reached()), (3, 3));
    assert_eq!(stage.close().denied, 3);
    assert!(
        stage
            .attempts()
            .iter()
            .any(|line| line.ends_with("egress.quota"))
    );
}

#[test]
fn tunnels_that_lose_their_right_are_cut() {
    let server = Server::echo();
    let (target, second) = (
        format!("{API}:{}", server.port),
        format!("{OTHER}:{}", server.port),
    );
    let rules = [format!("tcp://{target}"), format!("tcp://{second}")];
    let mut stage = Stage::open(Set::new(&[&rules[0], &rules[1]], &[API, OTHER]));
    let (mut lost, mut kept) = (stage.tunnel(&target), stage.tunnel(&second));
    let mut byte = [0];
    for stream in [&mut lost, &mut kept] {
        stream.write_all(b"x").unwrap();
        stream.read_exact(&mut byte).unwrap();
    }
    let mut rules = (*stage.door().rules()).clone();
    rules.rules.remove(0);
    stage.door().replace(rules.clone());
    let began = Instant::now();
    assert!(!matches!(lost.read(&mut byte), Ok(1..)));
    assert!(began.elapsed() < Duration::from_secs(5));
    kept.write_all(b"y").unwrap();
    kept.read_exact(&mut byte).unwrap();
    assert_eq!(wait_for_end(&stage).2, "rules changed");
    // What is granted now passes from the next connection on.
    assert!(stage.connect(&target).0.starts_with("HTTP/1.1 403 "));
    rules.rules.push(rule(&format!("tcp://{target}")));
    stage.door().replace(rules);
    stage.tunnel(&target);
    stage.close();
    assert!(
        !matches!(kept.read(&mut byte), Ok(1..)),
        "closed with the door"
    );
}

#[test]
fn what_is_only_observed_passes_and_is_marked() {
    let server = Server::echo();
    let mut set = Set::new(&[], &[]);
    set.rules.mode = Mode::Observe;
    // Addresses that are not public are kept in all the same.
    let mut stage = Stage::open(set.host(API, "127.0.0.1").host(OTHER, "10.0.0.1"));
    for host in [API, OTHER, "127.0.0.1"] {
        let (head, _) = stage.connect(&format!("{host}:{}", server.port));
        assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    }
    assert_eq!((stage.close().allowed, server.reached()), (0, 0));
}

#[test]
fn the_record_is_there_before_the_server_is_reached() {
    let server = Server::echo();
    let target = format!("{API}:{}", server.port);
    let stage = Stage::open(Set::new(&[&format!("tcp://{target}")], &[API]));
    let mut stream = stage.tunnel(&target);
    let mut byte = [0];
    stream.write_all(b"x").unwrap();
    stream.read_exact(&mut byte).unwrap();
    assert_eq!(stage.attempts().len(), 1);
    // A server that is not there was on record as well.
    let nobody = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let mut rules = (*stage.door().rules()).clone();
    rules.rules.push(rule(&format!("tcp://{API}:{nobody}")));
    stage.door().replace(rules);
    let mut stream = stage.tunnel(&format!("{API}:{nobody}"));
    assert_eq!(rest(&mut stream), b"");
    assert_eq!(stage.attempts().len(), 2);
    assert_eq!(wait_for_end(&stage).2, "unreachable");
}

#[test]
fn a_published_port_leads_inside() {
    let server = Server::echo();
    let mut stage = Stage::open(Set::new(&[], &[]));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let dialer = || {
        let (family, kind) = (
            rustix::net::AddressFamily::INET,
            rustix::net::SocketType::STREAM,
        );
        let socket: OwnedFd = rustix::net::socket(family, kind, None)?;
        Ok(socket)
    };
    stage
        .door()
        .publish(server.port, listener, Arc::new(dialer))
        .unwrap();
    let mut stream = dial(at);
    stream.write_all(b"in").unwrap();
    let mut back = [0; 2];
    stream.read_exact(&mut back).unwrap();
    drop(stream);
    assert_eq!(wait_for_end(&stage), (2, 2, "closed".to_owned()));
    let port = server.port;
    assert_eq!(
        stage.attempts(),
        [format!("allow publish 127.0.0.1 {port} publish {port}")]
    );
    // Rules do not speak of it, and changing them does not cut it.
    let mut stream = dial(at);
    stream.write_all(b"in").unwrap();
    stream.read_exact(&mut back).unwrap();
    stage
        .door()
        .replace(belljar_policy::egress::Rules::default());
    stream.write_all(b"in").unwrap();
    stream.read_exact(&mut back).unwrap();
    stage.close();
    assert_eq!(rest(&mut stream), b"");
    assert!(TcpStream::connect(at).is_err());
}

#[test]
fn what_cannot_be_written_does_not_happen() {
    let server = Server::echo();
    let target = format!("{API}:{}", server.port);
    let mut set = Set::new(&[&format!("tcp://{target}")], &[API]);
    set.ledger.segment_bytes = Some(4096);
    let stage = Stage::open(set);
    // The ledger loses its directory: it can begin no new segment.
    std::fs::remove_dir_all(stage.state.path().join("ledger")).unwrap();
    let passes = |mut stream: TcpStream| {
        let mut byte = [0];
        stream.write_all(b"x").is_ok() && stream.read_exact(&mut byte).is_ok()
    };
    let passed = (0..64).filter(|_| passes(stage.tunnel(&target))).count();
    assert!(passed < 64, "every record was taken");
    assert_eq!(server.reached(), passed);
    assert!(!passes(stage.tunnel(&target)), "it is taken again");
    assert_eq!(server.reached(), passed);
}

#[test]
fn a_method_that_is_only_observed_passes_and_is_marked() {
    let (server, heads) = Server::https(&[API]);
    let target = format!("{API}:{}", server.port);
    let mut set = Set::new(&[&format!("https://{target}/open")], &[API]);
    set.rules.mode = Mode::Observe;
    let mut stage = Stage::open(set);
    let config = client_tls(&stage.authority, &["http/1.1"]);
    let mut client = secured(stage.tunnel(&target), config, API);
    write!(client, "GET /shut HTTP/1.1\r\nHost: {target}\r\n\r\n").unwrap();
    let mut answer = [0; 15];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    assert_eq!(heads.lock().unwrap().len(), 1);
    let observed = stage
        .asked()
        .into_iter()
        .find(|asked| asked.observed)
        .unwrap();
    assert_eq!(observed.path.unwrap().to_string(), "/shut");
    drop(client);
    assert_eq!(stage.close().observed, 1);
}
