//! Verifies the ledger's own files, its segments side by side.

use std::fs::{self, File};
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::{Anchor, Context, Finding, VerifyError, What, check_chain, unreadable};
use crate::error::Place;
use crate::frame::{self, HEAD_BYTES, HEAD_LENGTH};
use crate::hint;
use crate::log::{CHECKPOINT, first_of_frame, has_later_frame};
use crate::merkle::Frontier;
use crate::segment::{self, FIRST_FRAME, Header, Position};

const BUFFER_BYTES: usize = 1 << 20;

pub(super) fn verify(context: &mut Context<'_>) -> Result<(), VerifyError> {
    add_hint(context);
    let numbers = segment::list(context.dir).map_err(unreadable(context.dir))?;
    if numbers.is_empty() && !context.dir.join(CHECKPOINT).exists() {
        return Err(VerifyError::NotALedger(context.dir.to_owned()));
    }
    let mut scans = scan_all(context, &numbers)?;
    if let (Some(last), Some(number)) = (scans.last_mut(), numbers.last())
        && (last.unfinished.is_some() || !last.findings.is_empty())
    {
        // A writer may have been at work there: look again while none is.
        let lock = File::open(context.dir).map_err(unreadable(context.dir))?;
        let locked = lock.lock_shared();
        *last = scan(context, *number, true)?;
        locked.and_then(|()| lock.unlock()).ok();
    }
    join(context, scans);
    Ok(())
}

/// The hint is no evidence, but a damaged one, or one that knows of more records, is worth a line.
fn add_hint(context: &mut Context<'_>) {
    let Ok(bytes) = fs::read(context.dir.join(hint::NAME)) else {
        return;
    };
    match hint::parse(&bytes) {
        Some(hint) => context.anchors.push(Anchor {
            size: hint.position.seq(),
            root: hint.position.frontier.root(),
            name: hint::NAME,
        }),
        None => {
            let text = "the hint does not hold; the next opening writes it again";
            context.found(Finding::new(What::Altered, hint::NAME, text));
        }
    }
}

/// What was found in one segment.
struct Scan {
    header: Option<Header>,
    /// How far its records could be read.
    reached: Option<Position>,
    /// Whether that is their end.
    whole: bool,
    findings: Vec<Finding>,
    unfinished: Option<Place>,
}

