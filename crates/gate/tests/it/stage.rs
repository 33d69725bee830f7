//! A gate with one door, a ledger to read, and servers on the loopback that pretend to be far away.
//! Where a sandbox's sockets would be are listeners of the loopback.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use belljar_base::{Clock, RunId, Timestamp};
use belljar_gate::secret::Secret;
use belljar_gate::{Authority, Counts, Door, Gate, Opening, Settings, Sockets};
use belljar_ledger::event::NetworkAsked;
use belljar_ledger::{Event, Ledger, Options};
use belljar_policy::egress::{Rule, Rules};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use rustls::{StreamOwned, crypto};

/// TLS as a client has it.
pub(crate) type ClientTls = StreamOwned<ClientConnection, TcpStream>;
/// TLS as a server has it.
pub(crate) type ServerTls = StreamOwned<ServerConnection, TcpStream>;

/// A gate and its door.
pub(crate) struct Stage {
    door: Option<Door>,
    _gate: Gate,
    pub(crate) proxy: SocketAddr,
    pub(crate) transparent: SocketAddr,
    /// Where names are asked for, over UDP and over TCP.
    pub(crate) dns: SocketAddr,
    pub(crate) run: RunId,
    pub(crate) ledger: Arc<Ledger>,
    /// The authority that a sandbox would trust.
    pub(crate) authority: CertificateDer<'static>,
    pub(crate) state: tempfile::TempDir,
}

/// What a stage is set with.
#[derive(Default)]
pub(crate) struct Set {
    pub(crate) rules: Rules,
    pub(crate) settings: Settings,
    pub(crate) secrets: Vec<Secret>,
    /// How the ledger is opened.
    pub(crate) ledger: Options,
}

impl Set {
    /// These rules; names lead to the loopback, and rules expect that.
    pub(crate) fn new(rules: &[&str], names: &[&str]) -> Self {
        let mut set = Self::default();
        set.rules.rules = rules.iter().map(|text| rule(text)).collect();
        set.settings.roots = vec![far().certificate.clone()];
        for name in names {
            set = set.host(name, "127.0.0.1");
        }
        set
    }

    /// A name with one more address.
    pub(crate) fn host(mut self, name: &str, address: &str) -> Self {
        let address: IpAddr = address.parse().unwrap();
        self.settings.hosts.push((name.parse().unwrap(), address));
        self
    }
}

/// A rule of the command line that expects its host on the loopback.
pub(crate) fn rule(text: &str) -> Rule {
    let mut rule = Rule::parse_allow(text).unwrap();
    rule.addresses = vec!["127.0.0.0/8".parse().unwrap()];
    rule
}

struct Now;

impl Clock for Now {
    #[expect(clippy::disallowed_methods, reason = "the composition root of a test")]
    fn now(&self) -> Timestamp {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Timestamp::from_nanos(u64::try_from(now.as_nanos()).unwrap())
    }
}

impl Stage {
    /// Opens a door.
    pub(crate) fn open(set: Set) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(1);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let run = RunId::new(Now.now(), u32::try_from(number).unwrap());
        let state = tempfile::tempdir().unwrap();
        let dir: PathBuf = state.path().join("ledger");
        let ledger = Arc::new(Ledger::open(&dir, &set.ledger).unwrap());
        let gate = Gate::start(set.settings).unwrap();
        let authority = Authority::new(run, Now.now()).unwrap();
        let certificate = CertificateDer::from(authority.der().to_vec());
        let (proxy, proxy_at) = listener();
        let (transparent, transparent_at) = listener();
        let (dns_udp, dns_tcp, dns_at) = name_server();
        let door = gate.open(Opening {
            run,
            agent: "tester".parse().unwrap(),
            sockets: Sockets {
                transparent: vec![transparent],
                proxy: vec![proxy],
                dns_udp: vec![dns_udp],
                dns_tcp: vec![dns_tcp],
            },
            rules: set.rules,
            secrets: set.secrets,
            authority,
            ledger: Arc::clone(&ledger),
            clock: Arc::new(Now),
        });
        Self {
            door: Some(door.unwrap()),
            _gate: gate,
            proxy: proxy_at,
            transparent: transparent_at,
            dns: dns_at,
            run,
            ledger,
            authority: certificate,
            state,
        }
    }

    pub(crate) fn door(&self) -> &Door {
        self.door.as_ref().unwrap()
    }

    /// A connection to the proxy's listener.
    pub(crate) fn dial(&self) -> TcpStream {
        dial(self.proxy)
    }

    /// Asks the proxy for a tunnel, and returns the head of its answer and the connection.
    pub(crate) fn connect(&self, target: &str) -> (String, TcpStream) {
        let mut stream = self.dial();
        write!(
            stream,
            "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n"
        )
        .unwrap();
        (head(&mut stream), stream)
    }

    /// A tunnel that must be granted.
    pub(crate) fn tunnel(&self, target: &str) -> TcpStream {
        let (head, stream) = self.connect(target);
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        stream
    }

    /// Closes the door; the records that are there then are all.
    pub(crate) fn close(&mut self) -> Counts {
        self.door.take().unwrap().close()
    }

    /// Every event of the run, so far.
    pub(crate) fn events(&self) -> Vec<Event> {
        let records = self.ledger.of_run(self.run).unwrap();
        records.into_iter().map(|record| record.event).collect()
    }

    /// Every attempt on record, as `effect scheme host port rule`.
    pub(crate) fn attempts(&self) -> Vec<String> {
        self.asked().iter().map(shown).collect()
    }

    pub(crate) fn asked(&self) -> Vec<NetworkAsked> {
        let asked = |event| {
            let Event::NetworkAsked(asked) = event else {
                return None;
            };
            Some(*asked)
        };
        self.events().into_iter().filter_map(asked).collect()
    }

    /// Every end on record: bytes out, bytes in, why.
    pub(crate) fn ends(&self) -> Vec<(u64, u64, String)> {
        let ended = |event| {
            let Event::NetworkEnded {
                up_bytes,
                down_bytes,
                end,
                ..
            } = event
            else {
                return None;
            };
            Some((up_bytes, down_bytes, end.to_string()))
        };
        self.events().into_iter().filter_map(ended).collect()
    }

    /// Waits until one attempt is on record of which this is true.
    pub(crate) fn wait_for(
        &self,
        what: &str,
        found: impl Fn(&NetworkAsked) -> bool,
    ) -> NetworkAsked {
        let end = Instant::now() + Duration::from_secs(15);
        loop {
            if let Some(asked) = self.asked().into_iter().find(&found) {
                return asked;
            }
            assert!(
                Instant::now() < end,
                "no record of {what}: {:?}",
                self.attempts()
            );
            thread::sleep(Duration::from_millis(10));
        }
    }
}

