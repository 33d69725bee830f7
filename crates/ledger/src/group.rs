//! Group commit: whoever comes first writes for all who wait.
//!
//! There is no writer thread as long as callers wait at once: the first one leads, the others
//! sleep until they are written or it is their turn to lead. Only a caller that goes on with other
//! work before it waits ([`Group::start`]) makes the group start a thread to lead in its stead.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle, Thread};

use belljar_base::bounds::{COMMIT_BYTES_MAX, COMMIT_RECORDS_MAX};

use crate::error::{AppendError, Fault};
use crate::log::Log;
use crate::record::Encoded;

/// Where records ended up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The place of the first one.
    pub first: u64,
    /// The place of the last one.
    pub last: u64,
}

/// Those who wait, and the log they wait for.
#[derive(Debug)]
pub(crate) struct Group {
    queue: Mutex<Queue>,
    log: Mutex<Log>,
    work: Condvar,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Arc<Slot>>,
    /// Somebody is writing.
    led: bool,
    /// A thread stands by to lead.
    thread: bool,
    closing: bool,
}

/// One caller's records and, later, what became of them.
#[derive(Debug)]
pub(crate) struct Slot {
    records: Vec<Encoded>,
    bytes: usize,
    /// Who to wake; nothing while its caller does other work.
    owner: Mutex<Option<Thread>>,
    outcome: Mutex<Option<Result<Receipt, AppendError>>>,
}

/// A lock whose holder died is as good as any other: what it guards is checked, not assumed.
fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Slot {
    fn new(records: Vec<Encoded>, owner: Option<Thread>) -> Result<Self, AppendError> {
        let bytes = records.iter().map(Encoded::bytes_max).sum();
        if records.len() > COMMIT_RECORDS_MAX || bytes > COMMIT_BYTES_MAX {
            return Err(AppendError::TooMany(records.len()));
        }
        Ok(Self {
            records,
            bytes,
            owner: Mutex::new(owner),
            outcome: Mutex::new(None),
        })
    }

    fn outcome(&self) -> Option<Result<Receipt, AppendError>> {
        hold(&self.outcome).clone()
    }

    fn has_owner(&self) -> bool {
        hold(&self.owner).is_some()
    }

    fn wake(&self) {
        if let Some(thread) = &*hold(&self.owner) {
            thread.unpark();
        }
    }
}

impl Group {
    pub(crate) fn new(log: Log) -> Self {
        Self {
            queue: Mutex::default(),
            log: Mutex::new(log),
            work: Condvar::new(),
            thread: Mutex::new(None),
        }
    }

    /// The log, when nobody writes.
    pub(crate) fn log(&self) -> MutexGuard<'_, Log> {
        hold(&self.log)
    }

    /// Writes records and waits until they are durable.
    pub(crate) fn append(&self, records: Vec<Encoded>) -> Result<Receipt, AppendError> {
        let slot = Arc::new(Slot::new(records, Some(thread::current()))?);
        hold(&self.queue).waiting.push_back(Arc::clone(&slot));
        self.wait(&slot)
    }

    /// Starts to write records on a thread of the group.
    pub(crate) fn start(self: &Arc<Self>, records: Vec<Encoded>) -> Result<Arc<Slot>, AppendError> {
        let slot = Arc::new(Slot::new(records, None)?);
        let mut queue = hold(&self.queue);
        queue.waiting.push_back(Arc::clone(&slot));
        if !queue.thread {
            let group = Arc::clone(self);
            let spawned = thread::Builder::new()
                .name("ledger".to_owned())
                .spawn(move || group.stand_by());
            // Without a thread, the caller leads when it waits.
            if let Ok(handle) = spawned {
                queue.thread = true;
                *hold(&self.thread) = Some(handle);
            }
        }
        drop(queue);
        self.work.notify_one();
        Ok(slot)
    }

    /// Waits until a slot is written; leads when nobody else does.
    pub(crate) fn wait(&self, slot: &Slot) -> Result<Receipt, AppendError> {
        {
            let mut owner = hold(&slot.owner);
            if owner.is_none() {
                *owner = Some(thread::current());
            }
        }
        loop {
            if let Some(outcome) = slot.outcome() {
                return outcome;
            }
            let lead = {
                let mut queue = hold(&self.queue);
                let lead = !queue.led && !queue.waiting.is_empty();
                queue.led |= lead;
                lead
            };
            if lead {
                self.lead();
            } else {
                thread::park();
            }
        }
    }

    /// Ends the thread, after everything that waits is written.
    pub(crate) fn close(&self) {
        hold(&self.queue).closing = true;
        self.work.notify_all();
        let thread = hold(&self.thread).take();
        if let Some(thread) = thread {
            thread.join().ok();
        }
    }

    fn stand_by(&self) {
        let mut queue = hold(&self.queue);
        loop {
            if !queue.led && !queue.waiting.is_empty() {
                queue.led = true;
                drop(queue);
                self.lead();
                queue = hold(&self.queue);
            } else if queue.closing && queue.waiting.is_empty() {
                return;
            } else {
                let waited = self.work.wait(queue);
                queue = waited.unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// Writes one commit for those who wait, then hands over. The caller has set `led`.
    fn lead(&self) {
        let mut log = self.log();
        let batch = hold(&self.queue).take();
        let records: Vec<_> = batch.iter().flat_map(|slot| &slot.records).collect();
        // Those who are told bring their next records while the checkpoint is being signed.
        log.commit(&records, |written| tell(&batch, written));
        drop(log);
        let mut queue = hold(&self.queue);
        queue.led = false;
        let next = queue.waiting.iter().find(|slot| slot.has_owner());
        let next = next.map(Arc::clone);
        let by_thread = queue.thread;
        drop(queue);
        if let Some(next) = next {
            next.wake();
        }
        if by_thread {
            self.work.notify_one();
        }
    }
}

impl Queue {
    /// As many as one commit may hold, at least one.
    fn take(&mut self) -> Vec<Arc<Slot>> {
        let mut batch = Vec::with_capacity(self.waiting.len());
        let (mut records, mut bytes) = (0, 0);
        while let Some(slot) = self.waiting.front() {
            records += slot.records.len();
            bytes += slot.bytes;
            if !batch.is_empty() && (records > COMMIT_RECORDS_MAX || bytes > COMMIT_BYTES_MAX) {
                break;
            }
            batch.extend(self.waiting.pop_front());
        }
        batch
    }
}

fn tell(batch: &[Arc<Slot>], written: &Result<u64, Fault>) {
    let mut first = written.as_ref().map_or(0, |first| *first);
    for slot in batch {
        let count = u64::try_from(slot.records.len()).unwrap_or(u64::MAX);
        let outcome = match written {
            Ok(_) => Ok(Receipt {
                first,
                last: (first + count).saturating_sub(1),
            }),
            Err(fault) => Err(AppendError::Write(fault.clone())),
        };
        first += count;
        *hold(&slot.outcome) = Some(outcome);
        slot.wake();
    }
}
