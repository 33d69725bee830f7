//! The log on disk: one writer at a time, across threads and processes, under a file lock.
//!
//! A commit is: take the lock, read what others appended, write one frame, wait for the disk,
//! rewrite the hint and the checkpoint, release. Whatever a dead writer left half-written is found
//! by the next one and cut, unless something says that it had been durable.

mod recover; // what to believe when the end of the log does not hold

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use belljar_base::bounds::SEGMENT_EXTEND_BYTES;

pub(crate) use recover::{first_of_frame, has_later_frame};

use crate::error::{Fault, Place, Torn};
use crate::frame::{self, HEAD_BYTES};
use crate::hint::{self, Boot};
use crate::note::{Checkpoint, Signer};
use crate::record::Encoded;
use crate::segment::{self, Header, Position};

/// The name of the signed tree head.
pub(crate) const CHECKPOINT: &str = "checkpoint";

/// An open log.
#[derive(Debug)]
pub(crate) struct Log {
    dir: PathBuf,
    /// The directory itself carries the lock.
    lock: Arc<File>,
    signer: Arc<Signer>,
    boot: Option<Boot>,
    hint: File,
    checkpoint: File,
    file: File,
    bound: u64,
    /// Up to where the segment is known to be filled with zeros.
    zeroed: u64,
    position: Position,
    torn: Vec<Torn>,
    poisoned: bool,
    buffer: Vec<u8>,
}

/// What is at the end of what is known.
enum Next {
    End,
    Frame(frame::Head, Vec<crate::merkle::Hash>),
    Broken(Place),
}

/// A place in the log to go on from.
struct Found {
    boot: Option<Boot>,
    file: File,
    header: Header,
    position: Position,
}

impl Found {
    /// Where the hint says that the log ends; nothing unless the log agrees.
    fn by_hint(dir: &Path, signer: &Signer) -> Option<Self> {
        let hint = hint::read(dir)?;
        let position = hint.position;
        let boot = Boot::current().filter(|boot| *boot == hint.boot)?;
        let file = segment::open(dir, position.segment).ok()?;
        let header = Header::read(&file).ok()??;
        (header.origin == signer.verifier().name()).then_some(())?;
        if position.back == 0 {
            (position == header.start).then_some(())?;
        } else {
            let mut bytes = [0; HEAD_BYTES];
            let at = position.offset.checked_sub(u64::from(position.back))?;
            file.read_exact_at(&mut bytes, at).ok()?;
            let head = frame::Head::parse(&bytes)?;
            let agrees = head.total() == position.back && head.next() == position.seq();
            (agrees && head.holds(&position.last)).then_some(())?;
        }
        Some(Self {
            boot: Some(boot),
            file,
            header,
            position,
        })
    }

    /// Where the last segment begins.
    fn by_last_segment(dir: &Path, signer: &Signer) -> Result<Self, Fault> {
        let listed = segment::list(dir).map_err(Fault::io("list the segments"))?;
        let segment = listed.last().copied().unwrap_or(0);
        let file = segment::open(dir, segment).map_err(Fault::io("open a segment"))?;
        let header = Header::read(&file).map_err(Fault::io("read a segment"))?;
        let damaged = |what| {
            let (offset, seq) = (0, 0);
            let place = Place {
                segment,
                offset,
                seq,
            };
            Fault::Damaged { place, what }
        };
        let header = header.ok_or_else(|| damaged("the segment's header does not hold"))?;
        if !header.signed_by(signer.verifier()) {
            return Err(damaged(
                "the ledger's key did not sign the segment's header",
            ));
        }
        let position = header.start.clone();
        Ok(Self {
            boot: Boot::current(),
            file,
            header,
            position,
        })
    }
}

/// Held while this process may write.
struct Locked<'a>(&'a File);

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // Closing the file would release it too; nothing can be done if this fails.
        self.0.unlock().ok();
    }
}

