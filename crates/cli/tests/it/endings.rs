//! However a run ends: signals to Belljar, limits, a terminal's keys, and many at once.

use std::fs;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Answer, Place, is_root, marked, marker, names, within};

/// Starts a script in the workspace and waits until it has begun.
fn begin(place: &Place, script: &str) -> Child {
    let child = place
        .command()
        .args(["run", "--json", "--workspace", "work", "--", "sh", "-c"])
        .arg(format!("echo up >&2; {script}"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.unwrap();
    let mut two = [0; 3];
    std::io::Read::read_exact(child.stderr.as_mut().unwrap(), &mut two).unwrap();
    child
}

fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

#[test]
fn a_signal_ends_the_run_and_keeps_what_it_did() {
    for (signal, name) in [
        (Signal::INT, "INT"),
        (Signal::TERM, "TERM"),
        (Signal::HUP, "HUP"),
    ] {
        // A busy machine may not give a shell the half second in which it may answer a signal.
        let heard = (0..5).any(|_| ends_and_keeps(signal, name));
        assert!(heard, "{name}");
    }
}

/// Whether the command heard the signal before it was ended; the rest holds in any case.
fn ends_and_keeps(signal: Signal, name: &str) -> bool {
    let place = Place::new();
    place.write("file", "old\n");
    let marker = marker();
    let script = format!(
        "trap 'echo heard {name} > heard; exit 0' {name}; setsid sleep 60 {marker} 2>/dev/null & \
         echo new > file; (sleep 60; true) & echo ready > ready; wait; wait; sleep 60"
    );
    let child = begin(&place, &script);
    std::thread::sleep(Duration::from_millis(300));
    send(&child, signal);
    let sent = Instant::now();
    let answer = Answer::from(child.wait_with_output().unwrap());
    // Long enough for a slow machine, far from the minute that the command would take.
    assert!(
        sent.elapsed() < Duration::from_secs(20),
        "{name}: {answer:?}"
    );
    let code = answer.code.unwrap();
    assert!(code > 128, "{name}: {answer:?}");
    assert!(
        within(Duration::from_secs(2), || marked(&marker).is_empty()),
        "{name}"
    );
    assert_eq!(place.read("file"), "old\n");
    let diff = place.call(["diff", "last"]).ok();
    place.call(["merge", "last"]).ok();
    assert_eq!(place.read("file"), "new\n");
    place.is_clean();
    diff.out.contains(&format!("heard {name}"))
}

#[test]
fn a_command_that_ignores_signals_is_ended_all_the_same() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let place = Place::new();
        let marker = marker();
        let script =
            format!("trap '' INT TERM HUP; touch made; sleep 60 {marker} || sleep 61 # {marker}");
        let child = begin(&place, &script);
        send(&child, signal);
        let answer = Answer::from(child.wait_with_output().unwrap());
        assert!(answer.code.unwrap() > 128, "{answer:?}");
        assert!(
            within(Duration::from_secs(2), || marked(&marker).is_empty()),
            "{signal:?}"
        );
        place.is_clean();
    }
}

/// The limits that were reached, and the exit code.
#[track_caller]
fn limited(limit: &str, script: &str) -> (i32, Vec<String>) {
    let place = Place::new();
    let answer = place.script(&["--limit", limit], script);
    let hits = answer.json()["limits_hit"].clone();
    let hits = hits.as_array().unwrap().iter();
    let hits = hits.map(|hit| hit.as_str().unwrap().to_owned()).collect();
    place.is_clean();
    (answer.code.unwrap(), hits)
}

#[test]
fn time_is_limited() {
    assert_eq!(
        limited("time=300ms", "sleep 60"),
        (124, vec!["time".to_owned()])
    );
    let script = "setsid sleep 60 & trap '' TERM; while :; do :; done";
    assert_eq!(
        limited("time=300ms", script),
        (124, vec!["time".to_owned()])
    );
}

#[test]
fn memory_is_limited() {
    let script = "exec python3 -c 'x = [bytearray(1 << 20) for i in range(4000)]'";
    let (code, hits) = limited("memory=64M", script);
    if is_root() {
        assert_eq!((code, hits), (124, vec!["memory".to_owned()]));
    } else {
        // Without control groups the allocation itself fails, in each process alone.
        assert_eq!((code, hits), (1, vec![]));
    }
}

