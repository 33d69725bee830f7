//! Secrets on the command line: kept sealed, shown without their values, forgotten.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use expect_test::{Expect, expect};

use crate::support::canary::{found_below, spelled_in};
use crate::support::{Answer, Place};

const VALUE: &str = "sk-live/canary+0123456789";

/// Calls `belljar secret` with a value on standard input.
fn call(place: &Place, arguments: &[&str], value: &[u8]) -> Answer {
    let mut child = place
        .command()
        .arg("secret")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A call that is refused beforehand does not read it.
    child.stdin.take().unwrap().write_all(value).ok();
    child.wait_with_output().unwrap().into()
}

fn set(place: &Place, arguments: &[&str]) -> Answer {
    call(place, &[&["set"], arguments].concat(), VALUE.as_bytes())
}

/// What was said, in one line, with the place's own path left out.
#[track_caller]
fn refused(place: &Place, answer: &Answer, expected: &Expect) {
    assert_ne!(answer.code, Some(0), "{answer:?}");
    assert_eq!(
        (answer.out.as_str(), answer.err.lines().count()),
        ("", 1),
        "{answer:?}"
    );
    let real = place.folder.path().canonicalize().unwrap();
    let text = answer.err.trim_end().replace(real.to_str().unwrap(), "DIR");
    expected.assert_eq(&text.replace(place.folder.path().to_str().unwrap(), "DIR"));
}

#[test]
fn a_secret_is_kept_listed_and_forgotten() {
    let place = Place::new();
    let answer = set(&place, &["API_KEY", "--host", "*.example.com", "--json"]).ok();
    assert_eq!(answer.json()["variable"], "API_KEY");
    assert_eq!(answer.json()["replaced"], false);
    let answer = set(
        &place,
        &[
            "API_KEY",
            "--host",
            "api.example.com:8443",
            "--header",
            "X-Key",
            "--json",
        ],
    )
    .ok();
    assert_eq!(answer.json()["replaced"], true);
    set(
        &place,
        &["other", "--host", "example.com", "--from-file", "value"],
    )
    .ok();
    let listed = place.call(["secret", "list", "--json"]).ok();
    let all = listed.json();
    assert_eq!(all.as_array().unwrap().len(), 2);
    assert_eq!(all[0]["hosts"][0], "api.example.com:8443");
    assert_eq!(all[0]["places"][0]["header"]["name"], "x-key");
    assert!(
        all[1]["source"]["file"]
            .as_str()
            .unwrap()
            .ends_with("/value")
    );
    let shown = place.call(["secret", "list"]).ok();
    assert!(
        shown.out.contains("API_KEY") && shown.out.contains("in the header `x-key`"),
        "{shown:?}"
    );
    assert_eq!(
        place
            .call(["secret", "rm", "API_KEY", "--json"])
            .ok()
            .json()["removed"],
        true
    );
    place.call(["secret", "rm", "other"]).ok();
    let told = place.call(["audit", "tail"]).ok().out;
    for event in ["secret.kept", "secret.forgotten"] {
        assert!(told.contains(event), "{event}: {told}");
    }
    assert_eq!(spelled_in(told.as_bytes(), VALUE), None);
    assert_eq!(place.call(["secret", "list", "--json"]).ok().out, "[]\n");
    place.is_clean();
}

#[test]
fn a_value_is_nowhere() {
    let place = Place::new();
    let mut said = Vec::new();
    for arguments in [
        &["API_KEY", "--host", "api.example.com"][..],
        &["API_KEY", "--host", "*"],
        &[
            "API_KEY",
            "--host",
            "api.example.com",
            "--sigv4",
            "--region",
            "r",
            "--service",
            "s",
        ],
        &["API_KEY", "--host", "api.example.com", VALUE],
        &[&format!("API_KEY={VALUE}"), "--host", "api.example.com"],
    ] {
        let answer = set(&place, arguments);
        said.extend([answer.out, answer.err]);
    }
    for arguments in [&["list"][..], &["list", "--json"]] {
        let answer = call(&place, arguments, b"");
        said.extend([answer.out, answer.err]);
    }
    for text in said {
        assert_eq!(spelled_in(text.as_bytes(), VALUE), None, "{text}");
    }
    assert_eq!(
        found_below(place.folder.path(), VALUE),
        Vec::<String>::new()
    );
    place.is_clean();
}