fn locked(file: &File) -> Result<Locked<'_>, Fault> {
    file.lock().map_err(Fault::io("lock the ledger"))?;
    Ok(Locked(file))
}

impl Log {
    /// Opens a log that exists, whose hint agrees with it, and that nobody is writing to: without
    /// the lock, in the same time however long the log is. Nothing when it needs [`Log::open`].
    pub(crate) fn open_at_rest(dir: &Path, signer: &Arc<Signer>) -> Option<Self> {
        // Writers write the hint before the checkpoint, so this is to be read first.
        let note = fs::read_to_string(dir.join(CHECKPOINT)).ok()?;
        let found = Found::by_hint(dir, signer)?;
        let signed = Checkpoint::parse(&note)?.size;
        let mut next = [0; 1];
        let read = found.file.read_at(&mut next, found.position.offset).ok()?;
        let full = found.position.offset >= found.header.bound;
        let more = (read == 1 && next != [0])
            || (full && segment_after(dir, found.position.segment))
            || signed > found.position.seq();
        (!more).then_some(())?;
        Self::assemble(dir, signer, found).ok()
    }

    /// Opens a log under the lock and reads what its hint does not know of; all of its last
    /// segment when the hint is no good. The caller made sure that there is a segment.
    pub(crate) fn open(dir: &Path, signer: &Arc<Signer>) -> Result<Self, Fault> {
        let lock = File::open(dir).map_err(Fault::io("open the ledger's directory"))?;
        let guard = locked(&lock)?;
        let by_hint = Found::by_hint(dir, signer);
        let trusted = by_hint.is_some();
        let found = match by_hint {
            Some(found) => found,
            None => Found::by_last_segment(dir, signer)?,
        };
        let log = Self::assemble(dir, signer, found);
        let mut log = log.map_err(Fault::io("open the ledger's files"))?;
        log.catch_up()?;
        if !trusted {
            log.check_rest()?;
        }
        log.check_against_checkpoint()?;
        drop(guard);
        Ok(log)
    }

    fn assemble(dir: &Path, signer: &Arc<Signer>, found: Found) -> io::Result<Self> {
        let zeroed = found.file.metadata()?.len();
        Ok(Self {
            dir: dir.to_owned(),
            lock: Arc::new(File::open(dir)?),
            signer: Arc::clone(signer),
            boot: found.boot,
            hint: open_small(&dir.join(hint::NAME))?,
            checkpoint: open_small(&dir.join(CHECKPOINT))?,
            file: found.file,
            bound: found.header.bound,
            zeroed,
            position: found.position,
            torn: Vec::new(),
            poisoned: false,
            buffer: Vec::new(),
        })
    }

    /// Makes the first segment and what stands beside it. The caller holds the lock.
    pub(crate) fn create(dir: &Path, signer: &Signer, bound: u64) -> Result<(), Fault> {
        let header = Header::next(None, bound, signer);
        let note = signer.sign(0, header.start.frontier.root());
        let checkpoint = open_small(&dir.join(CHECKPOINT));
        let checkpoint = checkpoint.map_err(Fault::io("make the checkpoint"))?;
        let written = checkpoint.write_all_at(note.as_bytes(), 0);
        written.map_err(Fault::io("write the checkpoint"))?;
        checkpoint
            .sync_all()
            .map_err(Fault::io("write the checkpoint"))?;
        let hint = open_small(&dir.join(hint::NAME)).map_err(Fault::io("make the hint"))?;
        let bytes = hint::to_bytes(Boot::current(), &header.start);
        hint.write_all_at(&bytes, 0)
            .map_err(Fault::io("write the hint"))?;
        let made = segment::create(dir, &header, SEGMENT_EXTEND_BYTES - segment::HEADER_BYTES);
        made.map_err(Fault::io("make a segment"))?;
        Ok(())
    }

    /// Where the log is up to, as far as this process has read.
    pub(crate) const fn position(&self) -> &Position {
        &self.position
    }

