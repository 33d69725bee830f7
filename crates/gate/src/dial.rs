//! Connects, to checked addresses and to nothing else.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use belljar_base::bounds::{EGRESS_ADDRESSES_MAX, EGRESS_DIAL_MILLIS_MAX};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Connects to the first of these addresses that answers. The connection's other end is looked at
/// afterwards: it is the dialled address or the connection is not used.
pub(crate) async fn dial(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses.iter().take(EGRESS_ADDRESSES_MAX) {
        match dial_one(*address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn dial_one(address: SocketAddr) -> io::Result<TcpStream> {
    let limit = Duration::from_millis(EGRESS_DIAL_MILLIS_MAX);
    let stream = match timeout(limit, TcpStream::connect(address)).await {
        Ok(connected) => connected?,
        Err(_elapsed) => return Err(io::ErrorKind::TimedOut.into()),
    };
    let peer = stream.peer_addr()?;
    if peer.ip() != address.ip() || peer.port() != address.port() {
        return Err(io::Error::other("the peer is not the address dialled"));
    }
    // A connection to one's own port on loopback can meet itself; nobody serves there.
    if stream.local_addr()? == peer {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    stream.set_nodelay(true)?;
    Ok(stream)
}
