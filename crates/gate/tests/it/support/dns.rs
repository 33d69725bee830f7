//! A name server that answers as a test says, over UDP and TCP, and remembers what it was asked.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hickory_proto::op::{Message, Metadata, ResponseCode};
use hickory_proto::rr::rdata::{CNAME, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};

/// One question that reached the name server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// In lower case, without the last dot.
    pub(crate) name: String,
    /// What was wanted.
    pub(crate) kind: RecordType,
    /// Whether it came over TCP.
    pub(crate) tcp: bool,
    /// How often the same was asked before.
    pub(crate) before: usize,
}

impl Asked {
    /// Whether an address of version 4 is wanted.
    pub(crate) fn is_v4(&self) -> bool {
        self.kind == RecordType::A
    }
}

/// What the name server says.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// These records.
    Records(Vec<Record>),
    /// None, with this code, to be kept for so many seconds.
    Absent(ResponseCode, u32),
    /// Too long for a datagram.
    Truncated,
    /// Nothing at all.
    Silence,
    /// These bytes behind the question's id.
    Bytes(Vec<u8>),
}

type Script = dyn Fn(&Asked) -> Answer + Send + Sync;

/// A running name server; it ends when this is dropped.
pub(crate) struct NameServer {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    ended: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// How often a thread looks whether it is over.
const LOOK: Duration = Duration::from_millis(20);
const MESSAGE_BYTES_MAX: usize = 65_535;

impl NameServer {
    /// Answers on a free port of the loopback.
    pub(crate) fn start(script: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let (datagrams, listener) = sockets();
        let desk = Desk {
            script: Arc::new(script),
            asked: Arc::default(),
            ended: Arc::default(),
        };
        let address = listener.local_addr().unwrap();
        let (asked, ended) = (Arc::clone(&desk.asked), Arc::clone(&desk.ended));
        let other = desk.clone();
        let threads = vec![
            thread::spawn(move || desk.answer_datagrams(&datagrams)),
            thread::spawn(move || other.answer_connections(&listener)),
        ];
        Self {
            address,
            asked,
            ended,
            threads,
        }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

/// An address of a name.
pub(crate) fn address(name: &str, seconds: u32, address: &str) -> Record {
    let address: IpAddr = address.parse().unwrap();
    Record::from_rdata(absolute(name), seconds, RData::from(address))
}

/// Another name for a name.
pub(crate) fn alias(name: &str, seconds: u32, target: &str) -> Record {
    let data = RData::CNAME(CNAME(absolute(target)));
    Record::from_rdata(absolute(name), seconds, data)
}

fn absolute(name: &str) -> Name {
    let mut name = Name::from_ascii(name).unwrap();
    name.set_fqdn(true);
    name
}

/// Both sockets on one port.
fn sockets() -> (UdpSocket, TcpListener) {
    for _ in 0..100 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        if let Ok(datagrams) = UdpSocket::bind(listener.local_addr().unwrap()) {
            datagrams.set_read_timeout(Some(LOOK)).unwrap();
            listener.set_nonblocking(true).unwrap();
            return (datagrams, listener);
        }
    }
    panic!("no port is free for both UDP and TCP");
}

#[derive(Clone)]
struct Desk {
    script: Arc<Script>,
    asked: Arc<Mutex<Vec<Asked>>>,
    ended: Arc<AtomicBool>,
}

impl Desk {
    fn answer_datagrams(&self, socket: &UdpSocket) {
        let mut buffer = vec![0; MESSAGE_BYTES_MAX];
        while !self.ended.load(Ordering::Relaxed) {
            let Ok((length, peer)) = socket.recv_from(&mut buffer) else {
                continue;
            };
            if let Some(answer) = self.answer(&buffer[..length], false) {
                socket.send_to(&answer, peer).unwrap();
            }
        }
    }

    fn answer_connections(&self, listener: &TcpListener) {
        let mut threads = Vec::new();
        while !self.ended.load(Ordering::Relaxed) {
            let Ok((stream, _peer)) = listener.accept() else {
                thread::sleep(LOOK);
                continue;
            };
            let desk = self.clone();
            // Whoever asked may go away at any moment.
            threads.push(thread::spawn(move || drop(desk.answer_connection(stream))));
        }
        for thread in threads {
            thread.join().unwrap();
        }
    }

    fn answer_connection(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(LOOK))?;
        while !self.ended.load(Ordering::Relaxed) {
            let mut length = [0; 2];
            match stream.peek(&mut length) {
                Ok(2) => {}
                Ok(0) => return Ok(()),
                Ok(_) | Err(_) => continue,
            }
            stream.read_exact(&mut length)?;
            let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut message)?;
            if let Some(answer) = self.answer(&message, true) {
                let length = u16::try_from(answer.len()).unwrap();
                stream.write_all(&[&length.to_be_bytes(), answer.as_slice()].concat())?;
            }
        }
        Ok(())
    }

    fn answer(&self, message: &[u8], tcp: bool) -> Option<Vec<u8>> {
        let question = Message::from_vec(message).unwrap();
        let query = question.queries.first().unwrap();
        let name = query.name.to_lowercase().to_ascii();
        let name = name.trim_end_matches('.').to_owned();
        let kind = query.query_type;
        let asked = {
            let mut asked = self.asked.lock().unwrap();
            let same = asked
                .iter()
                .filter(|one| one.name == name && one.kind == kind);
            let before = same.count();
            asked.push(Asked {
                name,
                kind,
                tcp,
                before,
            });
            asked.last().unwrap().clone()
        };
        let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
        answer.metadata = Metadata::response_from_request(&question.metadata);
        answer.metadata.authoritative = true;
        answer.add_query(query.clone());
        match (self.script)(&asked) {
            Answer::Records(records) => {
                answer.add_answers(records);
            }
            Answer::Absent(code, seconds) => {
                answer.metadata.response_code = code;
                let (server, mail) = (Name::root(), Name::root());
                let soa = SOA::new(server, mail, 1, 60, 60, 60, seconds);
                let zone = query.name.base_name();
                answer.add_authority(Record::from_rdata(zone, seconds, RData::SOA(soa)));
            }
            Answer::Truncated => answer.metadata.truncation = true,
            Answer::Silence => return None,
            Answer::Bytes(bytes) => return Some([&message[..2], bytes.as_slice()].concat()),
        }
        Some(answer.to_vec().unwrap())
    }
}
