//! Every seed of the fuzz targets of this crate, at the same door, without a fuzzer.

use std::path::Path;
use std::{fs, io};

#[path = "../../../../fuzz/doors/client_hello.rs"]
mod client_hello; // the first words of TLS
#[path = "../../../../fuzz/doors/proxy_request.rs"]
mod proxy_request; // what a program says to a proxy
#[path = "../../../../fuzz/doors/dns.rs"]
mod dns; // what a sandbox asks its name server

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
fn every_seed_of_dns_is_answered() {
    check("dns", dns::enter);
}

#[test]
fn every_seed_of_client_hello_is_answered() {
    check("client_hello", client_hello::enter);
}

#[test]
fn every_seed_of_proxy_request_is_answered() {
    check("proxy_request", proxy_request::enter);
}
