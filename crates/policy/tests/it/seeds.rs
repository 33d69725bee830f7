//! Every seed of the fuzz targets of this crate, at the same door, without a fuzzer.

use std::path::Path;
use std::{fs, io};

#[path = "../../../../fuzz/doors/host.rs"]
mod host; // a host, as a sandbox writes it
#[path = "../../../../fuzz/doors/network_rules.rs"]
mod network_rules; // rules, as a person writes them
#[path = "../../../../fuzz/doors/request_path.rs"]
mod request_path; // the path of a request

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
fn every_seed_of_host_is_answered() {
    check("host", host::enter);
}

#[test]
fn every_seed_of_network_rules_is_answered() {
    check("network_rules", network_rules::enter);
}

#[test]
fn every_seed_of_request_path_is_answered() {
    check("request_path", request_path::enter);
}
