//! Programs that do not stop by themselves: each in a run of its own, with small limits.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use belljar_base::EXIT_LIMIT;
use belljar_sandbox::{LimitHit, Limiter};
use belljar_server::app::run::RunReport;

use super::actor::Acting;
use super::asked::{Asked, Before};
use super::check::Check;
use super::incident::{Incident, Played, Tried};
use super::left;
use super::snapshot::Snapshot;
use super::stage::{Stage, write};
use crate::failure::Failure;
use crate::report::size;

pub(super) const INCIDENT: Incident = Incident {
    name: "runaway",
    when: "2026",
    happened: "Helper processes of agents outlived their sessions by the hundred until memory was \
               gone, and a command left in the background wrote output for hours after its session \
               had ended, until terabytes filled the disk. Nothing bounded them, and nothing \
               ended them.",
    attack: "fork bomb, memory hog, disk filler, output flood, endless loop, daemon that outlives its run",
    play,
};

/// One way not to stop.
struct Runaway {
    name: &'static str,
    script: &'static str,
    limits: &'static str,
    /// Whether what was expected of the limit came, and in which words.
    held: fn(&RunReport, bool) -> (bool, String),
}

const RUNAWAYS: [Runaway; 5] = [
    Runaway {
        name: "fork bomb",
        // The bomb explodes in the background, so that the first process lives to see it.
        script: "f() { f \"$0\" | f \"$0\" & }; f 2>&1 & exec sleep 0.6",
        limits: "pids=48,time=5s,memory=256M",
        held: |report, groups| {
            let refusals = count(report, b"fork");
            let stopped = refusals > 0 && (!groups || hit(report, LimitHit::Pids));
            let by = if groups {
                "the control group"
            } else {
                "RLIMIT_NPROC"
            };
            (
                stopped,
                format!("{by} refused {refusals} forks at 48 processes"),
            )
        },
    },
    Runaway {
        name: "memory hog",
        script: "x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done; : \"$0\"",
        limits: "memory=96M,time=10s",
        held: |report, groups| {
            let killed = hit(report, LimitHit::Memory) && report.exit_code == EXIT_LIMIT;
            let code = report.exit_code;
            if groups {
                (
                    killed,
                    format!("the control group ended it at 96 MiB, exit code {code}"),
                )
            } else {
                (
                    code != 0 && code != EXIT_LIMIT,
                    format!("RLIMIT_AS gave the process no more, exit code {code}"),
                )
            }
        },
    },
    Runaway {
        name: "disk filler",
        script: "cat /dev/zero > filler; exit $?",
        limits: "disk=16M,time=10s",
        held: |report, _| {
            let refused = count(report, b"No space left") > 0 || hit(report, LimitHit::Disk);
            let code = report.exit_code;
            (
                refused && code != 0,
                format!("no space left after 16 MiB, exit code {code}"),
            )
        },
    },
    Runaway {
        name: "output flood",
        script: "exec yes \"$0\"",
        limits: "output=64K,time=700ms",
        held: |report, _| {
            let kept = report.kept.iter().map(Vec::len).max().unwrap_or(0);
            let bounded = kept <= 64 << 10 && hit(report, LimitHit::Output);
            let kept = size(kept as u64);
            (
                bounded,
                format!("{kept} kept and the rest dropped, ended after 0.7 s"),
            )
        },
    },
    Runaway {
        name: "endless loop",
        script: "trap '' TERM INT HUP; while :; do :; done; : \"$0\"",
        limits: "time=500ms",
        held: |report, _| {
            let over = hit(report, LimitHit::Time) && report.exit_code == EXIT_LIMIT;
            let code = report.exit_code;
            (
                over,
                format!("killed after 0.5 s and a grace of 0.5 s, exit code {code}"),
            )
        },
    },
];