    /// What this process has cut off.
    pub(crate) fn torn(&self) -> &[Torn] {
        &self.torn
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn signer(&self) -> &Signer {
        &self.signer
    }

    /// Reads what other processes appended.
    pub(crate) fn refresh(&mut self) -> Result<(), Fault> {
        let lock = Arc::clone(&self.lock);
        let _guard = locked(&lock)?;
        self.catch_up()
    }

    /// Writes these records as one frame. Calls `told` with the first place, or with what went
    /// wrong, as soon as that is certain: the hint and the checkpoint are rewritten after it.
    pub(crate) fn commit(&mut self, records: &[&Encoded], told: impl FnOnce(&Result<u64, Fault>)) {
        let lock = Arc::clone(&self.lock);
        let written = locked(&lock).and_then(|guard| Ok((guard, self.write_records(records)?)));
        match written {
            Ok((_guard, first)) => {
                told(&Ok(first));
                self.publish();
            }
            Err(fault) => told(&Err(fault)),
        }
    }

    /// The caller holds the lock.
    fn write_records(&mut self, records: &[&Encoded]) -> Result<u64, Fault> {
        if self.poisoned {
            return Err(Fault::Poisoned);
        }
        self.catch_up()?;
        if self.position.offset >= self.bound {
            self.rotate()?;
        }
        let first = self.position.seq();
        let buffer = std::mem::take(&mut self.buffer);
        let mut builder = frame::Builder::new(buffer, first, self.position.back);
        let mut leaves = Vec::with_capacity(records.len());
        let mut prev = self.position.last;
        for (record, seq) in records.iter().zip(first..) {
            prev = builder.push(|out| record.fill(seq, &prev, out));
            leaves.push(prev);
        }
        let mut bytes = builder.finish(&prev);
        let length = bytes.len();
        let written = self.write(&mut bytes, length);
        self.buffer = bytes;
        written?;
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        self.position.advance(length, &leaves);
        Ok(first)
    }

    /// Writes a frame at the end and waits for the disk. When that fails, the frame is cut off, so
    /// that no bytes which the disk may have refused are ever taken for a record.
    fn write(&mut self, bytes: &mut Vec<u8>, length: usize) -> Result<(), Fault> {
        let offset = self.position.offset;
        let end = offset.saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
        let mut zeroed = self.zeroed;
        if end > self.zeroed {
            let extend = u64::try_from(SEGMENT_EXTEND_BYTES).unwrap_or(u64::MAX);
            zeroed = end.next_multiple_of(extend);
            let zeros = usize::try_from(zeroed - end).unwrap_or(0);
            bytes.resize(length + zeros, 0);
        }
        let put = |bytes: &[u8]| {
            self.file.write_all_at(bytes, offset)?;
            self.file.sync_data()
        };
        let mut result = put(bytes);
        if result.is_err() && zeroed != self.zeroed {
            // There may still be room for the frame, if not for the zeros behind it.
            zeroed = end;
            let frame = bytes.get(..length).unwrap_or_default();
            result = self.file.set_len(offset).and_then(|()| put(frame));
        }
        match result {
            Ok(()) => self.zeroed = zeroed,
            Err(_) => {
                self.poisoned = self.file.set_len(offset).is_err();
                self.zeroed = offset;
            }
        }
        result.map_err(Fault::io("write the records"))
    }

    /// Rewrites the hint and the checkpoint. Nothing waits for them and nothing is lost if they
    /// cannot be written: the records are durable, and the next opening reads them.
    fn publish(&self) {
        let bytes = hint::to_bytes(self.boot, &self.position);
        self.hint.write_all_at(&bytes, 0).ok();
        let root = self.position.frontier.root();
        let note = self.signer.sign(self.position.seq(), root);
        self.checkpoint.write_all_at(note.as_bytes(), 0).ok();
    }

    /// Begins the next segment. The full one loses the zeros behind its last frame.
    fn rotate(&mut self) -> Result<(), Fault> {
        let trimmed = self.file.set_len(self.position.offset);
        let trimmed = trimmed.and_then(|()| self.file.sync_data());
        trimmed.map_err(Fault::io("close a segment"))?;
        let header = Header::next(Some(&self.position), self.bound, &self.signer);
        let zeros = SEGMENT_EXTEND_BYTES - segment::HEADER_BYTES;
        let file = segment::create(&self.dir, &header, zeros);
        self.file = file.map_err(Fault::io("begin a segment"))?;
        self.position = header.start;
        self.zeroed = u64::try_from(SEGMENT_EXTEND_BYTES).unwrap_or(0);
        Ok(())
    }

    /// Reads forward from the known end. The caller holds the lock.
    fn catch_up(&mut self) -> Result<(), Fault> {
        loop {
            if self.position.offset >= self.bound {
                if !self.enter_next_segment()? {
                    return Ok(());
                }
                continue;
            }
            match self.read_next()? {
                Next::End => return Ok(()),
                Next::Frame(head, leaves) => self.position.advance(head.total(), &leaves),
                Next::Broken(place) => return self.cut(place),
            }
        }
    }

    fn enter_next_segment(&mut self) -> Result<bool, Fault> {
        let number = self.position.segment.saturating_add(1);
        let file = match segment::open(&self.dir, number) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(Fault::io("open a segment")(error)),
        };
        let header = Header::read(&file).map_err(Fault::io("read a segment"))?;
        let follows = header.filter(|header| {
            header.start.frontier == self.position.frontier
                && header.start.last == self.position.last
        });
        let Some(header) = follows else {
            let seq = self.position.seq();
            let place = Place {
                segment: number,
                offset: 0,
                seq,
            };
            let what = "the segment does not follow the one before";
            return Err(Fault::Damaged { place, what });
        };
        self.zeroed = file.metadata().map_or(0, |metadata| metadata.len());
        self.file = file;
        self.bound = header.bound;
        self.position = header.start;
        Ok(true)
    }

