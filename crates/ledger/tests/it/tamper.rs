//! Whatever is changed is found, and in the right place.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use belljar_ledger::Ledger;
use belljar_ledger::merkle::Hash;
use belljar_ledger::note::Verifier;
use belljar_ledger::verify::{Finding, Held, Report, What, verify};

use sha2::{Digest as _, Sha256};

use crate::support::{Place, draft, fill};

const RECORDS: u64 = 40;

/// A closed ledger of several segments, and where each record is in it.
struct Sample {
    place: Place,
    records: Vec<(PathBuf, Range<usize>)>,
}

impl Sample {
    fn new() -> Self {
        let place = Place::with_segments(4096 + 2000);
        fill(&place.open(), RECORDS);
        let mut records = Vec::new();
        for file in segments(&place.dir()) {
            let bytes = fs::read(&file).unwrap();
            let mut at = 4096;
            while bytes.get(at..at + 4) == Some(&b"\xffBJC"[..]) {
                let number = |from: usize| {
                    usize::try_from(u32::from_le_bytes(
                        bytes[from..from + 4].try_into().unwrap(),
                    ))
                    .unwrap()
                };
                let end = at + 32 + number(at + 4);
                let mut entry = at + 32;
                while entry < end {
                    let length = u16::from_be_bytes(bytes[entry..entry + 2].try_into().unwrap());
                    let record = entry + 6..entry + 6 + usize::from(length);
                    entry = record.end;
                    records.push((file.clone(), record));
                }
                at = end;
            }
        }
        assert_eq!(records.len(), usize::try_from(RECORDS).unwrap());
        assert!(segments(&place.dir()).len() >= 3);
        let sample = Self { place, records };
        assert_eq!(sample.verify().findings, []);
        sample
    }

    fn dir(&self) -> PathBuf {
        self.place.dir()
    }

    fn verify(&self) -> Report {
        verify(&self.dir(), &Held::default()).unwrap()
    }

    /// Changes a file, verifies, puts the file back.
    fn with(&self, file: &Path, change: impl FnOnce(&mut Vec<u8>)) -> Vec<Finding> {
        let whole = fs::read(file).unwrap();
        let mut changed = whole.clone();
        change(&mut changed);
        fs::write(file, &changed).unwrap();
        let found = self.verify().findings;
        fs::write(file, &whole).unwrap();
        found
    }

    fn record(&self, seq: usize) -> (&Path, Range<usize>) {
        let (file, range) = &self.records[seq];
        (file, range.clone())
    }
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries
        .filter(|path| path.extension().is_some_and(|end| end == "segment"))
        .collect();
    files.sort();
    files
}

const LAST: usize = 39;
/// First, middle and last record, and both sides of a segment's end.
const PLACES: [usize; 5] = [0, 8, 20, 38, LAST];

/// Makes the check beside a record right again, as a forger would.
fn forge_check(bytes: &mut [u8], record: &Range<usize>) {
    let leaf = Hash::leaf(&bytes[record.clone()]);
    bytes[record.start - 4..record.start].copy_from_slice(&leaf.as_bytes()[..4]);
}

#[test]
fn a_flipped_bit_of_a_record_is_found_in_its_place() {
    let sample = Sample::new();
    for seq in PLACES {
        let (file, range) = sample.record(seq);
        for at in [
            range.start - 6,
            range.start - 4,
            range.start,
            range.start + 90,
            range.end - 1,
        ] {
            for bit in [0, 3, 7] {
                let found = sample.with(file, |bytes| bytes[at] ^= 1 << bit);
                assert_eq!(found.len(), 1, "{found:?}");
                assert_eq!(found[0].what, What::Altered);
                assert_eq!(found[0].seq, Some(u64::try_from(seq).unwrap()));
                assert_eq!(
                    found[0].offset,
                    Some(u64::try_from(range.start - 6).unwrap())
                );
                assert!(file.ends_with(&found[0].file));
            }
        }
    }
}

#[test]
fn every_byte_of_every_file_is_covered() {
    let place = Place::with_segments(4096 + 600);
    fill(&place.open(), 4);
    for entry in fs::read_dir(place.dir()).unwrap() {
        let file = entry.unwrap().path();
        let mut whole = fs::read(&file).unwrap();
        if file.ends_with("head") {
            // 4 records make one peak; what is behind is left over from an earlier hint.
            whole.truncate(80 + 32 + 8);
        }
        // The zeros behind the records of the last segment, and of headers, in steps.
        let zeros = whole.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        let samples = (0..zeros).chain((zeros..whole.len()).step_by(9973));
        for at in samples {
            if at > 700 && at < 4000 && at % 61 != 0 {
                continue;
            }
            let mut changed = whole.clone();
            changed[at] ^= 1 << (at % 8);
            fs::write(&file, &changed).unwrap();
            let found = match verify(&place.dir(), &Held::default()) {
                Ok(report) => !report.findings.is_empty() || report.unfinished.is_some(),
                // The public key itself: there is nothing to check with any more.
                Err(_) => file.ends_with("key.pub"),
            };
            assert!(found, "{} byte {at}", file.display());
        }
        fs::write(&file, &whole).unwrap();
    }
}

