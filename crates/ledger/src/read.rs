//! Reading records back: from a place, of a run, the last ones.

use std::fs::File;
use std::io::{BufReader, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use belljar_base::RunId;

use crate::error::{Fault, Place, ReadError};
use crate::frame::{self, HEAD_BYTES};
use crate::ledger::Ledger;
use crate::log::place_of;
use crate::merkle::Hash;
use crate::record::Record;
use crate::segment::{self, FIRST_FRAME, Header, Position};

const BUFFER_BYTES: usize = 1 << 20;

impl Ledger {
    /// The records from `seq` on, up to those that are there now.
    ///
    /// # Errors
    /// When the log cannot be read, or is damaged.
    pub fn records(&self, seq: u64) -> Result<Records, ReadError> {
        let frames = Frames::open(self, seq)?;
        Ok(Records {
            frames,
            seq,
            wanted: None,
            ready: Vec::new().into_iter(),
        })
    }

    /// The last `count` records, oldest first.
    ///
    /// # Errors
    /// When the log cannot be read, or is damaged.
    pub fn tail(&self, count: u64) -> Result<Vec<Record>, ReadError> {
        let size = self.size()?;
        let from = size.saturating_sub(count);
        let mut records: Vec<_> = self.records(from)?.collect::<Result<_, _>>()?;
        let surplus = u64::try_from(records.len())
            .unwrap_or(0)
            .saturating_sub(count);
        records.drain(..usize::try_from(surplus).unwrap_or(0));
        Ok(records)
    }

    /// The records of one run, oldest first.
    ///
    /// # Errors
    /// When the log cannot be read, or is damaged.
    pub fn of_run(&self, run: RunId) -> Result<Vec<Record>, ReadError> {
        let frames = Frames::open(self, 0)?;
        let records = Records {
            frames,
            seq: 0,
            wanted: Some(format!("\"run\":\"{run}\"").into_bytes()),
            ready: Vec::new().into_iter(),
        };
        let of_run =
            |record: &Result<Record, _>| !matches!(record, Ok(record) if record.run != Some(run));
        records.filter(of_run).collect()
    }

    /// The leaf hashes of all records, for proofs (see [`crate::merkle`]).
    ///
    /// # Errors
    /// When the log cannot be read, or is damaged.
    pub fn leaves(&self) -> Result<Vec<Hash>, ReadError> {
        let mut frames = Frames::open(self, 0)?;
        let mut leaves = Vec::new();
        while let Some((_, mut of_frame)) = frames.next_frame()? {
            leaves.append(&mut of_frame);
        }
        Ok(leaves)
    }
}

/// Records in order.
#[derive(Debug)]
pub struct Records {
    frames: Frames,
    seq: u64,
    /// Bytes a record must hold to be wanted.
    wanted: Option<Vec<u8>>,
    ready: std::vec::IntoIter<Result<Record, ReadError>>,
}

impl Iterator for Records {
    type Item = Result<Record, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(record) = self.ready.next() {
                return Some(record);
            }
            match self.read_frame() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => {
                    self.frames.finish();
                    return Some(Err(error));
                }
            }
        }
    }
}

impl Records {
    fn read_frame(&mut self) -> Result<bool, ReadError> {
        let Some((place, _leaves)) = self.frames.next_frame()? else {
            return Ok(false);
        };
        let payload = self.frames.payload();
        let holds = |bytes: &[u8]| {
            let wanted = self.wanted.as_deref();
            wanted.is_none_or(|wanted| memchr::memmem::find(bytes, wanted).is_some())
        };
        if !holds(payload) {
            return Ok(true);
        }
        let entries = frame::entries(payload).zip(place.seq..);
        let wanted = entries.filter(|(entry, seq)| *seq >= self.seq && holds(entry.record));
        let records: Vec<_> = wanted
            .map(|(entry, seq)| {
                Record::parse(entry.record).ok_or_else(|| {
                    let what = "the record is not one of this version";
                    let place = Place { seq, ..place };
                    ReadError(Fault::Damaged { place, what })
                })
            })
            .collect();
        self.ready = records.into_iter();
        Ok(true)
    }
}

/// The frames of a ledger from some record on, checked one by one.
#[derive(Debug)]
pub(crate) struct Frames {
    dir: PathBuf,
    file: BufReader<File>,
    place: Place,
    bound: u64,
    /// Where to stop.
    end: Position,
    payload: Vec<u8>,
}

impl Frames {
    /// Stands before the frame that holds record `seq`.
    pub(crate) fn open(ledger: &Ledger, seq: u64) -> Result<Self, ReadError> {
        let (dir, end) = {
            let mut log = ledger.group.log();
            log.refresh()?;
            (log.dir().to_owned(), log.position().clone())
        };
        Ok(Self::between(&dir, seq, &end)?)
    }

