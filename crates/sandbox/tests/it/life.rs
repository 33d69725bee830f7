//! The life of a sandbox: how it starts, how it fails to, what it carries, how it ends.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use belljar_base::HasKind;
use belljar_base::frame::End;
use belljar_sandbox::{Attendance, Cause, LimitHit, Stream, attend};

use crate::support::{TEMPLATES, assert_gone, fresh_id, has_groups, jar, outcome, shared};

#[test]
fn many_start_at_once() {
    let shared = shared();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|thread| {
                let start = move || {
                    for round in 0..8 {
                        let word = format!("{thread}-{round}");
                        let outcome = jar().run(&["/bin/echo", &word]);
                        outcome.says(&word);
                    }
                };
                scope.spawn(start)
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
    });
    drop(shared);
}

/// What the template already shows can be asked for by name as well, by any user.
#[test]
fn a_path_below_the_template_is_shown_again() {
    let script = "touch /usr/local/lib/new /usr/lib/new && test -x /usr/bin/env && echo both";
    jar()
        .read(Path::new("/usr/bin/env"))
        .sh(script)
        .says("both");
}

/// Why a start fails, and that the host is as before.
#[track_caller]
fn refused(jar: &crate::support::Jar, wanted: &str) {
    let name = format!("belljar-{}", jar.spec.id);
    let error = jar.start().err().unwrap();
    let source = std::error::Error::source(&error).map(ToString::to_string);
    let text = [Some(error.to_string()), source].into_iter().flatten();
    let text = text.collect::<Vec<_>>().join(": ");
    assert!(text.contains(wanted), "{text} ({:?})", error.kind());
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&name), "{mounts}");
    assert_eq!(groups_named(&name), 0, "{name}");
}

fn groups_named(name: &str) -> usize {
    fn count(folder: &Path, name: &str, depth: u32) -> usize {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        folders
            .map(|entry| {
                let here = usize::from(entry.file_name().to_string_lossy() == name);
                let below = if depth > 0 {
                    count(&entry.path(), name, depth - 1)
                } else {
                    0
                };
                here + below
            })
            .sum()
    }
    count(Path::new("/sys/fs/cgroup"), name, 5)
}

#[test]
fn a_failing_start_is_clear_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    let mut one = jar();
    one.spec.branches.push(belljar_sandbox::Branch {
        directory: missing.clone(),
    });
    refused(&one, "missing` inside");
    let mut one = jar();
    one.spec.reads.push(missing);
    refused(&one, "missing` inside");
    // The host's own tree has mounts below it; a branch would hide them.
    let mut one = jar();
    one.spec.branches.push(belljar_sandbox::Branch {
        directory: "/dev".into(),
    });
    refused(&one, "/dev` inside");
    let mut one = jar();
    one.spec.reads = vec!["/usr".into(); 200];
    refused(&one, "at most 128 paths");
    if has_groups(&shared()) {
        refused(
            &jar().limit(|limits| limits.memory_bytes = 4096),
            "start within the memory limit",
        );
    }
    // A sandbox of one process has its guest, and no command.
    let outcome = jar()
        .limit(|limits| limits.pids = 1)
        .run(&["/bin/echo", "x"]);
    let (step, error) = outcome.ended.not_started.unwrap();
    assert_eq!(
        (step.as_str(), error.raw_os_error()),
        ("fork", Some(again()))
    );
}

fn again() -> i32 {
    rustix::io::Errno::AGAIN.raw_os_error()
}

#[test]
fn a_command_that_cannot_start_says_why() {
    for (program, step, wanted) in [
        ("/no/such", "execute", rustix::io::Errno::NOENT),
        ("no-such-program", "execute", rustix::io::Errno::NOENT),
        ("/etc/passwd", "execute", rustix::io::Errno::ACCESS),
    ] {
        let outcome = jar().run(&[program]);
        assert_eq!(outcome.ended.cause, Cause::NotStarted);
        let (at, error) = outcome.ended.not_started.unwrap();
        assert_eq!(
            (at.as_str(), error.raw_os_error()),
            (step, Some(wanted.raw_os_error()))
        );
    }
    let mut jar = jar();
    jar.directory = "/no/such".into();
    let outcome = jar.run(&["/bin/true"]);
    assert_eq!(outcome.ended.not_started.unwrap().0, "enter the directory");
}

