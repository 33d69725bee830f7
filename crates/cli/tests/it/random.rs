//! Whatever a run does to files and rows, a merge makes of the real ones what the run would have
//! made of a plain copy; a revert makes them what they were.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::{Place, Random, rows, times, tree};

const CASES: u64 = 25;

#[test]
fn merged_like_a_plain_copy_and_reverted_like_never_run() {
    let seed = Random::new().seed;
    for case in 0..CASES {
        let seed = seed + case;
        println!("case {case}: BELLJAR_SEED={seed}");
        one(seed);
    }
}

/// Plays the case of one seed again.
#[test]
fn the_cases_that_once_failed() {
    for seed in [1, 2, 3] {
        println!("BELLJAR_SEED={seed}");
        one(seed);
    }
}

fn one(seed: u64) {
    let mut random = Random::seeded(seed);
    let place = Place::new();
    populate(&mut random, &place.work());
    place.shop(60);
    let (copy, database) = (place.path("copy"), place.path("copy.db"));
    plain(
        "cp -a work copy && cp shop.db copy.db",
        place.folder.path(),
        &database,
    );
    let before = (place.outside(), times(&place.work()));

    let mut script = "umask 022; exec 2>/dev/null\n".to_owned();
    for _ in 0..random.below(40) + 1 {
        script += &operation(&mut random);
        script.push('\n');
    }
    write!(script, "python3 -c '{}'", statements(&mut random)).unwrap();
    let answer = place.both(&script);
    assert!(answer.code.unwrap() < 124, "{answer:?}");
    assert_eq!(
        place.outside(),
        before.0,
        "seed {seed}: a run changed something:\n{script}"
    );
    plain(&script, &copy, &database);

    let run = answer.run();
    let changed = tree(&copy) != before.0.0 || rows(&database) != before.0.1;
    let merged = place.call(["merge", &run]);
    if changed {
        assert_eq!(merged.code, Some(0), "seed {seed}: {merged:?}\n{script}");
    }
    let (found, wanted) = (tree(&place.work()), tree(&copy));
    let only = |one: &BTreeMap<String, String>, other: &BTreeMap<String, String>| {
        let odd = one
            .iter()
            .filter(|(name, what)| other.get(*name) != Some(*what));
        odd.map(|(name, what)| format!("{name}: {what:.80}"))
            .collect::<Vec<_>>()
    };
    let odd = (only(&found, &wanted), only(&wanted, &found));
    assert!(
        odd == Default::default(),
        "seed {seed}: files differ: {odd:#?}\n{script}"
    );
    let found = rows(&place.path("shop.db"));
    assert_eq!(
        found,
        rows(&database),
        "seed {seed}: rows differ:\n{script}"
    );
    let (found, wanted) = (times(&place.work()), times(&copy));
    for (name, time) in &wanted {
        // Only what was set: years before this test ran.
        if *time < 1_000_000_000_000_000_000 {
            assert_eq!(
                found.get(name),
                Some(time),
                "seed {seed}: time of {name}:\n{script}"
            );
        }
    }
    if merged.code == Some(0) {
        place.call(["revert", &run]).ok();
    }
    let after = (place.outside(), times(&place.work()));
    assert_eq!(after, before, "seed {seed}: not as before:\n{script}");
    place.is_clean();
}

fn plain(script: &str, directory: &Path, database: &Path) {
    let mut command = Command::new("sh");
    command
        .args(["-c", script])
        .current_dir(directory)
        .env("SHOP_PATH", database);
    command.status().unwrap();
}

const NAMES: &[&str] = &["a", "b", "c c", "d", "e", "ü", "-f"];

fn path(random: &mut Random) -> String {
    let depth = random.below(3);
    let parts: Vec<&str> = (0..=depth).map(|_| *random.pick(NAMES)).collect();
    format!("\"./{}\"", parts.join("/"))
}

fn populate(random: &mut Random, work: &Path) {
    for _ in 0..30 {
        let name = path(random).replace('"', "");
        let path = work.join(name);
        // A parent may be a file already; then there is one file less.
        if fs::create_dir_all(path.parent().unwrap()).is_ok() && !path.is_dir() {
            let text = "line\n".repeat(usize::try_from(random.below(2000)).unwrap());
            fs::write(&path, text).unwrap();
        }
    }
}

fn operation(random: &mut Random) -> String {
    let (one, two) = (path(random), path(random));
    let number = random.below(1000);
    // Root outside ignores permissions, root inside does not: everything stays usable.
    let mode = random.pick(&["711", "750", "755", "700", "1777"]);
    match random.below(14) {
        0 => format!("echo {number} > {one}"),
        1 => format!("echo {number} >> {one}"),
        2 => format!("rm -rf {one}"),
        3 => format!("mkdir -p {one}"),
        4 => format!("mv {one} {two}"),
        // What a copy into itself does depends on the order in which a directory is read.
        5 => format!("case {two}/ in {one}/*) ;; *) cp -r {one} {two};; esac"),
        6 => format!("ln -s {two} {one}"),
        7 => format!("chmod {mode} {one}"),
        8 => format!("test -f {one} && touch -d @{number}00000 {one}"),
        9 => format!("ln {one} {two}"),
        10 => format!("test -f {one} && truncate -s {number} {one}"),
        11 => format!("test -f {one} && sed -i s/line/word{number}/ {one}"),
        12 => format!("head -c {number}00 /dev/zero > {one}"),
        _ => format!("rm -rf {one}; mkdir -p {one}; echo {number} > {one}/new"),
    }
}

fn statements(random: &mut Random) -> String {
    let mut program = "
import os, sqlite3
shop = sqlite3.connect(os.environ[\"SHOP_PATH\"])
def do(sql):
    try:
        shop.execute(sql)
        shop.commit()
    except sqlite3.Error:
        shop.rollback()
"
    .to_owned();
    for _ in 0..random.below(30) {
        let (id, number) = (random.below(80), random.below(100));
        let sql = match random.below(10) {
            0 => format!("INSERT INTO item VALUES ({id}, NULL, {number})"),
            1 => {
                format!("INSERT INTO item(name, stock) VALUES (x\\\"00{number:02}\\\", {number}.5)")
            }
            2 => format!("UPDATE item SET stock = {number} WHERE id = {id}"),
            3 => format!("UPDATE item SET name = name || {number} WHERE id % 7 = {number} % 7"),
            4 => format!("DELETE FROM item WHERE id = {id}"),
            5 => format!("UPDATE item SET id = id + 1000 WHERE id = {id}"),
            6 => "CREATE TABLE note(id INTEGER PRIMARY KEY, text TEXT)".to_owned(),
            7 => format!("INSERT INTO note(text) VALUES ({number})"),
            8 => format!("REPLACE INTO item VALUES ({id}, {number}, {number})"),
            _ => format!("DELETE FROM item WHERE id BETWEEN {id} AND {id} + 5"),
        };
        writeln!(program, "do(\"{sql}\")").unwrap();
    }
    program
        .replace("x\\\"", "x\\x27")
        .replace("\\\",", "\\x27,")
}