    fn read_next(&self) -> Result<Next, Fault> {
        let place = self.position.place();
        let mut bytes = [0; HEAD_BYTES];
        let failed = || Fault::io("read the log");
        let read = read_up_to(&self.file, &mut bytes, place.offset).map_err(failed())?;
        if frame::is_zero(&bytes) {
            return Ok(Next::End);
        }
        let head = frame::Head::parse(&bytes).filter(|head| head.first == place.seq);
        let (Some(head), HEAD_BYTES) = (head, read) else {
            return Ok(Next::Broken(place));
        };
        let mut payload = vec![0; usize::try_from(head.payload).unwrap_or(0)];
        let start = place.offset + frame::HEAD_LENGTH;
        let read = read_up_to(&self.file, &mut payload, start).map_err(failed())?;
        match frame::check(&head, &payload) {
            Ok(leaves) if read == payload.len() => Ok(Next::Frame(head, leaves)),
            Ok(_) => Ok(Next::Broken(place)),
            Err(damage) => Ok(Next::Broken(place_of(place, damage))),
        }
    }
}

/// The place of a damage within the frame that begins at `frame`.
pub(crate) fn place_of(frame: Place, damage: frame::Damage) -> Place {
    let Some((nth, at)) = damage.record else {
        return frame;
    };
    Place {
        offset: frame.offset + frame::HEAD_LENGTH + u64::try_from(at).unwrap_or(0),
        seq: frame.seq + nth,
        ..frame
    }
}

fn segment_after(dir: &Path, number: u32) -> bool {
    segment::path(dir, number.saturating_add(1)).exists()
}

/// Reads until the buffer is full or the file ends; answers how much was read.
fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut read = 0;
    while let Some(rest) = buffer.get_mut(read..)
        && !rest.is_empty()
    {
        let at = offset.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
        match file.read_at(rest, at) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

fn open_small(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}
