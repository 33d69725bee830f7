//! What changes between a run and its merge: all or nothing over files and databases, and nothing
//! outside of them.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::Value;

use crate::support::{Answer, Place, is_root, names, rows};

/// A run that changes a file, adds one, and changes a row.
fn both(place: &Place) -> String {
    place.write("file", "old\n");
    place.write("dir/inner", "old\n");
    place.shop(5);
    let script = "echo new > file; echo new > dir/inner; echo added > added; python3 -c '
import os, sqlite3
shop = sqlite3.connect(os.environ[\"SHOP_PATH\"])
shop.execute(\"UPDATE item SET stock = -1 WHERE id = 1\")
shop.commit()'";
    place.both(script).ok().run()
}

#[track_caller]
fn refused(place: &Place, deed: &str, run: &str, because: &str) -> Answer {
    let before = place.outside();
    let answer = place.call([deed, run]).exits(125);
    assert!(answer.err.starts_with("belljar: "), "{answer:?}");
    assert!(answer.err.contains(because), "{because}: {answer:?}");
    assert_eq!(place.outside(), before, "{answer:?}");
    place.is_clean();
    answer
}

#[test]
fn a_conflict_in_a_row_leaves_the_files_alone() {
    let place = Place::new();
    let run = both(&place);
    place
        .database()
        .execute("UPDATE item SET stock = 77 WHERE id = 1", [])
        .unwrap();
    refused(&place, "merge", &run, "1 conflict is in the way");
    // Once it is out of the way, the same run is merged.
    place
        .database()
        .execute("UPDATE item SET stock = 10 WHERE id = 1", [])
        .unwrap();
    place.call(["merge", &run]).ok();
    assert_eq!(place.read("file"), "new\n");
}

#[test]
fn a_conflict_in_a_file_leaves_the_rows_alone() {
    let place = Place::new();
    let run = both(&place);
    place.write("file", "edited outside\n");
    let answer = refused(&place, "merge", &run, "1 conflict is in the way");
    assert!(answer.err.contains("file"), "{answer:?}");
}

#[test]
fn conflicts_of_both_kinds_are_listed_together() {
    let place = Place::new();
    let run = both(&place);
    place.write("file", "edited outside\n");
    place.write("added", "made outside\n");
    place
        .database()
        .execute("DELETE FROM item WHERE id = 1", [])
        .unwrap();
    refused(&place, "merge", &run, "3 conflicts are in the way");
    let told = place.call(["merge", "--json", &run]).exits(125).json();
    assert_eq!(told["conflicts"].as_array().unwrap().len(), 3, "{told}");
}

#[test]
fn what_others_did_elsewhere_survives_merge_and_revert() {
    let place = Place::new();
    let run = both(&place);
    place.write("other", "made outside\n");
    place.write("dir/other", "made outside\n");
    let shop = place.database();
    shop.execute("UPDATE item SET stock = 77 WHERE id = 2", [])
        .unwrap();
    shop.execute("INSERT INTO item VALUES (50, 'outside', 1)", [])
        .unwrap();
    let outside = place.outside();
    place.call(["merge", &run]).ok();
    let merged = place.outside();
    assert_eq!(merged.0["other"], outside.0["other"]);
    assert_eq!(merged.0["dir/other"], outside.0["dir/other"]);
    assert!(
        merged.1.iter().any(|row| row.contains("Integer(77)")),
        "{merged:?}"
    );
    assert!(
        merged.1.iter().any(|row| row.contains("Integer(50)")),
        "{merged:?}"
    );
    shop.execute("UPDATE item SET stock = 88 WHERE id = 3", [])
        .unwrap();
    shop.execute("UPDATE item SET stock = 30 WHERE id = 3", [])
        .unwrap();
    place.call(["revert", &run]).ok();
    assert_eq!(place.outside(), outside);
}

#[test]
fn a_conflict_stops_a_revert_too() {
    let place = Place::new();
    let run = both(&place);
    place.call(["merge", &run]).ok();
    place.write("file", "edited after the merge\n");
    refused(&place, "revert", &run, "1 conflict is in the way");
    place.write("file", "new\n");
    place
        .database()
        .execute("UPDATE item SET stock = 5 WHERE id = 1", [])
        .unwrap();
    refused(&place, "revert", &run, "in the way");
}

#[test]
fn a_directory_replaced_by_a_link_leads_nowhere() {
    let place = Place::new();
    let run = both(&place);
    fs::create_dir(place.path("elsewhere")).unwrap();
    fs::write(place.path("elsewhere/inner"), "old\n").unwrap();
    fs::remove_dir_all(place.work().join("dir")).unwrap();
    symlink("../elsewhere", place.work().join("dir")).unwrap();
    refused(&place, "merge", &run, "in the way");
    assert_eq!(
        fs::read_to_string(place.path("elsewhere/inner")).unwrap(),
        "old\n"
    );
}

#[test]
fn a_workspace_replaced_by_a_link_leads_nowhere() {
    let place = Place::new();
    let run = both(&place);
    fs::rename(place.work(), place.path("moved")).unwrap();
    fs::create_dir(place.path("elsewhere")).unwrap();
    fs::write(place.path("elsewhere/file"), "old\n").unwrap();
    symlink("elsewhere", place.work()).unwrap();
    let answer = place.call(["merge", &run]).exits(126);
    assert!(answer.err.contains("files.workspace"), "{answer:?}");
    assert_eq!(
        fs::read_to_string(place.path("elsewhere/file")).unwrap(),
        "old\n"
    );
    assert_eq!(names(&place.path("elsewhere")), ["file"]);
    fs::remove_file(place.work()).unwrap();
    fs::rename(place.path("moved"), place.work()).unwrap();
    place.call(["merge", &run]).ok();
}

#[test]
fn a_workspace_that_is_gone() {
    let place = Place::new();
    let run = both(&place);
    fs::rename(place.work(), place.path("moved")).unwrap();
    let rows_before = place.items();
    let answer = place.call(["merge", &run]).exits(125);
    assert!(answer.err.contains("does not exist"), "{answer:?}");
    assert_eq!(place.items(), rows_before);
    // An empty one in its place has none of what the run started from.
    fs::create_dir(place.work()).unwrap();
    refused(&place, "merge", &run, "in the way");
    assert_eq!(place.items(), rows_before);
    place.call(["discard", &run]).ok();
    place.is_clean();
}

#[test]
fn a_database_that_is_gone_or_another() {
    let place = Place::new();
    let run = both(&place);
    let (shop, moved) = (place.path("shop.db"), place.path("moved.db"));
    fs::rename(&shop, &moved).unwrap();
    refused(&place, "merge", &run, "shop");
    assert!(!shop.exists());
    fs::write(&shop, "not a database").unwrap();
    let files = crate::support::tree(&place.work());
    place.call(["merge", &run]).exits(125);
    assert_eq!(fs::read_to_string(&shop).unwrap(), "not a database");
    assert_eq!(crate::support::tree(&place.work()), files);
    fs::remove_file(&shop).unwrap();
    // Another with the same name: what the run changed is not there.
    place.shop(0);
    place.database().execute("DELETE FROM item", []).unwrap();
    refused(&place, "merge", &run, "in the way");
    fs::rename(&moved, &shop).unwrap();
    place.call(["merge", &run]).ok();
}

/// A database inside the workspace is branched twice, as a file and as rows.
#[test]
fn a_database_inside_the_workspace_is_never_half_merged() {
    let place = Place::new();
    place.write("file", "old\n");
    place.shop(5);
    fs::rename(place.path("shop.db"), place.work().join("shop.db")).unwrap();
    let database = format!("shop={}", place.work().join("shop.db").display());
    let script = "python3 -c '
import os, sqlite3
for path, stock in ((os.environ[\"SHOP_PATH\"], -1), (\"shop.db\", -2)):
    shop = sqlite3.connect(path)
    shop.execute(\"UPDATE item SET stock = ? WHERE id = 1\", (stock,))
    shop.commit()'; echo new > file";
    let before = rows(&place.work().join("shop.db"));
    let run = place.script(&["--db", &database], script).ok().run();
    assert_eq!(rows(&place.work().join("shop.db")), before);
    let answer = place.call(["merge", &run]).exits(126);
    assert!(answer.err.contains("merge.database-as-file"), "{answer:?}");
    assert_eq!(rows(&place.work().join("shop.db")), before);
    assert_eq!(place.read("file"), "old\n");
    // Used as a database alone, it is merged.
    let script = "python3 -c '
import os, sqlite3
shop = sqlite3.connect(os.environ[\"SHOP_PATH\"])
shop.execute(\"UPDATE item SET stock = -1 WHERE id = 1\")
shop.commit()'; echo new > file";
    let run = place.script(&["--db", &database], script).ok().run();
    place.call(["merge", &run]).ok();
    assert!(rows(&place.work().join("shop.db"))[1].contains("-1"));
    place.call(["revert", &run]).ok();
    assert_eq!(rows(&place.work().join("shop.db")), before);
    place.is_clean();
}

#[test]
fn a_damaged_record_is_named_and_merges_nothing() {
    let place = Place::new();
    let run = both(&place);
    let path = place.path(&format!("state/runs/{run}/run.json"));
    let whole = fs::read_to_string(&path).unwrap();
    let halves = [
        whole.get(..whole.len() / 2).unwrap().to_owned(),
        String::new(),
        "{}".to_owned(),
    ];
    for damaged in halves {
        fs::write(&path, damaged).unwrap();
        for deed in ["merge", "diff", "discard"] {
            refused(
                &place,
                deed,
                &run,
                &format!("what is kept of `{run}` cannot be read"),
            );
        }
        let runs = place.call(["runs"]).ok();
        assert!(runs.err.contains(&run), "{runs:?}");
    }
    fs::write(&path, whole.replace("\"version\": 1", "\"version\": 2")).unwrap();
    refused(
        &place,
        "merge",
        &run,
        "it has format 2, this Belljar knows 1",
    );
    fs::write(&path, whole).unwrap();
    place.call(["merge", &run]).ok();
}

#[test]
fn damaged_change_sets_merge_nothing() {
    for name in [
        "changes/files.json",
        "changes/files.pack",
        "db/shop/base.db",
        "db/shop/work.db",
    ] {
        let place = Place::new();
        let run = both(&place);
        let path = place.path(&format!("state/runs/{run}/{name}"));
        if !path.exists() {
            continue;
        }
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x55;
        bytes.truncate(middle + 1);
        fs::write(&path, bytes).unwrap();
        let before = place.outside();
        let answer = place.call(["merge", &run]);
        if answer.code == Some(0) {
            // What a merge has no need of may be damaged; then it is right all the same.
            assert_eq!(place.read("file"), "new\n", "{name}");
            assert!(place.items()[1].contains("Integer(-1)"), "{name}");
            continue;
        }
        assert!(matches!(answer.code, Some(125 | 126)), "{name}: {answer:?}");
        assert_eq!(place.outside(), before, "{name}: {answer:?}");
    }
}

#[test]
fn nothing_runs_when_the_ledger_cannot_be_written() {
    // Root writes whatever the permissions are.
    if is_root() {
        println!("as root, permissions hold nothing back; `a_full_disk` shows the same");
    }
    let place = Place::new();
    let run = both(&place);
    let ledger = place.path("state/ledger");
    let modes = |mode: u32, file: u32| {
        for name in names(&ledger) {
            let path = ledger.join(name);
            let mode = if path.is_dir() { mode } else { file };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        fs::set_permissions(&ledger, fs::Permissions::from_mode(mode)).unwrap();
    };
    modes(0o500, 0o400);
    let before = place.outside();
    let script = format!("touch {}", place.work().join("ran").display());
    let answer = place.script(&[], &script);
    let merged = place.call(["merge", &run]);
    modes(0o700, 0o600);
    if !is_root() {
        for answer in [&answer, &merged] {
            assert!(matches!(answer.code, Some(125 | 126)), "{answer:?}");
        }
        assert_eq!(place.outside(), before);
    }
    place.is_clean();
}

#[test]
fn a_ledger_that_was_changed_is_reported() {
    let place = Place::new();
    let run = both(&place);
    let ledger = place.path("state/ledger");
    let mut segments = names(&ledger);
    segments.retain(|name| ledger.join(name).is_file());
    let mut found = false;
    for name in segments {
        let path = ledger.join(&name);
        let whole = fs::read(&path).unwrap();
        let Some(at) = whole
            .windows(run.len())
            .position(|text| text == run.as_bytes())
        else {
            continue;
        };
        let mut bytes = whole.clone();
        bytes[at + 5] ^= 1;
        fs::write(&path, bytes).unwrap();
        let answer = place.call(["audit", "verify"]).exits(125);
        assert!(
            answer.err.contains("the ledger does not verify"),
            "{answer:?}"
        );
        let told = place.call(["audit", "verify", "--json"]).exits(125);
        let told: Value = told.json();
        assert!(!told["findings"].as_array().unwrap().is_empty(), "{told}");
        fs::write(&path, whole).unwrap();
        found = true;
    }
    assert!(found, "no segment names the run");
    place.is_clean();
}

/// What cuts the end of the ledger off is recorded in the ledger.
#[test]
fn files_nobody_knows_are_left_alone() {
    let place = Place::new();
    let run = both(&place);
    for name in ["state/runs/notes", "state/live/notes"] {
        fs::write(place.path(name), "mine").unwrap();
    }
    fs::create_dir(place.path("state/runs/run-0000000000000000")).unwrap();
    let answer = place.call(["runs"]).ok();
    assert_eq!(answer.err, "");
    assert_eq!(
        place.call(["diff", "--json", "last"]).ok().json()["run"],
        run.as_str()
    );
    fs::remove_file(place.path("state/live/notes")).unwrap();
    place.call(["merge", "last"]).ok();
    place.is_clean();
}

/// A claim of a run whose machine went down: nobody holds its lock.
#[test]
fn a_dead_claim_is_cleaned_up_once() {
    let place = Place::new();
    let run = both(&place);
    fs::write(place.path(&format!("state/live/{run}")), "").unwrap();
    let told = place.call(["runs"]).ok();
    assert_eq!(told.err.lines().count(), 1, "{told:?}");
    assert_eq!(place.call(["runs"]).ok().err, "");
    place.call(["merge", &run]).ok();
    // One of which there is nothing but the claim.
    fs::write(place.path("state/live/run-06gzpn694jg5ssas"), "").unwrap();
    let told = place.call(["runs"]).ok();
    assert!(told.err.contains("interrupted before it began"), "{told:?}");
    place.is_clean();
}

#[test]
fn new_privileges_are_refused_unless_they_are_asked_for() {
    let place = Place::new();
    place.write("tool", "#!/bin/sh\n");
    let run = place.script(&[], "chmod 4755 tool").ok().run();
    let before = place.outside();
    let answer = place.call(["merge", &run]).exits(126);
    assert!(answer.err.contains("merge.new-privilege"), "{answer:?}");
    assert_eq!(place.outside(), before);
    place.call(["merge", "--allow-privileged", &run]).ok();
    assert!(place.outside().0["tool"].starts_with("file 4755"));
    place.call(["revert", &run]).ok();
    assert_eq!(place.outside(), before);
}