#[test]
fn a_forged_record_is_found_by_the_chain() {
    let sample = Sample::new();
    for seq in PLACES {
        let (file, range) = sample.record(seq);
        let found = sample.with(file, |bytes| {
            let digit = range.clone().rfind(|at| bytes[*at] == b'n').unwrap();
            bytes[digit] = b'm';
            forge_check(bytes, &range);
        });
        assert!(!found.is_empty());
        let at = found[0].seq.unwrap();
        let seq = u64::try_from(seq).unwrap();
        // The record after it, or the frame it ends, or the segment that follows, tells.
        assert!(
            (seq.saturating_sub(6)..=seq + 1).contains(&at),
            "{seq}: {found:?}"
        );
    }
}

#[test]
fn swapped_removed_and_inserted_records_are_found() {
    let sample = Sample::new();
    for seq in [1, 9, 24, 33] {
        let (file, one) = sample.record(seq);
        let (other_file, two) = sample.record(seq + 1);
        if file != other_file {
            continue;
        }
        let entry = |range: &Range<usize>| range.start - 6..range.end;
        let swapped = sample.with(file, |bytes| {
            let both: Vec<_> = bytes[entry(&two)]
                .iter()
                .chain(&bytes[one.end..two.start - 6])
                .chain(&bytes[entry(&one)])
                .copied()
                .collect();
            bytes.splice(one.start - 6..two.end, both);
        });
        let removed = sample.with(file, |bytes| {
            bytes.drain(entry(&one));
        });
        let inserted = sample.with(file, |bytes| {
            let copy = bytes[entry(&one)].to_vec();
            bytes.splice(one.end..one.end, copy);
        });
        let seq = u64::try_from(seq).unwrap();
        for (found, at) in [(swapped, seq), (removed, seq), (inserted, seq + 1)] {
            let place = found[0].seq.unwrap();
            assert!(at == place, "{at}: {found:?}");
        }
    }
}

#[test]
fn a_cut_tail_is_found() {
    let sample = Sample::new();
    let files = segments(&sample.dir());
    let last = files.last().unwrap();
    let (file, range) = sample.record(LAST);
    let start = range.start - 38;
    // The last commit is cut off, or overwritten with zeros.
    for cut in [true, false] {
        let found = sample.with(file, |bytes| {
            if cut {
                bytes.truncate(start);
            } else {
                bytes[start..].fill(0);
            }
        });
        let whats: Vec<_> = found.iter().map(|finding| finding.what).collect();
        assert_eq!(whats, [What::Short, What::Short], "{found:?}");
        assert!(
            found
                .iter()
                .any(|finding| finding.text.contains("40 records, there are 39"))
        );
    }
    // Whole segments are gone from the end, the middle, the beginning.
    for (file, what) in [
        (last, What::Short),
        (&files[1], What::Missing),
        (&files[0], What::Missing),
    ] {
        let whole = fs::read(file).unwrap();
        fs::remove_file(file).unwrap();
        let found = sample.verify().findings;
        fs::write(file, whole).unwrap();
        assert_eq!(found[0].what, what, "{found:?}");
    }
}

#[test]
fn a_damaged_ledger_is_not_opened_when_its_end_is_concerned() {
    let sample = Sample::new();
    let (file, range) = sample.record(LAST);
    let open = || Ledger::open(&sample.dir(), &sample.place.options);
    let whole = fs::read(file).unwrap();
    for change in [
        &(|bytes: &mut Vec<u8>| bytes.truncate(range.start - 38)) as &dyn Fn(&mut Vec<u8>),
        &|bytes| bytes[range.start - 38..].fill(0),
        &|bytes| bytes[range.start - 30] ^= 4,
    ] {
        let mut changed = whole.clone();
        change(&mut changed);
        fs::write(file, &changed).unwrap();
        let error = open().unwrap_err();
        assert!(
            error.to_string().starts_with("could not use the ledger"),
            "{error}"
        );
        // Not even when the hint is gone: the signed checkpoint knows.
        let hint = fs::read(sample.dir().join("head")).unwrap();
        fs::remove_file(sample.dir().join("head")).unwrap();
        open().unwrap_err();
        fs::write(sample.dir().join("head"), hint).unwrap();
        assert_eq!(fs::read(file).unwrap(), changed, "nothing was cut");
    }
    fs::write(file, whole).unwrap();
    assert_eq!(open().unwrap().size().unwrap(), RECORDS);
}

