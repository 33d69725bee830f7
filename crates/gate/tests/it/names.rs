//! Names: what a sandbox asks for and where a name leads. Attacks 1, 6 and 7: names that carry data
//! out, names that change what they mean, names that mean what only the host may reach.

use std::io::{Read as _, Write as _};
use std::net::UdpSocket;
use std::thread;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RecordType};

use crate::stage::{Server, Set, Stage, dial, rest};
use crate::support::dns::{Answer, Asked, NameServer, address, alias};

const API: &str = "api.example.com";

/// A stage that asks this name server alone.
fn asking(rules: &[&str], server: &NameServer) -> Stage {
    let mut set = Set::new(rules, &[]);
    set.settings.nameservers = vec![server.address()];
    Stage::open(set)
}

fn question(name: &str, kind: RecordType) -> Message {
    let labels = name.split('.').map(str::as_bytes);
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    let name = Name::from_labels(labels).unwrap();
    message.add_query(Query::query(name, kind));
    message
}

fn over_udp(stage: &Stage, message: &Message) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let patience = Some(Duration::from_secs(20));
    socket.set_read_timeout(patience).unwrap();
    socket
        .send_to(&message.to_vec().unwrap(), stage.dns)
        .unwrap();
    let mut buffer = [0; 2048];
    let (length, _) = socket.recv_from(&mut buffer).unwrap();
    Message::from_vec(&buffer[..length]).unwrap()
}

fn over_tcp(stage: &Stage, message: &Message) -> Message {
    let mut stream = dial(stage.dns);
    let bytes = message.to_vec().unwrap();
    let length = u16::try_from(bytes.len()).unwrap();
    stream.write_all(&length.to_be_bytes()).unwrap();
    stream.write_all(&bytes).unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer).unwrap();
    Message::from_vec(&answer).unwrap()
}

/// Addresses of version 4 that hold for no time at all.
fn fleeting(asked: &Asked, addresses: &[&str]) -> Answer {
    let wanted = |one: &&&str| one.contains(':') != asked.is_v4();
    let found = addresses.iter().filter(wanted);
    let records: Vec<_> = found.map(|one| address(&asked.name, 0, one)).collect();
    if records.is_empty() {
        return Answer::Absent(ResponseCode::NoError, 0);
    }
    Answer::Records(records)
}

#[test]
fn nothing_that_is_asked_is_asked_again() {
    let server = NameServer::start(|asked| fleeting(asked, &["127.0.0.1"]));
    let mut stage = asking(&["api.example.com", "*.example.org"], &server);
    let secret = "x".repeat(63);
    let long = format!("{secret}.{secret}.{secret}.evil.example.net");
    let below = format!("{secret}.{secret}.{secret}.example.org");
    let names = [
        API,
        "API.example.COM",
        "evil.example.net",
        &long,
        &below,
        "_secret.example.com",
        "intranet",
        "1.0.18.198.in-addr.arpa",
        "254.169.254.169.in-addr.arpa",
        "4.4.8.8.in-addr.arpa",
        "localhost",
        "version.bind",
    ];
    let kinds = [
        RecordType::A,
        RecordType::AAAA,
        RecordType::ANY,
        RecordType::AXFR,
        RecordType::CNAME,
        RecordType::HTTPS,
        RecordType::MX,
        RecordType::NS,
        RecordType::NULL,
        RecordType::PTR,
        RecordType::SRV,
        RecordType::TXT,
        RecordType::Unknown(65_280),
    ];
    for name in names {
        for kind in kinds {
            let asked = question(name, kind);
            let answer = over_udp(&stage, &asked);
            assert_eq!(answer.metadata.id, 7);
            assert_eq!(answer.queries, asked.queries);
            assert!(answer.answers.len() <= 1);
        }
        over_tcp(&stage, &question(name, RecordType::TXT));
    }
    for code in [OpCode::Status, OpCode::Notify, OpCode::Update] {
        let mut odd = question(API, RecordType::A);
        odd.metadata.op_code = code;
        over_udp(&stage, &odd);
    }
    let mut chaos = question("version.bind", RecordType::TXT);
    chaos.queries[0].query_class = DNSClass::CH;
    over_udp(&stage, &chaos);
    stage.close();
    assert_eq!(server.asked(), []);
}

