//! Each command does what it says, and says it in the words that scripts rely on.

use std::fs;
use std::io::{Read, Write};
use std::process::Stdio;

use serde_json::Value;

use crate::support::{Answer, Place, is_root};

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    keys.sort_unstable();
    keys
}

#[test]
fn a_run_changes_nothing_until_it_is_merged() {
    let place = Place::new();
    place.write("kept", "kept\n");
    place.write("changed", "old\n");
    place.write("removed", "gone\n");
    place.shop(3);
    let before = place.outside();
    let script = "echo new > added; echo new > changed; rm removed
        python3 -c '
import os, sqlite3
shop = sqlite3.connect(os.environ[\"SHOP_PATH\"])
shop.execute(\"UPDATE item SET stock = 0 WHERE id = 1\")
shop.execute(\"DELETE FROM item WHERE id = 2\")
shop.execute(\"INSERT INTO item VALUES (9, NULL, 9)\")
shop.execute(\"CREATE TABLE note(id INTEGER PRIMARY KEY, text TEXT)\")
shop.commit()'";
    let answer = place.both(script).ok();
    assert_eq!(place.outside(), before);
    let told = answer.json();
    let expected = [
        "databases",
        "duration_ms",
        "exit_code",
        "files",
        "held",
        "isolation",
        "ledger",
        "limits_hit",
        "network",
        "run",
    ];
    assert_eq!(keys(&told), expected);
    assert_eq!(
        told["files"].to_string(),
        r#"{"added":1,"deleted":1,"modified":1}"#
    );
    let rows = r#"{"shop":{"deleted":1,"inserted":1,"schema":1,"updated":1}}"#;
    assert_eq!(told["databases"].to_string(), rows);
    assert_eq!(keys(&told["ledger"]), ["first", "last"]);
    assert_eq!(keys(&told["network"]), ["allowed", "denied"]);
    assert_eq!(told["isolation"], "jail");

    let run = answer.run();
    let diff = place.call(["diff", &run]).ok().out;
    for line in ["-old", "+new", "added", "removed", "shop"] {
        assert!(diff.contains(line), "{line}: {diff}");
    }
    assert_eq!(place.outside(), before);
    place.call(["merge", &run]).ok();
    assert_eq!(place.read("added"), "new\n");
    assert_eq!(place.read("changed"), "new\n");
    assert_eq!(place.read("kept"), "kept\n");
    assert!(!place.work().join("removed").exists());
    assert!(
        place
            .items()
            .iter()
            .any(|row| row.contains("Integer(9), Null, Integer(9)"))
    );
    place.call(["revert", &run]).ok();
    assert_eq!(place.outside(), before);
    place.is_clean();
}

#[test]
fn the_same_as_json() {
    let place = Place::new();
    place.write("a", "1\n");
    place.shop(2);
    let run = place.both("echo 2 > a").ok().run();
    let diff = place.call(["diff", "--json", &run]).ok().json();
    assert_eq!(
        keys(&diff),
        ["changes", "databases", "digest", "files", "run", "state"]
    );
    assert_eq!(diff["state"], "sealed");
    let merged = place.call(["merge", "--json", &run]).ok().json();
    assert_eq!(
        keys(&merged),
        ["conflicts", "databases", "files", "notes", "run", "state"]
    );
    assert_eq!(merged["state"], "merged");
    let again = place.call(["merge", "--json", &run]).exits(125);
    assert_eq!(keys(&again.json()), ["conflicts", "error", "message"]);
    assert_eq!(again.json()["error"], "conflict");
    assert_eq!(
        place.call(["revert", "--json", &run]).ok().json()["state"],
        "reverted"
    );
    let runs = place.call(["runs", "--json"]).ok().json();
    let expected = [
        "agent",
        "asked",
        "changes",
        "command",
        "exit_code",
        "isolation",
        "limits_hit",
        "run",
        "workspace",
    ];
    assert_eq!(keys(&runs[0]), expected);
    assert_eq!(runs[0]["changes"], "reverted");
    let run = place.both("echo 3 > a").ok().run();
    assert_eq!(
        place.call(["discard", "--json", &run]).ok().json()["state"],
        "discarded"
    );
    let verified = place.call(["audit", "verify", "--json"]).ok().json();
    assert_eq!(keys(&verified), ["findings", "key", "records", "root"]);
    let doctor = place.call(["doctor", "--json"]).ok().json();
    assert_eq!(keys(&doctor), ["findings", "jail", "network", "proof"]);
    assert_eq!(doctor["network"], "gated");
    assert_eq!(doctor["jail"], true);
}

#[test]
fn the_summary_has_the_last_line_for_itself() {
    let place = Place::new();
    let answer = place.script(&[], "printf 'no end of line'").ok();
    assert!(answer.out.starts_with("no end of line\n"), "{answer:?}");
    let answer = place.script(&[], "true").ok();
    assert!(answer.out.starts_with('{'), "{answer:?}");
}

#[test]
fn a_failure_is_json_too_when_json_is_asked_for() {
    let place = Place::new();
    let missing = ["run", "--json", "--workspace", "missing", "--", "true"];
    let answer = place.call(missing).exits(125);
    assert_eq!(answer.json()["error"], "not_found");
    let answer = place.call(["diff", "--json", "run-zzz"]).exits(125);
    assert_eq!(answer.json()["error"], "not_found");
    let answer = place.call(["run", "--json", "--isolation", "microvm", "--", "true"]);
    assert_eq!(answer.exits(126).json()["error"], "denied");
}

#[test]
fn exit_codes_are_the_commands_own() {
    let place = Place::new();
    let code = |options: &[&str], script: &str| place.script(options, script).code.unwrap();
    assert_eq!(code(&[], "exit 0"), 0);
    assert_eq!(code(&[], "exit 7"), 7);
    assert_eq!(code(&[], "exit 255"), 255);
    assert_eq!(code(&[], "kill -TERM $$"), 128 + 15);
    assert_eq!(code(&[], "kill -KILL $$"), 128 + 9);
    assert_eq!(code(&[], "kill -ABRT $$"), 128 + 6);
    assert_eq!(code(&["--limit", "time=300ms"], "sleep 20"), 124);
    assert_eq!(
        code(
            &["--limit", "time=300ms"],
            "trap '' TERM; sleep 20 & wait; sleep 20"
        ),
        124
    );
    assert_eq!(code(&["--isolation", "microvm"], "true"), 126);
    assert_eq!(code(&["--isolation", "jail"], "true"), 0);
    let answer = place.call(["run", "--", "no-such-program"]).exits(125);
    let text = "belljar: cannot execute `no-such-program` inside the sandbox: No such file or \
                directory (os error 2)\n";
    assert_eq!(answer.err, text);
}

#[test]
fn runs_are_named_by_last_by_id_and_by_its_beginning() {
    let place = Place::new();
    let first = place.script(&[], "echo 1 > a").ok().run();
    let second = place.script(&[], "echo 2 > b").ok().run();
    for name in [
        "last",
        &second,
        second.strip_prefix("run-").unwrap(),
        &second.to_uppercase(),
    ] {
        let told = place.call(["diff", "--json", name]).ok().json();
        assert_eq!(told["run"], second.as_str(), "{name}");
    }
    let shared = first
        .bytes()
        .zip(second.bytes())
        .take_while(|(a, b)| a == b)
        .count();
    let told = place
        .call(["diff", "--json", first.get(..=shared).unwrap()])
        .ok()
        .json();
    assert_eq!(told["run"], first.as_str());
    let answer = place
        .call(["diff", first.get(..shared).unwrap()])
        .exits(125);
    assert!(
        answer.err.contains("is the beginning of 2 runs"),
        "{answer:?}"
    );
}

#[test]
fn streams_are_relayed_and_kept_apart() {
    let place = Place::new();
    let mut child = place
        .command()
        .args(["run", "--", "sh", "-c", "cat; echo error >&2"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let text = "a line\n".repeat(100_000);
    let writer = std::thread::spawn(move || {
        stdin.write_all(text.as_bytes()).unwrap();
        text
    });
    let output = child.wait_with_output().unwrap();
    let text = writer.join().unwrap();
    assert!(output.status.success());
    assert_eq!(output.stdout.len(), text.len());
    assert_eq!(output.stdout, text.as_bytes());
    assert_eq!(output.stderr, b"error\n");
}

#[test]
fn a_reader_who_goes_away_ends_nothing() {
    let place = Place::new();
    let script = "head -c 3000000 /dev/zero | tr '\\0' x; echo done > finished";
    let mut child = place
        .command()
        .args(["run", "--workspace", "work", "--", "sh", "-c", script])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut some = [0; 1000];
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut some).unwrap();
    drop(stdout);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let told = place.call(["diff", "--json", "last"]).ok().json();
    assert_eq!(told["files"]["added"], 1);
    place.is_clean();
}

#[test]
fn the_environment_is_clean() {
    let place = Place::new();
    let output = place
        .command()
        .env("API_TOKEN", "secret")
        .env("PASSED", "on purpose")
        .env("LD_PRELOAD", "")
        .args([
            "run",
            "--env",
            "PASSED",
            "--env",
            "SET=a=b c",
            "--env",
            "EMPTY=",
            "--",
            "env",
        ])
        .output()
        .unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    let mut lines: Vec<&str> = out.lines().collect();
    lines.sort_unstable();
    let names: Vec<&str> = lines
        .iter()
        .map(|line| line.split('=').next().unwrap())
        .collect();
    let expected = [
        "BELLJAR_RUN",
        "EMPTY",
        "HOME",
        "LANG",
        "LOGNAME",
        "PASSED",
        "PATH",
        "SET",
        "SHELL",
        "USER",
    ];
    assert_eq!(names, expected, "{out}");
    assert!(
        lines.contains(&"PASSED=on purpose") && lines.contains(&"SET=a=b c"),
        "{out}"
    );
    let answer = place
        .call(["run", "--env", "NOT_SET", "--", "true"])
        .exits(125);
    let text = "belljar: the variable `NOT_SET` is not set; write --env NOT_SET=VALUE\n";
    assert_eq!(answer.err, text);
}

#[test]
fn the_command_starts_where_the_caller_is() {
    let place = Place::new();
    place.write("deep/er/file", "");
    let at = |directory: &str| {
        let output = place
            .command()
            .current_dir(place.path(directory))
            .args(["run", "--workspace"])
            .arg(place.work())
            .args(["--", "pwd"])
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let work = place.work().canonicalize().unwrap();
    assert_eq!(
        at("work/deep/er"),
        work.join("deep/er").display().to_string()
    );
    assert_eq!(at("work"), work.display().to_string());
    assert_eq!(at("home"), work.display().to_string());
}

#[test]
fn the_home_is_empty_and_the_system_is_a_copy() {
    let place = Place::new();
    fs::write(place.path("home/.netrc"), "secret").unwrap();
    let script = "cd && test -z \"$(ls -A)\" && touch mine && touch /usr/lib/new && \
        mkdir -p /usr/lib/python3/dist-packages && \
        echo 'x = 42' > /usr/lib/python3/dist-packages/belljar_probe.py && \
        python3 -c 'import belljar_probe; print(belljar_probe.x)'";
    let answer = place.script(&[], script).ok();
    assert!(answer.out.starts_with("42\n"), "{answer:?}");
    for path in [
        "/usr/lib/new",
        "/usr/lib/python3/dist-packages/belljar_probe.py",
    ] {
        assert!(!std::path::Path::new(path).exists(), "{path}");
    }
    assert!(!place.path("home/mine").exists());
    assert_eq!(answer.json()["files"]["added"], 0);
}

#[test]
fn more_can_be_read_when_it_is_asked_for() {
    let place = Place::new();
    fs::create_dir(place.path("notes")).unwrap();
    fs::write(place.path("notes/a"), "a note\n").unwrap();
    fs::write(place.path("other"), "other\n").unwrap();
    let (notes, other) = (place.path("notes"), place.path("other"));
    let (notes, other) = (notes.to_str().unwrap(), other.to_str().unwrap());
    let script = format!("cat {notes}/a; echo x > {notes}/a; echo x > {notes}/b; cat {other}");
    let answer = place.script(&["--read", "notes"], &script).exits(1);
    assert!(answer.out.starts_with("a note\n"), "{answer:?}");
    assert_eq!(
        fs::read_to_string(place.path("notes/a")).unwrap(),
        "a note\n"
    );
    assert!(!place.path("notes/b").exists());
    let answer = place
        .script(&["--read", other], &format!("cat {other}"))
        .ok();
    assert!(answer.out.starts_with("other\n"), "{answer:?}");
}

#[test]
fn databases_are_named_by_variables() {
    let place = Place::new();
    place.shop(1);
    let answer = place.both("echo $SHOP_URL $SHOP_PATH").ok();
    let line = answer.out.lines().next().unwrap();
    let (url, path) = line.split_once(' ').unwrap();
    assert_eq!(url, format!("sqlite:///{path}"));
    assert!(path.starts_with('/'), "{line}");
}

#[test]
fn how_a_database_was_branched_is_told() {
    let place = Place::new();
    place.shop(1);
    let database = format!("shop={}", place.path("shop.db").display());
    let answer = place.call(["run", "--db", &database, "--", "true"]).ok();
    let told = [
        "`shop` was branched by a reflink",
        "`shop` was branched by a copy",
    ];
    assert!(
        told.iter().any(|text| answer.err.contains(text)),
        "{answer:?}"
    );
}

#[test]
fn the_ledger_tells_the_story_of_a_run() {
    let place = Place::new();
    let run = place.script(&[], "echo 1 > a").ok().run();
    place.call(["merge", &run]).ok();
    place.call(["revert", &run]).ok();
    let answer = place.call(["audit", "show", &run, "--json"]).ok();
    let events: Vec<String> = answer
        .out
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["event"].to_string())
        .collect();
    let expected = expect_test::expect![[r#"
        "run.asked"
        "decision"
        "run.started"
        "command.started"
        "command.ended"
        "change.sealed"
        "run.ended"
        "decision"
        "merge.started"
        "merge.finished"
        "revert.started"
        "revert.finished""#]];
    expected.assert_eq(&events.join("\n"));
    let tail = place.call(["audit", "tail", "-n", "3"]).ok();
    assert_eq!(tail.out.lines().count(), 3, "{tail:?}");
    let copy = place.path("export");
    place
        .call(["audit".as_ref(), "export".as_ref(), copy.as_os_str()])
        .ok();
    assert!(copy.join("checkpoint").exists());
}

#[test]
fn doctor_says_what_holds() {
    let place = Place::new();
    let answer = place.call(["doctor"]).ok();
    assert!(
        answer
            .out
            .contains("every probe from inside that must fail has failed"),
        "{answer:?}"
    );
    let limiter = answer.out.contains("weaker");
    // Without control groups, memory and CPU are held less well, and doctor says so.
    assert!(limiter || is_root(), "{answer:?}");
}

#[test]
fn a_run_without_changes_leaves_nothing_to_merge() {
    let place = Place::new();
    place.write("a", "1");
    place.shop(1);
    let run = place.both("touch -r a b; rm b").ok().run();
    let answer = place.call(["merge", &run]).exits(125);
    let text = format!("belljar: `{run}` changed nothing, so there is nothing to merge\n");
    assert_eq!(answer.err, text);
    let mut left = crate::support::names(&place.path(&format!("state/runs/{run}")));
    left.retain(|name| name != "lock");
    assert_eq!(left, ["run.json"]);
}

/// Signals that our own caller ignores are not ignored inside.
#[test]
fn signals_inside_are_as_a_program_expects_them() {
    let place = Place::new();
    let script = format!(
        "trap '' HUP INT TERM PIPE USR1; exec '{}' run -- grep SigIgn /proc/self/status",
        crate::support::program().display()
    );
    let mut shell = place.around(std::path::Path::new("/bin/sh"));
    let answer = Answer::from(shell.args(["-c", &script]).output().unwrap()).ok();
    let ignored = answer.out.trim().strip_prefix("SigIgn:\t").unwrap();
    // Two numbers belong to the C library, which lets nobody touch them.
    let ignored = u64::from_str_radix(ignored, 16).unwrap() & !(3 << 31);
    assert_eq!(ignored, 0, "{answer:?}");
}
