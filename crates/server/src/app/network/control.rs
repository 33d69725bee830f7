//! Grants while a run is under way: a socket in the run's folder, which only its owner can reach.
//! One line of JSON each way.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use belljar_base::{AgentName, Clock, HasKind, Kind, RunId};
use belljar_gate::Door;
use belljar_ledger::{Draft, Event, Ledger, Text};
use belljar_policy::egress::{Rule, RuleError};
use serde::{Deserialize, Serialize};

use crate::clock::SystemClock;
use crate::state::{State, StateError};

/// The socket's name in the run's folder.
pub(super) const NAME: &str = "control";
/// How long either side waits for the other.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of one line.
const LINE_BYTES_MAX: u64 = 16 << 10;

/// A grant was not given.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    /// What was written is no rule.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// There is no such run.
    #[error(transparent)]
    State(#[from] StateError),
    /// It is over, or has no way out.
    #[error("`{0}` is not running with a network; name the host with --allow at its next run")]
    NotRunning(RunId),
    /// It did not answer.
    #[error("`{run}` does not answer")]
    Silent {
        /// The run.
        run: RunId,
        /// Why.
        source: io::Error,
    },
    /// It refused.
    #[error("`{run}` did not take the rule: {reason}")]
    Refused {
        /// The run.
        run: RunId,
        /// Why.
        reason: String,
    },
}

impl HasKind for GrantError {
    fn kind(&self) -> Kind {
        match self {
            Self::Rule(_) => Kind::Invalid,
            Self::State(error) => error.kind(),
            Self::NotRunning(_) => Kind::Conflict,
            Self::Silent { .. } | Self::Refused { .. } => Kind::Unavailable,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Grant {
    allow: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    /// Why it was not granted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Lets something through for a run that is under way, from its next request on.
///
/// # Errors
/// When the text is no rule, the run is over, or it does not answer.
pub fn grant(state: &State, run: RunId, text: &str) -> Result<Rule, GrantError> {
    let rule = Rule::parse_allow(text)?;
    let stream = connect(&state.run_folder(run)).map_err(|_gone| GrantError::NotRunning(run))?;
    let answer = ask(stream, text).map_err(|source| GrantError::Silent { run, source })?;
    match answer.error {
        None => Ok(rule),
        Some(reason) => Err(GrantError::Refused { run, reason }),
    }
}

fn ask(mut stream: UnixStream, text: &str) -> io::Result<Answer> {
    let mut line = serde_json::to_vec(&Grant {
        allow: text.to_owned(),
    })?;
    line.push(b'\n');
    stream.write_all(&line)?;
    Ok(serde_json::from_slice(&read_line(&stream)?)?)
}

fn read_line(stream: &UnixStream) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    BufReader::new(stream.take(LINE_BYTES_MAX)).read_until(b'\n', &mut line)?;
    Ok(line)
}

/// The socket by a short name: a path in a deep directory does not fit into an address.
fn short(folder: &Path) -> io::Result<(File, PathBuf)> {
    let folder = File::open(folder)?;
    let path = format!("/proc/self/fd/{}/{NAME}", folder.as_raw_fd());
    Ok((folder, path.into()))
}

fn connect(folder: &Path) -> io::Result<UnixStream> {
    let (_folder, path) = short(folder)?;
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Writes grants to the ledger before they hold.
pub(super) struct Writer {
    pub(super) ledger: Arc<Ledger>,
    pub(super) run: RunId,
    pub(super) agent: AgentName,
}

/// The listening side.
pub(super) struct Control {
    folder: PathBuf,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Control {
    pub(super) fn open(folder: &Path, door: Arc<Door>, writer: Writer) -> io::Result<Self> {
        let (_folder, path) = short(folder)?;
        let listener = UnixListener::bind(path)?;
        let over = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&over);
        let thread = std::thread::Builder::new()
            .name("belljar-grants".to_owned())
            .spawn(move || {
                for stream in listener.incoming() {
                    if ended.load(Ordering::Acquire) {
                        return;
                    }
                    // Who does not speak in time, or goes away, has asked for nothing.
                    if stream
                        .and_then(|stream| serve(&stream, &door, &writer))
                        .is_err()
                    {}
                }
            })?;
        Ok(Self {
            folder: folder.to_path_buf(),
            over,
            thread: Some(thread),
        })
    }

    /// Ends the thread.
    pub(super) fn close(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.over.store(true, Ordering::Release);
        // A last visitor wakes the thread up.
        let woken = connect(&self.folder).is_ok();
        if let Some(thread) = self.thread.take().filter(|_| woken)
            && thread.join().is_err()
        {}
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.end();
        }
    }
}

fn serve(stream: &UnixStream, door: &Door, writer: &Writer) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let line = read_line(stream)?;
    let error = match serde_json::from_slice::<Grant>(&line) {
        Ok(grant) => take(&grant.allow, door, writer).err(),
        Err(_malformed) => Some("the request cannot be read".to_owned()),
    };
    let mut line = serde_json::to_vec(&Answer { error })?;
    line.push(b'\n');
    (&*stream).write_all(&line)
}

/// Writes the grant, then lets it hold.
fn take(text: &str, door: &Door, writer: &Writer) -> Result<(), String> {
    let rule = Rule::parse_allow(text).map_err(|error| error.to_string())?;
    let draft = Draft {
        at: SystemClock.now(),
        run: Some(writer.run),
        agent: Some(writer.agent.clone()),
        event: Event::NetworkGranted {
            rule: Text::from(rule.text.as_str()),
        },
    };
    writer
        .ledger
        .append(&[draft])
        .map_err(|error| error.to_string())?;
    let mut rules = (*door.rules()).clone();
    rules.add(rule).map_err(|error| error.to_string())?;
    door.replace(rules);
    Ok(())
}