#[test]
fn exit_codes_and_signals_come_through() {
    jar().sh("exit 7").code(7);
    let outcome = jar().sh("kill -SEGV $$");
    assert_eq!(outcome.ended.cause, Cause::Exited(End::Signal(11)));
}

#[test]
fn input_and_large_output_come_through_in_order() {
    let (input, mut ours) = std::io::pipe().unwrap();
    let writer = std::thread::spawn(move || {
        let mut sum = 0_usize;
        for block in 0..4096_usize {
            let line = format!("{block:0>1023}\n");
            sum += line.len();
            ours.write_all(line.as_bytes()).unwrap();
        }
        sum
    });
    let mut jar = jar().limit(|limits| limits.output_bytes = 16 << 20);
    jar.stdin = Some(input.into());
    let outcome = jar.sh("cat; echo end; cat /etc/hostname >&2");
    let sum = writer.join().unwrap();
    assert_eq!(outcome.out.len(), sum + 4);
    let numbers = outcome
        .out
        .lines()
        .take(4096)
        .map(|line| line.parse::<usize>().unwrap());
    assert!(numbers.eq(0..4096));
    assert_eq!(
        (outcome.err.as_str(), outcome.out.ends_with("end\n")),
        ("belljar\n", true)
    );
    // No input is an empty input.
    let outcome = crate::support::jar().sh("cat; echo end");
    outcome.says("end");
}

#[test]
fn streams_can_be_opened_by_name() {
    let (input, mut ours) = std::io::pipe().unwrap();
    ours.write_all(b"in\n").unwrap();
    drop(ours);
    let mut jar = jar();
    jar.stdin = Some(input.into());
    let outcome = jar.sh("cat < /dev/stdin; echo out > /dev/stdout; echo err > /dev/stderr");
    outcome.says("in\nout");
    assert_eq!(outcome.err, "err\n");
}

/// Both streams into one pipe that is read slowly, or not at all.
fn into_pipe(
    script: &str,
    wall: Duration,
    read: impl FnOnce(std::io::PipeReader) -> usize + Send + 'static,
) -> (belljar_sandbox::Ended, usize) {
    let jar = jar().limit(|limits| {
        limits.wall = wall;
        limits.output_bytes = 64 << 20;
    });
    let (reader, writer) = std::io::pipe().unwrap();
    let reading = std::thread::spawn(move || read(reader));
    let mut sandbox = jar.start().unwrap();
    let attendance = Attendance {
        stdin: None,
        stdout: Stream::To(writer.try_clone().unwrap().into()),
        stderr: Stream::To(writer.into()),
        signals: None,
    };
    let command = jar.command(&["/bin/sh", "-c", script]);
    let ended = attend(&mut *sandbox, &command, &jar.spec.limits, attendance).unwrap();
    (ended, reading.join().unwrap())
}

#[test]
fn a_slow_reader_gets_everything() {
    let script = "head -c 3000000 /dev/zero & head -c 2000000 /dev/zero >&2; wait";
    let (ended, count) = into_pipe(script, Duration::from_secs(60), |mut reader| {
        let mut buffer = vec![0; 50_000];
        let mut sum = 0;
        loop {
            std::thread::sleep(Duration::from_millis(5));
            match reader.read(&mut buffer).unwrap() {
                0 => return sum,
                count => sum += count,
            }
        }
    });
    assert_eq!((ended.written, count), ([3_000_000, 2_000_000], 5_000_000));
}

#[test]
fn a_reader_who_leaves_or_stops_reading_keeps_no_run_alive() {
    let script = "yes & yes >&2";
    // Holds the reading end open until the run is over by itself, and reads nothing.
    let (ended, _) = into_pipe(script, Duration::from_secs(1), |reader| {
        std::thread::sleep(Duration::from_secs(4));
        drop(reader);
        0
    });
    assert_eq!(ended.cause, Cause::TimeOver);
    assert!(ended.duration < Duration::from_secs(4), "{ended:?}");
    let (ended, _) = into_pipe("seq 1 1000000; exit 5", Duration::from_secs(30), |reader| {
        drop(reader);
        0
    });
    assert_eq!(ended.cause, Cause::Exited(End::Code(5)));
    assert_eq!(ended.written[0], 6_888_896);
}

