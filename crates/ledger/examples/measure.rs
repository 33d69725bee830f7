//! Measures the ledger on real files and prints one JSON object:
//! `cargo run --release -p belljar-ledger --example measure -- DIR [RECORDS] [SECONDS]`.
//!
//! `DIR` must be on the disk to be measured; what is made there is removed.

use std::error::Error;
use std::io::Write as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use belljar_base::{RunId, Timestamp};
use belljar_ledger::event::Ending;
use belljar_ledger::verify::{Held, verify};
use belljar_ledger::{Draft, Event, Ledger, Options};
use serde_json::{Value, json};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const WRITERS: u32 = 64;

fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments
        .next()
        .ok_or("usage: measure DIR [RECORDS] [SECONDS]")?;
    let records = arguments
        .next()
        .map_or(Ok(1_000_000), |text| text.parse())?;
    let seconds = arguments.next().map_or(Ok(3), |text| text.parse())?;
    let dir = tempfile::tempdir_in(dir)?;
    let mut found = json!({});
    let mut add = |part: Outcome<Value>| {
        if let (Value::Object(all), Value::Object(part)) = (&mut found, part?) {
            all.extend(part);
        }
        Ok::<_, Box<dyn Error + Send + Sync>>(())
    };
    add(one_writer(&dir.path().join("one/ledger")))?;
    add(many_writers(&dir.path().join("many/ledger"), seconds))?;
    add(long_log(&dir.path().join("long/ledger"), records))?;
    writeln!(std::io::stdout(), "{found:#}")?;
    Ok(())
}

fn draft(n: u64) -> Draft {
    let at = Timestamp::from_nanos(1_795_132_800_000_000_000 + n * 1_001);
    Draft {
        at,
        run: Some(RunId::new(at, 7)),
        agent: "claude-code".parse().ok(),
        event: Event::CommandEnded {
            id: 1,
            end: Ending::Code(0),
            duration_ms: n % 10_000,
            stdout_bytes: n * 17 % 100_000,
            stderr_bytes: 0,
        },
    }
}

/// One caller at a time: what a run waits for.
fn one_writer(dir: &Path) -> Outcome<Value> {
    let ledger = Ledger::open(dir, &Options::default())?;
    let mut waits = Vec::new();
    for n in 0..2000 {
        let start = Instant::now();
        ledger.append(&[draft(n)])?;
        waits.push(start.elapsed());
    }
    drop(ledger);
    let (mut opens, mut overlapped, mut begins) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..500 {
        let start = Instant::now();
        let ledger = Ledger::open(dir, &Options::default())?;
        opens.push(start.elapsed());
        let start = Instant::now();
        let pending = ledger.begin(&[draft(n)])?;
        begins.push(start.elapsed());
        pending.wait()?;
        overlapped.push(start.elapsed());
    }
    Ok(json!({
        "append_one_us": quantiles(waits),
        "open_us": quantiles(opens),
        "begin_us": quantiles(begins),
        "begin_and_wait_us": quantiles(overlapped),
    }))
}

/// Many callers, each waiting for its own record before it writes the next.
fn many_writers(dir: &Path, seconds: u64) -> Outcome<Value> {
    let ledger = Ledger::open(dir, &Options::default())?;
    let ledger = &ledger;
    let end = Instant::now() + Duration::from_secs(seconds);
    let start = Instant::now();
    let written = thread::scope(|scope| {
        let write = || {
            let mut written = 0_u64;
            while Instant::now() < end {
                ledger.append(&[draft(written)])?;
                written += 1;
            }
            Outcome::Ok(written)
        };
        let writers: Vec<_> = (0..WRITERS).map(|_| scope.spawn(write)).collect();
        let mut sum = 0;
        for writer in writers {
            sum += writer.join().map_err(|_panic| "a writer panicked")??;
        }
        Outcome::Ok(sum)
    })?;
    let per_second = u128::from(written) * 1000 / start.elapsed().as_millis().max(1);
    Ok(json!({ "writers": WRITERS, "durable_records_per_s": u64::try_from(per_second)? }))
}

/// A log of many records: opening, verifying, exporting, finding a run.
fn long_log(dir: &Path, records: u64) -> Outcome<Value> {
    let ledger = Ledger::open(dir, &Options::default())?;
    let drafts: Vec<_> = (0..records).map(draft).collect();
    let filling = Instant::now();
    for batch in drafts.chunks(2048) {
        ledger.append(batch)?;
    }
    let filled = filling.elapsed();
    drop(ledger);
    let opening = Instant::now();
    let ledger = Ledger::open(dir, &Options::default())?;
    let opened = opening.elapsed();
    let tailing = Instant::now();
    let tail = ledger.tail(20)?.len();
    let tailed = tailing.elapsed();
    let finding = Instant::now();
    let found = ledger.of_run(RunId::new(draft(5).at, 7))?.len();
    let found_in = finding.elapsed();
    let verifying = Instant::now();
    let report = verify(dir, &Held::default())?;
    let verified = verifying.elapsed();
    if report.records != records || !report.findings.is_empty() {
        return Err(format!("verification found {:?}", report.findings).into());
    }
    let exporting = Instant::now();
    let to = dir.with_extension("export");
    ledger.export(&to)?;
    let exported = exporting.elapsed();
    let verifying = Instant::now();
    verify(&to, &Held::default())?;
    let export_verified = verifying.elapsed();
    Ok(json!({
        "verify_ms": millis(verified),
        "export_ms": millis(exported),
        "verify_export_ms": millis(export_verified),
        "records": records,
        "bytes": bytes_below(dir)?,
        "fill_ms": millis(filled),
        "open_long_us": micros(opened),
        "tail": { "records": tail, "us": micros(tailed) },
        "of_run": { "records": found, "ms": millis(found_in) },
    }))
}

fn bytes_below(dir: &Path) -> Outcome<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(dir)? {
        sum += entry?.metadata()?.len();
    }
    Ok(sum)
}

fn quantiles(mut times: Vec<Duration>) -> Value {
    times.sort_unstable();
    let at = |percent: usize| times.get(times.len() * percent / 100).copied();
    json!({
        "p50": at(50).map(micros),
        "p99": at(99).map(micros),
    })
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
