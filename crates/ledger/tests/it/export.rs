//! What is exported satisfies a judge who knows nothing of this program, and our own verifier.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use belljar_ledger::merkle;
use belljar_ledger::verify::{Held, What, verify};

use crate::support::{Place, draft, fill};

/// What `judge.py` says of an export: its last line, and whether it agrees.
fn judge(dir: &Path) -> (bool, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/judge.py");
    let output = Command::new("python3").arg(script).arg(dir).output();
    let output = output.expect("this test needs `python3` on the path");
    let said = String::from_utf8(output.stdout).unwrap();
    (output.status.success(), said.trim_end().to_owned())
}

#[test]
fn an_independent_judge_agrees() {
    for size in [0, 1, 2, 255, 256, 257, 700] {
        let place = Place::new();
        let ledger = place.open();
        fill(&ledger, size);
        let to = place.state.path().join("export");
        assert_eq!(ledger.export(&to).unwrap(), size);
        let root = merkle::root(&ledger.leaves().unwrap());
        assert_eq!(judge(&to), (true, format!("{size} {root}")));
        let report = verify(&to, &Held::default()).unwrap();
        assert_eq!(report.findings, []);
        assert_eq!((report.records, report.root), (size, root));
        assert_eq!(
            ledger.checkpoint().unwrap(),
            fs::read_to_string(to.join("checkpoint")).unwrap()
        );
    }
}

#[test]
fn the_judge_reads_every_kind_of_text() {
    let place = Place::new();
    let ledger = place.open();
    for text in ["é \u{7f} \u{2028} \"quoted\" \\ \u{1} \n", "😀", ""] {
        ledger.append(&[draft(text)]).unwrap();
    }
    let to = place.state.path().join("export");
    ledger.export(&to).unwrap();
    assert!(judge(&to).0);
}

#[test]
fn an_export_grows() {
    let place = Place::with_segments(30_000);
    let ledger = place.open();
    let to = place.state.path().join("export");
    for _ in 0..3 {
        fill(&ledger, 200);
        ledger.export(&to).unwrap();
        assert!(judge(&to).0);
        assert_eq!(verify(&to, &Held::default()).unwrap().findings, []);
    }
}

#[test]
fn every_changed_file_of_an_export_is_found() {
    let place = Place::new();
    let ledger = place.open();
    fill(&ledger, 600);
    let to = place.state.path().join("export");
    ledger.export(&to).unwrap();
    let mut files = 0;
    for file in files_below(&to) {
        let name = file.strip_prefix(&to).unwrap().to_owned();
        let whole = fs::read(&file).unwrap();
        for at in [0, whole.len() / 2, whole.len() - 1] {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            fs::write(&file, &changed).unwrap();
            // A broken key file means that there is nothing to check with: that is an error.
            if let Ok(report) = verify(&to, &Held::default()) {
                let finding = report.findings.first().expect("found");
                let hashes = name.starts_with("tile/0") || name.starts_with("tile/entries");
                assert!(hashes || finding.file == name, "{name:?}: {finding}");
            }
            if name.starts_with("tile") || at == whole.len() / 2 && name.ends_with("checkpoint") {
                assert!(name.ends_with("checkpoint") || !judge(&to).0, "{name:?}");
            }
        }
        fs::remove_file(&file).unwrap();
        match verify(&to, &Held::default()) {
            Ok(report) => assert!(matches!(
                report.findings[0].what,
                What::Missing | What::Signature
            )),
            Err(error) => assert!(name.ends_with("key.pub"), "{name:?}: {error}"),
        }
        fs::write(&file, &whole).unwrap();
        files += 1;
    }
    // checkpoint, key, 3 bundles, 3 tiles of leaves, 1 above them.
    assert_eq!(files, 9);
    assert_eq!(verify(&to, &Held::default()).unwrap().findings, []);
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.append(&mut files_below(&path));
        } else {
            files.push(path);
        }
    }
    files
}