#[test]
fn a_terminal_is_a_terminal() {
    let mut jar = jar();
    jar.terminal = Some((31, 97));
    let (input, mut ours) = std::io::pipe().unwrap();
    ours.write_all(b"typed\n").unwrap();
    jar.stdin = Some(input.into());
    let outcome = jar.sh("stty size; test -t 0 && test -t 1 && test -t 2 && echo terminal; read line; echo \"<$line>\"; exit 4");
    outcome.code(4);
    for wanted in ["31 97", "terminal", "<typed>"] {
        assert!(outcome.out.contains(wanted), "{outcome:?}");
    }
}

#[test]
fn wall_time_asks_before_it_kills() {
    let script = "trap 'echo asked; exit 0' TERM; while :; do sleep 0.05; done";
    let outcome = jar()
        .limit(|limits| limits.wall = Duration::from_millis(500))
        .sh(script);
    outcome.says("asked");
    assert_eq!(outcome.ended.cause, Cause::TimeOver);
    outcome.hit(LimitHit::Time);
}

/// Runs a script on a file that can be written; whether its name still leads to it, and what was
/// made beside it.
fn written(work: &Path, in_place: bool, script: &str) -> (bool, Vec<String>) {
    let jar = jar().write(work, "/srv/data", in_place);
    let mut sandbox = jar.start().unwrap();
    let attendance = Attendance {
        stdin: None,
        stdout: Stream::Keep,
        stderr: Stream::Keep,
        signals: None,
    };
    let command = jar.command(&["/bin/sh", "-c", script]);
    let ended = attend(&mut *sandbox, &command, &jar.spec.limits, attendance).unwrap();
    outcome(ended).code(0);
    let left = sandbox.left(0).unwrap();
    assert!(sandbox.left(1).is_err());
    let mut names: Vec<_> = rustix::fs::Dir::read_from(&left.beside)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    (left.in_place, names)
}

#[test]
fn a_writable_file_is_written_and_nothing_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let work = folder.path().join("work.db");
    let owner = |path: &Path| std::os::unix::fs::MetadataExt::uid(&fs::metadata(path).unwrap());
    let fresh = || {
        fs::write(&work, "old\n").unwrap();
        jar().write(&work, "/srv/data", true)
    };
    let script = "cat /srv/data/work.db; echo x > /srv/data/work.db; echo y > /srv/data/file; \
                  echo z > /srv/other; cat /srv/data/file";
    fresh().sh(script).says("old\ny");
    assert_eq!(fs::read_to_string(&work).unwrap(), "x\n");
    assert_eq!(owner(&work), owner(folder.path()));
    for in_place in [true, false] {
        // SQLite makes its companions beside the file itself.
        let seen = "real=$(realpath /srv/data/work.db); echo l > $real-wal; cat /srv/data/work.db";
        fs::write(&work, "old\n").unwrap();
        let names = ["work.db", "work.db-wal"];
        let names = if in_place { &names[..] } else { &names[1..] };
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(written(&work, in_place, seen), (true, names));
        // It can be removed, renamed and replaced as anywhere.
        let gone = written(
            &work,
            in_place,
            "rm /srv/data/work.db; echo x > /srv/data/new",
        );
        assert!(!gone.0, "{gone:?}");
        let replace = "cd /srv/data; mv work.db old; echo new > new; mv new work.db; cat old";
        let replaced = written(&work, in_place, replace);
        assert!(!replaced.0, "{replaced:?}");
        assert!(replaced.1.contains(&"work.db".to_owned()), "{replaced:?}");
        let back = "cd /srv/data; mv work.db old; mv old work.db";
        assert!(written(&work, true, back).0);
        assert_eq!(fs::read_to_string(&work).unwrap(), "old\n");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn what_was_written_to_a_branch_is_in_its_layer() {
    let work = tempfile::tempdir().unwrap();
    fs::write(work.path().join("old"), "old").unwrap();
    let jar = jar().branch(work.path());
    let mut sandbox = jar.start().unwrap();
    let attendance = Attendance {
        stdin: None,
        stdout: Stream::Keep,
        stderr: Stream::Keep,
        signals: None,
    };
    let command = jar.command(&["/bin/sh", "-c", "echo new > new; rm old; ls"]);
    let ended = attend(&mut *sandbox, &command, &jar.spec.limits, attendance).unwrap();
    outcome(ended).says("new");
    let layer = sandbox.scratch(0).unwrap();
    let mut names: Vec<_> = rustix::fs::Dir::read_from(&layer)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    assert_eq!(names, ["new", "old"]);
    assert_eq!(fs::read_dir(work.path()).unwrap().count(), 1);
    sandbox.end().unwrap();
    assert!(sandbox.scratch(1).is_err());
}

#[test]
fn a_busy_supervisor_with_many_descriptors_starts_sandboxes() {
    // Numbers that the set-up uses itself are taken, by files that must not be disturbed.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, "kept").unwrap();
    let mut held: Vec<_> = (0..800)
        .map(|_each| fs::File::open(&path).unwrap())
        .collect();
    jar()
        .branch(folder.path())
        .sh("cat file; ls /proc/self/fd | wc -l")
        .says("kept4");
    for file in &mut held {
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "kept");
    }
}

