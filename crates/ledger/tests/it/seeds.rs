//! Every seed of the fuzz targets of this crate, at the same door, without a fuzzer.

use std::path::Path;
use std::{fs, io};

#[path = "../../../../fuzz/doors/scratch.rs"]
mod scratch; // directories that are gone afterwards
#[path = "../../../../fuzz/doors/patch.rs"]
mod patch; // small changes to good bytes
#[path = "../../../../fuzz/doors/ledger.rs"]
mod ledger; // the ledger's files

fn check(target: &str, enter: fn(&[u8]) -> io::Result<()>) {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds");
    let mut count = 0;
    for seed in fs::read_dir(seeds.join(target)).unwrap() {
        let path = seed.unwrap().path();
        println!("{}", path.display());
        enter(&fs::read(path).unwrap()).unwrap();
        count += 1;
    }
    assert!(count > 0, "`{target}` has no seeds");
}

#[test]
fn every_seed_of_ledger_is_answered() {
    check("ledger", ledger::enter);
}
