//! Measures what a gated network adds to a sandbox: the time from the ask for a sandbox to its
//! guest's word that it is closed, and to its end; without a network, with one that it makes
//! itself, and (as root) with one that was kept ready. The first argument is a directory for
//! templates; prints one JSON object.

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
const READY: usize = 4;

fn main() -> Answer<()> {
    let folder = std::env::args_os()
        .nth(1)
        .ok_or("name a directory for templates")?;
    let host = Arc::new(Host::probe()?);
    let bench = Bench {
        template: Template::host(Path::new(&folder), &host)?,
        cold: Jail::new(Arc::clone(&host)),
        warm: Jail::new(Arc::clone(&host)).with_networks(READY)?,
        host,
    };
    let kinds = [
        (&bench.cold, Network::None),
        (&bench.cold, Network::Gated),
        (&bench.warm, Network::Gated),
    ];
    let mut times: [[Vec<Duration>; 2]; 3] = Default::default();
    for round in 0..ROUNDS {
        // In turn, so that what else the machine does falls on all.
        for ((jail, network), times) in kinds.into_iter().zip(&mut times) {
            let [created, ended] = bench.round(jail, network)?;
            if round > 0 {
                let [creating, ending] = times;
                creating.push(created);
                ending.push(ended);
            }
        }
    }
    let [[none, none_ended], [own, own_ended], [ready, ready_ended]] =
        times.map(|both| both.map(median));
    let more = |gated: i128| gated - none;
    let answer = format!(
        "{{\"create_without_network_p50_us\": {none}, \"create_own_network_p50_us\": {own}, \
         \"create_ready_network_p50_us\": {ready}, \"own_network_added_p50_us\": {}, \
         \"ready_network_added_p50_us\": {}, \"end_without_network_p50_us\": {none_ended}, \
         \"end_own_network_p50_us\": {own_ended}, \"end_ready_network_p50_us\": {ready_ended}}}\n",
        more(own),
        more(ready),
    );
    std::io::stdout().write_all(answer.as_bytes())?;
    Ok(())
}

struct Bench {
    host: Arc<Host>,
    template: Template,
    cold: Jail,
    warm: Jail,
}

impl Bench {
    /// How long it took to create a sandbox, and to end it.
    fn round(&self, jail: &Jail, network: Network) -> Answer<[Duration; 2]> {
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
        let mut sandbox = jail.start(&spec, &self.template)?;
        let created = start.elapsed();
        let doors = sandbox.doors();
        let start = Instant::now();
        sandbox.end()?;
        drop(doors);
        Ok([created, start.elapsed()])
    }
}

fn median(mut times: Vec<Duration>) -> i128 {
    times.sort_unstable();
    let middle = times.get(times.len() / 2).copied().unwrap_or_default();
    i128::try_from(middle.as_micros()).unwrap_or(i128::MAX)
}