fn scan_all(context: &Context<'_>, numbers: &[u32]) -> Result<Vec<Scan>, VerifyError> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let nth = next.fetch_add(1, Ordering::Relaxed);
            let Some(number) = numbers.get(nth) else {
                return Ok(done);
            };
            done.push((nth, scan(context, *number, nth + 1 == numbers.len())?));
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let results = thread::scope(|scope| {
        let workers: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut results = vec![work()];
        for worker in workers {
            match worker.join() {
                Ok(result) => results.push(result),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        results
    });
    let mut scans = Vec::new();
    for result in results {
        scans.append(&mut result?);
    }
    scans.sort_by_key(|(nth, _)| *nth);
    Ok(scans.into_iter().map(|(_, scan)| scan).collect())
}

/// Checks that the segments follow each other, and gathers what was found in them.
fn join(context: &mut Context<'_>, scans: Vec<Scan>) {
    let mut before: Option<Position> = None;
    let mut whole = true;
    let mut tree = Frontier::default();
    for (nth, scan) in scans.into_iter().enumerate() {
        if let Some(header) = &scan.header {
            follow(context, nth, before.as_ref().filter(|_| whole), header);
        }
        for finding in scan.findings {
            context.found(finding);
        }
        whole = scan.whole;
        if let Some(reached) = &scan.reached {
            tree = reached.frontier.clone();
        }
        before = scan.reached;
        context.report.unfinished = scan.unfinished.map(|place| place.to_string());
    }
    context.report.records = tree.size();
    context.report.root = tree.root();
    if whole {
        context.end(&tree);
    }
}

fn follow(context: &mut Context<'_>, nth: usize, before: Option<&Position>, header: &Header) {
    let number = header.start.segment;
    let file = file_name(number);
    let seq = header.start.seq();
    let expected = u32::try_from(nth).unwrap_or(u32::MAX);
    if nth == 0 && (number != 0 || seq != 0) {
        let text = "the ledger begins with a later segment";
        context.found(Finding::new(What::Missing, file_name(0), text).at(0, 0));
    } else if let Some(before) = before {
        let joined = header.before == (before.offset, before.back)
            && header.start.last == before.last
            && header.start.frontier == before.frontier;
        if !joined {
            let text = format!(
                "the segment follows record {}, the one before ends with {}",
                i128::from(seq) - 1,
                i128::from(before.seq()) - 1
            );
            let what = if number == expected {
                What::Misplaced
            } else {
                What::Missing
            };
            context.found(Finding::new(what, file, text).at(0, before.seq()));
        }
    }
}

fn file_name(number: u32) -> PathBuf {
    let path = segment::path(Path::new(""), number);
    path.file_name().map(PathBuf::from).unwrap_or_default()
}

fn scan(context: &Context<'_>, number: u32, is_last: bool) -> Result<Scan, VerifyError> {
    let path = segment::path(context.dir, number);
    let mut file = File::open(&path).map_err(unreadable(&path))?;
    let header = Header::read(&file).map_err(unreadable(&path))?;
    let mut findings = Vec::new();
    let name = file_name(number);
    let Some(header) = header else {
        let text = "the segment's header does not hold";
        findings.push(Finding::new(What::Altered, name, text).at(0, 0));
        return Ok(Scan {
            header: None,
            reached: None,
            whole: false,
            findings,
            unfinished: None,
        });
    };
    let seq = header.start.seq();
    if header.start.segment != number {
        let text = format!("the file is segment {}", header.start.segment);
        findings.push(Finding::new(What::Misplaced, name.clone(), text).at(0, seq));
    }
    if !header.signed_by(&context.key) {
        let text = "the segment's header is not signed by the key";
        findings.push(Finding::new(What::Signature, name.clone(), text).at(0, seq));
    }
    file.seek(SeekFrom::Start(FIRST_FRAME))
        .map_err(unreadable(&path))?;
    let mut scanner = Scanner {
        file: BufReader::with_capacity(BUFFER_BYTES, file),
        name,
        position: header.start.clone(),
        anchors: &context.anchors,
        payload: Vec::new(),
        findings,
    };
    let signed = context.anchors.iter().map(|anchor| anchor.size).max();
    let (whole, unfinished) = scanner
        .run(is_last, signed.unwrap_or(0))
        .map_err(unreadable(&path))?;
    Ok(Scan {
        header: Some(header),
        reached: Some(scanner.position),
        whole,
        findings: scanner.findings,
        unfinished,
    })
}

/// Reads one segment from front to back.
struct Scanner<'a> {
    file: BufReader<File>,
    name: PathBuf,
    position: Position,
    anchors: &'a [Anchor],
    payload: Vec<u8>,
    findings: Vec<Finding>,
}

/// A frame that does not hold.
type Broken = Option<Finding>;

impl Scanner<'_> {
    /// Whether the segment could be read to its end, and a torn write that is there.
    fn run(&mut self, is_last: bool, signed: u64) -> io::Result<(bool, Option<Place>)> {
        self.check_anchors();
        loop {
            let place = self.position.place();
            let mut bytes = [0; HEAD_BYTES];
            let read = read_full(&mut self.file, &mut bytes)?;
            let broken = if frame::is_zero(&bytes) {
                if self.rest_is_zero()? {
                    return Ok((true, None));
                }
                let text = "there are bytes behind the end of the segment's records";
                Some(self.finding(What::Altered, place, text))
            } else {
                match frame::Head::parse(&bytes) {
                    Some(head) if read == HEAD_BYTES => self.frame(&head)?,
                    _other => Some(self.finding(What::Altered, place, "a frame does not hold")),
                }
            };
            let Some(finding) = broken else {
                continue;
            };
            if is_last && place.seq >= signed && !self.is_written(&place)? {
                return Ok((true, Some(place)));
            }
            self.findings.push(finding);
            return Ok((false, None));
        }
    }

    fn finding(&self, what: What, place: Place, text: &str) -> Finding {
        Finding::new(what, self.name.clone(), text).at(place.offset, place.seq)
    }

    fn frame(&mut self, head: &frame::Head) -> io::Result<Broken> {
        let place = self.position.place();
        let mut payload = std::mem::take(&mut self.payload);
        payload.resize(usize::try_from(head.payload).unwrap_or(0), 0);
        let read = read_full(&mut self.file, &mut payload)?;
        let whole = read == payload.len();
        let broken = self.records(head, &payload, place);
        self.payload = payload;
        if broken.is_none() && !whole {
            let text = "the frame is not all there";
            return Ok(Some(self.finding(What::Altered, place, text)));
        }
        Ok(broken)
    }

    fn records(&mut self, head: &frame::Head, payload: &[u8], place: Place) -> Broken {
        let mut next = self.position.clone();
        let (mut end, mut count) = (0, 0_u64);
        let at = |offset: usize, nth: u64| Place {
            offset: place.offset + HEAD_LENGTH + u64::try_from(offset).unwrap_or(0),
            seq: place.seq + nth,
            ..place
        };
        for entry in frame::entries(payload) {
            let here = at(entry.offset, count);
            if !entry.sound {
                return Some(self.finding(What::Altered, here, "the record does not hold"));
            }
            if let Some((what, text)) = check_chain(entry.record, here.seq, &next.last) {
                return Some(self.finding(what, here, &text));
            }
            next.frontier.push(entry.leaf);
            next.last = entry.leaf;
            count += 1;
            end = entry.offset + frame::ENTRY_BYTES + entry.record.len();
            self.check_tree(&next);
        }
        if end != payload.len() && count < u64::from(head.count) {
            let here = at(end, count);
            return Some(self.finding(What::Altered, here, "the record does not hold"));
        }
        let whole = end == payload.len() && count == u64::from(head.count);
        let joined = head.first == place.seq && head.back == self.position.back;
        if !whole || !joined || !head.holds(&next.last) {
            return Some(self.finding(What::Altered, place, "the frame's head does not hold"));
        }
        next.advance(head.total(), &[]);
        self.position = next;
        None
    }

    fn check_anchors(&mut self) {
        let position = self.position.clone();
        self.check_tree(&position);
    }

    fn check_tree(&mut self, position: &Position) {
        let size = position.frontier.size();
        for anchor in self.anchors.iter().filter(|anchor| anchor.size == size) {
            if let Some(mut finding) = anchor.check(&position.frontier) {
                finding.seq = size.checked_sub(1);
                // A segment begins where another ends: both see the same tree.
                if !self.findings.contains(&finding) {
                    self.findings.push(finding);
                }
            }
        }
    }

    fn rest_is_zero(&mut self) -> io::Result<bool> {
        let mut rest = Vec::new();
        self.file.read_to_end(&mut rest)?;
        Ok(frame::is_zero(&rest))
    }

    /// Whether a frame that holds in itself is in this place, or one of later records behind it:
    /// an interrupted write leaves neither, and the next opening cuts neither off.
    fn is_written(&mut self, place: &Place) -> io::Result<bool> {
        let mut rest = Vec::new();
        self.file.seek(SeekFrom::Start(place.offset))?;
        self.file.read_to_end(&mut rest)?;
        let is_here = first_of_frame(&rest) == Some(place.seq);
        Ok(is_here || has_later_frame(&rest, place.seq))
    }
}

/// Reads until the buffer is full or the file ends; what was not read is zeros.
fn read_full(file: &mut BufReader<File>, buffer: &mut [u8]) -> io::Result<usize> {
    buffer.fill(0);
    let mut read = 0;
    while let Some(rest) = buffer.get_mut(read..)
        && !rest.is_empty()
    {
        match file.read(rest) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}
