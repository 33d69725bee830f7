//! The loop that carries a command's input and output, holds its time and its output, and sees
//! it to its end. One thread, one poll; a reader who does not read cannot keep a run alive.

mod flow; // one direction of bytes, with a bounded buffer

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use belljar_base::bounds::GRACE_MILLIS_MAX;
use belljar_base::frame::{End, Tell};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::backend::{Enclosed, Stdio};
use crate::life::{Cause, Effect, Event, Life, LimitHit};
use crate::spec::{Command, Limits};
use crate::sys;
use flow::{Flow, Sink};

/// How long our own reader may take for what is left after the end, at least.
const DRAIN_SECONDS_MIN: u64 = 10;

/// Where a stream of a command goes.
#[derive(Debug)]
pub enum Stream {
    /// To a descriptor of ours.
    To(OwnedFd),
    /// Into memory, up to the output limit.
    Keep,
}

/// What a caller gives to a command.
#[derive(Debug)]
pub struct Attendance {
    /// Its input; none is an empty one.
    pub stdin: Option<OwnedFd>,
    /// Where its output goes.
    pub stdout: Stream,
    /// Where its error output goes.
    pub stderr: Stream,
    /// Signals that were sent to us, as `signals` gives them: they end the run, or resize its
    /// terminal.
    pub signals: Option<OwnedFd>,
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    /// Why.
    pub cause: Cause,
    /// Why it could not be started, if it could not: the step and the error.
    pub not_started: Option<(String, io::Error)>,
    /// Bytes it wrote to its output and its error output, passed on or not.
    pub written: [u64; 2],
    /// What was kept of both.
    pub kept: [Vec<u8>; 2],
    /// The limits that were reached.
    pub hits: Vec<LimitHit>,
    /// From the ask to the end.
    pub duration: Duration,
}

/// Blocks the signals that ask a program to end, and gives a descriptor that tells of them.
///
/// # Errors
/// When the kernel gives no descriptor.
pub fn signals() -> io::Result<OwnedFd> {
    sys::signals()
}

/// Runs a command in a sandbox and ends the sandbox with it.
///
/// # Errors
/// When the sandbox's end is not confirmed by the kernel, or our own descriptors fail.
pub fn attend(
    sandbox: &mut dyn Enclosed,
    command: &Command,
    limits: &Limits,
    attendance: Attendance,
) -> io::Result<Ended> {
    let start = Instant::now();
    let stdio = sandbox.execute(command)?;
    let mut attending = Attending {
        life: Life::new(limits.wall, Duration::from_millis(GRACE_MILLIS_MAX)),
        start,
        command: stdio.id,
        flows: flows(
            stdio,
            attendance.stdin,
            attendance.stdout,
            attendance.stderr,
            limits,
        )?,
        signals: attendance.signals,
        terminal: None,
        not_started: None,
    };
    while attending.life.cause().is_none() {
        attending.turn(sandbox)?;
    }
    let mut hits = sandbox.end()?;
    let duration = start.elapsed();
    attending.drain(limits);
    let [_, output, error] = attending.flows;
    let over = [&output, &error].iter().any(|flow| flow.dropped());
    hits.extend(over.then_some(LimitHit::Output));
    let cause = attending.life.cause().unwrap_or(Cause::Lost);
    hits.extend((cause == Cause::TimeOver).then_some(LimitHit::Time));
    // A file would have become bigger than one may be: the signal says so where no size does.
    let grew = cause == Cause::Exited(End::Signal(libc::SIGXFSZ));
    hits.extend((grew && !hits.contains(&LimitHit::Disk)).then_some(LimitHit::Disk));
    Ok(Ended {
        cause,
        not_started: attending.not_started,
        written: [output.total(), error.total()],
        kept: [output.into_kept(), error.into_kept()],
        hits,
        duration,
    })
}

struct Attending {
    life: Life,
    start: Instant,
    command: u32,
    /// Input, output, error output.
    flows: [Flow; 3],
    signals: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
    not_started: Option<(String, io::Error)>,
}

