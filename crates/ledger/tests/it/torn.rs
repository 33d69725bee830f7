//! What an interrupted writer leaves behind is cut off and reported; nothing acknowledged is lost.

use std::fs;

use belljar_ledger::verify::{Held, verify};

use crate::support::{Place, draft, fill, said};

/// A commit that was torn at any byte is recognised, and the ledger goes on before it.
#[test]
fn a_commit_torn_at_any_byte_is_cut() {
    let place = Place::new();
    let ledger = place.open();
    fill(&ledger, 5);
    let names = ["head", "checkpoint"].map(|name| place.dir().join(name));
    let before: Vec<_> = names.iter().map(|name| fs::read(name).unwrap()).collect();
    ledger.append(&[draft("torn"), draft("too")]).unwrap();
    drop(ledger);
    let segment = place.dir().join("00000000.segment");
    let whole = fs::read(&segment).unwrap();
    let end = whole.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let start = (0..end)
        .rfind(|at| whole[*at..].starts_with(b"\xffBJC"))
        .unwrap();
    for torn in start..=end {
        // As after a kill: a beginning was written. As after a power loss: only an end was.
        for beginning in [true, false] {
            for (name, bytes) in names.iter().zip(&before) {
                fs::write(name, bytes).unwrap();
            }
            let mut bytes = whole.clone();
            if beginning {
                bytes[torn..].fill(0);
            } else {
                bytes[start..torn].fill(0);
                // Another start of the machine: what the hint says of the rest is not believed.
                fs::remove_file(&names[0]).unwrap();
            }
            fs::write(&segment, &bytes).unwrap();
            let is_whole = bytes == whole;
            let is_gone = bytes[start..].iter().all(|byte| *byte == 0);

            let report = verify(&place.dir(), &Held::default()).unwrap();
            assert_eq!(report.findings, [], "{torn}");
            assert_eq!(report.unfinished.is_some(), !is_whole && !is_gone, "{torn}");
            let ledger = place.open();
            let cut = ledger.torn();
            assert_eq!(cut.len(), usize::from(!is_whole && !is_gone), "{torn}");
            if let Some(cut) = cut.first() {
                assert_eq!(
                    (cut.place.seq, cut.place.offset),
                    (5, u64::try_from(start).unwrap())
                );
            }
            let size = if is_whole { 7 } else { 5 };
            assert_eq!(ledger.size().unwrap(), size);
            if torn % 16 != 0 {
                continue;
            }
            assert_eq!(ledger.append(&[draft("next")]).unwrap().first, size);
            let last = ledger.tail(1).unwrap();
            assert_eq!(said(&last[0].event), "next");
            let report = verify(&place.dir(), &Held::default()).unwrap();
            assert_eq!((report.findings, report.unfinished), (vec![], None));
        }
    }
}

#[test]
fn a_missing_or_damaged_hint_is_made_again() {
    let place = Place::with_segments(8000);
    fill(&place.open(), 50);
    let hint = place.dir().join("head");
    let whole = fs::read(&hint).unwrap();
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 0x40;
        fs::write(&hint, changed).unwrap();
        let ledger = place.open();
        assert_eq!(ledger.size().unwrap(), 50, "{at}");
        assert!(ledger.torn().is_empty());
    }
    fs::remove_file(&hint).unwrap();
    let ledger = place.open();
    assert_eq!(ledger.append(&[draft("next")]).unwrap().first, 50);
    assert_eq!(verify(&place.dir(), &Held::default()).unwrap().findings, []);
}

/// The hint is older than the log: its writer was killed between the two.
#[test]
fn an_old_hint_is_caught_up_with() {
    let place = Place::with_segments(8000);
    let ledger = place.open();
    fill(&ledger, 3);
    let names = ["head", "checkpoint"].map(|name| place.dir().join(name));
    let before: Vec<_> = names.iter().map(|name| fs::read(name).unwrap()).collect();
    fill(&ledger, 100);
    drop(ledger);
    for (name, bytes) in names.iter().zip(&before) {
        fs::write(name, bytes).unwrap();
    }
    let ledger = place.open();
    assert_eq!(ledger.append(&[draft("next")]).unwrap().first, 103);
    assert!(ledger.torn().is_empty());
    assert_eq!(verify(&place.dir(), &Held::default()).unwrap().findings, []);
}
