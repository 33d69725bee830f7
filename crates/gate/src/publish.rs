//! The way in: a port inside the sandbox that the host's own loopback reaches.

use std::io;
use std::net::SocketAddr;
use std::net::TcpStream as StdStream;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use belljar_base::bounds::EGRESS_DIAL_MILLIS_MAX;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::judge::Judge;
use crate::tunnel::Tunnel;

/// Makes TCP sockets of version 4 in a sandbox's network, not yet connected.
pub type Dialer = Arc<dyn Fn() -> io::Result<OwnedFd> + Send + Sync>;

/// Writes the connection, connects to the port inside, and joins the two ends.
pub(crate) async fn join(
    judge: &Arc<Judge>,
    port: u16,
    client: TcpStream,
    dialer: &Dialer,
) -> Option<Tunnel> {
    let passage = judge.published(port).await.ok()?;
    let inside = dialer().and_then(|socket| {
        let socket = StdStream::from(socket);
        socket.set_nonblocking(true)?;
        Ok(TcpSocket::from_std_stream(socket))
    });
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let connect = async { inside?.connect(address).await };
    let limit = Duration::from_millis(EGRESS_DIAL_MILLIS_MAX);
    let Ok(Ok(server)) = timeout(limit, connect).await else {
        passage.ended("nobody there");
        return None;
    };
    // Without it everything works, later.
    client.set_nodelay(true).ok();
    server.set_nodelay(true).ok();
    Some(Tunnel {
        client,
        server,
        first: Vec::new(),
        passage,
    })
}
