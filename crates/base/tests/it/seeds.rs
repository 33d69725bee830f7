//! Every seed of the fuzz targets of this crate, at the same door, without a fuzzer.

use std::path::Path;
use std::{fs, io};

#[path = "../../../../fuzz/doors/frame.rs"]
mod frame; // guest → supervisor
#[path = "../../../../fuzz/doors/run_id_and_names.rs"]
mod run_id_and_names; // words that become ids and names

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
fn every_seed_of_frame_is_answered() {
    check("frame", frame::enter);
}

#[test]
fn every_seed_of_run_id_and_names_is_answered() {
    check("run_id_and_names", run_id_and_names::enter);
}