#[test]
fn processes_are_limited() {
    let script = "i=0; while [ $i -lt 200 ]; do sleep 20 & i=$((i+1)); done 2>/dev/null; echo $i";
    let (code, hits) = limited("pids=32", script);
    assert_ne!(code, 125);
    if is_root() {
        assert_eq!(hits, ["pids"]);
    }
}

#[test]
fn disk_and_files_are_limited() {
    let (code, hits) = limited("disk=4M", "head -c 20000000 /dev/zero > big");
    assert_eq!((code, hits), (1, vec!["disk".to_owned()]));
    let script = "i=0; while [ $i -lt 2000 ]; do : > $i || exit 3; i=$((i+1)); done 2>/dev/null";
    let (code, hits) = limited("inodes=500", script);
    assert_ne!(code, 0);
    assert_eq!(hits, ["inodes"]);
    let script = "python3 -c 'x = [open(\"/dev/null\") for i in range(100)]' 2>/dev/null";
    assert_eq!(limited("files=32", script), (1, vec![]));
}

#[test]
fn output_is_limited() {
    let place = Place::new();
    let script = "head -c 300000 /dev/zero | tr '\\0' x; echo done > finished";
    let answer = place.script(&["--limit", "output=1000"], script).ok();
    assert_eq!(
        answer.out.lines().next().unwrap().len(),
        1000,
        "{}",
        answer.out.len()
    );
    assert_eq!(answer.json()["limits_hit"][0], "output");
    assert_eq!(answer.json()["files"]["added"], 1);
}

#[test]
fn cpu_is_limited_where_it_can_be() {
    let script = "timeout 0.4 sh -c 'while :; do :; done'; true";
    let (code, hits) = limited("cpu=0.2", script);
    assert_eq!(code, 0);
    assert_eq!(hits, if is_root() { vec!["cpu"] } else { vec![] });
}

