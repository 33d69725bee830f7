//! Many writers at once: threads, processes, and processes that die.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use belljar_ledger::verify::{Held, verify};

use crate::child::start;
use crate::support::{Place, draft, said};

fn texts(place: &Place) -> Vec<String> {
    let records = place.open().records(0).unwrap();
    records.map(|record| said(&record.unwrap().event)).collect()
}

fn verified(place: &Place) -> u64 {
    let report = verify(&place.dir(), &Held::default()).unwrap();
    assert_eq!((report.findings, report.unfinished), (vec![], None));
    report.records
}

#[test]
fn sixty_four_threads_share_commits() {
    let place = Place::with_segments(40_000);
    let ledger = place.open();
    let work = |writer: usize| {
        let mut receipts = Vec::new();
        for n in 0..20 {
            let drafts: Vec<_> = (0..=writer % 3)
                .map(|part| draft(&format!("{writer} {n} {part}")))
                .collect();
            let receipt = if n % 5 == 0 {
                ledger.begin(&drafts).unwrap().wait().unwrap()
            } else {
                ledger.append(&drafts).unwrap()
            };
            receipts.push((n, receipt));
        }
        receipts
    };
    let receipts: Vec<_> = thread::scope(|scope| {
        let work = &work;
        let writers: Vec<_> = (0..64)
            .map(|writer| scope.spawn(move || work(writer)))
            .collect();
        writers
            .into_iter()
            .map(|writer| writer.join().unwrap())
            .collect()
    });
    let texts = texts(&place);
    let mut total = 0;
    for (writer, receipts) in receipts.into_iter().enumerate() {
        for (n, receipt) in receipts {
            let places =
                usize::try_from(receipt.first).unwrap()..=usize::try_from(receipt.last).unwrap();
            let expected = (0..=writer % 3).map(|part| format!("{writer} {n} {part}"));
            assert!(texts[places].iter().cloned().eq(expected));
            total += writer % 3 + 1;
        }
    }
    assert_eq!(texts.len(), total);
    drop(ledger);
    assert_eq!(verified(&place), u64::try_from(total).unwrap());
}

/// Dropping what was begun neither loses it nor hangs.
#[test]
fn what_is_begun_is_written() {
    let place = Place::new();
    let ledger = place.open();
    for n in 0..10 {
        drop(ledger.begin(&[draft(&n.to_string())]).unwrap());
    }
    let pending = ledger.begin(&[draft("last")]).unwrap();
    drop(ledger);
    assert_eq!(pending.wait().unwrap().last, 10);
    assert_eq!(texts(&place).len(), 11);
}

#[test]
fn processes_take_turns() {
    let place = Place::new();
    let writers = ["one", "two", "three"].map(|name| start(&[], "write", name, place.state.path()));
    let here = place.open();
    for n in 0..50 {
        here.append(&[draft(&format!("here {n}"))]).unwrap();
    }
    for writer in writers {
        assert_eq!(writer.finish().len(), 100);
    }
    let texts = texts(&place);
    for (name, count) in [("one", 100), ("two", 100), ("three", 100), ("here", 50)] {
        let of_one = texts.iter().filter(|text| text.starts_with(name));
        assert!(
            of_one
                .cloned()
                .eq((0..count).map(|n| format!("{name} {n}"))),
            "{name}"
        );
    }
    assert_eq!(verified(&place), 350);
}

#[test]
fn nothing_acknowledged_is_lost_when_writers_are_killed() {
    let place = Place::with_segments(100_000);
    drop(place.open());
    let mut acknowledged = BTreeSet::new();
    for round in 0..40_u64 {
        let names = [format!("{round}a"), format!("{round}b")];
        let count = 1 + usize::from(round % 3 == 0);
        let mut writers: Vec<_> = names[..count]
            .iter()
            .map(|name| start(&[], "write-forever", name, place.state.path()))
            .collect();
        for writer in &mut writers {
            acknowledged.insert(writer.next().unwrap());
        }
        thread::sleep(Duration::from_micros(round * 7919 % 23_000));
        for writer in writers {
            acknowledged.extend(writer.kill());
        }
    }
    let texts: BTreeSet<_> = texts(&place).into_iter().collect();
    let lost: Vec<_> = acknowledged.difference(&texts).collect();
    assert!(lost.is_empty(), "{lost:?}");
    // At most the one record that each writer was about to acknowledge is there besides.
    assert!(texts.len() - acknowledged.len() <= 54, "{}", texts.len());
    verified(&place);
    place.open().append(&[draft("next")]).unwrap();
    verified(&place);
}

/// A bound on the size of files is met like a full disk, wherever in a commit it falls.
#[test]
fn a_file_that_cannot_grow_is_a_clean_error() {
    let place = Place::new();
    drop(place.open());
    let shell = r#"trap "" XFSZ; ulimit -f 700; exec "$0" "$@""#;
    let writer = start(&["sh", "-c", shell], "fill", "full", place.state.path());
    let acknowledged = writer.finish();
    assert!(acknowledged.len() > 500);
    assert_eq!(texts(&place), acknowledged);
    let ledger = place.open();
    assert!(ledger.torn().is_empty());
    ledger.append(&[draft("room again")]).unwrap();
    assert_eq!(
        verified(&place),
        u64::try_from(acknowledged.len()).unwrap() + 1
    );
}

/// A full file system, in a mount namespace of its own (this needs user namespaces, as Belljar
/// itself does).
#[test]
fn a_full_disk_is_a_clean_error() {
    let place = Place::new();
    let state = place.state.path();
    let shell = format!(
        r#"mount -t tmpfs -o size=600k none "{}" && exec "$0" "$@""#,
        state.display()
    );
    let wrap = ["unshare", "--map-root-user", "--mount", "sh", "-c", &shell];
    let said = start(&wrap, "fill-and-free", "full", state).finish();
    assert_eq!(
        said.last().map(String::as_str),
        Some("room again"),
        "{said:?}"
    );
}