#[test]
#[expect(
    clippy::too_many_lines,
    reason = "a list of mistakes and their answers"
)]
fn what_is_asked_for_wrongly_is_answered() {
    let place = Place::new();
    let check = |arguments: &[&str], value: &[u8], expected: &Expect| {
        let answer = call(&place, arguments, value);
        refused(&place, &answer, expected);
        assert!(!place.path("state/secrets").exists());
    };
    let host = ["set", "A", "--host", "example.com"];
    check(
        &["set", "A", "--host", "*"],
        b"",
        &expect![
            "belljar: invalid value '*' for '--host <HOST[:PORT]>': `*` is not a host for a secret: it would let everything through; name the hosts, for example `api.example.com` or `*.example.com` (see `belljar --help`)"
        ],
    );
    check(
        &["set", "A", "--host", "*.co.uk"],
        b"",
        &expect![
            "belljar: invalid value '*.co.uk' for '--host <HOST[:PORT]>': `*.co.uk` is not a host for a secret: anybody can have a name below `co.uk`; write `*.example.co.uk` (see `belljar --help`)"
        ],
    );
    check(
        &["set", "A", "--host", "http://example.com"],
        b"",
        &expect![
            "belljar: invalid value 'http://example.com' for '--host <HOST[:PORT]>': `http://example.com` is not a host for a secret: a secret travels in TLS only; write the host alone; it is reached by HTTPS (see `belljar --help`)"
        ],
    );
    check(
        &["set", "my key", "--host", "example.com"],
        b"",
        &expect![
            "belljar: `my key` is not a secret's name: 1 to 63 letters, digits, `_` and `-`, first a letter; write for example `my_key`"
        ],
    );
    check(
        &["set", "PATH", "--host", "example.com"],
        b"",
        &expect![
            "belljar: `PATH` is not a secret's name: its variable means something else to programs; write for example `MY_PATH`"
        ],
    );
    check(
        &[&host[..], &["secret-value"]].concat(),
        b"",
        &expect![
            "belljar: a value on the command line can be read by every process of this host; give it on standard input: `belljar secret set A … < FILE`"
        ],
    );
    check(
        &host,
        b"",
        &expect![
            "belljar: the value is empty; give it on standard input, or name a source with --from-file"
        ],
    );
    check(
        &host,
        b"two\nlines",
        &expect![
            "belljar: the value has more than one line; a secret is one line, without a line break"
        ],
    );
    check(
        &host,
        b"\x1b[31mred",
        &expect!["belljar: the value has a control byte (0x1b); a secret is printable text"],
    );
    check(
        &host,
        &[b'x'; 9000],
        &expect!["belljar: the value is longer than 8192 bytes, the most a secret can have"],
    );
    check(
        &[&host[..], &["--header", "Host"]].concat(),
        b"",
        &expect![
            "belljar: `Host` is not a header for a secret: it says how a message is framed; write for example `--header Authorization`"
        ],
    );
    check(
        &[&host[..], &["--header", "X", "--format", "x"]].concat(),
        b"",
        &expect![
            "belljar: `x` is not a format: `{}` stands once where the value goes; write for example `--format 'Bearer {}'`"
        ],
    );
    check(
        &[&host[..], &["--from-vault", "http://example.com/v1/a#b"]].concat(),
        b"",
        &expect![
            "belljar: `http://example.com/v1/a#b` is not a place in a vault: without TLS a vault must be on this host; write for example `https://example.com:8200/v1/secret/data/app#token`"
        ],
    );
    check(
        &["rm", "A"],
        b"",
        &expect![
            "belljar: there is no secret `A`; there are none yet; `belljar secret set` keeps one"
        ],
    );
    set(&place, &["GITHUB_TOKEN", "--host", "example.com"]).ok();
    let answer = call(&place, &["rm", "GITHUB_TOKN"], b"");
    refused(
        &place,
        &answer,
        &expect!["belljar: there is no secret `GITHUB_TOKN`; the nearest is `GITHUB_TOKEN`"],
    );
}

#[test]
fn what_was_changed_is_said() {
    let place = Place::new();
    set(&place, &["A_KEY", "--host", "example.com"]).ok();
    set(&place, &["B_KEY", "--host", "example.com"]).ok();
    let (a, b) = (
        place.path("state/secrets/A_KEY.secret"),
        place.path("state/secrets/B_KEY.secret"),
    );
    let whole = fs::read(&a).unwrap();
    fs::copy(&b, &a).unwrap();
    let listed = place.call(["secret", "list", "--json"]);
    assert_eq!(listed.json().as_array().unwrap().len(), 1);
    assert!(
        listed
            .err
            .contains("the file of the secret `A_KEY` was changed since it was sealed"),
        "{listed:?}"
    );
    fs::write(&a, whole).unwrap();
    let key = place.path("home/.config/belljar/secrets.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    refused(
        &place,
        &place.call(["secret", "list"]),
        &expect![
            "belljar: the key `DIR/home/.config/belljar/secrets.key` cannot be used: others can read or write it (mode 644); close it with `chmod 600`, and if others are not to be trusted set the secrets again with a new key"
        ],
    );
    fs::remove_file(&key).unwrap();
    refused(
        &place,
        &place.call(["secret", "list"]),
        &expect![
            "belljar: the key `DIR/home/.config/belljar/secrets.key` that secrets are sealed with is missing; put it back, or remove the secrets with `belljar secret rm` and set them again"
        ],
    );
    place.call(["secret", "rm", "A_KEY"]).ok();
}
