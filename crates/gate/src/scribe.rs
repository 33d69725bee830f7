//! Writes what the judge decides. One thread takes what many tasks hand in and appends it in
//! batches, so that a crowd of attempts costs one commit.
//!
//! **Invariant:** whoever waits for [`Scribe::record`] goes on only when the record is durable.

use std::io;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use belljar_base::bounds::COMMIT_RECORDS_MAX;
use belljar_base::{AgentName, Clock, RunId};
use belljar_ledger::{Draft, Event, Ledger};
use tokio::sync::oneshot;

/// The ledger did not take a record: what it was about must not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the ledger did not take the record")]
pub(crate) struct Unwritten;

/// Hands events to the thread that writes.
pub(crate) struct Scribe {
    run: RunId,
    agent: AgentName,
    clock: Arc<dyn Clock + Send + Sync>,
    lines: mpsc::Sender<Line>,
}

/// What is handed to the thread.
enum Line {
    /// An event, and who waits for it.
    Event(Box<Draft>, Option<oneshot::Sender<bool>>),
    /// Somebody waits for everything before.
    Flush(mpsc::SyncSender<()>),
}

impl Scribe {
    /// Starts the thread; it ends when the scribe is dropped and everything is written.
    pub(crate) fn start(
        run: RunId,
        agent: AgentName,
        ledger: Arc<Ledger>,
        clock: Arc<dyn Clock + Send + Sync>,
    ) -> io::Result<Self> {
        let (lines, queue) = mpsc::channel();
        thread::Builder::new()
            .name("gate-scribe".to_owned())
            .spawn(move || write(&ledger, &queue))?;
        Ok(Self {
            run,
            agent,
            clock,
            lines,
        })
    }

    /// The run that the records belong to.
    pub(crate) fn run(&self) -> RunId {
        self.run
    }

    /// Writes an event; durable on return.
    pub(crate) async fn record(&self, event: Event) -> Result<(), Unwritten> {
        let (waiter, durable) = oneshot::channel();
        self.send(event, Some(waiter))?;
        match durable.await {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(Unwritten),
        }
    }

    /// Writes an event soon. Only for what is over already: nothing may depend on it.
    pub(crate) fn note(&self, event: Event) {
        // A scribe whose thread is gone has refused every attempt since; there is nobody to tell.
        self.send(event, None).ok();
    }

    /// Waits, on this thread, until everything handed in so far is written.
    pub(crate) fn flush(&self) {
        let (told, written) = mpsc::sync_channel(1);
        if self.lines.send(Line::Flush(told)).is_ok() {
            // A thread that is gone has nothing left to write.
            written.recv().ok();
        }
    }

    fn send(&self, event: Event, waiter: Option<oneshot::Sender<bool>>) -> Result<(), Unwritten> {
        let draft = Draft {
            at: self.clock.now(),
            run: Some(self.run),
            agent: Some(self.agent.clone()),
            event,
        };
        let sent = self.lines.send(Line::Event(Box::new(draft), waiter));
        sent.map_err(|_thread_gone| Unwritten)
    }
}

/// What is written together.
#[derive(Default)]
struct Batch {
    drafts: Vec<Draft>,
    waiters: Vec<Option<oneshot::Sender<bool>>>,
    flushes: Vec<mpsc::SyncSender<()>>,
    /// Somebody waits.
    urgent: bool,
}

fn write(ledger: &Ledger, queue: &mpsc::Receiver<Line>) {
    let mut batch = Batch::default();
    while let Ok(first) = queue.recv() {
        batch.take(first);
        // What nobody waits for waits for what somebody does: an end written by itself would
        // keep the next attempt waiting for two commits.
        let until = Instant::now() + COMPANY;
        while !batch.urgent && batch.drafts.len() < BATCH_RECORDS {
            match queue.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => batch.take(line),
                Err(_alone) => break,
            }
        }
        let room = BATCH_RECORDS.saturating_sub(batch.drafts.len());
        queue
            .try_iter()
            .take(room)
            .for_each(|line| batch.take(line));
        batch.write(ledger);
    }
}

impl Batch {
    fn take(&mut self, line: Line) {
        match line {
            Line::Event(draft, waiter) => {
                self.urgent |= waiter.is_some();
                self.drafts.push(*draft);
                self.waiters.push(waiter);
            }
            Line::Flush(told) => {
                self.urgent = true;
                self.flushes.push(told);
            }
        }
    }

    /// Writes everything, tells those who wait, and is empty again.
    fn write(&mut self, ledger: &Ledger) {
        let together = !self.drafts.is_empty() && ledger.append(&self.drafts).is_ok();
        for (draft, waiter) in self.drafts.drain(..).zip(self.waiters.drain(..)) {
            // One record that cannot be encoded must not take the others of its batch with it.
            let durable = together || ledger.append(&[draft]).is_ok();
            if let Some(waiter) = waiter {
                // Whoever no longer waits has given up the attempt.
                waiter.send(durable).ok();
            }
        }
        for told in self.flushes.drain(..) {
            // Whoever no longer waits has gone on without.
            told.send(()).ok();
        }
        self.urgent = false;
    }
}

/// Less than a commit holds, so that the bytes of a batch stay below a commit's as well.
const BATCH_RECORDS: usize = COMMIT_RECORDS_MAX / 4;
/// How long what nobody waits for may wait.
const COMPANY: Duration = Duration::from_millis(20);
