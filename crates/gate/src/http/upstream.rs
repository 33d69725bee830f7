//! Connections to servers. One of HTTP/1 has no task of its own: whoever sends a request over it
//! also drives it, so an answer wakes nobody but the client's connection. When the answer has ended
//! well it waits here for the next request of the run to the same host, port and scheme.

mod pool; // what waits for its next request

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context as Waking, Waker};
use std::time::{Duration, Instant};

use belljar_base::bounds::{EGRESS_DIAL_MILLIS_MAX, HTTP_WINDOW_BYTES};
use belljar_policy::egress::{Asked, Scheme};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::OwnedMutexGuard;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::aim::Aim;
use super::body::Up;
use super::stream::Stream;
use super::{Context, Target};
use crate::dial::dial;
use crate::judge::{Passage, Refused, code};
use crate::trust::server_name;
pub(super) use pool::Pool;

/// A way to a server.
pub(super) enum Way {
    /// A connection of HTTP/1 that waited.
    First(First),
    /// A connection of HTTP/2 that others use as well.
    Second(Second),
    /// Addresses that were checked and may be dialled.
    New(New),
}

/// A connection that is on record and not yet made.
pub(super) struct New {
    passage: Passage,
    addresses: Vec<SocketAddr>,
    /// Held while it may turn out to be one of HTTP/2, which the others then share.
    turn: Option<OwnedMutexGuard<()>>,
}

/// A connection of HTTP/1.
pub(super) struct First {
    sender: http1::SendRequest<Up>,
    /// None when it is over.
    connection: Option<Box<http1::Connection<TokioIo<Stream>, Up>>>,
    address: SocketAddr,
    target: Arc<Target>,
    /// Ends on record when the connection does.
    _passage: Box<Passage>,
    /// When it was given back; none before its first request.
    since: Option<Instant>,
}

/// A connection of HTTP/2, which has a task of its own.
#[derive(Clone)]
pub(super) struct Second {
    sender: http2::SendRequest<Up>,
    address: SocketAddr,
}

/// A connection that was just made.
pub(super) enum Made {
    First(First),
    Second(Second),
}

/// What an answer's body holds of its connection until it has ended.
pub(super) struct Lease {
    first: Option<First>,
    context: Arc<Context>,
}

impl Context {
    /// A way to the target. A new one is on record, and nothing is dialled yet.
    pub(super) async fn way(
        self: &Arc<Self>,
        asked: &Asked<'_>,
        aim: &Aim,
        http2: bool,
    ) -> Result<Way, Refused> {
        let mut turn = None;
        if http2 && asked.scheme == Scheme::Https {
            if let Some(second) = self.pool.second(aim.target()) {
                return Ok(Way::Second(second));
            }
            turn = self.pool.turn(aim.target()).await;
            // Whoever had the turn before may have made one.
            if let Some(second) = self.pool.second(aim.target()) {
                return Ok(Way::Second(second));
            }
        }
        if let Some(first) = self.pool.take(aim.target()) {
            return Ok(Way::First(first));
        }
        self.new_way(asked, turn).await.map(Way::New)
    }

    /// A way that nobody has used, on record.
    pub(super) async fn new_way(
        self: &Arc<Self>,
        asked: &Asked<'_>,
        turn: Option<OwnedMutexGuard<()>>,
    ) -> Result<New, Refused> {
        let (passage, addresses) = self.judge.connection(asked).await?;
        Ok(New {
            passage,
            addresses,
            turn,
        })
    }

    /// Makes the connection.
    pub(super) async fn make(&self, new: New, aim: &Aim, http2: bool) -> Result<Made, Refused> {
        let limit = Duration::from_millis(EGRESS_DIAL_MILLIS_MAX);
        let New {
            passage,
            addresses,
            turn,
        } = new;
        let tcp = dial(&addresses)
            .await
            .map_err(|error| unreachable(&passage, aim, &error))?;
        let address = tcp
            .peer_addr()
            .map_err(|error| unreachable(&passage, aim, &error))?;
        let made = timeout(limit, self.greet(tcp, aim, http2)).await;
        let (stream, second) = made
            .unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|error| unreachable(&passage, aim, &error))?;
        let target = Arc::clone(aim.target());
        if second {
            let second = second_over(stream, address, passage).await;
            let second = second.map_err(|_error| broken(aim))?;
            self.pool.share(target, second.clone());
            drop(turn);
            return Ok(Made::Second(second));
        }
        if turn.is_some() {
            self.pool.first_only(&target);
        }
        let handshake = http1::Builder::new()
            .max_headers(belljar_base::bounds::HTTP_HEAD_LINES_MAX)
            .max_header_size(belljar_base::bounds::HTTP_HEAD_BYTES_MAX)
            .handshake(TokioIo::new(stream));
        let (sender, connection) = handshake.await.map_err(|_error| broken(aim))?;
        Ok(Made::First(First {
            sender,
            connection: Some(Box::new(connection)),
            address,
            target,
            _passage: Box::new(passage),
            since: None,
        }))
    }

    /// Speaks TLS where the target wants it; whether what follows is HTTP/2.
    async fn greet(&self, tcp: TcpStream, aim: &Aim, http2: bool) -> io::Result<(Stream, bool)> {
        if aim.target().scheme != Scheme::Https {
            return Ok((Stream::Plain(tcp), false));
        }
        let name = server_name(&aim.target().host).map_err(io::Error::other)?;
        let connector = TlsConnector::from(self.trust.client(http2));
        let stream = connector.connect(name, tcp).await?;
        let second = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok((Stream::Tls(Box::new(stream)), second))
    }
}

