//! The sockets of the name server. A sandbox may send what it likes as fast as it likes: what waits
//! is bounded, and what is beyond the bounds is dropped, as a network would.

use std::io;
use std::net::{TcpListener as StdListener, UdpSocket as StdSocket};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use belljar_base::bounds::{
    DNS_ANSWER_BYTES_MAX, DNS_CONNECTIONS_MAX, DNS_IDLE_SECONDS_MAX, DNS_QUERIES_PER_SECOND_MAX,
    DNS_QUERY_BYTES_MAX, DNS_WAITING_MAX,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{NameJudge, Names, Responder};

/// The name server of one sandbox at work; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Dns {
    _serving: JoinSet<()>,
}

/// A socket that fails is left alone for a moment, so that it cannot keep a processor busy.
const PAUSE: Duration = Duration::from_millis(10);
const IDLE: Duration = Duration::from_secs(DNS_IDLE_SECONDS_MAX);
const SECOND: Duration = Duration::from_secs(1);
/// The shortest message: a header.
const HEADER_BYTES: usize = 12;

impl Dns {
    /// Answers on datagram sockets and listeners that are bound already.
    pub(crate) fn start<J: NameJudge>(
        runtime: &Handle,
        datagrams: Vec<OwnedFd>,
        listeners: Vec<OwnedFd>,
        judge: Arc<J>,
        names: Arc<Names>,
    ) -> io::Result<Self> {
        let _entered = runtime.enter();
        let desk = Arc::new(Desk {
            responder: Responder::new(judge, names),
            rate: Rate::new(DNS_QUERIES_PER_SECOND_MAX),
        });
        let mut serving = JoinSet::new();
        for socket in datagrams {
            let socket = StdSocket::from(socket);
            socket.set_nonblocking(true)?;
            let socket = Arc::new(UdpSocket::from_std(socket)?);
            serving.spawn(answer_datagrams(socket, Arc::clone(&desk)));
        }
        for listener in listeners {
            let listener = StdListener::from(listener);
            listener.set_nonblocking(true)?;
            let listener = TcpListener::from_std(listener)?;
            serving.spawn(answer_connections(listener, Arc::clone(&desk)));
        }
        Ok(Self { _serving: serving })
    }
}

/// What all sockets of a sandbox share.
#[derive(Debug)]
struct Desk<J> {
    responder: Responder<J>,
    rate: Rate,
}

async fn answer_datagrams<J: NameJudge>(socket: Arc<UdpSocket>, desk: Arc<Desk<J>>) {
    let mut waiting = JoinSet::new();
    // A byte more than is read, so that a longer datagram shows.
    let mut buffer = [0; DNS_QUERY_BYTES_MAX + 1];
    loop {
        while waiting.try_join_next().is_some() {}
        let Ok((length, peer)) = socket.recv_from(&mut buffer).await else {
            sleep(PAUSE).await;
            continue;
        };
        let message = match buffer.get(..length) {
            Some(message) if length <= DNS_QUERY_BYTES_MAX => message.to_vec(),
            Some(_) | None => continue,
        };
        if desk.rate.take().is_err() {
            continue;
        }
        let (desk, socket) = (Arc::clone(&desk), Arc::clone(&socket));
        let mut answering = Box::pin(async move {
            if let Some(answer) = desk.responder.answer(&message).await {
                // Nobody may be there any more; a datagram may be lost like any other.
                drop(socket.send_to(&answer, peer).await);
            }
        });
        // Most answers are ready at once and need no task of their own.
        let begun = std::future::poll_fn(|context| Poll::Ready(answering.as_mut().poll(context)));
        if begun.await.is_pending() && waiting.len() < DNS_WAITING_MAX {
            waiting.spawn(answering);
        }
    }
}

async fn answer_connections<J: NameJudge>(listener: TcpListener, desk: Arc<Desk<J>>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _peer)) = listener.accept().await else {
            sleep(PAUSE).await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        if connections.len() < DNS_CONNECTIONS_MAX {
            connections.spawn(answer_connection(stream, Arc::clone(&desk)));
        }
    }
}

/// Answers one message after another, in the order they came, until one is late or none.
async fn answer_connection<J: NameJudge>(mut stream: TcpStream, desk: Arc<Desk<J>>) {
    let (read, mut write) = stream.split();
    let mut read = BufReader::with_capacity(DNS_QUERY_BYTES_MAX, read);
    while let Ok(Ok(message)) = timeout(IDLE, framed(&mut read)).await {
        while let Err(next) = desk.rate.take() {
            sleep_until(next).await;
        }
        let Some(answer) = desk.responder.answer(&message).await else {
            return;
        };
        let Some(frame) = frame(&answer) else {
            return;
        };
        if !matches!(timeout(IDLE, write.write_all(&frame)).await, Ok(Ok(()))) {
            return;
        }
    }
}

/// One message behind its length (RFC 1035, 4.2.2).
async fn framed(read: &mut (impl tokio::io::AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let length = usize::from(read.read_u16().await?);
    if !(HEADER_BYTES..=DNS_QUERY_BYTES_MAX).contains(&length) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut message = vec![0; length];
    read.read_exact(&mut message).await?;
    Ok(message)
}

fn frame(answer: &[u8]) -> Option<Vec<u8>> {
    debug_assert!(answer.len() <= DNS_ANSWER_BYTES_MAX, "{}", answer.len());
    let length = u16::try_from(answer.len()).ok()?;
    Some([&length.to_be_bytes(), answer].concat())
}

/// So many in any one second.
#[derive(Debug)]
struct Rate {
    most: u32,
    second: Mutex<(Instant, u32)>,
}

impl Rate {
    fn new(most: u32) -> Self {
        let second = Mutex::new((Instant::now(), 0));
        Self { most, second }
    }

    /// Takes one of this second's, or says when the next second begins.
    fn take(&self) -> Result<(), Instant> {
        let mut second = self.second.lock().unwrap_or_else(PoisonError::into_inner);
        let (begun, taken) = &mut *second;
        let now = Instant::now();
        if now.duration_since(*begun) >= SECOND {
            (*begun, *taken) = (now, 0);
        }
        if *taken >= self.most {
            return Err(*begun + SECOND);
        }
        *taken += 1;
        Ok(())
    }
}
