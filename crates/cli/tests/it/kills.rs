//! `kill -9` of Belljar at random moments: the next command leaves nothing of it behind, and what
//! was being merged or reverted is whole: all of it, or none.

use std::fs;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Place, Random, groups, marked, marker, names, rows, tree, within};

/// Kills of `run` in each of the two tests.
const RUN_KILLS: u32 = 70;
/// Kills of `merge` and `revert`.
const DEED_KILLS: u32 = 60;

/// What every sandbox of a killed run tries to leave behind: a daemon of its own session, files in
/// every place that can be written, an open transaction.
const BUSY: &str = "
    (setsid sleep 30 $MARKER & ) 2>/dev/null
    for i in 1 2 3 4 5 6 7 8 9; do echo $i > new-$i; done
    rm -r old; echo more >> kept; ln -s /etc link; touch /usr/mine ~/mine /tmp/mine
    exec python3 -c '
import os, sqlite3, sys
shop = sqlite3.connect(os.environ[\"SHOP_PATH\"])
for i in range(300):
    shop.execute(\"UPDATE item SET stock = stock + 1 WHERE id = ?\", (i % 50 + 1,))
    shop.commit()
    open(f\"file-{i}\", \"w\").write(str(i))
' $MARKER";

#[test]
fn a_run_killed_as_it_starts_leaves_nothing() {
    // On a busy machine a start takes longer than its usual 20 ms.
    let place = Place::new();
    place.call(["run", "--", "true"]).ok();
    let start = Instant::now();
    place.call(["run", "--", "true"]).ok();
    kill_runs(
        start
            .elapsed()
            .as_millis()
            .clamp(40, 1000)
            .try_into()
            .unwrap(),
    );
}

#[test]
fn a_run_killed_at_any_time_leaves_nothing() {
    kill_runs(500);
}

fn kill_runs(millis_max: u64) {
    let place = Place::new();
    for i in 0..20 {
        place.write(&format!("old/{i}"), "old\n");
    }
    place.write("kept", "kept\n");
    place.shop(50);
    let before = place.outside();
    let mut random = Random::new();
    let marker = marker();
    let mut interrupted = 0;
    for kill in 0..RUN_KILLS {
        let mut child = busy(&place, &marker, kill % 2 == 1);
        std::thread::sleep(Duration::from_micros(random.below(millis_max * 1000)));
        // By the handle of the child that this test started.
        child.kill().unwrap();
        let ended = child.wait().unwrap();
        let context = format!("kill {kill} with {random:?}: {ended}");
        let told = place.call(["runs", "--json"]);
        assert_eq!(told.code, Some(0), "{context}: {told:?}");
        interrupted += u32::from(told.err.contains("interrupted"));
        assert_eq!(place.outside(), before, "{context}");
        nothing_left(&place, &marker, &told.json(), &context);
    }
    place.is_clean();
    println!("{interrupted} of {RUN_KILLS} runs were interrupted; {random:?}");
}

fn busy(place: &Place, marker: &str, gated: bool) -> Child {
    let database = format!("shop={}", place.path("shop.db").display());
    let mut command = place.command();
    command.args(["run", "--workspace", "work", "--db", &database]);
    if gated {
        command.args(["--allow", "api.example.com"]);
    }
    command
        .args(["--env", &format!("MARKER={marker}"), "--", "sh", "-c", BUSY])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.spawn().unwrap()
}

#[track_caller]
fn nothing_left(place: &Place, marker: &str, runs: &Value, context: &str) {
    let gone = within(Duration::from_secs(2), || marked(marker).is_empty());
    assert!(gone, "{context}: processes: {:?}", marked(marker));
    let live = names(&place.path("state/live"));
    assert!(live.is_empty(), "{context}: live: {live:?}");
    for run in names(&place.path("state/runs")) {
        let left = names(&place.path("state/runs").join(run));
        let of_the_gate = |name: &String| ["trust", "control"].contains(&name.as_str());
        assert!(!left.iter().any(of_the_gate), "{context}: {left:?}");
    }
    let folder = place.folder.path().display().to_string();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&folder), "{context}: {mounts}");
    let known: Vec<&str> = runs
        .as_array()
        .unwrap()
        .iter()
        .map(|run| {
            assert_ne!(run["changes"], "running", "{context}: {run}");
            run["run"].as_str().unwrap()
        })
        .collect();
    let folders = names(&place.path("state/runs"));
    assert_eq!(
        folders.len(),
        known.len(),
        "{context}: {folders:?} are not {known:?}"
    );
    if let Some(last) = folders.last() {
        let left = groups(last);
        assert!(left.is_empty(), "{context}: {left:?}");
    }
    for folder in ["state", "home"] {
        let found = names(&place.path(folder));
        let known = ["keys", "ledger", "live", "runs", "templates"];
        let odd: Vec<&String> = found
            .iter()
            .filter(|n| !known.contains(&n.as_str()))
            .collect();
        assert!(odd.is_empty(), "{context}: {odd:?}");
    }
}

#[test]
fn a_merge_or_revert_killed_at_any_time_is_whole_or_not_at_all() {
    let place = Place::new();
    for i in 0..120 {
        place.write(&format!("tree/{}/{i}", i % 7), &format!("old {i}\n"));
    }
    place.shop(500);
    let script = "for i in tree/1/* tree/2/*; do echo new >> $i; done; rm -r tree/3
        mkdir deep; cp -r tree/4 deep/; chmod 600 tree/5/*; ln -s tree link; mv tree/6 six
        python3 -c '
import os, sqlite3
shop = sqlite3.connect(os.environ[\"SHOP_PATH\"])
shop.execute(\"UPDATE item SET stock = -1 WHERE id % 3 = 0\")
shop.execute(\"DELETE FROM item WHERE id % 3 = 1\")
shop.execute(\"CREATE TABLE note(id INTEGER PRIMARY KEY)\")
shop.executemany(\"INSERT INTO note VALUES (?)\", [(i,) for i in range(300)])
shop.commit()'";
    let begin = place.outside();
    let mut random = Random::new();
    let mut kills = 0;
    let mut found = [0, 0];
    let mut slowest = Duration::ZERO;
    while kills < DEED_KILLS {
        let run = place.both(script).ok().run();
        let before = place.outside();
        assert_eq!(
            before, begin,
            "a revert has not restored everything: {random:?}"
        );
        // How long it takes is learnt from one that nobody kills.
        if slowest.is_zero() {
            let start = Instant::now();
            place.call(["merge", &run]).ok();
            slowest = start.elapsed();
            place.call(["revert", &run]).ok();
            continue;
        }
        let mut after = None;
        let mut deed = "merge";
        while kills < DEED_KILLS {
            kills += 1;
            let mut child = place
                .command()
                .args([deed, &run])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let micros = u64::try_from(slowest.as_micros()).unwrap();
            std::thread::sleep(Duration::from_micros(random.below(micros)));
            child.kill().unwrap();
            child.wait().unwrap();
            let context = format!("kill {kills} of {deed} with {random:?}");
            let told = place.call(["runs", "--json"]).ok();
            let state = told.json()[0]["changes"].as_str().unwrap().to_owned();
            assert!(!told.err.contains("cannot"), "{context}: {told:?}");
            let now = (tree(&place.work()), rows(&place.path("shop.db")));
            nothing_left(&place, "no marker at all", &told.json(), &context);
            match state.as_str() {
                "sealed" | "reverted" => {
                    assert_eq!(now, before, "{context}: {state}");
                    found[0] += 1;
                    if state == "reverted" {
                        break;
                    }
                }
                "merged" => {
                    found[1] += 1;
                    assert_ne!(now, before, "{context}");
                    let merged = after.get_or_insert_with(|| now.clone());
                    assert_eq!(&now, merged, "{context}");
                    deed = "revert";
                }
                other => panic!("{context}: {other}"),
            }
        }
        if place.call(["diff", "--json", &run]).json()["state"] == "merged" {
            place.call(["revert", &run]).ok();
        }
    }
    place.is_clean();
    println!(
        "found before {} times, after {} times; {random:?}",
        found[0], found[1]
    );
}
