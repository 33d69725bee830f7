//! A database inside a run: programs that use it as they always do, and programs that mean to fill
//! the disk with it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use crate::support::{Answer, Place, is_root};

impl Place {
    /// Runs a Python script with the database `shop`.
    fn python(&self, script: &str) -> Answer {
        let script = format!("import os, sqlite3\npath = os.environ['SHOP_PATH']\n{script}");
        fs::write(self.work().join("script.py"), script).unwrap();
        self.both("exec python3 script.py")
    }

    fn shown(&self) -> String {
        self.call(["diff", "last"]).ok().out
    }
}

/// Ends as a crash would, with whatever is in the journal or the log.
const LEFT: &str = "os._exit(0)";

#[test]
fn what_is_in_a_log_that_was_left_behind_is_merged() {
    let place = Place::new();
    place.shop(5);
    let script = "shop = sqlite3.connect(path)\n\
        shop.execute('PRAGMA journal_mode = wal')\n\
        shop.execute('UPDATE item SET stock = -1 WHERE id = 1'); shop.commit()\n\
        shop.execute('UPDATE item SET stock = -2 WHERE id = 2')\n";
    place.python(&format!("{script}{LEFT}")).ok();
    assert!(
        place.shown().contains("item: +0 ~1 -0"),
        "{}",
        place.shown()
    );
    place.call(["merge", "last"]).ok();
    assert!(
        place.items()[1].contains("Integer(-1)"),
        "{:?}",
        place.items()
    );
    place.is_clean();
}

#[test]
fn what_is_in_a_journal_that_was_left_behind_is_rolled_back() {
    let place = Place::new();
    place.shop(5000);
    let script = "shop = sqlite3.connect(path)\n\
        shop.execute('UPDATE item SET stock = -1 WHERE id = 1'); shop.commit()\n\
        shop.execute('PRAGMA cache_size = 1')\n\
        shop.execute('UPDATE item SET stock = -2')\n\
        assert os.path.getsize(os.path.realpath(path) + '-journal') > 4096\n";
    place.python(&format!("{script}{LEFT}")).ok();
    assert!(
        place.shown().contains("item: +0 ~1 -0"),
        "{}",
        place.shown()
    );
}

#[test]
fn a_log_of_the_source_is_in_the_branch() {
    let place = Place::new();
    place.shop(5);
    let shop = place.database();
    shop.execute_batch(
        "PRAGMA journal_mode = wal; PRAGMA wal_autocheckpoint = 0; UPDATE item SET stock = 7",
    )
    .unwrap();
    let script = "shop = sqlite3.connect(path)\n\
        assert shop.execute('SELECT sum(stock) FROM item').fetchone() == (35,)\n\
        shop.execute('INSERT INTO item VALUES (6, \"new\", 6)'); shop.commit()\n";
    place.python(&format!("{script}{LEFT}")).ok();
    assert!(
        place.shown().contains("item: +1 ~0 -0"),
        "{}",
        place.shown()
    );
    place.call(["merge", "last"]).ok();
    let sum: i64 = shop
        .query_row("SELECT sum(stock) FROM item", [], |row| row.get(0))
        .unwrap();
    assert_eq!(sum, 41);
}

/// Programs that reset a database remove or replace its file.
#[test]
fn a_database_that_is_removed_or_replaced() {
    let place = Place::new();
    place.shop(5);
    let fresh = "CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT, stock INTEGER); \
                 INSERT INTO item VALUES (1, 'item 1', 10)";
    for script in [
        format!("rm \"$SHOP_PATH\" && sqlite3 \"$SHOP_PATH\" \"{fresh}\""),
        format!("sqlite3 new.db \"{fresh}\" && mv -f new.db \"$SHOP_PATH\""),
        format!("sqlite3 /tmp/new.db \"PRAGMA journal_mode = wal; {fresh}\" && cp /tmp/new.db \"$SHOP_PATH\""),
        "sqlite3 \"$SHOP_PATH\" 'DELETE FROM item WHERE id > 1' && cd $(dirname $SHOP_PATH) && mv work.db old && cp old work.db".into(),
    ] {
        place.both(&script).ok();
        assert!(place.shown().contains("item: +0 ~0 -4"), "{script}: {}", place.shown());
    }
    place.both("rm -rf \"$(dirname $SHOP_PATH)\"/*; true").ok();
    assert!(
        place.shown().contains("the file is gone"),
        "{}",
        place.shown()
    );
    let link = "ln -sf /etc/passwd \"$SHOP_PATH\"; cd $(dirname $SHOP_PATH)/in-place 2>/dev/null; ln -sf /etc/passwd work.db-wal; true";
    place.both(link).ok();
    assert!(
        place.shown().contains("replaced by a symbolic link"),
        "{}",
        place.shown()
    );
    assert_eq!(place.items().len(), 6);
}

#[test]
fn a_database_is_vacuumed_and_temporary_files_are_big() {
    let place = Place::new();
    place.shop(5);
    let script = "shop = sqlite3.connect(path)\n\
        shop.execute('PRAGMA temp_store = file')\n\
        shop.execute('PRAGMA cache_size = 10')\n\
        shop.execute('CREATE TABLE big AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30000) SELECT i, randomblob(300) AS b FROM n')\n\
        shop.execute('CREATE INDEX by ON big(b)')\n\
        print(len(shop.execute('SELECT b FROM big ORDER BY b || i DESC').fetchall()))\n\
        shop.execute('DELETE FROM big WHERE i > 10'); shop.commit()\n\
        shop.execute('VACUUM'); shop.commit()\n\
        shop.execute('PRAGMA journal_mode = wal'); shop.execute('VACUUM')\n\
        shop.execute('PRAGMA wal_checkpoint(truncate)')\n\
        print(shop.execute('PRAGMA integrity_check').fetchone())";
    let answer = place.python(script).ok();
    assert!(answer.out.starts_with("30000\n('ok',)\n"), "{answer:?}");
    assert!(
        place.shown().contains("big: +10 ~0 -0"),
        "{}",
        place.shown()
    );
    place.call(["merge", "last"]).ok();
    assert_eq!(
        place
            .items()
            .iter()
            .filter(|row| row.starts_with("big"))
            .count(),
        10
    );
}

