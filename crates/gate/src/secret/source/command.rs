//! What a program prints: password managers have one.

use std::fmt;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use belljar_base::Kind;
use belljar_base::bounds::SECRET_SOURCE_MILLIS_MAX;
use rustix::event::{PollFd, PollFlags, poll};
use serde::{Deserialize, Serialize};

use super::{Origin, SourceError, Surroundings};
use crate::secret::{Value, ValueError};

/// A program and its arguments; no shell reads them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Program {
    name: String,
    arguments: Vec<String>,
}

impl TryFrom<Vec<String>> for Program {
    type Error = SourceError;

    fn try_from(words: Vec<String>) -> Result<Self, Self::Error> {
        let mut words = words.into_iter();
        let name = words.next().filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| {
            let text = "`--from-command` names no program; write for example `--from-command pass show api`";
            SourceError::new(Kind::Invalid, text)
        })?;
        Ok(Self {
            name,
            arguments: words.collect(),
        })
    }
}

impl From<Program> for Vec<String> {
    fn from(program: Program) -> Self {
        std::iter::once(program.name)
            .chain(program.arguments)
            .collect()
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        self.arguments
            .iter()
            .try_for_each(|argument| write!(f, " {argument}"))
    }
}

/// Ends a program that is still there, and takes its exit status off the system.
struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        // Both fail only where it is gone already.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Reads until a moment, and then no more.
struct Timed<R> {
    inner: R,
    until: Instant,
}

impl<R: Read + AsFd> Read for Timed<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = self.until.saturating_duration_since(Instant::now());
        let left = rustix::time::Timespec::try_from(left)
            .map_err(|_far| io::Error::from(io::ErrorKind::InvalidInput))?;
        let mut watched = [PollFd::new(&self.inner, PollFlags::IN)];
        if poll(&mut watched, Some(&left))? == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.inner.read(into)
    }
}

impl Origin for &Program {
    fn read(&self, _around: &Surroundings<'_>) -> Result<Value, SourceError> {
        let name = &self.name;
        let until = Instant::now() + Duration::from_millis(SECRET_SOURCE_MILLIS_MAX);
        let late = || {
            let seconds = SECRET_SOURCE_MILLIS_MAX / 1000;
            let text = format!("the command `{name}` took longer than {seconds} seconds");
            SourceError::new(Kind::Unavailable, text)
        };
        // What it says on standard error could repeat the value, so that nobody gets it.
        let child = Command::new(name)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| {
                let text = format!("cannot start the command `{name}`: {error}");
                SourceError::new(Kind::NotFound, text)
            })?;
        let mut child = Reaped(child);
        let Some(inner) = child.0.stdout.take() else {
            return Err(late());
        };
        let read = Value::read(&mut Timed { inner, until });
        if let Err(ValueError::Read(error)) = &read
            && error.kind() == io::ErrorKind::TimedOut
        {
            return Err(late());
        }
        let status = loop {
            match child.0.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                Ok(None) | Err(_) => return Err(late()),
            }
        };
        if !status.success() {
            let text = format!("the command `{name}` failed ({status}); try it in a shell");
            return Err(SourceError::new(Kind::Unavailable, text));
        }
        read.map_err(|source| {
            SourceError::value(format!("the command `{name}` printed no value"), source)
        })
    }
}
