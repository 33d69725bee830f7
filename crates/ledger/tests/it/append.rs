//! What is appended can be read back: by the same ledger, a later one, another one.

use belljar_ledger::{Draft, Receipt};

use crate::support::{Place, draft, run, said};

#[test]
fn records_read_back_after_reopening() {
    let place = Place::new();
    let ledger = place.open();
    let drafts = [draft("one"), draft("two")];
    assert_eq!(
        ledger.append(&drafts).unwrap(),
        Receipt { first: 0, last: 1 }
    );
    let pending = ledger.begin(&[draft("three")]).unwrap();
    assert_eq!(pending.wait().unwrap(), Receipt { first: 2, last: 2 });
    drop(ledger);

    let ledger = place.open();
    assert_eq!(ledger.append(&[draft("four")]).unwrap().first, 3);
    let records: Vec<_> = ledger.records(0).unwrap().map(Result::unwrap).collect();
    let texts: Vec<_> = records.iter().map(|record| said(&record.event)).collect();
    assert_eq!(texts, ["one", "two", "three", "four"]);
    for pair in records.windows(2) {
        assert_eq!(pair[1].prev, pair[0].leaf);
    }
    assert_eq!(records[3].at, drafts[0].at);
    assert_eq!(ledger.tail(2).unwrap(), records[2..]);
    assert_eq!(ledger.of_run(run(1)).unwrap(), records);
    assert_eq!(ledger.of_run(run(2)).unwrap(), []);
    assert!(ledger.torn().is_empty());
}

#[test]
fn two_ledgers_on_one_directory_take_turns() {
    let place = Place::with_segments(20_000);
    let (one, two) = (place.open(), place.open());
    for n in 0..200 {
        let ledger = if n % 3 == 0 { &one } else { &two };
        let receipt = ledger.append(&[draft(&n.to_string())]).unwrap();
        assert_eq!(receipt.first, n);
    }
    for ledger in [one, two, place.open()] {
        let texts = ledger
            .records(0)
            .unwrap()
            .map(|record| said(&record.unwrap().event));
        assert!(texts.eq((0..200).map(|n| n.to_string())));
        for from in [0, 1, 57, 199, 200, 500] {
            let seqs = ledger
                .records(from)
                .unwrap()
                .map(|record| record.unwrap().seq);
            assert!(seqs.eq(from..200.max(from)), "{from}");
        }
        assert_eq!(ledger.tail(150).unwrap().len(), 150);
    }
}

#[test]
fn nothing_is_an_error() {
    let ledger = Place::new();
    let ledger = ledger.open();
    assert!(ledger.append(&[]).is_err());
    let too_many: Vec<Draft> = (0..5000).map(|_| draft("x")).collect();
    let error = ledger.append(&too_many).unwrap_err();
    assert!(
        error.to_string().starts_with("5000 records at once"),
        "{error}"
    );
}
