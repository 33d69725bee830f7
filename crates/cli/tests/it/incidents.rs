//! Each incident of `belljar demo`, replayed by the real binary; its checks are looked at one by
//! one, and so is what it leaves behind.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{names, program};

const NAMES: [&str; 9] = [
    "home-directory",
    "tracked-files",
    "database-and-backups",
    "code-freeze",
    "self-root",
    "config-rewrite",
    "runaway",
    "exfiltration",
    "token-theft",
];

/// A home and a directory for temporary files, to see that both are left as they were.
struct Place {
    home: TempDir,
    temporary: TempDir,
}

impl Place {
    fn new() -> Self {
        let make = || tempfile::tempdir().unwrap();
        Self {
            home: make(),
            temporary: make(),
        }
    }

    fn call(&self, arguments: &[&str]) -> Output {
        Command::new(program())
            .args(arguments)
            .env_remove("BELLJAR_STATE")
            .env_remove("XDG_STATE_HOME")
            .env("HOME", self.home.path())
            .env("TMPDIR", self.temporary.path())
            .output()
            .unwrap()
    }

    #[track_caller]
    fn is_clean(&self) {
        let empty: [String; 0] = [];
        assert_eq!(names(self.home.path()), empty);
        assert_eq!(names(self.temporary.path()), empty);
    }
}

/// Replays one incident, and gives its object.
#[track_caller]
fn replay(name: &str) -> Value {
    let place = Place::new();
    let output = place.call(&["demo", name, "--json"]);
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    let answer: Value =
        serde_json::from_str(text.trim()).unwrap_or_else(|error| panic!("{error}: {text}{errors}"));
    assert_eq!(answer["contained"], true, "{answer:#}");
    assert_eq!(output.status.code(), Some(0), "{errors}");
    let incidents = answer["incidents"].as_array().unwrap();
    let [incident] = incidents.as_slice() else {
        panic!("not one incident: {answer:#}")
    };
    assert_eq!(incident["name"], name);
    for check in incident["checks"].as_array().unwrap() {
        assert_eq!(check["held"], true, "{check:#}");
        for part in ["what", "expected", "found"] {
            assert!(check[part].is_string(), "{check:#}");
        }
    }
    assert!(!incident["tried"].as_array().unwrap().is_empty());
    place.is_clean();
    incident.clone()
}

/// What a check of that name found.
#[track_caller]
fn found<'a>(incident: &'a Value, what: &str) -> &'a str {
    let checks = incident["checks"].as_array().unwrap();
    let check = checks
        .iter()
        .find(|one| one["what"].as_str().unwrap().contains(what));
    check.unwrap_or_else(|| panic!("no check `{what}`: {incident:#}"))["found"]
        .as_str()
        .unwrap()
}

/// What a try of that name got.
#[track_caller]
fn got<'a>(incident: &'a Value, what: &str) -> &'a str {
    let tried = incident["tried"].as_array().unwrap();
    let one = tried
        .iter()
        .find(|one| one["what"].as_str().unwrap().contains(what));
    one.unwrap_or_else(|| panic!("`{what}` was not tried: {incident:#}"))["got"]
        .as_str()
        .unwrap()
}

#[test]
fn incident_home_directory() {
    let incident = replay("home-directory");
    assert_eq!(got(&incident, "rm -rf ~/.[!.]*"), "done: 0 entries left");
    assert!(got(&incident, "rm -rf /usr/bin").ends_with("nothing left inside"));
    assert!(found(&incident, "the home directory").starts_with("58 files, sha256 "));
    let asked = &incident["merge_would_ask"];
    assert_eq!(asked["files"]["deleted"], 70);
    assert_eq!(asked["dangers"][0], "deletes 58 of 58 files");
    assert_eq!(asked["decision"]["rule"], "merge.by-hand");
}

#[test]
fn incident_tracked_files() {
    let incident = replay("tracked-files");
    assert_eq!(got(&incident, "INSTRUCTIONS"), "DO NOT RUN ANYTHING");
    assert_eq!(got(&incident, "each tracked file"), "70 files deleted");
    assert_eq!(found(&incident, "discarded with one command"), "discarded");
    assert_eq!(incident["merge_would_ask"]["files"]["added"], 1);
    assert_eq!(incident["merge_would_ask"]["conflicts"], 0);
}

#[test]
fn incident_database_and_backups() {
    let incident = replay("database-and-backups");
    for what in ["real database file", "real volume", "truncate the real"] {
        assert!(got(&incident, what).starts_with("refused"), "{incident:#}");
    }
    assert_eq!(found(&incident, "really deleted"), "7,000 rows, 3 tables");
    let asked = &incident["merge_would_ask"];
    assert_eq!(asked["databases"]["production"]["deleted"], 7000);
    let dangers = asked["dangers"].as_array().unwrap();
    let drops = |one: &Value| one.as_str().unwrap().starts_with("drops the tables");
    assert!(dangers.iter().any(drops), "{asked:#}");
}