#[test]
fn each_name_is_on_record_once() {
    let server = NameServer::start(|_| Answer::Silence);
    let mut stage = asking(&["api.example.com"], &server);
    for kind in [RecordType::A, RecordType::AAAA, RecordType::TXT] {
        for name in [
            API,
            "_https._tcp.api.example.com",
            "Evil.example.net",
            "_data.evil.example.net",
            "evil.example.net",
            "intranet",
            "data_.example.com",
            "4.4.8.8.in-addr.arpa",
            "localhost",
        ] {
            let answer = over_udp(&stage, &question(name, kind));
            let allowed = answer.metadata.response_code == ResponseCode::NoError;
            let expected = name.ends_with(API) || name == "localhost";
            assert_eq!(allowed, expected, "{name}");
        }
    }
    stage.close();
    let names: Vec<_> = stage
        .asked()
        .iter()
        .map(|asked| format!("{:?} {} {}", asked.effect, asked.scheme, asked.host))
        .collect();
    let expected = [
        "Allow dns api.example.com",
        "Deny dns evil.example.net",
        "Deny dns intranet",
        "Deny dns data_.example.com",
        "Deny dns 4.4.8.8.in-addr.arpa",
    ];
    assert_eq!(names, expected);
}

#[test]
fn a_synthetic_address_leads_to_its_name() {
    let echo = Server::echo();
    let server = NameServer::start(|asked| fleeting(asked, &["127.0.0.1"]));
    let mut stage = asking(&[&format!("tcp://{API}:{}", echo.port)], &server);
    let answer = over_udp(&stage, &question(API, RecordType::A));
    let synthetic = answer.answers[0].data.ip_addr().unwrap();
    assert!(synthetic.to_string().starts_with("198.18."), "{synthetic}");
    assert_eq!(server.asked(), []);
    let mut stream = stage.tunnel(&format!("{synthetic}:{}", echo.port));
    stream.write_all(b"hello").unwrap();
    let mut read = [0; 5];
    stream.read_exact(&mut read).unwrap();
    assert_eq!(&read, b"hello");
    drop(stream);
    assert!(server.asked().iter().all(|asked| asked.name == API));
    let (_, mut stranger) = stage.connect(&format!("198.18.77.77:{}", echo.port));
    rest(&mut stranger);
    stage.close();
    let asked = stage.asked();
    let hosts: Vec<_> = asked.iter().map(|one| one.host.to_string()).collect();
    assert_eq!(hosts, [API, API, "198.18.77.77"]);
    assert_eq!(echo.reached(), 1);
}

/// Connects to a name and says what became of it: what came back of a word, and what is on record.
fn fate(stage: &Stage, name: &str, port: u16) -> (String, String) {
    let (head, mut stream) = stage.connect(&format!("{name}:{port}"));
    // Whoever was refused is gone already.
    stream.write_all(b"hello").ok();
    stream.shutdown(std::net::Shutdown::Write).ok();
    let said = head + &String::from_utf8_lossy(&rest(&mut stream));
    let asked = stage.wait_for(name, |one| one.host.to_string() == name);
    (said, format!("{:?} {}", asked.effect, asked.rule))
}

#[test]
fn a_name_bound_anew_is_judged_anew() {
    let echo = Server::echo();
    let places = ["169.254.169.254", "10.0.0.1", "::1", "fd00:ec2::254"];
    for place in places {
        let server = NameServer::start(move |asked| match asked.before {
            0 => fleeting(asked, &["127.0.0.1"]),
            _ => fleeting(asked, &[place]),
        });
        let mut stage = asking(&[&format!("tcp://{API}:{}", echo.port)], &server);
        let reached = echo.reached();
        let (said, record) = fate(&stage, API, echo.port);
        assert!(said.ends_with("hello"), "{said}");
        assert!(record.starts_with("Allow "), "{record}");
        thread::sleep(Duration::from_millis(1_100));
        let (_, mut stream) = stage.connect(&format!("{API}:{}", echo.port));
        stream.write_all(b"hello").ok();
        let said = String::from_utf8_lossy(&rest(&mut stream)).into_owned();
        assert!(!said.contains("hello") && !said.contains(place), "{said}");
        stage.close();
        let asked = stage.asked();
        assert_eq!(asked.len(), 2, "{place}");
        assert_eq!(format!("{:?}", asked[1].effect), "Deny", "{place}");
        assert_eq!(echo.reached(), reached + 1, "{place}");
    }
}

