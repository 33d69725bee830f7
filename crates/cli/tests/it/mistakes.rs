//! What is asked for wrongly: one sentence on standard error, the right exit code, and nothing
//! changed.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use expect_test::{Expect, expect};

use crate::support::{Answer, Place, is_root, names, program};

/// A place with something to lose.
fn stage() -> Place {
    let place = Place::new();
    place.write("file", "text\n");
    place.write("deep/file", "text\n");
    place.shop(5);
    place
}

/// What was said, with the place's own path left out; one sentence, and nothing changed.
#[track_caller]
fn refusal(place: &Place, answer: &Answer) -> String {
    let real = place.folder.path().canonicalize().unwrap();
    // An ordinary user is told beforehand that a limit is weaker here; the refusal is one line.
    let notice = |line: &&str| line.starts_with("belljar: without control groups");
    let lines: Vec<&str> = answer.err.lines().filter(|line| !notice(line)).collect();
    assert_eq!(lines.len(), 1, "{answer:?}");
    assert!(lines[0].starts_with("belljar: "), "{answer:?}");
    assert!(!lines[0].contains(char::is_control), "{answer:?}");
    assert_eq!(answer.out, "", "{answer:?}");
    let text = lines[0].replace(real.to_str().unwrap(), "DIR");
    let text = text.replace(place.folder.path().to_str().unwrap(), "DIR");
    format!("{}: {text}", answer.code.unwrap())
}