fn shown(asked: &NetworkAsked) -> String {
    let NetworkAsked {
        effect,
        scheme,
        host,
        port,
        rule,
        ..
    } = asked;
    format!("{effect:?} {scheme} {host} {port} {rule}").to_lowercase()
}

fn listener() -> (OwnedFd, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener.into(), address)
}

/// A socket and a listener on one port.
fn name_server() -> (OwnedFd, OwnedFd, SocketAddr) {
    for _ in 0..100 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        if let Ok(socket) = UdpSocket::bind(address) {
            return (socket.into(), listener.into(), address);
        }
    }
    panic!("no port is free for both UDP and TCP");
}

/// A connection that does not wait for ever.
pub(crate) fn dial(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream
        .set_write_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream
}

/// Reads a head and not a byte more.
pub(crate) fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            Ok(_) | Err(_) => break,
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// What a connection still says, until it ends in whichever way.
pub(crate) fn rest(stream: &mut impl std::io::Read) -> Vec<u8> {
    let mut all = Vec::new();
    let mut piece = [0; 4096];
    loop {
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => return all,
            Ok(read) => all.extend_from_slice(&piece[..read]),
        }
    }
}

/// The certificate authority of the servers that are far away.
pub(crate) struct Far {
    pub(crate) certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

pub(crate) fn far() -> &'static Far {
    static FAR: OnceLock<Far> = OnceLock::new();
    FAR.get_or_init(|| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap().der().clone();
        let issuer = Issuer::new(params, key);
        Far {
            certificate,
            issuer,
        }
    })
}

/// How a server with a certificate for these names speaks TLS.
pub(crate) fn server_tls(names: &[&str], protocols: &[&str]) -> Arc<ServerConfig> {
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let params = CertificateParams::new(names).unwrap();
    let leaf = params.signed_by(&key, &far().issuer).unwrap().der().clone();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf], key)
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// How a client speaks TLS that trusts this authority alone.
pub(crate) fn client_tls(trusted: &CertificateDer<'static>, protocols: &[&str]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
    config
}

/// TLS over a connection, as `name`.
pub(crate) fn secured(stream: TcpStream, config: ClientConfig, name: &str) -> ClientTls {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    StreamOwned::new(
        ClientConnection::new(Arc::new(config), name).unwrap(),
        stream,
    )
}

/// A server on the loopback, and how many connections reached it.
pub(crate) struct Server {
    pub(crate) port: u16,
    reached: Arc<AtomicUsize>,
}

impl Server {
    /// Does this with each connection.
    pub(crate) fn start(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let reached = Arc::new(AtomicUsize::new(0));
        let (counted, serve) = (Arc::clone(&reached), Arc::new(serve));
        // It ends with the process of the test.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                counted.fetch_add(1, Ordering::SeqCst);
                let serve = Arc::clone(&serve);
                stream
                    .set_read_timeout(Some(Duration::from_secs(60)))
                    .unwrap();
                thread::spawn(move || serve(stream));
            }
        });
        Self { port, reached }
    }

    /// The same, in TLS.
    pub(crate) fn tls(names: &[&str], serve: impl Fn(ServerTls) + Send + Sync + 'static) -> Self {
        let config = server_tls(names, &[]);
        Self::start(move |stream| {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            serve(StreamOwned::new(connection, stream));
        })
    }

    /// Says everything back.
    pub(crate) fn echo() -> Self {
        Self::start(|mut stream| {
            let mut back = stream.try_clone().unwrap();
            // A client may break off.
            std::io::copy(&mut stream, &mut back).ok();
            back.shutdown(std::net::Shutdown::Write).ok();
        })
    }

    /// Answers every request of HTTP/1.1 in TLS with its own head.
    pub(crate) fn https(names: &[&str]) -> (Self, Arc<Mutex<Vec<String>>>) {
        let heads = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&heads);
        let server = Self::tls(names, move |mut stream| {
            while let Some(head) = request_head(&mut stream) {
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{head}",
                    head.len()
                );
                seen.lock().unwrap().push(head);
                if stream.write_all(answer.as_bytes()).is_err() {
                    return;
                }
            }
        });
        (server, heads)
    }

    pub(crate) fn reached(&self) -> usize {
        self.reached.load(Ordering::SeqCst)
    }
}

/// The head of a request; nothing when the client has ended.
pub(crate) fn request_head(stream: &mut impl std::io::Read) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            Ok(_) | Err(_) => return None,
        }
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}