#[test]
#[expect(clippy::too_many_lines, reason = "one story")]
fn many_runs_at_once() {
    let place = Place::new();
    place.write("shared", "old\n");
    place.shop(40);
    let before = place.outside();
    let children: Vec<Child> = (0..16)
        .map(|i| {
            let database = format!("shop={}", place.path("shop.db").display());
            let script = format!(
                "echo {i} > mine-{i}; echo {i} > shared; python3 -c '
import os, sqlite3
shop = sqlite3.connect(os.environ[\"SHOP_PATH\"])
shop.execute(\"UPDATE item SET stock = -{i} WHERE id = {i} + 1\")
shop.commit()'"
            );
            place
                .command()
                .args(["run", "--json", "--workspace", "work", "--db", &database])
                .args(["--", "sh", "-c", &script])
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let answers: Vec<Answer> = children
        .into_iter()
        .map(|child| Answer::from(child.wait_with_output().unwrap()).ok())
        .collect();
    assert_eq!(place.outside(), before);
    for answer in &answers {
        assert_eq!(answer.err, "", "{answer:?}");
        assert_eq!(answer.json()["files"]["added"], 1, "{answer:?}");
        assert_eq!(answer.json()["files"]["modified"], 1, "{answer:?}");
        assert_eq!(
            answer.json()["databases"]["shop"]["updated"],
            1,
            "{answer:?}"
        );
    }
    let runs: Vec<String> = answers.iter().map(Answer::run).collect();
    // All at once: one wins the shared file, and every other one names the conflict.
    let merges: Vec<(usize, Child)> = runs
        .iter()
        .enumerate()
        .map(|(i, run)| {
            let mut command = place.command();
            command
                .args(["merge", run])
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
            (i, command.spawn().unwrap())
        })
        .collect();
    let mut winners = Vec::new();
    for (i, child) in merges {
        let answer = Answer::from(child.wait_with_output().unwrap());
        match answer.code {
            Some(0) => winners.push(i),
            _ => {
                assert_eq!(answer.code, Some(125), "{answer:?}");
                assert!(answer.err.contains("nothing was changed"), "{answer:?}");
                assert!(answer.err.contains("shared"), "{answer:?}");
            }
        }
    }
    let [winner] = winners[..] else {
        panic!("not one winner: {winners:?}");
    };
    assert_eq!(place.read("shared"), format!("{winner}\n"));
    let made: Vec<String> = names(&place.work());
    assert_eq!(made, [format!("mine-{winner}"), "shared".to_owned()]);
    let changed = place
        .items()
        .iter()
        .filter(|row| row.contains("Integer(-") || row.contains("Integer(0)"))
        .count();
    assert_eq!(changed, 1);
    place.is_clean();
}

#[test]
fn one_run_is_merged_once_however_often_it_is_asked() {
    let place = Place::new();
    place.write("file", "old\n");
    let run = place.script(&[], "echo more >> file").ok().run();
    let merges: Vec<Child> = (0..8)
        .map(|_| {
            let mut command = place.command();
            command
                .args(["merge", &run])
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
            command.spawn().unwrap()
        })
        .collect();
    let answers: Vec<Answer> = merges
        .into_iter()
        .map(|child| Answer::from(child.wait_with_output().unwrap()))
        .collect();
    let merged = answers
        .iter()
        .filter(|answer| answer.code == Some(0))
        .count();
    assert_eq!(merged, 1, "{answers:?}");
    for answer in &answers {
        assert!(!answer.err.contains("interrupted"), "{answer:?}");
    }
    assert_eq!(place.read("file"), "old\nmore\n");
    place.is_clean();
}

/// Commands that clean up after others, while others start and end all the time.
#[test]
fn nobody_cleans_up_after_the_living() {
    let place = Place::new();
    std::thread::scope(|threads| {
        for _ in 0..3 {
            threads.spawn(|| {
                for _ in 0..25 {
                    let answer = place.call(["run", "--json", "--", "true"]).ok();
                    assert_eq!(answer.err, "");
                }
            });
        }
        threads.spawn(|| {
            for _ in 0..120 {
                let answer = place.call(["runs"]).ok();
                assert_eq!(answer.err, "");
            }
        });
    });
    let tail = place.call(["audit", "tail", "-n", "10000"]).ok();
    assert!(!tail.out.contains("recovered"), "{}", tail.out);
    place.is_clean();
}

/// What a person at a terminal sees; keys are typed into util-linux's `script`.
fn at_terminal(place: &Place, command: &str, keys: &'static [(u64, &[u8])]) -> String {
    let program = crate::support::program();
    let line = format!(
        "stty rows 33 cols 77; stty -g > before; '{}' {command}; echo code $?; stty -g > after; cmp before after && echo restored",
        program.display()
    );
    let mut child = place
        .around("/usr/bin/script".as_ref())
        .args(["-qec", &line, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let typist = std::thread::spawn(move || {
        for (millis, key) in keys {
            std::thread::sleep(Duration::from_millis(*millis));
            std::io::Write::write_all(&mut stdin, key).unwrap();
        }
        std::thread::sleep(Duration::from_millis(500));
        stdin
    });
    let output = child.wait_with_output().unwrap();
    drop(typist.join().unwrap());
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_terminal_is_a_terminal_inside() {
    let place = Place::new();
    let seen = at_terminal(
        &place,
        "run -- sh -c 'test -t 0 && test -t 1 && test -t 2 && echo all; tty; stty size'",
        &[],
    );
    for text in ["all\r\n", "/dev/pts/0", "33 77", "code 0", "restored"] {
        assert!(seen.contains(text), "{text}: {seen:?}");
    }
    let seen = at_terminal(
        &place,
        "run -- sh -c 'trap \"echo interrupted; exit 9\" INT; echo up; sleep 30 & wait; wait'",
        &[(1500, b"\x03")],
    );
    for text in ["up", "interrupted", "code 9", "restored"] {
        assert!(seen.contains(text), "{text}: {seen:?}");
    }
    let seen = at_terminal(
        &place,
        "run -- sh -c 'read x; echo got $x'",
        &[(1000, b"typed\r")],
    );
    for text in ["got typed", "code 0", "restored"] {
        assert!(seen.contains(text), "{text}: {seen:?}");
    }
    place.is_clean();
    assert!(fs::read_dir(place.work()).unwrap().next().is_none());
}