/// A commit whose every check holds is no torn write, even where its record is none: the next opening
/// would not cut it off, so it must not be excused as one.
#[test]
fn a_whole_commit_of_no_record_is_found() {
    let place = Place::new();
    fill(&place.open(), 1);
    let file = place.dir().join("00000000.segment");
    let mut bytes = fs::read(&file).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let record = b"{}";
    let leaf = Hash::leaf(record);
    let mut frame = b"\xffBJC".to_vec();
    for word in [8, u32::try_from(end - 4096).unwrap(), 1, 1, 0] {
        frame.extend_from_slice(&word.to_le_bytes());
    }
    let hashed = [&[2], frame.as_slice(), &[0; 8], leaf.as_bytes()].concat();
    frame.extend_from_slice(&Sha256::digest(hashed)[..8]);
    frame.extend_from_slice(&[0, 2]);
    frame.extend_from_slice(&leaf.as_bytes()[..4]);
    frame.extend_from_slice(record);
    bytes[end..end + frame.len()].copy_from_slice(&frame);
    fs::write(&file, bytes).unwrap();
    let report = verify(&place.dir(), &Held::default()).unwrap();
    let whats: Vec<_> = report
        .findings
        .iter()
        .map(|found| (found.what, found.seq))
        .collect();
    assert_eq!(whats, [(What::Altered, Some(1))]);
    assert_eq!(report.unfinished, None);
}

#[test]
fn another_key_is_found() {
    let sample = Sample::new();
    let other = Place::new();
    let key: Verifier = other.open().key().parse().unwrap();
    let held = Held {
        key: Some(key),
        ..Held::default()
    };
    let found = verify(&sample.dir(), &held).unwrap().findings;
    assert!(found.len() >= 3);
    assert!(
        found.iter().all(|finding| finding.what == What::Signature),
        "{found:?}"
    );
    // The key file of another ledger does not open this one.
    fs::copy(
        other.state.path().join("keys/ledger.key"),
        sample.place.state.path().join("keys/ledger.key"),
    )
    .unwrap();
    let error = Ledger::open(&sample.dir(), &sample.place.options).unwrap_err();
    assert!(
        error.to_string().contains("is not the key of the ledger"),
        "{error}"
    );
    fs::remove_file(sample.place.state.path().join("keys/ledger.key")).unwrap();
    Ledger::open(&sample.dir(), &sample.place.options).unwrap_err();
}

#[test]
fn two_histories_are_found() {
    let place = Place::new();
    let ledger = place.open();
    fill(&ledger, 10);
    let copy = place.state.path().join("before");
    copy_dir(&place.dir(), &copy);
    ledger.append(&[draft("what really happened")]).unwrap();
    let kept = ledger.checkpoint().unwrap();
    drop(ledger);
    // Whoever has the key puts the old ledger back and writes another history.
    fs::remove_dir_all(place.dir()).unwrap();
    copy_dir(&copy, &place.dir());
    let ledger = place.open();
    let held = Held {
        checkpoints: vec![kept],
        ..Held::default()
    };
    let whats = |held: &Held| {
        let found = verify(&place.dir(), held).unwrap().findings;
        found
            .into_iter()
            .map(|finding| finding.what)
            .collect::<Vec<_>>()
    };
    assert_eq!(whats(&Held::default()), []);
    assert_eq!(whats(&held), [What::Short]);
    ledger.append(&[draft("what did not happen")]).unwrap();
    ledger.append(&[draft("and more of it")]).unwrap();
    assert_eq!(whats(&Held::default()), []);
    assert_eq!(whats(&held), [What::OtherHistory]);
}

#[test]
fn the_checkpoint_is_held_to_its_word() {
    let sample = Sample::new();
    let file = sample.dir().join("checkpoint");
    let found = sample.with(&file, |bytes| {
        let text = String::from_utf8(bytes.clone()).unwrap();
        *bytes = text.replace("\n40\n", "\n39\n").into_bytes();
    });
    assert_eq!(found[0].what, What::Signature);
    let found = sample.with(&file, Vec::clear);
    assert_eq!(found[0].what, What::Signature);
}

#[test]
fn nothing_to_verify_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    assert!(verify(dir.path(), &Held::default()).is_err());
    assert!(verify(&dir.path().join("missing"), &Held::default()).is_err());
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}
