//! How the programs inside call out: as any program would, over TLS, trusting what they are told
//! to trust, or around all of it.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::actor::Acting;

/// How long a call may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of an answer that are read.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// An answer: its status and its body.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
}

/// Who is called, and what is said.
pub(super) struct Call<'a> {
    /// Where to connect to.
    pub(super) to: (&'a str, u16),
    /// The name in the TLS greeting.
    pub(super) name: &'a str,
    /// The request, without the empty line at its end.
    pub(super) request: &'a str,
}

/// Makes a call; an error in words.
pub(super) fn call(act: &Acting, call: &Call<'_>) -> Result<Answer, String> {
    exchange(act, call).map_err(|error| {
        let text = error.to_string();
        text.split(" (os error")
            .next()
            .unwrap_or_default()
            .to_owned()
    })
}

fn exchange(act: &Acting, call: &Call<'_>) -> io::Result<Answer> {
    let address = call.to.to_socket_addrs()?.next();
    let address = address.ok_or(io::ErrorKind::AddrNotAvailable)?;
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let name = ServerName::try_from(call.name.to_owned()).map_err(io::Error::other)?;
    let connection = ClientConnection::new(trust(act)?, name).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(connection, stream);
    stream.write_all(format!("{}\r\nconnection: close\r\n\r\n", call.request).as_bytes())?;
    let mut answer = Vec::new();
    // Who closes without a word of TLS may still have answered.
    let read = stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer);
    if answer.is_empty() {
        read?;
    }
    let text = String::from_utf8_lossy(&answer);
    let status = text.split(' ').nth(1).and_then(|code| code.parse().ok());
    let (_, body) = text.split_once("\r\n\r\n").unwrap_or_default();
    Ok(Answer {
        status: status.ok_or(io::ErrorKind::InvalidData)?,
        body: body.to_owned(),
    })
}

fn trust(act: &Acting) -> io::Result<Arc<ClientConfig>> {
    let bundle = std::fs::read(act.variable("SSL_CERT_FILE"))?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&bundle).flatten());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let settings = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(settings))
}