/// Begins HTTP/2 over a stream; a task drives it until nobody sends over it any more.
async fn second_over(
    stream: Stream,
    address: SocketAddr,
    passage: Passage,
) -> hyper::Result<Second> {
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(HTTP_WINDOW_BYTES)
        .initial_connection_window_size(HTTP_WINDOW_BYTES * 2)
        .keep_alive_interval(Duration::from_secs(30))
        .handshake(TokioIo::new(stream))
        .await?;
    tokio::spawn(async move {
        // Each request that it carried has been told by then.
        connection.await.ok();
        drop(passage);
    });
    Ok(Second { sender, address })
}

impl Way {
    /// Where it leads.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::First(first) => Some(first.address),
            Self::Second(second) => Some(second.address),
            Self::New(new) => new.addresses.first().copied(),
        }
    }
}

impl First {
    /// Whether it has carried a request before, and how long ago.
    pub(super) fn waited(&self) -> Option<Duration> {
        self.since.map(|since| since.elapsed())
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn send(
        &mut self,
        request: Request<Up>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Up>>> {
        let mut answer = pin!(self.sender.try_send_request(request));
        let connection = &mut self.connection;
        poll_fn(|cx| {
            drive(connection, cx);
            answer.as_mut().poll(cx)
        })
        .await
    }

    /// Whether it can carry another request right now.
    fn is_ready(&mut self) -> bool {
        drive(&mut self.connection, &mut Waking::from_waker(Waker::noop()));
        self.connection.is_some() && self.sender.is_ready()
    }

    /// Sends the opening of a WebSocket. The stream is taken out with [`First::into_stream`] once
    /// the server agreed.
    pub(super) async fn open(
        &mut self,
        request: Request<Up>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Up>>> {
        let mut answer = pin!(self.sender.try_send_request(request));
        let connection = &mut self.connection;
        let mut over = false;
        poll_fn(|cx| {
            if let Some(connection) = connection
                && !over
            {
                over = connection.poll_without_shutdown(cx).is_ready();
            }
            answer.as_mut().poll(cx)
        })
        .await
    }

    /// The stream, and what was read from it that is not HTTP.
    pub(super) fn into_stream(self) -> Option<(Stream, bytes::Bytes)> {
        let parts = self.connection?.into_parts();
        Some((parts.io.into_inner(), parts.read_buf))
    }
}

fn drive(
    connection: &mut Option<Box<http1::Connection<TokioIo<Stream>, Up>>>,
    cx: &mut Waking<'_>,
) {
    if let Some(open) = connection
        && Pin::new(open.as_mut()).poll(cx).is_ready()
    {
        // Whoever waits for an answer over it hears of the error there.
        *connection = None;
    }
}

impl Second {
    /// Sends a request and waits for the head of its answer.
    pub(super) async fn send(
        &mut self,
        request: Request<Up>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Up>>> {
        self.sender.try_send_request(request).await
    }
}

impl Lease {
    /// Of a connection that is to be given back, if there is one.
    pub(super) fn new(first: Option<First>, context: &Arc<Context>) -> Self {
        Self {
            first,
            context: Arc::clone(context),
        }
    }

    /// Drives the connection on behalf of whoever reads from it.
    pub(super) fn drive(&mut self, cx: &mut Waking<'_>) {
        if let Some(first) = &mut self.first {
            drive(&mut first.connection, cx);
        }
    }

    /// Gives the connection back, if it can carry another request.
    pub(super) fn give_back(&mut self) {
        if let Some(first) = self.first.take() {
            self.context.pool.put(first);
        }
    }
}

/// What the client is told when a server cannot be talked to: what went wrong, never where.
fn unreachable(passage: &Passage, aim: &Aim, error: &io::Error) -> Refused {
    let host = &aim.target().host;
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref());
    let (end, reason) = match tls {
        Some(rustls::Error::InvalidCertificate(why)) => (
            "certificate refused",
            format!("the certificate of `{host}` is {}", fault(why)),
        ),
        Some(_) => ("tls failed", format!("`{host}` did not agree on TLS")),
        None if error.kind() == io::ErrorKind::TimedOut => {
            ("timed out", format!("`{host}` did not answer in time"))
        }
        None => ("unreachable", format!("`{host}` could not be reached")),
    };
    passage.ended(end);
    Refused::new(
        code::UNREACHABLE,
        reason,
        "check the host, or try again later",
    )
}

/// What is wrong with a certificate.
fn fault(why: &rustls::CertificateError) -> &'static str {
    use rustls::CertificateError as Why;
    let expired = matches!(why, Why::Expired | Why::ExpiredContext { .. });
    let early = matches!(why, Why::NotValidYet | Why::NotValidYetContext { .. });
    let other = matches!(
        why,
        Why::NotValidForName | Why::NotValidForNameContext { .. }
    );
    match (expired, early, other) {
        (true, _, _) => "expired",
        (_, true, _) => "not valid yet",
        (_, _, true) => "for another name",
        _ if matches!(why, Why::UnknownIssuer) => "from an issuer that is not trusted",
        _ => "not valid",
    }
}

/// A server that does not speak HTTP.
pub(super) fn broken(aim: &Aim) -> Refused {
    let host = &aim.target().host;
    let reason = format!("`{host}` closed the connection without a whole answer");
    Refused::new(code::UNREACHABLE, reason, "try again later")
}