/// The program of these tests, started anew as a supervisor that is to be killed.
const SUPERVISOR: &str = "BELLJAR_TEST_SUPERVISOR";

#[test]
fn supervisor_for_kills() {
    // Only a part of the next test; by itself it does one round.
    let mark = std::env::var(SUPERVISOR).unwrap_or_default();
    let folder = std::env::temp_dir().join(format!("belljar-killed-{mark}"));
    let rounds = if mark.is_empty() { 1 } else { 10_000 };
    for _round in 0..rounds {
        let mut jar = jar();
        jar.spec.id = fresh_id();
        if !mark.is_empty() {
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join(jar.spec.id.to_string()), "").unwrap();
        }
        let script = format!("setsid sh -c 'sleep 77; : {mark}' & sleep 0.02");
        jar.sh(&script);
    }
}

#[test]
fn escape_killed_supervisor() {
    let shared = shared();
    let mark = format!("mark{}", std::process::id());
    let folder = std::env::temp_dir().join(format!("belljar-killed-{mark}"));
    for round in 0..60_u64 {
        let temporary = tempfile::tempdir().unwrap();
        let mut supervisor = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "life::supervisor_for_kills", "--nocapture"])
            .env(SUPERVISOR, &mark)
            .env("TMPDIR", temporary.path())
            .env(TEMPLATES, &shared.folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let folder = temporary.path().join(format!("belljar-killed-{mark}"));
        while !folder.exists() {
            std::thread::sleep(Duration::from_millis(1));
        }
        // Every moment of a round, in steps of its own.
        std::thread::sleep(Duration::from_micros(round * 617 % 40_000));
        supervisor.kill().unwrap();
        supervisor.wait().unwrap();
        assert_gone(&mark);
        for entry in fs::read_dir(&folder).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            shared.jail.reap(name.parse().unwrap()).unwrap();
            assert_eq!(groups_named(&format!("belljar-{name}")), 0);
        }
    }
    assert!(!folder.exists());
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains("/tmp/m"), "{mounts}");
}

#[test]
fn escape_missing_wall() {
    // A supervisor in a user namespace that may make no further one.
    let script = "echo 0 > /proc/sys/user/max_user_namespaces 2>/dev/null; exec \"$0\" --exact life::start_without_namespaces --nocapture";
    let program = std::env::current_exe().unwrap();
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "/bin/sh", "-c", script])
        .arg(program)
        .env(SUPERVISOR, "refused")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        text.contains("<the host cannot hold the wall `user namespace`"),
        "{text}"
    );
    assert!(
        text.contains("sysctl -w user.max_user_namespaces"),
        "{text}"
    );
}

#[test]
fn start_without_namespaces() {
    // Only a part of the test before; by itself it starts as every other.
    let one = jar();
    match one.start() {
        Ok(_sandbox) => assert_ne!(std::env::var(SUPERVISOR).unwrap_or_default(), "refused"),
        Err(error) => println!("<{error}>"),
    }
}