fn flows(
    stdio: Stdio,
    stdin: Option<OwnedFd>,
    stdout: Stream,
    stderr: Stream,
    limits: &Limits,
) -> io::Result<[Flow; 3]> {
    let sink = |stream| match stream {
        Stream::To(descriptor) => Sink::To(descriptor),
        Stream::Keep => Sink::Keep(Vec::new()),
    };
    // A command can open its pipes anew and take from the other side; our calls must not wait
    // for it.
    let ours = [&stdio.stdin, &stdio.stdout, &stdio.stderr];
    ours.into_iter().flatten().try_for_each(nonblocking)?;
    let input = stdio.stdin.map_or(Sink::Nowhere, Sink::To);
    Ok([
        Flow::new(stdin, input, None)?,
        Flow::new(stdio.stdout, sink(stdout), Some(limits.output_bytes))?,
        Flow::new(stdio.stderr, sink(stderr), Some(limits.output_bytes))?,
    ])
}

fn nonblocking(descriptor: &OwnedFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(descriptor)? | rustix::fs::OFlags::NONBLOCK;
    Ok(rustix::fs::fcntl_setfl(descriptor, flags)?)
}

impl Attending {
    /// One poll, and whatever it brings.
    fn turn(&mut self, sandbox: &mut dyn Enclosed) -> io::Result<()> {
        let ready = self.wait(sandbox.readiness())?;
        for (flow, ready) in self.flows.iter_mut().zip(ready.flows) {
            flow.advance(ready);
        }
        if ready.signals {
            self.take_signals(sandbox)?;
        }
        if ready.guest {
            self.listen(sandbox);
        }
        let effect = self
            .life
            .step(Event::Elapsed(self.start.elapsed()), self.start.elapsed());
        self.act(effect, sandbox);
        Ok(())
    }

