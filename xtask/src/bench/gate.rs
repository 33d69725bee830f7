//! The gate beside squid and mitmproxy: the same server, the same client, one after the other.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::place::{Place, progress};
use super::{Outcome, Outcomes};
use crate::shell::{Failure, capture, has, program};

/// Promises, and what the example calls their numbers and how many of them one unit is.
const OWN: &[(&str, &str, f64)] = &[
    ("gate_added_passed", "added_passed_us", 1000.0),
    ("gate_added_terminated", "added_terminated_us", 1000.0),
    ("gate_download_passed", "download_passed_ratio", 1.0),
    ("gate_download_terminated", "download_terminated_ratio", 1.0),
    ("gate_idle_tunnels", "idle_tunnels_kib", 1024.0),
];
/// Promises against a peer.
const PEERS: &[(&str, Peer)] = &[
    ("gate_requests_mitmproxy", Peer::Mitmproxy),
    ("gate_requests_squid", Peer::Squid),
];
/// Seconds of requests.
const SECONDS: &str = "5";
/// How long a peer may take until it answers.
const START: Duration = Duration::from_secs(30);
/// Where squid keeps its helper.
const SQUID: &str = "/usr/sbin/squid";
const SQUID_HELPER: &str = "/usr/lib/squid/security_file_certgen";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    Squid,
    Mitmproxy,
}

/// Measures what is wanted of the gate.
pub(super) fn measure(place: &Place, wanted: &dyn Fn(&str) -> bool) -> Outcomes {
    let ids = OWN.iter().map(|(id, ..)| *id);
    let ids: Vec<&str> = ids.chain(PEERS.iter().map(|(id, _)| *id)).collect();
    if !ids.iter().any(|id| wanted(id)) {
        return Outcomes::new();
    }
    match all(place, wanted) {
        Ok(outcomes) => outcomes,
        Err(why) => {
            let missing = |id: &&str| (id.to_string(), Outcome::Missing(why.to_string()));
            ids.iter().map(missing).collect()
        }
    }
}

fn all(place: &Place, wanted: &dyn Fn(&str) -> bool) -> Result<Outcomes, Failure> {
    progress("belljar-gate, example measure");
    let example = place.example("belljar-gate", "measure")?;
    let folder = place.path().join("gate");
    fs::create_dir(&folder).map_err(failed)?;
    let ours = capture(program(&example.to_string_lossy(), &[]).arg(&folder))?;
    let ours: Value = serde_json::from_str(ours.trim()).map_err(failed)?;
    let number = |name: &str| ours.get(name).and_then(Value::as_f64);
    let mut outcomes = Outcomes::new();
    for (id, name, per_unit) in OWN {
        let outcome = number(name).map_or_else(
            || Outcome::Missing(format!("the example does not print `{name}`")),
            |value| Outcome::Measured {
                ours: value / per_unit,
                peer: None,
            },
        );
        outcomes.insert((*id).to_owned(), outcome);
    }
    let rate = number("terminated_requests_per_s");
    for (id, peer) in PEERS.iter().filter(|(id, _)| wanted(id)) {
        progress(id);
        let outcome = match (rate, against(&example, *peer)) {
            (Some(ours), Ok(peer)) => Outcome::Measured {
                ours,
                peer: Some(peer),
            },
            (_, Err(why)) => Outcome::Missing(why.to_string()),
            (None, _) => Outcome::Missing("ours has no number".to_owned()),
        };
        outcomes.insert((*id).to_owned(), outcome);
    }
    Ok(outcomes)
}

/// A program that is ended when this is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        if self.0.kill().and_then(|()| self.0.wait()).is_err() {}
    }
}

