//! A value on standard input. On a terminal it is typed unseen.

use std::io::{self, IsTerminal, Read, StdinLock};

use belljar_gate::secret::{Value, ValueError};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::report;

/// Reads the value.
pub(crate) fn value() -> Result<Value, ValueError> {
    let input = io::stdin().lock();
    if !input.is_terminal() {
        // Standard input is read through a buffer that nobody wipes; its descriptor is not.
        return Value::read(&mut Plain);
    }
    let silence = Silence::over(input);
    report::complain("the value (it is not shown; end with the return key):");
    let value = Value::read(&mut OneLine { ended: false });
    drop(silence);
    value
}

/// A terminal that does not show what is typed.
struct Silence<'a> {
    input: StdinLock<'a>,
    before: Option<Termios>,
}

impl<'a> Silence<'a> {
    fn over(input: StdinLock<'a>) -> Self {
        let before = tcgetattr(&input).ok();
        if let Some(mut silent) = before.clone() {
            silent.local_modes.remove(LocalModes::ECHO);
            tcsetattr(&input, OptionalActions::Flush, &silent).ok();
        }
        Self { input, before }
    }
}

impl Drop for Silence<'_> {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            tcsetattr(&self.input, OptionalActions::Now, before).ok();
        }
    }
}

/// Standard input without a buffer.
struct Plain;

impl Read for Plain {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        rustix::io::read(rustix::stdio::stdin(), into).map_err(io::Error::from)
    }
}

/// Standard input up to the end of its first line.
struct OneLine {
    ended: bool,
}

impl Read for OneLine {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.ended {
            return Ok(0);
        }
        let count = Plain.read(into)?;
        self.ended = into.get(..count).is_some_and(|read| read.ends_with(b"\n"));
        Ok(count)
    }
}