    fn wait(&self, guest: BorrowedFd<'_>) -> io::Result<Ready> {
        let mut watched = vec![PollFd::from_borrowed_fd(guest, PollFlags::IN)];
        let signals = self.signals.as_ref().map(|signals| {
            watched.push(PollFd::new(signals, PollFlags::IN));
            watched.len() - 1
        });
        let places: Vec<[Option<usize>; 2]> = self
            .flows
            .iter()
            .map(|flow| {
                let wants = [
                    (flow.wants_read(), PollFlags::IN),
                    (flow.wants_write(), PollFlags::OUT),
                ];
                wants.map(|(descriptor, flags)| {
                    descriptor.map(|descriptor| {
                        watched.push(PollFd::from_borrowed_fd(descriptor, flags));
                        watched.len() - 1
                    })
                })
            })
            .collect();
        let left = self.life.next_deadline().unwrap_or_default();
        let left = left.saturating_sub(self.start.elapsed());
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        match poll(&mut watched, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let happened = |place: Option<usize>| {
            place
                .and_then(|place| watched.get(place))
                .is_some_and(|one| !one.revents().is_empty())
        };
        let mut flows = [[false; 2]; 3];
        for (ready, places) in flows.iter_mut().zip(&places) {
            *ready = places.map(happened);
        }
        Ok(Ready {
            guest: happened(Some(0)),
            signals: happened(signals),
            flows,
        })
    }

    fn take_signals(&mut self, sandbox: &mut dyn Enclosed) -> io::Result<()> {
        let Some(signals) = &self.signals else {
            return Ok(());
        };
        for signal in sys::take_signals(signals)? {
            if signal == libc::SIGWINCH {
                self.resize();
                continue;
            }
            let effect = self.life.step(Event::Cancelled, self.start.elapsed());
            if effect == Some(Effect::Terminate) {
                // The command hears the very signal that we heard.
                if sandbox.signal(self.command, signal).is_err() {}
            } else {
                self.act(effect, sandbox);
            }
        }
        Ok(())
    }

    /// Gives the command's terminal the size of ours.
    fn resize(&self) {
        let Some(terminal) = &self.terminal else {
            return;
        };
        if let Ok(size) = rustix::termios::tcgetwinsize(rustix::stdio::stdin())
            && rustix::termios::tcsetwinsize(terminal, size).is_err()
        {}
    }

    /// Hears everything the guest has said: two messages may arrive as one.
    fn listen(&mut self, sandbox: &mut dyn Enclosed) {
        loop {
            let told = sandbox.next(Duration::ZERO);
            let silent = matches!(told, Ok(None));
            let event = match told {
                Ok(Some(tell)) => self.hear(tell, sandbox),
                Ok(None) => None,
                Err(_) => Some(Event::Lost),
            };
            let effect = event.and_then(|event| self.life.step(event, self.start.elapsed()));
            self.act(effect, sandbox);
            if silent || self.life.cause().is_some() {
                return;
            }
        }
    }

    fn hear(&mut self, tell: Tell, sandbox: &mut dyn Enclosed) -> Option<Event> {
        match tell {
            Tell::Started { .. } => {
                self.connect_terminal(sandbox);
                Some(Event::Started)
            }
            Tell::Failed { step, errno, .. } => {
                self.not_started = Some((step, io::Error::from_raw_os_error(errno)));
                Some(Event::NotStarted)
            }
            Tell::Exited { id, end } if id == self.command => Some(Event::Exited(end)),
            Tell::Exited { .. } | Tell::Ready { .. } => None,
        }
    }

    /// A terminal carries input and output over one descriptor.
    fn connect_terminal(&mut self, sandbox: &mut dyn Enclosed) {
        let Some(master) = sandbox.take_terminal() else {
            return;
        };
        // A command can empty its terminal between our poll and our read.
        if nonblocking(&master).is_err() {
            return;
        }
        let copies = (master.try_clone(), master.try_clone());
        if let (Ok(source), Ok(sink)) = copies {
            let [input, output, _] = &mut self.flows;
            input.set_sink(sink);
            output.set_source(source);
            self.terminal = Some(master);
        }
    }

    fn act(&mut self, effect: Option<Effect>, sandbox: &mut dyn Enclosed) {
        match effect {
            Some(Effect::Terminate) => {
                // A guest that cannot be told is gone, and the next turn sees that.
                if sandbox.signal(self.command, libc::SIGTERM).is_err() {}
            }
            // The loop ends; the end of the sandbox follows it.
            Some(Effect::Kill | Effect::Finish) | None => {}
        }
    }

    /// Takes what is left of the output: every writer has ended, so there is an end to it. Only
    /// our own reader can be slow; it has what is left of the wall time, or until a signal.
    fn drain(&mut self, limits: &Limits) {
        let left = limits.wall.saturating_sub(self.start.elapsed());
        let deadline = Instant::now() + left.max(Duration::from_secs(DRAIN_SECONDS_MIN));
        let [_, output, error] = &mut self.flows;
        while !(output.finished() && error.finished()) {
            for flow in [&mut *output, &mut *error] {
                let writes = flow.wants_write().is_some();
                let ready = match (flow.wants_read(), flow.wants_write()) {
                    (_, Some(sink)) => wait_for(sink, PollFlags::OUT),
                    (Some(source), None) => wait_for(source, PollFlags::IN),
                    (None, None) => false,
                };
                if ready {
                    flow.advance([!writes, writes]);
                }
            }
            let signals = self.signals.as_ref().map(sys::take_signals);
            let asked = signals.is_some_and(|signals| {
                signals.is_ok_and(|all| all.iter().any(|one| *one != libc::SIGWINCH))
            });
            if asked || Instant::now() > deadline {
                return;
            }
        }
    }
}

struct Ready {
    guest: bool,
    signals: bool,
    flows: [[bool; 2]; 3],
}

fn wait_for(descriptor: BorrowedFd<'_>, flags: PollFlags) -> bool {
    let mut watched = [PollFd::from_borrowed_fd(descriptor.as_fd(), flags)];
    let patience = Timespec {
        tv_sec: 0,
        tv_nsec: 100_000_000,
    };
    poll(&mut watched, Some(&patience)).is_ok_and(|count| count > 0)
}
