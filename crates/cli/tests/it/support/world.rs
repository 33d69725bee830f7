//! A world outside for runs that may reach some of it: servers on loopback that keep whatever they
//! hear, and a name server that counts what it is asked.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::{Answer, Place};

/// The host that may be asked.
pub(crate) const API: &str = "api.example.test";
/// A host that may be asked as well.
pub(crate) const SECOND: &str = "second.example.test";
/// A host that may not.
pub(crate) const EVIL: &str = "evil.example.test";

/// A server that keeps what it hears.
pub(crate) struct Server {
    pub(crate) port: u16,
    heard: Arc<Mutex<Vec<u8>>>,
    connections: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

pub(crate) struct World {
    pub(crate) place: Place,
    /// API and SECOND over TLS.
    pub(crate) api: Server,
    /// API in the clear.
    pub(crate) plain: Server,
    /// EVIL over TLS.
    pub(crate) evil: Server,
    names: UdpSocket,
}

impl World {
    pub(crate) fn new() -> Self {
        let names = [API, SECOND, EVIL].map(str::to_owned).to_vec();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let settings = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.into())
            .unwrap();
        let settings = Arc::new(settings);
        let names = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        names.set_nonblocking(true).unwrap();
        let world = Self {
            place: Place::new(),
            api: Server::start(Some(&settings)),
            plain: Server::start(None),
            evil: Server::start(Some(&settings)),
            names,
        };
        fs::write(world.place.path("ca.pem"), made.cert.pem()).unwrap();
        world
    }

    /// Writes the rules of a run; `more` goes between the rules and the fixed parts.
    pub(crate) fn rules(&self, more: &str) {
        let (api, plain, evil) = (self.api.port, self.plain.port, self.evil.port);
        let text = format!(
            r#"
{more}
[[allow]]
host = "{API}"
schemes = ["https"]
ports = [{api}]
addresses = ["127.0.0.1/32"]
[[allow]]
host = "{API}"
schemes = ["http"]
ports = [{plain}]
addresses = ["127.0.0.1/32"]
[[allow]]
host = "{SECOND}"
schemes = ["https"]
ports = [{api}]
addresses = ["127.0.0.1/32"]
[[allow]]
host = "rebound.example.test"
[[allow]]
host = "metadata.example.test"
[resolver]
nameservers = ["127.0.0.1:{names}"]
[resolver.hosts]
"{API}" = "127.0.0.1"
"{SECOND}" = "127.0.0.1"
"rebound.example.test" = "127.0.0.1"
"metadata.example.test" = "169.254.169.254"
[trust]
roots = ["ca.pem"]
# {evil}
"#,
            names = self.names.local_addr().unwrap().port()
        );
        fs::write(self.place.path("network.toml"), text).unwrap();
    }

    /// Runs a Python program with the rules and a small library for calling.
    pub(crate) fn python(&self, options: &[&str], program: &str) -> Answer {
        let program = format!("{LIBRARY}\n{program}");
        let mut command = self.place.command();
        command.args(["run", "--json", "--limit", "time=60s", "--network"]);
        command.arg(self.place.path("network.toml")).args(options);
        for (name, value) in [
            ("API_PORT", self.api.port),
            ("PLAIN_PORT", self.plain.port),
            ("EVIL_PORT", self.evil.port),
        ] {
            command.arg("--env").arg(format!("{name}={value}"));
        }
        command.args(["--", "python3", "-c", &program]);
        command.output().unwrap().into()
    }

    /// Questions that left for a name server until now.
    pub(crate) fn questions(&self) -> usize {
        let mut buffer = [0; 512];
        std::iter::from_fn(|| self.names.recv_from(&mut buffer).ok()).count()
    }

    /// What a run tried to reach: decision, scheme, host, rule.
    pub(crate) fn attempts(&self, run: &str) -> Vec<[String; 4]> {
        let answer = self
            .place
            .call(["audit", "show", run, "--network", "--json"])
            .ok();
        let lines = answer.out.lines().map(|line| {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            ["decision", "scheme", "host", "rule"]
                .map(|key| value[key].as_str().unwrap().to_owned())
        });
        lines.collect()
    }
}

