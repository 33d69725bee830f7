//! The gate between server and client.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use belljar_base::{Clock, RunId, Timestamp};
use belljar_gate::{Authority, Door, Gate, Opening, Settings, Sockets};
use belljar_ledger::{Ledger, Options};
use belljar_policy::egress::{Quota, Rule, Rules};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use crate::Outcome;

const HOST: &str = "api.example.com";
const CONNECTIONS: usize = 400;
const DOWNLOAD_BYTES: usize = 1 << 30;
const REQUEST_SECONDS: usize = 5;
const TUNNELS: usize = 10_000;
/// Measurements of direct and led connections take turns, so that a busy moment meets both.
const ROUNDS: usize = 3;

/// Everything, as one object.
pub(crate) fn measure(dir: &Path) -> Outcome<Value> {
    let server = Program::start(&["serve".as_ref(), dir.as_os_str()])?;
    let port = |name: &str| -> Outcome<u16> {
        let port = server.said.get(name).and_then(Value::as_u64);
        Ok(u16::try_from(port.ok_or("the server says no port")?)?)
    };
    let (https, hold) = (port("https")?, port("hold")?);
    let far = dir.join("ca.pem");
    let root = CertificateDer::from_pem_file(&far)?;
    let start = Instant::now();
    let gate = Gate::start(Settings {
        roots: vec![root],
        hosts: vec![(HOST.parse()?, IpAddr::V4(Ipv4Addr::LOCALHOST))],
        ..Settings::default()
    })?;
    let started = start.elapsed();
    let passing = Stage::open(&gate, &dir.join("passing"), &[https, hold], "")?;
    let looking = Stage::open(&gate, &dir.join("looking"), &[https], "/")?;
    let direct = Way {
        proxy: "-".to_owned(),
        ca: far.clone(),
    };
    let passed = Way {
        proxy: passing.proxy.to_string(),
        ca: far,
    };
    let terminated = Way {
        proxy: looking.proxy.to_string(),
        ca: looking.ca.clone(),
    };
    let ways = [
        ("direct", direct),
        ("passed", passed),
        ("terminated", terminated),
    ];
    let mut found = serde_json::Map::new();
    found.insert("gate_start_us".to_owned(), json!(started.as_micros()));
    found.insert("door_open_us".to_owned(), json!(passing.opened.as_micros()));
    for (what, count, key, better) in [
        ("connect", CONNECTIONS, "p50_us", Better::Less),
        ("download", DOWNLOAD_BYTES, "mib_per_s", Better::More),
        ("requests", REQUEST_SECONDS, "per_s", Better::More),
    ] {
        for _ in 0..ROUNDS {
            for (name, way) in &ways {
                let spent = processor_ms()?;
                let value = way.load(what, https, count)?;
                let value = value.get(key).and_then(Value::as_f64).ok_or("no number")?;
                let spent = json!(processor_ms()?.saturating_sub(spent));
                found.insert(format!("{name}_{what}_gate_processor_ms"), spent);
                let slot = found
                    .entry(format!("{name}_{what}_{key}"))
                    .or_insert(json!(value));
                if better.than(value, slot.as_f64().unwrap_or(value)) {
                    *slot = json!(value);
                }
            }
        }
    }
    let idle = idle(&passing, hold, &ways[1].1)?;
    found.extend(idle);
    Ok(summed(found))
}

/// Which of two numbers stays.
#[derive(Clone, Copy)]
enum Better {
    Less,
    More,
}

impl Better {
    fn than(self, a: f64, b: f64) -> bool {
        match self {
            Self::Less => a < b,
            Self::More => a > b,
        }
    }
}

/// The numbers that are promised, beside those they were made of.
fn summed(mut found: serde_json::Map<String, Value>) -> Value {
    let of = |name: &str| found.get(name).and_then(Value::as_f64).unwrap_or(f64::NAN);
    let connect = |way: &str| of(&format!("{way}_connect_p50_us"));
    let download = |way: &str| of(&format!("{way}_download_mib_per_s"));
    let sums = [
        ("added_passed_us", connect("passed") - connect("direct")),
        (
            "added_terminated_us",
            connect("terminated") - connect("direct"),
        ),
        (
            "download_passed_ratio",
            download("passed") / download("direct"),
        ),
        (
            "download_terminated_ratio",
            download("terminated") / download("direct"),
        ),
        ("terminated_requests_per_s", of("terminated_requests_per_s")),
    ];
    for (name, value) in sums {
        found.insert(name.to_owned(), json!(value));
    }
    Value::Object(found)
}

