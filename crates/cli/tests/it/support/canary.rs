//! Looks for a value that must be nowhere, in every file below a directory and in bytes that were
//! sent, however it is spelled.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use memchr::memmem;

/// The spellings of a value, each with a word for it.
fn spellings(value: &str) -> Vec<(&'static str, Vec<u8>)> {
    let bytes = value.as_bytes();
    let hexadecimal: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let every: String = bytes.iter().map(|byte| format!("%{byte:02x}")).collect();
    let reserved = |upper: bool| -> String {
        let one = |byte: &u8| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(*byte).to_string()
            }
            _ if upper => format!("%{byte:02X}"),
            _ => format!("%{byte:02x}"),
        };
        bytes.iter().map(one).collect()
    };
    let json = serde_json::to_string(value).unwrap();
    let wide: Vec<u8> = value.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut all = vec![
        ("plain", bytes.to_vec()),
        ("backwards", bytes.iter().rev().copied().collect()),
        ("hexadecimal", hexadecimal.to_uppercase().into_bytes()),
        ("hexadecimal", hexadecimal.into_bytes()),
        ("percent", every.to_uppercase().into_bytes()),
        ("percent", every.into_bytes()),
        ("percent", reserved(true).into_bytes()),
        ("percent", reserved(false).into_bytes()),
        ("JSON", json.trim_matches('"').as_bytes().to_vec()),
        ("UTF-16", wide),
    ];
    for before in 0..3 {
        let whole = [&vec![0; before][..], bytes].concat();
        // What the bytes around would change is left out.
        let core = (before * 8).div_ceil(6)..whole.len() * 8 / 6;
        for text in [
            STANDARD_NO_PAD.encode(&whole),
            URL_SAFE_NO_PAD.encode(&whole),
        ] {
            all.push(("base64", text.as_bytes()[core.clone()].to_vec()));
        }
    }
    all
}

/// How a value is spelled in some bytes, if it is there.
pub(crate) fn spelled_in(bytes: &[u8], value: &str) -> Option<&'static str> {
    spellings(value)
        .into_iter()
        .find(|(_, text)| memmem::find(bytes, text).is_some())
        .map(|(word, _)| word)
}

/// Every file below a directory that has a value in it, in its name, or in what it links to: each a
/// sentence. Files that cannot be read are looked over only where they are no regular files.
pub(crate) fn found_below(folder: &Path, value: &str) -> Vec<String> {
    let mut found = Vec::new();
    look(folder, value, &mut found);
    found
}

fn look(path: &Path, value: &str, found: &mut Vec<String>) {
    let mut note = |what: &str, bytes: &[u8]| {
        if let Some(word) = spelled_in(bytes, value) {
            found.push(format!("{}: {word} in its {what}", path.display()));
        }
    };
    note("name", path.file_name().unwrap_or_default().as_bytes());
    let data = fs::symlink_metadata(path).unwrap();
    if data.is_symlink() {
        note(
            "target",
            fs::read_link(path).unwrap().as_os_str().as_bytes(),
        );
    } else if data.is_file() {
        note("content", &fs::read(path).unwrap());
    } else if data.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            look(&entry.unwrap().path(), value, found);
        }
    }
}

#[test]
fn a_canary_is_found_in_every_spelling() {
    let value = "sk/live+\"canary\" 0123456789";
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("deep")).unwrap();
    for (number, (_, text)) in (0..).zip(spellings(value)) {
        let around = [b"before ", text.as_slice(), b" after"].concat();
        let file = folder.path().join(format!("deep/file-{number}"));
        fs::write(&file, &around).unwrap();
        assert_eq!(found_below(folder.path(), value).len(), 1, "{number}");
        fs::write(&file, &around[..around.len() - 9]).unwrap();
        assert_eq!(
            found_below(folder.path(), value),
            Vec::<String>::new(),
            "{number}"
        );
    }
    std::os::unix::fs::symlink(
        "sk%2Flive%2B%22canary%22%200123456789",
        folder.path().join("link"),
    )
    .unwrap();
    assert_eq!(found_below(folder.path(), value).len(), 1);
}