/// What Python programs inside call with.
const LIBRARY: &str = r#"
import os, socket, ssl, sys
API, SECOND, EVIL = "api.example.test", "second.example.test", "evil.example.test"
PORT, PLAIN, EVIL_PORT = (int(os.environ[n]) for n in ("API_PORT", "PLAIN_PORT", "EVIL_PORT"))
socket.setdefaulttimeout(8)
def context(check=True):
    made = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])
    made.check_hostname = check
    return made
def read(stream):
    data = b""
    try:
        while True:
            got = stream.recv(65536)
            if not got: break
            data += got
            head, end, body = data.partition(b"\r\n\r\n")
            if end and b"connection: close" not in head.lower() and b"content-length: 2\r" in head.lower() and len(body) >= 2: break
    except OSError as error:
        if not data: return "closed"
    if not data: return "closed"
    return data.decode("latin-1").split(" ")[1] if data.startswith(b"HTTP/") else "closed"
def trying(what):
    try: return what()
    except ssl.SSLError as error: return "tls"
    except socket.gaierror: return "noname"
    except OSError as error: return type(error).__name__
def get(host, port, sni=None, header=None, path="/", extra="", method="GET", check=True):
    def what():
        stream = socket.create_connection((host, port))
        stream = context(check and sni is not False).wrap_socket(stream, server_hostname=None if sni is False else (sni or host))
        stream.sendall(f"{method} {path} HTTP/1.1\r\nHost: {header or host + ':' + str(port)}\r\n{extra}Connection: close\r\n\r\n".encode("latin-1"))
        return read(stream)
    return trying(what)
def raw(host, port, data):
    def what():
        stream = socket.create_connection((host, port))
        stream.sendall(data)
        return read(stream)
    return trying(what)
def say(what, got): print(what, got, sep="\t", flush=True)
"#;

impl Server {
    fn start(settings: Option<&Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = Arc::<Mutex<Vec<u8>>>::default();
        let (connections, over) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let ours = (
            Arc::clone(&heard),
            Arc::clone(&connections),
            Arc::clone(&over),
        );
        let settings = settings.cloned();
        let thread = std::thread::spawn(move || {
            let (heard, connections, over) = ours;
            for stream in listener.incoming().flatten() {
                if over.load(Ordering::Acquire) {
                    return;
                }
                connections.fetch_add(1, Ordering::AcqRel);
                stream
                    .set_read_timeout(Some(Duration::from_secs(3)))
                    .unwrap();
                // Who breaks off in the middle has said what it has said.
                let (settings, heard) = (settings.clone(), Arc::clone(&heard));
                std::thread::spawn(move || match settings {
                    Some(settings) => {
                        let connection = ServerConnection::new(settings).unwrap();
                        serve(StreamOwned::new(connection, stream), &heard)
                    }
                    None => serve(stream, &heard),
                });
            }
        });
        Self {
            port,
            heard,
            connections,
            over,
            thread: Some(thread),
        }
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Acquire)
    }

    /// Everything it heard.
    pub(crate) fn heard(&self) -> String {
        String::from_utf8_lossy(&self.heard.lock().unwrap()).into_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).unwrap();
        self.thread.take().unwrap().join().unwrap();
    }
}

fn serve(mut stream: impl Read + Write, heard: &Mutex<Vec<u8>>) -> io::Result<()> {
    loop {
        let mut request = Vec::new();
        let mut buffer = [0; 4096];
        while !request.windows(4).any(|end| end == b"\r\n\r\n") {
            let count = stream.read(&mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            request.extend_from_slice(&buffer[..count]);
        }
        heard.lock().unwrap().extend_from_slice(&request);
        let text = String::from_utf8_lossy(&request);
        let path = text.split(' ').nth(1).unwrap_or_default();
        let answer = match path.split('?').next().unwrap_or_default() {
            "/away" => {
                format!("302 Found\r\nlocation: https://{EVIL}/\r\ncontent-length: 2\r\n\r\nok")
            }
            "/echo" => format!("200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len()),
            _ => "200 OK\r\ncontent-length: 2\r\n\r\nok".to_owned(),
        };
        stream.write_all(format!("HTTP/1.1 {answer}").as_bytes())?;
        stream.flush()?;
    }
}
