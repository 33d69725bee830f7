//! A ledger whose files somebody has changed: the first byte says which and how. `verify` must
//! give an answer and so must opening; a ledger found whole opens and takes another record.

use std::fs;
use std::io;
use std::path::Path;

use belljar_base::Timestamp;
use belljar_ledger::merkle::Hash;
use belljar_ledger::verify::{Held, verify};
use belljar_ledger::{Draft, Event, Ledger, Options, Text};
use sha2::{Digest, Sha256};

use super::{patch, scratch};

const KEY: &[u8] = include_bytes!("../fixtures/ledger/keys/ledger.key");
const PUBLIC: &[u8] = include_bytes!("../fixtures/ledger/ledger/key.pub");
const CHECKPOINT: &[u8] = include_bytes!("../fixtures/ledger/ledger/checkpoint");
const SEGMENT: &[u8] = include_bytes!("../fixtures/ledger/ledger/00000000.segment");
const BUNDLE: &[u8] = include_bytes!("../fixtures/ledger/export/bundle");
const TILE: &[u8] = include_bytes!("../fixtures/ledger/export/tile");

/// Where the first frame of a segment begins.
const HEADER_BYTES: usize = 4096;
/// Length and check before each record.
const ENTRY_BYTES: usize = 6;

pub(crate) fn enter(bytes: &[u8]) -> io::Result<()> {
    let Some((how, rest)) = bytes.split_first() else {
        return Ok(());
    };
    let directory = scratch::directory()?;
    let (ledger, key) = (
        directory.path().join("ledger"),
        directory.path().join("key"),
    );
    fs::create_dir(&ledger)?;
    fs::write(&key, KEY)?;
    let put = |name: &str, bytes: &[u8]| fs::write(ledger.join(name), bytes);
    let (header, frames) = SEGMENT.split_at(HEADER_BYTES.min(SEGMENT.len()));
    let segment = |frames: &[u8]| put("00000000.segment", &[header, frames].concat());
    put("key.pub", PUBLIC)?;
    put("checkpoint", CHECKPOINT)?;
    match how % 8 {
        0 => segment(rest)?,
        1 => segment(&[frames, rest].concat())?,
        2 => {
            let mut files = vec![frames.to_vec(), header.to_vec(), CHECKPOINT.to_vec()];
            patch::apply(&mut files, rest);
            if let [frames, header, checkpoint] = files.as_slice() {
                put("00000000.segment", &[header.as_slice(), frames].concat())?;
                put("checkpoint", checkpoint)?;
            }
        }
        3 => segment(&[frames, &framed(frames, rest)].concat())?,
        4 => {
            segment(frames)?;
            put("checkpoint", rest)?;
        }
        5 => {
            segment(frames)?;
            put("head", &[rest, &check(rest)].concat())?;
        }
        6 => {
            segment(frames)?;
            put("key.pub", rest)?;
        }
        _ => return export(&ledger, rest),
    }
    look(&ledger, key);
    Ok(())
}

/// An export in tiles, of which the records and their hashes are changed.
fn export(ledger: &Path, patches: &[u8]) -> io::Result<()> {
    let mut files = vec![BUNDLE.to_vec(), TILE.to_vec()];
    patch::apply(&mut files, patches);
    for (folder, bytes) in ["tile/entries/000.p", "tile/0/000.p"].iter().zip(files) {
        fs::create_dir_all(ledger.join(folder))?;
        fs::write(ledger.join(folder).join("3"), bytes)?;
    }
    if let Ok(report) = verify(ledger, &Held::default()) {
        drop(format!("{:?}", report.findings));
    }
    Ok(())
}

