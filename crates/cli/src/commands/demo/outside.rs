//! The outside world of a replay: servers on this host's loopback that keep whatever reaches them.
//! A partner that may be asked, another host that may be asked, a collector that may not, and a
//! name server that counts the questions that leave.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use belljar_gate::Settings;
use belljar_policy::egress::Rule;
use belljar_server::app::network::NetworkRequest;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::stage::unavailable;
use crate::failure::Failure;

/// The host that a run may ask for its orders.
pub(super) const PARTNER: &str = "api.partner.example";
/// Another host that a run may ask.
pub(super) const MIRROR: &str = "mirror.example";
/// The host of somebody who collects what is not his.
pub(super) const COLLECTOR: &str = "collector.example";
/// What a server says of a path that it does not know: as servers do, it repeats the path.
const UNKNOWN: &str = "there is nothing at";
/// Bytes of one request that are kept.
const REQUEST_BYTES_MAX: usize = 1 << 20;

/// The servers. Dropping them ends them.
pub(super) struct Outside {
    pub(super) partner: Server,
    pub(super) mirror: Server,
    pub(super) collector: Server,
    names: Names,
    root: CertificateDer<'static>,
}

/// A server over TLS, with what it has heard.
pub(super) struct Server {
    pub(super) port: u16,
    heard: Arc<Mutex<Vec<u8>>>,
    connections: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// A name server that answers nothing.
struct Names {
    at: SocketAddr,
    socket: UdpSocket,
}

impl Outside {
    pub(super) fn open() -> Result<Self, Failure> {
        let failed = |error: &dyn std::error::Error| unavailable("make a certificate", error);
        let names = [PARTNER, MIRROR, COLLECTOR].map(str::to_owned).to_vec();
        let made = rcgen::generate_simple_self_signed(names).map_err(|e| failed(&e))?;
        let root = made.cert.der().clone();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let settings = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| failed(&e))?
            .with_no_client_auth()
            .with_single_cert(vec![root.clone()], key)
            .map_err(|e| failed(&e))?;
        let settings = Arc::new(settings);
        let open = || Server::open(&settings).map_err(|e| unavailable("start a server", &e));
        Ok(Self {
            partner: open()?,
            mirror: open()?,
            collector: open()?,
            names: Names::open().map_err(|e| unavailable("start a name server", &e))?,
            root,
        })
    }

    /// A network on which the partner and the mirror may be asked: one path, to read.
    pub(super) fn network(&self) -> Result<NetworkRequest, Failure> {
        let mut request = NetworkRequest {
            settings: Settings {
                nameservers: vec![self.names.at],
                roots: vec![self.root.clone()],
                hosts: Vec::new(),
            },
            ..NetworkRequest::default()
        };
        for (host, port) in [(PARTNER, self.partner.port), (MIRROR, self.mirror.port)] {
            let name = host.parse().map_err(|e| unavailable("name a host", &e))?;
            let known = (name, Ipv4Addr::LOCALHOST.into());
            request.settings.hosts.push(known);
            let text = format!("https://{host}:{port}/v1");
            let mut rule = Rule::parse_allow(&text).map_err(|e| unavailable("make a rule", &e))?;
            rule.methods = vec!["GET".to_owned()];
            // They are on this host only because the replay is.
            rule.addresses = vec![std::net::IpAddr::from(Ipv4Addr::LOCALHOST).into()];
            request.rules.rules.push(rule);
        }
        Ok(request)
    }

    /// Questions that reached the name server.
    pub(super) fn questions(&self) -> usize {
        let mut buffer = [0; 512];
        let mut count = 0;
        while self.names.socket.recv_from(&mut buffer).is_ok() {
            count += 1;
        }
        count
    }
}

impl Names {
    fn open() -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_nonblocking(true)?;
        let at = socket.local_addr()?;
        Ok(Self { at, socket })
    }
}

impl Server {
    fn open(settings: &Arc<ServerConfig>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let heard = Arc::<Mutex<Vec<u8>>>::default();
        let (connections, over) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let ours = (
            Arc::clone(&heard),
            Arc::clone(&connections),
            Arc::clone(&over),
        );
        let settings = Arc::clone(settings);
        let thread = std::thread::Builder::new().spawn(move || {
            let (heard, connections, over) = ours;
            for stream in listener.incoming().flatten() {
                if over.load(Ordering::Acquire) {
                    return;
                }
                connections.fetch_add(1, Ordering::AcqRel);
                // Who breaks off in the middle has said what it has said.
                if serve(stream, &settings, &heard).is_err() {}
            }
        })?;
        Ok(Self {
            port,
            heard,
            connections,
            over,
            thread: Some(thread),
        })
    }

    /// How many came.
    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::Acquire)
    }

    /// How often it heard something.
    pub(super) fn heard(&self, text: &str) -> usize {
        let Ok(heard) = self.heard.lock() else {
            return 0;
        };
        let windows = heard.windows(text.len().max(1));
        windows.filter(|window| *window == text.as_bytes()).count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        let woken = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok();
        if let Some(thread) = self.thread.take().filter(|_| woken)
            && thread.join().is_err()
        {}
    }
}

/// Answers the requests of one connection, one after the other.
fn serve(
    stream: TcpStream,
    settings: &Arc<ServerConfig>,
    heard: &Mutex<Vec<u8>>,
) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let connection = ServerConnection::new(Arc::clone(settings)).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(connection, stream);
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") && request.len() < REQUEST_BYTES_MAX {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        request.extend_from_slice(buffer.get(..count).unwrap_or_default());
    }
    if let Ok(mut heard) = heard.lock() {
        heard.extend_from_slice(&request);
    }
    let text = String::from_utf8_lossy(&request);
    let path = text.split(' ').nth(1).unwrap_or_default();
    let (status, body) = match path.split('?').next().unwrap_or_default() {
        "/v1/orders" => ("200 OK", "[]".to_owned()),
        // It shows a caller what it sent, as debugging pages do.
        "/v1/echo" => ("200 OK", text.clone().into_owned()),
        _ => ("404 Not Found", format!("{UNKNOWN} {path}")),
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    stream.conn.send_close_notify();
    stream.flush()
}
