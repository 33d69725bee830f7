//! The states of a run, as a pure machine: events in, effects out. Why a run ended is decided
//! here alone.

use std::time::Duration;

use belljar_base::frame::End;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The command runs.
    Started,
    /// The command could not be started.
    NotStarted,
    /// The command ended.
    Exited(End),
    /// So much time has passed since the start.
    Elapsed(Duration),
    /// Somebody outside asked for an end (Ctrl-C, a signal, the kill switch).
    Cancelled,
    /// The guest is gone, or talks nonsense.
    Lost,
}

/// What is to be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Ask the command to end.
    Terminate,
    /// End everything inside now.
    Kill,
    /// Take what is left of the output, then end.
    Finish,
}

/// A limit that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LimitHit {
    /// CPU time was held back.
    Cpu,
    /// Memory: the kernel ended a process.
    Memory,
    /// Processes and threads.
    Pids,
    /// Wall time: the run was ended.
    Time,
    /// Bytes in the scratch layer.
    Disk,
    /// Files in the scratch layer.
    Inodes,
    /// Bytes of output: the rest was dropped.
    Output,
}

impl LimitHit {
    /// The word that `--limit`, records and reports use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Time => "time",
            Self::Disk => "disk",
            Self::Inodes => "inodes",
            Self::Output => "output",
        }
    }
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The command ended by itself.
    Exited(End),
    /// The command could not be started.
    NotStarted,
    /// The wall time was over.
    TimeOver,
    /// Somebody outside ended it.
    Cancelled,
    /// The sandbox died under it.
    Lost,
}

/// A run between its start and its end.
#[derive(Debug)]
pub(crate) struct Life {
    wall: Duration,
    grace: Duration,
    state: State,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Starting,
    Running,
    /// Asked to end, for this cause; killed when this much time has passed since the start.
    Ending(Cause, Duration),
    Ended(Cause),
}

impl Life {
    pub(crate) fn new(wall: Duration, grace: Duration) -> Self {
        Self {
            wall,
            grace,
            state: State::Starting,
        }
    }

    /// Takes an event at a time since the start; says what to do.
    pub(crate) fn step(&mut self, event: Event, elapsed: Duration) -> Option<Effect> {
        if matches!(self.state, State::Ended(_)) {
            return None;
        }
        match event {
            Event::Started => {
                if self.state == State::Starting {
                    self.state = State::Running;
                }
                None
            }
            Event::NotStarted => self.ended(Cause::NotStarted, Effect::Finish),
            Event::Exited(end) => {
                let cause = match self.state {
                    State::Ending(cause, _) => cause,
                    State::Starting | State::Running | State::Ended(_) => Cause::Exited(end),
                };
                self.ended(cause, Effect::Finish)
            }
            Event::Lost => self.ended(Cause::Lost, Effect::Kill),
            Event::Cancelled => self.ask(Cause::Cancelled, elapsed),
            Event::Elapsed(now) => match self.state {
                State::Ending(cause, deadline) if now >= deadline => {
                    self.ended(cause, Effect::Kill)
                }
                State::Starting | State::Running if now >= self.wall => {
                    self.ask(Cause::TimeOver, now)
                }
                State::Starting | State::Running | State::Ending(..) | State::Ended(_) => None,
            },
        }
    }

    /// When the next `Elapsed` matters, since the start.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        match self.state {
            State::Starting | State::Running => Some(self.wall),
            State::Ending(_, deadline) => Some(deadline),
            State::Ended(_) => None,
        }
    }

    /// Why it ended, if it has.
    pub(crate) fn cause(&self) -> Option<Cause> {
        match self.state {
            State::Ended(cause) => Some(cause),
            State::Starting | State::Running | State::Ending(..) => None,
        }
    }

    fn ask(&mut self, cause: Cause, elapsed: Duration) -> Option<Effect> {
        match self.state {
            // Asked twice, somebody is in a hurry.
            State::Ending(first, _) if cause == Cause::Cancelled => self.ended(first, Effect::Kill),
            State::Ending(..) | State::Ended(_) => None,
            State::Starting | State::Running => {
                self.state = State::Ending(cause, elapsed + self.grace);
                Some(Effect::Terminate)
            }
        }
    }

    fn ended(&mut self, cause: Cause, effect: Effect) -> Option<Effect> {
        self.state = State::Ended(cause);
        Some(effect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALL: Duration = Duration::from_secs(10);
    const GRACE: Duration = Duration::from_secs(1);

    /// Plays events at seconds and gives effects and the cause.
    fn play(events: &[(u64, Event)]) -> (Vec<Option<Effect>>, Option<Cause>) {
        let mut life = Life::new(WALL, GRACE);
        let effects = events
            .iter()
            .map(|(at, event)| life.step(*event, Duration::from_secs(*at)))
            .collect();
        (effects, life.cause())
    }

    #[test]
    fn an_exit_is_an_exit() {
        let (effects, cause) = play(&[(0, Event::Started), (1, Event::Exited(End::Code(3)))]);
        assert_eq!(effects, [None, Some(Effect::Finish)]);
        assert_eq!(cause, Some(Cause::Exited(End::Code(3))));
    }

    #[test]
    fn time_over_asks_then_kills() {
        let elapsed = |s| Event::Elapsed(Duration::from_secs(s));
        let (effects, cause) = play(&[
            (0, Event::Started),
            (9, elapsed(9)),
            (10, elapsed(10)),
            (10, elapsed(10)),
            (11, elapsed(11)),
            (11, Event::Exited(End::Signal(9))),
        ]);
        let expected = [
            None,
            None,
            Some(Effect::Terminate),
            None,
            Some(Effect::Kill),
            None,
        ];
        assert_eq!(effects, expected);
        assert_eq!(cause, Some(Cause::TimeOver));
    }

    #[test]
    fn a_polite_end_after_time_over_is_still_time_over() {
        let (_, cause) = play(&[
            (0, Event::Started),
            (10, Event::Elapsed(WALL)),
            (10, Event::Exited(End::Code(0))),
        ]);
        assert_eq!(cause, Some(Cause::TimeOver));
    }

    #[test]
    fn cancelled_twice_kills_at_once() {
        let (effects, cause) = play(&[(1, Event::Cancelled), (1, Event::Cancelled)]);
        assert_eq!(effects, [Some(Effect::Terminate), Some(Effect::Kill)]);
        assert_eq!(cause, Some(Cause::Cancelled));
    }

    #[test]
    fn nothing_follows_an_end() {
        let (effects, cause) = play(&[
            (0, Event::Lost),
            (0, Event::Started),
            (20, Event::Cancelled),
        ]);
        assert_eq!(effects, [Some(Effect::Kill), None, None]);
        assert_eq!(cause, Some(Cause::Lost));
    }
}