/// Requests per second through a peer that looks into TLS.
fn against(example: &Path, peer: Peer) -> Result<f64, Failure> {
    // The peer may become another user, who must find its files.
    let folder = tempfile::Builder::new()
        .prefix("belljar-bench-")
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir()
        .map_err(failed)?;
    let folder = folder.path();
    let (_server, port) = serve(example, folder)?;
    let authority = mitmproxy_authority(folder)?;
    let (_running, at) = match peer {
        Peer::Mitmproxy => mitmproxy(folder)?,
        Peer::Squid => squid(folder)?,
    };
    let proxy = format!("127.0.0.1:{at}");
    let begun = Instant::now();
    loop {
        let mut load = Command::new(example);
        load.args(["load", "connect", &proxy]).arg(&authority);
        load.args(["localhost", &port, "1"]);
        match capture(&mut load) {
            Ok(_) => break,
            Err(why) if begun.elapsed() > START => return Err(why),
            Err(_) => std::thread::sleep(Duration::from_millis(300)),
        }
    }
    let mut load = Command::new(example);
    load.args(["load", "requests", &proxy]).arg(&authority);
    load.args(["localhost", &port, SECONDS]);
    let said: Value = serde_json::from_str(capture(&mut load)?.trim()).map_err(failed)?;
    let rate = said.get("per_s").and_then(Value::as_f64);
    rate.ok_or_else(|| Failure::new("the client found no number"))
}

/// The far side, and its port.
fn serve(example: &Path, folder: &Path) -> Result<(Running, String), Failure> {
    let mut server = Command::new(example)
        .arg("serve")
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let out = server.stdout.take();
    let server = Running(server);
    let mut line = String::new();
    if let Some(out) = out {
        BufReader::new(out.take(4096))
            .read_line(&mut line)
            .map_err(failed)?;
    }
    let said: Value = serde_json::from_str(&line).map_err(failed)?;
    let port = said.get("https").and_then(Value::as_u64);
    let port = port.ok_or_else(|| Failure::new("the server says no port"))?;
    Ok((server, port.to_string()))
}

/// The authority that mitmproxy makes at its first start; squid uses the same.
fn mitmproxy_authority(folder: &Path) -> Result<PathBuf, Failure> {
    if !has("mitmdump") {
        return Err(Failure::new("the peer `mitmproxy` is not installed"));
    }
    let (running, _) = mitmproxy(folder)?;
    let certificate = folder.join("mitmproxy-ca-cert.pem");
    let begun = Instant::now();
    while !certificate.exists() || !folder.join("mitmproxy-dhparam.pem").exists() {
        if begun.elapsed() > START {
            return Err(Failure::new("mitmproxy makes no certificates"));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    drop(running);
    Ok(certificate)
}

fn mitmproxy(folder: &Path) -> Result<(Running, u16), Failure> {
    let port = free_port()?;
    let child = Command::new("mitmdump")
        .args(["-q", "--listen-host", "127.0.0.1", "--ssl-insecure", "-p"])
        .arg(port.to_string())
        .arg("--set")
        .arg(format!("confdir={}", folder.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    Ok((Running(child), port))
}

fn squid(folder: &Path) -> Result<(Running, u16), Failure> {
    if ![SQUID, SQUID_HELPER]
        .iter()
        .all(|file| Path::new(file).exists())
    {
        return Err(Failure::new("the peer `squid-openssl` is not installed"));
    }
    let (port, at) = (free_port()?, folder.display());
    let pair = folder.join("mitmproxy-ca.pem");
    let open = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed)
    };
    open(&pair, 0o644)?;
    let certificates = folder.join("certificates");
    let mut make = Command::new(SQUID_HELPER);
    make.args(["-c", "-s"])
        .arg(&certificates)
        .args(["-M", "4MB"]);
    capture(&mut make)?;
    open(&certificates, 0o777)?;
    for entry in fs::read_dir(&certificates).map_err(failed)? {
        open(&entry.map_err(failed)?.path(), 0o777)?;
    }
    let settings = format!(
        "http_port 127.0.0.1:{port} ssl-bump tls-cert={pair} generate-host-certificates=on\n\
         sslcrtd_program {SQUID_HELPER} -s {at}/certificates -M 4MB\n\
         acl greeting at_step SslBump1\nssl_bump peek greeting\nssl_bump bump all\n\
         tls_outgoing_options flags=DONT_VERIFY_PEER\nhttp_access allow all\ncache deny all\n\
         access_log none\ncache_log /dev/null\npid_filename none\ncoredump_dir {at}\n",
        pair = pair.display()
    );
    let file = folder.join("squid.conf");
    fs::write(&file, settings).map_err(failed)?;
    let child = Command::new(SQUID)
        .args(["-N", "-f"])
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    Ok((Running(child), port))
}

fn free_port() -> Result<u16, Failure> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(failed)?;
    Ok(listener.local_addr().map_err(failed)?.port())
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::new(format!("cannot measure the gate: {error}"))
}
