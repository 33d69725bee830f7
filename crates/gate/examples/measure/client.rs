//! What a client does, and how long it takes.

use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto};
use serde_json::{Value, json};

use crate::Outcome;

type Tls = BufReader<StreamOwned<ClientConnection, TcpStream>>;

/// Whom the client talks to, and by which way.
pub(crate) struct Target {
    /// Nothing for a direct connection to the loopback.
    pub(crate) proxy: Option<SocketAddr>,
    /// What the client trusts, as PEM.
    pub(crate) authority: Vec<u8>,
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// Does one thing `count` times (or for so many seconds, or so many bytes).
pub(crate) fn load(what: &str, target: &Target, count: usize) -> Outcome<Value> {
    match what {
        "connect" => connects(target, count),
        "download" => download(target, count),
        "requests" => requests(target, count),
        "idle" => idle(target, count),
        other => Err(format!("cannot do `{other}`").into()),
    }
}

impl Target {
    fn dial(&self) -> Outcome<TcpStream> {
        let direct = SocketAddr::from(([127, 0, 0, 1], self.port));
        let mut stream = TcpStream::connect(self.proxy.unwrap_or(direct))?;
        stream.set_nodelay(true)?;
        if self.proxy.is_some() {
            let (host, port) = (&self.host, self.port);
            let ask = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n");
            stream.write_all(ask.as_bytes())?;
            let mut answer = Vec::new();
            let mut byte = [0];
            while !answer.ends_with(b"\r\n\r\n") {
                stream.read_exact(&mut byte)?;
                answer.extend_from_slice(&byte);
            }
            if !answer.starts_with(b"HTTP/1.1 200") && !answer.starts_with(b"HTTP/1.0 200") {
                return Err(String::from_utf8_lossy(&answer).into());
            }
        }
        Ok(stream)
    }

    /// No session is resumed: each connection is one to a host never met before.
    fn settings(&self) -> Outcome<Arc<ClientConfig>> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&self.authority) {
            roots.add(certificate?)?;
        }
        let provider = Arc::new(crypto::ring::default_provider());
        let mut settings = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        settings.resumption = Resumption::disabled();
        Ok(Arc::new(settings))
    }

    fn open(&self, settings: &Arc<ClientConfig>) -> Outcome<Tls> {
        let name = ServerName::try_from(self.host.clone())?;
        let connection = ClientConnection::new(Arc::clone(settings), name)?;
        let stream = StreamOwned::new(connection, self.dial()?);
        Ok(BufReader::with_capacity(64 << 10, stream))
    }

    /// Asks for so many bytes and reads them.
    fn get(&self, stream: &mut Tls, bytes: usize) -> Outcome<()> {
        let (host, port) = (&self.host, self.port);
        let ask = format!("GET /{bytes} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n");
        stream.get_mut().write_all(ask.as_bytes())?;
        let head = head(stream)?.ok_or("the server has ended")?;
        if !head.starts_with("HTTP/1.1 200") {
            return Err(head.into());
        }
        let mut left = bytes;
        while left > 0 {
            let read = stream.fill_buf()?.len().min(left);
            if read == 0 {
                return Err("the server has ended".into());
            }
            stream.consume(read);
            left -= read;
        }
        Ok(())
    }
}

/// Connections one after the other, each with one small request: the middle one's time.
fn connects(target: &Target, count: usize) -> Outcome<Value> {
    let settings = target.settings()?;
    let mut took = Vec::new();
    for _ in 0..count {
        let start = Instant::now();
        let mut stream = target.open(&settings)?;
        target.get(&mut stream, 2)?;
        took.push(start.elapsed());
    }
    took.sort();
    let at = |part: usize| took.get(took.len() * part / 100).map(Duration::as_micros);
    Ok(json!({ "p50_us": at(50), "p90_us": at(90), "p99_us": at(99) }))
}

/// One answer of so many bytes.
fn download(target: &Target, bytes: usize) -> Outcome<Value> {
    let settings = target.settings()?;
    let mut stream = target.open(&settings)?;
    target.get(&mut stream, 2)?;
    let start = Instant::now();
    target.get(&mut stream, bytes)?;
    let seconds = start.elapsed().as_secs_f64();
    Ok(json!({ "mib_per_s": (bytes >> 20) as f64 / seconds }))
}

/// Connections that ask again and again for so many seconds.
fn requests(target: &Target, seconds: usize) -> Outcome<Value> {
    let settings = target.settings()?;
    let (answered, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let start = thread::scope(|scope| {
        let ask = || {
            let mut stream = target.open(&settings)?;
            while !over.load(Ordering::Relaxed) {
                target.get(&mut stream, 128)?;
                answered.fetch_add(1, Ordering::Relaxed);
            }
            Outcome::Ok(())
        };
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(ask)).collect();
        // What comes first warms up.
        thread::sleep(Duration::from_secs(1));
        let (begun, start) = (answered.load(Ordering::Relaxed), Instant::now());
        thread::sleep(Duration::from_secs(u64::try_from(seconds)?));
        let ended = answered.load(Ordering::Relaxed);
        let took = start.elapsed();
        over.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().map_err(|_panic| "a client panicked")??;
        }
        Outcome::Ok((ended - begun, took))
    })?;
    let (answered, took) = start;
    Ok(json!({ "per_s": answered as f64 / took.as_secs_f64() }))
}

/// Connections that have said hello and then say nothing, until standard input ends.
fn idle(target: &Target, count: usize) -> Outcome<Value> {
    let settings = target.settings()?;
    let mut held = Vec::new();
    for _ in 0..count {
        let name = ServerName::try_from(target.host.clone())?;
        let mut connection = ClientConnection::new(Arc::clone(&settings), name)?;
        let mut stream = target.dial()?;
        connection.write_tls(&mut stream)?;
        stream.read_exact(&mut [0])?;
        held.push(stream);
    }
    writeln!(std::io::stdout(), "{}", json!({ "held": held.len() }))?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    // Whoever started it has read one line and reads no more.
    std::process::exit(0)
}

const CLIENTS: usize = 64;

/// The head of a message; nothing when the other side has ended.
pub(crate) fn head(stream: &mut impl BufRead) -> Outcome<Option<String>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_until(b'\n', &mut head)? == 0 {
            return Ok(None);
        }
    }
    Ok(Some(String::from_utf8(head)?))
}
