//! Measures what this room promises: the time from the ask for a sandbox over the first byte of a
//! command's output to the sandbox's end, the memory of an idle sandbox, and how many can be alive
//! at once. The first argument is a directory for templates; prints one JSON object.

use std::ffi::OsString;
use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use belljar_base::frame::Tell;
use belljar_base::{RunId, Timestamp};
use belljar_sandbox::backend::jail::Jail;
use belljar_sandbox::{Backend, Command, Enclosed, Host, Limits, Spec, Template};

type Answer<T> = Result<T, Box<dyn std::error::Error>>;

const ROUNDS: usize = 400;
const IDLE: usize = 200;
const IDLE_ROUNDS: usize = 5;
const ALIVE: usize = 2000;

fn main() -> Answer<()> {
    let folder = std::env::args_os()
        .nth(1)
        .ok_or("name a directory for templates")?;
    raise_open_files()?;
    let host = Arc::new(Host::probe()?);
    let template = Template::host(Path::new(&folder), &host)?;
    let jail = Jail::new(Arc::clone(&host));
    let bench = Bench {
        host,
        template,
        jail,
    };
    bench.round()?;
    let create = bench.create_destroy()?;
    let idle = bench.idle_memory()?;
    let alive = bench.alive()?;
    let answer = format!(
        "{{\"create_destroy_p50_us\": {create}, \"idle_memory_kib\": {idle}, \
         \"alive_sandboxes\": {alive}}}\n"
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
    fn start(&self) -> Answer<Box<dyn Enclosed>> {
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
            network: belljar_sandbox::network::Network::None,
            limits: Limits::defaults(self.host.memory_bytes),
        };
        Ok(self.jail.start(&spec, &self.template)?)
    }

    fn echo(&self, sandbox: &mut dyn Enclosed) -> Answer<()> {
        let command = Command {
            arguments: ["/bin/echo", "x"].map(OsString::from).to_vec(),
            environment: Vec::new(),
            directory: self.template.home.clone(),
            terminal: None,
        };
        let stdio = sandbox.execute(&command)?;
        let mut byte = [0_u8];
        fs::File::from(stdio.stdout.ok_or("no output")?).read_exact(&mut byte)?;
        Ok(())
    }

    /// One sandbox from the ask to its end.
    fn round(&self) -> Answer<()> {
        let mut sandbox = self.start()?;
        self.echo(&mut *sandbox)?;
        sandbox.end()?;
        Ok(())
    }

    fn create_destroy(&self) -> Answer<u128> {
        let mut times = Vec::with_capacity(ROUNDS);
        for _round in 0..ROUNDS {
            let start = Instant::now();
            self.round()?;
            times.push(start.elapsed());
        }
        times.sort_unstable();
        let median = times.get(ROUNDS / 2).ok_or("no rounds")?;
        Ok(median.as_micros())
    }

    /// What the machine has less of while sandboxes with no command are alive, for each: the
    /// median of some rounds, for other programs come and go.
    fn idle_memory(&self) -> Answer<u64> {
        let mut rounds = Vec::with_capacity(IDLE_ROUNDS);
        for _round in 0..IDLE_ROUNDS {
            settle();
            let before = available_kib()?;
            let alive: Vec<_> = (0..IDLE).map(|_each| self.start()).collect::<Answer<_>>()?;
            settle();
            let after = available_kib()?;
            drop(alive);
            rounds.push(before.saturating_sub(after) / IDLE as u64);
        }
        rounds.sort_unstable();
        Ok(*rounds.get(IDLE_ROUNDS / 2).ok_or("no rounds")?)
    }

    /// Starts as many as it can, up to a bound, then asks each for an answer.
    fn alive(&self) -> Answer<usize> {
        let mut alive = Vec::new();
        while alive.len() < ALIVE {
            match self.start() {
                Ok(sandbox) => alive.push(sandbox),
                Err(error) => {
                    writeln!(std::io::stderr(), "after {}: {error}", alive.len())?;
                    break;
                }
            }
        }
        let mut answered = 0;
        for sandbox in &mut alive {
            self.echo(&mut **sandbox)?;
            let told = std::iter::repeat_with(|| sandbox.next(Duration::from_secs(10)));
            let mut told = told.take(2).flatten().flatten();
            answered += usize::from(told.any(|tell| matches!(tell, Tell::Exited { .. })));
        }
        Ok(answered)
    }
}

/// Lets the kernel finish what it does in the background.
fn settle() {
    std::thread::sleep(Duration::from_millis(500));
}

fn available_kib() -> Answer<u64> {
    let table = fs::read_to_string("/proc/meminfo")?;
    let line = table
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.ok_or("no MemAvailable")?.parse()?)
}

/// Each sandbox costs the supervisor a few descriptors.
fn raise_open_files() -> Answer<()> {
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum;
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit)?;
    Ok(())
}
