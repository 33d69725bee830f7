//! A server in TLS that speaks HTTP/1 and HTTP/2 as a library does, and remembers what it was asked;
//! and a client of HTTP/2.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::client::{settings, tunnel};
use super::world::{Shared, World};

/// A request, as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub(crate) version: String,
    pub(crate) method: String,
    pub(crate) path: String,
    /// From `:authority` or `Host`.
    pub(crate) authority: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Which connection it came over, from 0.
    pub(crate) connection: usize,
}

/// A server on loopback.
pub(crate) struct Server {
    /// Where it is.
    pub(crate) port: u16,
    /// What its certificate is signed by.
    pub(crate) root: CertificateDer<'static>,
    seen: Shared<Vec<Seen>>,
    _runtime: Runtime,
}

/// What a server says.
pub(crate) type Say = dyn Fn(&Seen) -> Response<Full<Bytes>> + Send + Sync;

impl Server {
    /// Has a certificate for these names, offers these protocols, answers with `say`.
    pub(crate) fn start(
        names: &[&str],
        protocols: &[&str],
        say: impl Fn(&Seen) -> Response<Full<Bytes>> + Send + Sync + 'static,
    ) -> Self {
        let (settings, root) = certified(names, protocols);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen: Shared<Vec<Seen>> = Arc::default();
        let shared = Arc::clone(&seen);
        let say: Arc<Say> = Arc::new(say);
        let acceptor = TlsAcceptor::from(Arc::new(settings));
        runtime.spawn(async move {
            for connection in 0.. {
                let Ok((stream, _)) = listener.accept().await else {
                    return;
                };
                let (acceptor, seen, say) =
                    (acceptor.clone(), Arc::clone(&shared), Arc::clone(&say));
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        serve(stream, connection, seen, say).await;
                    }
                });
            }
        });
        Self {
            port,
            root,
            seen,
            _runtime: runtime,
        }
    }

    /// Answers everything with `ok`.
    pub(crate) fn ok(names: &[&str]) -> Self {
        Self::start(names, &["h2", "http/1.1"], |_| {
            Response::new(Full::from("ok"))
        })
    }

    /// What arrived so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

async fn serve(
    stream: tokio_rustls::server::TlsStream<TcpStream>,
    connection: usize,
    seen: Shared<Vec<Seen>>,
    say: Arc<Say>,
) {
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let service = service_fn(move |request| {
        let (seen, say) = (Arc::clone(&seen), Arc::clone(&say));
        async move { Ok::<_, Infallible>(answer(request, connection, &seen, say.as_ref()).await) }
    });
    let io = TokioIo::new(stream);
    // A test that has seen enough goes away in the middle.
    if http2 {
        let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        server.serve_connection(io, service).await.ok();
    } else {
        let server = hyper::server::conn::http1::Builder::new();
        server.serve_connection(io, service).await.ok();
    }
}

async fn answer(
    request: Request<Incoming>,
    connection: usize,
    seen: &Mutex<Vec<Seen>>,
    say: &Say,
) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let Ok(body) = body.collect().await else {
        return Response::new(Full::from("the body ended early"));
    };
    let authority = parts.uri.authority().map(ToString::to_string);
    let host = parts
        .headers
        .get("host")
        .map(|host| host.to_str().unwrap().to_owned());
    let one = Seen {
        version: format!("{:?}", parts.version),
        method: parts.method.to_string(),
        path: parts.uri.path_and_query().unwrap().to_string(),
        authority: authority.or(host).unwrap_or_default(),
        headers: parts.headers,
        body: body.to_bytes(),
        connection,
    };
    let said = say(&one);
    seen.lock().unwrap().push(one);
    said
}

/// TLS settings with a certificate for these names, and the root it is signed by.
fn certified(names: &[&str], protocols: &[&str]) -> (ServerConfig, CertificateDer<'static>) {
    let root_key = KeyPair::generate().unwrap();
    let mut root = CertificateParams::default();
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root_certificate = root.self_signed(&root_key).unwrap();
    let issuer = Issuer::new(root, root_key);
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let leaf = CertificateParams::new(names)
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let mut settings = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .unwrap();
    settings.alpn_protocols = protocols
        .iter()
        .map(|name| name.as_bytes().to_vec())
        .collect();
    (settings, root_certificate.der().clone())
}

/// A client of HTTP/2 inside of TLS that the gate looks into.
pub(crate) struct Client {
    sender: SendRequest<Full<Bytes>>,
    runtime: Runtime,
}

impl Client {
    /// By way of the proxy.
    pub(crate) fn http2(world: &World, host: &str, port: u16) -> Self {
        let stream = tunnel(world, host, port);
        stream.set_nonblocking(true).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let name = ServerName::try_from(host.to_owned()).unwrap();
        let connector = TlsConnector::from(settings(&world.authority, &[b"h2"]));
        let sender = runtime.block_on(async {
            let stream = TcpStream::from_std(stream).unwrap();
            let stream = connector.connect(name, stream).await.unwrap();
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
            let client = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
            let (sender, connection) = client.handshake(TokioIo::new(stream)).await.unwrap();
            tokio::spawn(async move {
                connection.await.ok();
            });
            sender
        });
        Self { sender, runtime }
    }

    /// Sends one request and takes in the whole answer.
    pub(crate) fn ask(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<(u16, HeaderMap, Bytes), String> {
        self.runtime.block_on(async {
            let answer = self.sender.send_request(request).await;
            let (parts, body) = answer.map_err(|error| format!("{error:?}"))?.into_parts();
            let body = body.collect().await.map_err(|error| format!("{error:?}"))?;
            Ok((parts.status.as_u16(), parts.headers, body.to_bytes()))
        })
    }

    /// Sends requests at once; their answers' statuses in the order they were sent.
    pub(crate) fn crowd(&mut self, requests: Vec<Request<Full<Bytes>>>) -> Vec<u16> {
        self.runtime.block_on(async {
            let sent: Vec<_> = requests
                .into_iter()
                .map(|request| self.sender.send_request(request))
                .collect();
            let mut statuses = Vec::new();
            for answer in sent {
                statuses.push(answer.await.map_or(0, |answer| answer.status().as_u16()));
            }
            statuses
        })
    }
}

/// Nobody listens there.
pub(crate) fn nobody() -> u16 {
    let listener = std::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    listener.local_addr().unwrap().port()
}
