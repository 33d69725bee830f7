//! Attacks on the host's files.

use std::fs;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::support::{jar, outside, processes_with, shared};

const SECRET: &str = "belljar-test-secret";

/// A directory of the host with a secret in it.
fn secret() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap().join("secret");
    fs::write(&path, SECRET).unwrap();
    (folder, path)
}

fn reading(paths: &[String]) -> String {
    format!(
        "for path in {paths:?}:\n    try:\n        text = open(path, 'rb').read(99)\n        \
         print(path, text)\n    except OSError: pass\nprint('end')"
    )
}

#[test]
fn escape_host_files() {
    let (_folder, path) = secret();
    let path = path.display().to_string();
    assert!(outside(&reading(std::slice::from_ref(&path))).contains(SECRET));
    let others = [
        "/etc/shadow",
        "/etc/gshadow",
        "/etc/sudoers",
        "/var/cache/debconf/passwords.dat",
        "/var/log/dpkg.log",
    ];
    let others = others
        .into_iter()
        .chain(["/etc/ssh/sshd_config", "/boot/vmlinuz"]);
    let all: Vec<String> = others.map(str::to_owned).chain([path]).collect();
    jar().python(&reading(&all)).says("end");
    let listing =
        "import os\nprint(os.listdir('/var/lib'), os.listdir('/root' if os.getuid() else '/home'))";
    let outcome = jar().python(listing);
    // Which packages are installed is no secret, and apt inside needs it.
    let wanted = if shared().host.shifts_ids() {
        "['dpkg'] []"
    } else {
        ""
    };
    if wanted.is_empty() {
        // An ordinary user has no way into /root, empty as it is.
        assert!(!outcome.out.contains("secret"), "{outcome:?}");
    } else {
        outcome.says(wanted);
    }
}

#[test]
fn escape_home_secrets() {
    let home = std::env::home_dir().unwrap();
    let planted = tempfile::Builder::new()
        .prefix(".belljar-test-")
        .tempdir_in(&home)
        .unwrap();
    fs::write(planted.path().join("id_ed25519"), SECRET).unwrap();
    let script = format!(
        "cat {}/id_ed25519; find $HOME ~ {} -mindepth 1",
        planted.path().display(),
        home.display()
    );
    let outcome = jar().sh(&script);
    outcome.says("");
    assert!(outcome.err.contains("No such file"), "{outcome:?}");
}

#[test]
fn escape_delete_everything() {
    let (folder, path) = secret();
    let work = tempfile::tempdir().unwrap();
    fs::create_dir_all(work.path().join("a/b")).unwrap();
    fs::write(work.path().join("a/b/c"), "kept").unwrap();
    let script = "rm -rf --no-preserve-root / 2>/dev/null; echo done; [ -e a/b/c ] || echo deleted";
    let outcome = jar()
        .limit(|limits| limits.inodes = 2_000_000)
        .branch(work.path())
        .read(folder.path())
        .sh(script);
    outcome.says("done\ndeleted");
    assert_eq!(
        fs::read_to_string(work.path().join("a/b/c")).unwrap(),
        "kept"
    );
    assert_eq!(fs::read_to_string(path).unwrap(), SECRET);
    assert!(Path::new("/usr/bin/env").exists());
}

#[test]
fn escape_system_write() {
    let name = format!("/usr/local/belljar-test-{}", std::process::id());
    let script = format!(
        "mkdir {name} && echo x > {name}/file && rm /usr/bin/env && cat {name}/file && ls /usr/bin/env"
    );
    let outcome = jar().sh(&script);
    outcome.says("x");
    assert!(!Path::new(&name).exists());
    assert!(Path::new("/usr/bin/env").exists());
    jar()
        .sh(&format!("ls {name} 2>/dev/null; ls /usr/bin/env"))
        .says("/usr/bin/env");
}