/// What the gate's own process holds for tunnels that say nothing.
fn idle(stage: &Stage, port: u16, way: &Way) -> Outcome<serde_json::Map<String, Value>> {
    let before = resident_kib()?;
    let child = way.start("idle", port, TUNNELS)?;
    let held = child.said.get("held").and_then(Value::as_u64);
    let after = resident_kib()?;
    let counts = stage.door.counts();
    drop(child);
    let Value::Object(found) = json!({
        "idle_tunnels": held,
        "idle_tunnels_allowed": counts.allowed,
        "idle_tunnels_kib": after,
        "idle_tunnels_added_kib": after.saturating_sub(before),
    }) else {
        return Err("no object".into());
    };
    Ok(found)
}

/// What this process has used of the processors, in milliseconds.
fn processor_ms() -> Outcome<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, rest) = stat.rsplit_once(") ").ok_or("no name")?;
    let mut fields = rest.split(' ').skip(11).take(2).map(str::parse::<u64>);
    let (user, system) = (
        fields.next().ok_or("no time")??,
        fields.next().ok_or("no time")??,
    );
    // A tick has been ten milliseconds on every Linux that this runs on.
    Ok((user + system) * 10)
}

fn resident_kib() -> Outcome<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    Ok(kib.ok_or("no VmRSS")?.parse()?)
}

/// A way from the client to the server.
struct Way {
    proxy: String,
    ca: PathBuf,
}

impl Way {
    fn load(&self, what: &str, port: u16, count: usize) -> Outcome<Value> {
        Ok(self.start(what, port, count)?.said.clone())
    }

    fn start(&self, what: &str, port: u16, count: usize) -> Outcome<Program> {
        let (port, count) = (port.to_string(), count.to_string());
        let ca = self.ca.as_os_str();
        let words = ["load", what, &self.proxy].map(AsRef::as_ref);
        let rest = [HOST, &port, &count].map(AsRef::as_ref);
        Program::start(&[&words[..], &[ca], &rest].concat())
    }
}

/// This program again, in another part; it ends when this is dropped.
struct Program {
    child: Child,
    said: Value,
}

impl Program {
    fn start(words: &[&std::ffi::OsStr]) -> Outcome<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let out = child.stdout.take().ok_or("no output")?;
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line)?;
        let said = serde_json::from_str(&line).map_err(|_none| format!("{words:?} failed"))?;
        Ok(Self { child, said })
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Its standard input ends, and it with it.
        drop(self.child.stdin.take());
        self.child.wait().ok();
    }
}

/// A door, and where it is.
struct Stage {
    door: Door,
    proxy: SocketAddr,
    ca: PathBuf,
    /// How long the authority and the door took to make.
    opened: Duration,
}

impl Stage {
    fn open(gate: &Gate, dir: &Path, ports: &[u16], path: &str) -> Outcome<Self> {
        let run = RunId::new(Now.now(), 1);
        let start = Instant::now();
        let authority = Authority::new(run, Now.now())?;
        let authority_took = start.elapsed();
        std::fs::create_dir_all(dir)?;
        let ca = dir.join("ca.pem");
        std::fs::write(&ca, authority.pem())?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let proxy = listener.local_addr()?;
        let much = Quota {
            requests: Some(u64::MAX),
            connections: Some(u64::MAX),
            per_second: Some(u64::MAX),
            up_bytes: Some(u64::MAX),
            down_bytes: Some(u64::MAX),
            ..Quota::default()
        };
        let mut rules = Rules {
            quota: much,
            host_quota: much,
            ..Rules::default()
        };
        for port in ports {
            let mut rule = Rule::parse_allow(&format!("https://{HOST}:{port}{path}"))?;
            if !path.is_empty() {
                rule.methods = vec!["GET".to_owned()];
            }
            rule.addresses = vec!["127.0.0.0/8".parse()?];
            rules.rules.push(rule);
        }
        let ledger = Arc::new(Ledger::open(&dir.join("ledger"), &Options::default())?);
        let start = Instant::now();
        let door = gate.open(Opening {
            run,
            agent: "measure".parse()?,
            sockets: Sockets {
                proxy: vec![listener.into()],
                ..Sockets::default()
            },
            rules,
            secrets: Vec::new(),
            authority,
            ledger,
            clock: Arc::new(Now),
        })?;
        let opened = authority_took + start.elapsed();
        writeln!(std::io::stderr(), "{} is served at {proxy}", dir.display())?;
        Ok(Self {
            door,
            proxy,
            ca,
            opened,
        })
    }
}

struct Now;

impl Clock for Now {
    #[expect(clippy::disallowed_methods, reason = "this is a program of its own")]
    fn now(&self) -> Timestamp {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let nanos = now.map_or(0, |now| now.as_nanos());
        Timestamp::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}
