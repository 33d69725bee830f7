//! Measures what a gated network adds to a sandbox: the time from the ask for a sandbox to its
//! guest's word that it is closed, and to its end, with a network and without. The first argument is
//! a directory for templates; prints one JSON object.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use belljar_base::{RunId, Timestamp};
use belljar_sandbox::backend::jail::Jail;
use belljar_sandbox::network::Network;
use belljar_sandbox::{Backend, Host, Limits, Spec, Template};

type Answer<T> = Result<T, Box<dyn std::error::Error>>;

const ROUNDS: usize = 300;

fn main() -> Answer<()> {
    let folder = std::env::args_os()
        .nth(1)
        .ok_or("name a directory for templates")?;
    let host = Arc::new(Host::probe()?);
    let bench = Bench {
        template: Template::host(Path::new(&folder), &host)?,
        jail: Jail::new(Arc::clone(&host)),
        host,
    };
    let kinds = [Network::None, Network::Gated];
    let mut times: [[Vec<Duration>; 2]; 2] = Default::default();
    for round in 0..ROUNDS {
        // In turn, so that what else the machine does falls on both.
        for (kind, times) in kinds.into_iter().zip(&mut times) {
            let [created, ended] = bench.round(kind)?;
            if round > 0 {
                let [creating, ending] = times;
                creating.push(created);
                ending.push(ended);
            }
        }
    }
    let [[none, none_ended], [gated, gated_ended]] = times.map(|both| both.map(median));
    let added = gated.saturating_sub(none);
    let answer = format!(
        "{{\"create_none_p50_us\": {none}, \"create_gated_p50_us\": {gated}, \"network_added_p50_us\": {added}, \
         \"end_none_p50_us\": {none_ended}, \"end_gated_p50_us\": {gated_ended}}}\n"
    );
    std::io::stdout().write_all(answer.as_bytes())?;
    Ok(())
}

struct Bench {
    host: Arc<Host>,
    template: Template,
    jail: Jail,
}

impl Bench {
    /// How long it took to create a sandbox, and to end it.
    fn round(&self, network: Network) -> Answer<[Duration; 2]> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        let nanos = u64::try_from(now.tv_sec)? * 1_000_000_000 + u64::try_from(now.tv_nsec)?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let spec = Spec {
            id: RunId::new(Timestamp::from_nanos(nanos), number),
            branches: Vec::new(),
            reads: Vec::new(),
            writes: Vec::new(),
            shows: Vec::new(),
            network,
            limits: Limits::defaults(self.host.memory_bytes),
        };
        let start = Instant::now();
        let mut sandbox = self.jail.start(&spec, &self.template)?;
        let created = start.elapsed();
        let doors = sandbox.doors();
        let start = Instant::now();
        sandbox.end()?;
        drop(doors);
        Ok([created, start.elapsed()])
    }
}

fn median(mut times: Vec<Duration>) -> u128 {
    times.sort_unstable();
    times
        .get(times.len() / 2)
        .copied()
        .unwrap_or_default()
        .as_micros()
}