#[test]
fn one_doubtful_address_among_others_is_one_too_many() {
    let echo = Server::echo();
    let server = NameServer::start(|asked| match asked.name.as_str() {
        "mixed.example.com" => fleeting(asked, &["127.0.0.1", "169.254.169.254"]),
        "versions.example.com" => fleeting(asked, &["127.0.0.1", "fd00:ec2::254"]),
        "alias.example.com" if asked.is_v4() => Answer::Records(vec![
            alias("alias.example.com", 0, "inner.example.net"),
            address("inner.example.net", 0, "10.0.0.1"),
        ]),
        _ => Answer::Absent(ResponseCode::NoError, 0),
    });
    let mut stage = asking(&[&format!("tcp://*.example.com:{}", echo.port)], &server);
    for name in ["mixed", "versions", "alias"] {
        let (said, record) = fate(&stage, &format!("{name}.example.com"), echo.port);
        assert_eq!(record, "Deny egress.ip_denied", "{name}");
        assert!(!said.contains("hello"), "{name}: {said}");
    }
    stage.close();
    assert_eq!(echo.reached(), 0);
}

#[test]
fn names_that_lead_where_only_the_host_may_go_lead_nowhere() {
    const PLACES: [&str; 20] = [
        "0.0.0.0",
        "10.0.0.1",
        "100.64.0.1",
        "100.100.100.200",
        "127.0.0.1",
        "168.63.129.16",
        "169.254.169.254",
        "169.254.170.2",
        "172.16.0.1",
        "192.168.1.1",
        "198.18.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "fd00:ec2::254",
        "fe80::1",
    ];
    let server = NameServer::start(|asked| {
        let number = asked.name.trim_start_matches('n').split('.').next();
        let place = number.and_then(|number| PLACES.get(number.parse::<usize>().ok()?));
        match place {
            Some(place) => fleeting(asked, &[place]),
            None => Answer::Absent(ResponseCode::NXDomain, 0),
        }
    });
    let mut set = Set::new(&[], &[]);
    // Without any address that it expects.
    let rule = belljar_policy::egress::Rule::parse_allow("tcp://*.example.com:9").unwrap();
    set.rules.rules = vec![rule];
    set.settings.nameservers = vec![server.address()];
    let mut stage = Stage::open(set);
    for (number, place) in PLACES.iter().enumerate() {
        let name = format!("n{number}.example.com");
        let (said, record) = fate(&stage, &name, 9);
        assert_eq!(record, "Deny egress.ip_denied", "{place}");
        assert!(!said.contains(place), "{place}: {said}");
    }
    let counts = stage.close();
    assert_eq!(counts.allowed, 0);
}

#[test]
fn an_allowed_name_that_leads_nowhere_says_so() {
    let server = NameServer::start(|_| Answer::Absent(ResponseCode::NXDomain, 0));
    let mut stage = asking(&["api.example.com"], &server);
    let answer = over_udp(&stage, &question(API, RecordType::A));
    assert_eq!(answer.answers.len(), 1);
    let mut stream = stage.dial();
    write!(stream, "GET http://{API}/ HTTP/1.1\r\nHost: {API}\r\n\r\n").unwrap();
    let said = String::from_utf8_lossy(&rest(&mut stream)).into_owned();
    assert!(said.starts_with("HTTP/1.1 502 "), "{said}");
    assert!(said.contains("egress.unreachable"), "{said}");
    stage.close();
}