/// Refuses these arguments with this exit code and text.
#[track_caller]
fn check<S: AsRef<OsStr>>(place: &Place, arguments: &[S], expected: &Expect) {
    let before = place.outside();
    let arguments: Vec<&OsStr> = arguments.iter().map(AsRef::as_ref).collect();
    let answer = place.call(&arguments);
    let said = refusal(place, &answer);
    assert_eq!(place.outside(), before, "{arguments:?}");
    expected.assert_eq(&said);
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of texts")]
fn commands_and_flags() {
    let place = stage();
    let check = |arguments: &[&str], expected: Expect| check(&place, arguments, &expected);
    check(
        &[],
        expect!["125: belljar: there is no command (see `belljar --help`)"],
    );
    check(
        &["rnu"],
        expect![
            "125: belljar: unrecognized subcommand 'rnu'; tip: a similar subcommand exists: 'runs' (see `belljar --help`)"
        ],
    );
    check(
        &["run", "--workspaec", "work", "--", "true"],
        expect![
            "125: belljar: unexpected argument '--workspaec' found; tip: a similar argument exists: '--workspace'; tip: to pass '--workspaec' as a value, use '-- --workspaec' (see `belljar --help`)"
        ],
    );
    check(
        &["run"],
        expect!["125: belljar: there is no command to run; write it after `--`"],
    );
    check(
        &["run", "--"],
        expect!["125: belljar: there is no command to run; write it after `--`"],
    );
    check(
        &["run", "true"],
        expect!["125: belljar: unexpected argument 'true' found (see `belljar --help`)"],
    );
    check(
        &["run", "--", "no-such-program"],
        expect![
            "125: belljar: cannot execute `no-such-program` inside the sandbox: No such file or directory (os error 2)"
        ],
    );
    check(
        &["run", "--", "/etc"],
        expect![
            "125: belljar: cannot execute `/etc` inside the sandbox: Permission denied (os error 13)"
        ],
    );
    check(
        &["run", "--", ""],
        expect![
            "125: belljar: cannot execute `` inside the sandbox: Permission denied (os error 13)"
        ],
    );
    check(
        &["run", "--isolation", "cage", "--", "true"],
        expect![
            "125: belljar: invalid value 'cage' for '--isolation <CLASS>': `cage` is not an isolation class; the classes are isolate, jail, gvisor and microvm (see `belljar --help`)"
        ],
    );
    check(
        &["run", "--isolation", "microvm", "--", "true"],
        expect![
            "126: belljar: refused: this host cannot enforce the isolation class `microvm` (run.class-unavailable); ask for `jail`, or run `belljar doctor` for what is missing"
        ],
    );
    check(
        &["run", "--agent", "no spaces", "--", "true"],
        expect![
            "125: belljar: invalid value 'no spaces' for '--agent <NAME>': `no spaces` is not an agent name: 1 to 63 of a-z, 0-9 and `-`, first a letter (see `belljar --help`)"
        ],
    );
    check(
        &["run", "--env", "1A=2", "--", "true"],
        expect![
            "125: belljar: `1A` is not a variable name: letters, digits and `_`, first not a digit"
        ],
    );
    check(
        &["run", "--env", "MISSING", "--", "true"],
        expect!["125: belljar: the variable `MISSING` is not set; write --env MISSING=VALUE"],
    );
    check(
        &["audit", "tail", "-n", "-1"],
        expect!["125: belljar: unexpected argument '-1' found (see `belljar --help`)"],
    );
    check(
        &["audit", "verify", "--checkpoint", "missing"],
        expect![
            "125: belljar: cannot read the checkpoint `missing`: No such file or directory (os error 2)"
        ],
    );
    check(
        &["demo", "no-such-incident"],
        expect![
            "125: belljar: there is no incident `no-such-incident`; the incidents are home-directory, tracked-files, database-and-backups, code-freeze, self-root, config-rewrite, runaway, exfiltration, token-theft"
        ],
    );
}

#[test]
fn limits() {
    let place = stage();
    let check = |limit: &str, expected: Expect| {
        check(&place, &["run", "--limit", limit, "--", "true"], &expected);
    };
    check(
        "memory=lots",
        expect!["125: belljar: `lots` is not a size; write for example 512M or 4G"],
    );
    check(
        "memory=0",
        expect!["125: belljar: `0` is not a size; write for example 512M or 4G"],
    );
    check(
        "time=-1",
        expect!["125: belljar: `-1` is not a time; write for example 30s, 10m or 2h"],
    );
    check(
        "time=",
        expect!["125: belljar: `` is not a time; write for example 30s, 10m or 2h"],
    );
    check(
        "cpu=nan",
        expect!["125: belljar: `nan` is not a number of CPUs; write for example 1.5"],
    );
    check(
        "pids=0",
        expect!["125: belljar: `0` is not a count above zero"],
    );
    check(
        "pids=99999999999999999999",
        expect!["125: belljar: `99999999999999999999` is not a count above zero"],
    );
    check(
        "disk=16E",
        expect!["125: belljar: `16E` is not a size; write for example 512M or 4G"],
    );
    check(
        "speed=1",
        expect![
            "125: belljar: `speed` is not a limit; the limits are cpu, memory, pids, time, disk, inodes, output and files"
        ],
    );
    check(
        "memory",
        expect!["125: belljar: `memory` is not a limit; write NAME=VALUE, for example memory=2G"],
    );
    check(
        "",
        expect!["125: belljar: `` is not a limit; write NAME=VALUE, for example memory=2G"],
    );
    check(
        "memory=1",
        expect![
            "125: belljar: cannot start within the memory limit: Cannot allocate memory (os error 12)"
        ],
    );
    check(
        "pids=1",
        expect![
            "125: belljar: cannot fork `true` inside the sandbox: Resource temporarily unavailable (os error 11)"
        ],
    );
    check(
        "files=1",
        expect!["125: belljar: 1 open files are too few; the least is 16"],
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of texts")]
fn workspaces() {
    let place = stage();
    fs::create_dir_all(place.path("home/project")).unwrap();
    let state = place.path("state");
    place.call(["runs"]).ok();
    let check = |workspace: &Path, expected: Expect| {
        let workspace = workspace.as_os_str();
        let arguments = [
            "run".as_ref(),
            "--workspace".as_ref(),
            workspace,
            "--".as_ref(),
            "true".as_ref(),
        ];
        check(&place, &arguments, &expected);
    };
    check(
        "/".as_ref(),
        expect![
            "125: belljar: the workspace cannot be `/`, which holds the whole system; name a project directory"
        ],
    );
    check(
        "/usr".as_ref(),
        expect![
            "125: belljar: the workspace cannot be `/usr`, which belongs to the system; name a project directory"
        ],
    );
    check(
        "/etc/ssl".as_ref(),
        expect![
            "125: belljar: the workspace cannot be `/etc/ssl`, which belongs to the system; name a project directory"
        ],
    );
    check(
        "/proc/1".as_ref(),
        expect![
            "125: belljar: the workspace cannot be `/proc/1`, which belongs to the system; name a project directory"
        ],
    );
    check(
        "".as_ref(),
        expect![
            "125: belljar: a value is required for '--workspace <DIR>' but none was supplied (see `belljar --help`)"
        ],
    );
    check(
        "missing".as_ref(),
        expect![
            "125: belljar: the workspace `missing` does not exist; create it or name another directory"
        ],
    );
    check(
        "work/file".as_ref(),
        expect![
            "125: belljar: the workspace `work/file` is not a directory; name the directory it is in"
        ],
    );
    check(
        "work/file/below".as_ref(),
        expect![
            "125: belljar: the workspace `work/file/below` is not a directory; name the directory it is in"
        ],
    );
    check(
        &place.path("home"),
        expect![
            "125: belljar: the workspace cannot be `DIR/home`, which holds the keys in your home directory; name a project directory below it"
        ],
    );
    check(
        place.folder.path(),
        expect![
            "125: belljar: the workspace cannot be `DIR`, which holds the keys in your home directory; name a project directory below it"
        ],
    );
    check(
        "work/../home".as_ref(),
        expect![
            "125: belljar: the workspace cannot be `DIR/home`, which holds the keys in your home directory; name a project directory below it"
        ],
    );
    check(
        &state,
        expect![
            "125: belljar: cannot use `DIR/state`: Belljar keeps its state there; name another directory, or move the state with BELLJAR_STATE"
        ],
    );
    check(
        &state.join("runs"),
        expect![
            "125: belljar: cannot use `DIR/state/runs`: Belljar keeps its state there; name another directory, or move the state with BELLJAR_STATE"
        ],
    );
    std::os::unix::fs::symlink("/", place.path("root")).unwrap();
    check(
        &place.path("root"),
        expect![
            "125: belljar: the workspace cannot be `/`, which holds the whole system; name a project directory"
        ],
    );
    std::os::unix::fs::symlink("loop", place.path("loop")).unwrap();
    check(
        &place.path("loop"),
        expect![
            "125: belljar: could not open the workspace `DIR/loop`: Too many levels of symbolic links (os error 40)"
        ],
    );
}

#[test]
fn a_workspace_around_the_state() {
    let place = stage();
    fs::create_dir(place.path("outer")).unwrap();
    fs::write(place.path("outer/file"), "text").unwrap();
    let output = place
        .command()
        .env("BELLJAR_STATE", place.path("outer/state"))
        .args(["run", "--workspace", "outer", "--", "true"])
        .output()
        .unwrap();
    expect!["125: belljar: cannot use `DIR/outer`: Belljar keeps its state there; name another directory, or move the state with BELLJAR_STATE"].assert_eq(&refusal(&place, &output.into()));
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of texts")]
fn databases() {
    let place = stage();
    fs::write(
        place.path("text.db"),
        "this is not a database\n".repeat(100),
    )
    .unwrap();
    fs::write(place.path("empty.db"), "").unwrap();
    fs::create_dir(place.path("folder.db")).unwrap();
    rustix::fs::mkfifoat(
        rustix::fs::CWD,
        place.path("pipe.db"),
        rustix::fs::Mode::from_raw_mode(0o600),
    )
    .unwrap();
    let whole = fs::read(place.path("shop.db")).unwrap();
    fs::write(place.path("cut.db"), &whole[..whole.len() / 2]).unwrap();
    fs::write(place.path("header.db"), &whole[..50]).unwrap();
    let check = |databases: &[&str], expected: Expect| {
        let mut arguments = vec!["run"];
        for database in databases {
            arguments.extend(["--db", database]);
        }
        arguments.extend(["--", "true"]);
        check(&place, &arguments, &expected);
    };
    check(
        &["shop"],
        expect![
            "125: belljar: invalid value 'shop' for '--db <NAME=FILE>': write NAME=FILE, for example shop=./shop.db (see `belljar --help`)"
        ],
    );
    check(
        &["shop="],
        expect![
            "125: belljar: invalid value 'shop=' for '--db <NAME=FILE>': write NAME=FILE, for example shop=./shop.db (see `belljar --help`)"
        ],
    );
    check(
        &["=shop.db"],
        expect![
            "125: belljar: invalid value '=shop.db' for '--db <NAME=FILE>': `` is not a database name: 1 to 31 of a-z, 0-9 and `_`, first a letter (see `belljar --help`)"
        ],
    );
    check(
        &["Shop DB=shop.db"],
        expect![
            "125: belljar: invalid value 'Shop DB=shop.db' for '--db <NAME=FILE>': `Shop DB` is not a database name: 1 to 31 of a-z, 0-9 and `_`, first a letter (see `belljar --help`)"
        ],
    );
    check(
        &["../x=shop.db"],
        expect![
            "125: belljar: invalid value '../x=shop.db' for '--db <NAME=FILE>': `../x` is not a database name: 1 to 31 of a-z, 0-9 and `_`, first a letter (see `belljar --help`)"
        ],
    );
    check(
        &["shop=missing.db"],
        expect![
            "125: belljar: cannot branch the database `shop`: could not open the database `missing.db`: could not read it: No such file or directory (os error 2)"
        ],
    );
    check(
        &["shop=text.db"],
        expect![
            "125: belljar: cannot branch the database `shop`: could not open the database `text.db`: it is not a SQLite database: its first bytes are not `SQLite format 3` (encrypted, or another format)"
        ],
    );
    check(
        &["shop=folder.db"],
        expect![
            "125: belljar: cannot branch the database `shop`: could not open the database `folder.db`: it was replaced by a directory"
        ],
    );
    check(
        &["shop=pipe.db"],
        expect![
            "125: belljar: cannot branch the database `shop`: could not open the database `pipe.db`: it was replaced by a pipe"
        ],
    );
    check(
        &["shop=cut.db"],
        expect![
            "125: belljar: cannot branch the database `shop`: could not lock the database `DIR/cut.db`: database disk image is malformed: Error code 11: database disk image is malformed"
        ],
    );
    check(
        &["shop=header.db"],
        expect![
            "125: belljar: cannot branch the database `shop`: could not open the database `header.db`: it is not a SQLite database: it is shorter than a header"
        ],
    );
    check(
        &["shop=/dev/zero"],
        expect![
            "125: belljar: cannot branch the database `shop`: could not open the database `/dev/zero`: it was replaced by a device"
        ],
    );
    check(
        &["shop=shop.db", "shop=empty.db"],
        expect!["125: belljar: the database name `shop` is given twice"],
    );
    check(
        &["shop=shop.db", "store=shop.db"],
        expect![
            "125: belljar: cannot use `shop.db`: `shop` and `store` are the same database; name it once"
        ],
    );
    if !is_root() {
        fs::set_permissions(place.path("text.db"), fs::Permissions::from_mode(0o000)).unwrap();
        check(
            &["shop=text.db"],
            expect![
                "125: belljar: cannot branch the database `shop`: could not open the database `text.db`: could not read it: Permission denied (os error 13)"
            ],
        );
    }
}

#[test]
fn runs() {
    let place = stage();
    let check = |arguments: &[&str], expected: Expect| check(&place, arguments, &expected);
    check(
        &["diff", "last"],
        expect!["125: belljar: there is no run `last`; `belljar runs` lists them"],
    );
    check(
        &["merge", "run-06gzpn694jg5ssas"],
        expect!["125: belljar: there is no run `run-06gzpn694jg5ssas`; `belljar runs` lists them"],
    );
    check(
        &["revert", "../.."],
        expect![
            "125: belljar: invalid value '../..' for '<RUN>': there is no run `../..`; `belljar runs` lists them (see `belljar --help`)"
        ],
    );
    check(
        &["discard", "."],
        expect![
            "125: belljar: invalid value '.' for '<RUN>': there is no run `.`; `belljar runs` lists them (see `belljar --help`)"
        ],
    );
    check(
        &["diff", ""],
        expect![
            "125: belljar: invalid value '' for '<RUN>': there is no run ``; `belljar runs` lists them (see `belljar --help`)"
        ],
    );
    check(
        &["diff", "run-\u{1b}[31m"],
        expect![[
            r#"125: belljar: invalid value 'run-' for '<RUN>': there is no run `run-\u{1b}[31m`; `belljar runs` lists them (see `belljar --help`)"#
        ]],
    );
    check(
        &["audit", "show", "run-06gzpn694jg5ssas"],
        expect![
            "125: belljar: the ledger has no record of `run-06gzpn694jg5ssas`; `belljar runs` lists the runs"
        ],
    );
    check(
        &["audit", "show", "x/../y"],
        expect![
            "125: belljar: invalid value 'x/../y' for '<RUN>': there is no run `x/../y`; `belljar runs` lists them (see `belljar --help`)"
        ],
    );
    check(
        &["merge", &"a".repeat(10_000)],
        expect![
            "125: belljar: invalid value 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa (see `belljar --help`)"
        ],
    );
}

#[test]
fn a_run_name_of_nonsense_bytes() {
    let place = stage();
    let name = OsStr::from_bytes(b"\xff\xfe/\x01");
    check(
        &place,
        &[OsStr::new("diff"), name],
        &expect![
            "125: belljar: invalid UTF-8 was detected in one or more arguments (see `belljar --help`)"
        ],
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of texts")]
fn deeds_at_the_wrong_time() {
    let place = stage();
    let check = |arguments: &[&str], expected: Expect| {
        let before = place.outside();
        let answer = place.call(arguments);
        assert_eq!(place.outside(), before, "{arguments:?}");
        let run = arguments[1];
        expected.assert_eq(&refusal(&place, &answer).replace(run, "RUN"));
    };
    let run = place.both("echo 1 > file").ok().run();
    check(
        &["revert", &run],
        expect!["125: belljar: the run is sealed, and only a run that is merged can be reverted"],
    );
    place.call(["merge", &run]).ok();
    check(
        &["merge", &run],
        expect!["125: belljar: the run is merged, and only a run that is sealed can be merged"],
    );
    check(
        &["discard", &run],
        expect!["125: belljar: the run is merged, and only a run that is sealed can be discarded"],
    );
    place.call(["revert", &run]).ok();
    check(
        &["revert", &run],
        expect!["125: belljar: the run is reverted, and only a run that is merged can be reverted"],
    );
    check(
        &["merge", &run],
        expect!["125: belljar: the run is reverted, and only a run that is sealed can be merged"],
    );
    check(
        &["discard", &run],
        expect![
            "125: belljar: the run is reverted, and only a run that is sealed can be discarded"
        ],
    );
    let run = place.both("echo 2 > file").ok().run();
    place.call(["discard", &run]).ok();
    check(
        &["diff", &run],
        expect!["125: belljar: the changes of `RUN` were discarded; its records are in the ledger"],
    );
    check(
        &["merge", &run],
        expect!["125: belljar: the run is discarded, and only a run that is sealed can be merged"],
    );
    check(
        &["revert", &run],
        expect![
            "125: belljar: the run is discarded, and only a run that is merged can be reverted"
        ],
    );
    let run = place.both("true").ok().run();
    check(
        &["merge", &run],
        expect!["125: belljar: `RUN` changed nothing, so there is nothing to merge"],
    );
    check(
        &["revert", &run],
        expect!["125: belljar: the run is sealed, and only a run that is merged can be reverted"],
    );
    let run = place.both("echo 3 > file").ok().run();
    check(
        &["diff", &run, "/etc/passwd"],
        expect!["125: belljar: `/etc/passwd` is not a path inside the workspace"],
    );
    check(
        &["diff", &run, "../home"],
        expect!["125: belljar: `../home` is not a path inside the workspace"],
    );
    let answer = place
        .call(["run", "--workspace", "work", "--", "no-such-program"])
        .exits(125);
    assert!(answer.err.contains("no-such-program"), "{answer:?}");
    let failed = place.call(["runs", "--json"]).json()[0]["run"]
        .as_str()
        .unwrap()
        .to_owned();
    check(
        &["merge", &failed],
        expect!["125: belljar: `RUN` changed nothing, so there is nothing to merge"],
    );
    place.is_clean();
}

#[test]
fn a_run_that_is_under_way() {
    let place = stage();
    let mut child = place
        .command()
        .args([
            "run",
            "--workspace",
            "work",
            "--",
            "sh",
            "-c",
            "echo up > file; sleep 30",
        ])
        .spawn()
        .unwrap();
    let listed = || {
        let runs = place.call(["runs", "--json"]).ok().json();
        Some(runs[0]["run"].as_str()?.to_owned())
    };
    let mut run = None;
    assert!(crate::support::within(
        std::time::Duration::from_secs(20),
        || {
            run = listed();
            run.is_some()
        }
    ));
    let run = run.unwrap();
    for deed in ["diff", "merge", "revert", "discard"] {
        let said = refusal(&place, &place.call([deed, "last"]));
        assert_eq!(
            said,
            format!("125: belljar: `{run}` is still running"),
            "{deed}"
        );
    }
    assert_eq!(
        place.call(["runs", "--json"]).ok().json()[0]["changes"],
        "running"
    );
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    child.wait().unwrap();
}

#[test]
fn reads() {
    let place = stage();
    place.call(["runs"]).ok();
    let check = |path: &str, expected: Expect| {
        check(&place, &["run", "--read", path, "--", "true"], &expected);
    };
    check(
        "missing",
        expect!["125: belljar: cannot use `DIR/missing`: it does not exist"],
    );
    check(
        "state",
        expect!["125: belljar: cannot use `DIR/state`: Belljar keeps its state there"],
    );
    check(
        "state/ledger",
        expect!["125: belljar: cannot use `DIR/state/ledger`: Belljar keeps its state there"],
    );
    check(
        "/",
        expect!["125: belljar: cannot use `/`: Belljar keeps its state there"],
    );
    check(
        ".",
        expect!["125: belljar: cannot use `DIR`: Belljar keeps its state there"],
    );
    check(
        "",
        expect![
            "125: belljar: a value is required for '--read <PATH>' but none was supplied (see `belljar --help`)"
        ],
    );
}

#[test]
fn state_directories() {
    let place = stage();
    fs::write(place.path("plain"), "text").unwrap();
    let check = |state: &OsStr, arguments: &[&str], expected: Expect| {
        let before = place.outside();
        let mut command = place.command();
        command.env("BELLJAR_STATE", state).args(arguments);
        let said = refusal(&place, &command.output().unwrap().into());
        assert_eq!(place.outside(), before);
        expected.assert_eq(&said);
    };
    let run = ["run", "--workspace", "work", "--", "true"];
    let plain = place.path("plain");
    check(
        plain.as_ref(),
        &run,
        expect![
            "125: belljar: cannot use the state directory `DIR/plain`: Not a directory (os error 20)"
        ],
    );
    check(
        plain.as_ref(),
        &["runs"],
        expect![
            "125: belljar: cannot use the state directory `DIR/plain`: Not a directory (os error 20)"
        ],
    );
    check(
        plain.join("below").as_ref(),
        &run,
        expect![
            "125: belljar: cannot use the state directory `DIR/plain/below`: Not a directory (os error 20)"
        ],
    );
    check(
        "/proc/belljar".as_ref(),
        &run,
        expect![
            "125: belljar: cannot use the state directory `/proc/belljar`: No such file or directory (os error 2)"
        ],
    );
    check(
        "/dev/null".as_ref(),
        &["audit", "tail"],
        expect![
            "125: belljar: cannot use the state directory `/dev/null`: Not a directory (os error 20)"
        ],
    );
    if is_root() {
        fs::create_dir(place.path("foreign")).unwrap();
        std::os::unix::fs::chown(place.path("foreign"), Some(65_534), None).unwrap();
        let foreign = place.path("foreign");
        check(
            foreign.as_ref(),
            &run,
            expect![
                "126: belljar: the state directory `DIR/foreign` belongs to user 65534; set BELLJAR_STATE to one of your own"
            ],
        );
    } else {
        fs::create_dir(place.path("closed")).unwrap();
        fs::set_permissions(place.path("closed"), fs::Permissions::from_mode(0o500)).unwrap();
        let closed = place.path("closed");
        check(
            closed.as_ref(),
            &run,
            expect![
                "125: belljar: cannot use the state directory `DIR/closed`: Permission denied (os error 13)"
            ],
        );
    }
}

#[test]
fn a_ledger_that_takes_no_record() {
    let place = stage();
    let run = place.script(&[], "echo 1 > file").ok().run();
    fs::remove_dir_all(place.path("state/ledger")).unwrap();
    fs::write(place.path("state/ledger"), "").unwrap();
    let check = |arguments: &[&str], expected: Expect| check(&place, arguments, &expected);
    check(
        &["run", "--workspace", "work", "--", "touch", "ran"],
        expect![
            "125: belljar: cannot open the ledger: could not open the ledger `DIR/state/ledger`: File exists (os error 17)"
        ],
    );
    check(
        &["merge", &run],
        expect![
            "125: belljar: cannot open the ledger: could not open the ledger `DIR/state/ledger`: File exists (os error 17)"
        ],
    );
    check(
        &["audit", "verify"],
        expect!["125: belljar: could not read `DIR/state/ledger`: Not a directory (os error 20)"],
    );
    assert_eq!(names(&place.path("state/live")), Vec::<String>::new());
}

#[test]
fn control_characters_are_never_sent() {
    let place = stage();
    let evil = OsString::from("\u{1b}]0;owned\u{7}\u{9b}31m\n\u{202e}x");
    let evil = evil.as_os_str();
    let [run, workspace, dashes] = ["run", "--workspace", "--"].map(OsStr::new);
    let (db, read, limit) = (
        OsStr::new("--db"),
        OsStr::new("--read"),
        OsStr::new("--limit"),
    );
    let (agent, env) = (OsStr::new("--agent"), OsStr::new("--env"));
    let with = |before: &str| {
        let mut text = OsString::from(before);
        text.push(evil);
        text
    };
    let cases = [
        vec![run, workspace, evil, dashes, OsStr::new("true")],
        vec![run, dashes, evil],
        vec![run, read, evil, dashes, OsStr::new("true")],
        vec![run, limit, evil, dashes, OsStr::new("true")],
        vec![run, agent, evil, dashes, OsStr::new("true")],
        vec![run, env, evil, dashes, OsStr::new("true")],
        vec![OsStr::new("diff"), evil],
        vec![evil],
    ];
    for case in cases {
        refusal(&place, &place.call(&case).exits(125));
    }
    let database = with("shop=");
    refusal(
        &place,
        &place
            .call([run, db, &database, dashes, OsStr::new("true")])
            .exits(125),
    );
    // In everything that lists what was run, and where.
    place.call([run, dashes, OsStr::new("true"), evil]).ok();
    let name = place.work().join(evil);
    fs::write(&name, "1").unwrap();
    let script = "for f in *x; do echo 2 > \"$f\"; mv \"$f\" \"$f$f\"; done";
    place.script(&[], script).ok();
    for list in [
        &["runs"][..],
        &["audit", "tail"],
        &["diff", "last"],
        &["diff", "last", "--stat"],
    ] {
        let answer = place.call(list).ok();
        let raw = |c: char| (c.is_control() && c != '\n' && c != '\t') || c == '\u{202e}';
        assert!(!answer.out.contains(raw), "{list:?}: {answer:?}");
    }
}

/// What is done with little room for the state.
const CROWDED: &str = r#"
    "$0" run --workspace work -- sh -c 'echo small > small' || exit 98
    "$0" run --json --workspace work -- sh -c 'head -c 9000000 /dev/urandom > big; rm file'
    echo code $?
    ls state/live
    "$0" audit verify
    head -c 9000000 /dev/zero > state/filler
    "$0" run --workspace work -- touch ran
    echo code $?
    "$0" merge last
    echo code $?
    rm state/filler
    "$0" run --workspace work -- true
    echo code $?
    ls state/live
    "$0" audit verify
    echo code $?"#;

/// A state directory of four mebibytes: whatever fails for lack of room fails whole.
#[test]
fn a_full_disk() {
    let place = stage();
    fs::create_dir(place.path("state")).unwrap();
    let mount = "mount -t tmpfs -o size=4m,mode=700 tmpfs state || exit 99; ";
    let mut command = place.around("/usr/bin/unshare".as_ref());
    if is_root() {
        command.args(["--mount", "sh", "-c", &format!("{mount}{CROWDED}")]);
    } else {
        // Only who is root in a user namespace mounts; the program runs as an ordinary user again.
        let again = "exec unshare --user --map-user=1000 --map-group=1000 sh -c \"$1\" \"$0\"";
        let script = format!("{mount}{again}");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script]);
    }
    command.arg(program()).arg(CROWDED);
    let before = place.outside();
    let answer = Answer::from(command.output().unwrap());
    assert_eq!(place.outside(), before, "{answer:?}");
    let codes: Vec<&str> = answer
        .out
        .lines()
        .filter(|line| line.starts_with("code") || line.starts_with("run-"))
        .collect();
    let expected = ["code 125", "code 125", "code 125", "code 0", "code 0"];
    assert_eq!(codes, expected, "{answer:?}");
    for line in answer
        .err
        .lines()
        .filter(|line| !line.starts_with("head: "))
    {
        assert!(line.starts_with("belljar: "), "{answer:?}");
    }
    assert!(answer.err.contains("No space left on device"), "{answer:?}");
}