#[test]
fn escape_read_only_path() {
    let (folder, path) = secret();
    let place = folder.path().display().to_string();
    let script = format!(
        "for deed in 'touch {place}/new' 'rm {place}/secret' 'mv {place}/secret {place}/x' \
         'chmod 777 {place}/secret' 'ln {place}/secret {place}/y' 'truncate -s 0 {place}/secret' \
         'mkdir {place}/d' 'cp /etc/passwd {place}/secret'; do $deed 2>/dev/null && echo \"OPEN $deed\"; done; \
         cat {place}/secret"
    );
    jar().read(folder.path()).sh(&script).says(SECRET);
    assert_eq!(fs::read_to_string(path).unwrap(), SECRET);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    // The same for what is mounted below: in mounts of our own, where anyone may do so.
    let below = folder.path().join("below");
    fs::create_dir(&below).unwrap();
    let script = "mount -t tmpfs tmpfs \"$1\" && echo kept > \"$1/file\" && exec \"$0\" --exact \
                  escape_files::what_is_mounted_below_is_read_only";
    let output = own_mounts()
        .args(["/bin/sh", "-c", script])
        .arg(std::env::current_exe().unwrap())
        .arg(&below)
        .env(BELOW, &below)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// Names a directory with something mounted on it.
const BELOW: &str = "BELLJAR_TEST_BELOW";

#[test]
fn what_is_mounted_below_is_read_only() {
    // Only a part of the test before; by itself there is nothing mounted.
    let (folder, _path) = secret();
    let below = std::env::var_os(BELOW).map_or(folder.path().join("none"), PathBuf::from);
    let script = format!(
        "attempt('write', lambda: open('{0}/file', 'w'))\n\
         attempt('make', lambda: os.mkdir('{0}/new'))\n\
         print(os.path.exists('{0}/file'))",
        below.display()
    );
    let outcome = jar().read(below.parent().unwrap()).python(&script);
    if std::env::var_os(BELOW).is_some() {
        outcome.says("write EROFS\nmake EROFS\nTrue");
    } else {
        outcome.says("write ENOENT\nmake ENOENT\nFalse");
    }
}

#[test]
fn escape_groups() {
    // A caller who is in the group of the disks, say.
    if !shared().host.shifts_ids() {
        println!("an ordinary user can neither take groups nor drop them; they are its own");
        return;
    }
    let output = Command::new("setpriv")
        .args(["--groups", "6"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "escape_files::groups_of_the_caller_are_gone"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn groups_of_the_caller_are_gone() {
    let outcome = jar().python("print(os.getgroups())");
    if shared().host.shifts_ids() {
        outcome.says("[]");
    } else {
        assert!(outcome.out.starts_with('['), "{outcome:?}");
    }
}

/// A program with mounts of its own, all of them shared, as systemd makes them. Root needs no user
/// namespace for that, and inside one could not map the ids of a sandbox.
fn own_mounts() -> Command {
    let mut unshare = Command::new("unshare");
    if !shared().host.shifts_ids() {
        unshare.args(["--user", "--map-current-user", "--keep-caps"]);
    }
    unshare.args(["--mount", "--propagation", "shared"]);
    unshare
}

#[test]
fn escape_remount() {
    let (folder, _path) = secret();
    let place = folder.path().display();
    let script = format!(
        "place = b'{place}'\n\
         call('remount', 165, None, place, None, 32 | 4096, None)\n\
         call('setattr', 442, -100, place, 0, (ctypes.c_uint64 * 4)(0, 1, 0, 0), 32)\n\
         call('tmpfs', 165, b'x', place, b'tmpfs', 0, None)\n\
         call('bind', 165, b'/', place, None, 4096, None)\n\
         call('fsopen', 430, b'tmpfs', 0)\n\
         call('open_tree', 428, -100, place, 1)\n\
         call('move_mount', 429, -100, place, -100, b'/tmp', 0)\n\
         attempt('write', lambda: open(place + b'/new', 'w'))"
    );
    jar().read(folder.path()).python(&script).says(
        "remount EPERM\nsetattr EPERM\ntmpfs EPERM\nbind EPERM\nfsopen EPERM\nopen_tree EPERM\n\
         move_mount EPERM\nwrite EROFS",
    );
}

#[test]
fn escape_unmount() {
    let script = "for at in (b'/proc/sys', b'/proc/keys', b'/proc', b'/dev', b'/usr', b'/'):\n    \
                  call(at.decode(), 166, at, 2)";
    jar()
        .python(script)
        .says("/proc/sys EPERM\n/proc/keys EPERM\n/proc EPERM\n/dev EPERM\n/usr EPERM\n/ EPERM");
}

#[test]
fn escape_mount_propagation() {
    let mounts = || {
        fs::read_to_string("/proc/self/mountinfo")
            .unwrap()
            .replace("\\", "")
    };
    let before = mounts();
    let (folder, _path) = secret();
    let jar = jar().branch(folder.path());
    let _alive = jar.start().unwrap();
    let between = mounts();
    let news: Vec<_> = between
        .lines()
        .filter(|line| !before.contains(*line))
        .collect();
    let place = folder.path().display().to_string();
    assert!(
        !news
            .iter()
            .any(|line| line.contains(&place) || line.contains("scratch")),
        "{news:?}"
    );
    // The same where the host's mounts are shared.
    let output = own_mounts()
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "escape_files::no_mount_passes_anything_on"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn no_mount_passes_anything_on() {
    let (folder, _path) = secret();
    let outcome = jar()
        .read(folder.path())
        .sh("grep -cE ' (shared|master|propagate_from):' /proc/self/mountinfo");
    outcome.says("0");
}

#[test]
fn escape_chroot() {
    let (_folder, path) = secret();
    let path = path.display();
    let script = format!(
        "call('chroot', 161, b'/tmp')\n\
         call('pivot_root', 155, b'/tmp', b'/tmp')\n\
         os.chdir('/')\n\
         for _ in range(50): os.chdir('..')\n\
         attempt('relative', lambda: open('.{path}'))\n\
         attempt('above', lambda: open('/../../..{path}'))\n\
         root = os.open('/', os.O_PATH)\n\
         attempt('at', lambda: os.open('../..{path}', 0, dir_fd=root))\n\
         for entry in os.listdir('/proc/self/fd'):\n    \
             attempt('fd', lambda: os.open('../../../..{path}', 0, dir_fd=int(entry)))"
    );
    let outcome = jar().python(&script);
    assert!(
        outcome.out.starts_with(
            "chroot EPERM\npivot_root EPERM\nrelative ENOENT\nabove ENOENT\nat ENOENT\n"
        ),
        "{outcome:?}"
    );
    assert!(!outcome.out.contains("OPEN"), "{outcome:?}");
    no_root_below();
}

/// The host's root was let go, not only left: who enters the sandbox's mounts from outside, which
/// begins at the lowest of them, does not find it either.
fn no_root_below() {
    // Of the host's root; its `/tmp` is covered in the sandbox's mounts, whichever is below.
    const HOST: &str = "/sys/kernel";
    assert!(Path::new(HOST).exists());
    let mark = format!("belljar-root-{}", std::process::id());
    let jar = jar();
    let mut sandbox = jar.start().unwrap();
    let script = format!("sleep 60; : {mark}");
    sandbox
        .execute(&jar.command(&["/bin/sh", "-c", &script]))
        .unwrap();
    let seen = |_attempt: i32| {
        std::thread::sleep(Duration::from_millis(10));
        processes_with(&mark).pop()
    };
    let process = (0..1000).find_map(seen).unwrap();
    let mut enter = Command::new("nsenter");
    enter.args(["--target", &process, "--user", "--mount"]);
    enter.args(["--preserve-credentials", "/bin/ls", "-d", HOST]);
    let output = enter.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("ls: cannot access"), "{output:?}");
    sandbox.end().unwrap();
}

#[test]
fn escape_proc_root() {
    let (_folder, path) = secret();
    let path = path.display();
    let script = format!(
        "import glob\n\
         at = glob.glob('/proc/*/root') + glob.glob('/proc/*/cwd') + glob.glob('/proc/*/task/*/root') + glob.glob('/proc/*/fd/*')\n\
         print(len(at) > 3)\n\
         for place in at + ['/proc/self/root', '/proc/1/root', '/proc/1/cwd', '/proc/self/cwd/..', '/proc/1/map_files']:\n    \
             try: print(place, open(place + '{path}').read())\n    \
             except OSError: pass\n    \
             try: print(place, open(place + '/../../../../..{path}').read())\n    \
             except OSError: pass\n"
    );
    assert!(outside(&script).contains(SECRET));
    jar().python(&script).says("True");
}

#[test]
fn escape_inherited_descriptor() {
    let (_folder, path) = secret();
    let flags = rustix::fs::OFlags::RDONLY;
    let open = rustix::fs::open(&path, flags, rustix::fs::Mode::empty()).unwrap();
    let held = Command::new("/bin/ls")
        .args(["-l", "/proc/self/fd"])
        .output()
        .unwrap();
    assert!(
        String::from_utf8(held.stdout).unwrap().contains("secret"),
        "{}",
        open.as_raw_fd()
    );
    let outcome = jar().sh("ls /proc/self/fd; for n in $(seq 3 1100); do (eval \"cat <&$n\") 2>/dev/null; done; cat /proc/1/fd/*; true");
    // The fourth is the directory that `ls` reads.
    outcome.says("0\n1\n2\n3");
    assert!(outcome.err.contains("Permission denied"), "{outcome:?}");
}

#[test]
fn escape_file_handle() {
    let script = "handle = ctypes.create_string_buffer(136)\n\
                  handle[0:4] = (128).to_bytes(4, 'little')\n\
                  mount = ctypes.c_int()\n\
                  call('name', 303, -100, b'/', handle, ctypes.byref(mount), 0)\n\
                  call('open', 304, -100, handle, 0)";
    jar().python(script).says("name EPERM\nopen EPERM");
}

#[test]
fn escape_hard_link() {
    let (folder, path) = secret();
    let outside = tempfile::tempdir().unwrap();
    let second = outside.path().join("second");
    fs::hard_link(&path, &second).unwrap();
    let script = "echo changed > secret; cat secret; ln /usr/bin/env here 2>/dev/null && echo OPEN; ln /etc/passwd here 2>/dev/null && echo OPEN; true";
    jar().branch(folder.path()).sh(script).says("changed");
    assert_eq!(fs::read_to_string(second).unwrap(), SECRET);
    assert_eq!(fs::read_to_string(path).unwrap(), SECRET);
}

#[test]
fn escape_symbolic_link() {
    let (outside, path) = secret();
    let work = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(&path, work.path().join("file")).unwrap();
    std::os::unix::fs::symlink(outside.path(), work.path().join("folder")).unwrap();
    let script = "cat file folder/secret; echo x > file; echo x > folder/new; \
                  for i in 1 2 3 4 5 6 7 8 9; do ln -sfn / race; cat race/$PWD/../$(basename $OLDPWD)/x; rm race; mkdir race; rmdir race; done 2>/dev/null";
    jar().branch(work.path()).sh(script).says("");
    assert_eq!(fs::read_to_string(path).unwrap(), SECRET);
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
}

#[test]
fn escape_landlock() {
    // The user inside owns `/` and `/boot`, and no mount forbids writing there; `/proc/self/comm`
    // is writable by every process. Landlock alone says no.
    let script = "attempt('root', lambda: os.mkdir('/new'))\n\
                  attempt('boot', lambda: open('/boot/new', 'w'))\n\
                  attempt('comm', lambda: open('/proc/self/comm', 'w'))\n\
                  attempt('dev', lambda: open('/dev/new', 'w'))\n\
                  print(os.stat('/').st_uid == os.getuid(), os.access('/boot', os.W_OK))";
    jar()
        .python(script)
        .says("root EACCES\nboot EACCES\ncomm EACCES\ndev EACCES\nTrue True");
}

#[test]
fn escape_state_directory() {
    let shared = shared();
    let place = shared.folder.display();
    let script = format!(
        "attempt('list', lambda: os.listdir('{place}'))\nattempt('up', lambda: os.listdir('/proc/1/root{place}'))"
    );
    assert!(outside(&script).starts_with("list OPEN"));
    jar().python(&script).says("list ENOENT\nup EACCES");
}

#[test]
fn escape_overlay_marks() {
    let work = tempfile::tempdir().unwrap();
    fs::create_dir(work.path().join("folder")).unwrap();
    fs::write(work.path().join("folder/file"), "x").unwrap();
    let script = "def mark(name):\n    \
                      return lambda: os.setxattr('folder', name, b'y')\n\
                  attempt('device', lambda: os.mknod('gone', 0o020600, 0))\n\
                  attempt('trusted', mark('trusted.overlay.opaque'))\n\
                  attempt('security', lambda: os.setxattr('folder/file', 'security.capability', bytes([0, 0, 0, 2]) + bytes(16)))\n\
                  attempt('mark', mark('user.overlay.opaque'))\n\
                  print(os.listdir('folder'))";
    let outcome = jar().branch(work.path()).python(script);
    // A mark of the same name is kept apart from the overlay's own, or refused.
    let lines: Vec<_> = outcome.out.lines().collect();
    assert_eq!(
        lines[..3],
        ["device EACCES", "trusted EPERM", "security EPERM"],
        "{outcome:?}"
    );
    assert_eq!(lines.last(), Some(&"['file']"), "{outcome:?}");
}

#[test]
fn escape_database_original() {
    // A branch of a database is a copy in a directory of its own; the original is not in the tree.
    let (_folder, original) = secret();
    let branch = tempfile::tempdir().unwrap();
    let work = branch.path().join("work.db");
    let script = format!(
        "attempt('branch', lambda: open('/srv/db/work.db', 'r+b').write(b'changed'))\n\
         attempt('original', lambda: open('{}', 'r+b'))\n\
         attempt('above', lambda: open('/srv/db/../../..{}', 'r+b'))",
        original.display(),
        original.display()
    );
    for in_place in [true, false] {
        fs::copy(&original, &work).unwrap();
        let outcome = jar().write(&work, "/srv/db", in_place).python(&script);
        outcome.says("branch OPEN\noriginal ENOENT\nabove ENOENT");
        assert_eq!(fs::read_to_string(&original).unwrap(), SECRET);
        let written = fs::read_to_string(&work).unwrap().starts_with("changed");
        assert_eq!(written, in_place);
    }
}

#[test]
fn escape_database_attach() {
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("other.db");
    let make = format!(
        "import sqlite3\nsqlite3.connect('{}').execute('create table t (a)')",
        other.display()
    );
    outside(&make);
    let script = format!(
        "import sqlite3\n\
         try:\n    \
             found = sqlite3.connect('/tmp/own.db').execute(\"attach '{}' as other\").connection.execute('select count(*) from other.sqlite_master').fetchone()\n    \
             print(found)\n\
         except sqlite3.OperationalError as error: print(str(error).split(':')[0])",
        other.display()
    );
    assert_eq!(
        outside(&script.replace("/tmp/own.db", ":memory:")),
        "(1,)\n"
    );
    jar().python(&script).says("unable to open database");
}

#[test]
fn escape_self_disable() {
    let program = std::env::current_exe().unwrap();
    let script = format!(
        "attempt('program', lambda: open('{}'))\n\
         attempt('guest', lambda: open('/proc/1/exe', 'rb'))\n\
         attempt('guest write', lambda: open('/proc/1/exe', 'wb'))\n\
         attempt('groups', lambda: os.listdir('/sys/fs/cgroup'))\n\
         call('seccomp off', 157, 22, 0, 0, 0, 0)\n\
         call('new privileges', 157, 38, 0, 0, 0, 0)\n\
         import re\n\
         print(re.findall('Seccomp:.(.)', open('/proc/self/status').read()))",
        program.display()
    );
    jar().python(&script).says(
        "program ENOENT\nguest EACCES\nguest write EACCES\ngroups ENOENT\nseccomp off EINVAL\n\
         new privileges EINVAL\n['2']",
    );
}
