//! The stand-alone verifier: its lines and its exit codes are for scripts.

use std::fs;
use std::process::Command;

use crate::support::{Place, fill};

/// The exit code, and what it said on both streams.
fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_belljar-verify"))
        .args(arguments)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

#[test]
fn exit_codes_and_lines() {
    let place = Place::new();
    let ledger = place.open();
    fill(&ledger, 9);
    let (dir, key) = (place.dir(), ledger.key());
    let dir = dir.to_str().unwrap();
    let kept = place.state.path().join("kept");
    fs::write(&kept, ledger.checkpoint().unwrap()).unwrap();
    let kept = kept.to_str().unwrap();
    drop(ledger);

    let (code, said) = run(&[dir, "--key", &key, "--checkpoint", kept]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.starts_with("9 records, root "), "{said}");
    assert!(
        said.ends_with(&format!(", key {key}: 0 findings\n")),
        "{said}"
    );

    let segment = place.dir().join("00000000.segment");
    let mut bytes = fs::read(&segment).unwrap();
    bytes[4096 + 32 + 6 + 20] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let (code, said) = run(&[dir]);
    assert_eq!(code, Some(1));
    let line = "altered: 00000000.segment, offset 4128, record 0: the record does not hold\n";
    assert!(said.starts_with(line), "{said}");

    for bad in [
        &[][..],
        &["--what"],
        &[dir, dir],
        &[dir, "--key"],
        &[dir, "--key", "x"],
    ] {
        let (code, said) = run(bad);
        assert_eq!(code, Some(2), "{bad:?}");
        assert!(said.starts_with("belljar-verify: "), "{said}");
    }
    assert_eq!(run(&["/nowhere"]).0, Some(2));
}