/// Fills what can be filled; says how each attempt ended.
const FILL: &str = r"
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
file, block = os.open(path, os.O_RDWR), os.urandom(1 << 20)
beside = os.path.dirname(os.path.realpath(path))
def attempt(name, deed):
    try: deed(); print(name, 'done')
    except OSError as error: print(name, error.strerror)
def pin():
    for n in range(100): os.pwrite(file, block[n * 4096:], n * 4096); os.fsync(file)
def append():
    os.lseek(file, 0, 2)
    while True: os.write(file, block)
def attributes():
    for n in range(20000): os.setxattr(path, 'user.%d' % n, b'x' * 3000)
def unseen():
    with open(beside + '/unseen', 'wb', 0) as unseen:
        os.unlink(beside + '/unseen')
        while True: unseen.write(block)
def many():
    for n in range(20000): os.mknod('%s/%d' % (beside, n), 0o100600)
for deed in (pin, append, attributes, unseen, many): attempt(deed.__name__, deed)
";

/// Bytes of everything below a directory, as the disk counts them.
fn taken(folder: &Path) -> u64 {
    let mut sum = 0;
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let data = entry.metadata().unwrap();
        sum += data.blocks() * 512;
        if data.is_dir() {
            sum += taken(&entry.path());
        }
    }
    sum
}

fn fill(place: &Place) -> Answer {
    let limits = "disk=16M,inodes=2000,memory=512M,time=60s";
    fs::write(
        place.work().join("script.py"),
        format!("import os\npath = os.environ['SHOP_PATH']\n{FILL}"),
    )
    .unwrap();
    let database = format!("shop={}", place.path("shop.db").display());
    let options = ["--limit", limits, "--db", &database];
    let answer = place.script(&options, "exec python3 script.py").ok();
    let hits = answer.json()["limits_hit"].to_string();
    assert!(
        hits.contains("disk") && hits.contains("inodes"),
        "{answer:?}"
    );
    answer
}

#[test]
fn a_database_does_not_fill_the_disk() {
    let place = Place::new();
    place.shop(5);
    place.both("true").ok();
    let before = taken(&place.path("state"));
    let answer = fill(&place);
    // The file itself on ext4 and XFS, in memory elsewhere.
    let grown = answer.out.contains("append File too large");
    assert!(
        grown || answer.out.contains("append No space left"),
        "{answer:?}"
    );
    assert!(answer.out.contains("unseen No space left"), "{answer:?}");
    assert!(answer.out.contains("many No space left"), "{answer:?}");
    // Once the file, grown by 16 MiB and the slack of one; and what the ledger and records take.
    let after = taken(&place.path("state"));
    assert!(after < before + (18 << 20), "{before} {after}");
    place.call(["discard", "last"]).ok();
    assert!(taken(&place.path("state")) < before + (1 << 20));
}

/// A file system in a file, for as long as this lives.
struct Mounted(tempfile::TempDir);

impl Mounted {
    /// None where there are no loop devices.
    fn new(image: &Path) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-o", "loop"]).arg(image).arg(folder.path());
        mount.status().unwrap().success().then(|| Self(folder))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let gone = Command::new("umount").arg(self.0.path()).status();
        assert!(gone.unwrap().success(), "{:?} is still mounted", self.0);
    }
}

/// The same on file systems of their own: what is taken is what the file system says is gone.
#[test]
fn a_database_does_not_fill_other_file_systems() {
    if !is_root() {
        println!("an ordinary user mounts no file system: XFS and btrfs are NOT tested here");
        return;
    }
    for kind in ["xfs", "btrfs"] {
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(400 << 20).unwrap();
        let make = Command::new(format!("/usr/sbin/mkfs.{kind}"))
            .arg("-q")
            .arg(image.path())
            .status();
        assert!(make.unwrap().success());
        let Some(mounted) = Mounted::new(image.path()) else {
            println!("no loop device here: {kind} is NOT tested");
            continue;
        };
        let place = Place::on(mounted.0.path());
        let free = || {
            Command::new("sync")
                .arg("-f")
                .arg(mounted.0.path())
                .status()
                .unwrap();
            let room = rustix::fs::statvfs(mounted.0.path()).unwrap();
            room.f_bfree * room.f_frsize
        };
        place.shop(5);
        place.both("true").ok();
        let before = free();
        let answer = fill(&place);
        let after = free();
        // XFS may hold as much again in reserve for a file that grew.
        assert!(
            after + (40 << 20) > before,
            "{kind}: {before} {after} {answer:?}"
        );
        let wanted = if kind == "xfs" {
            "append File too large"
        } else {
            "append No space left"
        };
        assert!(answer.out.contains(wanted), "{kind}: {answer:?}");
        let script = "shop = sqlite3.connect(path)\n\
            shop.execute('PRAGMA journal_mode = wal')\n\
            shop.execute('UPDATE item SET stock = -1 WHERE id = 1'); shop.commit()\n";
        place.python(&format!("{script}{LEFT}")).ok();
        place.call(["merge", "last"]).ok();
        assert!(place.items()[1].contains("Integer(-1)"), "{kind}");
    }
}
