//! Every seed of the fuzz targets of this crate, at the same door, without a fuzzer.

use std::path::Path;
use std::{fs, io};

#[path = "../../../../fuzz/doors/scratch.rs"]
mod scratch; // directories that are gone afterwards
#[path = "../../../../fuzz/doors/patch.rs"]
mod patch; // small changes to good bytes
#[path = "../../../../fuzz/doors/sqlite_branch.rs"]
mod sqlite_branch; // what a run leaves where its database was
#[path = "../../../../fuzz/doors/change_set.rs"]
mod change_set; // a stored change set of files
#[path = "../../../../fuzz/doors/row_changes.rs"]
mod row_changes; // a stored change set of a database

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
fn every_seed_of_sqlite_branch_is_answered() {
    check("sqlite_branch", sqlite_branch::enter);
}

#[test]
fn every_seed_of_change_set_is_answered() {
    check("change_set", change_set::enter);
}

#[test]
fn every_seed_of_row_changes_is_answered() {
    check("row_changes", row_changes::enter);
}