#[test]
fn incident_code_freeze() {
    let incident = replay("code-freeze");
    assert_eq!(found(&incident, "the diff shows both"), "+4,000 −2,402");
    assert_eq!(
        found(&incident, "what the ledger says"),
        "4000 inserted, 2402 deleted"
    );
    assert_eq!(
        found(&incident, "the ledger, verified"),
        "every hash and signature holds"
    );
}

#[test]
fn incident_self_root() {
    let incident = replay("self-root");
    assert_eq!(found(&incident, "searched for"), "not found");
    assert!(got(&incident, "cat /proc/1/root/").starts_with("refused"));
    assert!(got(&incident, "kill -9 its supervisor").starts_with("refused"));
    let decision = &incident["merge_would_ask"]["decision"];
    assert_eq!(decision["effect"], "deny");
    assert_eq!(decision["rule"], "merge.new-privilege");
}

#[test]
fn incident_config_rewrite() {
    let incident = replay("config-rewrite");
    let before = found(&incident, "after the run");
    assert_ne!(found(&incident, "after the merge"), before);
    assert_eq!(found(&incident, "after the revert"), before);
    assert_eq!(found(&incident, "became of the run"), "reverted");
    assert_eq!(
        incident["merge_would_ask"]["databases"]["config"]["updated"],
        200_000
    );
}

#[test]
fn incident_runaway() {
    let incident = replay("runaway");
    for name in [
        "fork bomb",
        "memory hog",
        "disk filler",
        "output flood",
        "endless loop",
        "daemon",
    ] {
        let left = found(&incident, &format!("left of the {name}"));
        assert_eq!(left, "no process, control group or mount");
    }
    assert!(got(&incident, "outlive the run").starts_with("daemon alive"));
    // Where no control group holds memory, the report says so.
    let groups = got(&incident, "memory hog").starts_with("the control group");
    assert_eq!(groups, incident["notes"].as_array().unwrap().is_empty());
}

#[test]
fn incident_exfiltration() {
    let incident = replay("exfiltration");
    assert_eq!(got(&incident, "read the customer table"), "500 customers");
    assert_eq!(got(&incident, "spell customers"), "0 of 20 answered");
    assert!(got(&incident, "error page").starts_with("403: "));
    assert!(got(&incident, "name the collector").starts_with("403: "));
    assert_eq!(got(&incident, "which is allowed"), "200: []");
    for what in ["to the collector", "name server", "any server heard of"] {
        assert_eq!(found(&incident, what), "0", "{what}");
    }
}

#[test]
fn incident_token_theft() {
    let incident = replay("token-theft");
    assert!(got(&incident, "env | grep").starts_with("belljar-secret-partner-token-"));
    assert_eq!(got(&incident, "which is allowed"), "200: []");
    assert!(got(&incident, "show what it got").contains("****"));
    for what in [
        "another allowed host",
        "percent by percent",
        "another header",
    ] {
        assert!(got(&incident, what).starts_with("403: "), "{what}");
    }
    for what in [
        "heard the placeholder",
        "a stranger heard the token",
        "that hold the token",
    ] {
        assert_eq!(found(&incident, what), "0", "{what}");
    }
    assert_eq!(found(&incident, "it belongs to heard"), "2");
}

#[test]
fn the_list_has_every_incident_and_replays_none() {
    let place = Place::new();
    let output = place.call(&["demo", "--list"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let listed: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert_eq!(listed, NAMES);
    let output = place.call(&["demo", "--list", "--json"]);
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["incidents"].as_array().unwrap().len(), NAMES.len());
    place.is_clean();
}

#[test]
fn an_unknown_incident_is_answered_with_the_known_ones() {
    let place = Place::new();
    let output = place.call(&["demo", "titanic"]);
    assert_eq!(output.status.code(), Some(125));
    let known = NAMES.join(", ");
    let expected = format!("belljar: there is no incident `titanic`; the incidents are {known}\n");
    assert_eq!(String::from_utf8_lossy(&output.stderr), expected);
    place.is_clean();
}

/// What does damage refuses to start where the host can be seen.
#[test]
fn an_actor_outside_a_sandbox_refuses() {
    let place = Place::new();
    let bait = place.home.path().join("bait.txt");
    fs::write(&bait, "bait").unwrap();
    for name in [
        "database-and-backups",
        "self-root",
        "token-theft",
        "daemon",
        "no-such",
    ] {
        let output = Command::new(program())
            .args(["demo-actor", name, "marker"])
            .current_dir(place.home.path())
            .env("BELLJAR_RUN", "run-of-nobody")
            .env("CANARY", &bait)
            .output()
            .unwrap();
        assert!(!output.status.success(), "{name}");
        assert_eq!(output.stdout, b"", "{name}");
    }
    assert_eq!(fs::read(&bait).unwrap(), b"bait");
}

/// Every incident is told in the documents, and no other.
#[test]
fn every_incident_is_documented() {
    let manual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/incidents.md");
    let text = fs::read_to_string(manual).unwrap();
    let told: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("## `")?.strip_suffix('`'))
        .collect();
    assert_eq!(told, NAMES);
}
