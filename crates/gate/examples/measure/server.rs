//! The far side: HTTP/1.1 in TLS that answers with as many bytes as are asked for, and a listener that
//! holds what comes.

use std::io::{BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned, crypto};
use serde_json::json;

use crate::Outcome;

/// Names that the server's certificate is for.
pub(crate) const NAMES: [&str; 2] = ["api.example.com", "localhost"];

/// Serves until standard input ends.
pub(crate) fn serve(dir: &Path) -> Outcome<()> {
    let config = Arc::new(settings(dir)?);
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let holder = TcpListener::bind("127.0.0.1:0")?;
    let (https, hold) = (listener.local_addr()?.port(), holder.local_addr()?.port());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let config = Arc::clone(&config);
            // A client that breaks off ends its thread and nothing else.
            thread::spawn(move || answer(stream, config).ok());
        }
    });
    thread::spawn(move || {
        let mut held = Vec::new();
        for mut stream in holder.incoming().flatten() {
            let mut some = [0; 512];
            if stream.read(&mut some).is_ok() && stream.write_all(b"!").is_ok() {
                held.push(stream);
            }
        }
    });
    writeln!(
        std::io::stdout(),
        "{}",
        json!({ "https": https, "hold": hold })
    )?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn settings(dir: &Path) -> Outcome<ServerConfig> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key)?;
    std::fs::write(dir.join("ca.pem"), authority.pem())?;
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate()?;
    let names: Vec<String> = NAMES.map(str::to_owned).to_vec();
    let leaf = CertificateParams::new(names)?.signed_by(&key, &issuer)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(crypto::ring::default_provider());
    Ok(ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)?)
}

/// Answers `GET /BYTES` with so many bytes.
fn answer(stream: TcpStream, config: Arc<ServerConfig>) -> Outcome<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(StreamOwned::new(ServerConnection::new(config)?, stream));
    let block = vec![b'x'; 256 << 10];
    while let Some(head) = super::client::head(&mut stream)? {
        let path = head.split(' ').nth(1).unwrap_or_default();
        let mut left: usize = path.trim_start_matches('/').parse()?;
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {left}\r\n\r\n");
        let first = left.min(8192);
        let both = [head.as_bytes(), block.get(..first).unwrap_or_default()].concat();
        let out = stream.get_mut();
        out.write_all(&both)?;
        left -= first;
        while left > 0 {
            let now = left.min(block.len());
            out.write_all(block.get(..now).unwrap_or_default())?;
            left -= now;
        }
        out.flush()?;
    }
    Ok(())
}