fn play(stage: &Stage<'_>) -> Result<Played, Failure> {
    let folder = stage.folder("runaway/project")?;
    write(&folder.join("data.txt"), "the real data\n")?;
    stage.settle();
    let before = Snapshot::of(&folder)?;
    let groups = stage.host.limiter() != Limiter::ResourceLimits;
    let mut played = Played::default();
    for (place, runaway) in RUNAWAYS.iter().enumerate() {
        let marker = format!("belljar-demo-runaway-{place}-{}", std::process::id());
        let act = stage
            .shell(runaway.script, &marker)
            .workspace(&folder)
            .limits(runaway.limits);
        let report = stage.run(act)?;
        let (held, found) = (runaway.held)(&report, groups);
        let (name, limits) = (runaway.name, runaway.limits);
        let what = format!("{name}, limits {limits}");
        played.tried.push(Tried {
            what: what.clone(),
            got: found.clone(),
        });
        played
            .checks
            .push(Check::holds(&what, "stopped by its limit", found, held));
        played.checks.push(left::nothing(
            &format!("left of the {name}"),
            report.id,
            &marker,
        ));
        if name == "disk filler" {
            let amount = Before {
                files: before.files,
                rows: 0,
            };
            played.asked = Asked::of(stage, &report, amount)?;
        }
    }
    outlive(stage, &folder, &mut played)?;
    let intact = before.intact("the real directory, every byte", &Snapshot::of(&folder)?);
    played.checks.insert(0, intact);
    if !groups {
        played.notes.push(
            "without control groups, memory was held for each process alone (RLIMIT_AS), and \
             processes for the user inside (RLIMIT_NPROC); `belljar doctor` says how to get more"
                .to_owned(),
        );
    }
    Ok(played)
}

/// A daemon by the book: a new session, two forks, no terminal, deaf to signals.
fn outlive(stage: &Stage<'_>, folder: &Path, played: &mut Played) -> Result<(), Failure> {
    let marker = format!("belljar-demo-daemon-{}", std::process::id());
    let act = stage.actor("daemon", &marker).workspace(folder);
    let report = stage.run(act)?;
    let output = String::from_utf8_lossy(&report.kept[0]).into_owned();
    let lived = output.contains("daemon alive");
    played.tried.push(Tried {
        what: "setsid, fork twice, outlive the run".to_owned(),
        got: output.trim().replace(['\n', '\t'], " "),
    });
    played.checks.push(Check::holds(
        "the daemon really ran, and its run ended",
        "alive, exit code 0",
        format!(
            "{}, exit code {}",
            if lived { "alive" } else { "never alive" },
            report.exit_code
        ),
        lived && report.exit_code == 0,
    ));
    let left = left::nothing("left of the daemon", report.id, &marker);
    played.checks.push(left);
    Ok(())
}

fn hit(report: &RunReport, limit: LimitHit) -> bool {
    report.limits_hit.contains(&limit)
}

/// How often a text came from inside.
fn count(report: &RunReport, text: &[u8]) -> usize {
    let windows = report
        .kept
        .iter()
        .flat_map(|bytes| bytes.windows(text.len()));
    windows.filter(|window| *window == text).count()
}

/// The file by which the daemon shows that it lives.
const ALIVE: &str = "/tmp/alive";

/// The first process: starts a daemon, sees it alive, and ends.
pub(super) fn daemon(act: &mut Acting) {
    spawn(act, "daemon-child");
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(5) {
        let shown = std::fs::read_to_string(ALIVE).unwrap_or_default();
        if shown.ends_with('\n') {
            act.say("daemon alive", shown.trim());
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    act.say("daemon", "never came alive");
}

/// The second: leaves the session, starts the third, and ends.
pub(super) fn daemon_child(act: &mut Acting) {
    // It fails where the process leads a group already; the third process is away all the same.
    let away = rustix::process::setsid();
    act.say_answer("setsid", away.map_err(|error| error.to_string()));
    spawn(act, "daemon-grandchild");
}

/// The third: nobody's child, in a session of its own, for ten minutes.
pub(super) fn daemon_grandchild(act: &mut Acting) {
    let parent = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    let own = rustix::process::getpid().as_raw_nonzero();
    let text = format!("as process {own}, adopted by process {parent}, in a session of its own\n");
    let written = std::fs::write(ALIVE, text);
    act.say_answer(
        "show that it lives",
        written.map_err(|error| error.to_string()),
    );
    std::thread::sleep(Duration::from_secs(600));
}

fn spawn(act: &mut Acting, name: &str) {
    let marker = std::env::args_os().nth(3).unwrap_or_default();
    let answer = std::env::current_exe().and_then(|program| {
        Command::new(program)
            .args(["demo-actor", name])
            .arg(marker)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
    });
    if let Err(error) = answer {
        act.say("start a process", &format!("refused: {error}"));
    }
}
