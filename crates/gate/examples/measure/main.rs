//! Measures the gate against a direct connection and prints one JSON object:
//! `cargo run --release -p belljar-gate --example measure -- DIR`.
//!
//! Three programs take part, each a process of its own: a server that is far away, the gate, and a
//! client. `DIR` must be on the disk that a ledger would be on. To measure another proxy with the same
//! server and client:
//! `measure serve DIR` prints where it listens and leaves `ca.pem` for the proxy to trust;
//! `measure load WHAT PROXY CA HOST PORT COUNT` prints what the client found, where `PROXY` is `-`
//! for a direct connection and `CA` is what the client is to trust.

mod client; // what a client does, and how long it takes
mod server; // the far side
mod stage; // the gate between the two

use std::error::Error;
use std::io::Write as _;
use std::path::Path;

/// What everything here may answer.
pub(crate) type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let found = match words.as_slice() {
        ["serve", dir] => return server::serve(Path::new(dir)),
        ["load", what, proxy, ca, host, port, count] => {
            let proxy = (*proxy != "-").then(|| proxy.parse()).transpose()?;
            let target = client::Target {
                proxy,
                authority: std::fs::read(ca)?,
                host: (*host).to_owned(),
                port: port.parse()?,
            };
            client::load(what, &target, count.parse()?)?
        }
        [dir] => stage::measure(Path::new(dir))?,
        _ => {
            return Err(
                "usage: measure DIR | serve DIR | load WHAT PROXY CA HOST PORT COUNT".into(),
            );
        }
    };
    writeln!(std::io::stdout(), "{found}")?;
    Ok(())
}