/// Lines as the records of one more commit, each check right; in a line `@seq` and `@prev` stand for
/// what should be there.
fn framed(before: &[u8], lines: &[u8]) -> Vec<u8> {
    let (mut seq, mut back, mut last) = (0_u64, 0_u32, Hash::ZERO);
    let mut rest = before;
    while let Some((payload, length, count)) = payload(rest) {
        let mut entries = payload;
        while let Some(record) = take_record(&mut entries) {
            last = Hash::leaf(record);
        }
        (seq, back) = (seq + u64::from(count), length);
        rest = rest.get(payload.len() + 32..).unwrap_or_default();
    }
    let first = seq;
    let mut payload = Vec::new();
    for line in lines.split(|byte| *byte == b'\n') {
        let record = String::from_utf8_lossy(line)
            .replace("@seq", &seq.to_string())
            .replace("@prev", &last.to_string());
        last = Hash::leaf(record.as_bytes());
        let length = u16::try_from(record.len()).unwrap_or(u16::MAX);
        payload.extend_from_slice(&length.to_be_bytes());
        payload.extend_from_slice(last.as_bytes().get(..4).unwrap_or_default());
        payload.extend_from_slice(record.as_bytes());
        seq += 1;
    }
    let mut head = b"\xffBJC".to_vec();
    let length = u32::try_from(payload.len()).unwrap_or(0);
    let count = u32::try_from(seq - first).unwrap_or(0);
    for word in [length, back, count] {
        head.extend_from_slice(&word.to_le_bytes());
    }
    head.extend_from_slice(&first.to_le_bytes());
    let check = Sha256::new_with_prefix([2])
        .chain_update(&head)
        .chain_update([0; 8])
        .chain_update(last.as_bytes())
        .finalize();
    head.extend_from_slice(check.get(..8).unwrap_or_default());
    [head, payload].concat()
}

/// The payload of the frame at the front, the frame's length and the number of its records.
fn payload(bytes: &[u8]) -> Option<(&[u8], u32, u32)> {
    let word = |at: usize| {
        let field = bytes.get(at..).and_then(<[u8]>::first_chunk)?;
        Some(u32::from_le_bytes(*field))
    };
    let length = word(4)?;
    let end = usize::try_from(length).ok()?.checked_add(32)?;
    Some((bytes.get(32..end)?, length + 32, word(12)?))
}

fn take_record<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::from(u16::from_be_bytes(*rest.first_chunk()?));
    let (entry, after) = rest.split_at_checked(ENTRY_BYTES + length)?;
    *rest = after;
    entry.get(ENTRY_BYTES..)
}

/// The check at the end of a hint: the beginning of its hash.
fn check(hint: &[u8]) -> Vec<u8> {
    let hash = Sha256::digest(hint);
    hash.get(..8).unwrap_or_default().to_vec()
}

fn look(ledger: &Path, key: std::path::PathBuf) {
    let before = verify(ledger, &Held::default());
    let options = Options {
        key: Some(key),
        ..Options::default()
    };
    let opened = Ledger::open(ledger, &options);
    let is_whole = before.as_ref().is_ok_and(|report| {
        report
            .findings
            .iter()
            .for_each(|finding| drop(finding.to_string()));
        report.findings.is_empty()
    });
    assert!(!is_whole || opened.is_ok(), "{before:?}: {opened:?}");
    let Ok(opened) = opened else { return };
    let size = opened.size();
    drop((opened.tail(3), opened.leaves(), opened.checkpoint()));
    if let Ok(records) = opened.records(0) {
        // What a record means is not `verify`'s to judge: one that cannot be read is said to be so,
        // in its place, and the ones behind it are read.
        let read = records.count();
        let expected = size.ok().and_then(|size| usize::try_from(size).ok());
        assert!(
            !is_whole || Some(read) == expected,
            "{read} of {expected:?}"
        );
    }
    let draft = Draft {
        at: Timestamp::from_millis(1_795_132_800_000),
        run: None,
        agent: None,
        event: Event::Recovered {
            what: Text::from("a word more"),
        },
    };
    let appended = opened.append(&[draft]);
    drop(opened);
    if let (true, Ok(before)) = (is_whole, before) {
        assert!(appended.is_ok(), "{appended:?}");
        let after = verify(ledger, &Held::default());
        let records = after.as_ref().map(|report| report.records).ok();
        assert_eq!(records, Some(before.records + 1), "{after:?}");
        assert!(after.is_ok_and(|report| report.findings.is_empty()));
    }
}