    fn between(dir: &Path, seq: u64, end: &Position) -> Result<Self, Fault> {
        let mut number = end.segment;
        let (file, header) = loop {
            let (file, header) = open_segment(dir, number)?;
            if header.start.seq() <= seq || number == 0 {
                break (file, header);
            }
            number -= 1;
        };
        let mut place = header.start.place();
        if number == end.segment {
            place = walk_back(&file, end, seq).unwrap_or(place);
        }
        let mut file = BufReader::with_capacity(BUFFER_BYTES, file);
        let at = file.seek(SeekFrom::Start(place.offset));
        at.map_err(Fault::io("read the log"))?;
        let mut frames = Self {
            dir: dir.to_owned(),
            file,
            place,
            bound: header.bound,
            end: end.clone(),
            payload: Vec::new(),
        };
        frames.skip_to(seq)?;
        Ok(frames)
    }

    /// The records of the frame that was read last.
    pub(crate) fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Reads and checks the next frame; answers its place and its leaf hashes.
    pub(crate) fn next_frame(&mut self) -> Result<Option<(Place, Vec<Hash>)>, ReadError> {
        if self.place.seq >= self.end.seq() {
            return Ok(None);
        }
        self.enter_next_segment()?;
        let place = self.place;
        let head = self.read_head()?;
        let mut payload = std::mem::take(&mut self.payload);
        payload.resize(usize::try_from(head.payload).unwrap_or(0), 0);
        let read = self.file.read_exact(&mut payload);
        self.payload = payload;
        read.map_err(Fault::io("read the log"))?;
        let leaves = frame::check(&head, &self.payload).map_err(|damage| Fault::Damaged {
            place: place_of(place, damage),
            what: "the record does not hold",
        })?;
        self.pass(&head);
        Ok(Some((place, leaves)))
    }

    /// Size and root of the tree of all records, as the writers have it.
    pub(crate) fn tree(&self) -> (u64, Hash) {
        (self.end.seq(), self.end.frontier.root())
    }

    /// Reads no more.
    fn finish(&mut self) {
        self.place.seq = u64::MAX;
    }

    fn skip_to(&mut self, seq: u64) -> Result<(), Fault> {
        while self.place.seq < self.end.seq().min(seq) {
            self.enter_next_segment()?;
            let head = self.read_head()?;
            let past = head.next() > seq;
            let by = if past {
                -i64::try_from(HEAD_BYTES).unwrap_or(0)
            } else {
                i64::from(head.payload)
            };
            let moved = self.file.seek_relative(by);
            moved.map_err(Fault::io("read the log"))?;
            if past {
                return Ok(());
            }
            self.pass(&head);
        }
        Ok(())
    }

    fn pass(&mut self, head: &frame::Head) {
        self.place.offset += u64::from(head.total());
        self.place.seq = head.next();
    }

    fn read_head(&mut self) -> Result<frame::Head, Fault> {
        let mut bytes = [0; HEAD_BYTES];
        let read = self.file.read_exact(&mut bytes);
        read.map_err(Fault::io("read the log"))?;
        let head = frame::Head::parse(&bytes).filter(|head| head.first == self.place.seq);
        head.ok_or(Fault::Damaged {
            place: self.place,
            what: "there is no frame",
        })
    }

    fn enter_next_segment(&mut self) -> Result<(), Fault> {
        if self.place.offset < self.bound {
            return Ok(());
        }
        let (mut file, header) = open_segment(&self.dir, self.place.segment.saturating_add(1))?;
        if header.start.seq() != self.place.seq {
            return Err(Fault::Damaged {
                place: header.start.place(),
                what: "the segment does not follow the one before",
            });
        }
        let at = file.seek(SeekFrom::Start(FIRST_FRAME));
        at.map_err(Fault::io("read the log"))?;
        self.file = BufReader::with_capacity(BUFFER_BYTES, file);
        self.bound = header.bound;
        self.place = header.start.place();
        Ok(())
    }
}

fn open_segment(dir: &Path, number: u32) -> Result<(File, Header), Fault> {
    let file = File::open(segment::path(dir, number));
    let file = file.map_err(Fault::io("open a segment"))?;
    let header = Header::read(&file).map_err(Fault::io("read a segment"))?;
    let header = header.ok_or(Fault::Damaged {
        place: Place {
            segment: number,
            offset: 0,
            seq: 0,
        },
        what: "the segment's header does not hold",
    })?;
    Ok((file, header))
}

/// Walks from the end back to the frame that holds `seq`, which is quick for the last records.
fn walk_back(file: &File, end: &Position, seq: u64) -> Option<Place> {
    use std::os::unix::fs::FileExt as _;
    let (mut offset, mut back) = (end.offset, end.back);
    loop {
        let mut bytes = [0; HEAD_BYTES];
        offset = offset.checked_sub(u64::from(back))?;
        (back > 0).then_some(())?;
        file.read_exact_at(&mut bytes, offset).ok()?;
        let head = frame::Head::parse(&bytes)?;
        if head.first <= seq {
            return Some(Place {
                segment: end.segment,
                offset,
                seq: head.first,
            });
        }
        back = head.back;
    }
}
