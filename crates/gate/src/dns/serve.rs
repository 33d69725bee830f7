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
                socket.send_to(&answer, peer).await.ok();
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

#[cfg(test)]
mod tests {
    use super::super::NameRefused;
    use super::*;
    use belljar_base::Refusal;
    use belljar_policy::egress::HostName;
    use hickory_proto::op::{Message, MessageType, OpCode, Query};
    use hickory_proto::rr::{Name, RecordType};
    use std::net::{Ipv4Addr, SocketAddr};
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Allows everything; what begins with `slow` only after a long time. Counts who waits.
    #[derive(Debug, Default)]
    struct Slow {
        waiting: AtomicUsize,
        most: AtomicUsize,
    }

    struct Waiting<'a>(&'a AtomicUsize);

    impl Drop for Waiting<'_> {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }

    impl NameJudge for Slow {
        async fn name(&self, name: &HostName) -> Result<(), NameRefused> {
            let now = self.waiting.fetch_add(1, Ordering::Relaxed) + 1;
            let _waiting = Waiting(&self.waiting);
            self.most.fetch_max(now, Ordering::Relaxed);
            if name.as_str().starts_with("slow") {
                sleep(Duration::from_secs(600)).await;
            }
            Ok(())
        }

        async fn no_host(&self, _written: &str, reason: &'static str) -> NameRefused {
            NameRefused::Denied(Refusal::new("r", reason, ""))
        }
    }

    struct Served {
        dns: Dns,
        judge: Arc<Slow>,
        udp: SocketAddr,
        tcp: SocketAddr,
    }

    fn serve() -> Served {
        let socket = StdSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let judge = Arc::new(Slow::default());
        let (udp, tcp) = (socket.local_addr().unwrap(), listener.local_addr().unwrap());
        let dns = Dns::start(
            &Handle::current(),
            vec![socket.into()],
            vec![listener.into()],
            Arc::clone(&judge),
            Arc::default(),
        );
        let dns = dns.unwrap();
        Served {
            dns,
            judge,
            udp,
            tcp,
        }
    }

    /// Runs with a clock that passes at once whatever is only waited for.
    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build();
        runtime.unwrap().block_on(test);
    }

    fn question(id: u16, name: &str) -> Vec<u8> {
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        let name = Name::from_ascii(name).unwrap();
        message.add_query(Query::query(name, RecordType::A));
        message.to_vec().unwrap()
    }

    fn framed_question(id: u16, name: &str) -> Vec<u8> {
        frame(&question(id, name)).unwrap()
    }

    async fn client(served: &Served) -> UdpSocket {
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        client.connect(served.udp).await.unwrap();
        client
    }

    async fn answer(client: &UdpSocket) -> Message {
        let mut buffer = [0; 600];
        let length = client.recv(&mut buffer).await.unwrap();
        Message::from_vec(&buffer[..length]).unwrap()
    }

    #[test]
    fn datagrams_are_answered_and_a_slow_one_keeps_nobody_waiting() {
        run(async {
            let served = serve();
            let client = client(&served).await;
            client.send(&[0; DNS_QUERY_BYTES_MAX + 1]).await.unwrap();
            client.send(&[7]).await.unwrap();
            client
                .send(&question(1, "slow.example.com."))
                .await
                .unwrap();
            client.send(&question(2, "a.example.com.")).await.unwrap();
            let first = answer(&client).await;
            assert_eq!((first.metadata.id, first.answers.len()), (2, 1));
            assert_eq!(answer(&client).await.metadata.id, 1);
        });
    }

    #[test]
    fn a_flood_waits_in_bounds_and_the_rest_is_dropped() {
        run(async {
            let served = serve();
            let client = client(&served).await;
            for at in 0..4 * DNS_WAITING_MAX {
                let name = format!("slow{at}.example.com.");
                client.send(&question(1, &name)).await.unwrap();
                tokio::task::yield_now().await;
            }
            client.send(&question(2, "a.example.com.")).await.unwrap();
            while answer(&client).await.metadata.id != 2 {}
            let most = served.judge.most.load(Ordering::Relaxed);
            assert!(
                most > DNS_WAITING_MAX / 2 && most <= DNS_WAITING_MAX + 1,
                "{most}"
            );
        });
    }

    #[test]
    fn a_connection_is_answered_in_order_and_closed_when_it_falls_silent() {
        run(async {
            let served = serve();
            let mut stream = TcpStream::connect(served.tcp).await.unwrap();
            let questions: Vec<_> = (1..=20)
                .flat_map(|id| framed_question(id, "a.example.com."))
                .collect();
            stream.write_all(&questions).await.unwrap();
            for id in 1..=20 {
                let length = usize::from(stream.read_u16().await.unwrap());
                let mut message = vec![0; length];
                stream.read_exact(&mut message).await.unwrap();
                assert_eq!(Message::from_vec(&message).unwrap().metadata.id, id);
            }
            let began = Instant::now();
            // Half a frame does not keep it open.
            stream.write_all(&[0]).await.unwrap();
            assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
            assert!(began.elapsed() >= IDLE && began.elapsed() < 2 * IDLE);
        });
    }

    #[test]
    fn a_frame_that_is_no_message_closes_the_connection() {
        run(async {
            let served = serve();
            let answer = frame(&[&[0, 7, 0x80][..], &[0; 9]].concat()).unwrap();
            for bytes in [&[0, 0][..], &[0, 11], &[4, 209], &[0xFF, 0xFF], &answer] {
                let mut stream = TcpStream::connect(served.tcp).await.unwrap();
                stream.write_all(bytes).await.unwrap();
                let began = Instant::now();
                assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0);
                assert!(began.elapsed() < IDLE, "{bytes:?}");
            }
        });
    }

    #[test]
    fn one_connection_too_many_is_closed_and_makes_room_later() {
        run(async {
            let served = serve();
            let mut held = Vec::new();
            for _ in 0..DNS_CONNECTIONS_MAX {
                let mut stream = TcpStream::connect(served.tcp).await.unwrap();
                let question = framed_question(1, "a.example.com.");
                stream.write_all(&question).await.unwrap();
                stream.read_u16().await.unwrap();
                held.push(stream);
            }
            let mut late = TcpStream::connect(served.tcp).await.unwrap();
            assert_eq!(late.read(&mut [0; 1]).await.unwrap_or(0), 0);
            held.clear();
            sleep(2 * IDLE).await;
            let mut stream = TcpStream::connect(served.tcp).await.unwrap();
            let question = framed_question(1, "a.example.com.");
            stream.write_all(&question).await.unwrap();
            stream.read_u16().await.unwrap();
        });
    }

    #[test]
    fn it_ends_when_it_is_dropped() {
        run(async {
            let served = serve();
            let client = client(&served).await;
            let mut stream = TcpStream::connect(served.tcp).await.unwrap();
            client.send(&question(1, "a.example.com.")).await.unwrap();
            answer(&client).await;
            drop(served.dns);
            tokio::task::yield_now().await;
            assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0);
            StdSocket::bind(served.udp).unwrap();
        });
    }

    #[test]
    fn a_rate_is_kept_second_by_second() {
        run(async {
            let (rate, began) = (Rate::new(3), Instant::now());
            assert!((0..3).all(|_| rate.take().is_ok()));
            let next = rate.take().unwrap_err();
            assert_eq!(next, began + SECOND);
            sleep_until(next).await;
            assert!((0..3).all(|_| rate.take().is_ok()));
            assert!(rate.take().is_err());
        });
    }
}
