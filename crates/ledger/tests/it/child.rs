//! Writers in processes of their own: this test program, started again to run one test.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

use belljar_base::{HasKind as _, Kind};
use belljar_ledger::verify::{Held, verify};
use belljar_ledger::{Ledger, Options};

use crate::support::{Place, draft};

const ORDER: &str = "LEDGER_TEST_CHILD";

/// Starts this program again, through `wrap` if that is not empty, to do `deed` in `state`.
pub(crate) fn start(wrap: &[&str], deed: &str, name: &str, state: &Path) -> Writer {
    let program = std::env::current_exe().unwrap();
    let (first, rest) = wrap
        .split_first()
        .map_or((None, wrap), |(f, r)| (Some(f), r));
    let mut command = match first {
        Some(first) => {
            let mut command = Command::new(first);
            command.args(rest).arg(program);
            command
        }
        None => Command::new(program),
    };
    let mut child = command
        .args(["--exact", "child::a_process_of_its_own", "--nocapture"])
        .env(ORDER, format!("{deed} {name} {}", state.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap());
    Writer { child, lines }
}

/// A running child.
pub(crate) struct Writer {
    child: Child,
    lines: BufReader<ChildStderr>,
}

impl Writer {
    /// The next line that it says.
    pub(crate) fn next(&mut self) -> Option<String> {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.strip_suffix('\n').map(str::to_owned)
    }

    /// Everything that it still says, until it ends well.
    pub(crate) fn finish(mut self) -> Vec<String> {
        let said: Vec<_> = std::iter::from_fn(|| self.next()).collect();
        assert!(self.child.wait().unwrap().success(), "{said:?}");
        said
    }

    /// Everything that it had said when it was killed.
    pub(crate) fn kill(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::iter::from_fn(|| self.next()).collect()
    }
}

/// What a child does. Run as an ordinary test, it does the same in a place of its own.
#[test]
fn a_process_of_its_own() {
    #[expect(
        clippy::disallowed_methods,
        reason = "how a test tells its child what to do"
    )]
    let order = std::env::var(ORDER);
    let Ok(order) = order else {
        let place = Place::new();
        write(place.state.path(), "here", 3);
        assert_eq!(place.open().size().unwrap(), 3);
        return;
    };
    let mut parts = order.splitn(3, ' ');
    let (deed, name) = (parts.next().unwrap(), parts.next().unwrap());
    let state = Path::new(parts.next().unwrap());
    match deed {
        "write" => write(state, name, 100),
        "write-forever" => write(state, name, u64::MAX),
        "fill" => fill(state, name),
        "fill-and-free" => fill_and_free(state, name),
        other => panic!("{other}"),
    }
}

fn say(text: &str) {
    let mut out = std::io::stderr();
    out.write_all(format!("{text}\n").as_bytes()).unwrap();
}

fn open(state: &Path) -> Ledger {
    Ledger::open(&state.join("ledger"), &Options::default()).unwrap()
}

/// Appends records `NAME 0`, `NAME 1` …, and says each one when it is durable.
fn write(state: &Path, name: &str, count: u64) {
    let ledger = open(state);
    for n in 0..count {
        let text = format!("{name} {n}");
        ledger.append(&[draft(&text)]).unwrap();
        say(&text);
    }
}

/// Appends until there is no more room, and once more.
fn fill(state: &Path, name: &str) {
    let ledger = open(state);
    let mut full = 0;
    for n in 0.. {
        let text = format!("{name} {n}");
        match ledger.append(&[draft(&text)]) {
            Ok(_) => say(&text),
            Err(error) => {
                assert_eq!(error.kind(), Kind::Exhausted, "{error:?}");
                assert_eq!(error.to_string(), "could not write to the ledger");
                full += 1;
                if full == 2 {
                    return;
                }
            }
        }
    }
}

/// The same on a file system with little room, then with room again.
fn fill_and_free(state: &Path, name: &str) {
    let ballast = state.join("ballast");
    std::fs::write(&ballast, vec![1; 100 << 10]).unwrap();
    fill(state, name);
    let ledger = open(state);
    let full = ledger.size().unwrap();
    assert!(full > 100);
    let report = verify(&state.join("ledger"), &Held::default()).unwrap();
    assert_eq!((report.findings, report.records), (vec![], full));
    ledger.append(&[draft("no room")]).unwrap_err();
    std::fs::remove_file(ballast).unwrap();
    assert_eq!(ledger.append(&[draft("room")]).unwrap().first, full);
    assert!(ledger.torn().is_empty());
    let report = verify(&state.join("ledger"), &Held::default()).unwrap();
    assert_eq!((report.findings, report.records), (vec![], full + 1));
    say("room again");
}
