//! What a run leaves on the host's disk, which none of its own limits holds: in proportion to what it
//! had in its layer, whatever that was, and nothing when it could not be kept.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::support::{Answer, Place, is_root, program};

/// The limit of the layer that each of these fills.
const LAYER: u64 = 16 << 20;

/// Bytes that a tree takes on the disk.
fn taken(path: &Path) -> u64 {
    let data = fs::symlink_metadata(path).unwrap();
    let own = data.blocks() * 512;
    match data.is_dir() {
        false => own,
        true => {
            let inside = fs::read_dir(path).unwrap();
            own + inside
                .map(|entry| taken(&entry.unwrap().path()))
                .sum::<u64>()
        }
    }
}

/// Runs a Python program in a layer of sixteen mebibytes and answers what the host keeps of it.
fn kept(body: &str) -> (Place, u64) {
    let place = Place::new();
    place.script(&[], "true").ok();
    let before = taken(&place.path("state"));
    let script = format!("exec python3 -c '\nimport os, socket\n{body}'");
    place.script(&["--limit", "disk=16M"], &script).ok();
    let after = taken(&place.path("state"));
    (place, after.saturating_sub(before))
}

/// What, how, and how many times the layer it may be at most. Names, targets and attributes of
/// control characters become six bytes for each of theirs.
const CASES: [(&str, &str, u64); 10] = [
    (
        "a byte in each block",
        "for i in range(3500):\n\
         \x20   f = os.open(\"f%d\" % (i // 250), os.O_CREAT | os.O_RDWR)\n\
         \x20   os.pwrite(f, b\"x\", i % 250 << 16); os.close(f)",
        2,
    ),
    (
        "names of one file",
        "open(\"f\", \"wb\").write(os.urandom(8 << 20))\n\
         for i in range(60): os.link(\"f\", \"f%d\" % i)",
        1,
    ),
    (
        "names of a file that only its owner could read",
        "open(\"f\", \"wb\").write(os.urandom(6 << 20))\n\
         for i in range(60): os.link(\"f\", \"f%d\" % i)\n\
         os.chmod(\"f\", 0)",
        1,
    ),
    (
        "files of a byte",
        "for i in range(3500): open(\"f%d\" % i, \"w\").write(\"x\")",
        1,
    ),
    (
        "a byte at both ends of the longest file, and one that is a hole",
        // An ordinary user's files are held to a size as well, so the longest is looked for.
        "f, g = (os.open(name, os.O_CREAT | os.O_RDWR) for name in \"fg\")\n\
         os.write(f, b\"x\")\n\
         for bit in range(63, 20, -1):\n\
         \x20   try: os.truncate(g, (1 << bit) - 1); os.pwrite(f, b\"x\", (1 << bit) - 4096); break\n\
         \x20   except OSError: pass",
        1,
    ),
    (
        "holes between small files",
        "for i in range(3000):\n\
         \x20   open(\"a%04d\" % i, \"w\").write(\"x\"); open(\"a%04d-\" % i, \"w\").truncate(1 << 20)",
        2,
    ),
    (
        "long names",
        "for i in range(2000): open(\"\\x01\" * 250 + str(i), \"w\")",
        1,
    ),
    (
        "sockets",
        "for i in range(2000): socket.socket(socket.AF_UNIX).bind(\"\\x01\" * 90 + str(i))",
        1,
    ),
    (
        "targets of links",
        "for i in range(2000): os.symlink(\"\\x01\" * 4000, str(i))",
        4,
    ),
    (
        "long paths",
        "for i in range(15): os.mkdir(\"\\x01\" * 250); os.chdir(\"\\x01\" * 250)\n\
         for i in range(500): open(str(i), \"w\")",
        1,
    ),
];

#[test]
fn what_is_kept_is_in_proportion() {
    for (what, body, times) in CASES {
        let (place, bytes) = kept(body);
        println!(
            "{what}: {bytes} bytes, {} % of the layer",
            bytes * 100 / LAYER
        );
        assert!(bytes <= times * LAYER, "{what}: {bytes} bytes");
        place.call(["diff", "--stat", "last"]).ok();
        place.call(["discard", "last"]).ok();
        place.is_clean();
    }
}

/// A change set that does not fit, and room for the next command without anything being cleaned up.
const CROWDED: &str = r#"
    "$0" run --workspace work -- true || exit 98
    "$0" run --json --workspace work -- sh -c 'head -c 20000000 /dev/urandom > big; rm file'
    echo code $?
    find state/runs -name 'files.*'
    "$0" runs --json
    "$0" run --workspace work -- sh -c 'head -c 3000000 /dev/urandom > big'
    echo code $?
    "$0" audit verify
    echo code $?
    ls state/live"#;

#[test]
fn no_room_for_what_was_changed() {
    let place = Place::new();
    place.write("file", "old\n");
    fs::create_dir(place.path("state")).unwrap();
    let mount = "mount -t tmpfs -o size=8m,mode=700 tmpfs state || exit 99; ";
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
    let answer = Answer::from(command.output().unwrap());
    let codes: Vec<&str> = answer
        .out
        .lines()
        .filter(|line| {
            line.starts_with("code ") || line.starts_with("state/") || line.starts_with("run-")
        })
        .collect();
    // Of the second run the change set is there, of the first none.
    assert_eq!(codes, ["code 125", "code 0", "code 0"], "{answer:?}");
    assert!(answer.err.contains("No space left on device"), "{answer:?}");
    assert!(
        answer.out.contains("cannot keep what the run changed"),
        "{answer:?}"
    );
    assert_eq!(place.read("file"), "old\n");
}

/// What a run worked on is not needed for anything once its change set is there.
#[test]
fn the_database_of_a_run_is_not_kept_beside_its_changes() {
    let place = Place::new();
    place.shop(5);
    let before = place.items();
    let change = "python3 -c '
import os, sqlite3
shop = sqlite3.connect(os.environ[\"SHOP_PATH\"])
shop.execute(\"UPDATE item SET stock = -1 WHERE id = 1\")
shop.commit()'";
    let run = place.both(change).ok().run();
    let branch = place.path(&format!("state/runs/{run}/db/shop"));
    assert!(branch.join("base.db").exists());
    assert!(!branch.join("work/work.db").exists());
    let shown = place.call(["diff", &run]).ok();
    assert!(shown.out.contains("-1"), "{shown:?}");
    place.call(["merge", &run]).ok();
    assert!(place.items()[1].contains("Integer(-1)"));
    place.call(["revert", &run]).ok();
    assert_eq!(place.items(), before);
    place.is_clean();
}
