//! A client that says exactly what it is told, plain or in TLS, by way of the proxy.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::world::World;

/// A connection that bytes are said over.
pub(crate) trait Wire: Read + Write + Send {
    /// The socket.
    fn socket(&self) -> &TcpStream;
}

impl Wire for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

impl Wire for StreamOwned<ClientConnection, TcpStream> {
    fn socket(&self) -> &TcpStream {
        &self.sock
    }
}

/// A client in the middle of a connection.
pub(crate) struct Client {
    wire: Box<dyn Wire>,
    read: Vec<u8>,
}

/// An answer, as far as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    /// A member of a refusal's body.
    pub(crate) fn member(&self, name: &str) -> String {
        let body: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        body[name].as_str().unwrap_or_default().to_owned()
    }
}

impl Client {
    /// Speaks to the proxy itself.
    pub(crate) fn proxy(world: &World) -> Self {
        Self::over(connected(world.proxy))
    }

    /// Speaks to a host in the clear.
    pub(crate) fn plain(world: &World, host: &str, port: u16) -> Self {
        Self::over(tunnel(world, host, port))
    }

    /// Speaks to a host in TLS that the gate looks into.
    pub(crate) fn tls(world: &World, host: &str, port: u16) -> Self {
        Self::over(in_tls(world, host, port, &[b"http/1.1"]))
    }

    fn over(wire: impl Wire + 'static) -> Self {
        Self {
            wire: Box::new(wire),
            read: Vec::new(),
        }
    }

    /// Says something.
    pub(crate) fn say(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        // A gate that has closed hears nothing; what it said before is still there to be read.
        self.wire
            .write_all(bytes.as_ref())
            .and_then(|()| self.wire.flush())
            .ok();
        self
    }

    /// How long it waits for the next word.
    pub(crate) fn patience(&mut self, limit: Duration) -> &mut Self {
        self.wire.socket().set_read_timeout(Some(limit)).unwrap();
        self
    }

    /// Says something and hears the whole answer, which has a length.
    pub(crate) fn ask(&mut self, bytes: impl AsRef<[u8]>) -> Answer {
        self.say(bytes).hear().expect("an answer")
    }

    /// Hears one answer; nothing if the connection ended before.
    pub(crate) fn hear(&mut self) -> Option<Answer> {
        loop {
            if let Some((answer, length)) = answer(&self.read) {
                self.read.drain(..length);
                return Some(answer);
            }
            let mut piece = [0; 4096];
            match self.wire.read(&mut piece) {
                Ok(0) => return None,
                Ok(count) => self.read.extend_from_slice(&piece[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => panic!(
                    "no answer in time: {:?}",
                    String::from_utf8_lossy(&self.read)
                ),
                Err(_reset) => return None,
            }
        }
    }

    /// Everything until the connection ends.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut rest = std::mem::take(&mut self.read);
        // A reset ends a connection as well.
        self.wire.read_to_end(&mut rest).ok();
        rest
    }

    /// So many bytes.
    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut piece = [0; 4096];
        while self.read.len() < count {
            let read = self.wire.read(&mut piece).unwrap();
            assert_ne!(read, 0, "the connection ended");
            self.read.extend_from_slice(&piece[..read]);
        }
        self.read.drain(..count).collect()
    }
}

/// One answer of HTTP/1 at the beginning of these bytes, and its length.
fn answer(bytes: &[u8]) -> Option<(Answer, usize)> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|word| word.parse().ok())
        .unwrap_or(0);
    let field = |name: &str| {
        let mut lines = head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(": "));
        lines
            .find(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    };
    let start = end + 4;
    if field("transfer-encoding") == Some("chunked") {
        let (body, length) = unchunked(&bytes[start..])?;
        let body = String::from_utf8_lossy(&body).into_owned();
        return Some((Answer { status, head, body }, start + length));
    }
    let none = matches!(status, 100..=199 | 204 | 304);
    let length = if none {
        0
    } else {
        field("content-length")?.parse().ok()?
    };
    let body = bytes.get(start..start + length)?;
    let body = String::from_utf8_lossy(body).into_owned();
    Some((Answer { status, head, body }, start + length))
}

fn unchunked(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut at, mut body) = (0, Vec::new());
    loop {
        let end = bytes[at..]
            .windows(2)
            .position(|window| window == b"\r\n")?;
        let size =
            usize::from_str_radix(std::str::from_utf8(&bytes[at..at + end]).ok()?, 16).ok()?;
        at += end + 2;
        if size == 0 {
            let end = bytes[at - 2..]
                .windows(4)
                .position(|window| window == b"\r\n\r\n")?;
            return Some((body, at + end + 2));
        }
        body.extend_from_slice(bytes.get(at..at + size)?);
        at += size + 2;
    }
}

fn connected(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// A connection to a host that the proxy has granted.
pub(crate) fn tunnel(world: &World, host: &str, port: u16) -> TcpStream {
    let mut stream = connected(world.proxy);
    write!(
        stream,
        "CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n"
    )
    .unwrap();
    let mut said = Vec::new();
    let mut byte = [0];
    while !said.ends_with(b"\r\n\r\n") {
        assert_eq!(
            stream.read(&mut byte).unwrap(),
            1,
            "{}",
            String::from_utf8_lossy(&said)
        );
        said.push(byte[0]);
    }
    let said = String::from_utf8(said).unwrap();
    assert!(said.starts_with("HTTP/1.1 200"), "{said}");
    stream
}

/// How a program inside would speak TLS: it trusts the run's authority alone.
pub(crate) fn settings(root: &CertificateDer<'static>, protocols: &[&[u8]]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut settings = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    settings.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Arc::new(settings)
}

fn in_tls(world: &World, host: &str, port: u16, protocols: &[&[u8]]) -> impl Wire + use<> {
    let stream = tunnel(world, host, port);
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let settings = settings(&world.authority, protocols);
    let mut wire = StreamOwned::new(ClientConnection::new(settings, name).unwrap(), stream);
    wire.conn
        .complete_io(&mut wire.sock)
        .expect("TLS with the gate");
    wire
}
